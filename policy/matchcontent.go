package policy

import (
	"fmt"
	"strings"

	"postern/filters"
	"postern/mail"
)

// dmarcPass is the symbol that makes an author believable.
const dmarcPass = "DMARC_PASS"

// author returns the test whether the authors are in the set. A match needs
// one author of several. An exception needs all of them, and that the client is
// ours or DMARC passes (RFC 7489 section 4.2): who can write what he likes into
// a From field cannot open a door with it.
func (c *compiler) author(set *addressSet, exception bool) (test func(v *view) Truth, rests mask) {
	if !exception {
		return func(v *view) Truth {
			if !v.hasMessage() {
				return Unknown
			}
			for _, a := range v.from() {
				if set.has(a) {
					return Yes
				}
			}
			return No
		}, 0
	}
	var ids []int
	if ref, ok := c.symbols[dmarcPass]; ok && ref.on {
		ids, rests = []int{ref.id}, 1<<ref.filter
	}
	return func(v *view) Truth {
		if !v.hasMessage() {
			return Unknown
		}
		authors := v.from()
		for _, a := range authors {
			if !set.has(a) {
				return No
			}
		}
		if len(authors) == 0 {
			return No
		}
		if v.tx.Trusted() {
			return Yes
		}
		return v.reported(ids, rests)
	}, rests
}

// gotAuthor tells the authors and, where an exception failed for that reason,
// that nothing vouches for them.
func gotAuthor(set *addressSet, exception bool, test func(v *view) Truth) func(v *view) string {
	return func(v *view) string {
		if !v.hasMessage() {
			return "a message that cannot be read"
		}
		authors := v.from()
		if len(authors) == 0 {
			return "no author"
		}
		if exception && set.has(authors[0]) && test(v) != Yes {
			return v.authorText + ", without a DMARC pass"
		}
		return v.authorText
	}
}

func (c *compiler) warnForgeable(n *node, exception bool) {
	if ref, ok := c.symbols[dmarcPass]; exception && (!ok || !ref.on) && !c.quiet {
		c.log.warn(n, "an exception for an author holds only with a DMARC pass or for our own clients, and no filter checks DMARC: it never holds for mail from outside")
	}
}

func compileFrom(c *compiler, n *node, k *keyUse) *condition {
	set := c.addresses(n, k.where)
	c.warnForgeable(n, k.exception)
	test, rests := c.author(set, k.exception)
	say := phrase(k.say, n, c)
	if k.exception {
		say[0] += " if DMARC passes"
		say[1] += " si DMARC réussit"
	}
	return &condition{
		stage: filters.Data, rests: rests, strict: k.exception, say: say,
		cover: coverage{words: set.patterns, addresses: true},
		test:  test, got: gotAuthor(set, k.exception, test),
	}
}

func compileParty(c *compiler, n *node, k *keyUse) *condition {
	set := c.addresses(n, k.where)
	test, rests := c.author(set, k.exception)
	author := gotAuthor(set, k.exception, test)
	return &condition{
		stage: filters.Data, rests: rests, strict: k.exception, splits: true,
		cover: coverage{words: set.patterns, addresses: true},
		test: func(v *view) Truth {
			if set.has(v.to) {
				return Yes
			}
			return test(v)
		},
		got: func(v *view) string { return author(v) + "; " + v.to.String() },
	}
}

// message makes a test of one that needs a readable message.
func message(test func(v *view) bool) func(v *view) Truth {
	return func(v *view) Truth {
		if !v.hasMessage() {
			return Unknown
		}
		return truth(test(v))
	}
}

func messageText(got func(v *view) string) func(v *view) string {
	return func(v *view) string {
		if !v.hasMessage() {
			return "a message that cannot be read"
		}
		return got(v)
	}
}

func compileSubject(c *compiler, n *node, k *keyUse) *condition {
	words := c.strings(n, k.where)
	for i, w := range words {
		if bare := strings.Trim(w, "*"); bare != "" && bare != w && !strings.Contains(w, "**") {
			at := n
			if n.kind == arrayNode && i < len(n.entries) {
				at = n.entries[i]
			}
			c.log.at(Warning, at, false, bare, fmt.Sprintf("%s: %q is looked for as it stands, with its *: a subject matches that contains the text", k.where, w))
		}
		words[i] = strings.ToLower(w)
	}
	return &condition{
		stage: filters.Data, cover: coverage{words: words},
		test: message(func(v *view) bool {
			v.subjectText()
			for _, w := range words {
				if strings.Contains(v.subjectLow, w) {
					return true
				}
			}
			return false
		}),
		got: messageText(func(v *view) string { return v.subjectText() }),
	}
}

