package smtpd

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// addresses counts what each client address does: connections at once and
// messages in time.
type addresses struct {
	mu    sync.Mutex
	known map[netip.Addr]*visitor
	swept int // how many were known after the last sweep
}

type visitor struct {
	conns    int
	messages *rate.Limiter
	rate     Rate
}

func newAddresses() *addresses {
	return &addresses{known: map[netip.Addr]*visitor{}}
}

// network returns what counts as one address: an IPv4 address, or the /64 that
// an IPv6 host has for itself.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// enter counts a connection, unless the address has max of them already.
func (t *addresses) enter(a netip.Addr, max int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.get(network(a))
	if v.conns >= max {
		return false
	}
	v.conns++
	return true
}

// leave takes back one enter.
func (t *addresses) leave(a netip.Addr) {
	a = network(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.known[a]
	if v == nil {
		return
	}
	v.conns--
	if v.conns <= 0 && v.messages == nil {
		delete(t.known, a)
	}
}

// allow counts a message, unless the address has sent too many.
func (t *addresses) allow(a netip.Addr, r Rate, now time.Time) bool {
	if r.Messages <= 0 {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	v := t.get(network(a))
	if v.messages == nil || v.rate != r {
		v.messages = rate.NewLimiter(rate.Limit(float64(r.Messages)/r.Per.Seconds()), r.Messages)
		v.rate = r
	}
	return v.messages.AllowN(now, 1)
}

func (t *addresses) get(a netip.Addr) *visitor {
	v := t.known[a]
	if v == nil {
		v = &visitor{}
		t.known[a] = v
	}
	return v
}

// sweep forgets, each time that the table has doubled, whoever has no
// connection and has not sent for long enough to send at full rate again.
func (t *addresses) sweep(now time.Time) {
	if len(t.known) < 2*t.swept+1024 {
		return
	}
	for a, v := range t.known {
		if v.conns == 0 && (v.messages == nil || v.messages.TokensAt(now) >= float64(v.rate.Messages)) {
			delete(t.known, a)
		}
	}
	t.swept = len(t.known)
}
