package policy

import (
	"strings"

	"postern/mail"
)

// Bifurcate groups decisions into the fewest copies, so that a message is
// rewritten once per treatment and not once per recipient. It is the only place
// where recipients part. upstreamOf names the next hop of a recipient; it is
// asked only for those to whom the message is relayed, or may be after a release.
func Bifurcate(ds []Decision, upstreamOf func(mail.Path) string) []Copy {
	var copies []Copy
	at := map[string]int{}
	for i := range ds {
		d := &ds[i]
		upstream := ""
		if (d.Disposition == Relay || d.Disposition == Quarantine) && upstreamOf != nil {
			upstream = upstreamOf(d.Recipient)
		}
		key := d.treatment(upstream)
		k, ok := at[key]
		if !ok {
			k = len(copies)
			at[key] = k
			copies = append(copies, Copy{
				Disposition: d.Disposition, Reply: d.Reply, Queue: d.Queue, Actions: d.Actions,
				Journal: d.Journal, Rule: d.Rule, Why: d.Why, Upstream: upstream,
			})
		}
		copies[k].Recipients = append(copies[k].Recipients, d.Recipient)
	}
	return copies
}

// treatment is a text that two decisions share if one copy serves both.
func (d *Decision) treatment(upstream string) string {
	var b strings.Builder
	b.WriteByte(byte(d.Disposition))
	field := func(s string) {
		b.WriteString(s)
		b.WriteByte(0)
	}
	field(upstream)
	field(d.Queue)
	if d.Disposition == Reject || d.Disposition == Defer {
		field(d.Reply.String())
	}
	for i := range d.Actions {
		a := &d.Actions[i]
		field("action")
		field(a.Filter)
		field(a.key)
		for _, part := range a.Parts {
			field(string(part))
		}
	}
	for _, to := range d.Journal {
		field("journal")
		field(to.String())
	}
	return b.String()
}
