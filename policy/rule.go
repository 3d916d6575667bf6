package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/filters"
	"postern/mail"
)

// A verb is what a rule's action does to the search.
type verb uint8

const (
	verbRewrite verb = iota // asks for a rewrite and goes on
	verbEnd                 // gives the disposition and ends the list
	verbAccept              // relays: ends the list but for the rules that hold malware
	verbSkip                // lifts scoring filters and goes on
	verbJournal             // asks for a copy to an archive and goes on
	verbNotify              // only tells somebody and goes on
)

// A rule is one [[rule]], compiled.
type rule struct {
	name, why string
	line      int
	match     []*condition
	except    [][]*condition
	verb      verb
	fate      Disposition // for verbEnd
	reply     ReplyText
	queue     string
	action    Action
	lift      mask
	liftNames []string
	journal   []mail.Path
	notify    []string
	mode      Mode
	from      time.Time // the zero time: always
	until     time.Time
	malware   bool // its match is about malware: nothing lifts it
	rests     mask // filters that its conditions rest on
	wrong     bool // a mistake was told about it: its conditions may be incomplete
	node      *node
	say       [2]string // the action, for sentences
}

// A ruleTable is a [[rule]] as it is written. The keys of its action stand
// beside these.
type ruleTable struct {
	Name       string  `toml:"name" doc:"name of the rule, for people and the log"`
	Why        string  `toml:"why" doc:"why there is such a rule"`
	Direction  *node   `toml:"direction" value:"\"inbound\" or \"outbound\"" doc:"only mail in this direction"`
	Match      *node   `toml:"match" value:"a table of match keys" doc:"conditions, of which each must hold; absent: every message"`
	Except     *node   `toml:"except" value:"a table of match keys, or a list of them" doc:"takes out what meets each condition of one table"`
	Action     *node   `toml:"action" value:"the name of an action" doc:"what to do"`
	Mode       Mode    `toml:"mode" default:"enforce" value:"\"enforce\" or \"watch\"" doc:"watch only notes what the rule would do"`
	ActiveFrom *Moment `toml:"active_from" value:"a date, or a date and time" doc:"from when on the rule holds"`
	Expires    *Moment `toml:"expires" value:"a date, or a date and time" doc:"until when the rule holds"`
	Notify     *node   `toml:"notify" value:"\"sender\", \"officer\", \"admin\" or an address, or a list of them" doc:"whom to tell"`
}

var ruleKeys = []string{"name", "why", "direction", "match", "except", "action", "mode", "active_from", "expires", "notify"}

// An actionWord is an action of the policy itself. The filters add theirs.
type actionWord struct {
	name string
	doc  string // completes "the action ..."
	verb verb
	fate Disposition
	keys []string
	say  [2]string
}

var actionWords = []actionWord{
	{"accept", "relays the message and ends the list, but for the rules that hold malware", verbAccept, Relay, nil, [2]string{"relay", "transmettre"}},
	{"reject", "refuses the message with a reply of 5xx and ends the list", verbEnd, Reject, []string{"reply"}, [2]string{"refuse with %s", "refuser avec %s"}},
	{"defer", "asks the client to come back later, with a reply of 4xx, and ends the list", verbEnd, Defer, []string{"reply"}, [2]string{"defer with %s", "différer avec %s"}},
	{"quarantine", "takes the message and holds it in a queue of the quarantine, and ends the list", verbEnd, Quarantine, []string{"queue"}, [2]string{"hold in queue %s", "retenir dans la file %s"}},
	{"discard", "takes the message, throws it away and ends the list", verbEnd, Discard, nil, [2]string{"discard", "jeter"}},
	{"skip", "lifts the scores of some filters and goes on", verbSkip, Defer, []string{"filters"}, [2]string{"skip %s", "ignorer %s"}},
	{"journal", "sends a copy to an archive and goes on", verbJournal, Defer, []string{"copy_to"}, [2]string{"send a copy to %s", "envoyer une copie à %s"}},
	{"notify", "only tells somebody, as the key notify says, and goes on", verbNotify, Defer, nil, [2]string{"go on", "continuer"}},
}

