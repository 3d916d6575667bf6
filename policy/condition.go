package policy

import (
	"slices"
	"strconv"
	"strings"

	"postern/filters"
	"postern/mail"
)

// A condition is one key of a match or except table, compiled.
type condition struct {
	key    string
	want   string // as the policy file says it
	stage  filters.Stage
	rests  mask // filters on whose verdicts it rests
	splits bool // it may differ between the recipients of one message
	strict bool // a from exception: holds only for authenticated authors
	test   func(v *view) Truth
	got    func(v *view) string
	seen   func(v *view) string // what made it hold, for Why; nil: what got says
	marks  []int                // symbols whose parts it marks
	labels []Glob               // only those of the marks with such a label; nil: all
	virus  bool                 // it is about malware
	say    [2]string            // phrase, English and French
	node   *node
	cover  coverage
}

// facts is what there is to know about a transaction, prepared once for all
// rules and recipients.
type facts struct {
	p       *Policy
	tx      *mail.Transaction
	done    mask // filters that ran
	broken  mask // filters that broke, or did not run
	symbols []found
	present []bool // by symbol id
	splits  bool   // a symbol is about one recipient

	authors     []mail.Path
	authorText  string
	haveAuthors bool
	subject     string
	subjectLow  string
	haveSubject bool
	clientText  string
}

// found is one reported symbol.
type found struct {
	id, filter int
	symbol     *filters.Symbol
}

// A view is the facts for one recipient.
type view struct {
	*facts
	to     mail.Path
	lifted mask // scoring filters that a skip rule lifted

	scoreText string // as text, and of which score
	scoreOf   float64
}

// newFacts sorts the results of the filters. A filter that has no result did
// not run: nothing is known of it.
func (p *Policy) newFacts(tx *mail.Transaction, rs filters.Results) *facts {
	f := &facts{p: p, tx: tx, present: make([]bool, len(p.symbols)), broken: p.scans}
	for i := range rs {
		r := &rs[i]
		at, ok := p.filters[r.Filter]
		if !ok {
			continue
		}
		f.done |= 1 << at
		if r.Err != nil && !r.Ignored {
			continue
		}
		f.broken &^= 1 << at
		if r.Err != nil {
			continue
		}
		for k := range r.Verdict.Symbols {
			s := &r.Verdict.Symbols[k]
			ref, ok := p.symbols[s.Name]
			if !ok {
				continue
			}
			f.symbols = append(f.symbols, found{ref.id, at, s})
			f.present[ref.id] = true
			f.splits = f.splits || !s.To.IsNull()
		}
	}
	return f
}

// hasMessage reports whether the message is here and can be read: what rests
// on a message that cannot be read is unknown.
func (f *facts) hasMessage() bool { return f.tx.Message != nil && f.tx.Message.Err() == nil }

// from returns the authors of the message (RFC 5322 section 3.6.2).
func (f *facts) from() []mail.Path {
	if !f.haveAuthors {
		f.haveAuthors = true
		var names []string
		for _, a := range f.tx.Authors() {
			f.authors = append(f.authors, a.Path)
			names = append(names, a.Path.String())
		}
		f.authorText = strings.Join(names, ", ")
	}
	return f.authors
}

func (f *facts) subjectText() string {
	if !f.haveSubject {
		f.haveSubject, f.subject = true, f.tx.Subject()
		f.subjectLow = strings.ToLower(f.subject)
	}
	return f.subject
}

func (f *facts) client() string {
	if f.clientText == "" {
		f.clientText = f.tx.Client.Addr().Unmap().String()
	}
	return f.clientText
}

// reported is yes if any of the symbols was reported for this recipient, and
// unknown if none was but a filter that could have is broken. What a skip rule
// lifted counts as not reported.
func (v *view) reported(ids []int, rests mask) Truth {
	for _, id := range ids {
		if !v.present[id] {
			continue
		}
		for i := range v.symbols {
			if s := &v.symbols[i]; s.id == id && v.counts(s) {
				return Yes
			}
		}
	}
	if rests&v.broken&^v.lifted != 0 {
		return Unknown
	}
	return No
}

// counts reports whether a symbol counts for this recipient.
func (v *view) counts(s *found) bool {
	return !v.lifted.has(s.filter) && (s.symbol.To.IsNull() || s.symbol.To == v.to)
}

// score is the sum of the symbols' scores; false while a filter that gives
// scores is broken.
func (v *view) score() (float64, bool) {
	var sum float64
	for i := range v.symbols {
		if s := &v.symbols[i]; v.counts(s) {
			sum += s.symbol.Score
		}
	}
	return sum, v.p.scoring&v.broken&^v.lifted == 0
}

// parts returns the parts that the condition marks, in order, each once.
func (v *view) parts(c *condition) []mail.PartID {
	var parts []mail.PartID
	for i := range v.symbols {
		s := &v.symbols[i]
		if v.marked(c, s) && !slices.Contains(parts, s.symbol.Part) {
			parts = append(parts, s.symbol.Part)
		}
	}
	return parts
}

// marked reports whether the condition marks a part by this symbol.
func (v *view) marked(c *condition, s *found) bool {
	return containsInt(c.marks, s.id) && v.isPart(s.symbol.Part) && v.counts(s) && (c.labels == nil || anyGlob(c.labels, s.symbol.Label))
}

// isPart reports whether a symbol's part is one. The root stands for the whole
// message, unless the message is nothing but an attachment.
func (v *view) isPart(id mail.PartID) bool {
	if id != "" || v.tx.Message == nil {
		return id != ""
	}
	root := v.tx.Message.Part(id)
	return root != nil && root.IsLeaf() && root.IsAttachment()
}

// marks are the symbols by which the rule's match marked these parts.
func (r *rule) marks(v *view, parts []mail.PartID) []*filters.Symbol {
	var marks []*filters.Symbol
	for i := range v.symbols {
		s := &v.symbols[i]
		if slices.Contains(parts, s.symbol.Part) && slices.ContainsFunc(r.match, func(c *condition) bool { return v.marked(c, s) }) {
			marks = append(marks, s.symbol)
		}
	}
	return marks
}

func containsInt(list []int, n int) bool {
	for _, i := range list {
		if i == n {
			return true
		}
	}
	return false
}

func truth(b bool) Truth {
	if b {
		return Yes
	}
	return No
}

// not turns yes into no and leaves unknown as it is.
func (t Truth) not() Truth { return Yes - t }

// scoreString is formatScore for a score that many rules show.
func (v *view) scoreString(score float64) string {
	if v.scoreText == "" || v.scoreOf != score {
		v.scoreText, v.scoreOf = formatScore(score), score
	}
	return v.scoreText
}

func formatScore(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
