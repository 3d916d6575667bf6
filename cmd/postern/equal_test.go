package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/gateway"
	"postern/mail"
)

// equalHead is the policy of TestExplainEqualsLive without its rules; HOP,
// DIR, MIXED and DELIVERY are filled in.
const equalHead = `version = 1
[site]
hostname = "gw.example.org"
domains  = ["example.org", "list.example"]
[[listener]]
name    = "in"
address = "127.0.0.1:0"
tls     = "off"
limits  = { errors = 1000, messages = 100000, message = "600KB" }
trust   = { xforward = ["127.0.0.1"] }
NEWLINE
[[listener]]
name    = "out"
address = "127.0.0.1:0"
tls     = "off"
role    = "outbound"
limits  = { errors = 1000, messages = 100000 }
allow   = ["127.0.0.1"]
trust   = { xforward = ["127.0.0.1"] }
[[upstream]]
name = "mail"
to   = ["HOP"]
tls  = "none"
for  = ["*"]
[[upstream]]
name = "list"
to   = ["HOP"]
tls  = "none"
for  = ["list.example"]
recipients = { check = "file", file = "DIR/recipients" }
[queue]
mixed_reject = "MIXED"
delivery     = "DELIVERY"
reserve      = "1MB"
[filter.arc]
seal     = true
domain   = "example.org"
selector = "s"
key      = { file = "DIR/dkim.key" }
[filter.dkimsign]
domains  = ["example.org"]
selector = "s"
key      = { file = "DIR/dkim.key" }
`

// equalRules makes rules that may do everything, each with a name of its own.
func equalRules(rng *rand.Rand) string {
	conds := []string{
		`from = "@partner.example"`, `reverse_path = "alice@partner.example"`, `reverse_path = "@bank.example"`, `to = "bob@example.org"`, `to = ["ann@example.org", "joe@example.org"]`,
		`any_to = "ann@example.org"`, `party = "joe@example.org"`, `client = "198.51.100.0/24"`, `helo = "mail.partner.example"`, `listener = "in"`, `spf = ["fail", "softfail"]`,
		`spf = "pass"`, `dkim = "none"`, `dmarc = "fail"`, `from_aligned = false`, `virus = true`, `attachment = ["executable", "script"]`, `attachment = "archive"`, `attachment = "macro"`,
		`attachment_name = "*.pdf"`, `subject = "offers"`, `header = { List-Id = "*" }`, `size_over = "1KB"`, `structure = "limit"`, `score_at_least = 3`, `tls = false`, `direction = "inbound"`,
		`symbol = ["SPF_PASS", "ATTACHMENT_EXECUTABLE"]`, `symbol = "STRUCTURE_DUPLICATE_CONTENT_TYPE"`, `iprev = "pass"`, `mailing_list = true`, `first_contact = true`, `first_contact = false`,
	}
	actions := []string{
		`action = "reject"`, "action = \"reject\"\nreply = \"550 5.7.1 {from} to {to} no\"", `action = "defer"`, `action = "quarantine"`, "action = \"quarantine\"\nqueue = \"spam\"", `action = "discard"`,
		`action = "accept"`, `action = "strip"`, "action = \"tag\"\nsubject = \"[X] \"", "action = \"add-header\"\nheaders = { X-Mark = \"MARK\" }", "action = \"remove-header\"\nheaders = [\"X-Mailer\"]",
		"action = \"disclaimer\"\ntext = \"Example SA\"", `action = "received-spf"`, "action = \"journal\"\ncopy_to = \"j@example.org\"", "action = \"tag\"\nheaders = { X-Spam-Flag = \"YES\" }",
		"action = \"reject\"\nmode = \"watch\"", "action = \"quarantine\"\nmode = \"watch\"",
	}
	var b strings.Builder
	if rng.IntN(2) == 0 { // it is certain at RCPT
		b.WriteString("[[rule]]\nname = \"first\"\nmatch = { to = \"zoe@example.org\", reverse_path = [\"@partner.example\", \"@bank.example\"] }\naction = \"reject\"\nreply = \"550 5.7.1 {reverse_path} not to {to}\"\n")
	}
	for i := range 4 + rng.IntN(6) {
		keys := map[string]bool{}
		var match []string
		for range 1 + rng.IntN(2) {
			c := conds[rng.IntN(len(conds))]
			if key, _, _ := strings.Cut(c, " "); !keys[key] {
				keys[key], match = true, append(match, c)
			}
		}
		except := ""
		if rng.IntN(4) == 0 {
			except = "except = { " + conds[rng.IntN(len(conds))] + " }\n"
		}
		fmt.Fprintf(&b, "[[rule]]\nname = \"r%d\"\nmatch = { %s }\n%s%s\n", i, strings.Join(match, ", "), except, strings.Replace(actions[rng.IntN(len(actions))], "MARK", fmt.Sprint(i), 1))
	}
	return b.String()
}

