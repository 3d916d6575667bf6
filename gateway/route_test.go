package gateway

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"postern/audit"
	"postern/mail"
)

// TestDirectionLaw: inbound mail goes to our domains only, outbound mail is
// ours.
func TestDirectionLaw(t *testing.T) {
	w := newWorld(t, plan{})
	for _, c := range []struct {
		name    string
		l       letter
		authors string // the From field; empty: as the reverse-path
		reply   string
	}{
		{"to us", letter{}, "", "250"},
		{"to another domain of ours", letter{to: []string{"bob@SECOND.example"}}, "", "250"},
		{"to strangers", letter{to: []string{"bob@else.example"}}, "", "550 5.7.1 relaying denied"},
		{"by way of us", letter{to: []string{"bob%else.example@ours.example"}}, "", "550 5.7.1 relaying denied"},
		{"by way of us, quoted", letter{to: []string{`"bob@else.example"@ours.example`}}, "", "550 5.7.1 relaying denied"},
		{"by way of us, by bangs", letter{to: []string{"else.example!bob@ours.example"}}, "", "550 5.7.1 relaying denied"},
		{"to a subdomain", letter{to: []string{"bob@sub.ours.example"}}, "", "550 5.7.1 relaying denied"},
		{"from one of us, inbound", letter{from: "alice@ours.example"}, "", "250"},
		{"notification", letter{from: "<>"}, "mailer-daemon@else.example", "250"},
		{"out", letter{listener: "out", from: "alice@ours.example", to: []string{"bob@else.example"}}, "", "250"},
		{"out to us", letter{listener: "out", from: "alice@ours.example"}, "", "250"},
		{"out, foreign reverse-path", letter{listener: "out", from: "alice@else.example"}, "alice@ours.example", "550 5.7.1 this listener sends only for the domains"},
		{"out, subdomain", letter{listener: "out", from: "alice@sub.ours.example"}, "alice@ours.example", "550 5.7.1"},
		{"out, foreign author", letter{listener: "out", from: "alice@ours.example"}, "alice@else.example", "550 5.7.1 this listener sends only for authors"},
		{"out, foreign author among ours", letter{listener: "out", from: "alice@ours.example"}, "alice@ours.example, mallory@else.example", "550 5.7.1"},
		{"out, foreign author in a group", letter{listener: "out", from: "alice@ours.example"}, "us: alice@ours.example, mallory@else.example;", "550 5.7.1"},
		{"out, second From field", letter{listener: "out", from: "alice@ours.example"}, "alice@ours.example\nFrom: mallory@else.example", "550 5.7.1"},
		{"out, second From field that cannot be read", letter{listener: "out", from: "alice@ours.example"}, "alice@ours.example\nFrom: The Boss", "550 5.7.1"},
		{"out, ours in the name", letter{listener: "out", from: "alice@ours.example"}, `"alice@ours.example" <mallory@else.example>`, "550 5.7.1"},
		{"out, foreign author with words behind", letter{listener: "out", from: "alice@ours.example"}, "alice@ours.example, mallory@else.example x", "550 5.7.1"},
		{"out, foreign author behind a bracket", letter{listener: "out", from: "alice@ours.example"}, "<alice@ours.example> mallory@else.example", "550 5.7.1"},
		{"out, foreign author in a comment without end", letter{listener: "out", from: "alice@ours.example"}, "alice@ours.example, (mallory@else.example", "550 5.7.1"},
		{"out, foreign author encoded", letter{listener: "out", from: "alice@ours.example"}, "=?utf-8?q?mallory=40else.example?=, alice@ours.example", "550 5.7.1"},
		{"out, careless but ours", letter{listener: "out", from: "alice@ours.example"}, "Alice alice@ours.example", "250"},
		{"out, no author", letter{listener: "out", from: "alice@ours.example"}, "undisclosed:;", "550 5.7.1"},
		{"out, two authors of ours", letter{listener: "out", from: "alice@ours.example"}, "alice@ours.example, bob@second.example", "250"},
		{"out, author without a domain", letter{listener: "out", from: "alice@ours.example"}, "alice", "550 5.7.1"},
		{"out, notification of ours", letter{listener: "out", from: "<>"}, "postmaster@ours.example", "250"},
		{"out, notification of somebody", letter{listener: "out", from: "<>"}, "postmaster@else.example", "550 5.7.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			author := c.l.from
			if c.authors != "" {
				author = c.authors
			}
			if author == "" {
				author = "alice@sender.example"
			}
			c.l.content = "From: " + author + "\nSubject: x\n\nx\n"
			before := len(w.relayed())
			s := w.send(c.l)
			if !strings.HasPrefix(s.one(), c.reply) {
				t.Errorf("told %s, want %s", s.one(), c.reply)
			}
			if n := len(w.relayed()) - before; (n == 1) != (c.reply == "250") {
				t.Errorf("%d messages relayed", n)
			}
		})
	}
	if s := w.send(letter{listener: "out", from: "alice@ours.example", content: "Subject: no From field\n\nx\n"}); s.one()[:3] != "550" {
		t.Errorf("told %s", s.one())
	}
}