// notBuiltAction stands for an action of which only the name is known.
const notBuiltAction = "?"

// Queues are the queues of the quarantine.
var Queues = []string{"spam", "policy", "malware", "ambiguous"}

// rule compiles one [[rule]]. It returns nil if there is no use in looking at
// it further.
func (c *compiler) rule(n *node, number int) *rule {
	if n.kind != tableNode {
		c.log.value(n, "rule must be a table")
		return nil
	}
	line, _ := c.log.src.locate(n.at)
	r := &rule{line: line, node: n}
	action, settings := c.actionOf(n)
	if c.quiet && !c.available(n, action) {
		return nil
	}
	var t ruleTable
	if settings != nil {
		// The keys of the action are decoded over its settings, the others
		// stand in the rule's own table: each ignores the other's.
		c.dec.table(n, &t, "rule", c.dec.names(settings)...)
		c.dec.table(n, settings, "rule", ruleKeys...)
	} else {
		c.dec.table(n, &t, "rule", slices.Concat(actionKeys(action), c.foreignKeys(n, action))...)
	}
	r.name, r.why, r.mode = t.Name, t.Why, t.Mode
	if r.name == "" {
		c.log.key(n, "rule %d has no name", number)
	}
	c.ruleMatch(r, &t, action)
	c.ruleAction(r, &t, action, settings)
	c.ruleTimes(r, &t)
	c.ruleNotify(r, &t)
	c.checkMalware(r, &t)
	c.checkClaims(r)
	return r
}

// actionOf reads the action's word first, because the other keys depend on it.
func (c *compiler) actionOf(n *node) (action string, settings any) {
	a := n.child("action")
	if a == nil {
		if !slices.ContainsFunc(n.entries, func(e *node) bool { return nearest(e.key, []string{"action"}) != "" }) {
			c.log.key(n, "rule has no action; known: %s", strings.Join(c.actionNames(), ", "))
		}
		return "", nil
	}
	word, ok := a.value.(string)
	if !ok {
		c.log.value(a, "rule.action must be a string in quotes")
		return "", nil
	}
	for i := range actionWords {
		if actionWords[i].name == word {
			return word, nil
		}
	}
	if ref, ok := c.actions[word]; ok {
		if c.off[ref.filter] {
			c.log.value(a, "rule.action: the filter %s, which offers %q, is switched off", ref.filter, word)
		}
		if ref.doc.New == nil {
			return word, &struct{}{}
		}
		return word, ref.doc.New()
	}
	if why, ok := notBuilt["rule.action."+word]; ok {
		c.log.value(a, "the action %q is not built into this version of postern%s", word, why)
		return notBuiltAction, nil
	}
	if word == "relay" {
		c.log.at(Error, a, false, "accept", `rule.action: "relay" is not an action`)
		return "", nil
	}
	c.log.word(a, false, word, fmt.Sprintf("rule.action: %q is not an action", word), c.actionNames())
	return "", nil
}

func (c *compiler) actionNames() []string {
	var names []string
	for i := range actionWords {
		names = append(names, actionWords[i].name)
	}
	return append(names, sortedKeys(c.actions)...)
}

func actionKeys(action string) []string {
	for i := range actionWords {
		if actionWords[i].name == action {
			return actionWords[i].keys
		}
	}
	return nil
}

// foreignKeys returns the keys of n that belong to another action, and blames
// them: they are not unknown, but out of place. When the action itself is not
// known, the keys of any may stand there.
func (c *compiler) foreignKeys(n *node, action string) []string {
	var foreign []string
	own := actionKeys(action)
	for _, e := range n.entries {
		if contains(ruleKeys, e.key) || contains(own, e.key) {
			continue
		}
		owner, ok := c.keyOwner(e.key)
		if action == notBuiltAction {
			foreign = append(foreign, e.key)
			continue
		}
		if !ok {
			continue
		}
		foreign = append(foreign, e.key)
		if action != "" {
			c.log.key(e, "%s is a key of the action %q, not of %q", e.key, owner, action)
		}
	}
	return foreign
}

