package filters

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/mail"
)

// DefaultTimeout is the time that a filter has for one transaction when its
// table does not say otherwise.
const DefaultTimeout = 30 * time.Second

// A Failure says what a broken filter means: on_failure in the policy file.
type Failure string

const (
	FailureDefer  Failure = "defer"  // rules that rest on it are unknown: the default
	FailureIgnore Failure = "ignore" // as if it had seen nothing
)

// UnmarshalText reads the word of the policy file.
func (f *Failure) UnmarshalText(b []byte) error {
	switch v := Failure(b); v {
	case FailureDefer, FailureIgnore:
		*f = v
		return nil
	}
	return fmt.Errorf("%q is not %q or %q", b, FailureDefer, FailureIgnore)
}

// LinkSettings are the keys that every [filter.<name>] table has.
type LinkSettings struct {
	Timeout   time.Duration      // zero: DefaultTimeout
	OnFailure Failure            // empty: FailureDefer
	Scores    map[string]float64 // the [scores] table; names of other filters' symbols do no harm
}

// A Chain runs filters. Those that take time overlap: each starts as soon as
// those it requires are done. Each sees only the results that it requires and
// writes only its own, so the outcome does not depend on which finished first.
// Link and Open come first; after that a Chain does not change and is safe for
// concurrent use.
type Chain struct {
	links     []*link
	scans     []*link  // those that are not NoScan
	finishers []string // names, in order
}

// A link is a filter in a chain.
type link struct {
	filter  *Filter
	checker Checker
	timeout time.Duration
	ignore  bool
	light   bool               // the filter is Light or idle
	order   int                // position among all filters
	slot    int                // position among those that scan
	needs   []int              // slots of the filters that it requires
	scores  map[string]float64 // every declared symbol
	forced  map[string]bool    // symbols whose score the policy sets
}

// Link appends a configured filter. The filters that f requires must have been
// linked before it, which keeps the chain free of cycles.
func (c *Chain) Link(f *Filter, checker Checker, s LinkSettings) error {
	l := &link{
		filter: f, checker: checker, timeout: s.Timeout, ignore: s.OnFailure == FailureIgnore,
		order: len(c.links), slot: len(c.scans), light: f.Light,
		scores: make(map[string]float64, len(f.Symbols)), forced: map[string]bool{},
	}
	if l.timeout <= 0 {
		l.timeout = DefaultTimeout
	}
	if i, ok := checker.(Idler); ok && i.Idle() {
		l.light = true
	}
	if c.Order(f.Name) >= 0 {
		return fmt.Errorf("filter %s is linked twice", f.Name)
	}
	for _, sym := range f.Symbols {
		l.scores[sym.Name] = sym.Score
		if v, ok := s.Scores[sym.Name]; ok {
			l.scores[sym.Name], l.forced[sym.Name] = v, true
		}
	}
	for _, want := range f.Requires {
		i := c.scanned(want)
		if i < 0 {
			return fmt.Errorf("filter %s requires %s, which is switched off or stands after it", f.Name, want)
		}
		if c.scans[i].filter.Stage > f.Stage {
			return fmt.Errorf("filter %s requires %s, which runs at a later stage", f.Name, want)
		}
		l.needs = append(l.needs, i)
	}
	c.links = append(c.links, l)
	if _, ok := checker.(Finisher); ok {
		c.finishers = append(c.finishers, f.Name)
	}
	if !f.NoScan {
		c.scans = append(c.scans, l)
	}
	return nil
}

