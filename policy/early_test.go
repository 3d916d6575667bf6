package policy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/filters"
	"postern/mail"
)

func TestEarly(t *testing.T) {
	p := load(t, `
[[rule]]
name = "tag"
match = { subject = "x" }
action = "tag"
[[rule]]
name = "blocked"
match = { reverse_path = "@sender.example", to = "bob@example.org" }
action = "reject"
reply = "550 5.7.1 {reverse_path.domain} may not write to {to}"
[[rule]]
name = "listed"
match = { listed = true, to = "carol@example.org" }
action = "defer"
[[rule]]
name = "virus"
match = { virus = true }
action = "quarantine"
[[rule]]
name = "late"
match = { to = "dave@example.org" }
action = "reject"
`)
	tx := mailTo("", "bob@example.org", "carol@example.org", "dave@example.org")
	tx.Message = nil
	connect := filters.Results{ran("LISTED")[0]}
	for _, c := range []struct {
		name, to string
		stage    filters.Stage
		rs       filters.Results
		want     string
	}{
		{"at RCPT", "bob@example.org", filters.Rcpt, connect, "reject blocked"},
		{"at MAIL the recipient is not known", "bob@example.org", filters.Mail, connect, ""},
		{"by a symbol", "carol@example.org", filters.Rcpt, connect, "defer listed"},
		{"its filter did not run", "carol@example.org", filters.Rcpt, nil, ""},
		{"its filter broke", "carol@example.org", filters.Rcpt, filters.Results{ran("!blocklist")[0]}, "defer listed"},
		{"a rule above may hold it", "dave@example.org", filters.Rcpt, connect, ""},
		{"at DATA it is Decide's turn", "bob@example.org", filters.Data, ran(), ""},
	} {
		d, ok := p.Early(c.stage, tx, path0(c.to), c.rs)
		got := ""
		if ok {
			got = d.Disposition.String() + " " + d.Rule
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	d, _ := p.Early(filters.Rcpt, tx, path0("bob@example.org"), connect)
	if got := d.Reply.String(); got != "550 5.7.1 sender.example may not write to bob@example.org" {
		t.Errorf("reply %q", got)
	}
}

// TestEarlyIsDecide makes random policies and transactions: what Early says,
// Decide says too.
func TestEarlyIsDecide(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	early, rounds := 0, 1500
	if underRace {
		rounds = 500
	}
	for round := range rounds {
		text := randomRules(rng)
		p, err := Load("p.toml", []byte(fakeHead+text), fakeOptions())
		if err != nil {
			continue // shadowed: fine
		}
		tx := mailTo("From: a@sender.example\nSubject: "+pick(rng, "x", "y"), "bob@example.org", "carol@example.org", "dave@example.org")
		tx.ReversePath = path0(pick(rng, "a@sender.example", "b@other.example"))
		var symbols []string
		for _, s := range []string{"LISTED", "VIRUS_FOUND", "KIND_EXE", "SPAMMY", "DMARC_PASS", "!virus", "!blocklist", "!spam", "?kinds"} {
			if rng.IntN(4) == 0 {
				symbols = append(symbols, s)
			}
		}
		all := ran(symbols...)
		whole := p.Decide(tx, all)
		before := *tx
		before.Message = nil
		var known filters.Results
		for _, r := range all {
			if r.Filter == "blocklist" {
				known = append(known, r)
			}
		}
		for i, to := range tx.Recipients {
			d, ok := p.Early(filters.Rcpt, &before, to.Path, known)
			if !ok {
				continue
			}
			early++
			want := whole[i]
			ignore := func(d Decision) Decision {
				d.Trace, d.Score, d.Would, d.WouldRule, d.Watched = nil, 0, nil, "", nil
				return d
			}
			if diff := cmp.Diff(ignore(want), ignore(d), cmp.AllowUnexported(Action{})); diff != "" {
				t.Fatalf("round %d, %s, %v:\n%s\n%s", round, to.Path, symbols, text, diff)
			}
		}
	}
	t.Logf("%d decisions came early", early)
	if early < rounds/15 {
		t.Errorf("only %d decisions came early", early)
	}
}

func pick(rng *rand.Rand, words ...string) string { return words[rng.IntN(len(words))] }

// randomRules writes a few rules out of pieces.
func randomRules(rng *rand.Rand) string {
	conds := []string{
		`reverse_path = "@sender.example"`, `to = "bob@example.org"`, `to = ["carol@example.org", "dave@example.org"]`, `listed = true`, `listed = false`,
		`virus = true`, `subject = "x"`, `from = "@sender.example"`, `score_at_least = 5`, `attachment = "executable"`, `tls = false`, `any_to = "dave@example.org"`,
		`symbol = ["LISTED", "SPAMMY"]`, `party = "bob@example.org"`, `client = "203.0.113.0/24"`,
	}
	actions := []string{
		`action = "reject"`, `action = "reject"`, `action = "defer"`, `action = "quarantine"`, `action = "discard"`, `action = "accept"`, `action = "tag"`, `action = "strip"`,
		"action = \"skip\"\nfilters = [\"blocklist\", \"spam\"]", "action = \"journal\"\ncopy_to = \"j@x.example\"",
		"action = \"notify\"\nnotify = \"admin\"", "action = \"reject\"\nreply = \"550 5.7.1 {from} {to}\"", "action = \"tag\"\nmode = \"watch\"", "action = \"reject\"\nmode = \"watch\"",
		"action = \"reject\"\nnotify = \"officer\"", "action = \"reject\"\nexpires = 2026-05-01",
	}
	table := func(key string, n int) string {
		chosen := map[string]string{}
		for range n {
			c := pick(rng, conds...)
			name, _, _ := strings.Cut(c, " ")
			chosen[name] = c
		}
		var parts []string
		for _, name := range sortedKeys(chosen) {
			parts = append(parts, chosen[name])
		}
		return key + " = { " + strings.Join(parts, ", ") + " }\n"
	}
	var b strings.Builder
	for i := range 1 + rng.IntN(5) {
		fmt.Fprintf(&b, "[[rule]]\nname = \"r%d\"\n", i)
		b.WriteString(table("match", 1+rng.IntN(2)))
		if rng.IntN(3) == 0 {
			b.WriteString(table("except", 1+rng.IntN(2)))
		}
		b.WriteString(pick(rng, actions...) + "\n")
	}
	return b.String()
}

func TestBifurcate(t *testing.T) {
	p := load(t, `
[[rule]]
name = "strip-a"
match = { attachment = "executable", to = ["a@example.org", "b@example.org"] }
action = "strip"
[[rule]]
name = "strip-c"
match = { attachment = "executable", to = "c@example.org" }
action = "strip"
[[rule]]
name = "tag"
match = { to = "d@example.org" }
action = "tag"
subject = "x"
[[rule]]
name = "journal"
match = { to = "e@example.org" }
action = "journal"
copy_to = ["j@archive.example", "j@archive.example"]
[[rule]]
name = "no"
match = { to = ["f@example.org", "g@example.org"] }
action = "reject"
reply = "550 5.7.1 not {to}"
[[rule]]
name = "hold"
match = { to = ["h@example.org", "i@example.org"] }
action = "quarantine"
queue = "spam"
`)
	tx := mailTo("", "a@example.org", "x@example.org", "c@example.org", "b@example.org", "d@example.org", "e@example.org", "f@example.org", "g@example.org", "h@example.org", "y@other.example", "i@example.org")
	copies := Bifurcate(p.Decide(tx, ran("KIND_EXE@2")), func(to mail.Path) string { return to.Domain })
	var got []string
	for _, c := range copies {
		var to, actions []string
		for _, r := range c.Recipients {
			to = append(to, r.Local)
		}
		for _, a := range c.Actions {
			actions = append(actions, fmt.Sprint(a.Name, a.Parts))
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s%s %s%v", c.Disposition, strings.Join(to, "+"), c.Upstream, c.Queue, strings.Join(actions, " "), c.Journal)))
	}
	want := []string{
		"relay a+c+b example.org strip[2][]",
		"relay x example.org []",
		"relay d example.org tag[][]",
		"relay e example.org [j@archive.example]",
		"reject f  []",
		"reject g  []",
		"quarantine h+i example.orgspam []", // so that a release knows their next hop
		"relay y other.example []",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(Bifurcate(nil, nil)); n != 0 {
		t.Errorf("%d copies of nothing", n)
	}
}
