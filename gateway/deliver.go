package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/policy"
	"postern/quarantine"
	"postern/relay"
	"postern/spool"
)

// A Fate is what became of the message for one recipient.
type Fate struct {
	Recipient   mail.Path
	Disposition policy.Disposition // after the mixed-fates rule
	Status      string             // sent, queued, held, rejected, deferred, discarded
	Reply       mail.Reply         // what the client is told for this recipient
	Relay       string             // "exchange[10.0.5.10]:25" when a next hop has answered
	TLS         string             // how it was reached
	Queued      string             // id in the spool
	Held        string             // id in the quarantine
	Err         error              // the cause, for the log only
}

// A delivery takes one outcome to its fates.
type delivery struct {
	g     *Gateway
	b     *begun
	tx    *mail.Transaction
	out   *Outcome
	fates []Fate
	holds []held   // what hold made durable
	spool []string // what commit made durable
}

type held struct {
	id   string
	copy *Copy
}

func newDelivery(g *Gateway, tx *mail.Transaction, out *Outcome) *delivery {
	d := &delivery{g: g, b: begunOf(tx), tx: tx, out: out, fates: make([]Fate, len(out.Decisions))}
	for i := range out.Decisions {
		d.fates[i] = Fate{Recipient: out.Decisions[i].Recipient, Disposition: policy.Defer, Status: "deferred", Reply: withID(mail.ReplyTryAgain, tx.ID)}
	}
	for i := range out.Copies {
		c := &out.Copies[i]
		switch c.Disposition {
		case policy.Reject:
			d.settle(c.Recipients, policy.Reject, "rejected", withID(c.Reply, tx.ID))
		case policy.Defer:
			d.settle(c.Recipients, policy.Defer, "deferred", withID(orTryAgain(c.Reply), tx.ID))
		case policy.Discard:
			d.settle(c.Recipients, policy.Discard, "discarded", d.accepted())
		default:
			d.settle(c.Recipients, c.Disposition, "", mail.Reply{})
		}
	}
	return d
}

func orTryAgain(r mail.Reply) mail.Reply {
	if r.Code == 0 {
		return mail.ReplyTryAgain
	}
	return r
}

// accepted is the 250 of a message that is ours now.
func (d *delivery) accepted() mail.Reply {
	return mail.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 0, 0}, Text: "OK: accepted as " + d.tx.ID}
}

// settle gives some of the recipients their fate.
func (d *delivery) settle(to []mail.Path, disposition policy.Disposition, status string, r mail.Reply) {
	d.each(to, func(f *Fate) { f.Disposition, f.Status, f.Reply = disposition, status, r })
}

func (d *delivery) each(to []mail.Path, do func(*Fate)) {
	for _, p := range to {
		for i := range d.fates {
			if d.fates[i].Recipient == p {
				do(&d.fates[i])
			}
		}
	}
}

func (d *delivery) lmtp() bool { return d.tx.Protocol == "LMTP" }

func (d *delivery) copies(disposition policy.Disposition) []*Copy {
	var cs []*Copy
	for i := range d.out.Copies {
		if d.out.Copies[i].Disposition == disposition {
			cs = append(cs, &d.out.Copies[i])
		}
	}
	return cs
}

// anyDeferred: with one reply for all, a recipient whose fate is open keeps the
// whole message with the client.
func (d *delivery) anyDeferred() bool { return !d.lmtp() && len(d.copies(policy.Defer)) > 0 }

func (d *delivery) settleDeferred() {
	reply := withID(orTryAgain(d.copies(policy.Defer)[0].Reply), d.tx.ID)
	for i := range d.out.Copies {
		c := &d.out.Copies[i]
		c.Disposition = policy.Defer
		d.settle(c.Recipients, policy.Defer, "deferred", reply)
	}
}

// mixed: some recipients are refused and others accepted, with one reply.
func (d *delivery) mixed() bool {
	n := len(d.copies(policy.Reject))
	return !d.lmtp() && n > 0 && n < len(d.out.Copies)
}

// settleMixed applies mixed_reject. It never says 250 and drops.
func (d *delivery) settleMixed() {
	if d.b.Policy.Queue.MixedReject == "defer" {
		reply := withID(mail.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 7, 1}, Text: "send to each recipient apart; some refuse this message"}, d.tx.ID)
		for i := range d.out.Copies {
			d.out.Copies[i].Disposition = policy.Defer
			d.settle(d.out.Copies[i].Recipients, policy.Defer, "deferred", reply)
		}
		return
	}
	for _, c := range d.copies(policy.Reject) {
		d.refuseLater(c)
	}
}

