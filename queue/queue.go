package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"postern/mail"
	"postern/relay"
	"postern/spool"
)

// ErrDelivering means that an entry cannot be dropped because a delivery of it
// is under way: nobody can say yet what will become of it.
var ErrDelivering = errors.New("a delivery of this entry is under way")

// Options are the settings of a Queue. Reconfigure may change all but Spool.
type Options struct {
	Spool *spool.Spool

	// Deliver tries once to deliver a message to the recipients of e, which are
	// those still pending, and returns an outcome for each, in their order.
	Deliver func(ctx context.Context, e spool.Entry, content io.ReaderAt, size int64) []relay.Outcome

	// Submit sends a message of our own, durably: a DSN. If it fails the
	// recipients that the DSN is about stay in the queue.
	Submit func(ctx context.Context, from mail.Path, to []mail.Recipient, content []byte) (id string, err error)

	// Keep takes what could not be delivered and whose author must not be told,
	// for review; e has the recipients that failed. If it fails they stay in
	// the queue. If it is nil such mail is dropped, with an Event and a warning.
	Keep func(ctx context.Context, e spool.Entry, content io.ReaderAt, size int64) error

	// Events is told what became of each recipient. It is called from many
	// goroutines and should return soon.
	Events func(Event)

	// Destination names what shares connections, concurrency and back-off; nil:
	// the upstream. Where the next hop is found by MX it should be the domain.
	Destination func(e *spool.Entry) string

	Schedule    []time.Duration // pauses after each attempt, the last repeats [1m 5m 15m 1h 4h]
	Expire      time.Duration   // [5d]
	Concurrency int             // deliveries at once to one destination [20]
	Total       int             // deliveries at once [200]
	BackOff     time.Duration   // pause after a destination could not be reached [30s], doubled up to
	BackOffMax  time.Duration   // this [5m]
	Bounce      string          // "outbound" (default): DSNs only about mail of our own users; "always"
	DelayAfter  time.Duration   // a DSN says that a message is late after that [4h]
	DelayNotify bool            // also if the client did not ask for it with NOTIFY=DELAY
	ReturnMax   int64           // a DSN returns at most so much of a message [1 MiB]
	Grace       time.Duration   // how long deliveries may go on after Run's context ends [30s]

	Hostname string    // our name in DSNs
	Author   mail.Path // author of DSNs; default MAILER-DAEMON@Hostname
	Language string    // of DSNs: "en" (default) or "fr", which has English too

	Log  *slog.Logger
	Now  func() time.Time
	Rand func() float64 // in [0,1): jitter and boundaries
}

func (o *Options) setDefaults() {
	if len(o.Schedule) == 0 {
		o.Schedule = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 4 * time.Hour}
	}
	setDefault(&o.Expire, 5*24*time.Hour)
	setDefault(&o.Concurrency, 20)
	setDefault(&o.Total, 200)
	setDefault(&o.BackOff, 30*time.Second)
	setDefault(&o.BackOffMax, 5*time.Minute)
	setDefault(&o.DelayAfter, 4*time.Hour)
	setDefault(&o.ReturnMax, 1<<20)
	setDefault(&o.Grace, 30*time.Second)
	setDefault(&o.Hostname, "localhost")
	setDefault(&o.Author, mail.Path{Local: "MAILER-DAEMON", Domain: o.Hostname})
	if o.Destination == nil {
		o.Destination = func(e *spool.Entry) string { return e.Upstream }
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = defaultRand
	}
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// A Queue delivers what is in a spool. Its methods may be called from many
// goroutines.
type Queue struct {
	spool *spool.Spool

	mu    sync.Mutex
	o     *Options // replaced, never changed
	jobs  map[string]*job
	later jobHeap // those that wait for their time
	dests map[string]*destination
	ready map[*destination]bool // those that have jobs that are due
	busy  int                   // deliveries under way
	last  time.Time             // the latest that the clock has said
	swept time.Time             // when dests was last cleared of idle ones

	wake chan struct{}
	work sync.WaitGroup
}

// A job is an entry as the queue sees it.
type job struct {
	id        string
	dest      string
	upstream  string
	received  time.Time
	next      time.Time
	suspended bool
	running   bool
	ready     bool   // in its destination's list
	again     bool   // Retry came while a delivery was under way
	heap      int    // index in later; -1: not there
	cause     string // why the last attempt failed, if it was not for a reply
}

