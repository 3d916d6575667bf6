package gateway

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/audit"
	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters"
	"postern/filters/dkimsign"
	"postern/mail"
	"postern/policy"
	"postern/quarantine"
	"postern/spool"
)

// holdRules hold whatever is for erin or has a virus.
const holdRules = `
[[rule]]
name = "virus"
match = { virus = true }
action = "quarantine"
[[rule]]
name = "hold"
match = { to = ["erin@ours.example", "eve@ours.example"] }
action = "quarantine"
queue = "spam"
`

// eicar is the file that every scanner knows, put together here so that this
// file is not taken for it.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}` + "$EICAR-STANDARD-" + "ANTIVIRUS-TEST-FILE!$H+H*"

// holdOne sends a message that is held and returns its item.
func holdOne(t *testing.T, w *world, l letter) *quarantine.Item {
	t.Helper()
	if s := w.send(l); len(s.data) == 0 || !s.data[0].OK() {
		t.Fatalf("told %s", s.one())
	}
	items := w.items()
	if len(items) == 0 {
		t.Fatal("nothing is held")
	}
	return items[0]
}

// TestRelease: held mail goes out after all, as it came, to whom it was for.
func TestRelease(t *testing.T) {
	w := newWorld(t, plan{rules: holdRules})
	content := "X-Postern-Id: forged\n" + text("alice@sender.example")
	it := holdOne(t, w, letter{to: []string{"erin@ours.example", "eve@ours.example"}, content: content})
	done, err := w.g.Release(t.Context(), Release{ID: strings.ToLower(it.ID[:20]), Actor: "admin", Reason: "wanted"})
	if err != nil {
		t.Fatal(err)
	}
	if done.Item != it.ID || len(done.To) != 2 || len(done.Queue) != 1 {
		t.Errorf("released %+v", done)
	}
	want(t, "queued", w.queued(), "mailbox <alice@sender.example> erin@ours.example eve@ours.example")
	want(t, "held", w.held(), "spam hold erin@ours.example=released eve@ours.example=released")
	got := w.spooled(0)
	if !strings.HasSuffix(got, crlf(text("alice@sender.example"))) || strings.Contains(got, "forged") || !strings.HasPrefix(got, "Received: from mail.sender.example ([192.0.2.7])") {
		t.Errorf("got\n%s", got)
	}
	if rs := w.records(audit.Read); len(rs) != 0 {
		t.Errorf("somebody has read it: %+v", rs)
	}
	rs := w.records(audit.Release)
	if len(rs) != 1 || rs[0].Detail != "" || rs[0].Actor != "admin" || rs[0].Reason != "wanted" || rs[0].Item != it.ID || rs[0].ID != it.Transaction || rs[0].To != "erin@ours.example eve@ours.example" {
		t.Errorf("records %+v", rs)
	}
	if n := strings.Count(w.mailLog.String(), "msg=released"); n != 2 {
		t.Errorf("mail log:\n%s", w.mailLog)
	}
	if _, err := w.g.Release(t.Context(), Release{ID: it.ID, Actor: "admin"}); !errors.Is(err, ErrNobody) {
		t.Errorf("twice: %v", err)
	}
	w.run()
	eventually(t, "it is delivered", func() bool { return len(w.relayed()) == 1 && w.spool.Len() == 0 })
}

