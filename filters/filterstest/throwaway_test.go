package filterstest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/dns"
	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

// Four filters that are of no use but to prove the interfaces: one needs DNS,
// one reads parts, one needs the verdicts of others, one rewrites.

var blocklist = &filters.Filter{
	Name: "blocklist", Doc: "looks the client up in a list in DNS", Stage: filters.Connect,
	Symbols: []filters.SymbolDoc{
		{Name: "BLOCKLIST_HIT", Score: 4, Doc: "The client is on a list.", DocFR: "Le client est sur une liste."},
		{Name: "BLOCKLIST_TEMPERROR", Doc: "The list could not be asked.", DocFR: "La liste n’a pas répondu."},
	},
	Keys: []filters.MatchKey{{
		Name: "blocklist", Doc: "the client is on the list", Say: [2]string{"from a listed client: %s", "d’un client listé : %s"},
		Kind: filters.KeyBool, Symbols: []string{"BLOCKLIST_HIT"},
	}},
	New: func() filters.Checker { return &lookup{Zone: "bl.example"} },
}

type lookup struct {
	Zone     string `toml:"zone" doc:"where the list is"`
	resolver dns.Resolver
}

func (l *lookup) Open(_ context.Context, env *filters.Env) error {
	if l.resolver = env.Resolver; l.resolver == nil {
		return errors.New("no resolver")
	}
	return nil
}

func (l *lookup) Check(ctx context.Context, tx *mail.Transaction, _ filters.Results) (v filters.Verdict, err error) {
	a := tx.Client.Addr()
	if !a.Is4() {
		return v, nil
	}
	b := a.As4()
	_, err = l.resolver.A(ctx, fmt.Sprintf("%d.%d.%d.%d.%s", b[3], b[2], b[1], b[0], l.Zone))
	switch {
	case err == nil:
		v.Symbols = []filters.Symbol{{Name: "BLOCKLIST_HIT", Evidence: a.String()}}
	case !errors.Is(err, dns.ErrNotFound): // a temporary error is a verdict
		v.Symbols = []filters.Symbol{{Name: "BLOCKLIST_TEMPERROR"}}
	}
	v.Auth = []mail.AuthResult{{Method: "iprev", Value: "none"}}
	return v, nil
}

var words = &filters.Filter{
	Name: "words", Doc: "looks for words in the text of parts", Stage: filters.Data, Scoring: true,
	Symbols: []filters.SymbolDoc{{Name: "WORDS_FOUND", Score: 2, Doc: "A part holds a word.", DocFR: "Une partie contient un mot."}},
	Keys: []filters.MatchKey{{
		Name: "word", Doc: "a part holds the word", Say: [2]string{"with the word %s", "avec le mot %s"},
		Kind: filters.KeyName, Symbols: []string{"WORDS_FOUND"},
	}},
	New: func() filters.Checker { return &search{Words: []string{"secret"}} },
}

type search struct {
	Words []string `toml:"words" doc:"what to look for"`
}

func (s *search) Check(_ context.Context, tx *mail.Transaction, _ filters.Results) (v filters.Verdict, err error) {
	for _, p := range tx.Message.Parts() {
		for _, w := range s.Words {
			if strings.Contains(p.Text(), w) {
				v.Symbols = append(v.Symbols, filters.Symbol{Name: "WORDS_FOUND", Part: p.ID(), Label: w, Evidence: w})
			}
		}
	}
	return v, tx.Message.Err()
}

var both = &filters.Filter{
	Name: "both", Doc: "tells when a listed client uses such words", Stage: filters.Data, Requires: []string{"blocklist", "words"},
	Symbols: []filters.SymbolDoc{{Name: "BOTH", Score: 3, Doc: "A listed client uses such words.", DocFR: "Un client listé emploie ces mots."}},
	New:     func() filters.Checker { return &combine{} },
}

type combine struct{}

