package policy

import (
	_ "embed"
	"slices"

	"postern/filters"
)

// shippedText holds the rules of a policy that has none of its own.
//
//go:embed shipped.toml
var shippedText string

// shippedRules compiles the shipped rules. Those that rest on a filter which is
// not there or is switched off are left out.
func (c *compiler) shippedRules() {
	s := *c
	s.log = &problemLog{src: &source{name: "the shipped rules", text: shippedText}}
	s.dec = &decoder{log: s.log, secret: c.secret, conditions: c.matchWords}
	s.quiet = true
	if s.parse() {
		s.compileRules(s.root.child("rule"))
		s.checkShadows()
	}
	c.p.Shipped = true
	for _, p := range s.log.list {
		c.log.add(p)
	}
}

// available reports whether everything that the rule needs is there.
func (c *compiler) available(n *node, action string) bool {
	if action == "" {
		return false
	}
	if ref, ok := c.actions[action]; ok && c.off[ref.filter] {
		return false
	}
	for _, e := range n.find("match").list0() {
		if ref, ok := c.keys[e.key]; ok {
			if c.off[c.opts.Filters[ref.filter].Name] || !knownWords(e, ref) {
				return false
			}
			continue
		}
		if !contains(c.matchWords(), e.key) {
			return false
		}
	}
	return true
}

// knownWords reports whether the filter knows the words of an enum key.
func knownWords(n *node, ref keyRef) bool {
	if ref.key.Kind != filters.KeyEnum {
		return true
	}
	return !slices.ContainsFunc(n.items(), func(item *node) bool {
		return !slices.ContainsFunc(ref.key.Values, func(v filters.KeyValue) bool { return v.Word == item.value })
	})
}

// list0 returns the entries of a node that may be missing.
func (n *node) list0() []*node {
	if n == nil {
		return nil
	}
	return n.entries
}
