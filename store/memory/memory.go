// Package memory keeps store.Counters in memory: right for one machine, where
// rate limits and failure counts may begin anew after a restart.
//
// # Diagnostics
//
// It never fails. When it holds as many counters as it may, those whose time is
// over go first, then any: a limit that is forgotten lets a client through, it
// never blocks one.
package memory

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"postern/store"
)

const shards = 16

// Counters implements store.Counters.
type Counters struct {
	now  func() time.Time
	max  int // per shard
	seed maphash.Seed
	part [shards]shard
}

type shard struct {
	mu sync.Mutex
	m  map[string]counter
}

type counter struct {
	n     int64
	until time.Time
}

var _ store.Counters = (*Counters)(nil)

// NewCounters returns counters that hold at most max keys; 0 is a million.
func NewCounters(now func() time.Time, max int) *Counters {
	if max <= 0 {
		max = 1 << 20
	}
	c := &Counters{now: now, max: (max + shards - 1) / shards, seed: maphash.MakeSeed()}
	for i := range c.part {
		c.part[i].m = map[string]counter{}
	}
	return c
}

func (c *Counters) shard(key string) *shard {
	return &c.part[maphash.String(c.seed, key)%shards]
}

// live returns the counter if its time is not over.
func (s *shard) live(key string, now time.Time) (counter, bool) {
	v, ok := s.m[key]
	if ok && !now.Before(v.until) {
		delete(s.m, key)
		return counter{}, false
	}
	return v, ok
}

// set stores the counter and makes room for it first.
func (s *shard) set(key string, v counter, now time.Time, max int) {
	if _, ok := s.m[key]; !ok && len(s.m) >= max {
		for k, old := range s.m {
			if !now.Before(old.until) {
				delete(s.m, k)
			}
		}
		for k := range s.m {
			if len(s.m) <= max-max/16-1 {
				break
			}
			delete(s.m, k)
		}
	}
	s.m[key] = v
}

// Add implements store.Counters.
func (c *Counters) Add(_ context.Context, key string, n int64, ttl time.Duration) (int64, error) {
	s, now := c.shard(key), c.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.live(key, now)
	if !ok {
		v.until = now.Add(ttl)
	}
	v.n += n
	s.set(key, v, now, c.max)
	return v.n, nil
}

// Get implements store.Counters.
func (c *Counters) Get(_ context.Context, key string) (int64, error) {
	s, now := c.shard(key), c.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	v, _ := s.live(key, now)
	return v.n, nil
}

// Put implements store.Counters.
func (c *Counters) Put(_ context.Context, key string, n int64, ttl time.Duration) error {
	s, now := c.shard(key), c.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(key, counter{n, now.Add(ttl)}, now, c.max)
	return nil
}

// Delete implements store.Counters.
func (c *Counters) Delete(_ context.Context, key string) error {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, key)
	return nil
}
