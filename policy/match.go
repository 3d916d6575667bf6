package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/filters"
	"postern/mail"
)

// A matchKey is a match key of the policy itself. The filters add theirs.
type matchKey struct {
	name    string
	value   string    // what may stand there, for the reference
	doc     string    // completes "matches when ..."
	say     [2]string // phrase for postern rules, English and French
	compile func(c *compiler, n *node, k *keyUse) *condition
}

// A keyUse says where a match key stands.
type keyUse struct {
	where     string // for messages: match.from
	exception bool   // in except, or in the match of a rule that allows
	say       [2]string
}

const valueNames = `an address, a domain, a pattern, "site", "list:NAME", "group:NAME", or a list of them`

// matchKeys are the match keys of the policy itself, in the order of the
// manual.
var matchKeys = []matchKey{
	{"direction", `"inbound" or "outbound"`, "the mail goes in this direction",
		[2]string{"going %s", "en sens %s"}, compileDirection},
	{"listener", "the name of a listener, or a list of them", "the mail came in by this listener",
		[2]string{"by listener %s", "par %s"}, compileListener},
	{"client", "an address or a network, or a list of them", "the client has such an address",
		[2]string{"from client %s", "du client %s"}, compileClient},
	{"helo", "a pattern, or a list of them", "the client said such a name in HELO or EHLO",
		[2]string{"with HELO name %s", "avec le nom HELO %s"}, compileHelo},
	{"user", "a pattern, or a list of them", `such a user is logged in; "*" is any`,
		[2]string{"sent by user %s", "envoyé par l'utilisateur %s"}, compileUser},
	{"tls", "true or false", "the mail came over TLS, or in clear text",
		[2]string{"over TLS", "reçu en TLS"}, compileTLS},
	{"from", valueNames, "the author in the From field is one of them; as an exception, every author must be, and only with a DMARC pass or from our own clients",
		[2]string{"from %s", "de %s"}, compileFrom},
	{"reverse_path", valueNames, `the reverse-path (MAIL FROM) is one of them; "<>" is the null one`,
		[2]string{"with reverse-path %s", "avec pour chemin de retour %s"}, compileReversePath},
	{"to", valueNames, "the recipient is one of them; each recipient is judged alone",
		[2]string{"to %s", "pour %s"}, compileTo},
	{"any_to", valueNames, "any recipient of the message is one of them",
		[2]string{"to %s among others", "pour %s entre autres"}, compileAnyTo},
	{"party", valueNames, "the author or the recipient is one of them",
		[2]string{"from or to %s", "de ou pour %s"}, compileParty},
	{"subject", "a text, or a list of them", "the subject contains the text; case does not count",
		[2]string{"with %s in the subject", "avec %s dans l'objet"}, compileSubject},
	{"header", `a table of patterns, as in { X-Mailer = "*bulk*" }`, "each header field of the table is there and has such a value",
		[2]string{"with header field %s", "avec le champ d'en-tête %s"}, compileHeader},
	{"size_over", `a size, as in "25MB"`, "the message is larger",
		[2]string{"larger than %s", "de plus de %s"}, compileSizeOver},
	{"size_up_to", `a size, as in "25MB"`, "the message is not larger",
		[2]string{"of at most %s", "d'au plus %s"}, compileSizeUpTo},
	{"symbol", "the name of a symbol, or a list of them", "a filter reported one of the symbols",
		[2]string{"with symbol %s", "avec le symbole %s"}, compileSymbol},
	{"score_at_least", "a number, more than 0", "the scores of all symbols add up to that much",
		[2]string{"scoring at least %s", "dont le score atteint %s"}, compileScore},
}

// conditions compiles a match or except table, in the order of the file.
func (c *compiler) conditions(n *node, where string, exception bool) []*condition {
	if n.kind != tableNode {
		c.log.value(n, "%s must be a table, as in { from = \"@example.org\" }", where)
		return nil
	}
	if len(n.entries) == 0 {
		c.log.value(n, "%s is empty: leave it out", where)
	}
	var conds []*condition
	for _, e := range n.entries {
		cond := c.condition(e, where, exception)
		if cond == nil {
			continue
		}
		cond.key, cond.node = e.key, e
		if cond.want == "" {
			cond.want = c.written(e)
		}
		conds = append(conds, cond)
	}
	return conds
}