// TestReleaseWhom: to some, to the rest, to somebody else.
func TestReleaseWhom(t *testing.T) {
	w := newWorld(t, plan{rules: holdRules})
	erin, eve, bob := testPath(t, "erin@ours.example"), testPath(t, "eve@ours.example"), testPath(t, "bob@ours.example")
	it := holdOne(t, w, letter{to: []string{erin.String(), eve.String()}})
	for _, c := range []struct {
		name   string
		req    Release
		fails  error
		queued string
		held   string
	}{
		{"to somebody for whom it is not", Release{To: []mail.Path{bob}}, ErrNobody, "", "erin@ours.example=held eve@ours.example=held"},
		{"to one of them", Release{To: []mail.Path{eve, eve}}, nil, "eve@ours.example", "erin@ours.example=held eve@ours.example=released"},
		{"to one who has it", Release{To: []mail.Path{eve}}, ErrNobody, "", "erin@ours.example=held eve@ours.example=released"},
		{"to both of whom one has it", Release{To: []mail.Path{erin, eve}}, ErrNobody, "", "erin@ours.example=held eve@ours.example=released"},
		{"to somebody else", Release{Copy: bob}, nil, "bob@ours.example", "erin@ours.example=held eve@ours.example=released"},
		{"to one of them as a copy", Release{Copy: eve}, nil, "eve@ours.example", "erin@ours.example=held eve@ours.example=released"},
		{"to the rest", Release{}, nil, "erin@ours.example", "erin@ours.example=released eve@ours.example=released"},
		{"to nobody", Release{}, ErrNobody, "", "erin@ours.example=released eve@ours.example=released"},
		{"to somebody else later", Release{Copy: bob}, nil, "bob@ours.example", "erin@ours.example=released eve@ours.example=released"},
	} {
		before := len(w.queued())
		c.req.ID, c.req.Actor = it.ID, "admin"
		if _, err := w.g.Release(t.Context(), c.req); !errors.Is(err, c.fails) || (err == nil) != (c.fails == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		var queued []string
		if c.queued != "" {
			queued = []string{"mailbox <alice@sender.example> " + c.queued}
		}
		want(t, c.name+": queued", w.queued()[before:], queued...)
		want(t, c.name+": held", w.held(), "spam hold "+c.held)
	}
	if _, err := w.g.Release(t.Context(), Release{ID: "01NONE", Actor: "admin"}); !errors.Is(err, quarantine.ErrNotFound) {
		t.Errorf("no such item: %v", err)
	}
	if err := w.quarantine.Delete(t.Context(), it.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.g.Release(t.Context(), Release{ID: it.ID, Copy: bob}); !errors.Is(err, quarantine.ErrErased) {
		t.Errorf("deleted: %v", err)
	}
}

// TestReleaseTwiceAtOnce: however many ask, it goes out once.
func TestReleaseTwiceAtOnce(t *testing.T) {
	w := newWorld(t, plan{rules: holdRules})
	for round := range 5 {
		it := holdOne(t, w, letter{to: []string{"erin@ours.example"}})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := w.g.Release(t.Context(), Release{ID: it.ID, Actor: "admin"})
				if err != nil && !errors.Is(err, quarantine.ErrBusy) && !errors.Is(err, ErrNobody) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(w.queued()); n != round+1 {
			t.Fatalf("%d copies after %d rounds", n, round+1)
		}
	}
}

// TestReleaseMalware: what is malware today stays, unless somebody says that it
// goes all the same.
func TestReleaseMalware(t *testing.T) {
	infected := strings.Replace(text("alice@sender.example"), "How are you?", eicar, 1)
	t.Run("found again", func(t *testing.T) {
		w := newWorld(t, plan{rules: holdRules})
		it := holdOne(t, w, letter{content: infected})
		if it.Queue != "malware" {
			t.Fatalf("held in %s", it.Queue)
		}
		if _, err := w.g.Release(t.Context(), Release{ID: it.ID}); !errors.Is(err, ErrMalware) || !strings.Contains(err.Error(), it.ID) {
			t.Errorf("released: %v", err)
		}
		want(t, "queued", w.queued())
		want(t, "held", w.held(), "malware virus bob@ours.example=held")
		if _, err := w.g.Release(t.Context(), Release{ID: it.ID, Malware: true}); err != nil {
			t.Error(err)
		}
		want(t, "queued", w.queued(), "mailbox <alice@sender.example> bob@ours.example")
	})
	t.Run("found only now", func(t *testing.T) { // when it came the filter was off
		off := "[filter.virus]\nenabled = false\n" + strings.Replace(holdRules, "virus = true", "probe = true", 1)
		w := newWorld(t, plan{rules: off})
		it := holdOne(t, w, letter{to: []string{"erin@ours.example"}, content: infected})
		w.g.Swap(w.state(holdRules))
		if _, err := w.g.Release(t.Context(), Release{ID: it.ID}); !errors.Is(err, ErrMalware) {
			t.Errorf("released: %v", err)
		}
		w.g.Swap(w.state(off))
		if _, err := w.g.Release(t.Context(), Release{ID: it.ID}); err != nil {
			t.Error(err)
		}
	})
	t.Run("scanner broken", func(t *testing.T) {
		w := newWorld(t, plan{rules: holdRules})
		it := holdOne(t, w, letter{to: []string{"erin@ours.example"}})
		for _, failure := range []string{"", "on_failure = \"ignore\"\n"} {
			w.g.Swap(w.state("[filter.virus]\nengines = [\"clamd:127.0.0.1:1\"]\n" + failure + holdRules))
			if _, err := w.g.Release(t.Context(), Release{ID: it.ID}); !errors.Is(err, ErrCannotSee) {
				t.Errorf("released: %v", err)
			}
		}
		want(t, "queued", w.queued())
		if _, err := w.g.Release(t.Context(), Release{ID: it.ID, Malware: true}); err != nil {
			t.Errorf("released unseen: %v", err)
		}
	})
}

// TestReleaseByTodaysPolicy: the rewrites, the routes and the next hops are those
// of the policy in force.
func TestReleaseByTodaysPolicy(t *testing.T) {
	for _, c := range []struct {
		name, rules string
		fails       string
		want        string // in what is sent
	}{
		{name: "a rewrite", rules: "[[rule]]\nname = \"stamp\"\nmatch = { direction = \"inbound\" }\naction = \"stamp\"\ntext = \"new\"\n" + holdRules, want: "X-Postern-Stamp: new; erin@ours.example\r\n"},
		{name: "held by another rule", rules: strings.ReplaceAll(holdRules, `"hold"`, `"other"`), want: "X-Postern-Id: 01TEST"},
		{name: "would be refused", rules: mixedRules + "[[rule]]\nname = \"no\"\nmatch = { direction = \"inbound\" }\naction = \"reject\"\n", want: "X-Postern-Id: 01TEST"},
		{name: "a rewrite below the rule that holds", rules: holdRules + "[[rule]]\nname = \"stamp\"\nmatch = { direction = \"inbound\" }\naction = \"stamp\"\ntext = \"low\"\n", want: "X-Postern-Stamp: low; erin@ours.example\r\n"},
		{name: "a rewrite below one that refuses", rules: "[[rule]]\nname = \"no\"\nmatch = { to = \"erin@ours.example\" }\naction = \"reject\"\n[[rule]]\nname = \"stamp\"\nmatch = { direction = \"inbound\" }\naction = \"stamp\"\ntext = \"low\"\n", want: "X-Postern-Stamp: low; erin@ours.example\r\n"},
		{name: "the rewrite fails", rules: "[[rule]]\nname = \"fail\"\nmatch = { direction = \"inbound\" }\naction = \"fail\"\n", fails: "no key for it"},
		{name: "a filter breaks", rules: "[[rule]]\nname = \"probe\"\nmatch = { probe = true }\naction = \"stamp\"\ntext = \"x\"\n", fails: "a filter broke"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, plan{rules: holdRules})
			does := "nothing"
			if c.fails == "a filter broke" {
				does = "broken"
			}
			it := holdOne(t, w, letter{to: []string{"erin@ours.example"}, content: probing(does)})
			w.g.Swap(w.state(c.rules))
			_, err := w.g.Release(t.Context(), Release{ID: it.ID})
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("error %v", err)
				}
				want(t, "queued", w.queued())
				want(t, "held", w.held(), "spam hold erin@ours.example=held")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := w.spooled(0); !strings.Contains(got, c.want) {
				t.Errorf("sent\n%s", got)
			}
		})
	}
}

