package gateway

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"postern/filters"
	"postern/mail"
)

const probeRules = `
[[rule]]
name = "trust-bob"
match = { to = "bob@ours.example" }
action = "accept"
[[rule]]
name = "probe"
match = { probe = true }
action = "quarantine"
queue = "spam"
`

// TestBrokenFilter: a filter that breaks puts off only those whose fate rests on
// it.
func TestBrokenFilter(t *testing.T) {
	for _, c := range []struct {
		probe  string
		settle string // on_failure
		reply  [2]int // bob, carol
	}{
		{"hit", "", [2]int{250, 250}},
		{"nothing", "", [2]int{250, 250}},
		{"broken", "", [2]int{250, 451}},
		{"panic", "", [2]int{250, 451}},
		{"slow", "", [2]int{250, 451}},
		{"broken", "ignore", [2]int{250, 250}},
		{"panic", "ignore", [2]int{250, 250}},
	} {
		t.Run(c.probe+" "+c.settle, func(t *testing.T) {
			t.Parallel()
			p := plan{rules: probeRules}
			if c.settle != "" {
				p.replace = [2]string{`timeout = "200ms"`, "timeout = \"200ms\"\non_failure = \"" + c.settle + `"`}
			}
			w := newWorld(t, p)
			s := w.send(letter{listener: "lmtp", to: []string{"bob@ours.example", "carol@ours.example"}, content: probing(c.probe)})
			for i, code := range c.reply {
				if s.data[i].Code != code {
					t.Errorf("recipient %d is told %s", i, s.data[i])
				}
			}
			if c.probe == "hit" {
				want(t, "held", w.held(), "spam probe carol@ours.example=held")
			}
			if broke := strings.Contains(w.log.String(), "filter broke"); broke != (c.probe != "hit" && c.probe != "nothing") {
				t.Errorf("the log:\n%s", w.log)
			}
			if strings.Contains(s.data[1].Text, "probe") {
				t.Errorf("the client is told too much: %s", s.data[1])
			}
			one := w.send(letter{to: []string{"bob@ours.example", "carol@ours.example"}, content: probing(c.probe)})
			if one.data[0].Code != c.reply[1] {
				t.Errorf("in SMTP both are told %s", one.one())
			}
		})
	}
}

// TestLingeringFilter: the memory of a message that a filter may still be
// reading is not given to other mail. A file is removed all the same.
func TestLingeringFilter(t *testing.T) {
	for _, c := range []struct {
		probe    string
		size     int
		code     int
		readable bool
	}{
		{"stuck", 100, 451, true}, {"slow", 100, 451, true}, {"broken", 100, 451, false}, {"nothing", 100, 250, false}, {"slow", 300_000, 451, false},
	} {
		t.Run(fmt.Sprint(c.probe, c.size), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, plan{rules: probeRules})
			s := w.begin(letter{})
			s.tx.Recipients = []mail.Recipient{{Path: testPath(t, "carol@ours.example")}}
			body := w.spool.Buffer()
			if _, err := io.WriteString(body, crlf(probing(c.probe)+strings.Repeat("text\n", c.size/5))); err != nil {
				t.Fatal(err)
			}
			if r := w.g.Data(t.Context(), s.tx, body); r[0].Code != c.code {
				t.Errorf("told %s", r[0])
			}
			if _, err := body.ReaderAt().ReadAt(make([]byte, 10), 0); (err == nil) != c.readable {
				t.Errorf("reading it afterwards: %v", err)
			}
			time.Sleep(time.Duration(c.code-250) * time.Millisecond) // as long as the filter reads on
		})
	}
}

