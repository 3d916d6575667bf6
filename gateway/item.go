package gateway

import (
	"fmt"
	"slices"
	"strings"

	"postern/filters"
	"postern/mail"
	"postern/policy"
	"postern/quarantine"
)

// item is what the quarantine keeps of a copy: all that a reviewer must see and
// a release must know. whole says that the recipients wait for it; otherwise it
// is the original of what a rewrite takes something out of.
func (d *delivery) item(c *Copy, whole bool) quarantine.Item {
	tx, m := d.tx, d.tx.Message
	it := quarantine.Item{
		Transaction: tx.ID, Received: tx.At, Queue: c.heldIn(), Original: !whole,
		Direction: tx.Direction, Session: *tx.Session, ReversePath: tx.ReversePath, Options: tx.Options,
		Upstream: c.Upstream, Demands: d.heldDemands(c), EightBit: needsEightBit(tx), UTF8: tx.Options.UTF8,
		Subject: m.Subject(), MessageID: m.MessageID(), Rule: c.Rule, Why: c.Why, Policy: d.b.Policy.Hash, Findings: m.Findings(),
	}
	if authors := m.Authors(); len(authors) > 0 {
		it.Author, it.AuthorName = authors[0].Path, authors[0].Name
	}
	for _, r := range d.recipients(c.Recipients) {
		it.To = append(it.To, quarantine.Recipient{Recipient: r})
	}
	for i := range d.out.Decisions {
		if len(c.Recipients) > 0 && d.out.Decisions[i].Recipient == c.Recipients[0] {
			it.Score = d.out.Decisions[i].Score
		}
	}
	for i := range d.out.Results {
		it.Symbols = append(it.Symbols, d.out.Results[i].Verdict.Symbols...)
		it.Auth = append(it.Auth, d.out.Results[i].Verdict.Auth...)
	}
	for _, p := range m.Attachments() {
		it.Attachments = append(it.Attachments, attachment(p, it.Symbols))
	}
	return it
}

// heldIn is the queue of the quarantine for the copy, or for its original.
func (c *Copy) heldIn() string {
	if c.Queue == "" {
		return "policy"
	}
	return c.Queue
}

// heldDemands are what a release must keep to: what the next hops of all
// recipients must have now. Those of a copy that was to be refused may have
// several.
func (d *delivery) heldDemands(c *Copy) mail.Demands {
	all := d.demands(c.Upstream)
	for _, p := range c.Recipients {
		all = all.Tighten(d.demands(d.b.upstreamName(d.tx, p)))
	}
	return all
}

// attachment is one part as a reviewer sees it.
func attachment(p *mail.Part, symbols []filters.Symbol) quarantine.Attachment {
	a := quarantine.Attachment{Part: p.ID(), Name: strings.Join(p.Names(), " / "), Type: p.MediaType(), SHA256: p.Hash()}
	if data, err := p.Bytes(); err == nil {
		a.Size = int64(len(data))
	}
	for _, s := range symbols {
		if kind, ok := strings.CutPrefix(s.Name, "ATTACHMENT_"); ok && s.Part == p.ID() {
			a.Kind = strings.ReplaceAll(strings.ToLower(kind), "_", "-")
			break
		}
	}
	return a
}

// released are the decisions of a release: what the policy in force asks for,
// whatever it would do with the message itself. whole: nothing is taken out, as
// of an original, which somebody wants to see.
func (b *begun) released(tx *mail.Transaction, out *Outcome, whole bool) ([]policy.Decision, error) {
	ds := b.Policy.Released(tx, out.Results)
	for i := range ds {
		d := &ds[i]
		if d.Disposition != policy.Relay {
			return nil, fmt.Errorf("%w: %s", errUndecided, d.Why)
		}
		if whole {
			d.Actions = b.without(d.Actions, func(doc filters.ActionDoc) bool { return doc.KeepsOriginal })
		}
	}
	return ds, nil
}

// without returns the actions but those of a kind.
func (b *begun) without(actions []policy.Action, kind func(filters.ActionDoc) bool) []policy.Action {
	return slices.DeleteFunc(slices.Clone(actions), func(a policy.Action) bool {
		doc, ok := actionDoc(b.Policy.Chain(), a)
		return ok && kind(doc)
	})
}
