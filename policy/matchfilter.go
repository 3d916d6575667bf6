package policy

import (
	"fmt"
	"strings"

	"postern/filters"
)

// virusFilter is the filter whose symbols mean malware: what rests on them is
// lifted by no allow rule and no watch mode.
const virusFilter = "virus"

// filterKey compiles a match key that a filter gives.
func (c *compiler) filterKey(n *node, ref keyRef, use *keyUse) *condition {
	var cond *condition
	switch ref.key.Kind {
	case filters.KeyBool:
		cond = c.boolKey(n, ref, use)
	case filters.KeyEnum:
		cond = c.enumKey(n, ref, use)
	default:
		cond = c.nameKey(n, ref, use)
	}
	cond.virus = c.opts.Filters[ref.filter].Name == virusFilter && len(cond.marks) > 0
	return cond
}

// resolve returns the ids of declared symbols and the filters that report them.
func (c *compiler) resolve(names []string) (ids []int, rests mask, stage filters.Stage) {
	for _, name := range names {
		ref, ok := c.symbols[name]
		if !ok || !ref.on {
			continue
		}
		ids = append(ids, ref.id)
		rests |= 1 << ref.filter
		stage = max(stage, c.opts.Filters[ref.filter].Stage)
	}
	return ids, rests, stage
}

func (c *compiler) boolKey(n *node, ref keyRef, use *keyUse) *condition {
	want, ok := n.value.(bool)
	if !ok {
		c.log.value(n, "%s must be true or false", use.where)
	}
	ids, rests, stage := c.resolve(ref.key.Symbols)
	say := boolPhrase(use.say, want)
	cond := &condition{
		stage: stage, rests: rests, say: say, cover: coverage{words: []string{fmt.Sprint(want)}},
		test: func(v *view) Truth { return v.reported(ids, rests) },
		got:  func(v *view) string { return v.evidence(ids, rests) },
	}
	if want {
		cond.marks = ids
	} else {
		cond.test = func(v *view) Truth { return v.reported(ids, rests).not() }
	}
	return cond
}

// boolPhrase puts yes or no into a phrase.
func boolPhrase(say [2]string, want bool) [2]string {
	words := [2]string{"no", "non"}
	if want {
		words = [2]string{"yes", "oui"}
	}
	for i, not := range []string{"not ", "pas "} {
		short, ends := strings.CutSuffix(say[i], ": %s")
		switch {
		case ends && want: // "with a virus: %s" needs no "yes"
			say[i] = strings.TrimSpace(short)
		case strings.Contains(say[i], "%s"):
			say[i] = strings.ReplaceAll(say[i], "%s", words[i])
		case !want:
			say[i] = not + say[i]
		}
	}
	return say
}

func (c *compiler) enumKey(n *node, ref keyRef, use *keyUse) *condition {
	known := make([]string, 0, len(ref.key.Values))
	bySymbols := map[string][]string{}
	var all []string
	for _, v := range ref.key.Values {
		known = append(known, v.Word)
		bySymbols[v.Word] = v.Symbols
		all = append(all, v.Symbols...)
	}
	words := c.oneOf(n, use.where, known)
	var names []string
	for _, w := range words {
		names = append(names, bySymbols[w]...)
	}
	ids, rests, stage := c.resolve(names)
	universe, everyone, _ := c.resolve(all)
	return &condition{
		stage: stage, rests: rests, marks: ids, cover: coverage{words: words},
		say:  sayValues(use.say, words),
		test: func(v *view) Truth { return v.reported(ids, rests) },
		got:  func(v *view) string { return v.words(ref.key.Values, universe, everyone) },
		seen: func(v *view) string { return v.evidence(ids, rests) },
	}
}

// nameKey compares free names, which may be patterns, with the labels of the
// symbols.
func (c *compiler) nameKey(n *node, ref keyRef, use *keyUse) *condition {
	globs, cover := c.globs(n, use.where)
	ids, rests, stage := c.resolve(ref.key.Symbols)
	test := func(v *view) Truth { return v.labelled(ids, rests, globs) }
	if use.exception && c.opts.Filters[ref.filter].Name == virusFilter {
		test = func(v *view) Truth { return v.labelledAll(ids, rests, globs) }
	}
	return &condition{
		stage: stage, rests: rests, cover: cover, marks: ids, labels: globs,
		say:  phrase(use.say, n, c),
		test: test,
		got:  func(v *view) string { return v.evidence(ids, rests) },
	}
}

// labelled is like reported, for symbols whose label matches.
func (v *view) labelled(ids []int, rests mask, globs []Glob) Truth {
	for i := range v.symbols {
		if s := &v.symbols[i]; containsInt(ids, s.id) && v.counts(s) && anyGlob(globs, s.symbol.Label) {
			return Yes
		}
	}
	if rests&v.broken&^v.lifted != 0 {
		return Unknown
	}
	return No
}

// labelledAll holds if there are such symbols, every one has a label that
// matches, and the filter says nothing else, such as that it did not see all: a
// harmless find beside it must not make an exception of malware.
func (v *view) labelledAll(ids []int, rests mask, globs []Glob) Truth {
	result := No
	for i := range v.symbols {
		s := &v.symbols[i]
		switch {
		case !rests.has(s.filter) || !v.counts(s):
		case !containsInt(ids, s.id) || !anyGlob(globs, s.symbol.Label):
			return No
		default:
			result = Yes
		}
	}
	if rests&v.broken&^v.lifted != 0 {
		return Unknown
	}
	return result
}

// evidence tells which of the symbols were reported, and what was seen.
func (v *view) evidence(ids []int, rests mask) string {
	var b strings.Builder
	for i := range v.symbols {
		s := &v.symbols[i]
		if !containsInt(ids, s.id) || !v.counts(s) {
			continue
		}
		if b.Len() > 200 {
			b.WriteString("...")
			break
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(s.symbol.Name)
		if s.symbol.Evidence != "" {
			b.WriteString(" (" + s.symbol.Evidence + ")")
		}
	}
	if b.Len() > 0 {
		return b.String()
	}
	return v.nothing(rests)
}

func (v *view) nothing(rests mask) string {
	switch {
	case rests&v.broken&^v.lifted != 0:
		return v.brokenNames(rests) + " broke"
	case rests != 0 && rests&^v.lifted == 0:
		return "lifted by a skip rule"
	}
	return "nothing of the kind"
}

// words tells which words of an enum key hold.
func (v *view) words(values []filters.KeyValue, universe []int, rests mask) string {
	seen := false
	for _, id := range universe {
		seen = seen || v.present[id]
	}
	if !seen {
		return v.nothing(rests)
	}
	var holds []string
	for _, value := range values {
		for i := range v.symbols {
			if s := &v.symbols[i]; contains(value.Symbols, s.symbol.Name) && v.counts(s) {
				holds = append(holds, value.Word)
				break
			}
		}
	}
	if len(holds) == 0 {
		return v.nothing(rests)
	}
	return strings.Join(holds, ", ")
}

// brokenNames tells which of the filters broke.
func (v *view) brokenNames(rests mask) string {
	var names []string
	for i, name := range v.p.names {
		if (rests & v.broken).has(i) {
			names = append(names, name)
		}
	}
	return "filter " + strings.Join(names, ", ")
}
