package dns

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
)

const budgetZone = `{"a.example": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"], "MX": ["10 a.example"], "TXT": ["x"]},
	"1.2.0.192.in-addr.arpa": {"PTR": ["a.example"]}}`

func TestBudget(t *testing.T) {
	z, err := ParseZone([]byte(budgetZone))
	if err != nil {
		t.Fatal(err)
	}
	ctx, addr := t.Context(), netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		name string
		cost int
		ask  func(r Resolver) (int, error)
	}{
		{"TXT", 1, func(r Resolver) (int, error) { a, err := r.TXT(ctx, "a.example"); return len(a.Records), err }},
		{"A", 1, func(r Resolver) (int, error) { a, err := r.A(ctx, "a.example"); return len(a.Records), err }},
		{"AAAA", 1, func(r Resolver) (int, error) { a, err := r.AAAA(ctx, "a.example"); return len(a.Records), err }},
		{"MX", 1, func(r Resolver) (int, error) { a, err := r.MX(ctx, "a.example"); return len(a.Records), err }},
		{"PTR", 1, func(r Resolver) (int, error) { a, err := r.PTR(ctx, addr); return len(a.Records), err }},
		{"Addrs", 2, func(r Resolver) (int, error) { a, err := r.Addrs(ctx, "a.example"); return len(a.Records), err }},
	} {
		r := WithBudget(z, 3*c.cost)
		for i := range 3 {
			if n, err := c.ask(r); err != nil || n != c.cost {
				t.Errorf("%s, look-up %d: %d records, %v", c.name, i, n, err)
			}
		}
		n, err := c.ask(r)
		if n != 0 || !errors.Is(err, ErrBudget) || !errors.Is(err, ErrTemporary) || errors.Is(err, ErrNotFound) {
			t.Errorf("%s beyond the budget: %d records, %v", c.name, n, err)
		}
	}
}

func TestBudgetParallel(t *testing.T) {
	z, err := ParseZone([]byte(budgetZone))
	if err != nil {
		t.Fatal(err)
	}
	r := WithBudget(z, 20)
	refused := make([]bool, 100)
	var wg sync.WaitGroup
	for i := range refused {
		wg.Go(func() {
			_, err := r.TXT(t.Context(), "a.example")
			refused[i] = errors.Is(err, ErrBudget)
		})
	}
	wg.Wait()
	n := 0
	for _, no := range refused {
		if no {
			n++
		}
	}
	if n != 80 {
		t.Errorf("%d of 100 look-ups are refused, want 80", n)
	}
}
