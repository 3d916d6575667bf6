package gateway

import (
	"strings"
	"testing"

	"postern/mail"
	"postern/spool"
)

// TestSubmit: mail of our own is durable, rewritten and logged like any other,
// and no rule can refuse it.
func TestSubmit(t *testing.T) {
	for _, c := range []struct {
		name, rules string
		to          string
		content     string
		fails       string
		want        string
	}{
		{name: "plain", to: "bob@ours.example", want: "Received: from gw.ours.example ([127.0.0.1]) by gw.ours.example (Postern) with ESMTP"},
		{name: "to a stranger", to: "bob@there.example", want: "X-Postern-Id: 01TEST"},
		{name: "to postmaster", to: "postmaster", want: "for <postmaster@ours.example>"},
		{name: "rules that refuse", to: "carol@ours.example", rules: mixedRules, want: "X-Postern-Id: 01TEST"},
		{name: "rules that hold", to: "erin@ours.example", rules: mixedRules, want: "X-Postern-Id: 01TEST"},
		{name: "a rewrite", to: "bob@ours.example", rules: "[[rule]]\nname = \"stamp\"\nmatch = { direction = \"outbound\" }\naction = \"stamp\"\ntext = \"x\"\n", want: "X-Postern-Stamp: x;"},
		{name: "a rewrite that fails", to: "bob@ours.example", rules: "[[rule]]\nname = \"fail\"\nmatch = { direction = \"outbound\" }\naction = \"fail\"\n", fails: "no key for it"},
		{name: "a filter that breaks", to: "bob@ours.example", content: probing("broken"), rules: "[[rule]]\nname = \"p\"\nmatch = { probe = true }\naction = \"stamp\"\ntext = \"x\"\n", fails: "a filter broke"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, plan{rules: c.rules})
			if c.content == "" {
				c.content = text("admin@ours.example")
			}
			id, err := w.g.Submit(t.Context(), mail.Path{}, []mail.Recipient{{Path: testPath(t, c.to)}}, []byte(crlf(c.content)))
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("error %v", err)
				}
				want(t, "queued", w.queued())
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			e := w.spool.List()[0]
			got := strings.ReplaceAll(w.spooled(0), "\r\n\t", " ")
			if e.Transaction != id || !e.From.IsNull() || e.Direction != mail.Outbound || !strings.Contains(got, c.want) || !strings.HasSuffix(got, crlf(c.content)) {
				t.Errorf("entry %+v\n%s", e, got)
			}
			if log := w.mailLog.String(); !strings.Contains(log, "id="+id) || !strings.Contains(log, "msg=accepted") {
				t.Errorf("mail log:\n%s", log)
			}
			if rs := w.records("verdict"); len(rs) != 1 || rs[0].ID != id {
				t.Errorf("records %+v", rs)
			}
		})
	}
}

// TestSubmitEightBit: what is written in eight bits says so.
func TestSubmitEightBit(t *testing.T) {
	w := newWorld(t, plan{})
	for i, body := range []string{"plain", "caf\xe9"} {
		if _, err := w.g.Submit(t.Context(), mail.Path{}, []mail.Recipient{{Path: testPath(t, "bob@ours.example")}}, []byte("From: a@ours.example\r\n\r\n"+body+"\r\n")); err != nil {
			t.Fatal(err)
		}
		if got := w.spool.List()[i].EightBit; got != (i == 1) {
			t.Errorf("%q: %v", body, got)
		}
	}
}