// equalMessage makes a message of a sample: forged fields, long headers, several
// authors come in at random.
func equalMessage(rng *rand.Rand, all []sample) (from, content string, outbound bool) {
	s := all[rng.IntN(len(all))]
	for s.raw {
		s = all[rng.IntN(len(all))]
	}
	content = s.message
	for _, more := range []string{
		"X-Postern-Id: forged\r\n", "Authentication-Results: gw.example.org; spf=pass\r\n", "From: other@else.example\r\n", "X-Mailer: bulk\r\n", "X-Spam-Flag: NO\r\n",
		"List-Id: <l.shop.example>\r\n", "DKIM-Signature: v=1; a=rsa-sha256; d=partner.example; s=none; h=from; bh=x; b=x\r\n", "Received: from a by b; Mon, 16 Nov 2026 10:00:00 +0100\r\n",
		"Subject: =?utf-8?q?deux=20?= offers\r\n", strings.Repeat("X-A: b\r\n", 300),
	} {
		if rng.IntN(5) == 0 {
			content = more + content
		}
	}
	if rng.IntN(6) == 0 {
		content += strings.Repeat("0123456789 abcdefghijklmnopqrstuvwxyz 0123456789\r\n", 8000) // in a file
	}
	switch rng.IntN(15) {
	case 0:
		content += strings.Repeat("0123456789 abcdefghijklmnopqrstuvwxyz 0123456789\r\n", 13000) // too big for a listener
	case 1:
		content += "bare\nLF\r\n"
	case 2:
		content += "bare\rCR\r\n"
	case 3:
		content += "a \x00\r\n"
	}
	return s.from, content, s.outbound
}

// An equalRun is one policy in force, and the last outcome there.
type equalRun struct {
	t   *testing.T
	in  *instance
	mu  sync.Mutex
	out *gateway.Outcome
}

// theSame is what of a header field does not depend on the moment or the id.
func theSame(fields []string) []string {
	same := make([]string, len(fields))
	for i, f := range fields {
		f = regexp.MustCompile(`\r\n[ \t]+`).ReplaceAllString(strings.TrimRight(f, "\r\n"), " ")
		f = regexp.MustCompile(`(id |X-Postern-Id: )\S+`).ReplaceAllString(f, "${1}ID")
		f = regexp.MustCompile(`\w\w\w, \d+ \w\w\w \d+ [\d:]+ [+-]\d+`).ReplaceAllString(f, "DATE")
		f = regexp.MustCompile(`\b(t|x|b|bh)=[^;]*`).ReplaceAllString(f, "$1=")
		same[i] = f
	}
	return same
}

