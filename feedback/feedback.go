// Package feedback tells other domains how their mail fares here: it keeps count
// of the messages that DMARC has judged, and once a day sends an aggregate report
// to each domain that asks for one (RFC 9990).
//
// Note counts a message, in memory; nothing that it does can slow or fail the
// mail. Once a minute the counts go to the store, and those of a day that is over
// become reports: one for each domain and day, sent at some time of the night
// that differs from domain to domain, so that not all the world reports at once.
// A report is submitted like other mail of our own, once for each address that
// wants it and may have it; then its records are removed. What could not be
// submitted is tried again until it is too old. The same report always has the
// same name, so that one that was sent twice, because the power failed in
// between, counts once.
//
// What is kept: the addresses of sending hosts, domains, selectors, results. No
// address of a person and nothing of the content.
//
// Not counted are mail of our own clients, mail with our own domains as author,
// unless that is asked for, and the messages that carry reports to us: else two
// sites would report to each other about their reports for ever.
//
// # Diagnostics
//
// Errors are logged, each with what becomes of the records. When more is seen in
// a day than is kept, the log says how many messages the reports leave out.
package feedback

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"postern/dns"
	"postern/filters/dmarc"
	"postern/filters/dmarc/report"
	"postern/mail"
	"postern/store"
)

// Settings are those of the policy that is in force.
type Settings struct {
	On           bool
	From         mail.Path // author of the reports
	Organisation string
	Contact      string
	Own          bool     // report to our own domains too
	Domains      []string // our own
	Keep         time.Duration
}

// Options are what a Reporter is made of.
type Options struct {
	Tallies   store.Tallies
	Records   store.Records // remembers whether the clock can be trusted
	Settings  func() Settings
	Resolver  dns.Resolver
	Submit    func(ctx context.Context, from mail.Path, to []mail.Recipient, content []byte) (id string, err error)
	Signs     func(domain string) bool // mail with this author domain is signed with DKIM
	Generator string                   // our name and version
	Log       *slog.Logger
	Now       func() time.Time
}

// Bounds of what is kept.
const (
	maxMemory = 5_000   // different records between two writes
	maxRows   = 5_000   // different records of one domain and day
	maxTotal  = 100_000 // of all together
	batch     = 1_000   // in one write
)

// A Reporter counts and reports. It is safe for concurrent use.
type Reporter struct {
	o Options

	mu    sync.Mutex
	seen  map[key]int64
	about map[subject][]byte
	lost  int64         // messages that were not counted
	full  chan struct{} // has one when memory has become half full

	work  sync.Mutex // one at a time writes or sends
	swept time.Time
}

// A subject is a domain on a day.
type subject struct{ day, domain string }

// A key is a record without its count, as JSON.
type key struct {
	subject
	row string
}

// about is what is kept of a subject.
type about struct {
	Policy  report.Published
	RUA     []dmarc.URI
	Misread bool
}

// New returns a Reporter.
func New(o Options) *Reporter {
	return &Reporter{o: o, seen: map[key]int64{}, about: map[subject][]byte{}, full: make(chan struct{}, 1)}
}

// every is how often counts are written and what is due is sent.
const every = time.Minute

// Run writes and sends until ctx ends; then it writes once more.
func (r *Reporter) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			r.Flush(last)
			return
		case <-tick.C:
			r.Tick(ctx)
		case <-r.full:
			r.Flush(ctx)
		}
	}
}

// Tick does what is due now: it writes the counts, sends reports and removes what
// is too old.
func (r *Reporter) Tick(ctx context.Context) {
	if r.Flush(ctx) == nil { // else a report might lack what is not written
		r.send(ctx)
	}
	r.sweep(ctx)
}

// day is the UTC day of a time.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// Flush writes the counts to the store. What cannot be written stays in memory;
// the error has been logged.
func (r *Reporter) Flush(ctx context.Context) error {
	r.work.Lock()
	defer r.work.Unlock()
	r.mu.Lock()
	seen, subjects, lost := r.seen, r.about, r.lost
	r.seen, r.about, r.lost = map[key]int64{}, map[subject][]byte{}, 0
	r.mu.Unlock()
	left, err := r.write(ctx, seen, subjects)
	if lost += left; lost > 0 {
		r.o.Log.Warn("DMARC reports leave messages out: there are too many different ones, or their day is reported already", "messages", lost)
	}
	if err != nil {
		r.restore(seen, subjects)
		r.o.Log.Error("keep records for DMARC reports: they stay in memory", "records", len(seen), "error", err)
	}
	return err
}

// write writes what it can and removes it from seen.
func (r *Reporter) write(ctx context.Context, seen map[key]int64, subjects map[subject][]byte) (left int64, err error) {
	if len(seen) == 0 {
		return 0, nil
	}
	limit, err := r.limit(ctx)
	if err != nil {
		return 0, err
	}
	for len(seen) > 0 {
		tallies, keys := make([]store.Tally, 0, min(batch, len(seen))), make([]key, 0, min(batch, len(seen)))
		for k, n := range seen {
			tallies, keys = append(tallies, store.Tally{Day: k.day, Name: k.domain, About: subjects[k.subject], Row: []byte(k.row), Count: n}), append(keys, k)
			if len(keys) == batch {
				break
			}
		}
		n, err := r.o.Tallies.Tally(ctx, tallies, limit)
		if err != nil {
			return left, err
		}
		left += n
		for _, k := range keys {
			delete(seen, k)
		}
	}
	return left, nil
}

// limit is how many records a subject may have: no new ones when there are too
// many of all together.
func (r *Reporter) limit(ctx context.Context) (int, error) {
	subjects, err := r.o.Tallies.Subjects(ctx)
	if err != nil {
		return 0, err
	}
	total := 0
	for _, s := range subjects {
		total += s.Rows
	}
	if total+len(subjects) >= maxTotal {
		return 0, nil
	}
	return maxRows, nil
}

// restore puts back what could not be written.
func (r *Reporter) restore(seen map[key]int64, subjects map[subject][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, n := range seen {
		if _, ok := r.seen[k]; !ok && len(r.seen) >= maxMemory {
			r.lost += n
			continue
		}
		r.seen[k] += n
		if _, ok := r.about[k.subject]; !ok {
			r.about[k.subject] = subjects[k.subject]
		}
	}
}

// sweepEvery is how often old days are removed.
const sweepEvery = time.Hour

// sweep removes what is older than the policy lets it be, unless the clock cannot
// be trusted.
func (r *Reporter) sweep(ctx context.Context) {
	r.work.Lock()
	defer r.work.Unlock()
	now := r.o.Now()
	if since := now.Sub(r.swept); since >= 0 && since < sweepEvery {
		return
	}
	r.swept = now
	steady, err := store.Steady(ctx, r.o.Records, "feedback.clock", now, 24*time.Hour)
	if err != nil {
		r.o.Log.Error("remove old records of DMARC reports", "error", err)
		return
	}
	if !steady {
		return
	}
	removed, open, err := r.o.Tallies.Expire(ctx, day(now.Add(-r.o.Settings().Keep)))
	switch {
	case err != nil:
		r.o.Log.Error("remove old records of DMARC reports", "error", err)
	case open > 0:
		r.o.Log.Warn("DMARC reports are too old and were never sent: their records are removed", "reports", open)
	case removed > 0:
		r.o.Log.Info("what is known of old DMARC reports is removed", "reports", removed)
	}
}
