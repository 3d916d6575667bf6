package gateway

import (
	"context"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/policy"
	"postern/relay"
)

// cutThrough returns the only copy that there is when it can go to its next
// hop while the client waits.
func (d *delivery) cutThrough() *Copy {
	relayed := d.copies(policy.Relay)
	if len(relayed) != 1 || len(d.holds) > 0 || d.b.Policy.Queue.Delivery == "spool" || len(relayed[0].Journal) > 0 || d.wantsBounce() {
		return nil
	}
	c := relayed[0]
	hop, ok := d.b.Hop(c.Upstream)
	if !ok || len(destinations(hop, c.Recipients)) != 1 {
		return nil
	}
	for _, r := range d.recipients(c.Recipients) {
		for _, n := range r.Options.Notify {
			if n == smtp.DSNNotifySuccess { // the queue knows how to notify of it
				return nil
			}
		}
	}
	return c
}

// relayNow sends the copy on while the client waits, and passes on what the
// next hop says.
func (d *delivery) relayNow(ctx context.Context, c *Copy) {
	hop, _ := d.b.Hop(c.Upstream)
	start := time.Now()
	outs := d.g.o.Relay.Deliver(ctx, hop, d.relayMail(c))
	d.g.o.Meter.Delivery(c.Upstream, time.Since(start))
	a := d.learn(c, outs)
	switch {
	case a.delivered == len(outs):
	case a.down && d.b.Policy.Queue.WhenDown == "queue":
		d.takeOver(ctx, c, a)
	case d.lmtp(): // a reply for each recipient
	case a.delivered > 0:
		d.takeOver(ctx, c, a)
	case len(a.putOff) > 0:
		d.settleAs(c, policy.Defer, "deferred") // nobody has it yet: the client keeps it for all
	case len(d.copies(policy.Discard)) > 0:
		d.takeOver(ctx, c, a) // 250 is said for the others
	}
}

// answers are what a next hop has said, by recipient.
type answers struct {
	delivered int
	putOff    []mail.Path
	refused   []mail.Path
	down      bool // it could not be reached for any of them
}

// learn gives each recipient the fate that the next hop has said.
func (d *delivery) learn(c *Copy, outs []relay.Outcome) answers {
	a := answers{down: len(outs) > 0}
	for i, o := range outs {
		to := c.Recipients[i : i+1]
		a.down = a.down && o.Down
		d.each(to, func(f *Fate) { f.Relay, f.TLS, f.Err = o.Hop, o.TLS, o.Err })
		switch {
		case o.Delivered:
			a.delivered++
			said := mail.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 0, 0}, Text: passedOn(o.Reply)}
			d.settle(to, policy.Relay, "sent", withID(said, d.tx.ID))
		case o.Reply.Permanent():
			a.refused = append(a.refused, to...)
			d.settle(to, policy.Reject, "rejected", withID(o.Reply, d.tx.ID))
			d.each(to, func(f *Fate) { f.Refusal = o.Reply })
		default:
			a.putOff = append(a.putOff, to...)
			d.settle(to, policy.Defer, "deferred", withID(orTryAgain(o.Reply), d.tx.ID))
		}
	}
	return a
}

// passedOn is the text of the next hop's reply, on one line.
func passedOn(r mail.Reply) string { return strings.ReplaceAll(r.Text, "\n", " ") }

// settleAs gives all recipients of a copy the fate of the first that has that
// status.
func (d *delivery) settleAs(c *Copy, disposition policy.Disposition, status string) {
	reply := mail.Reply{}
	d.each(c.Recipients, func(f *Fate) {
		if f.Status == status && reply.Code == 0 {
			reply = f.Reply
		}
	})
	d.settle(c.Recipients, disposition, status, reply)
}

// takeOver makes ours what the next hop has not taken, because the client will
// be told 250: those who were put off go into the queue, those who were refused
// follow mixed_reject. "defer" cannot be kept any more: they are held. If that
// fails nothing of it stays, and the client must keep the message for them, at
// the price of a second copy for the others.
func (d *delivery) takeOver(ctx context.Context, c *Copy, a answers) {
	ctx = context.WithoutCancel(ctx) // however long it took: what the next hop has it keeps
	err := d.holdRefused(ctx, c, a.refused)
	if err == nil {
		rest := *c
		rest.Recipients = a.putOff
		err = d.spoolCopies(ctx, []*Copy{&rest}, nil)
	}
	if err == nil {
		return
	}
	d.unhold(ctx)
	reply := withID(replyFor(err), d.tx.ID)
	for _, to := range [][]mail.Path{a.refused, a.putOff} {
		d.each(to, func(f *Fate) {
			f.Disposition, f.Status, f.Reply, f.Held, f.Err = policy.Defer, "deferred", reply, "", err
		})
	}
}

// holdRefused takes care of recipients that the next hop has refused.
func (d *delivery) holdRefused(ctx context.Context, c *Copy, refused []mail.Path) error {
	if len(refused) == 0 {
		return nil
	}
	part := *c
	part.Recipients, part.Rule = refused, "next-hop"
	d.each(refused[:1], func(f *Fate) {
		part.Why = "the next hop refused this recipient after the message was accepted for others: " + oneLine(f.Refusal.String())
	})
	d.refuseLater(&part)
	if part.Disposition != policy.Quarantine {
		return nil // a bounce goes with what is put into the queue
	}
	if err := d.holdCopy(ctx, &part, true); err != nil {
		return err
	}
	return d.auditHeld(ctx)
}

// one is the reply for all recipients of an SMTP transaction: a temporary
// failure wins, then an acceptance. Where some are accepted and others refused
// the one reply would be a lie for either: the client tries again.
func one(replies []mail.Reply) mail.Reply {
	var yes, no mail.Reply
	for _, r := range replies {
		switch {
		case r.Permanent():
			no = first(no, r)
		case r.OK():
			yes = first(yes, r)
		case r.Temporary():
			return r
		default:
			return mail.ReplyTryAgain
		}
	}
	if (yes.Code == 0) == (no.Code == 0) {
		return mail.ReplyTryAgain
	}
	return first(yes, no)
}

// first is the first reply that there is.
func first(a, b mail.Reply) mail.Reply {
	if a.Code != 0 {
		return a
	}
	return b
}
