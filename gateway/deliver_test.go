package gateway

import (
	"context"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

// TestCutThrough: one copy goes on while the client waits, and the next hop's
// own reply is passed on. Nothing is written to disk.
func TestCutThrough(t *testing.T) {
	for _, c := range []struct {
		name    string
		say     map[string]string
		queue   string
		to      []string
		reply   string // the beginning of what the client is told
		relayed []string
		queued  []string
		held    []string
		fates   string
	}{
		{
			name: "taken", say: map[string]string{".": "250 2.6.0 queued as ABC"}, reply: "250 2.0.0 queued as ABC [01TEST",
			relayed: []string{"<alice@sender.example> bob@ours.example"}, fates: "bob@ours.example=sent",
		},
		{name: "taken without a word", say: map[string]string{".": "250"}, reply: "250 2.0.0  [01TEST", relayed: []string{"<alice@sender.example> bob@ours.example"}},
		{name: "refused at MAIL", say: map[string]string{"MAIL": "550 5.7.1 not you"}, reply: "550 5.7.1 not you [01TEST", fates: "bob@ours.example=rejected"},
		{name: "refused at RCPT", say: map[string]string{"RCPT": "550 5.1.1 who"}, reply: "550 5.1.1 who [01TEST"},
		{name: "refused after the content", say: map[string]string{".": "554 5.6.0 no"}, reply: "554 5.6.0 no [01TEST"},
		{name: "put off at RCPT", say: map[string]string{"RCPT": "450 4.2.0 later"}, reply: "450 4.2.0 later [01TEST", fates: "bob@ours.example=deferred"},
		{name: "put off after the content", say: map[string]string{".": "452 4.3.1 full"}, reply: "452 4.3.1 full [01TEST"},
		{name: "421 is not for our client", say: map[string]string{".": "421 4.3.2 going"}, reply: "451 4.3.2 going"},
		{name: "cut off", say: map[string]string{".": "close"}, reply: "451 4.4.2 connection with next hop failed"},
		{name: "garbage", say: map[string]string{".": "hello"}, reply: "451 4.5.0"},
		{name: "cut off, queue", say: map[string]string{".": "close"}, queue: `when_down = "queue"`, reply: "451 4.4.2"}, // it may have been taken
		{
			name: "banner only, queue", say: map[string]string{"MAIL": "close"}, queue: `when_down = "queue"`, reply: "250 2.0.0 OK: accepted as 01TEST",
			queued: []string{"mailbox <alice@sender.example> bob@ours.example"}, fates: "bob@ours.example=queued",
		},
		{
			name: "always durable first", queue: `delivery = "spool"`, reply: "250 2.0.0 OK: accepted as 01TEST",
			queued: []string{"mailbox <alice@sender.example> bob@ours.example"},
		},
		{
			name: "some put off", to: []string{"bob@ours.example", "carol@ours.example"}, say: map[string]string{"RCPT TO:<carol": "450 4.2.1 later"},
			reply: "250 ", relayed: []string{"<alice@sender.example> bob@ours.example"}, queued: []string{"mailbox <alice@sender.example> carol@ours.example"},
			fates: "bob@ours.example=sent carol@ours.example=queued",
		},
		{
			name: "some refused", to: []string{"bob@ours.example", "carol@ours.example"}, say: map[string]string{"RCPT TO:<carol": "550 5.1.1 who"},
			reply: "250 ", relayed: []string{"<alice@sender.example> bob@ours.example"}, held: []string{"policy next-hop carol@ours.example=held"},
			fates: "bob@ours.example=sent carol@ours.example=held",
		},
		{
			name: "some refused, some put off", to: []string{"carol@ours.example", "dave@ours.example", "bob@ours.example"},
			say:   map[string]string{"RCPT TO:<carol": "550 5.1.1 who", "RCPT TO:<dave": "451 4.2.1 later"},
			reply: "250 ", relayed: []string{"<alice@sender.example> bob@ours.example"}, held: []string{"policy next-hop carol@ours.example=held"},
			queued: []string{"mailbox <alice@sender.example> dave@ours.example"},
		},
		{
			name: "some refused, mixed_reject defer comes too late", queue: `mixed_reject = "defer"`, to: []string{"bob@ours.example", "carol@ours.example"},
			say:   map[string]string{"RCPT TO:<carol": "550 5.1.1 who"},
			reply: "250 ", relayed: []string{"<alice@sender.example> bob@ours.example"}, held: []string{"policy next-hop carol@ours.example=held"},
		},
		{
			name: "refused and put off, nobody has it", to: []string{"bob@ours.example", "carol@ours.example"},
			say:   map[string]string{"RCPT TO:<bob": "550 5.1.1 who", "RCPT TO:<carol": "450 4.2.1 later"},
			reply: "450 4.2.1 later", fates: "bob@ours.example=deferred carol@ours.example=deferred",
		},
		{
			name: "all refused", to: []string{"bob@ours.example", "carol@ours.example"}, say: map[string]string{"RCPT": "550 5.1.1 who"},
			reply: "550 5.1.1 who", fates: "bob@ours.example=rejected carol@ours.example=rejected",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, plan{queue: c.queue})
			for k, v := range c.say {
				w.hop.set(k, v)
			}
			s := w.send(letter{to: c.to})
			if !strings.HasPrefix(s.one(), c.reply) || len(s.data) != 1 {
				t.Errorf("told %q, want %q", s.data, c.reply)
			}
			want(t, "relayed", w.relayed(), c.relayed...)
			want(t, "queued", w.queued(), c.queued...)
			want(t, "held", w.held(), c.held...)
			if got := strings.Join(w.lastFates(), " "); c.fates != "" && got != c.fates {
				t.Errorf("fates %s", got)
			}
		})
	}
}