// keyOwner returns the action that has such a key.
func (c *compiler) keyOwner(key string) (action string, ok bool) {
	for i := range actionWords {
		if contains(actionWords[i].keys, key) {
			return actionWords[i].name, true
		}
	}
	for _, name := range sortedKeys(c.actions) {
		if doc := c.actions[name].doc; doc.New != nil && contains(c.dec.names(doc.New()), key) {
			return name, true
		}
	}
	return "", false
}

// ruleMatch compiles direction, match and except.
func (c *compiler) ruleMatch(r *rule, t *ruleTable, action string) {
	if t.Direction != nil {
		if cond := c.condition(t.Direction, "rule", false); cond != nil {
			cond.key, cond.want, cond.node = "direction", c.written(t.Direction), t.Direction
			r.match = append(r.match, cond)
		}
	}
	allows := action == "accept" || action == "skip"
	if t.Match != nil {
		r.match = append(r.match, c.conditions(t.Match, "match", allows)...)
	}
	if t.Except != nil {
		for _, item := range t.Except.items() {
			r.except = append(r.except, c.conditions(item, "except", true))
		}
	}
	for _, cond := range r.match {
		r.rests |= cond.rests
		c.p.splits = c.p.splits || cond.splits
		r.malware = r.malware || cond.virus && !allows
	}
	for _, table := range r.except {
		for _, cond := range table {
			r.rests |= cond.rests
			c.p.splits = c.p.splits || cond.splits
		}
	}
}

// ruleAction compiles the action and its keys.
func (c *compiler) ruleAction(r *rule, t *ruleTable, action string, settings any) {
	if settings != nil {
		c.rewriteAction(r, t, action, settings)
		return
	}
	i := slices.IndexFunc(actionWords, func(w actionWord) bool { return w.name == action })
	if i < 0 {
		return
	}
	w := &actionWords[i]
	r.verb, r.fate, r.say = w.verb, w.fate, w.say
	switch action {
	case "reject", "defer":
		c.replyKey(r, action)
	case "quarantine":
		c.queueKey(r)
	case "skip":
		c.skipKey(r)
	case "journal":
		c.journalKey(r)
	case "notify":
		if t.Notify == nil {
			c.log.value(t.Action, `the action "notify" needs the key notify`)
		}
	}
}

func (c *compiler) rewriteAction(r *rule, t *ruleTable, action string, settings any) {
	ref := c.actions[action]
	if v, ok := settings.(filters.Validator); ok {
		if err := v.Validate(); err != nil {
			c.blameSetting(r.node, t.Action, err)
		}
	}
	key, err := json.Marshal(settings)
	if err != nil {
		key = fmt.Appendf(nil, "%#v", settings)
	}
	marks := slices.ContainsFunc(r.match, func(c *condition) bool { return len(c.marks) > 0 })
	if ref.doc.KeepsOriginal && !marks && !c.log.failed() {
		c.log.value(t.Action, "the action %q works on the parts that the match marks, and this match marks none: name an attachment or a symbol", action)
	}
	r.verb, r.say = verbRewrite, ref.doc.Say
	r.action = Action{Name: action, Filter: ref.filter, With: settings, Rule: r.name, key: action + "\x00" + string(key)}
}

// ownReplies are what reject and defer say without a reply key.
var ownReplies = map[string]string{
	"reject": "550 5.7.1 refused by the policy of this site",
	"defer":  "451 4.7.1 deferred by the policy of this site; try again later",
}

func (c *compiler) replyKey(r *rule, action string) {
	n := r.node.child("reply")
	if n == nil {
		_ = r.reply.UnmarshalText([]byte(ownReplies[action]))
	} else {
		c.dec.text(n, "rule.reply", func(s string) error { return r.reply.UnmarshalText([]byte(s)) })
	}
	switch {
	case r.reply.code == 0:
	case action == "reject" && r.reply.code < 500:
		c.log.value(n, "the reply of a reject rule begins with 5: %d would make the client try again", r.reply.code)
	case action == "defer" && r.reply.code >= 500:
		c.log.value(n, "the reply of a defer rule begins with 4: %d would make the client give up", r.reply.code)
	}
	c.p.splits = c.p.splits || r.reply.uses("to", "to.domain")
	r.say = sayValues(r.say, []string{fmt.Sprintf("%d %d.%d.%d", r.reply.code, r.reply.enhanced[0], r.reply.enhanced[1], r.reply.enhanced[2])})
}

