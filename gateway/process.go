package gateway

import (
	"context"
	"errors"
	"time"

	"postern/filters"
	"postern/mail"
	"postern/policy"
)

// An Outcome is everything that was seen and decided about a transaction. It
// feeds the mail log, the audit log, explain and the tests.
type Outcome struct {
	Results   filters.Results
	Decisions []policy.Decision // one per recipient, in RCPT order
	Copies    []Copy
	Took      time.Duration // of Judge
}

// A Copy is the message as some of the recipients shall get it.
type Copy struct {
	policy.Copy
	Message *mail.Message // rewritten, trace fields on top; as received when it is to be held
	Fields  []string      // the header fields that it gained, raw
	Err     error         // a rewrite that failed: the copy is deferred
}

// Process takes a complete transaction to its outcome and says what the client
// is told: one reply per recipient. Large messages wait for their turn.
func (g *Gateway) Process(ctx context.Context, tx *mail.Transaction) []mail.Reply {
	b := begunOf(tx)
	seat, err := b.room.enter(ctx, tx.Message)
	defer seat.leave()
	var out *Outcome
	if err != nil {
		out = putOff(tx, err)
	} else {
		out = g.Judge(ctx, tx)
		b.makeRoom(&seat, tx, out)
	}
	fates := g.Deliver(ctx, tx, out)
	g.record(tx, out, fates)
	replies := make([]mail.Reply, len(fates))
	for i, f := range fates {
		replies[i] = f.Reply
	}
	return replies
}

// Judge lets the filters observe, the policy decide, and rewrites each copy. It
// has no side effect: explain and the policy's tests call it too.
func (g *Gateway) Judge(ctx context.Context, tx *mail.Transaction) *Outcome {
	start := time.Now()
	b := begunOf(tx)
	out := &Outcome{}
	if d, stop := b.refuseLoop(tx); stop {
		out.Decisions = d
	} else {
		out.Results = b.check(ctx, tx)
		out.Decisions = b.Policy.Decide(tx, out.Results)
	}
	b.refuseForeignAuthor(tx, out.Decisions)
	g.copies(ctx, tx, out)
	if err := tx.Message.Err(); err != nil { // the spool file could not be read: nothing was seen whole
		out.deferAll(tx, err)
	}
	out.Took = time.Since(start)
	return out
}

// check lets the filters observe that have not yet.
func (b *begun) check(ctx context.Context, tx *mail.Transaction) filters.Results {
	rs := b.Policy.Chain().CheckStage(b.asking(ctx), filters.Data, tx, b.early)
	for i := range rs {
		b.lingers = b.lingers || errors.Is(rs[i].Err, filters.ErrTimeout)
	}
	return rs
}

// Deliver takes each copy to its fate. All copies are with their next hops, or
// durable, or refused, when it returns: one Fate per recipient, in RCPT order.
func (g *Gateway) Deliver(ctx context.Context, tx *mail.Transaction, out *Outcome) []Fate {
	d := newDelivery(g, tx, out)
	d.settleTogether()
	if err := d.hold(ctx); err != nil {
		return d.failed(err)
	}
	if c := d.cutThrough(); c != nil {
		d.relayNow(ctx, c)
		return d.fates
	}
	if err := d.commit(ctx); err != nil {
		d.unhold(ctx)
		return d.failed(err)
	}
	return d.fates
}