// TestDown: the next hop cannot be reached at all.
func TestDown(t *testing.T) {
	for _, c := range []struct{ when, listener, reply string }{
		{"defer", "in", "451 4.4.1 next hop cannot be reached; try again later [01TEST"},
		{"queue", "in", "250 2.0.0 OK: accepted as 01TEST"},
		{"defer", "lmtp", "451 4.4.1 next hop cannot be reached; try again later [01TEST"},
		{"queue", "lmtp", "250 2.0.0 OK: accepted as 01TEST"},
	} {
		t.Run(c.when+" "+c.listener, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, plan{queue: `when_down = "` + c.when + `"`, replace: [2]string{`to = ["HOP"]`, `to = ["127.0.0.1:1"]`}})
			s := w.send(letter{listener: c.listener, to: []string{"bob@ours.example", "carol@ours.example"}})
			for i, r := range s.data {
				if !strings.HasPrefix(r.String(), c.reply) {
					t.Errorf("told %s", r)
				}
				if f := w.fates[i]; f.Err == nil || strings.Contains(r.Text, "127.0.0.1") {
					t.Errorf("the cause is for the log: %v, told %s", f.Err, r)
				}
			}
			if !strings.Contains(w.log.String(), "connection refused") && c.when == "defer" {
				t.Errorf("the log knows nothing:\n%s", w.log)
			}
			if n := len(w.queued()); (n > 0) != (c.when == "queue") {
				t.Errorf("%d entries in the queue", n)
			}
		})
	}
}

const mixedRules = `
[[rule]]
name = "not-carol"
match = { to = "carol@ours.example" }
action = "reject"
reply = "550 5.7.1 carol takes nothing from {from}"
[[rule]]
name = "later-dave"
match = { to = "dave@ours.example" }
action = "defer"
[[rule]]
name = "hold-erin"
match = { to = "erin@ours.example" }
action = "quarantine"
queue = "spam"
[[rule]]
name = "drop-frank"
match = { to = "frank@ours.example" }
action = "discard"
`

