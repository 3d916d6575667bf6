package filters

import (
	"context"
	"errors"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"postern/mail"
)

// light declares a light filter.
func light(name string, requires ...string) *Filter {
	f := declare(name, Data, requires, strings.ToUpper(name))
	f.Light = true
	return f
}

// meeting returns a check that waits until all who are invited are here at the
// same time.
func meeting(symbol string, here, others chan struct{}) checkFunc {
	return func(ctx context.Context, _ *mail.Transaction, _ Results) (Verdict, error) {
		close(here)
		select {
		case <-others:
			return Verdict{Symbols: []Symbol{{Name: symbol}}}, nil
		case <-ctx.Done():
			return Verdict{}, errors.New("nobody else runs")
		}
	}
}

// TestTogether checks that filters which take time run at the same time, light
// or not.
func TestTogether(t *testing.T) {
	for _, isLight := range []bool{true, false} {
		var c Chain
		a, b := make(chan struct{}), make(chan struct{})
		mustLink(t, &c, light("a"), meeting("A", a, b), LinkSettings{Timeout: 10 * time.Second})
		other := light("b")
		other.Light = isLight
		mustLink(t, &c, other, meeting("B", b, a), LinkSettings{Timeout: 10 * time.Second})
		mustLink(t, &c, light("c", "a", "b"), says("C"), LinkSettings{})
		for _, r := range c.Check(t.Context(), &mail.Transaction{}) {
			if r.Err != nil {
				t.Error(r.Err)
			}
		}
	}
}

// TestHere checks that light filters run on the goroutine of the transaction, and
// that a panic in one leaves the others alone.
func TestHere(t *testing.T) {
	stacks := map[string]string{}
	note := func(name string) checkFunc {
		return func(context.Context, *mail.Transaction, Results) (Verdict, error) {
			stacks[name] = string(debug.Stack())
			if name == "b" {
				panic(name)
			}
			return Verdict{}, nil
		}
	}
	var c Chain
	for _, name := range []string{"a", "b", "d"} {
		mustLink(t, &c, light(name), note(name), LinkSettings{})
	}
	rs := c.Check(t.Context(), &mail.Transaction{})
	if rs[0].Err != nil || rs[1].Err == nil || rs[2].Err != nil {
		t.Errorf("%+v", rs)
	}
	if !strings.Contains(stacks["a"], "TestHere") {
		t.Errorf("the first ran on a goroutine of its own:\n%s", stacks["a"])
	}
}

// TestLeftBehind checks that a filter which does not return is left behind,
// while light filters and those that require them have their results, and that
// what it says later changes nothing.
func TestLeftBehind(t *testing.T) {
	const limit = 20 * time.Millisecond
	release, returned := make(chan struct{}), make(chan struct{})
	var c Chain
	mustLink(t, &c, declare("stuck", Data, nil, "STUCK"), checkFunc(func(context.Context, *mail.Transaction, Results) (Verdict, error) {
		defer close(returned)
		<-release
		return Verdict{Symbols: []Symbol{{Name: "STUCK"}}}, nil
	}), LinkSettings{Timeout: limit})
	mustLink(t, &c, light("a"), says("A"), LinkSettings{})
	mustLink(t, &c, light("b", "stuck"), says("B"), LinkSettings{})
	mustLink(t, &c, declare("c", Data, []string{"a"}, "C"), says("C"), LinkSettings{})
	rs := c.Check(t.Context(), &mail.Transaction{})
	close(release)
	<-returned
	if !errors.Is(rs[0].Err, ErrTimeout) || rs[0].Elapsed < limit || len(rs[0].Verdict.Symbols) > 0 {
		t.Errorf("stuck: %+v", rs[0])
	}
	if rs[1].Err != nil || !errors.Is(rs[2].Err, ErrRequired) || rs[3].Err != nil {
		t.Errorf("%+v", rs[1:])
	}
}

// TestEndedContext checks that nobody waits for a filter when the transaction
// has ended, however much time it has.
func TestEndedContext(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	var c Chain
	mustLink(t, &c, declare("stuck", Data, nil), checkFunc(func(context.Context, *mail.Transaction, Results) (Verdict, error) {
		cancel()
		<-release
		return Verdict{}, nil
	}), LinkSettings{Timeout: time.Hour})
	if rs := c.Check(ctx, &mail.Transaction{}); !errors.Is(rs[0].Err, ErrTimeout) || rs[0].Elapsed < grace {
		t.Errorf("%+v", rs[0])
	}
}

// BenchmarkLight measures what the chain itself costs.
func BenchmarkLight(b *testing.B) {
	var c Chain
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		mustLink(b, &c, light(name), says(strings.ToUpper(name)), LinkSettings{})
	}
	tx := &mail.Transaction{}
	b.ReportAllocs()
	for b.Loop() {
		c.Check(b.Context(), tx)
	}
}