// New returns a Queue of all that is in the spool. Nothing is delivered before
// Run.
func New(o Options) *Queue {
	o.setDefaults()
	q := &Queue{spool: o.Spool, o: &o, jobs: map[string]*job{}, dests: map[string]*destination{},
		ready: map[*destination]bool{}, wake: make(chan struct{}, 1)}
	q.last = o.Now()
	for _, e := range o.Spool.List() {
		q.insert(&e)
	}
	return q
}

// Reconfigure puts other settings in force. Deliveries under way end with those
// that they began with.
func (q *Queue) Reconfigure(o Options) {
	o.setDefaults()
	o.Spool = q.spool
	q.mu.Lock()
	q.o = &o
	q.mu.Unlock()
	q.Wake()
}

func (q *Queue) options() *Options {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.o
}

// Add makes the queue deliver entries that were committed to the spool.
func (q *Queue) Add(ids ...string) {
	for _, id := range ids {
		e, err := q.spool.Get(id)
		if err != nil {
			continue // gone already
		}
		q.mu.Lock()
		if q.jobs[id] == nil {
			q.insert(&e)
		}
		q.mu.Unlock()
	}
	q.Wake()
}

// insert makes a job of an entry. q.mu is held, or nobody else has q yet.
func (q *Queue) insert(e *spool.Entry) {
	j := &job{id: e.ID, dest: q.o.Destination(e), upstream: e.Upstream, received: e.Received, next: e.NextAttempt,
		suspended: e.Suspended, heap: -1}
	// A time far ahead is what a clock that went wrong has left.
	if latest := q.o.Now().Add(q.longest()); j.next.After(latest) {
		j.next = latest
	}
	q.jobs[j.id] = j
	if !j.suspended {
		q.later.push(j)
	}
}

// Wake makes Run look again for what is due.
func (q *Queue) Wake() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends. Then it starts nothing new, gives deliveries
// under way Options.Grace to end, cancels the rest, and returns when all have
// ended. What was not delivered stays in the spool.
func (q *Queue) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return q.stop(cancel)
		case <-q.wake:
		case <-timer.C:
		}
		timer.Reset(q.dispatch(work))
	}
}

// stop waits for the deliveries under way.
func (q *Queue) stop(cancel context.CancelFunc) error {
	ended := make(chan struct{})
	go func() {
		q.work.Wait()
		close(ended)
	}()
	grace := time.NewTimer(q.options().Grace)
	defer grace.Stop()
	select {
	case <-ended:
		return nil
	case <-grace.C:
	}
	cancel()
	<-ended
	return nil
}

// longestWait is how long Run sleeps at most: the clock may have jumped.
const longestWait = 20 * time.Second

// dispatch starts what is due and returns how long until something else is.
func (q *Queue) dispatch(ctx context.Context) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.o.Now()
	q.watchClock(now)
	for len(q.later) > 0 && !q.later[0].next.After(now) {
		j := q.later.pop()
		d := q.destination(j.dest)
		j.ready = true
		d.ready = append(d.ready, j)
		q.ready[d] = true
	}
	wait := longestWait
	if len(q.later) > 0 {
		wait = min(wait, q.later[0].next.Sub(now))
	}
	for d := range q.ready {
		q.serve(ctx, d, now)
		if len(d.ready) == 0 {
			delete(q.ready, d)
		}
	}
	q.sweep(now)
	return max(wait, time.Millisecond)
}

// sweep forgets destinations that are idle.
func (q *Queue) sweep(now time.Time) {
	if since := now.Sub(q.swept); since >= 0 && since < time.Minute {
		return
	}
	q.swept = now
	for name, d := range q.dests {
		if d.idle(now, q.o.BackOffMax) {
			delete(q.dests, name)
		}
	}
}