// TestMixedFates: one reply for recipients with different fates. What is said
// is true for all of them.
func TestMixedFates(t *testing.T) {
	const bob, carol, dave, erin, frank = "bob@ours.example", "carol@ours.example", "dave@ours.example", "erin@ours.example", "frank@ours.example"
	relayedTo := func(to ...string) []string { return []string{"<alice@sender.example> " + strings.Join(to, " ")} }
	inQueue := func(to string) []string { return []string{"mailbox <alice@sender.example> " + to} }
	for _, c := range []struct {
		name    string
		queue   string
		to      []string
		say     string // to RCPT
		reply   string
		relayed []string
		queued  []string
		held    []string
	}{
		{name: "refused for all", to: []string{carol, carol}, reply: "550 5.7.1 carol takes nothing from alice@sender.example [01TEST"},
		{name: "refused for one", to: []string{bob, carol}, reply: "250 ", queued: inQueue(bob), held: []string{"policy not-carol carol@ours.example=held"}},
		{name: "refused for one, defer", queue: `mixed_reject = "defer"`, to: []string{bob, carol}, reply: "451 4.7.1 send to each recipient apart"},
		{name: "refused for one, bounce of a stranger", queue: `mixed_reject = "bounce"`, to: []string{bob, carol}, reply: "250 ", queued: inQueue(bob), held: []string{"policy not-carol carol@ours.example=held"}},
		{
			name: "refused for one, bounce always", queue: "mixed_reject = \"bounce\"\nbounce = \"always\"", to: []string{bob, carol}, reply: "250 ",
			queued: []string{inQueue(bob)[0], "world <> alice@sender.example"},
		},
		{name: "put off for one", to: []string{bob, dave}, reply: "451 4."},
		{name: "put off for one, refused for another", to: []string{carol, dave}, reply: "451 4."},
		{name: "held for all", to: []string{erin}, reply: "250 2.0.0 OK: accepted as", held: []string{"spam hold-erin erin@ours.example=held"}},
		{name: "held for one", to: []string{bob, erin}, reply: "250 ", queued: inQueue(bob), held: []string{"spam hold-erin erin@ours.example=held"}},
		{name: "held for one, refused for another", to: []string{erin, carol}, reply: "250 ", held: []string{"policy not-carol carol@ours.example=held", "spam hold-erin erin@ours.example=held"}},
		{name: "held for one, put off for another", to: []string{erin, dave}, reply: "451 4."},
		{name: "discarded", to: []string{frank}, reply: "250 2.0.0 OK: accepted as"},
		{name: "discarded for one", to: []string{frank, bob}, reply: "250 ", relayed: relayedTo(bob)},
		{name: "discarded for one, put off for another", to: []string{frank, dave}, reply: "451 "},
		{name: "discarded for one, refused for another", to: []string{frank, carol}, reply: "250 ", held: []string{"policy not-carol carol@ours.example=held"}},
		{name: "discarded for one, the next hop refuses", to: []string{frank, bob}, say: "550 5.1.1 who", reply: "250 ", held: []string{"policy next-hop bob@ours.example=held"}},
		{name: "discarded for one, the next hop puts off", to: []string{frank, bob}, say: "450 4.1.1 later", reply: "450 4.1.1 later"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, plan{rules: mixedRules, queue: c.queue})
			if c.say != "" {
				w.hop.set("RCPT", c.say)
			}
			s := w.send(letter{to: c.to, unasked: true})
			if !strings.HasPrefix(s.one(), c.reply) || len(s.data) != 1 {
				t.Errorf("told %q, want %q", s.data, c.reply)
			}
			want(t, "relayed", w.relayed(), c.relayed...)
			want(t, "queued", w.queued(), c.queued...)
			want(t, "held", w.held(), c.held...)
		})
	}
}

// TestMixedBounce: the author of ours who wrote to somebody that refuses is told
// why, unless that was not wanted.
func TestMixedBounce(t *testing.T) {
	const rules = `
[[rule]]
name = "not-carol"
match = { to = "carol@there.example" }
action = "reject"
reply = "554 5.7.1 carol is not to be written to"
`
	for _, c := range []struct {
		name   string
		from   string
		say    string // of the next hop to carol
		carol  string
		notify []smtp.DSNNotify
		dsn    string // of the diagnostic; empty: held
	}{
		{name: "by a rule", carol: "carol@there.example", dsn: "itself reports: 554 5.7.1 carol"},
		{name: "by the next hop", carol: "caroline@there.example", say: "550 5.1.1 no caroline here", dsn: "smtp; 550 5.1.1 no caroline here"},
		{name: "null reverse-path", from: "<>", carol: "carol@there.example"},
		{name: "never", carol: "carol@there.example", notify: []smtp.DSNNotify{smtp.DSNNotifyNever}},
		{name: "of failures", carol: "carol@there.example", notify: []smtp.DSNNotify{smtp.DSNNotifyFailure}, dsn: "itself reports: 554 5.7.1 carol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, plan{rules: rules, queue: `mixed_reject = "bounce"`})
			w.hop.set("RCPT TO:<caroline", c.say)
			from := "alice@ours.example"
			if c.from != "" {
				from = c.from
			}
			s := w.send(letter{
				from: from, listener: "out", to: []string{"bob@there.example", c.carol}, content: text("alice@ours.example"), unasked: true,
				notify: map[string][]smtp.DSNNotify{c.carol: c.notify},
			})
			if !s.data[0].OK() {
				t.Fatalf("told %s", s.one())
			}
			if c.dsn == "" {
				want(t, "held", w.held(), "policy not-carol carol@there.example=held")
				return
			}
			queued := w.queued()
			if n := len(queued); n == 0 || queued[n-1] != "mailbox <> alice@ours.example" {
				t.Fatalf("queued %q", queued)
			}
			dsn := strings.ReplaceAll(w.spooled(len(queued)-1), "\r\n ", " ")
			for _, part := range []string{c.dsn, "Final-Recipient: rfc822; " + c.carol, "Action: failed", "Status: 5.", "Arrival-Date: ", "To: <alice@ours.example>", "by gw.ours.example (Postern)"} {
				if !strings.Contains(dsn, part) {
					t.Errorf("the notification lacks %q:\n%s", part, dsn)
				}
			}
			if strings.Contains(dsn, "bob@there.example") || strings.Contains(dsn, "0001") {
				t.Errorf("the notification says too much:\n%s", dsn)
			}
		})
	}
}

