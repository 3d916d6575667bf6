package filters

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestLimit checks that a limit is a context like any other, whether somebody
// waits for its end or not.
func TestLimit(t *testing.T) {
	parent, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	last, _ := parent.Deadline()
	with := func(parent context.Context, left time.Duration) *limit {
		return &limit{Context: parent, deadline: time.Now().Add(left), round: &round{ctx: parent}}
	}
	ended := func(l *limit) bool {
		select {
		case <-l.Done():
			return true
		default:
			return false
		}
	}
	l := with(parent, time.Minute)
	if d, ok := l.Deadline(); !ok || !d.Equal(l.deadline) || l.Err() != nil || ended(l) || l.Err() != nil {
		t.Errorf("a fresh one: %v, %v", d, l.Err())
	}
	if !l.round.hurry {
		t.Error("nobody hears that the filter waits")
	}
	if l.end(); !ended(l) || !errors.Is(l.Err(), context.Canceled) {
		t.Errorf("after the filter: %v", l.Err())
	}
	late := with(parent, time.Minute)
	if late.end(); !errors.Is(late.Err(), context.Canceled) || !ended(late) || !errors.Is(late.Err(), context.Canceled) {
		t.Errorf("first waited for after the filter: %v", late.Err())
	}
	over := with(parent, -time.Second)
	if !errors.Is(over.Err(), context.DeadlineExceeded) || !ended(over) || !errors.Is(over.Err(), context.DeadlineExceeded) {
		t.Errorf("out of time: %v", over.Err())
	}
	if d, ok := with(parent, 2*time.Hour).Deadline(); !ok || !d.Equal(last) {
		t.Errorf("deadline %v, that of the transaction is %v", d, last)
	}
	quiet, waited := with(parent, time.Minute), with(parent, time.Minute)
	before := ended(waited)
	cancel()
	if before || !errors.Is(quiet.Err(), context.Canceled) || !ended(quiet) || !ended(waited) || !errors.Is(waited.Err(), context.Canceled) {
		t.Errorf("the transaction has ended: %v, %v", quiet.Err(), waited.Err())
	}
	soon := with(t.Context(), 10*time.Millisecond)
	if <-soon.Done(); !errors.Is(soon.Err(), context.DeadlineExceeded) {
		t.Errorf("waited for: %v", soon.Err())
	}
	child, stop := context.WithCancel(with(t.Context(), time.Minute))
	if stop(); child.Err() == nil {
		t.Error("a context made of it does not end")
	}
}
