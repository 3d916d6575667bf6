package relay

import (
	"log/slog"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// backOff remembers which addresses could not be reached, so that a dead one
// costs a delivery little while another works.
type backOff struct {
	n        atomic.Int32 // len(m), to look without the lock
	mu       sync.Mutex
	m        map[pathKey]*trouble
	min, max time.Duration
	log      *slog.Logger
}

// A pathKey names an address as the back-off knows it.
type pathKey struct{ hop, address, tls string }

// A trouble is one address that could not be reached.
type trouble struct {
	since time.Time // the first failure
	last  time.Time // the last one
	until time.Time // left alone until then
	fails int
	trial bool // somebody is trying it
	err   string
}

// A Destination is an address that could not be reached when it was last tried.
type Destination struct {
	Hop         string // the upstream's name
	Address     string
	Since, Next time.Time // down since; next trial
	Failures    int
	Error       string
}

// maxTroubles bounds the memory; lastChancePause keeps deliveries that have no
// other address from hammering a dead one.
const (
	maxTroubles     = 4096
	lastChancePause = time.Second
)

func (b *backOff) init(o Options) {
	b.m, b.min, b.max, b.log = map[pathKey]*trouble{}, o.BackOffMin, o.BackOffMax, o.Log
}

// allows reports whether an address may be tried now. lastChance says that
// there is nothing else left to try: then the pause is short. Of those who come
// after the pause, one may try; it tells the result with up, down or leave.
func (b *backOff) allows(key pathKey, now time.Time, lastChance bool) bool {
	if b.n.Load() == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.m[key]
	if t == nil {
		return true
	}
	until := t.until
	if lastChance {
		until = t.last.Add(min(lastChancePause, t.until.Sub(t.last)))
	}
	if t.trial || now.Before(until) {
		return false
	}
	t.trial = true
	return true
}

// up says that an address was reached.
func (b *backOff) up(key pathKey) {
	if b.n.Load() == 0 {
		return
	}
	b.mu.Lock()
	t := b.m[key]
	delete(b.m, key)
	b.n.Store(int32(len(b.m)))
	b.mu.Unlock()
	if t != nil {
		b.log.Info("next hop is back", "next_hop", key.hop, "address", key.address, "down_since", t.since, "failures", t.fails)
	}
}

// leave says that a trial ended without a result.
func (b *backOff) leave(key pathKey) {
	if b.n.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.m[key]; t != nil {
		t.trial = false
	}
}

// down says that an address, tried since began, could not be reached.
func (b *backOff) down(key pathKey, began, now time.Time, cause error) {
	b.mu.Lock()
	t := b.m[key]
	first := t == nil
	if first {
		b.makeRoom(now)
		t = &trouble{since: now}
		b.m[key] = t
		b.n.Store(int32(len(b.m)))
	}
	t.trial = false
	// Deliveries that failed side by side count once.
	if first || !began.Before(t.last) {
		pause := b.max
		if t.fails < 16 {
			pause = min(b.min<<t.fails, b.max)
		}
		t.fails++
		t.until = now.Add(pause)
	}
	t.last, t.err = now, cause.Error()
	b.mu.Unlock()
	if first {
		b.log.Warn("next hop is down", "next_hop", key.hop, "address", key.address, "error", cause)
	}
}

// cause returns why an address could not be reached, empty if it could.
func (b *backOff) cause(key pathKey) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.m[key]; t != nil {
		return t.err
	}
	return ""
}

// makeRoom forgets troubles when there are too many: old ones first.
func (b *backOff) makeRoom(now time.Time) {
	if len(b.m) < maxTroubles {
		return
	}
	for key, t := range b.m {
		if now.Sub(t.until) > b.max || len(b.m) >= maxTroubles {
			delete(b.m, key)
		}
	}
}

// list returns the addresses that are down.
func (b *backOff) list() []Destination {
	b.mu.Lock()
	defer b.mu.Unlock()
	ds := make([]Destination, 0, len(b.m))
	for key, t := range b.m {
		ds = append(ds, Destination{key.hop, key.address, t.since, t.until, t.fails, t.err})
	}
	sort.Slice(ds, func(i, j int) bool { return ds[i].Address < ds[j].Address })
	return ds
}
