package queue

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"postern/spool"
)

// A Status is where an entry stands in the queue.
type Status string

// Where an entry may stand.
const (
	StatusDue        Status = "due"        // its time has come
	StatusDelivering Status = "delivering" // an attempt is under way
	StatusDeferred   Status = "deferred"   // it waits for its time
	StatusSuspended  Status = "suspended"  // it waits for an administrator
)

// A Filter chooses entries. The zero Filter chooses all. Texts match any part of
// an address, whatever the case.
type Filter struct {
	From     string
	To       string // a pending recipient
	Upstream string
	Text     string // in id, addresses or last replies
}

// An Item is one entry of a list.
type Item struct {
	spool.Entry
	Status Status
	Next   time.Time // when it is tried next
	Cause  string    // why the last attempt failed, if not for a reply of the next hop; not known after a restart
}

// List returns the entries that f chooses, in the order of their coming.
func (q *Queue) List(f Filter) []Item {
	var items []Item
	for _, e := range q.spool.List() {
		if !f.chooses(&e) {
			continue
		}
		it := Item{Entry: e, Status: StatusDue, Next: e.NextAttempt}
		q.mu.Lock()
		if j := q.jobs[e.ID]; j != nil {
			it.Status, it.Next, it.Cause = q.status(j), j.next, j.cause
		}
		q.mu.Unlock()
		items = append(items, it)
	}
	return items
}

// status says where a job stands. q.mu is held.
func (q *Queue) status(j *job) Status {
	switch {
	case j.running:
		return StatusDelivering
	case j.suspended:
		return StatusSuspended
	case j.ready || !j.next.After(q.o.Now()):
		return StatusDue
	}
	return StatusDeferred
}

func (f *Filter) chooses(e *spool.Entry) bool {
	if f.Upstream != "" && f.Upstream != e.Upstream || !contains(e.From.String(), f.From) {
		return false
	}
	to := f.To == ""
	text := contains(e.ID, f.Text) || contains(e.Transaction, f.Text) || contains(e.From.String(), f.Text)
	for i := range e.To {
		r := &e.To[i]
		to = to || r.State == spool.Pending && contains(r.Path.String(), f.To)
		text = text || contains(r.Path.String(), f.Text) || contains(r.Reply.String(), f.Text)
	}
	return to && text
}

func contains(s, part string) bool {
	return part == "" || strings.Contains(strings.ToLower(s), strings.ToLower(part))
}

// Stats are figures of the queue now.
type Stats struct {
	Upstreams   []UpstreamStats // by name
	Entries     int
	Delivering  int      // attempts under way
	Unreachable []string // destinations that the last attempt could not reach, by name
	SetAside    int      // damaged entries and pieces of the log since the start
}

// UpstreamStats are figures of what waits for one upstream.
type UpstreamStats struct {
	Name                                 string
	Messages                             int
	Due, Delivering, Deferred, Suspended int // parts of Messages
	Oldest                               time.Duration
}

// Stats returns the figures.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.o.Now()
	st := Stats{Entries: len(q.jobs), Delivering: q.busy, SetAside: q.spool.Aside()}
	by := map[string]*UpstreamStats{}
	for _, j := range q.jobs {
		u := by[j.upstream]
		if u == nil {
			u = &UpstreamStats{Name: j.upstream}
			by[j.upstream] = u
		}
		u.Messages++
		u.Oldest = max(u.Oldest, now.Sub(j.received))
		switch q.status(j) {
		case StatusDue:
			u.Due++
		case StatusDelivering:
			u.Delivering++
		case StatusDeferred:
			u.Deferred++
		case StatusSuspended:
			u.Suspended++
		}
	}
	for _, u := range by {
		st.Upstreams = append(st.Upstreams, *u)
	}
	slices.SortFunc(st.Upstreams, func(a, b UpstreamStats) int { return cmp.Compare(a.Name, b.Name) })
	for name, d := range q.dests {
		if d.failures > 0 {
			st.Unreachable = append(st.Unreachable, name)
		}
	}
	slices.Sort(st.Unreachable)
	return st
}