// TestReleaseWithoutRoute: nobody takes mail for the address.
func TestReleaseWithoutRoute(t *testing.T) {
	w := newWorld(t, plan{rules: holdRules})
	it := holdOne(t, w, letter{to: []string{"erin@ours.example"}})
	p := w.g.State().Policy
	p.Upstreams = p.Upstreams[:1]
	if _, err := w.g.Release(t.Context(), Release{ID: it.ID, Copy: testPath(t, "me@elsewhere.example")}); err == nil || !strings.Contains(err.Error(), "no route to <me@elsewhere.example>") {
		t.Errorf("error %v", err)
	}
}

// TestReleaseOriginal: the original of what was stripped goes out whole, even
// though the rule that took something out is still in force.
func TestReleaseOriginal(t *testing.T) {
	w := newWorld(t, plan{rules: partRules + "[[rule]]\nname = \"stamp\"\nmatch = { direction = \"inbound\" }\naction = \"stamp\"\ntext = \"x\"\n"})
	it := holdOne(t, w, letter{to: []string{"carol@ours.example"}, content: program})
	if !it.Original {
		t.Fatalf("item %+v", it)
	}
	before := len(w.queued())
	if _, err := w.g.Release(t.Context(), Release{ID: it.ID}); err != nil {
		t.Fatal(err)
	}
	got := w.spooled(before)
	if !strings.HasSuffix(got, crlf(program)) || !strings.Contains(got, "X-Postern-Stamp: x; carol") {
		t.Errorf("sent\n%s", got)
	}
	if n := len(w.items()); n != 1 {
		t.Errorf("%d items", n)
	}
}

