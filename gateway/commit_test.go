package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/smtpd"
	"postern/spool"
)

// TestDemands: what the sender demands of the connections ends in the spool, in
// the quarantine and with the next hop, and so does the TLS of the policy.
func TestDemands(t *testing.T) {
	required := smtp.MailOptions{RequireTLS: true, Body: smtp.Body8BitMIME, Return: smtp.DSNReturnHeaders, EnvelopeID: "env-1"}
	t.Run("no TLS at the next hop", func(t *testing.T) {
		w := newWorld(t, plan{})
		s := w.send(letter{options: required})
		if !strings.HasPrefix(s.one(), "550 5.7.30") || len(w.relayed()) > 0 {
			t.Errorf("told %s, relayed %q", s.one(), w.relayed())
		}
	})
	t.Run("spooled", func(t *testing.T) {
		w := newWorld(t, plan{queue: `delivery = "spool"`})
		if s := w.send(letter{options: required}); !s.data[0].OK() {
			t.Fatalf("told %s", s.one())
		}
		e := w.spool.List()[0]
		if !e.Demands.RequireTLS || !e.EightBit || e.Options.EnvelopeID != "env-1" || e.Direction != mail.Inbound || e.Session.Helo != "mail.sender.example" {
			t.Errorf("entry %+v", e)
		}
		w.run()
		eventually(t, "it is given up", func() bool { return w.spool.Len() == 0 })
		want(t, "relayed", w.relayed())
		want(t, "held", w.held(), "policy undeliverable bob@ours.example=held")
		if it := w.items()[0]; !it.Demands.RequireTLS || !strings.Contains(it.Why, "5.7.30") {
			t.Errorf("item %+v", it)
		}
		if rs := w.records("verdict"); len(rs) != 2 || rs[1].Item != w.items()[0].ID || rs[1].Disposition != "quarantine" {
			t.Errorf("records %+v", rs)
		}
	})
	t.Run("held", func(t *testing.T) {
		w := newWorld(t, plan{rules: mixedRules})
		w.send(letter{options: required, to: []string{"erin@ours.example"}})
		it := w.items()[0]
		if !it.Demands.RequireTLS || !it.EightBit || !it.Options.RequireTLS {
			t.Errorf("item %+v", it)
		}
		if _, err := w.g.Release(t.Context(), Release{ID: it.ID, Actor: "admin"}); err != nil {
			t.Fatal(err)
		}
		if e := w.spool.List()[0]; !e.Demands.RequireTLS || !e.EightBit {
			t.Errorf("entry %+v", e)
		}
	})
}

