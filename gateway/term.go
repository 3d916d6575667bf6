package gateway

import (
	"context"
	"sync"
	"time"
)

// processLimit bounds filters and next hop together: the client waits ten
// minutes for the reply to the end of data (RFC 5321 section 4.5.3.2.6).
const processLimit = 5 * time.Minute

// terms give transactions their time limit. Those of one listener that come to
// their end of data within the same second share it: a context with a timer for
// each would cost more than to find one.
type terms struct {
	mu sync.Mutex
	m  map[context.Context]term // by the listener's context
}

// A term is a time limit that ends processLimit after it was first asked for.
type term struct {
	ctx   context.Context
	since time.Time
	end   context.CancelFunc
}

// shared is for how long a term is given out.
const shared = time.Second

// of returns a context that ends with parent, or after processLimit less shared
// at the soonest. It must not be held on to when the transaction is over.
func (ts *terms) of(parent context.Context) context.Context {
	now := time.Now()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t, ok := ts.m[parent]
	if ok && now.Sub(t.since) < shared {
		return t.ctx
	}
	t = term{since: now}
	t.ctx, t.end = context.WithDeadline(parent, now.Add(processLimit))
	for p, old := range ts.m { // listeners that are gone
		if p.Err() != nil {
			old.end()
			delete(ts.m, p)
		}
	}
	if ts.m == nil {
		ts.m = map[context.Context]term{}
	}
	ts.m[parent] = t
	return t.ctx
}