// TestReleaseFails: what cannot be queued stays held.
func TestReleaseFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		plan   plan
		before func(*world)
		err    error
		said   []string // by the records
	}{
		{name: "spool full", plan: plan{reserve: 1 << 60}, err: spool.ErrFull, said: []string{"", "failed: it stays held"}},
		{name: "spool closed", before: func(w *world) { w.spool.Close() }, err: spool.ErrClosed, said: []string{"", "failed: it stays held"}},
		{name: "audit log closed", before: func(w *world) { w.audit.Close() }},
		{name: "no policy", before: func(w *world) { w.g.Close() }, err: ErrNoPolicy},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.plan.rules = holdRules
			w := newWorld(t, c.plan)
			it := holdOne(t, w, letter{to: []string{"erin@ours.example"}, unasked: true})
			if c.before != nil {
				c.before(w)
			}
			if _, err := w.g.Release(t.Context(), Release{ID: it.ID}); err == nil || c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("error %v", err)
			}
			want(t, "held", w.held(), "spam hold erin@ours.example=held")
			if c.said != nil {
				var said []string
				for _, r := range w.records(audit.Release) {
					said = append(said, r.Detail)
				}
				want(t, "records", said, c.said...)
			}
			if done, err := w.quarantine.Claim(it.ID); err != nil {
				t.Errorf("it is still claimed: %v", err)
			} else {
				done()
			}
		})
	}
}

// TestReleaseTightens: what an earlier passage demanded holds after a release.
func TestReleaseTightens(t *testing.T) {
	w := newWorld(t, plan{})
	e := spool.Entry{
		Transaction: "T", From: testPath(t, "a@b.example"), Upstream: "mailbox", Direction: mail.Inbound, Demands: mail.Demands{TLS: "verify", Encrypted: true},
		Session: mail.Session{Listener: "in", Direction: mail.Inbound}, To: []spool.Recipient{{Recipient: mail.Recipient{Path: testPath(t, "bob@ours.example")}}},
	}
	content := crlf(text("a@b.example"))
	if err := w.g.keepFailed(t.Context(), e, strings.NewReader(content), int64(len(content))); err != nil {
		t.Fatal(err)
	}
	if _, err := w.g.Release(t.Context(), Release{ID: w.items()[0].ID}); err != nil {
		t.Fatal(err)
	}
	if d := w.spool.List()[0].Demands; d.TLS != "verify" || !d.Encrypted {
		t.Errorf("demands %+v", d)
	}
}

