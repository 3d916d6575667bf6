package gateway

import (
	"context"
	"slices"

	"postern/mail"
	"postern/policy"
)

// A Preview is all that would come of a transaction if the next hops took what
// they are sent.
type Preview struct {
	Outcome         // a decision for every recipient of the envelope, in its order; the copies with fates that one reply can tell
	Asides  []Aside // what goes elsewhere than to the recipients
	Notices []policy.Notice
	Asked   map[mail.Path]string // the upstream that would be asked at RCPT whether the recipient exists
}

// An Aside is a journal copy, or the original that is held of what a rewrite
// takes something out of.
type Aside struct {
	Disposition string // "journal", "quarantine"
	To          []mail.Path
	Upstream    string // of a journal copy
	Queue       string // of an original
	Size        int64
	Err         error // then the client is told to try again, for everybody
}

// An Unfit says why the content of a message is not taken.
type Unfit struct {
	Law, Why string
	Reply    mail.Reply
}

// Preview takes a transaction with its envelope and its message the way of live
// mail, from MAIL to where it would be sent, with no side effect: no next hop is
// asked. unfit is nil if the content is taken.
func (g *Gateway) Preview(ctx context.Context, tx *mail.Transaction, unfit *Unfit) *Preview {
	b := begunOf(tx)
	pv := &Preview{Asked: map[mail.Path]string{}}
	envelope := tx.Recipients
	refused := b.envelope(ctx, tx, pv)
	out := &Outcome{Results: b.early}
	if len(tx.Recipients) > 0 && unfit == nil {
		out = g.Judge(ctx, tx)
	} else if unfit != nil {
		for _, r := range tx.Recipients {
			refused[r.Path] = law{unfit.Law, unfit.Why, unfit.Reply}.refuse(r.Path)
		}
	}
	pv.Outcome = *out
	pv.Copies = slices.Clone(out.Copies)
	g.plan(tx, pv)
	judged := out.Decisions
	pv.Decisions = nil
	var no []policy.Decision
	for _, r := range envelope {
		if d, ok := refused[b.routable(r.Path)]; ok {
			pv.Decisions, no = append(pv.Decisions, d), append(no, d)
			continue
		}
		pv.Decisions, judged = append(pv.Decisions, judged[0]), judged[1:]
	}
	for _, c := range policy.Bifurcate(no, func(mail.Path) string { return "" }) {
		c.Recipients = unique(c.Recipients)
		pv.Copies = append(pv.Copies, Copy{Copy: c, Message: tx.Message})
	}
	return pv
}

// envelope is MAIL and RCPT: it leaves tx the recipients that are taken, and
// returns the decisions about the others.
func (b *begun) envelope(ctx context.Context, tx *mail.Transaction, pv *Preview) map[mail.Path]policy.Decision {
	refused := map[mail.Path]policy.Decision{}
	envelope, message := tx.Recipients, tx.Message
	tx.Recipients, tx.Message = nil, nil
	sender, foreign := b.refuseSender(tx)
	for _, r := range envelope {
		r.Path = b.routable(r.Path)
		if foreign {
			refused[r.Path] = sender.refuse(r.Path)
			continue
		}
		u, l := b.refuseRecipient(tx, r.Path)
		if l.reply.Code != 0 {
			refused[r.Path] = l.refuse(r.Path)
			continue
		}
		if u.Recipients.Check == "rcpt" {
			pv.Asked[r.Path] = u.Name
		}
		if d, no := b.refuseEarly(ctx, tx, r.Path); no {
			refused[r.Path] = d
			pv.tell(b.notices(tx, &Outcome{Decisions: []policy.Decision{d}}, []Fate{{Disposition: d.Disposition}}))
			continue
		}
		tx.Recipients = append(tx.Recipients, r)
	}
	tx.Message = message
	return refused
}

// plan is Deliver up to where something would be written or sent.
func (g *Gateway) plan(tx *mail.Transaction, pv *Preview) {
	d := newDelivery(g, tx, &pv.Outcome)
	d.settleTogether()
	for i := range pv.Copies {
		c := &pv.Copies[i]
		if c.Disposition == policy.Quarantine {
			c.Queue = c.heldIn()
		} else if d.b.isHeld(*c) {
			pv.Asides = append(pv.Asides, Aside{Disposition: "quarantine", To: c.Recipients, Queue: c.heldIn(), Size: tx.Message.Size()})
		}
	}
	drafts, err := d.journal()
	if err != nil {
		pv.Asides = append(pv.Asides, Aside{Disposition: "journal", To: d.archives(), Err: err})
	}
	for _, j := range drafts {
		pv.Asides = append(pv.Asides, Aside{Disposition: "journal", To: []mail.Path{j.Entry.To[0].Path}, Upstream: j.Entry.Upstream, Size: j.Content.Size()})
	}
	pv.tell(d.b.notices(tx, &pv.Outcome, d.fates))
}

func (pv *Preview) tell(due []notice) {
	for _, n := range due {
		pv.Notices = append(pv.Notices, policy.Notice{To: n.to.String(), Rule: n.rule})
	}
}