// refuseLater is for recipients that refuse a message which others accept: a
// bounce when the policy says so and one may be sent, else the quarantine.
func (d *delivery) refuseLater(c *Copy) {
	if d.b.Policy.Queue.MixedReject == "bounce" && d.mayBounce() {
		d.each(c.Recipients, func(f *Fate) { f.Status, f.Reply = "bounced", d.accepted() })
		return
	}
	c.Disposition = policy.Quarantine
	if c.Queue == "" {
		c.Queue = "policy"
	}
	c.Message = d.tx.Message
	d.settle(c.Recipients, policy.Quarantine, "", mail.Reply{})
}

// mayBounce: a notification goes to our own users only, unless the policy says
// otherwise: the reverse-path of inbound mail may be forged.
func (d *delivery) mayBounce() bool {
	return !d.tx.ReversePath.IsNull() && (d.tx.Trusted() || d.b.Policy.Queue.Bounce == "always")
}

// hold makes every copy that is to be held durable in the quarantine, and the
// original of those from which a rewrite removes something.
func (d *delivery) hold(ctx context.Context) error {
	for i := range d.out.Copies {
		c := &d.out.Copies[i]
		whole := c.Disposition == policy.Quarantine
		if !whole && (c.Disposition != policy.Relay || !d.b.keepsOriginal(c.Actions)) {
			continue
		}
		id, err := d.g.o.Quarantine.Hold(ctx, d.item(c, whole), d.tx.Message.Reader())
		if err != nil {
			d.unhold(ctx)
			return err
		}
		d.holds = append(d.holds, held{id, c})
		d.each(c.Recipients, func(f *Fate) {
			f.Held = id
			if whole {
				f.Disposition, f.Status, f.Reply = policy.Quarantine, "held", d.accepted()
			}
		})
	}
	return nil
}

// unhold takes back what hold did: the client keeps the message.
func (d *delivery) unhold(ctx context.Context) {
	for _, h := range d.holds {
		if err := d.g.o.Quarantine.Withdraw(context.WithoutCancel(ctx), h.id); err != nil {
			d.g.o.Log.Error("take back a held copy", "id", d.tx.ID, "held", h.id, "error", err)
		}
	}
	d.holds = nil
}

// failed makes every recipient that is not refused keep its message with the
// client: nothing was done for anyone.
func (d *delivery) failed(err error) []Fate {
	reply := withID(replyFor(err), d.tx.ID)
	for i := range d.fates {
		f := &d.fates[i]
		if f.Status != "rejected" || !d.lmtp() {
			f.Disposition, f.Status, f.Reply, f.Err = policy.Defer, "deferred", reply, err
			f.Held, f.Queued = "", ""
		}
	}
	return d.fates
}

// replyFor maps an error to what the client is told. What it does not know is
// 451 4.3.0.
func replyFor(err error) mail.Reply {
	if errors.Is(err, spool.ErrFull) || errors.Is(err, quarantine.ErrFull) {
		return mail.ReplyNoSpace
	}
	return mail.ReplyTryAgain
}

// cutThrough returns the only copy that there is when it can go to its next
// hop while the client waits.
func (d *delivery) cutThrough() *Copy {
	relayed := d.copies(policy.Relay)
	if len(relayed) != 1 || len(d.holds) > 0 || d.b.Policy.Queue.Delivery == "spool" || len(d.journal()) > 0 || d.wantsBounce() {
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

func (d *delivery) wantsBounce() bool {
	for i := range d.fates {
		if d.fates[i].Status == "bounced" {
			return true
		}
	}
	return false
}

// recipients are those of the envelope, with their DSN parameters.
func (d *delivery) recipients(to []mail.Path) []mail.Recipient {
	var rs []mail.Recipient
	for _, p := range to {
		for _, r := range d.tx.Recipients {
			if r.Path == p {
				r.Path = d.b.routable(p)
				rs = append(rs, r)
				break
			}
		}
	}
	return rs
}

// relayNow sends the copy on while the client waits, and passes on what the
// next hop says.
func (d *delivery) relayNow(ctx context.Context, c *Copy) {
	hop, _ := d.b.Hop(c.Upstream)
	start := time.Now()
	outs := d.g.o.Relay.Deliver(ctx, hop, d.relayMail(c))
	d.g.o.Meter.Delivery(c.Upstream, time.Since(start))
	delivered, down := 0, len(outs) > 0
	for i, o := range outs {
		if o.Delivered {
			delivered++
		}
		down = down && o.Down
		d.each(c.Recipients[i:i+1], func(f *Fate) {
			f.Relay, f.TLS, f.Err = o.Hop, o.TLS, o.Err
			switch {
			case o.Delivered:
				f.Disposition, f.Status = policy.Relay, "sent"
				f.Reply = mail.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 0, 0}, Text: passedOn(o.Reply) + " [" + d.tx.ID + "]"}
			case o.Reply.Permanent():
				f.Disposition, f.Status, f.Reply = policy.Reject, "rejected", withID(o.Reply, d.tx.ID)
			default:
				f.Disposition, f.Status, f.Reply = policy.Defer, "deferred", withID(orTryAgain(o.Reply), d.tx.ID)
			}
		})
	}
	switch {
	case delivered == len(outs) || d.lmtp():
	case delivered == 0 && down && d.b.Policy.Queue.WhenDown == "queue":
		d.queueRest(ctx, c, outs)
	case delivered > 0:
		d.queueRest(ctx, c, outs)
		d.holdRefused(ctx, c, outs)
	case d.someDeferred(outs):
		// nobody has it yet: the client keeps it for all
		d.settleAs(c, policy.Defer, "deferred")
	}
}