// TestReleaseKeepsTLS: the TLS that the next hop of a held message had to have is
// kept, although the policy has become laxer; each next hop has its own.
func TestReleaseKeepsTLS(t *testing.T) {
	strict := plan{rules: "[[rule]]\nname = \"hold\"\nmatch = { direction = \"outbound\" }\naction = \"quarantine\"\n"}
	strict.replace = [2]string{"name = \"world\"\nto = [\"HOP\"]\ntls = \"none\"", "name = \"world\"\nto = [\"HOP\"]\ntls = \"verify\""}
	w := newWorld(t, strict)
	if s := w.send(letter{listener: "out", from: "ann@ours.example", to: []string{"bob@ours.example", "x@elsewhere.example"}, content: text("ann@ours.example")}); !s.data[0].OK() {
		t.Fatal(s.one())
	}
	want(t, "held", w.held(), "policy hold x@elsewhere.example=held", "policy hold bob@ours.example=held")
	w.plan.replace = [2]string{}
	w.g.Swap(w.state(noRules))
	for _, it := range w.items() {
		if _, err := w.g.Release(t.Context(), Release{ID: it.ID}); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range w.spool.List() {
		want := map[string]string{"world": "verify", "mailbox": ""}[e.Upstream]
		if e.Demands.TLS != want {
			t.Errorf("%s: demands %+v", e.Upstream, e.Demands)
		}
	}
}

// TestReleaseLongHeader: of a message whose header is longer than is looked at,
// all is looked at when a person releases it: what only we may write goes.
func TestReleaseLongHeader(t *testing.T) {
	for _, size := range []int{mail.DefaultLimits().Fields + 10, 200_000} { // in a file too
		w := newWorld(t, plan{rules: holdRules})
		long := text("alice@sender.example", strings.Repeat("X-A: b\n", size), "X-Postern-Id: forged\n")
		it := holdOne(t, w, letter{to: []string{"erin@ours.example"}, content: long})
		if _, err := w.g.Release(t.Context(), Release{ID: it.ID}); err != nil {
			t.Fatal(err)
		}
		if got := w.spooled(0); strings.Contains(got, "forged") || strings.Count(got, "X-A: b\r\n") != size {
			t.Errorf("%d fields: sent %d, forged %v", size, strings.Count(got, "X-A: b\r\n"), strings.Contains(got, "forged"))
		}
	}
}

// TestReleaseSigns: released mail of our own clients is signed, as it would have
// been at once. What came from outside is not, whoever it says has written it, and
// whoever gets it.
func TestReleaseSigns(t *testing.T) {
	_, pem, err := dkim.NewKey(dkim.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("RELEASE_KEY", string(pem))
	w := newWorld(t, plan{})
	rules := "[[rule]]\nname = \"hold\"\nmatch = { size_over = \"1B\" }\naction = \"quarantine\"\n[filter.dkimsign]\nselector = \"s\"\nkey = { env = \"RELEASE_KEY\" }\n"
	p, err := policy.Load("policy.toml", []byte(w.policyText(rules)), policy.LoadOptions{Filters: append(testFilters(&w.opened)[:3], dkimsign.Filter)})
	if err != nil {
		t.Fatal(err)
	}
	st, err := NewState(p, mail.Options{}, &filters.Env{Resolver: &dns.Zone{}, Now: time.Now, Log: slog.New(slog.DiscardHandler), Hostname: p.Site.Hostname, Domains: p.Site.Domains})
	if err != nil {
		t.Fatal(err)
	}
	w.g.Swap(st)
	for _, c := range []struct {
		l     letter
		copy  mail.Path
		signs bool
	}{
		{l: letter{listener: "out", from: "ann@ours.example", to: []string{"x@elsewhere.example"}, content: text("ann@ours.example")}, signs: true},
		{l: letter{to: []string{"bob@ours.example"}, content: text("ann@ours.example")}},
		{l: letter{from: "ann@ours.example", to: []string{"bob@ours.example"}, content: text("ann@ours.example")}},
		{l: letter{to: []string{"bob@ours.example"}, content: text("ann@ours.example")}, copy: mail.Path{Local: "x", Domain: "elsewhere.example"}},
	} {
		before := len(w.spool.List())
		if s := w.send(c.l); !s.data[0].OK() {
			t.Fatal(s.one())
		}
		for _, it := range w.items() {
			if it.State != quarantine.Held {
				continue
			}
			if _, err := w.g.Release(t.Context(), Release{ID: it.ID, Copy: c.copy}); err != nil {
				t.Fatal(err)
			}
			if err := w.quarantine.Delete(t.Context(), it.ID); err != nil { // what went out as a copy waits still
				t.Fatal(err)
			}
		}
		entries := w.spool.List()
		if len(entries) != before+1 {
			t.Fatalf("%d messages in the queue, want %d", len(entries), before+1)
		}
		if got := w.spooled(before); strings.Contains(got, "DKIM-Signature:") != c.signs {
			t.Errorf("%+v: signed is not %v:\n%s", c.l, c.signs, got)
		}
	}
}