// watchClock mends the times of all jobs after the clock went back: nothing may
// wait longer than the longest pause.
func (q *Queue) watchClock(now time.Time) {
	if back := q.last.Sub(now); back > time.Minute {
		q.o.Log.Warn("the clock went back: what waits is rescheduled", "by", back)
		for _, j := range q.jobs {
			j.next = earliest(j.next, now.Add(q.longest()))
		}
		q.later.fix()
		for _, d := range q.dests {
			d.until = earliest(d.until, now.Add(q.o.BackOffMax))
		}
		q.last = now
	}
	if now.After(q.last) {
		q.last = now
	}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// pause returns how long to wait after so many attempts, without jitter.
func (o *Options) pause(attempts int) time.Duration {
	return o.Schedule[min(max(attempts, 1), len(o.Schedule))-1]
}

// next returns when the next attempt is due.
func (o *Options) next(now time.Time, attempts int) time.Time {
	p := o.pause(attempts)
	return now.Add(p - p/10 + time.Duration(o.Rand()*float64(p/5)))
}

// longest is the longest pause with jitter.
func (q *Queue) longest() time.Duration {
	var longest time.Duration
	for _, p := range q.o.Schedule {
		longest = max(longest, p)
	}
	return longest + longest/5
}

// tried returns the sum of so many pauses between attempts: how long an entry
// has been tried for, whatever any clock says.
func (o *Options) tried(attempts int) time.Duration {
	var sum time.Duration
	attempts = max(attempts, 0)
	n := min(attempts, len(o.Schedule))
	for i := range n {
		sum += o.Schedule[i]
	}
	return sum + time.Duration(attempts-n)*o.Schedule[len(o.Schedule)-1]
}

// older reports whether an entry has been in the queue for d: by the clock, and
// by the attempts that were made. Neither a clock that jumps ahead nor a
// machine that was off for a week makes an entry old; and if the clock stands
// before the time at which the entry was received, the attempts alone count.
func (o *Options) older(e *spool.Entry, now time.Time, d time.Duration) bool {
	age := now.Sub(e.Received)
	return (age >= d || age < 0) && o.tried(e.Attempts-1) >= d
}

// Retry makes an entry due now.
func (q *Queue) Retry(id string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	j := q.jobs[id]
	if j == nil {
		return fmt.Errorf("retry %s: %w", id, spool.ErrNotFound)
	}
	d := q.destination(j.dest)
	d.until = time.Time{} // whoever asks for it has a reason to think that the next hop is back
	switch {
	case j.running:
		j.again = true
	case j.suspended || j.ready:
	default:
		j.next = q.o.Now()
		q.later.remove(j)
		q.later.push(j)
	}
	q.Wake()
	return nil
}

// Suspend keeps an entry from being tried until Resume. A delivery under way is
// not stopped.
func (q *Queue) Suspend(id string) error { return q.setSuspended(id, true) }

// Resume lets a suspended entry be tried again, now.
func (q *Queue) Resume(id string) error { return q.setSuspended(id, false) }

func (q *Queue) setSuspended(id string, suspended bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	j := q.jobs[id]
	if j == nil {
		return fmt.Errorf("suspend %s: %w", id, spool.ErrNotFound)
	}
	if j.suspended == suspended {
		return nil
	}
	var err error
	if !j.running { // else the end of the delivery writes it
		var e spool.Entry
		if e, err = q.spool.Get(id); err != nil {
			return err
		}
		e.Suspended = suspended
		err = q.spool.Update(e)
		if errors.Is(err, spool.ErrNotFound) || errors.Is(err, spool.ErrClosed) {
			return err
		}
		// After any other error it holds, but is not on disk yet.
	}
	j.suspended = suspended
	switch {
	case suspended:
		q.later.remove(j)
	case !j.running && !j.ready:
		j.next = q.o.Now()
		q.later.push(j)
	}
	q.Wake()
	return err
}

// Drop takes an entry out. Nobody is told but Events: it is for mail that an
// administrator knows to be worthless.
func (q *Queue) Drop(id, reason string) error {
	q.mu.Lock()
	j := q.jobs[id]
	if j == nil {
		q.mu.Unlock()
		return fmt.Errorf("drop %s: %w", id, spool.ErrNotFound)
	}
	if j.running {
		q.mu.Unlock()
		return fmt.Errorf("drop %s: %w", id, ErrDelivering)
	}
	e, err := q.spool.Get(id)
	if err == nil {
		err = q.spool.Remove(id)
	}
	q.forget(j)
	o := q.o
	q.mu.Unlock()
	if errors.Is(err, spool.ErrNotFound) {
		return fmt.Errorf("drop %s: %w", id, err)
	}
	now := o.Now()
	for _, i := range e.Pending() {
		e.To[i].State, e.To[i].At = spool.Dropped, now
		o.Events(Event{Kind: EventDropped, Entry: e, To: e.To[i], Delay: now.Sub(e.Received), Reason: reason, Reply: e.To[i].Reply})
	}
	if err != nil {
		return fmt.Errorf("drop %s: %w", id, err)
	}
	return nil
}

// forget takes a job out. q.mu is held.
func (q *Queue) forget(j *job) {
	delete(q.jobs, j.id)
	q.later.remove(j)
}