// Open opens every filter that needs the outside world. What they open ends
// with ctx.
func (c *Chain) Open(ctx context.Context, env *Env) error {
	var errs []error
	for _, l := range c.links {
		if o, ok := l.checker.(Opener); ok {
			if err := o.Open(ctx, env); err != nil {
				errs = append(errs, fmt.Errorf("open filter %s: %w", l.filter.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Warnings returns what the filters have to say to the administrator, each
// with the name of its filter in front.
func (c *Chain) Warnings() []string {
	var all []string
	for _, l := range c.links {
		if w, ok := l.checker.(Warner); ok {
			for _, text := range w.Warnings() {
				all = append(all, "filter "+l.filter.Name+": "+text)
			}
		}
	}
	return all
}

// ParseOptions returns how messages are to be parsed for this chain: the first
// Parser tells, else the defaults hold and no archive is opened.
func (c *Chain) ParseOptions() mail.Options {
	for _, l := range c.links {
		if p, ok := l.checker.(Parser); ok {
			return p.ParseOptions()
		}
	}
	return mail.Options{}
}

// Filters returns the linked filters in chain order.
func (c *Chain) Filters() []*Filter {
	fs := make([]*Filter, len(c.links))
	for i, l := range c.links {
		fs[i] = l.filter
	}
	return fs
}

// Runs reports whether any filter can run at that stage of the dialogue.
func (c *Chain) Runs(stage Stage) bool {
	for _, l := range c.scans {
		if l.filter.Stage <= stage {
			return true
		}
	}
	return false
}

// Order returns the position of the named filter, in which order rewrites are
// applied; -1 if it is not linked.
func (c *Chain) Order(filter string) int {
	for _, l := range c.links {
		if l.filter.Name == filter {
			return l.order
		}
	}
	return -1
}

// Checker returns the named filter with its settings.
func (c *Chain) Checker(filter string) (Checker, bool) {
	if i := c.Order(filter); i >= 0 {
		return c.links[i].checker, true
	}
	return nil, false
}

// Rewriter returns the named filter if it offers rewrites. Callers that do not
// want to deal with panics and time limits call Rewrite.
func (c *Chain) Rewriter(filter string) (Rewriter, bool) {
	checker, _ := c.Checker(filter)
	r, ok := checker.(Rewriter)
	return r, ok
}

// Rewrite performs one action of the named filter, within its time limit. An
// error, a panic or a missing message is an error: the caller holds or defers
// that copy.
func (c *Chain) Rewrite(ctx context.Context, filter string, in RewriteInput) (m *mail.Message, err error) {
	r, ok := c.Rewriter(filter)
	if !ok {
		return nil, fmt.Errorf("filter %s offers no rewrites", filter)
	}
	ctx, cancel := context.WithTimeout(ctx, c.links[c.Order(filter)].timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("rewrite %s: %w", in.Action, newPanic(p))
		}
	}()
	m, err = r.Rewrite(ctx, in)
	switch {
	case err != nil:
		return nil, fmt.Errorf("rewrite %s: %w", in.Action, err)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("rewrite %s: %w", in.Action, ctx.Err())
	case m == nil:
		return nil, fmt.Errorf("rewrite %s: no message came back", in.Action)
	}
	return m, nil
}

// Finishers returns the names of the filters that finish what leaves, in chain
// order.
func (c *Chain) Finishers() []string { return c.finishers }

// Finish lets the named filter add fields to a copy, within its time limit. An
// error or a panic is an error: the caller holds or defers that copy.
func (c *Chain) Finish(ctx context.Context, filter string, tx *mail.Transaction, rs Results, m *mail.Message) (fields []string, err error) {
	checker, _ := c.Checker(filter)
	f, ok := checker.(Finisher)
	if !ok {
		return nil, fmt.Errorf("filter %s finishes nothing", filter)
	}
	l := &limit{Context: ctx, deadline: time.Now().Add(c.links[c.Order(filter)].timeout)}
	defer l.end()
	defer func() {
		if p := recover(); p != nil {
			fields, err = nil, fmt.Errorf("finish %s: %w", filter, newPanic(p))
		}
	}()
	if fields, err = f.Finish(l, tx, rs, m); err != nil {
		return nil, fmt.Errorf("finish %s: %w", filter, err)
	}
	return fields, nil
}

// scanned returns the slot of the named filter, -1 if it has none.
func (c *Chain) scanned(name string) int {
	for _, l := range c.scans {
		if l.filter.Name == name {
			return l.slot
		}
	}
	return -1
}

// Check runs every filter on tx and returns their results in chain order.
func (c *Chain) Check(ctx context.Context, tx *mail.Transaction) Results {
	return c.CheckStage(ctx, Data, tx, nil)
}
