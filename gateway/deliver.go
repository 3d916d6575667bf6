package gateway

import (
	"context"
	"errors"
	"slices"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/policy"
	"postern/quarantine"
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
	Refusal     mail.Reply         // what the recipient was refused with, also when the client is told otherwise
	Err         error              // the cause, for the log only
}

// A delivery takes one outcome to its fates.
type delivery struct {
	g     *Gateway
	b     *begun
	tx    *mail.Transaction
	out   *Outcome
	fates []Fate
	holds []string // what hold made durable
	spool []string // what commit made durable
}

func newDelivery(g *Gateway, tx *mail.Transaction, out *Outcome) *delivery {
	d := &delivery{g: g, b: begunOf(tx), tx: tx, out: out, fates: make([]Fate, len(out.Decisions))}
	for i := range out.Decisions {
		d.fates[i] = Fate{Recipient: out.Decisions[i].Recipient, Disposition: policy.Defer, Status: "deferred", Reply: mail.ReplyTryAgain}
	}
	for i := range out.Copies {
		c := &out.Copies[i]
		switch c.Disposition {
		case policy.Reject:
			d.settle(c.Recipients, policy.Reject, "rejected", withID(c.Reply, tx.ID))
			d.each(c.Recipients, func(f *Fate) { f.Refusal = c.Reply })
		case policy.Defer:
			d.settle(c.Recipients, policy.Defer, "deferred", withID(orTryAgain(c.Reply), tx.ID))
			d.each(c.Recipients, func(f *Fate) { f.Err = c.Err })
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

// settleTogether gives recipients that share one reply fates that it can tell.
func (d *delivery) settleTogether() {
	switch {
	case d.anyDeferred():
		d.settleDeferred() // SMTP has one reply for all: nothing is done, the client keeps the message
	case d.mixed():
		d.settleMixed()
	}
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
	if d.b.Policy.Queue.MixedReject == "bounce" && d.mayBounce(c.Recipients) {
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
// otherwise: the reverse-path of inbound mail may be forged. Who does not want
// one, or cannot get one, is not sent one.
func (d *delivery) mayBounce(to []mail.Path) bool {
	back := d.tx.ReversePath
	if back.IsNull() || !d.tx.Trusted() && d.b.Policy.Queue.Bounce != "always" {
		return false
	}
	for _, r := range d.recipients(to) {
		// RFC 3461 section 4.1: NOTIFY without FAILURE.
		if len(r.Options.Notify) > 0 && !slices.Contains(r.Options.Notify, smtp.DSNNotifyFailure) {
			return false
		}
	}
	_, ok := d.b.Policy.UpstreamFor(ownListener, d.b.routable(back))
	return ok
}

// hold makes every copy that is to be held durable in the quarantine, and the
// original of those from which a rewrite removes something; then the audit
// records of what is held.
func (d *delivery) hold(ctx context.Context) error {
	for i := range d.out.Copies {
		c := &d.out.Copies[i]
		if !d.b.isHeld(*c) {
			continue
		}
		if err := d.holdCopy(ctx, c, c.Disposition == policy.Quarantine); err != nil {
			d.unhold(ctx)
			return err
		}
	}
	if err := d.auditHeld(ctx); err != nil {
		d.unhold(ctx)
		return err
	}
	return nil
}

func (d *delivery) holdCopy(ctx context.Context, c *Copy, whole bool) error {
	id, err := d.g.o.Quarantine.Hold(ctx, d.item(c, whole), d.tx.Message.Reader())
	if err != nil {
		return err
	}
	d.holds = append(d.holds, id)
	d.each(c.Recipients, func(f *Fate) {
		f.Held = id
		if whole {
			f.Disposition, f.Status, f.Reply = policy.Quarantine, "held", d.accepted()
		}
	})
	return nil
}

// auditHeld makes the records of those who are held durable, before the client
// hears of it.
func (d *delivery) auditHeld(ctx context.Context) error {
	if len(d.holds) == 0 {
		return nil
	}
	for i := range d.fates {
		if f := &d.fates[i]; f.Status == "held" {
			dec := &d.out.Decisions[i]
			ev := d.g.event(d.tx, d.out, dec, f)
			if err := d.g.audit(verdict(d.tx, dec, f, &ev)); err != nil {
				return err
			}
		}
	}
	return d.g.o.Audit.Sync(ctx)
}

// unhold takes back what hold did: the client keeps the message.
func (d *delivery) unhold(ctx context.Context) {
	for _, id := range d.holds {
		if err := d.g.o.Quarantine.Withdraw(context.WithoutCancel(ctx), id); err != nil {
			d.g.o.Log.Error("take back a held copy", "id", d.tx.ID, "held", id, "error", err)
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
				rs = append(rs, r)
				break
			}
		}
	}
	return rs
}