// written returns the value as the file says it, without its quotes.
func (c *compiler) written(n *node) string {
	text := strings.Join(strings.Fields(c.log.src.text[n.at:n.end]), " ")
	if s, ok := n.value.(string); ok {
		text = s
	}
	if len(text) > 120 {
		text = strings.ToValidUTF8(text[:117], "") + "..."
	}
	return text
}

func (c *compiler) condition(n *node, table string, exception bool) *condition {
	use := &keyUse{where: table + "." + n.key, exception: exception}
	for i := range matchKeys {
		if matchKeys[i].name == n.key {
			use.say = matchKeys[i].say
			cond := matchKeys[i].compile(c, n, use)
			if cond != nil && cond.say == [2]string{} {
				cond.say = phrase(use.say, n, c)
			}
			return cond
		}
	}
	ref, ok := c.keys[n.key]
	if !ok {
		c.unknownMatchKey(n, table)
		return nil
	}
	if f := c.opts.Filters[ref.filter]; c.off[f.Name] {
		c.log.key(n, "%s: the filter %s, which gives this key, is switched off", use.where, f.Name)
		return nil
	}
	use.say = ref.key.Say
	return c.filterKey(n, ref, use)
}

func (c *compiler) unknownMatchKey(n *node, table string) {
	if why, ok := notBuilt["rule.match."+n.key]; ok {
		c.log.key(n, "%s.%s is not built into this version of postern%s", table, n.key, why)
		return
	}
	c.log.word(n, true, n.key, fmt.Sprintf("unknown key %q in %s", n.key, table), c.matchWords())
}

// matchWords returns every match key.
func (c *compiler) matchWords() []string {
	var words []string
	for i := range matchKeys {
		words = append(words, matchKeys[i].name)
	}
	return append(words, sortedKeys(c.keys)...)
}

// phrase puts the value of n into the phrases.
func phrase(say [2]string, n *node, c *compiler) [2]string {
	var values []string
	for _, item := range n.items() {
		values = append(values, c.written(item))
	}
	return sayValues(say, values)
}

func sayValues(say [2]string, values []string) [2]string {
	for i, or := range []string{" or ", " ou "} {
		if strings.Contains(say[i], "%s") {
			say[i] = strings.ReplaceAll(say[i], "%s", listWords(values, or))
		}
	}
	return say
}

// listWords writes "a, b or c".
func listWords(words []string, or string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + or + words[last]
}

// strings reads one string or a list of strings.
func (c *compiler) strings(n *node, where string) []string {
	var list []string
	for _, item := range n.items() {
		s, ok := item.value.(string)
		if !ok || s == "" {
			c.log.value(item, "%s must be a string in quotes, or a list of them", where)
			continue
		}
		list = append(list, s)
	}
	if n.kind == arrayNode && len(n.entries) == 0 {
		c.log.value(n, "%s: an empty list matches nothing", where)
	}
	return list
}

// oneOf reads one of the known words, or a list of them.
func (c *compiler) oneOf(n *node, where string, known []string) []string {
	list := c.strings(n, where)
	for _, item := range n.items() {
		if s, ok := item.value.(string); ok && s != "" && !contains(known, s) {
			c.log.word(item, false, s, fmt.Sprintf("%s: %q is not one of its words", where, s), known)
		}
	}
	return list
}

func compileDirection(c *compiler, n *node, k *keyUse) *condition {
	words := c.oneOf(n, k.where, []string{string(mail.Inbound), string(mail.Outbound)})
	return &condition{
		stage: filters.Mail,
		cover: coverage{words: words},
		test:  func(v *view) Truth { return truth(contains(words, string(v.tx.Direction))) },
		got:   func(v *view) string { return string(v.tx.Direction) },
	}
}

