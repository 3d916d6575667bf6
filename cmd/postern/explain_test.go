package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// explainPolicy has a listener for each side, an upstream for each way to know
// recipients, and rules of which each does one thing; MORE goes to the listener,
// MIXED is mixed_reject.
const explainPolicy = `version = 1
[site]
hostname = "gw.example.org"
domains  = ["example.org", "list.example", "ask.example"]
admin    = "admin@example.org"
[[listener]]
name    = "in"
address = "127.0.0.1:25"
tls     = "off"
limits  = { message = "4KB" }
MORE
[[listener]]
name    = "out"
address = "127.0.0.1:26"
tls     = "off"
role    = "outbound"
allow   = ["192.0.2.1"]
[[upstream]]
name = "mail"
to   = ["10.0.5.10:25"]
for  = ["example.org"]
[[upstream]]
name = "list"
to   = ["10.0.5.10:25"]
for  = ["list.example"]
recipients = { check = "file", file = "people" }
[[upstream]]
name = "ask"
to   = ["10.0.5.10:25"]
for  = ["ask.example"]
recipients = { check = "rcpt" }
[queue]
mixed_reject = "MIXED"
[[rule]]
name   = "blocked"
match  = { reverse_path = "@bad.example", to = "@example.org" }
action = "reject"
notify = ["admin"]
[[rule]]
name    = "archive"
match   = { subject = "invoice" }
action  = "journal"
copy_to = "archive@example.org"
[[rule]]
name   = "programs"
match  = { attachment = "executable" }
action = "strip"
direction = "outbound"
notify = ["admin", "admin@example.org", "sender"]
[[rule]]
name   = "held"
match  = { to = "held@example.org" }
action = "quarantine"
[[rule]]
name   = "no"
match  = { to = "no@example.org" }
action = "reject"
except = { subject = "nothing is certain at RCPT" }
[[rule]]
name   = "later"
match  = { to = "later@example.org" }
action = "defer"
except = { subject = "nothing is certain at RCPT" }
`

// summary is an explanation in a few words a line.
func (x *explained) summary() string {
	var b strings.Builder
	for _, d := range x.Decisions {
		fmt.Fprintf(&b, "%s %s %s %.9s\n", d.To, d.Disposition, d.Rule, d.Reply)
		if d.Callout != "" {
			fmt.Fprintf(&b, "asks %s\n", d.Callout)
		}
	}
	for _, c := range x.Copies {
		if c.Disposition != "relay" && c.Disposition != "reject" || c.Original {
			fmt.Fprintf(&b, "copy %s %s %s original=%v %s\n", strings.Join(c.To, " "), c.Disposition, c.Queue, c.Original, c.Error)
		}
	}
	for _, n := range x.Notify {
		fmt.Fprintf(&b, "tells %s by %s\n", n.To, n.Rule)
	}
	return b.String()
}

