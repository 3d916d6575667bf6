package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/relay"
	"postern/spool"
)

// An EventKind is what became of a recipient.
type EventKind string

// What may become of a recipient.
const (
	EventDelivered EventKind = "delivered" // the next hop has it
	EventDeferred  EventKind = "deferred"  // it will be tried again
	EventBounced   EventKind = "bounced"   // refused for good; the author was told, or Reason says why not
	EventExpired   EventKind = "expired"   // the same, because it could not be delivered in time
	EventDropped   EventKind = "dropped"   // an administrator took it out; Reason is the administrator's
)

// An Event tells what became of one recipient of an entry, at one time.
type Event struct {
	Kind   EventKind
	Entry  spool.Entry // as of this event
	To     spool.Recipient
	Hop    string // "exchange[10.0.5.10]:25"
	TLS    string
	Delay  time.Duration // since the entry was received
	Reply  mail.Reply
	Reason string
	Err    error // the cause, for the log
}

// Replies of our own about deliveries that were not tried.
var (
	replyLost = mail.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 3, 0}, Text: "the delivery ended without an outcome"}
	replyDisk = mail.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 3, 0}, Text: "the message cannot be read from the spool now"}
)

// A result is what an attempt did: the entry with its new states, and what
// stands behind them.
type result struct {
	entry    spool.Entry
	at       []int           // indexes of the recipients that were tried
	outcomes []relay.Outcome // of each
	now      time.Time
}

// attempt delivers one job.
func (q *Queue) attempt(ctx context.Context, o *Options, j *job, d *destination) {
	var outcomes []relay.Outcome
	defer func() {
		q.mu.Lock()
		d.running--
		q.busy--
		d.reached(o, o.Now(), outcomes)
		q.mu.Unlock()
		q.Wake()
	}()
	e, err := q.spool.Get(j.id)
	if err != nil {
		q.finish(o, j, nil)
		return
	}
	content, err := q.spool.Content(j.id)
	if errors.Is(err, spool.ErrCorrupt) {
		q.setAside(o, &e, err)
		q.finish(o, j, nil)
		return
	}
	r := result{entry: e, at: e.Pending()}
	if err != nil {
		r.fail(replyDisk, err)
		q.settle(ctx, o, j, &r, nil, 0)
		return
	}
	defer content.Close()
	todo := e
	todo.To = nil
	for _, i := range r.at {
		todo.To = append(todo.To, e.To[i])
	}
	if len(todo.To) > 0 {
		err = guard(func() error {
			outcomes = o.Deliver(ctx, todo, content, content.Size())
			return nil
		})
	}
	r.outcomes = outcomes
	if len(outcomes) != len(r.at) {
		r.fail(replyLost, err)
	}
	if ctx.Err() != nil && !r.any() { // cut off by the shutdown: that is no attempt
		q.finish(o, j, &e)
		return
	}
	q.settle(ctx, o, j, &r, content, content.Size())
}

// guard makes an error of a panic. A message over which one of the functions that
// we were given stumbles must not end the program: it would come again after
// each start.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// setAside gives up an entry whose content is damaged. The spool keeps what is
// left of it and raises the alarm.
func (q *Queue) setAside(o *Options, e *spool.Entry, cause error) {
	if q.spool.SetAside(e.ID, cause) != nil {
		return // gone already
	}
	for _, i := range e.Pending() {
		e.To[i].State, e.To[i].At = spool.Dropped, o.Now()
		o.Events(Event{Kind: EventDropped, Entry: *e, To: e.To[i], Delay: e.To[i].At.Sub(e.Received), Reply: e.To[i].Reply,
			Reason: "its content on disk is damaged: it was set aside", Err: cause})
	}
}

// fail gives all recipients the same temporary failure.
func (r *result) fail(reply mail.Reply, err error) {
	r.outcomes = nil
	for _, i := range r.at {
		r.outcomes = append(r.outcomes, relay.Outcome{Recipient: r.entry.To[i].Path, Reply: reply, Err: err})
	}
}

// any reports whether an outcome is final.
func (r *result) any() bool {
	for _, out := range r.outcomes {
		if out.Delivered || out.Reply.Permanent() {
			return true
		}
	}
	return false
}