// TestSubmitStrip: what is taken out of mail of our own is kept too.
func TestSubmitStrip(t *testing.T) {
	for _, reserve := range []int64{0, 1 << 60} {
		w := newWorld(t, plan{rules: partRules, reserve: reserve})
		to := []mail.Recipient{{Path: testPath(t, "carol@ours.example")}}
		_, err := w.g.Submit(t.Context(), mail.Path{}, to, []byte(crlf(program)))
		if reserve > 0 {
			if err == nil {
				t.Error("no error")
			}
			want(t, "held", w.held())
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		want(t, "held", w.held(), "policy default original carol@ours.example=held")
		if got := w.spooled(0); strings.Contains(got, "TVqQ") {
			t.Errorf("sent\n%s", got)
		}
	}
}

// TestSubmitFails: the caller keeps what could not be made durable.
func TestSubmitFails(t *testing.T) {
	w := newWorld(t, plan{reserve: 1 << 60})
	to := []mail.Recipient{{Path: testPath(t, "bob@ours.example")}}
	if _, err := w.g.Submit(t.Context(), mail.Path{}, to, []byte(crlf(text("a@ours.example")))); err == nil || !strings.Contains(err.Error(), spool.ErrFull.Error()) {
		t.Errorf("error %v", err)
	}
	if rs := w.records("verdict"); len(rs) != 0 {
		t.Errorf("records %+v", rs)
	}
	p := w.g.State().Policy
	p.Upstreams = p.Upstreams[:1]
	to[0].Path.Domain = "elsewhere.example"
	if _, err := w.g.Submit(t.Context(), mail.Path{}, to, []byte(crlf(text("a@ours.example")))); err == nil || !strings.Contains(err.Error(), "no route to <bob@elsewhere.example>") {
		t.Errorf("error %v", err)
	}
}

// TestNotices: whom a rule wants to be told is told, once, and strangers never.
func TestNotices(t *testing.T) {
	rule := func(name, match, action, who string) string {
		return "[[rule]]\nname = \"" + name + "\"\nmatch = { " + match + " }\naction = \"" + action + "\"\nnotify = [" + who + "]\n"
	}
	outbound := "[[rule]]\nname = \"r\"\ndirection = \"outbound\"\nmatch = { to = \"carol@there.example\" }\naction = \"reject\"\nnotify = [\"sender\"]\n"
	for _, c := range []struct {
		name, rules, site string
		say               string // of the next hop
		l                 letter
		told              []string // in the queue, beside the mail itself
		text              []string // in the first notice
	}{
		{
			name: "held", rules: rule("hold", `to = ["erin@ours.example", "bob@ours.example"]`, "quarantine", `"admin", "officer", "sec@there.example"`), l: letter{to: []string{"erin@ours.example", "bob@ours.example"}},
			told: []string{"mailbox <> admin@ours.example", "world <> sec@there.example"},
			text: []string{"Subject: Rule hold acted on a message", "From: <alice@sender.example>\r\n", "Subject: hello\r\n", "To: <erin@ours.example>: held (to: ", "Rule: hold: ", "Auto-Submitted: auto-generated", "From: Postern <admin@ours.example>"},
		},
		{
			name: "in French", site: "language = \"fr\"", rules: rule("held", `to = "erin@ours.example"`, "quarantine", `"admin"`), l: letter{to: []string{"erin@ours.example"}},
			told: []string{"mailbox <> admin@ours.example"}, text: []string{"Subject: La =?utf-8?", "Objet: hello", "=C3=80: <erin@ours.example>: retenu en quarantaine (to: ", "R=C3=A8gle: held: Courrier "},
		},
		{
			name: "one of us", rules: outbound,
			l: letter{listener: "out", from: "alice@ours.example", to: []string{"carol@there.example"}, unasked: true}, told: []string{"mailbox <> alice@ours.example"},
		},
		{name: "one of us without a reverse-path", rules: outbound, l: letter{listener: "out", from: "<>", content: text("a@ours.example"), to: []string{"carol@there.example"}, unasked: true}},
		{name: "a rule puts off", rules: rule("later", `to = "dave@ours.example"`, "defer", `"admin"`), l: letter{to: []string{"dave@ours.example"}, unasked: true}, told: []string{"mailbox <> admin@ours.example"}},
		{name: "the next hop puts off", say: "450 4.2.1 later", rules: rule("seen", `to = "bob@ours.example"`, "notify", `"admin"`), l: letter{}},
		{name: "relayed", rules: rule("seen", `to = "bob@ours.example"`, "notify", `"admin"`), l: letter{}, told: []string{"mailbox <> admin@ours.example"}, text: []string{"To: <bob@ours.example>: sent"}},
		{name: "refused at RCPT", rules: rule("no", `to = "carol@ours.example"`, "reject", `"admin"`), l: letter{to: []string{"carol@ours.example"}}, told: []string{"mailbox <> admin@ours.example"}, text: []string{"carol@ours.example>: rejected"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, plan{rules: c.rules, replace: [2]string{`admin    = "admin@ours.example"`, "admin = \"admin@ours.example\"\n" + c.site}})
			if c.say != "" {
				w.hop.set("RCPT", c.say)
			}
			w.send(c.l)
			want(t, "told", w.queued(), c.told...)
			for _, part := range c.text {
				if got := w.spooled(0); !strings.Contains(got, part) {
					t.Errorf("the notice lacks %q:\n%s", part, got)
				}
			}
		})
	}
}

// TestNoticeFails: a notice that cannot be sent changes nothing for the mail.
func TestNoticeFails(t *testing.T) {
	w := newWorld(t, plan{reserve: 1 << 60, rules: "[[rule]]\nname = \"seen\"\nmatch = { to = \"bob@ours.example\" }\naction = \"notify\"\nnotify = [\"admin\"]\n"})
	if s := w.send(letter{unasked: true}); !s.data[0].OK() {
		t.Errorf("told %s", s.one())
	}
	if !strings.Contains(w.log.String(), "send notice") {
		t.Errorf("the log knows nothing:\n%s", w.log)
	}
}
