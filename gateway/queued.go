package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"postern/audit"
	"postern/mail"
	"postern/policy"
	"postern/quarantine"
	"postern/queue"
	"postern/relay"
	"postern/spool"
)

// QueueOptions are what the queue needs of the policy in force and of us.
// DelayNotify stays off. RFC 3461 section 4.1: without NOTIFY the choice is
// ours; only authors who ask for it hear of a delay, the others of the outcome.
func (g *Gateway) QueueOptions() queue.Options {
	p := g.State().Policy
	o := queue.Options{
		Spool: g.o.Spool, Deliver: g.deliverEntry, Submit: g.Submit, Keep: g.keepFailed, Events: g.queueEvent,
		Destination: g.destination, Expire: time.Duration(p.Queue.Expire), Concurrency: p.Queue.Concurrency, Bounce: p.Queue.Bounce,
		Hostname: p.Site.Hostname, Language: p.Site.Language, Log: g.o.Log, Now: g.o.Now,
	}
	for _, d := range p.Queue.Retry {
		o.Schedule = append(o.Schedule, time.Duration(d))
	}
	if author, err := mail.ParsePath(p.Site.Admin, true); err == nil {
		o.Author = author
	}
	return o
}

// destination names what shares connections and back-off: the domain where the
// next hop is looked up by MX, else the upstream.
func (g *Gateway) destination(e *spool.Entry) string {
	if hop, ok := g.State().Hop(e.Upstream); ok && slices.Contains(hop.To, "mx") && len(e.To) > 0 {
		return e.Upstream + " " + e.To[0].Domain
	}
	return e.Upstream
}

// deliverEntry tries once to deliver what the spool holds. An upstream that the
// policy has no more is a temporary failure: a reload may bring it back.
func (g *Gateway) deliverEntry(ctx context.Context, e spool.Entry, content io.ReaderAt, size int64) []relay.Outcome {
	hop, ok := g.State().Hop(e.Upstream)
	m := &relay.Mail{
		ID: e.Transaction, From: e.From, Options: e.Options, Size: size, EightBit: e.EightBit, UTF8: e.UTF8, Demands: e.Demands, Client: &e.Session,
		Content: func() io.Reader { return io.NewSectionReader(content, 0, size) },
	}
	if whole, ok := content.(interface{ Bytes() ([]byte, bool) }); ok {
		if b, ok := whole.Bytes(); ok {
			m.Bytes = [][]byte{b}
		}
	}
	for _, i := range e.Pending() {
		m.To = append(m.To, e.To[i].Recipient)
	}
	if !ok {
		outs := make([]relay.Outcome, len(m.To))
		for i := range outs {
			outs[i] = relay.Outcome{Recipient: m.To[i].Path, Reply: mail.ReplyTryAgain, Err: fmt.Errorf("the policy has no upstream %q", e.Upstream)}
		}
		return outs
	}
	start := time.Now()
	defer func() { g.o.Meter.Delivery(e.Upstream, time.Since(start)) }()
	return g.o.Relay.Deliver(ctx, hop, m)
}

// keepFailed holds mail that could not be delivered and whose author must not
// be told, so that people can look at it: nothing is lost.
func (g *Gateway) keepFailed(ctx context.Context, e spool.Entry, content io.ReaderAt, size int64) error {
	m := mail.Parse(content, size, g.State().Parse)
	it := quarantine.Item{
		Transaction: e.Transaction, Received: e.Received, Queue: "policy", Direction: e.Direction, Session: e.Session, ReversePath: e.From,
		Options: e.Options, Upstream: e.Upstream, Demands: e.Demands, EightBit: e.EightBit, UTF8: e.UTF8, Subject: m.Subject(), MessageID: m.MessageID(),
		Rule: "undeliverable", Why: "the next hop refused it, and no bounce may be sent to its reverse-path", Policy: e.Policy,
	}
	if authors := m.Authors(); len(authors) > 0 {
		it.Author, it.AuthorName = authors[0].Path, authors[0].Name
	}
	for _, r := range e.To {
		it.To = append(it.To, quarantine.Recipient{Recipient: r.Recipient})
		it.Why = "the next hop refused it (" + oneLine(r.Reply.String()) + "), and no bounce may be sent to its reverse-path"
	}
	id, err := g.o.Quarantine.Hold(ctx, it, m.Reader())
	if err != nil {
		return err
	}
	if err := g.auditKept(ctx, &e, &it, id); err != nil {
		return errors.Join(err, g.o.Quarantine.Withdraw(context.WithoutCancel(ctx), id))
	}
	return nil
}

// auditKept makes the records of what is held after all durable.
func (g *Gateway) auditKept(ctx context.Context, e *spool.Entry, it *quarantine.Item, id string) error {
	for _, r := range e.To {
		err := g.audit(audit.Record{
			At: g.o.Now(), Event: audit.Verdict, ID: e.Transaction, Item: id, Direction: string(e.Direction), Disposition: policy.Quarantine.String(),
			Queue: it.Queue, Rule: it.Rule, Policy: e.Policy, Status: r.Reply.Status(), Relay: r.Hop, Size: e.Size,
			From: e.From.String(), To: r.Path.String(), Client: e.Session.Client.Addr().String(), Helo: e.Session.Helo, Why: it.Why, Reply: r.Reply.String(),
		})
		if err != nil {
			return err
		}
	}
	return g.o.Audit.Sync(ctx)
}

// queueEvent writes what became of a queued recipient to both logs.
func (g *Gateway) queueEvent(ev queue.Event) {
	kind, status := string(ev.Kind), string(ev.Kind)
	if ev.Kind == queue.EventDelivered {
		status = "sent" // as when it is delivered at once
	}
	g.o.Meter.Message(ev.Entry.Direction, "queue-"+kind, 0)
	g.o.MailLog.Write(audit.MailEvent{
		At: g.o.Now(), Msg: kind, ID: ev.Entry.Transaction, Queued: ev.Entry.ID, Direction: string(ev.Entry.Direction), From: ev.Entry.From.String(),
		To: ev.To.Path.String(), Size: ev.Entry.Size, Relay: ev.Hop, TLS: ev.TLS, Delay: ev.Delay, DSN: ev.Reply.Status(), Status: status,
		Reply: ev.Reply.String(), Rule: ev.Entry.Rule, Reason: ev.Reason,
	})
	if ev.Err != nil {
		g.o.Log.Warn("not delivered", "id", ev.Entry.Transaction, "queued", ev.Entry.ID, "to", ev.To.Path.String(), "error", ev.Err)
	}
	if ev.Kind == queue.EventDeferred {
		return // one record per outcome, not per attempt
	}
	err := g.audit(audit.Record{
		At: g.o.Now(), Event: audit.Delivery, ID: ev.Entry.Transaction, Direction: string(ev.Entry.Direction), Disposition: policy.Relay.String(), Rule: ev.Entry.Rule,
		Policy: ev.Entry.Policy, Status: ev.Reply.Status(), Relay: ev.Hop, Size: ev.Entry.Size, Detail: kind, From: ev.Entry.From.String(),
		To: ev.To.Path.String(), Reply: ev.Reply.String(), Reason: ev.Reason,
	})
	if err != nil {
		g.o.Log.Error("write audit record", "id", ev.Entry.Transaction, "error", err)
	}
}

// Close retires the State in force.
func (g *Gateway) Close() {
	if st := g.state.Swap(nil); st != nil {
		st.Close()
	}
}
