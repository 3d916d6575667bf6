package gateway

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"postern/filters"
	"postern/filters/standard"
	"postern/mail"
)

// The filters of these tests do what the header field X-Probe of the message
// tells them.

// A probe is a filter that reports, breaks, panics or takes its time.
type probe struct {
	opened *atomic.Int32 // how many are open, for the tests of reloading
	closed context.Context
}

func (p *probe) Open(ctx context.Context, env *filters.Env) error {
	p.closed = ctx
	if p.opened != nil {
		p.opened.Add(1)
		context.AfterFunc(ctx, func() { p.opened.Add(-1) })
	}
	return nil
}

var errClosedFilter = errors.New("the filter is closed")

func (p *probe) Check(ctx context.Context, tx *mail.Transaction, _ filters.Results) (v filters.Verdict, err error) {
	if p.closed != nil && p.closed.Err() != nil {
		return v, errClosedFilter
	}
	switch word := tx.Message.Header().Get("X-Probe"); word {
	case "hit":
		v.Symbols = []filters.Symbol{{Name: "PROBE_HIT", Evidence: "it says so"}}
	case "broken":
		return v, errors.New("the probe broke")
	case "panic":
		panic("the probe panics")
	case "slow":
		<-ctx.Done()
		return v, ctx.Err()
	case "stuck": // reads on although its time is over
		for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
			strings.Count(tx.Message.Text(), "x")
			if b, ok := tx.Message.Bytes(); ok && len(b) > 0 && b[0] == 0 {
				return v, nil
			}
		}
	}
	return v, nil
}

// An early filter knows the reverse-path.
type early struct{}

func (early) Check(_ context.Context, tx *mail.Transaction, _ filters.Results) (v filters.Verdict, err error) {
	switch tx.ReversePath.Local {
	case "listed":
		v.Symbols = []filters.Symbol{{Name: "EARLY_HIT"}}
	case "unlisted":
		return v, errors.New("the list cannot be asked")
	}
	return v, nil
}

type stampWith struct {
	Text string `toml:"text"`
}

// A stamper rewrites, or fails to.
type stamper struct{}

func (stamper) Check(context.Context, *mail.Transaction, filters.Results) (v filters.Verdict, err error) {
	return v, nil
}

func (stamper) Rewrite(ctx context.Context, in filters.RewriteInput) (*mail.Message, error) {
	switch in.Action {
	case "fail":
		return nil, errors.New("no key for it")
	case "burst":
		panic("the rewrite panics")
	}
	e := in.Message.Edit()
	e.Prepend("X-Postern-Stamp: " + in.With.(*stampWith).Text + "; " + in.To[0].String() + "\r\n")
	return e.Message()
}

// testFilters are the standard ones and those of these tests. opened counts the
// probes that are open.
func testFilters(opened *atomic.Int32) []*filters.Filter {
	mine := []*filters.Filter{
		{
			Name: "early", Stage: filters.Mail,
			Symbols: []filters.SymbolDoc{{Name: "EARLY_HIT", Score: 1}},
			Keys:    []filters.MatchKey{{Name: "early", Say: [2]string{"listed", "listé"}, Kind: filters.KeyBool, Symbols: []string{"EARLY_HIT"}}},
			New:     func() filters.Checker { return early{} },
		},
		{
			Name: "probe", Stage: filters.Data,
			Symbols: []filters.SymbolDoc{{Name: "PROBE_HIT", Score: 4}},
			Keys:    []filters.MatchKey{{Name: "probe", Say: [2]string{"probed", "sondé"}, Kind: filters.KeyBool, Symbols: []string{"PROBE_HIT"}}},
			New:     func() filters.Checker { return &probe{opened: opened} },
		},
		{
			Name: "stamper", Stage: filters.Data, NoScan: true,
			Actions: []filters.ActionDoc{
				{Name: "stamp", Say: [2]string{"stamp it", "le tamponner"}, New: func() any { return &stampWith{} }},
				{Name: "fail", Say: [2]string{"fail", "échouer"}, New: func() any { return &stampWith{} }},
				{Name: "burst", Say: [2]string{"burst", "éclater"}, New: func() any { return &stampWith{} }},
			},
			New: func() filters.Checker { return stamper{} },
		},
	}
	// Without those that ask the DNS: authentication has tests of its own.
	asking := []string{"iprev", "spf", "dkim", "arc", "dmarc", "dkimsign"}
	rest := slices.DeleteFunc(slices.Clone(standard.Filters), func(f *filters.Filter) bool { return slices.Contains(asking, f.Name) })
	return append(mine, rest...)
}