// deferUntried is an attempt at a destination that is known to be out of reach.
func (q *Queue) deferUntried(o *Options, j *job, down relay.Outcome) {
	e, err := q.spool.Get(j.id)
	if err != nil {
		q.finish(o, j, nil)
		return
	}
	r := result{entry: e, at: e.Pending()}
	reply := down.Reply
	if !reply.Temporary() {
		reply = replyLost
	}
	r.fail(reply, nil)
	for i := range r.outcomes {
		r.outcomes[i].Hop, r.outcomes[i].Down = down.Hop, true
	}
	content, err := q.spool.Content(j.id)
	if err != nil {
		q.settle(context.Background(), o, j, &r, nil, 0) // found out when it is tried
		return
	}
	defer content.Close()
	q.settle(context.Background(), o, j, &r, content, content.Size())
}

// settle records what an attempt did: it writes DSNs, the new state, events.
func (q *Queue) settle(ctx context.Context, o *Options, j *job, r *result, content io.ReaderAt, size int64) {
	ctx = context.WithoutCancel(ctx) // what the next hop has taken must be recorded, shutdown or not
	e := &r.entry
	r.now = o.Now()
	e.Attempts++
	e.LastAttempt, e.NextAttempt = r.now, o.next(r.now, e.Attempts)
	expired := o.older(e, r.now, o.Expire)
	for n, i := range r.at {
		r.apply(&e.To[i], r.outcomes[n], expired)
	}
	reason := q.report(ctx, o, r, content, size)
	q.remember(j, r.outcomes)
	q.finish(o, j, e)
	for n, i := range r.at {
		to := e.To[i]
		ev := Event{Kind: kindOf[to.State], Entry: *e, To: to, Hop: to.Hop, TLS: r.outcomes[n].TLS, Delay: r.now.Sub(e.Received),
			Reply: to.Reply, Err: r.outcomes[n].Err}
		if to.State == spool.Failed || to.State == spool.Expired {
			ev.Reason = reason
		}
		o.Events(ev)
	}
}

// remember keeps why the next hop could not be asked, for List.
func (q *Queue) remember(j *job, outcomes []relay.Outcome) {
	cause := ""
	for i := range outcomes {
		if err := outcomes[i].Err; err != nil && !outcomes[i].Delivered {
			cause = err.Error()
			break
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	j.cause = cause[:min(len(cause), maxCause)]
}

// maxCause bounds what is kept of a cause, in bytes.
const maxCause = 300

var kindOf = map[spool.State]EventKind{
	spool.Pending: EventDeferred, spool.Delivered: EventDelivered, spool.Failed: EventBounced, spool.Expired: EventExpired,
}

// apply gives a recipient its new state. What is neither a clear yes nor a
// clear no is tried again.
func (r *result) apply(to *spool.Recipient, out relay.Outcome, expired bool) {
	to.Reply, to.Hop, to.At = out.Reply, out.Hop, r.now
	switch {
	case out.Delivered:
		to.State = spool.Delivered
	case out.Reply.Permanent():
		to.State = spool.Failed
	case expired:
		to.State = spool.Expired
	}
}

// finish writes the new state of a job's entry and schedules it; nil: it is
// gone.
func (q *Queue) finish(o *Options, j *job, e *spool.Entry) {
	if e != nil && len(e.Pending()) == 0 {
		q.complain(o, j, q.spool.Remove(e.ID))
		e = nil
	}
	for e != nil {
		q.mu.Lock()
		e.Suspended = j.suspended
		q.mu.Unlock()
		err := q.spool.Update(*e)
		q.complain(o, j, err)
		if errors.Is(err, spool.ErrNotFound) {
			break
		}
		if q.reschedule(o, j, e) {
			return
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	j.running = false
	q.forget(j)
}

// reschedule ends an attempt of a job; false if it was suspended or resumed
// meanwhile and the entry says otherwise.
func (q *Queue) reschedule(o *Options, j *job, e *spool.Entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if j.suspended != e.Suspended {
		return false
	}
	j.running = false
	j.next = e.NextAttempt
	if j.again {
		j.next, j.again = o.Now(), false
	}
	if !j.suspended {
		q.later.push(j)
	}
	q.Wake()
	return true
}

func (q *Queue) complain(o *Options, j *job, err error) {
	if err != nil && !errors.Is(err, spool.ErrNotFound) {
		o.Log.Error("the state of an entry is not on disk yet: a crash now may repeat the delivery", "id", j.id, "err", err)
	}
}