// TestBounceNamesNextHop: who is told that a spooled message was refused learns
// who refused it, and in which words.
func TestBounceNamesNextHop(t *testing.T) {
	w := newWorld(t, plan{queue: `delivery = "spool"`})
	w.hop.set("RCPT TO:<bob@there", "550 5.1.1 no bob here")
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- w.queue.Run(ctx) }()
	defer func() {
		cancel()
		<-ran
	}()
	w.send(letter{from: "alice@ours.example", listener: "out", to: []string{"bob@there.example"}, content: text("alice@ours.example")})
	eventually(t, "the notification arrives", func() bool { return len(w.hop.got()) > 0 })
	dsn := strings.ReplaceAll(w.hop.got()[0].content, "\r\n ", " ")
	for _, part := range []string{"To: <alice@ours.example>", "Remote-MTA: dns; ", "Diagnostic-Code: smtp; 550 5.1.1 no bob here"} {
		if !strings.Contains(dsn, part) {
			t.Errorf("the notification lacks %q:\n%s", part, dsn)
		}
	}
}

// TestLMTP: each recipient has a reply of its own, so that nobody waits for
// anybody else.
func TestLMTP(t *testing.T) {
	w := newWorld(t, plan{rules: mixedRules})
	w.hop.set("RCPT TO:<gina", "550 5.1.1 no gina")
	w.hop.set("RCPT TO:<hugo", "450 4.2.1 hugo later")
	to := []string{"bob@ours.example", "carol@ours.example", "dave@ours.example", "frank@ours.example", "gina@ours.example", "hugo@ours.example"}
	s := w.send(letter{listener: "lmtp", to: to, unasked: true})
	for i, code := range []int{250, 550, 451, 250, 550, 450} {
		if s.data[i].Code != code {
			t.Errorf("%s is told %s", to[i], s.data[i])
		}
	}
	want(t, "relayed", w.relayed(), "<alice@sender.example> bob@ours.example")
	want(t, "queued", w.queued())
	want(t, "held", w.held())

	s = w.send(letter{listener: "lmtp", to: []string{"bob@ours.example", "erin@ours.example", "carol@ours.example"}, unasked: true})
	for i, code := range []int{250, 250, 550} {
		if s.data[i].Code != code {
			t.Errorf("recipient %d is told %s", i, s.data[i])
		}
	}
	want(t, "held", w.held(), "spam hold-erin erin@ours.example=held")
	want(t, "queued", w.queued(), "mailbox <alice@sender.example> bob@ours.example")
}