// TestExplainLaws: what live mail hears before and after the rules stands in the
// explanation.
func TestExplainLaws(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("people", "ann@list.example\n")
	zone := write("zone.json", "{}")
	const plain = "From: x@else.example\nSubject: hello\n\ntext\n"
	const program = "From: x@example.org\nSubject: invoice\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n--b\n" +
		"Content-Type: application/octet-stream; name=a.exe\nContent-Transfer-Encoding: base64\n\nTVqQAAMAAAAEAAAA//8AALgAAAAAAAAAQAAAAAAAAAAA\n--b--\n"
	crlf := strings.ReplaceAll(plain, "\n", "\r\n")
	for _, c := range []struct {
		name, message string
		e             explainCmd
		more, mixed   string
		want          string
	}{
		{name: "taken", message: plain, e: explainCmd{To: []string{"bob@example.org", "ann@list.example", "postmaster@list.example"}},
			want: "bob@example.org relay default \nann@list.example relay default \npostmaster@list.example relay default \n"},
		{name: "foreign recipient", message: plain, e: explainCmd{To: []string{"x@else.example", "bob@example.org"}},
			want: "x@else.example reject no-relaying 550 5.7.1\nbob@example.org relay default \n"},
		{name: "routed", message: plain, e: explainCmd{To: []string{"x%else@example.org"}}, want: "x%else@example.org reject routed-address 550 5.7.1\n"},
		{name: "unknown", message: plain, e: explainCmd{To: []string{"no@list.example"}}, want: "no@list.example reject unknown-recipient 550 5.1.1\n"},
		{name: "no route out", message: plain, e: explainCmd{From: "a@example.org", Outbound: true, To: []string{"x@else.example"}}, want: "x@else.example reject no-route 550 5.7.1\n"},
		{name: "callout", message: plain, e: explainCmd{To: []string{"x@ask.example"}}, want: "x@ask.example relay default \nasks ask\n"},
		{name: "foreign sender", message: plain, e: explainCmd{Outbound: true, To: []string{"a@example.org", "b@example.org"}},
			want: "a@example.org reject foreign-sender 550 5.7.1\nb@example.org reject foreign-sender 550 5.7.1\n"},
		{name: "foreign sender by the listener's role", message: plain, e: explainCmd{Listener: "out", To: []string{"a@example.org"}}, want: "a@example.org reject foreign-sender 550 5.7.1\n"},
		{name: "foreign author", message: plain, e: explainCmd{Outbound: true, From: "<>", To: []string{"a@example.org"}}, want: "a@example.org reject foreign-author 550 5.7.1\n"},
		{name: "too big", message: plain + strings.Repeat("0123456789\n", 400), want: "postmaster@example.org reject message-size 552 5.3.4\n"},
		{name: "not too big elsewhere", message: "From: x@example.org\n\n" + strings.Repeat("0123456789\n", 400), e: explainCmd{Outbound: true}, want: "postmaster@example.org relay default \n"},
		{name: "bare LF", message: crlf + "x\n", want: "postmaster@example.org reject bare-newline 550 5.6.0\n"},
		{name: "bare CR", message: plain + "x\ry\n", want: "postmaster@example.org reject bare-newline 550 5.6.0\n"},
		{name: "bare LF made good", message: crlf + "x\n", more: `bare_newline = "normalise"`, want: "postmaster@example.org relay default \n"},
		{name: "NUL", message: crlf + "\x00\r\n", more: `bare_newline = "normalise"`, want: "postmaster@example.org reject nul 550 5.6.0\n"},
		{name: "refused at RCPT before the content", message: plain + "x\ry\n", e: explainCmd{To: []string{"x@else.example", "bob@example.org"}},
			want: "x@else.example reject no-relaying 550 5.7.1\nbob@example.org reject bare-newline 550 5.6.0\n"},
		{name: "a rule that is certain at RCPT", message: plain, e: explainCmd{From: "x@bad.example", To: []string{"bob@example.org", "ann@list.example"}},
			want: "bob@example.org reject blocked 550 5.7.1\nann@list.example relay default \ntells admin@example.org by blocked\n"},
		{name: "journal, original, notices", message: program, e: explainCmd{Outbound: true, To: []string{"bob@example.org", "held@example.org"}},
			want: "bob@example.org relay default \nheld@example.org quarantine held \n" +
				"copy held@example.org quarantine policy original=false \ncopy bob@example.org quarantine policy original=true \ncopy archive@example.org journal  original=false \n" +
				"tells admin@example.org by programs\ntells x@example.org by programs\n"},
		{name: "put off for all", message: program, e: explainCmd{To: []string{"bob@example.org", "later@example.org"}},
			want: "bob@example.org relay default \nlater@example.org defer later 451 4.7.1\ncopy bob@example.org defer  original=false \ncopy later@example.org defer  original=false \n"},
		{name: "mixed", message: plain, e: explainCmd{To: []string{"bob@example.org", "no@example.org"}},
			want: "bob@example.org relay default \nno@example.org reject no 550 5.7.1\ncopy no@example.org quarantine policy original=false \n"},
		{name: "mixed, put off", message: plain, mixed: "defer", e: explainCmd{To: []string{"bob@example.org", "no@example.org"}},
			want: "bob@example.org relay default \nno@example.org reject no 550 5.7.1\ncopy bob@example.org defer  original=false \ncopy no@example.org defer  original=false \n"},
		{name: "mixed, LMTP", message: plain, more: `protocol = "lmtp"`, e: explainCmd{To: []string{"bob@example.org", "no@example.org"}},
			want: "bob@example.org relay default \nno@example.org reject no 550 5.7.1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.mixed == "" {
				c.mixed = "quarantine"
			}
			policy := write("policy.toml", strings.NewReplacer("MORE", c.more, "MIXED", c.mixed).Replace(explainPolicy))
			var out bytes.Buffer
			g := &globals{Config: policy, State: filepath.Join(dir, "state"), out: &out, err: &out, in: strings.NewReader(c.message)}
			e := c.e
			e.Client, e.Helo, e.DNS, e.JSON = "192.0.2.1", "client.example", zone, true
			if err := e.Run(g); err != nil {
				t.Fatal(err)
			}
			var x explained
			if err := json.Unmarshal(out.Bytes(), &x); err != nil {
				t.Fatalf("%v: %s", err, &out)
			}
			if got := x.summary(); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

// TestExplainGoesOn: a file that cannot be read does not end the run, and its
// exit code tells; a full disk does.
func TestExplainGoesOn(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"policy.toml": strings.NewReplacer("MORE", "", "MIXED", "quarantine").Replace(explainPolicy), "people": "ann@list.example\n", "zone.json": "{}",
		"odd.mbox": "From x\nFrom: a@u.example*\n\none\n\nFrom x\nFrom: <a b@u.example>\n\ntwo\n\nFrom x\nFrom: a@[1.2.3\n\nthree\n\nFrom x\nFrom: a@u.example\n\nfour\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := explainCmd{Files: []string{filepath.Join(dir, "none"), filepath.Join(dir, "odd.mbox")}, Client: "192.0.2.1", Helo: "h", DNS: filepath.Join(dir, "zone.json"), JSON: true}
	var out, errOut bytes.Buffer
	g := &globals{Config: filepath.Join(dir, "policy.toml"), State: filepath.Join(dir, "state"), out: &out, err: &errOut}
	err := e.Run(g)
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != exitFailed || !strings.Contains(errOut.String(), "read message: ") {
		t.Errorf("error %v, told %q", err, &errOut)
	}
	d := json.NewDecoder(&out)
	for i, from := range []string{"", "", "", "a@u.example"} {
		var x explained
		if err := d.Decode(&x); err != nil {
			t.Fatal(err)
		}
		if x.From != from || (x.FromNote == "the author is not a mail address") != (from == "") {
			t.Errorf("message %d: from %q, note %q", i+1, x.From, x.FromNote)
		}
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	g.out = full
	if err := e.Run(g); err == nil || errors.As(err, &exit) {
		t.Errorf("error %v", err)
	}
}
