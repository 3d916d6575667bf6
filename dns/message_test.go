package dns

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestBudgetOfMessage: all that is asked with the context of a message counts,
// of whatever kind and by whomever; what is asked without one does not.
func TestBudgetOfMessage(t *testing.T) {
	z, err := ParseZone([]byte(budgetZone))
	if err != nil {
		t.Fatal(err)
	}
	r, addr := Metered(z), netip.MustParseAddr("192.0.2.1")
	ctx := NewBudget(7, time.Hour).Context(t.Context())
	ask := []func() (int, error){
		func() (int, error) { a, err := r.TXT(ctx, "a.example"); return len(a.Records), err },
		func() (int, error) { a, err := r.A(ctx, "a.example"); return len(a.Records), err },
		func() (int, error) { a, err := r.AAAA(ctx, "a.example"); return len(a.Records), err },
		func() (int, error) { a, err := r.MX(ctx, "a.example"); return len(a.Records), err },
		func() (int, error) { a, err := r.PTR(ctx, addr); return len(a.Records), err },
		func() (int, error) { a, err := r.Addrs(ctx, "a.example"); return len(a.Records), err },
	}
	for i, f := range ask {
		if n, err := f(); err != nil || n == 0 {
			t.Errorf("question %d: %d records, %v", i, n, err)
		}
	}
	for i, f := range ask {
		if n, err := f(); n != 0 || !errors.Is(err, errSpent) || !errors.Is(err, ErrTemporary) || errors.Is(err, ErrNotFound) {
			t.Errorf("question %d beyond the budget: %d records, %v", i, n, err)
		}
	}
	ctx = Apart(ctx)
	for i, f := range ask {
		if _, err := f(); err != nil {
			t.Errorf("question %d apart: %v", i, err)
		}
	}
}

// TestBudgetOfTime: the time begins with the first question.
func TestBudgetOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, err := ParseZone([]byte(budgetZone))
		if err != nil {
			t.Fatal(err)
		}
		r, ctx := Metered(z), NewBudget(100, 20*time.Second).Context(t.Context())
		for _, step := range []struct {
			after time.Duration
			ok    bool
		}{{time.Hour, true}, {20 * time.Second, true}, {time.Second, false}} {
			time.Sleep(step.after)
			if _, err := r.TXT(ctx, "a.example"); (err == nil) != step.ok || err != nil && !errors.Is(err, errSpent) {
				t.Errorf("after %s more: %v", step.after, err)
			}
		}
	})
}