func (*combine) Check(_ context.Context, _ *mail.Transaction, in filters.Results) (v filters.Verdict, err error) {
	if len(in.Find("BLOCKLIST_HIT")) > 0 && len(in.Find("WORDS_FOUND")) > 0 {
		v.Symbols = []filters.Symbol{{Name: "BOTH"}}
	}
	return v, nil
}

var stamp = &filters.Filter{
	Name: "stamp", Doc: "stamps messages", Stage: filters.Data, NoScan: true,
	Actions: []filters.ActionDoc{{
		Name: "stamp", Doc: "adds a stamp", Say: [2]string{"stamp it", "le tamponner"}, New: func() any { return &ink{Colour: "blue"} },
	}},
	New: func() filters.Checker { return &stamper{} },
}

type ink struct {
	Colour string `toml:"colour" doc:"of the stamp"`
}

type stamper struct{}

func (*stamper) Check(context.Context, *mail.Transaction, filters.Results) (filters.Verdict, error) {
	return filters.Verdict{}, nil
}

func (*stamper) Rewrite(_ context.Context, in filters.RewriteInput) (*mail.Message, error) {
	e := in.Message.Edit()
	e.Prepend(mail.FoldField("X-Stamp", in.With.(*ink).Colour))
	return e.Message()
}

func zone(t *testing.T) *filters.Env {
	z, err := dns.ParseZone([]byte(`{"7.2.0.192.bl.example": {"A": ["127.0.0.2"]}, "8.2.0.192.bl.example": {"!": "servfail"}}`))
	if err != nil {
		t.Fatal(err)
	}
	return &filters.Env{Resolver: z, Log: slog.New(slog.DiscardHandler)}
}

func TestThrowAway(t *testing.T) {
	env := zone(t)
	filterstest.Run(t, blocklist, filterstest.Options{Env: env})
	filterstest.Run(t, words, filterstest.Options{Settings: `words = ["text", "body"]`})
	filterstest.Run(t, both, filterstest.Options{Needs: filters.Results{{Filter: "blocklist"}, {Filter: "words"}}})
	filterstest.Run(t, stamp, filterstest.Options{})

	var c filters.Chain
	for _, f := range []*filters.Filter{blocklist, words, both, stamp} {
		if err := c.Link(f, f.New(), filters.LinkSettings{Scores: map[string]float64{"BOTH": 7}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Open(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	tx := filterstest.Transaction(filterstest.Message("From: a@b.example\n\nIt is secret.\n", mail.Options{}))
	early := c.CheckStage(t.Context(), filters.Connect, &mail.Transaction{Session: tx.Session}, nil)
	rs := c.CheckStage(t.Context(), filters.Data, tx, early)
	var got []string
	score := 0.0
	for _, r := range rs {
		for _, s := range r.Verdict.Symbols {
			got = append(got, s.Name)
			score += s.Score
		}
	}
	if diff := cmp.Diff([]string{"BLOCKLIST_HIT", "WORDS_FOUND", "BOTH"}, got); diff != "" || score != 13 {
		t.Errorf("score %v %s", score, diff)
	}
	m, err := c.Rewrite(t.Context(), "stamp", filters.RewriteInput{Tx: tx, Results: rs, Action: "stamp", With: stamp.Actions[0].New(), Message: tx.Message})
	if err != nil || m.Header().Get("X-Stamp") != "blue" || tx.Message.Header().Has("X-Stamp") {
		t.Errorf("%v", err)
	}
}

// TestTemporaryError checks that a DNS server which fails is a verdict.
func TestTemporaryError(t *testing.T) {
	c := filterstest.New(t, blocklist, filterstest.Options{Env: zone(t)})
	tx := filterstest.Transaction(filterstest.Message("\nx\n", mail.Options{}))
	session := *tx.Session
	session.Client = mustAddr("192.0.2.8:25")
	tx.Session = &session
	if diff := cmp.Diff([]string{"BLOCKLIST_TEMPERROR"}, filterstest.Names(filterstest.Check(t, c, tx))); diff != "" {
		t.Error(diff)
	}
}
