package filterstest_test

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

func mustAddr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// A bad filter breaks one law each.
func badFilters() map[string]*filters.Filter {
	doc := filters.SymbolDoc{Name: "BAD", Doc: "It is a bad filter.", DocFR: "C’est un mauvais filtre."}
	with := func(check func(context.Context, *mail.Transaction) (filters.Verdict, error), change func(*filters.Filter)) *filters.Filter {
		f := &filters.Filter{Name: "bad", Doc: "breaks a law", Symbols: []filters.SymbolDoc{doc}, New: func() filters.Checker { return &bad{check: check} }}
		if change != nil {
			change(f)
		}
		return f
	}
	say := func(s filters.Symbol) func(context.Context, *mail.Transaction) (filters.Verdict, error) {
		return func(context.Context, *mail.Transaction) (filters.Verdict, error) {
			return filters.Verdict{Symbols: []filters.Symbol{s}}, nil
		}
	}
	var calls atomic.Int64
	quiet := say(filters.Symbol{Name: "BAD"})
	return map[string]*filters.Filter{
		"not declared":       with(say(filters.Symbol{Name: "OTHER"}), nil),
		"not fit for a line": with(say(filters.Symbol{Name: "BAD", Evidence: "a\x1b[2Jb"}), nil),
		"another verdict": with(func(context.Context, *mail.Transaction) (filters.Verdict, error) {
			return filters.Verdict{Symbols: []filters.Symbol{{Name: "BAD", Score: float64(calls.Add(1))}}}, nil
		}, nil),
		"was changed": with(func(_ context.Context, tx *mail.Transaction) (filters.Verdict, error) {
			tx.ReversePath.Local += "x"
			return filters.Verdict{}, nil
		}, nil),
		"panic":             with(func(context.Context, *mail.Transaction) (filters.Verdict, error) { panic("ouch") }, nil),
		"UPPER_SNAKE":       with(quiet, func(f *filters.Filter) { f.Symbols[0].Name = "Bad" }),
		"French sentence":   with(quiet, func(f *filters.Filter) { f.Symbols[0].DocFR = "" }),
		"name for a filter": with(quiet, func(f *filters.Filter) { f.Name = "Bad One" }),
		"is a Rewriter": with(quiet, func(f *filters.Filter) {
			f.Actions = []filters.ActionDoc{{Name: "a", Doc: "b", Say: [2]string{"c", "d"}, New: func() any { return &struct{}{} }}}
		}),
		"has not one %s": with(quiet, func(f *filters.Filter) {
			f.Keys = []filters.MatchKey{{Name: "k", Doc: "d", Say: [2]string{"x", "y"}, Symbols: []string{"BAD"}}}
		}),
		"which is not declared": with(quiet, func(f *filters.Filter) {
			f.Keys = []filters.MatchKey{{Name: "k", Doc: "d", Say: [2]string{"x %s", "y %s"}, Symbols: []string{"WORSE"}}}
		}),
		"not a pointer": with(quiet, func(f *filters.Filter) { f.New = func() filters.Checker { return byValue{} } }),
		"no doc tag":    with(quiet, func(f *filters.Filter) { f.New = func() filters.Checker { return &undocumented{} } }),
	}
}

type bad struct {
	check func(context.Context, *mail.Transaction) (filters.Verdict, error)
}

func (b *bad) Check(ctx context.Context, tx *mail.Transaction, _ filters.Results) (filters.Verdict, error) {
	return b.check(ctx, tx)
}

type undocumented struct {
	Level int `toml:"level"`
}

func (*undocumented) Check(context.Context, *mail.Transaction, filters.Results) (filters.Verdict, error) {
	return filters.Verdict{}, nil
}

type byValue struct{}

func (byValue) Check(context.Context, *mail.Transaction, filters.Results) (filters.Verdict, error) {
	return filters.Verdict{}, nil
}

// TestBadFilter is run by TestSuiteCatches, in a process of its own.
func TestBadFilter(t *testing.T) {
	which := os.Getenv("POSTERN_BAD_FILTER")
	if which == "" {
		t.Skip("run by TestSuiteCatches")
	}
	filterstest.Run(t, badFilters()[which], filterstest.Options{})
}

// TestSuiteCatches checks that the suite fails for filters that break a law.
func TestSuiteCatches(t *testing.T) {
	for which := range badFilters() {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestBadFilter$")
			cmd.Env = append(os.Environ(), "POSTERN_BAD_FILTER="+which)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), which) {
				t.Errorf("%v: %.2000s", err, out)
			}
		})
	}
}
