package filters

import (
	"context"
	"fmt"
	"sync"
	"time"

	"postern/mail"
)

// grace is how long a filter whose time is over may still take to return
// before the chain goes on without it.
const grace = time.Second

// A round runs filters on one transaction. What each sees, and so what comes
// out, does not depend on which run at the same time.
type round struct {
	ctx context.Context
	tx  *mail.Transaction

	mu    sync.Mutex
	cells []cell        // by slot
	left  int           // cells without a result
	all   chan struct{} // once somebody waits: closed when there is none
	hurry bool          // a light filter waits: the others need not wait with it
	ended time.Time     // when ctx ended
}

// A state is how far a filter has got.
type state uint8

const (
	done    state = iota // it has its result, or does not run at this stage
	waiting              // for the filters that it requires, or for its turn
	running
)

// A cell is where one filter's result appears, once.
type cell struct {
	link   *link
	state  state
	since  time.Time // when it began to run
	limit  limit     // its context if it is light
	result Result
}

// newRound returns the round of the filters that can run at a stage and have no
// result yet.
func newRound(ctx context.Context, c *Chain, stage Stage, tx *mail.Transaction, earlier Results) *round {
	r := &round{ctx: ctx, tx: tx, cells: make([]cell, len(c.scans))}
	for i, l := range c.scans {
		r.cells[i].link = l
		if k := earlier.index(l.filter.Name); k >= 0 {
			r.cells[i].result = earlier[k]
		} else if l.filter.Stage <= stage {
			r.cells[i].state = waiting
			r.left++
		}
	}
	return r
}

// results returns what there is, in chain order.
func (r *round) results() Results {
	results := make(Results, 0, len(r.cells))
	for i := range r.cells {
		if r.cells[i].result.Filter != "" {
			results = append(results, r.cells[i].result)
		}
	}
	return results
}

// runAll runs the light filters on this goroutine, the others on ones of their
// own, and returns when all have their results. A filter on a goroutine of its
// own that does not return when its time is over is left behind.
func (r *round) runAll() {
	r.mu.Lock()
	first := r.next()
	r.mu.Unlock()
	r.run(first)
	r.wait()
}

// wait returns when every filter has its result.
func (r *round) wait() {
	r.mu.Lock()
	if r.left == 0 {
		r.mu.Unlock()
		return
	}
	all := make(chan struct{})
	r.all = all
	r.mu.Unlock()
	wake := time.NewTimer(r.hasten(false))
	defer wake.Stop()
	end := r.ctx.Done()
	for {
		select {
		case <-all:
			return
		case <-end:
			end = nil
			wake.Reset(r.hasten(true))
		case <-wake.C:
			wake.Reset(r.hasten(false))
		}
	}
}

// hasten starts all that can run, goes on without filters that do not return,
// and says when to come again.
func (r *round) hasten(ended bool) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.hurry = true
	if ended {
		r.ended = now
	}
	again := grace // no filter that begins from now on is late before
	for i := range r.cells {
		c := &r.cells[i]
		if c.state != running {
			continue
		}
		end := c.since.Add(c.link.timeout)
		if !r.ended.IsZero() && r.ended.Before(end) {
			end = r.ended
		}
		if late := now.Sub(end); late < grace {
			again = min(again, grace-late)
			continue
		}
		r.set(c, c.link.broken(fmt.Errorf("filter %s: %w", c.link.filter.Name, ErrTimeout), now.Sub(c.since)))
	}
	r.next()
	return again
}

// set gives a filter its result unless there is one already.
func (r *round) set(c *cell, result Result) {
	if c.state == done {
		return
	}
	c.state, c.result = done, result
	if r.left--; r.left == 0 && r.all != nil {
		close(r.all)
	}
}

// next starts the filters that can run now and are not light, all that can when
// there is hurry, and returns the first of the others, -1 if there is none. What
// it starts or returns it takes for running.
func (r *round) next() int {
	first := -1
	for i := range r.cells {
		c := &r.cells[i]
		if c.state != waiting || !r.ready(c.link) {
			continue
		}
		here := c.link.light && !r.hurry
		if here && first >= 0 {
			continue
		}
		c.state, c.since = running, time.Now()
		if here {
			first = i
		} else {
			go r.run(i)
		}
	}
	return first
}

// ready reports whether the filters that l requires are done.
func (r *round) ready(l *link) bool {
	for _, n := range l.needs {
		if r.cells[n].state != done {
			return false
		}
	}
	return true
}

// run runs a filter within its time limit, which begins when those that it
// requires are done, and then what is left to run here.
func (r *round) run(i int) {
	for i >= 0 {
		i = r.finish(i, r.check(&r.cells[i]))
	}
}

// check runs one filter.
func (r *round) check(c *cell) Result {
	end, in := c.since.Add(c.link.timeout), r.seen(c.link)
	if c.link.light {
		c.limit.Context, c.limit.deadline, c.limit.round = r.ctx, end, r
		defer c.limit.end()
		return c.link.run(&c.limit, c.since, r.tx, in)
	}
	ctx, cancel := context.WithDeadline(r.ctx, end)
	defer cancel()
	return c.link.run(ctx, c.since, r.tx, in)
}

// seen returns the results that l may see. They do not change any more.
func (r *round) seen(l *link) Results {
	if len(l.needs) == 0 {
		return nil
	}
	in := make(Results, len(l.needs))
	for k, n := range l.needs {
		in[k] = r.cells[n].result
	}
	return in
}

// finish sets the result of a filter and returns which to run next.
func (r *round) finish(i int, result Result) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(&r.cells[i], result)
	return r.next()
}
