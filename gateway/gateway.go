// Package gateway is the route of one message: it joins what the packages below
// it do. Judge runs the filters, lets the policy decide and rewrites each copy,
// with no side effect; Deliver sends each copy to its next hop while the client
// waits, or makes all of them durable, or none. Process is the two in a row.
//
// A Gateway implements what smtpd asks of its back end. It holds one State, all
// that one policy file stands for; Reload swaps it. A transaction keeps the
// State it began with.
//
// # Diagnostics
//
// The client is told 250 only when every copy is with the next hop or durable
// on disk. Whatever goes wrong before that is a 451 whose text bears the
// transaction's id; the cause stands in the log under the same id. A filter
// that breaks defers the recipients whose fate rests on it.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"postern/audit"
	"postern/mail"
	"postern/quarantine"
	"postern/queue"
	"postern/relay"
	"postern/spool"
)

// Options are what a Gateway is made of.
type Options struct {
	Spool      *spool.Spool
	Relay      *relay.Client
	Quarantine *quarantine.Quarantine
	Audit      *audit.Log
	MailLog    *audit.MailLog
	Log        *slog.Logger
	Now        func() time.Time // the clock; time.Now if nil
	NewID      func() string    // ids of transactions that begin here
	Meter      Meter            // counts; nil for none
	Accounts   func(ctx context.Context, listener, user, password string) error
	Observe    func(*mail.Transaction, *Outcome, []Fate) // told of every outcome; may be nil
}

// A Meter counts what the gateway does.
type Meter interface {
	Message(direction mail.Direction, disposition string, size int64)
	Verdict(took time.Duration)
	Filter(name string, took time.Duration, broken bool)
	Delivery(upstream string, took time.Duration)
}

// A Gateway takes messages from smtpd to their fate.
type Gateway struct {
	o         Options
	state     atomic.Pointer[State]
	terms     terms
	queue     *queue.Queue
	unaudited atomic.Bool // the audit log has refused a record
}

// ErrNoPolicy is what a Gateway without a State says.
var ErrNoPolicy = errors.New("no policy is loaded")

// New returns a Gateway that runs the policy of st.
func New(o Options, st *State) *Gateway {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Meter == nil {
		o.Meter = noMeter{}
	}
	g := &Gateway{o: o}
	g.state.Store(st)
	return g
}

// SetQueue gives the gateway the queue that it wakes after a commit. The queue
// delivers through DeliverEntry, so the two are made one after the other.
func (g *Gateway) SetQueue(q *queue.Queue) { g.queue = q }

// State returns what is in force now. Transactions ask for it once, when they
// begin.
func (g *Gateway) State() *State { return g.state.Load() }

// Swap puts a new State in force and lets the old one end with its last
// transaction. The room for large messages goes on as it is, unless it has
// another size now.
func (g *Gateway) Swap(st *State) {
	if old := g.State(); old != nil && old.room.size == st.room.size {
		st.room = old.room
	}
	if old := g.state.Swap(st); old != nil {
		old.Close()
	}
}

// acquire takes what is in force for one transaction, whose end releases it;
// nil if there is no policy.
func (g *Gateway) acquire() *State {
	for {
		st := g.State()
		if st == nil || st.acquire() {
			return st
		}
		// A reload came in between: there is another one by now.
	}
}

type noMeter struct{}

func (noMeter) Message(mail.Direction, string, int64) {}
func (noMeter) Verdict(time.Duration)                 {}
func (noMeter) Filter(string, time.Duration, bool)    {}
func (noMeter) Delivery(string, time.Duration)        {}
