package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
)

// A Budget bounds what is asked for one message, whichever filters ask: so many
// look-ups, and a time after the first one. A question that is on its way when
// the time is over is still answered. A Budget is safe for concurrent use.
type Budget struct {
	left  atomic.Int64
	until atomic.Int64 // in nanoseconds since begin, which was the first question; 0: none yet
	begin time.Time
	time  time.Duration
}

// NewBudget returns a budget of lookUps, within a time after the first of them.
func NewBudget(lookUps int, within time.Duration) *Budget {
	b := &Budget{begin: time.Now(), time: within}
	b.left.Store(int64(lookUps))
	return b
}

// errSpent is in the error of a look-up that the message's Budget does not allow
// any more.
var errSpent = errors.New("the DNS budget of the message is spent")

type budgetKey struct{}

// Context returns a context whose questions count for the budget, if they are
// asked of a Resolver that Metered has made.
func (b *Budget) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, budgetKey{}, b)
}

// Apart returns a context whose questions count for no message's budget. It is for
// what must be known of others than those who sent the message: they must not be
// able to use up, by what their own names make us ask, what the answer costs.
func Apart(ctx context.Context) context.Context {
	return context.WithValue(ctx, budgetKey{}, (*Budget)(nil))
}

// Metered returns a Resolver that asks r, and holds each question to the Budget of
// its context, if there is one. What the budget does not allow any more ends with
// an error that wraps ErrTemporary.
func Metered(r Resolver) Resolver { return metered{r} }

type metered struct{ next Resolver }

// spend takes look-ups from the budget of the context.
func spend(ctx context.Context, n int64, kind, name string) error {
	b, _ := ctx.Value(budgetKey{}).(*Budget)
	if b == nil {
		return nil
	}
	now := max(int64(time.Since(b.begin)), 1)
	b.until.CompareAndSwap(0, now+int64(b.time))
	switch {
	case b.left.Add(-n) < 0:
		return fmt.Errorf("%w: %s %s: %w", ErrTemporary, kind, name, errSpent)
	case now > b.until.Load():
		return fmt.Errorf("%w: %s %s: %w: no time is left", ErrTemporary, kind, name, errSpent)
	}
	return nil
}

func (m metered) TXT(ctx context.Context, name string) (Answer[string], error) {
	if err := spend(ctx, 1, "TXT", name); err != nil {
		return Answer[string]{}, err
	}
	return m.next.TXT(ctx, name)
}

func (m metered) Addrs(ctx context.Context, name string) (Answer[netip.Addr], error) {
	if err := spend(ctx, 2, "A and AAAA", name); err != nil {
		return Answer[netip.Addr]{}, err
	}
	return m.next.Addrs(ctx, name)
}

func (m metered) A(ctx context.Context, name string) (Answer[netip.Addr], error) {
	if err := spend(ctx, 1, "A", name); err != nil {
		return Answer[netip.Addr]{}, err
	}
	return m.next.A(ctx, name)
}

func (m metered) AAAA(ctx context.Context, name string) (Answer[netip.Addr], error) {
	if err := spend(ctx, 1, "AAAA", name); err != nil {
		return Answer[netip.Addr]{}, err
	}
	return m.next.AAAA(ctx, name)
}

func (m metered) MX(ctx context.Context, name string) (Answer[MX], error) {
	if err := spend(ctx, 1, "MX", name); err != nil {
		return Answer[MX]{}, err
	}
	return m.next.MX(ctx, name)
}

func (m metered) PTR(ctx context.Context, addr netip.Addr) (Answer[string], error) {
	if err := spend(ctx, 1, "PTR", addr.String()); err != nil {
		return Answer[string]{}, err
	}
	return m.next.PTR(ctx, addr)
}
