package policy

import (
	"postern/filters"
	"postern/mail"
)

// Released returns what becomes of a held message that a person lets go: one
// Decision per recipient, to relay it with all rewrites and archive copies that
// the rules ask for. No rule's fate counts, and none ends the list: the rewrites
// of a rule below one that would refuse the message today, or that has held it,
// are due all the same. A rewrite of which it cannot be told whether it is due
// makes it a Defer.
func (p *Policy) Released(tx *mail.Transaction, rs filters.Results) []Decision {
	f := p.newFacts(tx, rs)
	ds := make([]Decision, 0, len(tx.Recipients))
	for i := range tx.Recipients {
		ds = append(ds, p.released(&view{facts: f, to: tx.Recipients[i].Path}))
	}
	return ds
}

func (p *Policy) released(v *view) Decision {
	var s search
	for _, r := range p.rules {
		t := RuleTrace{Rule: r.name, Line: r.line}
		if r.verb == verbEnd || r.verb == verbNotify || p.watches(r) || !s.open(r) || !r.active(v.tx.At, &t) {
			continue
		}
		v.lifted = s.lifted
		r.eval(v, &t)
		s.take(r, v, &t)
		s.d.Trace = append(s.d.Trace, t)
	}
	v.lifted = s.lifted
	d := s.d
	d.Recipient, d.Notify = v.to, nil
	d.Score, _ = v.score()
	if s.done {
		d.Actions, d.Journal = nil, nil
		return d
	}
	d.Disposition, d.Rule, d.Why = Relay, "release", "released from quarantine"
	return d
}
