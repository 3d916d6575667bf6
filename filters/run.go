package filters

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"time"

	"postern/mail"
)

// Errors of a broken filter, found with errors.Is in Result.Err.
var (
	ErrTimeout    = errors.New("ran out of time")
	ErrRequired   = errors.New("a filter that it requires is broken")
	ErrUndeclared = errors.New("reported a symbol that it does not declare")
)

// A Panic is the error of a filter that panicked.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

func newPanic(value any) *Panic { return &Panic{Value: value, Stack: debug.Stack()} }

// CheckStage runs the filters that can run at that stage of the dialogue and
// have no result in earlier, and returns all results in chain order. A filter
// of stage Rcpt judges the recipients that tx has now, so the results of one
// RCPT are no earlier results for the next.
func (c *Chain) CheckStage(ctx context.Context, stage Stage, tx *mail.Transaction, earlier Results) Results {
	r := newRound(ctx, c, stage, tx, earlier)
	if r.left > 0 {
		r.runAll()
	}
	return r.results()
}

// index returns the position of the named filter's result, -1 if there is none.
func (rs Results) index(name string) int {
	for i := range rs {
		if rs[i].Filter == name {
			return i
		}
	}
	return -1
}

func (l *link) broken(err error, elapsed time.Duration) Result {
	return Result{Filter: l.filter.Name, Err: err, Ignored: l.ignore, Elapsed: elapsed}
}

// run runs one filter. A panic, an undeclared symbol and a verdict that comes
// when the time is over are failures of that filter, never a pass.
func (l *link) run(ctx context.Context, start time.Time, tx *mail.Transaction, in Results) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			r = l.broken(fmt.Errorf("filter %s: %w", l.filter.Name, newPanic(p)), time.Since(start))
		}
	}()
	for i := range in {
		if in[i].Err != nil {
			return l.broken(fmt.Errorf("filter %s: %w: %s", l.filter.Name, ErrRequired, in[i].Filter), 0)
		}
	}
	v, err := l.checker.Check(ctx, tx, in)
	elapsed := time.Since(start)
	switch over := ctx.Err(); {
	case errors.Is(over, context.DeadlineExceeded):
		err = ErrTimeout
	case over != nil:
		err = over
	case err == nil:
		v.Symbols, err = l.score(v.Symbols)
	}
	if err != nil {
		return l.broken(fmt.Errorf("filter %s: %w", l.filter.Name, err), elapsed)
	}
	return Result{Filter: l.filter.Name, Verdict: v, Elapsed: elapsed}
}

// score checks the symbols and fills in their scores, in a slice of its own.
func (l *link) score(symbols []Symbol) ([]Symbol, error) {
	if len(symbols) == 0 {
		return nil, nil
	}
	symbols = slices.Clone(symbols)
	for i := range symbols {
		s := &symbols[i]
		weight, ok := l.scores[s.Name]
		if !ok {
			return nil, fmt.Errorf("%w: %s", ErrUndeclared, s.Name)
		}
		if s.Score == 0 || l.forced[s.Name] {
			s.Score = weight
		}
		if math.IsNaN(s.Score) || math.IsInf(s.Score, 0) {
			return nil, fmt.Errorf("symbol %s has the score %v", s.Name, s.Score)
		}
	}
	return symbols, nil
}