// TestTLSStays: mail that was queued for a next hop with TLS does not go out in
// clear after a reload that does without.
func TestTLSStays(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, err := smtpd.SelfSigned(dir, "hop.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, plan{queue: `delivery = "spool"`, replace: [2]string{`tls = "none"`, `tls = "required"`}})
	if s := w.send(letter{}); !s.data[0].OK() {
		t.Fatalf("told %s", s.one())
	}
	if d := w.spool.List()[0].Demands; d.TLS != "required" {
		t.Fatalf("demands %+v", d)
	}
	w.plan.replace = [2]string{}
	w.g.Swap(w.state(noRules))
	deliver := func() string {
		r, err := w.spool.Content(w.spool.List()[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		return w.g.deliverEntry(t.Context(), w.spool.List()[0], r, r.Size())[0].Reply.String()
	}
	if said := deliver(); said[:2] != "45" || len(w.relayed()) > 0 {
		t.Fatalf("in clear: %s", said)
	}
	w.relay.Close()
	w2 := newWorld(t, plan{hop: func(h *nextHop) { h.tls = &tls.Config{Certificates: []tls.Certificate{pair}} }, replace: [2]string{`tls = "none"`, `tls = "required"`}})
	if s := w2.send(letter{}); !s.data[0].OK() || w2.fates[0].TLS == "" || w2.fates[0].TLS == "none" {
		t.Errorf("told %s over %q", s.one(), w2.fates[0].TLS)
	}
}

// TestUTF8: internationalised mail goes only where it is understood, and is
// never converted.
func TestUTF8(t *testing.T) {
	utf8 := smtp.MailOptions{UTF8: true}
	content := "From: Zoë <zoë@sender.example>\nSubject: héhé\n\nhéhé\n"
	l := letter{from: "zoë@sender.example", to: []string{"bœb@ours.example"}, options: utf8, content: content}
	w := newWorld(t, plan{})
	if _, got := relayedContent(t, w, l); got != crlf(content) {
		t.Errorf("got %q", got)
	}
	if c := w.hop.commands("MAIL FROM:<zoë@sender.example>"); len(c) != 1 || !strings.Contains(c[0], "SMTPUTF8") {
		t.Errorf("said %q", c)
	}
	old := newWorld(t, plan{hop: func(h *nextHop) { h.words = []string{"PIPELINING", "8BITMIME"} }})
	if s := old.send(l); !strings.HasPrefix(s.one(), "550 5.6.7") {
		t.Errorf("told %s", s.one())
	}
	older := newWorld(t, plan{hop: func(h *nextHop) { h.words = nil }})
	if s := older.send(letter{content: content, options: smtp.MailOptions{Body: smtp.Body8BitMIME}}); !strings.HasPrefix(s.one(), "554 5.6.3") {
		t.Errorf("told %s", s.one())
	}
	if s := older.send(letter{options: smtp.MailOptions{Body: smtp.Body8BitMIME, UTF8: true}}); !s.data[0].OK() {
		t.Errorf("ASCII that was declared as more: told %s", s.one())
	}
	q := newWorld(t, plan{queue: `delivery = "spool"`})
	q.send(l)
	if e := q.spool.List()[0]; !e.UTF8 || e.To[0].Path.Local != "bœb" {
		t.Errorf("entry %+v", e)
	}
}

// TestNotifySuccess: who asks to be told of success is told by the queue.
func TestNotifySuccess(t *testing.T) {
	notify := map[string][]smtp.DSNNotify{"bob@there.example": {smtp.DSNNotifySuccess, smtp.DSNNotifyFailure}}
	w := newWorld(t, plan{})
	l := letter{listener: "out", from: "alice@ours.example", to: []string{"bob@there.example"}, notify: notify}
	if s := w.send(l); !strings.HasPrefix(s.one(), "250 2.0.0 OK: accepted as") {
		t.Fatalf("told %s", s.one())
	}
	if got := w.spool.List()[0].To[0].Options.Notify; len(got) != 2 {
		t.Errorf("notify %v", got)
	}
	w.run()
	eventually(t, "both are delivered", func() bool { return len(w.relayed()) == 2 && w.spool.Len() == 0 })
	want(t, "relayed", w.relayed(), "<alice@ours.example> bob@there.example", "<> alice@ours.example")
	if dsn := w.hop.got()[1].content; !strings.Contains(dsn, "Action: relayed") {
		t.Errorf("notification:\n%s", dsn)
	}
}

const journalRules = `
[[rule]]
name = "journal"
match = { direction = "inbound" }
action = "journal"
copy_to = ["archive@vault.example", "second@ours.example"]
`

// TestJournal: archives get what is relayed, blind copies named, as it was
// received; and nothing of what was not.
func TestJournal(t *testing.T) {
	w := newWorld(t, plan{rules: journalRules + mixedRules})
	content := "X-Postern-Envelope-To: <forged@x.example>\n" + text("alice@sender.example")
	s := w.send(letter{to: []string{"bob@ours.example", "erin@ours.example"}, content: content, options: smtp.MailOptions{EnvelopeID: "e", Return: smtp.DSNReturnFull}})
	if !s.data[0].OK() {
		t.Fatalf("told %s", s.one())
	}
	want(t, "queued", w.queued(), "world <> archive@vault.example", "mailbox <> second@ours.example", "mailbox <alice@sender.example> bob@ours.example")
	report := w.spooled(0)
	if report != w.spooled(1) || !strings.HasSuffix(report, "\r\nX-Postern-Envelope-To: <bob@ours.example>, <erin@ours.example>\r\n"+crlf(text("alice@sender.example"))) ||
		!strings.HasPrefix(report, "X-Postern-Journal: "+s.tx.ID+"; ") || !strings.Contains(report, "X-Postern-Envelope-From: <alice@sender.example>\r\n") {
		t.Errorf("report:\n%s", report)
	}
	if e := w.spool.List()[0]; e.Options.EnvelopeID != "" || e.Options.Return != "" || e.To[0].Options.Notify[0] != smtp.DSNNotifyNever || e.Rule != "journal" {
		t.Errorf("entry %+v", e)
	}
	for name, l := range map[string]letter{
		"refused": {to: []string{"carol@ours.example"}, unasked: true}, "put off": {to: []string{"bob@ours.example", "dave@ours.example"}, unasked: true},
		"held": {to: []string{"erin@ours.example"}}, "discarded": {to: []string{"frank@ours.example"}},
	} {
		w.send(l)
		if n := len(w.queued()); n != 3 {
			t.Errorf("%s: %d in the queue", name, n)
		}
	}
	var id string
	for _, it := range w.items() {
		id = it.ID
	}
	if _, err := w.g.Release(t.Context(), Release{ID: id, Actor: "admin"}); err != nil {
		t.Fatal(err)
	}
	want(t, "queued after a release", w.queued()[3:], "world <> archive@vault.example", "mailbox <> second@ours.example", "mailbox <alice@sender.example> erin@ours.example")
}

// TestJournalMixedDefer: nothing is archived of what the client keeps.
func TestJournalMixedDefer(t *testing.T) {
	w := newWorld(t, plan{rules: journalRules + mixedRules, queue: `mixed_reject = "defer"`})
	if s := w.send(letter{to: []string{"bob@ours.example", "carol@ours.example"}, unasked: true}); !s.data[0].Temporary() {
		t.Errorf("told %s", s.one())
	}
	want(t, "queued", w.queued())
}

// TestJournalWithoutRoute: the archive must not miss mail, so that it is put off.
func TestJournalWithoutRoute(t *testing.T) {
	w := newWorld(t, plan{rules: journalRules})
	p := w.g.State().Policy
	p.Upstreams = p.Upstreams[:1] // what the loader would not let pass
	if s := w.send(letter{}); !strings.HasPrefix(s.one(), "451 4.3.0") || strings.Contains(s.one(), "vault") {
		t.Errorf("told %s", s.one())
	}
	want(t, "queued", w.queued())
	want(t, "relayed", w.relayed())
}

// TestMX: recipients whose next hops are looked up one by one are queued by
// domain, none of them while the client waits.
func TestMX(t *testing.T) {
	w := newWorld(t, plan{replace: [2]string{"to = [\"HOP\"]\ntls = \"none\"\nfor = [\"*\"]", "to = [\"mx\"]\nfor = [\"*\"]"}})
	to := []string{"a@one.example", "b@two.example", "c@one.example"}
	if s := w.send(letter{listener: "out", from: "alice@ours.example", to: to}); !s.data[0].OK() {
		t.Fatalf("told %s", s.one())
	}
	want(t, "queued", w.queued(), "world <alice@ours.example> a@one.example c@one.example", "world <alice@ours.example> b@two.example")
	for i, dest := range []string{"world one.example", "world two.example"} {
		if e := w.spool.List()[i]; w.g.destination(&e) != dest {
			t.Errorf("destination %q", w.g.destination(&e))
		}
	}
}

// TestEntryWithoutUpstream: a queued copy whose next hop the policy has no more
// waits.
func TestEntryWithoutUpstream(t *testing.T) {
	w := newWorld(t, plan{queue: `delivery = "spool"`})
	w.send(letter{})
	e := w.spool.List()[0]
	e.Upstream = "gone"
	out := w.g.deliverEntry(t.Context(), e, nil, 0)
	if len(out) != 1 || !out[0].Reply.Temporary() || out[0].Err == nil || strings.Contains(out[0].Reply.Text, "gone") {
		t.Errorf("outcome %+v", out)
	}
	if got := w.g.destination(&e); got != "gone" {
		t.Errorf("destination %q", got)
	}
}

// TestKeepFails: what cannot be kept stays in the queue.
func TestKeepFails(t *testing.T) {
	w := newWorld(t, plan{})
	e := spool.Entry{Transaction: "T", From: testPath(t, "a@b.example"), To: []spool.Recipient{{Recipient: mail.Recipient{Path: testPath(t, "bob@ours.example")}}}}
	content := crlf(text("a@b.example"))
	w.audit.Close()
	if err := w.g.keepFailed(t.Context(), e, strings.NewReader(content), int64(len(content))); err == nil {
		t.Error("no error")
	}
	want(t, "held", w.held())
}

// TestLargeMessage: a body that lies in a file goes every way.
func TestLargeMessage(t *testing.T) {
	w := newWorld(t, plan{rules: partRules})
	big := text("alice@sender.example") + strings.Repeat("a line of a large message\n", 30_000)
	if _, got := relayedContent(t, w, letter{content: big}); got != crlf(big) {
		t.Errorf("relayed %d bytes of %d", len(got), len(crlf(big)))
	}
	if s := w.send(letter{content: big, to: []string{"bob@ours.example", "erin@ours.example"}}); !s.data[0].OK() {
		t.Fatalf("told %s", s.one())
	}
	if got := w.spooled(0); !strings.HasSuffix(got, crlf(big)) {
		t.Errorf("spooled %d bytes", len(got))
	}
	if done, err := w.g.Release(t.Context(), Release{ID: w.items()[0].ID, Actor: "admin"}); err != nil || len(done.Queue) != 1 {
		t.Fatal(err)
	}
	if got := w.spooled(1); !strings.HasSuffix(got, crlf(big)) {
		t.Errorf("released %d bytes", len(got))
	}
}
