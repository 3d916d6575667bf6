package filters

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"postern/mail"
)

// grace is how long a filter whose time is over may still take to return
// before the chain goes on without it.
const grace = time.Second

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
	results := make(Results, 0, len(c.scans))
	todo, heavy := 0, 0
	for _, l := range c.scans {
		if i := earlier.index(l.filter.Name); i >= 0 {
			results = append(results, earlier[i])
		} else if l.filter.Stage <= stage {
			results = append(results, Result{})
			todo++
			if !l.light {
				heavy++
			}
		}
	}
	switch {
	case todo == 0:
	case heavy == 0:
		c.runHere(ctx, stage, tx, results, earlier)
	default:
		c.runAll(ctx, stage, tx, results, earlier)
	}
	return results
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

// runHere runs light filters one after the other: nothing is started.
func (c *Chain) runHere(ctx context.Context, stage Stage, tx *mail.Transaction, results, earlier Results) {
	k := 0
	for _, l := range c.scans {
		if earlier.index(l.filter.Name) < 0 {
			if l.filter.Stage > stage {
				continue
			}
			results[k] = l.runLight(ctx, tx, c.needed(l, results))
		}
		k++
	}
}

// needed returns the results that l may see.
func (c *Chain) needed(l *link, results Results) Results {
	if len(l.needs) == 0 {
		return nil
	}
	in := make(Results, len(l.needs))
	for k, n := range l.needs {
		in[k] = results[results.index(c.scans[n].filter.Name)]
	}
	return in
}

// A cell is where one filter's result appears, once.
type cell struct {
	once   sync.Once
	done   chan struct{}
	result Result
}

// finish sets the result unless there is one already.
func (c *cell) finish(r Result) {
	c.once.Do(func() {
		c.result = r
		close(c.done)
	})
}

// runAll runs filters at the same time, a goroutine each; the light ones run
// here. A filter that does not return when its time is over is left behind.
func (c *Chain) runAll(ctx context.Context, stage Stage, tx *mail.Transaction, results, earlier Results) {
	cells := make([]*cell, len(c.scans))
	for i, l := range c.scans {
		cells[i] = &cell{done: make(chan struct{})}
		if k := earlier.index(l.filter.Name); k >= 0 {
			cells[i].finish(earlier[k])
		}
	}
	runs := func(l *link) bool { return l.filter.Stage <= stage && earlier.index(l.filter.Name) < 0 }
	for _, l := range c.scans {
		if runs(l) && !l.light {
			go l.runHeavy(ctx, tx, cells)
		}
	}
	for _, l := range c.scans {
		if runs(l) && l.light {
			cells[l.slot].finish(l.runLight(ctx, tx, l.await(cells)))
		}
	}
	k := 0
	for i, l := range c.scans {
		if !runs(l) && earlier.index(l.filter.Name) < 0 {
			continue
		}
		<-cells[i].done
		results[k] = cells[i].result
		k++
	}
}

// await waits for the results that l may see. Every cell gets one in the end.
func (l *link) await(cells []*cell) Results {
	if len(l.needs) == 0 {
		return nil
	}
	in := make(Results, len(l.needs))
	for k, n := range l.needs {
		<-cells[n].done
		in[k] = cells[n].result
	}
	return in
}

// runHeavy runs the filter within its time limit, which begins when those that
// it requires are done.
func (l *link) runHeavy(ctx context.Context, tx *mail.Transaction, cells []*cell) {
	in := l.await(cells)
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		late := time.NewTimer(grace)
		defer late.Stop()
		select {
		case <-cells[l.slot].done:
		case <-late.C:
			cells[l.slot].finish(l.broken(fmt.Errorf("filter %s: %w", l.filter.Name, ErrTimeout), time.Since(start)))
		}
	})
	r := l.run(ctx, tx, in)
	stop()
	cells[l.slot].finish(r)
}

// runLight runs the filter on this goroutine. Its time limit is checked
// afterwards: a light filter does nothing but compute.
func (l *link) runLight(ctx context.Context, tx *mail.Transaction, in Results) Result {
	r := l.run(ctx, tx, in)
	if r.Err == nil && r.Elapsed > l.timeout {
		return l.broken(fmt.Errorf("filter %s: %w", l.filter.Name, ErrTimeout), r.Elapsed)
	}
	return r
}

func (l *link) broken(err error, elapsed time.Duration) Result {
	return Result{Filter: l.filter.Name, Err: err, Ignored: l.ignore, Elapsed: elapsed}
}

// run runs one filter. A panic, an undeclared symbol and a verdict that comes
// when the time is over are failures of that filter, never a pass.
func (l *link) run(ctx context.Context, tx *mail.Transaction, in Results) (r Result) {
	start := time.Now()
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
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = ErrTimeout
	case ctx.Err() != nil:
		err = ctx.Err()
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