// TestLMTPHop: a next hop that has its own answer for each.
func TestLMTPHop(t *testing.T) {
	for _, listener := range []string{"in", "lmtp"} {
		w := newWorld(t, plan{upstream: `protocol = "lmtp"`, hop: func(h *nextHop) { h.lmtp = true }})
		w.hop.set(".carol@ours.example", "552 5.2.2 carol is full")
		w.hop.set(".dave@ours.example", "452 4.2.2 dave is nearly full")
		s := w.send(letter{listener: listener, to: []string{"bob@ours.example", "carol@ours.example", "dave@ours.example"}})
		want(t, "relayed", w.relayed(), "<alice@sender.example> bob@ours.example")
		if listener == "lmtp" {
			for i, code := range []int{250, 552, 452} {
				if s.data[i].Code != code {
					t.Errorf("recipient %d is told %s", i, s.data[i])
				}
			}
			want(t, "held", w.held())
			continue
		}
		if !s.data[0].OK() {
			t.Errorf("told %s", s.one())
		}
		want(t, "held", w.held(), "policy next-hop carol@ours.example=held")
		want(t, "queued", w.queued(), "mailbox <alice@sender.example> dave@ours.example")
		if why := w.items()[0].Why; !strings.Contains(why, "552 5.2.2 carol is full") {
			t.Errorf("why: %s", why)
		}
	}
}

// TestDuplicateRecipients: who stands in the envelope twice gets one copy, and a
// reply for each time in LMTP.
func TestDuplicateRecipients(t *testing.T) {
	w := newWorld(t, plan{rules: mixedRules})
	to := []string{"bob@ours.example", "bob@OURS.example", "erin@ours.example", "bob@ours.example", "erin@ours.example"}
	s := w.send(letter{listener: "lmtp", to: to})
	if len(s.data) != len(to) {
		t.Fatalf("%d replies", len(s.data))
	}
	for _, r := range s.data {
		if !r.OK() {
			t.Errorf("told %s", r)
		}
	}
	want(t, "queued", w.queued(), "mailbox <alice@sender.example> bob@ours.example")
	want(t, "held", w.held(), "spam hold-erin erin@ours.example=held")

	w.hop.set("RCPT", "550 5.1.1 who")
	s = w.send(letter{to: to[:2]})
	if s.data[0].Code != 550 || len(w.hop.commands("RCPT")) != 1 {
		t.Errorf("told %s after %q", s.one(), w.hop.commands("RCPT"))
	}
	want(t, "held", w.held(), "spam hold-erin erin@ours.example=held")
}

// TestBifurcation: recipients with different treatments get different copies,
// and only the copies that they should.
func TestBifurcation(t *testing.T) {
	w := newWorld(t, plan{rules: `
[[rule]]
name = "stamp-carol"
match = { to = ["carol@ours.example", "dave@ours.example"] }
action = "stamp"
text = "for carol"
`})
	s := w.send(letter{to: []string{"bob@ours.example", "carol@ours.example", "dave@ours.example"}})
	if !s.data[0].OK() || len(w.relayed()) > 0 {
		t.Fatalf("told %s, relayed %q", s.one(), w.relayed())
	}
	want(t, "queued", w.queued(), "mailbox <alice@sender.example> bob@ours.example", "mailbox <alice@sender.example> carol@ours.example dave@ours.example")
	if strings.Contains(w.spooled(0), "X-Postern-Stamp") || !strings.Contains(w.spooled(1), "\r\nX-Postern-Stamp: for carol; carol@ours.example\r\n") {
		t.Errorf("bob gets\n%s\ncarol gets\n%s", w.spooled(0), w.spooled(1))
	}
	for i, id := range []string{s.tx.ID, s.tx.ID + ".2"} {
		if e := w.spool.List()[i]; e.ID != id || e.Transaction != s.tx.ID || e.Policy != w.g.State().Policy.Hash {
			t.Errorf("entry %s of %s", e.ID, e.Transaction)
		}
	}
	w.run()
	eventually(t, "both are delivered", func() bool { return len(w.relayed()) == 2 && w.spool.Len() == 0 })
}

// TestOne is the one reply of SMTP for what several recipients would be told.
func TestOne(t *testing.T) {
	for _, c := range []struct{ replies, want string }{
		{"", "451"}, {"250", "250"}, {"550", "550"}, {"450", "450"}, {"250 251", "250"}, {"550 554", "550"},
		{"250 452", "452"}, {"550 452 250", "452"}, {"250 550", "451"}, {"550 250", "451"}, {"0", "451"}, {"354 250", "451"},
	} {
		var rs = replies(c.replies)
		if got := one(rs); got.String()[:3] != c.want {
			t.Errorf("%s: %s", c.replies, got)
		}
	}
}