// told is what a transaction comes to for one recipient.
func told(out *gateway.Outcome, to mail.Path) []string {
	var said []string
	for _, d := range out.Decisions {
		if d.Recipient != to {
			continue
		}
		said = append(said, d.Disposition.String(), d.Queue, d.Rule, d.Why, fmt.Sprint(d.Score), d.WouldRule, fmt.Sprint(d.Journal, d.Skip, d.Watched, d.Trace))
		for _, a := range d.Actions {
			said = append(said, fmt.Sprint(a.Name, a.Rule, a.Parts))
		}
	}
	for _, r := range out.Results {
		for _, s := range r.Verdict.Symbols {
			if s.To == (mail.Path{}) || s.To == to {
				said = append(said, fmt.Sprint(s.Name, s.Score, s.Part, s.Label, s.Evidence))
			}
		}
		said = append(said, fmt.Sprint(r.Filter, r.Err, r.Verdict.Auth))
	}
	for _, c := range out.Copies {
		if slices.Contains(c.Recipients, to) {
			said = append(said, theSame(c.Fields)...)
			said = append(said, fmt.Sprint(c.Upstream, c.Err))
		}
	}
	return said
}

// send sends one message by SMTP. It returns what each recipient who was refused
// before the message was judged was told.
func (r *equalRun) send(b *busyClient, from string, to []string, content string, outbound bool) (refused map[string]string) {
	r.t.Helper()
	refused = map[string]string{}
	var taken []string
	say := func(text string) string {
		if _, err := io.WriteString(b.c, text+"\r\n"); err != nil {
			r.t.Fatal(err)
		}
		line, err := b.r.ReadString('\n')
		if err != nil {
			r.t.Fatal(err)
		}
		return regexp.MustCompile(` \[\w+\]$`).ReplaceAllString(strings.TrimRight(line, "\r\n"), "")
	}
	if !outbound {
		say("XFORWARD NAME=[UNAVAILABLE] ADDR=198.51.100.7 PROTO=ESMTP HELO=mail.partner.example")
	}
	if reply := say("MAIL FROM:<" + from + ">"); reply[0] != '2' {
		for _, a := range to {
			refused[a] = reply
		}
		return refused
	}
	for _, a := range to {
		if reply := say("RCPT TO:<" + a + ">"); reply[0] == '2' {
			taken = append(taken, a)
		} else {
			refused[a] = reply
		}
	}
	if len(taken) > 0 {
		say("DATA")
		reply := say(regexp.MustCompile(`(?m)^\.`).ReplaceAllString(content, "..") + ".")
		r.mu.Lock()
		if r.out == nil {
			for _, a := range taken {
				refused[a] = reply
			}
		}
		r.mu.Unlock()
	}
	say("RSET")
	return refused
}

