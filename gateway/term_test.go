package gateway

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := &terms{}
		listener, stop := context.WithCancel(context.Background())
		other, stopOther := context.WithCancel(context.Background())
		defer stopOther()
		first := ts.of(listener)
		if ts.of(listener) != first || ts.of(other) == first {
			t.Error("those of one listener share a term, and only those")
		}
		time.Sleep(shared)
		second := ts.of(listener)
		if second == first {
			t.Error("the term is given out for too long")
		}
		time.Sleep(processLimit - shared + time.Millisecond)
		if first.Err() == nil || second.Err() != nil {
			t.Errorf("after the limit: %v, %v", first.Err(), second.Err())
		}
		third := ts.of(listener)
		stop()
		if third.Err() == nil {
			t.Error("the term outlives its listener")
		}
		ts.of(other)
		if len(ts.m) != 1 {
			t.Errorf("%d listeners are remembered", len(ts.m))
		}
	})
}
