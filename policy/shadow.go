package policy

import (
	"net/netip"
	"slices"
	"strings"

	"postern/mail"
)

// coverage tells which values a condition takes, so that the loader can see
// that one condition takes everything that another does.
type coverage struct {
	words     []string // any of these, in canonical form
	addresses bool     // words are address patterns
	nets      []netip.Prefix
	number    float64
	order     int // 1: at least number; -1: at most number
}

// within reports whether whatever fits c fits other too.
func (c *coverage) within(other *coverage) bool {
	switch {
	case other.order > 0:
		return c.number >= other.number
	case other.order < 0:
		return c.number <= other.number
	case len(other.nets) > 0:
		return !slices.ContainsFunc(c.nets, func(p netip.Prefix) bool { return !inside(p, other.nets) })
	}
	for _, w := range c.words {
		if slices.Contains(other.words, w) {
			continue
		}
		if !other.addresses || !slices.ContainsFunc(other.words, func(o string) bool { return wider(o, w) }) {
			return false
		}
	}
	return len(c.words) > 0
}

func inside(p netip.Prefix, nets []netip.Prefix) bool {
	return slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Bits() <= p.Bits() && n.Contains(p.Addr()) })
}

// wider reports whether the address pattern a takes all that b does: @domain
// takes every address of the domain, @*.domain every one of its subdomains.
func wider(a, b string) bool {
	return slices.Contains(widerPatterns(b), a)
}

// widerPatterns returns the patterns that take at least all that p does.
func widerPatterns(p string) []string {
	local, domain, ok := cutLast(p, "@")
	if !ok || strings.ContainsAny(domain, "?") {
		return nil
	}
	var wider []string
	if local != "" && local != "*" {
		wider = append(wider, "@"+domain)
	}
	rest := strings.TrimPrefix(domain, "*.")
	for {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			return wider
		}
		wider = append(wider, "@*."+parent)
		rest = parent
	}
}

// checkShadows blames each rule that an earlier rule leaves nothing for, and
// each that contradicts itself.
func (c *compiler) checkShadows() {
	index := &shadowIndex{byWord: map[string][]*rule{}}
	for _, r := range c.p.rules {
		if r.wrong {
			continue
		}
		c.checkContradiction(r)
		for _, e := range index.candidates(r) {
			if takesAll(e, r) {
				c.log.key(r.node.child("name"), "rule %q can never match: %q in line %d takes everything it would", r.name, e.name, e.line)
				break
			}
		}
		if r.ends() {
			index.add(r)
		}
	}
}

// ends reports whether the rule takes what it matches from the rules below, at
// all times.
func (r *rule) ends() bool {
	return (r.verb == verbEnd || r.verb == verbAccept) && r.mode != Watch && r.from.IsZero() && r.until.IsZero()
}

// takesAll reports whether e takes every message that r would match.
func takesAll(e, r *rule) bool {
	if e.verb == verbAccept && r.malware {
		return false
	}
	for _, c := range e.match {
		if c.strict || !slices.ContainsFunc(r.match, func(o *condition) bool { return o.key == c.key && o.cover.within(&c.cover) }) {
			return false
		}
	}
	for _, table := range e.except {
		if !slices.ContainsFunc(r.except, func(other []*condition) bool { return exceptsAll(other, table) }) {
			return false
		}
	}
	return true
}

// exceptsAll reports whether the exception r takes out whatever e does: then
// what e leaves, r leaves too.
func exceptsAll(r, e []*condition) bool {
	for _, c := range r {
		if !slices.ContainsFunc(e, func(o *condition) bool { return o.key == c.key && o.cover.within(&c.cover) }) {
			return false
		}
	}
	return true
}

// A shadowIndex finds the rules that may take all that another would, without
// comparing each with each: a rule is kept under the words of that one of its
// conditions which fewest share.
type shadowIndex struct {
	byWord map[string][]*rule
	other  []*rule // rules without such a condition
}

func (x *shadowIndex) add(r *rule) {
	var best *condition
	least := 0
	for _, c := range r.match {
		if len(c.cover.words) == 0 {
			continue
		}
		size := 0
		for _, w := range c.cover.words {
			size = max(size, len(x.byWord[c.key+"\x00"+w]))
		}
		if best == nil || size < least {
			best, least = c, size
		}
	}
	if best == nil {
		x.other = append(x.other, r)
		return
	}
	for _, w := range best.cover.words {
		key := best.key + "\x00" + w
		x.byWord[key] = append(x.byWord[key], r)
	}
}

// candidates returns the rules that may take all that r would. What takes all
// of r takes the first word of one of its conditions.
func (x *shadowIndex) candidates(r *rule) []*rule {
	found := x.other
	if len(x.byWord) == 0 {
		return found
	}
	found = found[:len(found):len(found)]
	for _, c := range r.match {
		if len(c.cover.words) == 0 {
			continue
		}
		first := c.cover.words[0]
		found = append(found, x.byWord[c.key+"\x00"+first]...)
		if c.cover.addresses {
			for _, w := range widerPatterns(first) {
				found = append(found, x.byWord[c.key+"\x00"+w]...)
			}
		}
	}
	return found
}

// checkContradiction blames a rule whose conditions leave nothing.
func (c *compiler) checkContradiction(r *rule) {
	var over, upTo *condition
	for _, cond := range r.match {
		switch cond.key {
		case "size_over":
			over = cond
		case "size_up_to":
			upTo = cond
		case "listener":
			c.checkDirections(r, cond)
		case "to", "any_to":
			c.checkForeign(r, cond)
		}
	}
	if over != nil && upTo != nil && over.cover.number >= upTo.cover.number {
		c.log.key(upTo.node, "rule %q can never match: nothing is over %s and at most %s", r.name, over.want, upTo.want)
	}
	for _, table := range r.except {
		if len(table) > 0 && exceptsAll(table, r.match) && !slices.ContainsFunc(table, func(o *condition) bool { return o.strict }) {
			c.log.key(table[0].node, "rule %q can never match: its except takes out everything that its match takes", r.name)
		}
	}
}

// inboundOnly reports whether the rule is for inbound mail alone.
func (r *rule) inboundOnly() bool {
	return slices.ContainsFunc(r.match, func(d *condition) bool {
		return d.key == "direction" && len(d.cover.words) == 1 && d.cover.words[0] == string(mail.Inbound)
	})
}

// checkDirections compares a listener key with the direction: what comes in by
// an outbound listener is never inbound.
func (c *compiler) checkDirections(r *rule, cond *condition) {
	possible := !r.inboundOnly() || slices.ContainsFunc(cond.cover.words, func(name string) bool {
		l, ok := c.p.Listener(name)
		return !ok || l.Role != mail.RoleOutbound
	})
	if !possible {
		c.log.key(cond.node, "rule %q can never match: mail by %s is always outbound", r.name, cond.want)
	}
}

// checkForeign compares a recipient key with the direction: inbound mail goes
// to the site's domains only.
func (c *compiler) checkForeign(r *rule, cond *condition) {
	possible := !r.inboundOnly() || slices.ContainsFunc(cond.cover.words, func(w string) bool {
		_, domain, ok := cutLast(w, "@")
		return !ok || strings.ContainsAny(domain, "*?") || c.p.domains[domain]
	})
	if !possible {
		c.log.key(cond.node, "rule %q can never match: inbound mail goes to the domains of [site] only, and %s is none of them", r.name, cond.want)
	}
}
