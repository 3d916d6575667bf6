package quarantine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/store"
)

// orphanAge is how old a blob without a row must be to be removed: no Hold, of
// this gateway or another one over the same store, takes so long.
const orphanAge = time.Hour

// sweepSetting is where store.Steady keeps its notes.
const sweepSetting = "quarantine.sweep"

// A SweepReport tells what a sweep did.
type SweepReport struct {
	Expired int  // items removed by age
	Orphans int  // bodies removed that nothing led to
	Steady  bool // false: the clock moved, so nothing was removed by age
}

// Run sweeps now and then until ctx ends.
func (q *Quarantine) Run(ctx context.Context) {
	tick := time.NewTicker(q.o.Interval)
	defer tick.Stop()
	for {
		r, err := q.Sweep(ctx)
		if err == nil && q.o.OnSweep != nil {
			err = q.o.OnSweep(ctx, r)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			q.o.Log.Error("sweep of the quarantine failed", "err", err)
		case !r.Steady:
			q.o.Log.Warn("the clock moved by more than a day: nothing is removed from the quarantine by age until it has been steady", "for", q.o.Interval)
		case r.Expired+r.Orphans > 0:
			q.o.Log.Info("swept the quarantine", "expired", r.Expired, "orphans", r.Orphans)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Sweep removes items whose time is over and bodies that nothing leads to.
func (q *Quarantine) Sweep(ctx context.Context) (SweepReport, error) {
	r, err := q.sweep(ctx)
	if err != nil {
		return r, fmt.Errorf("sweep quarantine: %w", err)
	}
	return r, nil
}

func (q *Quarantine) sweep(ctx context.Context) (r SweepReport, err error) {
	now := q.o.Now().UTC()
	if r.Steady, err = store.Steady(ctx, q.o.Records, sweepSetting, now, q.o.Interval); err != nil {
		return r, err
	}
	if r.Steady {
		q.mu.Lock()
		q.steady = now.Truncate(time.Microsecond)
		q.mu.Unlock()
		if r.Expired, err = q.expire(ctx, now); err != nil {
			return r, err
		}
	}
	if r.Orphans, err = q.orphans(ctx, now); err != nil {
		return r, err
	}
	err = q.each(ctx, store.Query{NoBody: true}, func(h *store.Held) error { return q.finish(ctx, h) })
	if err == nil && r.Expired > 0 {
		err = q.o.Records.Scrub(ctx)
	}
	return r, err
}

// expire removes what is older than its queue keeps it.
func (q *Quarantine) expire(ctx context.Context, now time.Time) (int, error) {
	s := q.settings.Load()
	totals, err := q.o.Records.Totals(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, t := range totals {
		keep, ok := s.KeepQueue[t.Queue]
		if !ok {
			keep = s.Keep
		}
		if keep <= 0 || !t.Oldest.Before(now.Add(-keep)) {
			continue
		}
		err := q.each(ctx, store.Query{Queue: t.Queue, State: t.State, Until: now.Add(-keep)}, func(h *store.Held) error {
			if err := q.o.Records.Remove(ctx, h.ID); err != nil {
				return err
			}
			n++
			return q.dropBody(ctx, h)
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// orphans removes blobs without a row: what a Hold left that was interrupted, or
// a removal.
func (q *Quarantine) orphans(ctx context.Context, now time.Time) (int, error) {
	if q.lost {
		return 0, nil
	}
	n := 0
	err := q.o.Blobs.List(ctx, func(b store.Blob) error {
		q.mu.Lock()
		pending := q.pending[b.Name]
		q.mu.Unlock()
		if pending || now.Sub(b.Modified) < orphanAge {
			return nil
		}
		_, err := q.o.Records.Held(ctx, b.Name)
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n++
		return q.o.Blobs.Delete(ctx, b.Name)
	})
	return n, err
}
