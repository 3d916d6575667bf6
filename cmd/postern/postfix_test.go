package main

import (
	"os/exec"
	"strings"
	"testing"
)

// stranger is the client that speaks to the mail server in front: whatever
// stands behind it must still be told of this address.
const stranger = "127.0.0.7"

const postfixTestPolicy = `version = 1

[site]
hostname = "gw.example.org"
domains  = ["example.org"]

[dns]
servers = ["127.0.0.1:9"]
timeout = "1s"

[queue]
retry = ["1s"]

[[rule]]
name    = "stranger"
match   = { client = "127.0.0.7/32" }
action  = "tag"
headers = { "X-Seen" = "the stranger" }

[[rule]]
name   = "virus"
match  = { virus = true }
action = "ACTION"
`

// eicar is the antivirus test string, written so that no scanner finds it in
// this file.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// configure runs what `postern setup postfix` prints for this Postfix, as an
// administrator would, and returns the policy that its comment asks for.
func (p *postfix) configure(t *testing.T, mode, filter, back string) (policy string) {
	t.Helper()
	text := setup(t, "postfix", mode, "--service", p.addr()+"/inet", "--filter", filter, "--return", back, "--config-dir", p.dir)
	out, err := exec.Command("sh", "-e", "-c", text).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, text)
	}
	command(t, "postfix", "-c", p.dir, "check")
	waitFor(t, "the service that takes mail back", func() bool { return greets(back) })
	for _, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(l, "#   ") {
			policy += strings.TrimPrefix(l, "#   ") + "\n"
		}
	}
	return policy
}

func TestPostfixBeforeQueue(t *testing.T) {
	needRoot(t, "postfix", "postconf", "swaks")
	last := startSink(t)
	front := startPostfix(t, last)
	filter, back := loopback(unusedPort(t)), loopback(unusedPort(t))
	policy := front.configure(t, "--before-queue", filter, back)
	startPostern(t, strings.Replace(postfixTestPolicy, "ACTION", "reject", 1)+policy, filter)

	out, ok := swaks(t, front.addr(), stranger, "--header", "Subject: a clean one")
	if !ok {
		t.Fatalf("a clean message was refused:\n%s", out)
	}
	waitFor(t, "the clean message", func() bool { return len(last.with("a clean one")) > 0 })
	checkClean(t, front, last)

	out, ok = swaks(t, front.addr(), stranger, "--header", "Subject: a bad one", "--body", eicar)
	if ok {
		t.Errorf("a virus was accepted:\n%s", out)
	}
	if !strings.Contains(out, "<** 550 5.7.1") {
		t.Errorf("the client did not get Postern's reply:\n%s", out)
	}
	if n := len(last.with("a bad one")); n != 0 {
		t.Errorf("the virus arrived %d times", n)
	}
}

func TestPostfixAfterQueue(t *testing.T) {
	needRoot(t, "postfix", "postconf", "swaks")
	last := startSink(t)
	front := startPostfix(t, last)
	filter, back := loopback(unusedPort(t)), loopback(unusedPort(t))
	policy := front.configure(t, "--after-queue", filter, back)
	gw := startPostern(t, strings.Replace(postfixTestPolicy, "ACTION", "quarantine", 1)+policy, filter)

	out, ok := swaks(t, front.addr(), stranger, "--header", "Subject: a clean one")
	if !ok {
		t.Fatalf("a clean message was refused:\n%s", out)
	}
	waitFor(t, "the clean message", func() bool { return len(last.with("a clean one")) > 0 })
	checkClean(t, front, last)

	if out, ok := swaks(t, front.addr(), stranger, "--header", "Subject: a bad one", "--body", eicar); !ok {
		t.Errorf("Postfix did not queue the virus:\n%s", out)
	}
	waitFor(t, "the virus in the quarantine", func() bool {
		return strings.Contains(gw.run(t, "quarantine", "list", "--json"), "alice@example.net")
	})
	if n := len(last.with("a bad one")); n != 0 {
		t.Errorf("the virus arrived %d times", n)
	}
}

// checkClean checks the clean message at the last next hop and the words of
// Postfix about it: it came once, the filters saw the true client, and so did
// the Postfix behind Postern.
func checkClean(t *testing.T, front *postfix, last *sink) {
	t.Helper()
	got := last.with("a clean one")
	if len(got) != 1 {
		t.Fatalf("the clean message arrived %d times", len(got))
	}
	if !strings.Contains(got[0].data, "X-Seen: the stranger") {
		t.Errorf("the policy did not see %s as the client:\n%s", stranger, got[0].data)
	}
	if !strings.Contains(unfold(got[0].data), "["+stranger+"]) by gw.example.org") {
		t.Errorf("Postern's trace field does not name %s:\n%s", stranger, got[0].data)
	}
	if got[0].from != "alice@example.net" || len(got[0].to) != 1 || got[0].to[0] != "bob@example.org" {
		t.Errorf("envelope changed: %+v", got[0])
	}
	if !strings.Contains(front.log(t), "orig_client=unknown["+stranger+"]") {
		t.Errorf("Postfix behind Postern was not told of %s", stranger)
	}
}

// unfold joins the lines of folded header fields.
func unfold(s string) string {
	return strings.NewReplacer("\r\n\t", " ", "\r\n ", " ", "\n\t", " ", "\n ", " ").Replace(s)
}

const nextHopPolicy = `version = 1

[site]
hostname = "gw.example.org"
domains  = ["example.org"]

[[listener]]
name    = "internet"
address = "LISTEN"
role    = "inbound"
tls     = "off"

[[upstream]]
name     = "next"
to       = ["NEXT"]
protocol = "PROTOCOL"
tls      = "none"
for      = ["example.org"]

[dns]
servers = ["127.0.0.1:9"]
timeout = "1s"

[queue]
retry = ["1s"]
`

func TestPostfixNextHop(t *testing.T) {
	needRoot(t, "postfix", "postconf", "smtp-source", "swaks")
	last := startSink(t)
	next := startPostfix(t, last)
	listen := loopback(unusedPort(t))
	startPostern(t, strings.NewReplacer("LISTEN", listen, "NEXT", next.addr(), "PROTOCOL", "smtp").Replace(nextHopPolicy), listen)

	smtpSource(t, listen, 4, 40)
	waitFor(t, "forty messages", func() bool { return last.count() >= 40 })

	if out, ok := swaks(t, listen, stranger, "--to", "bob@elsewhere.example"); ok {
		t.Errorf("mail for a foreign domain was accepted:\n%s", out)
	}
	if out, ok := swaks(t, listen, stranger, "--header", "Subject: one more"); !ok {
		t.Errorf("refused:\n%s", out)
	}
	waitFor(t, "one more", func() bool { return len(last.with("one more")) == 1 })
	if n := last.count(); n != 41 {
		t.Errorf("%d messages arrived, want 41", n)
	}
}
