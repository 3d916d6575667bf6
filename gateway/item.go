package gateway

import (
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
		Transaction: tx.ID, Received: tx.At, Queue: c.Queue, Original: !whole,
		Direction: tx.Direction, Session: *tx.Session, ReversePath: tx.ReversePath, Options: tx.Options,
		Upstream: c.Upstream, Demands: d.demands(c.Upstream), EightBit: needsEightBit(tx), UTF8: tx.Options.UTF8,
		Subject: m.Subject(), MessageID: m.MessageID(), Rule: c.Rule, Why: c.Why, Policy: d.b.Policy.Hash, Findings: m.Findings(),
	}
	if it.Queue == "" {
		it.Queue = "policy"
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

// released are relay decisions for a release: the actions and archives that the
// policy in force asks for, whatever it would do with the message itself.
// Nothing is taken out of an original again: somebody wants to see it.
func (b *begun) released(decided []policy.Decision, original bool) []policy.Decision {
	ds := make([]policy.Decision, len(decided))
	for i, d := range decided {
		d.Disposition, d.Queue, d.Reply, d.Notify = policy.Relay, "", mail.Reply{}, nil
		d.Rule, d.Why = "release", "released from quarantine"
		if original {
			d.Actions = slices.DeleteFunc(slices.Clone(d.Actions), func(a policy.Action) bool {
				return b.keepsOriginal([]policy.Action{a})
			})
		}
		ds[i] = d
	}
	return ds
}