// compileHeader reads { Name = "glob" }: every field named must be there with
// such a value.
func compileHeader(c *compiler, n *node, k *keyUse) *condition {
	type fieldTest struct {
		name  string
		globs []Glob
	}
	if n.kind != tableNode || len(n.entries) == 0 {
		c.log.value(n, `%s must be a table of field names, as in { X-Mailer = "*bulk*" }`, k.where)
		return nil
	}
	var tests []fieldTest
	var words, say []string
	for _, e := range n.entries {
		if !validFieldName(e.key) {
			c.log.key(e, "%s: %q is not the name of a header field", k.where, e.key)
		}
		globs, cover := c.globs(e, k.where+"."+e.key)
		tests = append(tests, fieldTest{e.key, globs})
		words = append(words, strings.ToLower(e.key)+"="+strings.Join(cover.words, "\x00"))
		say = append(say, e.key+": "+strings.Join(cover.words, ", "))
	}
	has := func(m *mail.Message, t *fieldTest) bool {
		for _, f := range m.Header().All(t.name) {
			if anyGlob(t.globs, f.Decoded()) {
				return true
			}
		}
		return false
	}
	return &condition{
		stage: filters.Data, cover: coverage{words: []string{strings.Join(words, "\x01")}},
		say: sayValues(k.say, []string{strings.Join(say, " + ")}),
		test: message(func(v *view) bool {
			for i := range tests {
				if !has(v.tx.Message, &tests[i]) {
					return false
				}
			}
			return true
		}),
		got: messageText(func(v *view) string {
			for i := range tests {
				if !has(v.tx.Message, &tests[i]) {
					return tests[i].name + ": " + orWord(v.tx.Header().Get(tests[i].name), "not there")
				}
			}
			return "all there"
		}),
	}
}

// validFieldName checks RFC 5322 section 3.6.8.
func validFieldName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ':' {
			return false
		}
	}
	return s != ""
}

func (c *compiler) size(n *node, where string) Bytes {
	var size Bytes
	c.dec.text(n, where, func(s string) error { return size.UnmarshalText([]byte(s)) })
	return size
}

func gotSize(v *view) string { return fmt.Sprintf("%d bytes", v.tx.Size()) }

func compileSizeOver(c *compiler, n *node, k *keyUse) *condition {
	size := c.size(n, k.where)
	return &condition{
		stage: filters.Data, cover: coverage{number: float64(size), order: 1},
		test: message(func(v *view) bool { return v.tx.Size() > int64(size) }),
		got:  messageText(gotSize),
	}
}

func compileSizeUpTo(c *compiler, n *node, k *keyUse) *condition {
	size := c.size(n, k.where)
	return &condition{
		stage: filters.Data, cover: coverage{number: float64(size), order: -1},
		test: message(func(v *view) bool { return v.tx.Size() <= int64(size) }),
		got:  messageText(gotSize),
	}
}

// symbol looks a symbol up and blames one that no filter reports.
func (c *compiler) symbol(n *node, name, where string) (symbolRef, bool) {
	ref, ok := c.symbols[name]
	switch {
	case !ok:
		c.log.word(n, false, name, fmt.Sprintf("%s: no filter reports the symbol %q", where, name), sortedKeys(c.symbols))
	case !ref.on:
		c.log.value(n, "%s: %s is reported by the filter %s, which is switched off", where, name, c.opts.Filters[ref.filter].Name)
	}
	return ref, ok && ref.on
}

func compileSymbol(c *compiler, n *node, k *keyUse) *condition {
	var ids []int
	var rests mask
	stage, virus := filters.Connect, false
	c.strings(n, k.where)
	var words []string
	for _, item := range n.items() {
		name, ok := item.value.(string)
		if !ok {
			continue
		}
		ref, ok := c.symbol(item, name, k.where)
		if !ok {
			continue
		}
		ids, words = append(ids, ref.id), append(words, name)
		rests |= 1 << ref.filter
		stage = max(stage, c.opts.Filters[ref.filter].Stage)
		virus = virus || c.opts.Filters[ref.filter].Name == virusFilter
	}
	return &condition{
		stage: stage, rests: rests, marks: ids, virus: virus, cover: coverage{words: words},
		test: func(v *view) Truth { return v.reported(ids, rests) },
		got:  func(v *view) string { return v.evidence(ids, rests) },
	}
}

func compileScore(c *compiler, n *node, k *keyUse) *condition {
	var least float64
	switch v := n.value.(type) {
	case float64:
		least = v
	case int64:
		least = float64(v)
	default:
		c.log.value(n, "%s must be a number", k.where)
	}
	if least <= 0 && !c.log.blames(n) {
		c.log.value(n, "%s must be more than 0", k.where)
	}
	rests := c.p.scoring
	return &condition{
		stage: filters.Data, rests: rests, cover: coverage{number: least, order: 1},
		test: func(v *view) Truth {
			score, known := v.score()
			if !known {
				return Unknown
			}
			return truth(score >= least)
		},
		got: func(v *view) string {
			score, known := v.score()
			if !known {
				return formatScore(score) + ", but " + v.brokenNames(rests) + " broke"
			}
			return v.scoreString(score)
		},
	}
}