// TestRewrites: a rewrite that fails puts off its copy; nobody gets the original
// instead.
func TestRewrites(t *testing.T) {
	for _, action := range []string{"fail", "burst"} {
		w := newWorld(t, plan{rules: `
[[rule]]
name = "rewrite"
match = { to = "carol@ours.example" }
action = "` + action + `"
`})
		s := w.send(letter{to: []string{"carol@ours.example"}})
		if !strings.HasPrefix(s.one(), "451 4.3.0") || strings.Contains(s.one(), "key") {
			t.Errorf("%s: told %s", action, s.one())
		}
		if log := w.log.String(); !strings.Contains(log, "rewrite "+action) {
			t.Errorf("%s: the log knows nothing:\n%s", action, log)
		}
		s = w.send(letter{to: []string{"bob@ours.example", "carol@ours.example"}})
		if !s.data[0].Temporary() {
			t.Errorf("%s: told %s", action, s.one())
		}
		want(t, "relayed", w.relayed())
		want(t, "queued", w.queued())
		s = w.send(letter{to: []string{"bob@ours.example", "carol@ours.example"}, listener: "lmtp"})
		if !s.data[0].OK() || !s.data[1].Temporary() {
			t.Errorf("%s: told %s and %s", action, s.data[0], s.data[1])
		}
		want(t, "relayed", w.relayed(), "<alice@sender.example> bob@ours.example")
	}
}

// TestRewriteOrder: actions are done in the order of the filters, on top of each
// other, trace fields last.
func TestRewriteOrder(t *testing.T) {
	w := newWorld(t, plan{rules: `
[[rule]]
name = "tag"
match = { direction = "inbound" }
action = "tag"
subject = "[x] "
[[rule]]
name = "stamp"
match = { direction = "inbound" }
action = "stamp"
text = "one"
[[rule]]
name = "stamp again"
match = { direction = "inbound" }
action = "stamp"
text = "two"
`})
	top, rest := relayedContent(t, w, letter{})
	if !strings.HasPrefix(top, "Received: ") || strings.Count(top, "\r\nX-Postern-") != 1 {
		t.Errorf("on top:\n%s", top)
	}
	expected := crlf("X-Postern-Stamp: two; bob@ours.example\nX-Postern-Stamp: one; bob@ours.example\n" + strings.Replace(text("alice@sender.example"), "Subject: ", "Subject: [x] ", 1))
	if rest != expected {
		t.Errorf("got %q\nwant %q", rest, expected)
	}
	if f := w.outcome.Copies[0].Fields; len(f) != 2 || f[0]+f[1] != top {
		t.Errorf("the outcome tells %q", f)
	}
}

// TestWatch: the first day nothing happens but what would.
func TestWatch(t *testing.T) {
	w := newWorld(t, plan{rules: probeRules + mixedRules, replace: [2]string{"version = 1", "version = 1\nmode = \"watch\""}})
	for _, c := range []struct{ to, probe, would string }{
		{"carol@ours.example", "nothing", "reject not-carol"},
		{"erin@ours.example", "nothing", "quarantine hold-erin"},
		{"gina@ours.example", "hit", "quarantine probe"},
		{"gina@ours.example", "nothing", ""},
	} {
		s := w.send(letter{to: []string{c.to}, content: probing(c.probe)})
		if !s.data[0].OK() {
			t.Errorf("%s: told %s", c.to, s.one())
		}
		would := ""
		if d := w.outcome.Decisions[0]; d.Would != nil {
			would = d.Would.String() + " " + d.WouldRule
		}
		if would != c.would {
			t.Errorf("%s: would %q", c.to, would)
		}
	}
	if len(w.relayed()) != 4 || len(w.held()) != 0 {
		t.Errorf("relayed %q, held %q", w.relayed(), w.held())
	}
	if !strings.Contains(w.mailLog.String(), `would="reject not-carol"`) {
		t.Errorf("mail log:\n%s", w.mailLog)
	}
}