// passedOn is the text of the next hop's reply, on one line.
func passedOn(r mail.Reply) string {
	r = mail.Reply{Code: r.Code, Text: r.Text}
	return r.String()[4:]
}

func (d *delivery) someDeferred(outs []relay.Outcome) bool {
	for _, o := range outs {
		if !o.Reply.Permanent() {
			return true
		}
	}
	return false
}

func (d *delivery) settleAs(c *Copy, disposition policy.Disposition, status string) {
	reply := mail.Reply{}
	d.each(c.Recipients, func(f *Fate) {
		if f.Status == status && reply.Code == 0 {
			reply = f.Reply
		}
	})
	d.settle(c.Recipients, disposition, status, reply)
}

// queueRest makes the copy durable for the recipients that the next hop has
// put off, because others have it already or because the policy says so.
func (d *delivery) queueRest(ctx context.Context, c *Copy, outs []relay.Outcome) {
	var rest []mail.Path
	for i, o := range outs {
		if !o.Delivered && !o.Reply.Permanent() {
			rest = append(rest, c.Recipients[i])
		}
	}
	if len(rest) == 0 {
		return
	}
	part := *c
	part.Recipients = rest
	if err := d.spoolCopies(ctx, []*Copy{&part}, nil); err != nil {
		d.each(rest, func(f *Fate) { f.Reply, f.Err = withID(replyFor(err), d.tx.ID), err })
	}
}

// holdRefused applies mixed_reject to recipients that the next hop has refused
// after it has accepted others. "defer" cannot be kept any more: they are held.
func (d *delivery) holdRefused(ctx context.Context, c *Copy, outs []relay.Outcome) {
	var refused []mail.Path
	for i, o := range outs {
		if !o.Delivered && o.Reply.Permanent() {
			refused = append(refused, c.Recipients[i])
		}
	}
	if len(refused) == 0 {
		return
	}
	part := *c
	part.Recipients = refused
	part.Rule, part.Why = "next-hop", "the next hop refused this recipient after it had accepted others"
	d.refuseLater(&part)
	var err error
	if part.Disposition == policy.Quarantine {
		var id string
		if id, err = d.g.o.Quarantine.Hold(ctx, d.item(&part, true), d.tx.Message.Reader()); err == nil {
			d.each(refused, func(f *Fate) {
				f.Held, f.Disposition, f.Status, f.Reply = id, policy.Quarantine, "held", d.accepted()
			})
		}
	} else {
		err = d.bounce(ctx)
	}
	if err != nil { // not durable: the client must keep the message, at the price of a second copy for the others
		d.each(refused, func(f *Fate) {
			f.Disposition, f.Status, f.Reply, f.Err = policy.Defer, "deferred", withID(replyFor(err), d.tx.ID), err
		})
	}
}

// one is the reply for all recipients of an SMTP transaction: a temporary
// failure wins, then an acceptance, then a refusal.
func one(replies []mail.Reply) mail.Reply {
	best := mail.ReplyTryAgain
	rank := -1
	for _, r := range replies {
		k := 0
		switch {
		case r.Temporary():
			k = 2
		case r.OK():
			k = 1
		}
		if k > rank {
			best, rank = r, k
		}
	}
	return best
}
