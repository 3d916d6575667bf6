package policy

import (
	"slices"
	"strings"
	"time"

	"postern/filters"
	"postern/mail"
)

// Decide returns one Decision per recipient, in RCPT order. It is a pure
// function of its arguments: tx.At is its clock.
//
// The rules are tried in the order of the file. Actions add up; the first rule
// that gives a disposition ends the search, and so does the first that cannot
// be told, for then nobody can say what comes next: the recipient is deferred.
func (p *Policy) Decide(tx *mail.Transaction, rs filters.Results) []Decision {
	f := p.newFacts(tx, rs)
	ds := make([]Decision, 0, len(tx.Recipients))
	for i := range tx.Recipients {
		to := tx.Recipients[i].Path
		if i > 0 && !p.splits && !f.splits {
			d := ds[0]
			d.Recipient = to
			ds = append(ds, d)
			continue
		}
		ds = append(ds, p.decide(&view{facts: f, to: to}))
	}
	return ds
}

// A search walks down the rules for one recipient.
type search struct {
	d        Decision
	lifted   mask
	accepted bool // an accept rule matched: only malware rules are left
	done     bool
}

// open reports whether the rule still concerns this search.
func (s *search) open(r *rule) bool { return !s.done && (!s.accepted || r.malware) }

// decide walks twice at once: what happens, and what would happen if no rule
// were only watched.
func (p *Policy) decide(v *view) Decision {
	var real, would search
	trace := make([]RuleTrace, 0, len(p.rules))
	for _, r := range p.rules {
		watched := p.watches(r)
		inReal, inWould := !watched && real.open(r), p.watching && would.open(r)
		if !inReal && !inWould {
			if real.done {
				break
			}
			continue
		}
		t := RuleTrace{Rule: r.name, Line: r.line, Watched: watched}
		if !r.active(v.tx.At, &t) {
			trace = append(trace, t)
			continue
		}
		v.lifted = real.lifted
		if !inReal {
			v.lifted = would.lifted
		}
		r.eval(v, &t)
		trace = append(trace, t)
		if inReal {
			real.take(r, v, &t)
		}
		if !inWould {
			continue
		}
		if would.lifted != v.lifted {
			v.lifted = would.lifted
			r.eval(v, &t)
		}
		would.take(r, v, &t)
		if watched && t.Matched == Yes {
			real.d.Watched = append(real.d.Watched, r.name)
		}
	}
	v.lifted = real.lifted
	d := real.finish(v, p.Mode == Watch)
	if p.watching {
		v.lifted = would.lifted
		if w := would.finish(v, false); w.Disposition != d.Disposition || w.Queue != d.Queue {
			d.Would, d.WouldRule = &w.Disposition, w.Rule
		}
	}
	d.Trace = trace
	return d
}

// watches reports whether the rule only shows what it would do. Neither watch
// mode of the file lifts the malware hold.
func (p *Policy) watches(r *rule) bool {
	return r.mode == Watch || p.Mode == Watch && !r.malware
}

// active reports whether the rule is in its time; it tells the trace if not.
func (r *rule) active(at time.Time, t *RuleTrace) bool {
	switch {
	case !r.from.IsZero() && at.Before(r.from):
		t.Key, t.Want = "active_from", r.from.Format(time.RFC3339)
	case !r.until.IsZero() && !at.Before(r.until):
		t.Key, t.Want = "expires", r.until.Format(time.RFC3339)
	default:
		return true
	}
	t.Got = at.Format(time.RFC3339)
	return false
}

// eval is the minimum of the rule's conditions and of what its exceptions
// leave. The trace gets the first key that failed, or could not be told.
func (r *rule) eval(v *view, t *RuleTrace) {
	t.Matched, t.Key, t.Want, t.Got = Yes, "", "", ""
	for _, c := range r.match {
		switch c.test(v) {
		case No:
			t.Matched, t.Key, t.Want, t.Got = No, c.key, c.want, c.got(v)
			return
		case Unknown:
			if t.Matched == Yes {
				t.Matched, t.Key, t.Want, t.Got = Unknown, c.key, c.want, c.got(v)
			}
		}
	}
	for _, table := range r.except {
		holds, c := all(table, v)
		if holds.not() < t.Matched {
			t.Matched, t.Key, t.Want, t.Got = holds.not(), "except", "", ""
			if c != nil {
				t.Key, t.Want, t.Got = "except."+c.key, c.want, c.got(v)
			}
		}
		if t.Matched == No {
			return
		}
	}
}

// all is the minimum of the conditions, and the one that tells most about it:
// the first unknown one, or the first of those that hold.
func all(conds []*condition, v *view) (Truth, *condition) {
	result, tells := Yes, (*condition)(nil)
	for _, c := range conds {
		switch c.test(v) {
		case No:
			return No, c
		case Unknown:
			if result == Yes {
				result, tells = Unknown, c
			}
		default:
			if tells == nil {
				tells = c
			}
		}
	}
	return result, tells
}

