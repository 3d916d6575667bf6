package queue

import (
	"context"
	"time"

	"postern/relay"
)

// A destination is what shares connections: its jobs that are due, and whether
// it can be reached. While it cannot, one job at a time tries, and only every
// now and then; the others are deferred with what that one was told.
type destination struct {
	ready    []*job
	running  int
	failures int           // in a row: attempts that did not reach it
	until    time.Time     // no attempt before
	down     relay.Outcome // what the last one that failed was told
}

func (q *Queue) destination(name string) *destination {
	d := q.dests[name]
	if d == nil {
		d = &destination{}
		q.dests[name] = d
	}
	return d
}

// idle reports whether the destination can be forgotten: there is nothing for
// it, and what was known of it is old.
func (d *destination) idle(now time.Time, memory time.Duration) bool {
	return len(d.ready) == 0 && d.running == 0 && (d.failures == 0 || now.After(d.until.Add(memory)))
}

// serve starts what d may do now. q.mu is held.
func (q *Queue) serve(ctx context.Context, d *destination, now time.Time) {
	limit := q.o.Concurrency
	if d.failures > 0 {
		if now.Before(d.until) {
			q.postpone(d)
			return
		}
		limit = 1
	}
	for len(d.ready) > 0 && d.running < limit && q.busy < q.o.Total {
		j := d.take()
		if j.suspended || q.jobs[j.id] != j {
			continue
		}
		j.running = true
		d.running++
		q.busy++
		o := q.o
		q.work.Go(func() { q.attempt(ctx, o, j, d) })
	}
}

// take takes the first of the ready jobs.
func (d *destination) take() *job {
	j := d.ready[0]
	d.ready[0] = nil
	d.ready = d.ready[1:]
	j.ready = false
	return j
}

// postpone defers all jobs of a destination that cannot be reached, without
// trying it again. q.mu is held.
func (q *Queue) postpone(d *destination) {
	var batch []*job
	for len(d.ready) > 0 {
		if j := d.take(); !j.suspended && q.jobs[j.id] == j {
			j.running = true
			batch = append(batch, j)
		}
	}
	if len(batch) == 0 {
		return
	}
	o, down := q.o, d.down
	q.work.Go(func() {
		for _, j := range batch {
			q.deferUntried(o, j, down)
		}
	})
}

// reached records whether an attempt reached the destination. q.mu is held.
func (d *destination) reached(o *Options, now time.Time, outcomes []relay.Outcome) {
	if len(outcomes) == 0 {
		return
	}
	for _, out := range outcomes {
		if !out.Down {
			d.failures, d.until = 0, time.Time{}
			return
		}
	}
	pause := o.BackOff << min(d.failures, 16)
	if pause > o.BackOffMax || pause <= 0 {
		pause = o.BackOffMax
	}
	d.failures++
	d.until = now.Add(pause)
	d.down = outcomes[0]
}
