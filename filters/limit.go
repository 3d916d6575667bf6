package filters

import (
	"context"
	"sync"
	"time"
)

// A limit is the context of a light filter, or of one that finishes. It costs a
// timer only when somebody waits for its end, which tells that the filter waits
// for something.
type limit struct {
	context.Context // of the transaction
	deadline        time.Time
	round           *round // which hears of it; may be nil

	mu     sync.Mutex
	timed  context.Context // with the deadline, once somebody waits
	cancel context.CancelFunc
	over   bool // the filter has returned
}

func (l *limit) Deadline() (time.Time, bool) {
	if d, ok := l.Context.Deadline(); ok && d.Before(l.deadline) {
		return d, true
	}
	return l.deadline, true
}

func (l *limit) Done() <-chan struct{} {
	l.mu.Lock()
	first := l.timed == nil
	if first {
		l.timed, l.cancel = context.WithDeadline(l.Context, l.deadline)
		if l.over {
			l.cancel()
		}
	}
	l.mu.Unlock()
	if first && l.round != nil {
		l.round.hasten(false)
	}
	return l.timed.Done()
}

func (l *limit) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.timed != nil:
		return l.timed.Err()
	case l.Context.Err() != nil:
		return l.Context.Err()
	case !time.Now().Before(l.deadline):
		return context.DeadlineExceeded
	case l.over:
		return context.Canceled
	}
	return nil
}

// end is called when the filter has returned.
func (l *limit) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.cancel != nil {
		l.cancel()
	}
}