// TestPostmaster: RFC 5321 section 4.5.1.
func TestPostmaster(t *testing.T) {
	w := newWorld(t, plan{rules: mixedRules})
	for _, listener := range []string{"in", "out"} {
		s := w.send(letter{listener: listener, to: []string{"Postmaster"}, from: "<>", content: text("admin@ours.example")})
		if !s.data[0].OK() {
			t.Fatalf("told %s", s.one())
		}
	}
	s := w.send(letter{to: []string{"Postmaster", "erin@ours.example"}})
	if !s.data[0].OK() {
		t.Fatalf("told %s", s.one())
	}
	want(t, "relayed", w.relayed(), "<> Postmaster@ours.example", "<> Postmaster@ours.example")
	want(t, "queued", w.queued(), "mailbox <alice@sender.example> Postmaster@ours.example")
	w.g.Swap(w.state("[[rule]]\nname = \"domain\"\nmatch = { to = \"@ours.example\", probe = true }\naction = \"reject\"\n"))
	if s := w.send(letter{to: []string{"postmaster"}, content: probing("hit")}); s.one()[:3] != "550" {
		t.Errorf("rules about the domain do not hold: told %s", s.one())
	}
}

// TestRecipientFile: a list of who is there.
func TestRecipientFile(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list")
	write := func(s string) {
		if err := os.WriteFile(list, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# who is there\nBob@ours.example # the boss\n\n@Second.Example\n\"odd one\"@ours.example\n")
	p := plan{upstream: fmt.Sprintf("recipients = { check = \"file\", file = %q }", list)}
	w := newWorld(t, p)
	for to, reply := range map[string]string{
		"bob@ours.example": "250", "BOB@ours.example": "250", "carol@ours.example": "550 5.1.1", "anybody@second.example": "250", `"odd one"@ours.example`: "250",
		"postmaster@ours.example": "250", "postmaster": "250", "postmaster@else.example": "550 5.7.1",
	} {
		if s := w.send(letter{to: []string{to}}); !strings.HasPrefix(s.rcpt[0].String(), reply) {
			t.Errorf("%s: told %s", to, s.rcpt[0])
		}
	}
	write("carol@ours.example\n")
	w.g.Swap(w.state(noRules))
	if s := w.send(letter{to: []string{"bob@ours.example"}}); !strings.HasPrefix(s.rcpt[0].String(), "550 5.1.1") {
		t.Errorf("after a reload: told %s", s.rcpt[0])
	}
}

// TestRecipientCallout: the next hop is asked who is there.
func TestRecipientCallout(t *testing.T) {
	for _, c := range []struct {
		name, queue string
		say         map[string]string
		down        bool
		bob, carol  string
	}{
		{"it knows", "", map[string]string{"RCPT": "550 5.1.1 who", "RCPT TO:<bob@": "250 ok"}, false, "250", "550 5.1.1"},
		{"it takes everybody", "", nil, false, "250", "250"},
		{"it is busy", "", map[string]string{"RCPT": "450 4.2.1 busy"}, false, "451 4.4.0", "451 4.4.0"},
		{"it does not like us", "", map[string]string{"RCPT": "550 5.7.1 you are blocked"}, false, "451 4.4.0", "451 4.4.0"},
		{"it is down", "", nil, true, "451 4.4.0", "451 4.4.0"},
		{"it is down and we queue", `when_down = "queue"`, nil, true, "250", "250"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := plan{queue: c.queue, upstream: `recipients = { check = "rcpt" }`}
			if c.down {
				p.replace = [2]string{"HOP", "127.0.0.1:1"}
			}
			w := newWorld(t, p)
			for k, v := range c.say {
				w.hop.set(k, v)
			}
			old := w.begin(letter{})
			w.g.Swap(w.state(strings.Replace(noRules, "none", "other", 1))) // the transaction keeps its policy
			for to, reply := range map[string]string{"bob@ours.example": c.bob, "carol@ours.example": c.carol} {
				r := w.g.Rcpt(t.Context(), old.tx, mail.Recipient{Path: testPath(t, to)})
				if !strings.HasPrefix(r.String(), reply) {
					t.Errorf("%s: told %s", to, r)
				}
				if strings.Contains(r.Text, "127.0.0.1") || strings.Contains(r.Text, "blocked") {
					t.Errorf("told too much: %s", r)
				}
			}
			w.g.Abort(old.tx)
		})
	}
}

const earlyRules = `
[[rule]]
name = "early"
match = { early = true }
action = "reject"
reply = "550 5.7.1 {reverse_path} is listed; {to} does not want it"
notify = ["admin"]
[[rule]]
name = "not-carol"
match = { to = "carol@ours.example", reverse_path = "@spam.example" }
action = "reject"
[[rule]]
name = "later-dave"
match = { to = "dave@ours.example" }
action = "defer"
[[rule]]
name = "held-late"
match = { probe = true }
action = "quarantine"
`

// TestEarly: what is refused at RCPT would have been refused after the message,
// by the same rule with the same words.
func TestEarly(t *testing.T) {
	w := newWorld(t, plan{rules: earlyRules})
	for _, c := range []struct{ from, to, reply string }{
		{"alice@sender.example", "bob@ours.example", "250"},
		{"listed@sender.example", "bob@ours.example", "550 5.7.1 listed@sender.example is listed; bob@ours.example does not want it ["},
		{"listed@sender.example", "postmaster", "550 5.7.1 listed@sender.example is listed; postmaster@ours.example does not want it ["},
		{"a@spam.example", "carol@ours.example", "550 5."},
		{"a@spam.example", "bob@ours.example", "250"},
		{"alice@sender.example", "dave@ours.example", "45"},
	} {
		t.Run(c.from+" "+c.to, func(t *testing.T) {
			before := len(w.records(audit.Verdict))
			now := w.send(letter{from: c.from, to: []string{c.to}})
			if !strings.HasPrefix(now.rcpt[0].String(), c.reply) {
				t.Fatalf("told %s", now.rcpt[0])
			}
			if now.rcpt[0].OK() {
				return
			}
			if len(now.data) > 0 || !strings.HasSuffix(now.rcpt[0].Text, "["+now.tx.ID+"]") {
				t.Errorf("told %s", now.rcpt[0])
			}
			later := w.send(letter{from: c.from, to: []string{c.to}, unasked: true})
			if said, then := strip(now.rcpt[0].String()), strip(later.one()); said != then {
				t.Errorf("at RCPT %s, after the message %s", said, then)
			}
			rs := w.records(audit.Verdict)[before:]
			var verdicts []string
			for _, r := range rs {
				if strings.HasPrefix(r.To, c.to) {
					verdicts = append(verdicts, r.Disposition+" "+r.Rule+" "+r.Why)
				}
			}
			if len(verdicts) != 2 || verdicts[0] != verdicts[1] {
				t.Errorf("records %q", verdicts)
			}
		})
	}
	if log := w.mailLog.String(); strings.Count(log, "msg=rejected") != 6 {
		t.Errorf("mail log:\n%s", log)
	}
	if n := strings.Count(strings.Join(w.queued(), "\n"), "mailbox <> admin@ours.example"); n != 4 {
		t.Errorf("%d notices: %q", n, w.queued())
	}
	s := w.begin(letter{from: "unlisted@sender.example"})
	if r := w.g.Rcpt(t.Context(), s.tx, mail.Recipient{Path: testPath(t, "bob@ours.example")}); !r.Temporary() && !r.OK() {
		t.Errorf("told %s when the list cannot be asked", r)
	}
	w.g.Abort(s.tx)
}

// TestFilterRole: behind smtpd_proxy_filter no recipient is refused apart.
func TestFilterRole(t *testing.T) {
	w := newWorld(t, plan{rules: mixedRules})
	s := w.begin(letter{})
	s.tx.Session.Role = mail.RoleFilter
	if r := w.g.Rcpt(t.Context(), s.tx, mail.Recipient{Path: testPath(t, "carol@ours.example")}); !r.OK() {
		t.Errorf("told %s", r)
	}
	w.g.Abort(s.tx)
}

var idAtEnd = regexp.MustCompile(`\[01TEST\d+\]`)

// strip takes ids out of a reply.
func strip(reply string) string { return idAtEnd.ReplaceAllString(reply, "[]") }

// TestReceived is the trace field (RFC 5321 section 4.4).
func TestReceived(t *testing.T) {
	w := newWorld(t, plan{})
	for _, c := range []struct {
		name   string
		change func(*mail.Session)
		to     []string
		utf8   bool
		want   string
	}{
		{"plain", func(s *mail.Session) {}, nil, false, "from mail.sender.example ([192.0.2.7]) by gw.ours.example (Postern) with ESMTP id ID for <bob@ours.example>;"},
		{"two recipients", func(s *mail.Session) {}, []string{"bob@ours.example", "carol@ours.example"}, false, "from mail.sender.example ([192.0.2.7]) by gw.ours.example (Postern) with ESMTP id ID;"},
		{"HELO", func(s *mail.Session) { s.ESMTP, s.Helo = false, "" }, nil, false, "from unknown ([192.0.2.7]) by gw.ours.example (Postern) with SMTP id ID for"},
		{
			"TLS, named, IPv6", func(s *mail.Session) {
				s.TLS = mail.TLSFacts{Version: "TLS1.3", Cipher: "TLS_AES_128_GCM_SHA256"}
				s.ClientName, s.Client = "mail.sender.example", netip.MustParseAddrPort("[2001:db8::1%eth0]:25")
			}, nil, false,
			"from mail.sender.example (mail.sender.example [IPv6:2001:db8::1]) by gw.ours.example (Postern) with ESMTPS id ID (TLS1.3 TLS_AES_128_GCM_SHA256) for",
		},
		{
			"client certificate", func(s *mail.Session) {
				s.TLS = mail.TLSFacts{Version: "TLS1.3", Cipher: "C", ClientCert: "CN=printer,O=a) b\r\nX-Evil: c"}
			}, nil, false, "(TLS1.3 C) (client certificate CN=printer,O=a??b??X-Evil:?c) for",
		},
		{"IPv4 in IPv6", func(s *mail.Session) { s.Client = netip.MustParseAddrPort("[::ffff:192.0.2.7]:25") }, nil, false, "([192.0.2.7])"},
		{"unknown client", func(s *mail.Session) { s.Client = netip.AddrPort{} }, nil, false, "([unknown])"},
		{"hostile HELO", func(s *mail.Session) { s.Helo = "a\r\nX-Evil: (b) [c];\"é" }, nil, false, "from a??X-Evil:??b??[c]???"},
		{"long HELO", func(s *mail.Session) { s.Helo = strings.Repeat("h", 3000) }, nil, false, "from " + strings.Repeat("h", 255) + " ("},
		{"UTF8", func(s *mail.Session) {}, []string{"bœb@ours.example"}, true, "with UTF8SMTP id ID for <bœb@ours.example>;"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(w.hop.got())
			s := w.begin(letter{options: smtp.MailOptions{UTF8: c.utf8}})
			c.change(s.tx.Session)
			if c.to == nil {
				c.to = []string{"bob@ours.example"}
			}
			for _, to := range c.to {
				s.tx.Recipients = append(s.tx.Recipients, mail.Recipient{Path: testPath(t, to)})
			}
			if r := w.data(t.Context(), s.tx, text("alice@sender.example")); !r[0].OK() {
				t.Fatalf("told %s", r[0])
			}
			content := w.hop.got()[before].content
			m := mail.ParseBytes([]byte(content), mail.Options{})
			got := strings.Join(strings.Fields(m.Header().Get("Received")), " ")
			if !strings.Contains(got, strings.ReplaceAll(c.want, "ID", s.tx.ID)) || m.Header().Has("X-Evil") {
				t.Errorf("got %s", got)
			}
			for _, line := range strings.Split(content, "\r\n") {
				if len(line) > 998 {
					t.Errorf("a line of %d octets", len(line))
				}
			}
		})
	}
}