// take lets the rule's outcome change the search.
func (s *search) take(r *rule, v *view, t *RuleTrace) {
	if t.Matched == No {
		return
	}
	if t.Matched == Unknown {
		s.end(r, Defer, "rule "+r.name+" cannot be decided: "+t.Key+": "+t.Got)
		s.d.Reply = mail.ReplyTryAgain
		return
	}
	for _, to := range r.notify {
		s.d.Notify = append(s.d.Notify, Notice{To: to, Rule: r.name})
	}
	switch r.verb {
	case verbRewrite:
		a := r.action
		a.Parts = r.parts(v)
		a.Marks = r.marks(v, a.Parts)
		s.d.Actions = append(s.d.Actions, a)
	case verbSkip:
		s.lifted |= r.lift
		for _, name := range r.liftNames {
			if !contains(s.d.Skip, name) {
				s.d.Skip = append(s.d.Skip, name)
			}
		}
	case verbJournal:
		for _, to := range r.journal {
			if !slices.Contains(s.d.Journal, to) {
				s.d.Journal = append(s.d.Journal, to)
			}
		}
	case verbAccept:
		s.accepted = true
		s.d.Disposition, s.d.Rule, s.d.Why = Relay, r.name, r.because(v)
	case verbEnd:
		s.end(r, r.fate, r.because(v))
		s.d.Queue = r.queue
		if r.reply.code != 0 {
			s.d.Reply = r.reply.fill(func(name string) string { return v.placeholder(name, r) })
		}
	case verbNotify:
	}
}

func (s *search) end(r *rule, fate Disposition, why string) {
	s.done = true
	s.d.Disposition, s.d.Rule, s.d.Why = fate, r.name, why
}

// finish gives the decision. Where no rule gave a disposition, the message is
// relayed, unless a filter broke: nobody knows what it would have said. While the
// whole file is only watched, the rules that are not have asked it already.
func (s *search) finish(v *view, watching bool) Decision {
	d := s.d
	d.Recipient = v.to
	d.Score, _ = v.score()
	switch broken := v.broken &^ s.lifted; {
	case s.done || s.accepted:
	case broken != 0 && !watching:
		d.Disposition, d.Rule, d.Reply = Defer, DefaultRule, mail.ReplyTryAgain
		d.Why = v.brokenNames(broken) + " broke, and no rule settled this recipient before"
	default:
		d.Disposition, d.Rule, d.Why = Relay, DefaultRule, "no rule holds it back"
	}
	if d.Disposition != Relay && d.Disposition != Quarantine {
		// Nothing is sent on: there is nothing to rewrite or to journal.
		d.Actions, d.Journal = nil, nil
	}
	return d
}

// because says why the rule matched: in the words of the policy, else by its
// conditions.
func (r *rule) because(v *view) string {
	if r.why != "" {
		return r.why
	}
	if len(r.match) == 0 {
		return "rule " + r.name + " takes everything"
	}
	var b strings.Builder
	for _, c := range r.match {
		if c.key == "direction" && len(r.match) > 1 {
			continue // it says nothing about the message
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		said := c.got
		if c.seen != nil {
			said = c.seen
		}
		b.WriteString(c.key + ": " + said(v))
	}
	return b.String()
}

// parts are the parts that the rule's match marked: those that every marking
// condition marks, or, where there is none, those that any does. To strip too
// much is safer than to let something pass.
func (r *rule) parts(v *view) []mail.PartID {
	var common, any []mail.PartID
	first := true
	for _, c := range r.match {
		if len(c.marks) == 0 {
			continue
		}
		marked := v.parts(c)
		if len(marked) == 0 {
			continue // it holds for the whole message
		}
		for _, part := range marked {
			if !slices.Contains(any, part) {
				any = append(any, part)
			}
		}
		if first {
			common, first = marked, false
			continue
		}
		common = slices.DeleteFunc(slices.Clone(common), func(part mail.PartID) bool { return !slices.Contains(marked, part) })
	}
	if len(common) > 0 {
		return common
	}
	return any
}

// placeholder is the value of a placeholder in a reply.
func (v *view) placeholder(name string, r *rule) string {
	author := func() mail.Path {
		if v.tx.Message != nil && len(v.from()) > 0 {
			return v.from()[0]
		}
		return mail.Path{}
	}
	switch name {
	case "from":
		return author().String()
	case "from.domain":
		return author().Domain
	case "to":
		return v.to.String()
	case "to.domain":
		return v.to.Domain
	case "reverse_path":
		return v.tx.ReversePath.String()
	case "reverse_path.domain":
		return v.tx.ReversePath.Domain
	case "client":
		return v.client()
	case "helo":
		return v.tx.Helo
	case "score":
		score, _ := v.score()
		return formatScore(score)
	default:
		return r.name
	}
}