// start writes a policy that loads, with a key, and starts a gateway on it.
func (r *equalRun) start(rng *rand.Rand, hop string, round int) *explainCmd {
	t := r.t
	dir := t.TempDir()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "recipients"), []byte("ann@list.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	zone, file := filepath.Join(dir, "zone.json"), filepath.Join(dir, "policy.toml")
	zoneText := strings.ReplaceAll(string(demoZone), "127.0.0.0/8", "198.51.100.0/24")
	for name, text := range map[string][]byte{zone: []byte(zoneText), filepath.Join(dir, "dkim.key"): pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	head := strings.NewReplacer("HOP", hop, "DIR", dir, "MIXED", []string{"quarantine", "bounce", "defer"}[round%3], "DELIVERY", []string{"cut-through", "spool"}[round%2],
		"NEWLINE", []string{"", `bare_newline = "normalise"`}[round/2%2]).Replace(equalHead)
	for {
		if err := os.WriteFile(file, []byte(head+equalRules(rng)), 0o600); err != nil {
			t.Fatal(err)
		}
		set := settings{file: file, state: filepath.Join(dir, "state"), zone: zone, log: slog.New(slog.DiscardHandler), mailLog: io.Discard, observe: r.observe}
		if _, err := set.load(); err != nil {
			continue // a rule that can never match is a mistake
		}
		if r.in, err = start(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		return &explainCmd{DNS: zone}
	}
}

func (r *equalRun) observe(_ *mail.Transaction, out *gateway.Outcome, _ []gateway.Fate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out = out
}

// explained takes the message as `postern explain` does.
func (r *equalRun) explained(e explainCmd, from string, to []string, content string, outbound bool) *gateway.Preview {
	p, err := r.in.set.load()
	if err != nil {
		r.t.Fatal(err)
	}
	e.From, e.To, e.Client, e.Helo, e.Outbound = from, to, "198.51.100.7", "mail.partner.example", outbound
	if outbound {
		e.Client, e.Helo = "127.0.0.1", "client.example"
	}
	gw, done, err := e.gateway(p)
	if err != nil {
		r.t.Fatal(err)
	}
	defer done()
	v, err := e.transaction(p)
	if err != nil {
		r.t.Fatal(err)
	}
	tx, unfit, _ := e.received(v, []byte(content), gw.State().Parse)
	gw.Begin(tx)
	defer gw.Abort(tx)
	return gw.Preview(r.t.Context(), tx, unfit)
}

// TestExplainEqualsLive sends messages by SMTP and asks explain about the same
// ones: what it says for each recipient is what happens, under whatever policy.
func TestExplainEqualsLive(t *testing.T) {
	const policies, messages = 8, 25
	toy, err := startToy()
	if err != nil {
		t.Fatal(err)
	}
	defer toy.close()
	compared, early, fates, laws := 0, 0, map[string]int{}, map[string]int{}
	for round := range policies {
		rng := rand.New(rand.NewPCG(uint64(round), 7))
		r := &equalRun{t: t}
		e := r.start(rng, toy.addr, round)
		for range messages {
			from, content, outbound := equalMessage(rng, samples())
			people := []string{"bob@example.org", "ann@example.org", "joe@example.org", "zoe@example.org", "ann@list.example", "nobody@list.example", "x%else@example.org", "x@else.example"}
			listener := "in"
			if outbound {
				people, listener = []string{"alice@partner.example", "bob@example.org", "x@bank.example"}, "out"
			}
			rng.Shuffle(len(people), func(i, k int) { people[i], people[k] = people[k], people[i] })
			if outbound && rng.IntN(6) == 0 {
				from = "x@else.example"
			}
			to := people[:1+rng.IntN(len(people))]
			b, err := dialBusy(r.in.addr(listener))
			if err != nil {
				t.Fatal(err)
			}
			r.out = nil
			r.in.contacts.write(t.Context()) // so that both know the same
			out := r.explained(*e, from, to, content, outbound)
			refused := r.send(b, from, to, content, outbound)
			b.c.Close()
			r.mu.Lock()
			live := r.out
			r.mu.Unlock()
			if len(out.Decisions) != len(to) {
				t.Errorf("policy %d: %d decisions for %q", round, len(out.Decisions), to)
			}
			for _, d := range out.Decisions {
				if reply, ok := refused[d.Recipient.String()]; ok {
					early++
					laws[d.Rule]++
					if d.Reply.String() != reply {
						t.Errorf("policy %d: <%s> was told %q, explain says %s %q by %s", round, d.Recipient, reply, d.Disposition, d.Reply, d.Rule)
					}
					continue
				}
				compared++
				fates[d.Disposition.String()]++
				if diff := cmp.Diff(told(live, d.Recipient), told(&out.Outcome, d.Recipient)); diff != "" {
					t.Errorf("policy %d, message from <%s> to %q: live (-) and explain (+) differ for <%s>:\n%s", round, from, to, d.Recipient, diff)
				}
			}
		}
		r.in.stop(t.Context())
		if t.Failed() {
			text, _ := os.ReadFile(r.in.set.file)
			t.Fatalf("the policy was\n%s", text)
		}
	}
	t.Logf("%d recipients compared: %v; %d were refused before: %v", compared, fates, early, laws)
	if compared < 100 || len(fates) < 5 {
		t.Error("too little was compared")
	}
	for _, law := range []string{"first", "foreign-sender", "no-relaying", "routed-address", "unknown-recipient", "message-size", "bare-newline", "nul"} {
		if laws[law] == 0 {
			t.Errorf("nobody was refused by %s", law)
		}
	}
}