// TestLoops: a message that goes round is refused, whatever the rules say.
func TestLoops(t *testing.T) {
	w := newWorld(t, plan{rules: `
[[rule]]
name = "all"
match = { direction = "inbound" }
action = "accept"
`, replace: [2]string{"address = \"127.0.0.1:2525\"", "address = \"127.0.0.1:2525\"\nlimits = { hops = 20 }"}})
	foreign, own := "Received: from a by b with SMTP; Mon, 1 Jan 2024 00:00:00 +0000\n", ""
	content := text("alice@sender.example")
	for range 5 { // as many times as we let a message pass by
		s := w.send(letter{content: own + content})
		if !s.data[0].OK() {
			break
		}
		got := w.hop.got()
		all := got[len(got)-1].content
		own = all[:strings.Index(all, "X-Postern-Id")] + own // what the next hop would bring back
	}
	for _, c := range []struct{ name, fields, reply string }{
		{"20 hops", strings.Repeat(foreign, 20), "250"},
		{"21 hops", strings.Repeat(foreign, 21), "554 5.4.6 routing loop detected ["},
		{"many times here", own, "554 5.4.6"},
	} {
		s := w.send(letter{content: c.fields + content})
		if !strings.HasPrefix(s.one(), c.reply) {
			t.Errorf("%s: told %s", c.name, s.one())
		}
		if c.reply != "250" && w.outcome.Decisions[0].Rule != "loop" {
			t.Errorf("rule %s", w.outcome.Decisions[0].Rule)
		}
	}
	if n := strings.Count(own, "(Postern)"); n != ownPasses+1 {
		t.Errorf("it has passed %d times:\n%s", n, own)
	}
	if s := w.send(letter{content: strings.Repeat(foreign, 51) + text("alice@ours.example"), from: "alice@ours.example", listener: "out"}); s.one()[:3] != "554" {
		t.Errorf("outbound: told %s", s.one())
	}
}