func (c *compiler) queueKey(r *rule) {
	r.queue = "policy"
	if r.malware {
		r.queue = "malware"
	}
	if n := r.node.child("queue"); n != nil {
		r.queue, _ = n.value.(string)
		if n.kind != scalarNode || r.queue == "" {
			c.log.value(n, "rule.queue must be a string in quotes")
		} else if !contains(Queues, r.queue) {
			c.log.word(n, false, r.queue, fmt.Sprintf("rule.queue: there is no queue %q", r.queue), Queues)
		}
	}
	r.say = sayValues(r.say, []string{r.queue})
}

// skipKey reads the scoring filters that the rule lifts.
func (c *compiler) skipKey(r *rule) {
	n := r.node.child("filters")
	if n == nil {
		c.log.key(r.node.child("action"), `the action "skip" needs the key filters`)
		return
	}
	var scoring []string
	for _, f := range c.opts.Filters {
		if f.Scoring {
			scoring = append(scoring, f.Name)
		}
	}
	r.liftNames = c.strings(n, "rule.filters")
	for _, item := range n.items() {
		name, ok := item.value.(string)
		at := slices.IndexFunc(c.opts.Filters, func(f *filters.Filter) bool { return f.Name == name })
		switch {
		case !ok:
		case at < 0:
			c.log.word(item, false, name, fmt.Sprintf("rule.filters: there is no filter %q", name), scoring)
		case !c.opts.Filters[at].Scoring:
			c.log.word(item, false, name, fmt.Sprintf("rule.filters: %q is no scoring filter: it cannot be skipped", name), scoring)
		default:
			r.lift |= 1 << at
		}
	}
	for i, and := range []string{" and ", " et "} {
		r.say[i] = strings.ReplaceAll(r.say[i], "%s", listWords(r.liftNames, and))
	}
}

func (c *compiler) journalKey(r *rule) {
	n := r.node.child("copy_to")
	if n == nil {
		c.log.key(r.node.child("action"), `the action "journal" needs the key copy_to`)
		return
	}
	var say []string
	for _, s := range c.strings(n, "rule.copy_to") {
		path, err := mail.ParsePath(s, true)
		if err != nil || path.Domain == "" {
			c.log.value(n, "rule.copy_to: %q is not a mail address", s)
			continue
		}
		c.needRoute(n, "rule.copy_to", path)
		r.journal = append(r.journal, path)
		say = append(say, s)
	}
	r.say = sayValues(r.say, say)
}

// needRoute: mail that we send ourselves must have a next hop, or it would wait
// in the queue for ever.
func (c *compiler) needRoute(n *node, where string, to mail.Path) {
	if _, ok := c.p.UpstreamFor("", to); !ok {
		c.log.value(n, `%s: no upstream takes mail for %s: add an [[upstream]] with for = [%q]`, where, to.Domain, to.Domain)
	}
}

var noticeWords = []string{"sender", "officer", "admin"}

func (c *compiler) ruleNotify(r *rule, t *ruleTable) {
	if t.Notify == nil {
		return
	}
	r.notify = c.strings(t.Notify, "rule.notify")
	for _, item := range t.Notify.items() {
		s, ok := item.value.(string)
		if !ok {
			continue
		}
		if strings.Contains(s, "@") {
			path, err := mail.ParsePath(s, true)
			if err != nil || path.Domain == "" {
				c.log.value(item, "rule.notify: %q is not a mail address", s)
			} else {
				c.needRoute(item, "rule.notify", path)
			}
			continue
		}
		if !contains(noticeWords, s) {
			c.log.word(item, false, s, fmt.Sprintf("rule.notify: %q is neither a role nor an address", s), noticeWords)
		}
		if s == "sender" && (t.Direction == nil || t.Direction.value != string(mail.Outbound)) {
			c.log.value(item, `rule.notify: "sender" needs direction = "outbound": the reverse-path of mail from outside may be forged, and the notice would hit somebody else`)
		}
	}
}

