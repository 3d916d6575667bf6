package relay

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A poolKey says which connections may stand in for each other: those to the
// same address under the same settings.
type poolKey struct {
	hop, address, host string
	tls                string // the mode in force: the hop's, tightened by the mail's demands
	config             *tls.Config
	serverName         string
	user, password     string
	lmtp               bool
}

// isUnix reports whether the address is a Unix socket.
func (k *poolKey) isUnix() bool { return strings.HasPrefix(k.address, "unix:") }

// pools keep the connections that are idle, and count those that are busy.
type pools struct {
	mu       sync.Mutex
	m        map[poolKey]*pool
	idleTime time.Duration
	reaper   *time.Timer // runs while there are idle connections
	busy     map[net.Conn]struct{}
	ended    atomic.Bool   // set while mu is held
	end      chan struct{} // closed then

	sessionsMu sync.Mutex
	sessionsOf map[poolKey]tls.ClientSessionCache
}

// A pool is the connections of one key.
type pool struct {
	idle    []*conn // the last one was used last
	busy    int
	waiting []chan struct{}
}

// maxAge is how long one connection is used again and again: long enough to
// matter, short enough to follow a next hop that moves behind a load balancer.
const maxAge = 5 * time.Minute

func (ps *pools) init(idleTime time.Duration) {
	ps.m, ps.idleTime = map[poolKey]*pool{}, idleTime
	ps.sessionsOf = map[poolKey]tls.ClientSessionCache{}
	ps.busy, ps.end = map[net.Conn]struct{}{}, make(chan struct{})
}

// watch says that a connection is busy: closing the pools ends it. It returns
// false if they are closed already.
func (ps *pools) watch(nc net.Conn) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.busy[nc] = struct{}{}
	return !ps.ended.Load()
}

// forget says that a connection is not to be ended any more.
func (ps *pools) forget(nc net.Conn) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.busy, nc)
}

// get returns an idle connection, or nil when the caller is to make one. It
// waits while limit connections are busy. Whoever got something gives it back
// with put or drop. fresh says that idle connections are not to be trusted: they
// are closed.
func (ps *pools) get(ctx context.Context, key poolKey, limit int, fresh bool) (*conn, error) {
	for {
		cn, stale, wait := ps.tryGet(key, limit, fresh)
		for _, old := range stale {
			_ = old.Close()
		}
		if wait == nil {
			if cn == nil || cn.quiet() && time.Since(cn.born) < maxAge {
				return cn, nil
			}
			ps.drop(cn.key, cn.raw)
			cn.quitBriefly()
			continue
		}
		select {
		case <-ctx.Done():
			ps.forgo(key, wait)
			return nil, context.Cause(ctx)
		case <-ps.end:
			ps.forgo(key, wait)
			return nil, errClosed
		case <-wait:
		}
	}
}

// tryGet is get without waiting: it returns a channel to wait on instead.
func (ps *pools) tryGet(key poolKey, limit int, fresh bool) (cn *conn, stale []*conn, wait chan struct{}) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.m[key]
	if p == nil {
		p = &pool{}
		ps.m[key] = p
	}
	if fresh {
		stale, p.idle = p.idle, nil
	}
	switch n := len(p.idle); {
	case p.busy >= limit:
		wait = make(chan struct{})
		p.waiting = append(p.waiting, wait)
		return nil, stale, wait
	case n > 0:
		cn = p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		ps.busy[cn.raw] = struct{}{}
	}
	p.busy++
	return cn, stale, nil
}

// forgo says that wait is no longer waited on; if it was woken meanwhile, the
// next one is.
func (ps *pools) forgo(key poolKey, wait chan struct{}) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.m[key]
	if p == nil {
		return
	}
	for i, w := range p.waiting {
		if w == wait {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return
		}
	}
	p.wake()
}

// wake wakes one who waits.
func (p *pool) wake() {
	if len(p.waiting) > 0 {
		close(p.waiting[0])
		p.waiting = p.waiting[1:]
	}
}

// drop says that a busy connection is gone, or was not made.
func (ps *pools) drop(key poolKey, nc net.Conn) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.busy, nc)
	p := ps.m[key]
	p.busy--
	p.wake()
	if p.busy == 0 && len(p.idle) == 0 && len(p.waiting) == 0 {
		delete(ps.m, key)
	}
}

// put gives a connection back for others to use.
func (ps *pools) put(cn *conn) {
	cn.ctx = context.Background()
	cn.idle = time.Now()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.busy, cn.raw)
	p := ps.m[cn.key]
	p.busy--
	if ps.ended.Load() {
		go cn.quitBriefly()
	} else {
		p.idle = append(p.idle, cn)
		if ps.reaper == nil {
			ps.reaper = time.AfterFunc(ps.idleTime, ps.reap)
		}
	}
	p.wake()
}

// reap closes what was idle for too long.
func (ps *pools) reap() {
	limit := time.Now().Add(-ps.idleTime)
	for _, cn := range ps.takeIdle(func(cn *conn) bool { return !cn.idle.After(limit) }) {
		cn.quitBriefly()
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.reaper = nil
	for _, p := range ps.m {
		if len(p.idle) > 0 && !ps.ended.Load() {
			ps.reaper = time.AfterFunc(ps.idleTime/2, ps.reap)
			return
		}
	}
}

// takeIdle takes the idle connections that are meant out of the pools.
func (ps *pools) takeIdle(meant func(*conn) bool) []*conn {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var taken []*conn
	for key, p := range ps.m {
		kept := p.idle[:0]
		for _, cn := range p.idle {
			if meant(cn) {
				taken = append(taken, cn)
			} else {
				kept = append(kept, cn)
			}
		}
		clear(p.idle[len(kept):])
		p.idle = kept
		if p.busy == 0 && len(p.idle) == 0 && len(p.waiting) == 0 {
			delete(ps.m, key)
		}
	}
	return taken
}

// closeIdle closes the idle connections.
func (ps *pools) closeIdle() {
	for _, cn := range ps.takeIdle(func(*conn) bool { return true }) {
		cn.quitBriefly()
	}
}

// closeAll closes the idle connections and ends what the busy ones are at.
func (ps *pools) closeAll() {
	ps.mu.Lock()
	if !ps.ended.Swap(true) {
		close(ps.end)
	}
	for nc := range ps.busy {
		_ = nc.SetDeadline(past)
	}
	if ps.reaper != nil {
		ps.reaper.Stop()
	}
	ps.mu.Unlock()
	ps.closeIdle()
}

// count returns how many connections are idle and busy.
func (ps *pools) count() (idle, busy int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.m {
		idle += len(p.idle)
		busy += p.busy
	}
	return idle, busy
}

// sessions returns the TLS sessions of a key. Keys do not share them: a session
// that was made without verification must not be resumed where it is demanded.
func (ps *pools) sessions(key poolKey) tls.ClientSessionCache {
	ps.sessionsMu.Lock()
	defer ps.sessionsMu.Unlock()
	s := ps.sessionsOf[key]
	if s == nil {
		if len(ps.sessionsOf) >= 256 {
			clear(ps.sessionsOf) // they only save time
		}
		s = tls.NewLRUClientSessionCache(4)
		ps.sessionsOf[key] = s
	}
	return s
}