func compileListener(c *compiler, n *node, k *keyUse) *condition {
	var known []string
	for i := range c.p.Listeners {
		known = append(known, c.p.Listeners[i].Name)
	}
	words := c.oneOf(n, k.where, known)
	return &condition{
		stage: filters.Mail,
		cover: coverage{words: words},
		test:  func(v *view) Truth { return truth(contains(words, v.tx.Listener)) },
		got:   func(v *view) string { return v.tx.Listener },
	}
}

func compileClient(c *compiler, n *node, k *keyUse) *condition {
	var nets []netip.Prefix
	for _, item := range n.items() {
		s, _ := item.value.(string)
		p, err := parseNetwork(s)
		if err != nil {
			c.log.value(item, "%s: %s", k.where, err)
			continue
		}
		nets = append(nets, p)
	}
	return &condition{
		stage: filters.Mail,
		cover: coverage{nets: nets},
		test: func(v *view) Truth {
			client := v.tx.Client.Addr().Unmap().WithZone("")
			return truth(slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(client) }))
		},
		got: func(v *view) string { return v.client() },
	}
}

// globs reads one pattern or a list of patterns.
func (c *compiler) globs(n *node, where string) ([]Glob, coverage) {
	var globs []Glob
	var words []string
	for _, s := range c.strings(n, where) {
		g := newGlob(s)
		globs = append(globs, g)
		words = append(words, g.lower)
	}
	return globs, coverage{words: words}
}

func anyGlob(globs []Glob, s string) bool {
	for i := range globs {
		if globs[i].Match(s) {
			return true
		}
	}
	return false
}

func compileHelo(c *compiler, n *node, k *keyUse) *condition {
	globs, cover := c.globs(n, k.where)
	return &condition{
		stage: filters.Mail, cover: cover,
		test: func(v *view) Truth { return truth(anyGlob(globs, v.tx.Helo)) },
		got:  func(v *view) string { return v.tx.Helo },
	}
}

func compileUser(c *compiler, n *node, k *keyUse) *condition {
	globs, cover := c.globs(n, k.where)
	return &condition{
		stage: filters.Mail, cover: cover,
		test: func(v *view) Truth { return truth(v.tx.User != "" && anyGlob(globs, v.tx.User)) },
		got:  func(v *view) string { return orWord(v.tx.User, "not logged in") },
	}
}

func orWord(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

func compileTLS(c *compiler, n *node, k *keyUse) *condition {
	want, ok := n.value.(bool)
	if !ok {
		c.log.value(n, "%s must be true or false", k.where)
	}
	say := k.say
	if !want {
		say = [2]string{"in clear text", "reçu en clair"}
	}
	return &condition{
		stage: filters.Mail, say: say,
		cover: coverage{words: []string{fmt.Sprint(want)}},
		test:  func(v *view) Truth { return truth((v.tx.TLS.Version != "") == want) },
		got:   func(v *view) string { return orWord(v.tx.TLS.Version, "clear text") },
	}
}

func compileReversePath(c *compiler, n *node, k *keyUse) *condition {
	set := c.addresses(n, k.where)
	return &condition{
		stage: filters.Mail, cover: coverage{words: set.patterns, addresses: true},
		test: func(v *view) Truth { return truth(set.has(v.tx.ReversePath)) },
		got:  func(v *view) string { return "<" + v.tx.ReversePath.String() + ">" },
	}
}

func compileTo(c *compiler, n *node, k *keyUse) *condition {
	set := c.addresses(n, k.where)
	return &condition{
		stage: filters.Rcpt, splits: true, cover: coverage{words: set.patterns, addresses: true},
		test: func(v *view) Truth { return truth(set.has(v.to)) },
		got:  func(v *view) string { return v.to.String() },
	}
}

func compileAnyTo(c *compiler, n *node, k *keyUse) *condition {
	set := c.addresses(n, k.where)
	return &condition{
		stage: filters.Data, cover: coverage{words: set.patterns, addresses: true},
		test: func(v *view) Truth {
			for i := range v.tx.Recipients {
				if set.has(v.tx.Recipients[i].Path) {
					return Yes
				}
			}
			return No
		},
		got: func(v *view) string {
			if n := len(v.tx.Recipients); n != 1 {
				return fmt.Sprintf("%d recipients", n)
			}
			return v.tx.Recipients[0].Path.String()
		},
	}
}
