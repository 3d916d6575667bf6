package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
)

// ErrBudget is in the error of a look-up that a budget does not allow any more.
// Such errors wrap ErrTemporary too: nothing is known of the records.
var ErrBudget = errors.New("too many DNS look-ups for one message")

// WithBudget returns a Resolver that asks r at most the given number of times.
// Whoever sends a message says what is looked up for it; a budget bounds what
// that costs us and the servers asked. Addrs counts as two look-ups. The
// Resolver is safe for concurrent use.
func WithBudget(r Resolver, lookUps int) Resolver {
	b := &budget{next: r}
	b.left.Store(int64(lookUps))
	return b
}

// A budget is a Resolver that counts.
type budget struct {
	next Resolver
	left atomic.Int64
}

// spend takes look-ups from what is left.
func (b *budget) spend(n int64, kind, name string) error {
	if b.left.Add(-n) < 0 {
		return fmt.Errorf("%w: %s %s: %w", ErrTemporary, kind, name, ErrBudget)
	}
	return nil
}

// within asks a question if the budget allows it.
func within[T any](b *budget, n int64, kind, name string, ask func() (Answer[T], error)) (Answer[T], error) {
	if err := b.spend(n, kind, name); err != nil {
		return Answer[T]{}, err
	}
	return ask()
}

func (b *budget) TXT(ctx context.Context, name string) (Answer[string], error) {
	return within(b, 1, "TXT", name, func() (Answer[string], error) { return b.next.TXT(ctx, name) })
}

func (b *budget) Addrs(ctx context.Context, name string) (Answer[netip.Addr], error) {
	return within(b, 2, "A and AAAA", name, func() (Answer[netip.Addr], error) { return b.next.Addrs(ctx, name) })
}

func (b *budget) A(ctx context.Context, name string) (Answer[netip.Addr], error) {
	return within(b, 1, "A", name, func() (Answer[netip.Addr], error) { return b.next.A(ctx, name) })
}

func (b *budget) AAAA(ctx context.Context, name string) (Answer[netip.Addr], error) {
	return within(b, 1, "AAAA", name, func() (Answer[netip.Addr], error) { return b.next.AAAA(ctx, name) })
}

func (b *budget) MX(ctx context.Context, name string) (Answer[MX], error) {
	return within(b, 1, "MX", name, func() (Answer[MX], error) { return b.next.MX(ctx, name) })
}

func (b *budget) PTR(ctx context.Context, addr netip.Addr) (Answer[string], error) {
	return within(b, 1, "PTR", addr.String(), func() (Answer[string], error) { return b.next.PTR(ctx, addr) })
}