// TestStrip: what was taken out is kept, and nothing but that is taken out.
func TestStrip(t *testing.T) {
	w := newWorld(t, plan{rules: partRules})
	s := w.send(letter{to: []string{"carol@ours.example", "bob@ours.example"}, content: program})
	if !s.data[0].OK() {
		t.Fatalf("told %s", s.one())
	}
	want(t, "held", w.held(), "policy default original carol@ours.example=held")
	want(t, "queued", w.queued(), "mailbox <alice@sender.example> carol@ours.example", "mailbox <alice@sender.example> bob@ours.example")
	stripped, whole := w.spooled(0), w.spooled(1)
	if strings.Contains(stripped, "TVqQ") || !strings.Contains(stripped, "Here it is.") || !strings.Contains(stripped, "Id: "+s.tx.ID) {
		t.Errorf("carol gets\n%s", stripped)
	}
	if !strings.HasSuffix(whole, crlf(program)) {
		t.Errorf("bob gets\n%s", whole)
	}
	it := w.items()[0]
	if len(it.Attachments) != 1 || it.Attachments[0].Name != "tool.exe" || it.Attachments[0].Size != 32 || it.Transaction != s.tx.ID {
		t.Errorf("item %+v", it)
	}
	if f := w.fates; f[0].Status != "queued" || f[0].Held != it.ID || f[1].Held != "" {
		t.Errorf("fates %+v", f)
	}
}

// TestHeldItem is what a reviewer is shown.
func TestHeldItem(t *testing.T) {
	w := newWorld(t, plan{rules: probeRules})
	s := w.send(letter{to: []string{"carol@ours.example", "postmaster"}, content: probing("hit")})
	it := w.items()[0]
	if it.Queue != "spam" || it.Rule != "probe" || it.Transaction != s.tx.ID || it.Subject != "hello" || it.Author.String() != "alice@sender.example" || it.AuthorName != "Alice" ||
		it.MessageID != "<1@x.example>" || it.Session.Client != s.tx.Client || it.Policy != w.g.State().Policy.Hash || it.Score < 4 || it.Original ||
		it.To[1].Path.String() != "postmaster@ours.example" || !strings.Contains(it.Why, "probe") {
		t.Errorf("item %+v", it)
	}
	found := false
	for _, sym := range it.Symbols {
		found = found || sym.Name == "PROBE_HIT" && sym.Evidence == "it says so"
	}
	if !found {
		t.Errorf("symbols %v", it.Symbols)
	}
	rs := w.records("verdict")
	if len(rs) != 2 || rs[0].Item != it.ID || rs[0].Disposition != "quarantine" || rs[0].Queue != "spam" || rs[0].Symbols[0] != "PROBE_HIT" {
		t.Errorf("records %+v", rs)
	}
	if _, err := w.audit.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestSymbolsOfRecipient: the log of one recipient does not speak of another.
func TestSymbolsOfRecipient(t *testing.T) {
	bob, carol := testPath(t, "bob@ours.example"), testPath(t, "carol@ours.example")
	out := &Outcome{Results: filters.Results{
		{Verdict: filters.Verdict{Symbols: []filters.Symbol{{Name: "A"}, {Name: "B", To: bob}, {Name: "A", Part: "1"}}}},
		{Err: errors.New("broke")},
		{Verdict: filters.Verdict{Symbols: []filters.Symbol{{Name: "C", To: carol}}}},
	}}
	for to, names := range map[mail.Path]string{bob: "A B", carol: "A C"} {
		if got := strings.Join(symbolNames(out, to), " "); got != names {
			t.Errorf("%s: %s", to, got)
		}
	}
}

// TestJudgeHasNoSideEffect: explain and the policy's tests judge without
// anything that could be changed.
func TestJudgeHasNoSideEffect(t *testing.T) {
	w := newWorld(t, plan{rules: partRules})
	bare := New(Options{}, w.state(partRules))
	defer bare.Close()
	s := w.begin(letter{})
	w.g.Abort(s.tx)
	for _, to := range []string{"erin@ours.example", "carol@ours.example", "bob@ours.example"} {
		s.tx.Recipients = append(s.tx.Recipients, mail.Recipient{Path: testPath(t, to)})
	}
	s.tx.Message = mail.ParseBytes([]byte(crlf(program)), bare.State().Parse)
	bare.Begin(s.tx)
	defer bare.Abort(s.tx)
	out := bare.Judge(t.Context(), s.tx)
	if len(out.Decisions) != 3 || len(out.Copies) != 3 || out.failure() != nil {
		t.Errorf("outcome %+v", out)
	}
	if raw, ok := out.Copies[0].Message.Bytes(); !ok || string(raw) != crlf(program) {
		t.Error("what is held is not what was received")
	}
}
