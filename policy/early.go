package policy

import (
	"slices"

	"postern/filters"
	"postern/mail"
)

// Early decides for one recipient before the message is here, from what is
// known at that stage. It is the same decision as Decide's, only sooner: true
// only if nothing that can still come to light would change it. Only Reject and
// Defer are worth saying early. Its trace is the rule that settled it.
func (p *Policy) Early(stage filters.Stage, tx *mail.Transaction, to mail.Path, rs filters.Results) (Decision, bool) {
	if stage >= filters.Data || !slices.ContainsFunc(p.rules, (*rule).speaksEarly) {
		return Decision{}, false
	}
	v := &view{facts: p.newFacts(tx, rs), to: to}
	var s search
	for _, r := range p.rules {
		t := RuleTrace{Rule: r.name, Line: r.line}
		if p.watches(r) || !r.active(tx.At, &t) {
			continue
		}
		v.lifted = s.lifted
		known := r.early(v, stage, &t)
		switch {
		case known && t.Matched == No:
			continue
		case !known && r.harmless():
			continue
		case !known:
			return Decision{}, false
		case t.Matched == Yes && !r.speaksEarly():
			return Decision{}, false
		}
		s.take(r, v, &t)
		if s.done {
			d := s.finish(v, false)
			d.Trace = []RuleTrace{t}
			return d, d.Disposition == Reject || d.Disposition == Defer
		}
	}
	return Decision{}, false
}

// early evaluates the rule as far as its conditions are known; false if what is
// still missing can make a difference.
func (r *rule) early(v *view, stage filters.Stage, t *RuleTrace) bool {
	for _, c := range r.match {
		if c.known(v, stage) && c.test(v) == No {
			t.Matched = No
			return true
		}
	}
	for _, table := range r.except {
		holds := true
		for _, c := range table {
			holds = holds && c.known(v, stage) && c.test(v) == Yes
		}
		if holds && len(table) > 0 {
			t.Matched = No
			return true
		}
	}
	for _, c := range r.match {
		if !c.known(v, stage) {
			return false
		}
	}
	for _, table := range r.except {
		for _, c := range table {
			if !c.known(v, stage) && !ruledOut(table, v, stage) {
				return false
			}
		}
	}
	r.eval(v, t)
	return true
}

// ruledOut reports whether an exception cannot hold any more, whatever comes.
func ruledOut(table []*condition, v *view, stage filters.Stage) bool {
	for _, c := range table {
		if c.known(v, stage) && c.test(v) == No {
			return true
		}
	}
	return false
}

// known reports whether the condition's outcome is certain at that stage.
func (c *condition) known(v *view, stage filters.Stage) bool {
	return c.stage <= stage && c.rests&^v.done == 0
}

// harmless reports whether the rule can neither change nor end the search,
// however it comes out.
func (r *rule) harmless() bool {
	return (r.verb == verbRewrite || r.verb == verbJournal) && r.rests == 0 && len(r.notify) == 0
}

// speaksEarly reports whether what the rule says is known before the message.
func (r *rule) speaksEarly() bool {
	switch r.verb {
	case verbAccept:
		return false
	case verbEnd:
		return (r.fate == Reject || r.fate == Defer) && !r.reply.uses("from", "from.domain", "score")
	default:
		return true
	}
}