// ruleTimes reads active_from and expires.
func (c *compiler) ruleTimes(r *rule, t *ruleTable) {
	if t.ActiveFrom != nil {
		r.from = t.ActiveFrom.in(c.p.zone)
	}
	if t.Expires == nil {
		return
	}
	r.until = t.Expires.in(c.p.zone)
	n := r.node.child("expires")
	switch {
	case r.until.IsZero():
	case !r.from.IsZero() && !r.until.After(r.from):
		c.log.value(n, "rule %q can never match: it expires before it is active", r.name)
	case !c.opts.Now().Before(r.until):
		c.log.warn(n, "rule %q has expired", r.name)
	}
}

// forgeable are the match keys whose value the one who wrote the message
// chooses.
var forgeable = []string{"from", "reverse_path", "party", "helo", "subject", "header"}

// certain are the match keys whose value the one who wrote the message does not
// choose. A size, a file besides or another recipient, he does.
var certain = []string{"client", "user", "listener", "direction", "to"}

// What of a message says of itself that it is a list's, and what sealers say that
// the site trusts.
const (
	listClaim   = "mailing_list"
	listSymbol  = "MAILING_LIST"
	trustSymbol = "ARC_TRUSTED"
)

// checkClaims refuses a rule about DMARC from which the claim to be a list frees
// alone, or with what a forger chooses as well: with an SPF pass of his own domain,
// say. Lists and forwarders are told by a chain of trusted seals, or by their
// address.
func (c *compiler) checkClaims(r *rule) {
	marks := func(cond *condition, symbol string) bool {
		ref, ok := c.symbols[symbol]
		return ok && slices.Contains(cond.marks, ref.id)
	}
	if !slices.ContainsFunc(r.match, func(cond *condition) bool {
		return cond.key == "dmarc" || cond.key == "dmarc_policy" || marks(cond, "DMARC_FAIL") || marks(cond, "DMARC_POLICY_REJECT") || marks(cond, "DMARC_POLICY_QUARANTINE")
	}) {
		return
	}
	for _, cond := range r.match {
		if cond.key == listClaim && len(cond.marks) == 0 {
			c.log.key(cond.node, "rule %q is about DMARC: with %s = false it would not hold for who claims to be a list, which anyone can: leave it out, and add except = { arc = \"trusted\" }", r.name, listClaim)
		}
	}
	for _, table := range r.except {
		i := slices.IndexFunc(table, func(cond *condition) bool { return marks(cond, listSymbol) })
		sure := func(cond *condition) bool {
			// Only mail on its way in is judged by DMARC: that direction sets nobody apart.
			return contains(certain, cond.key) && cond.key != "direction" || len(cond.marks) == 1 && marks(cond, trustSymbol)
		}
		if i >= 0 && !slices.ContainsFunc(table, sure) {
			c.log.key(table[i].node, `rule %q is about DMARC: it takes no exception by %s alone, which anyone can claim: add arc = "trusted", or the client`, r.name, listClaim)
		}
	}
}

// checkMalware refuses whatever would let malware through.
func (c *compiler) checkMalware(r *rule, t *ruleTable) {
	if !r.malware {
		return
	}
	for _, key := range []string{"mode", "active_from", "expires"} {
		n := r.node.child(key)
		if n == nil || key == "mode" && t.Mode != Watch {
			continue
		}
		c.log.key(n, "rule %q is about malware: it takes no %s, for neither watch mode nor a date lifts the malware hold", r.name, key)
	}
	for _, table := range r.except {
		sure := len(table) == 0
		for _, cond := range table {
			sure = sure || contains(certain, cond.key) || cond.virus && cond.labels != nil
			if contains(forgeable, cond.key) {
				c.log.key(cond.node, "rule %q is about malware: it takes no exception by %s, for an allow list never lifts malware", r.name, cond.key)
				sure = true
			}
		}
		if !sure {
			c.log.key(table[0].node, "rule %q is about malware: it takes no exception by %s alone, which whoever sends malware could arrange", r.name, table[0].key)
		}
	}
}

// names returns the keys of the struct that v points to.
func (d *decoder) names(v any) []string {
	return d.shape(elemType(v)).names
}
