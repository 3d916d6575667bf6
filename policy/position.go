package policy

import (
	"strings"

	"github.com/BurntSushi/toml"
)

// A node is a value of the policy file and where it stands. BurntSushi/toml
// says what the file means, but not where each key was set; this index of our
// own does. It is a tree of the same shape.
type node struct {
	key     string // name of the key; empty for the items of an array
	keyAt   int    // offset of the key, or of the item
	keyEnd  int
	at, end int // of the value; for a table with a header, of the header
	value   any // a scalar: string, int64, float64, bool, time.Time
	kind    nodeKind
	entries []*node // keys of a table in file order, items of an array
	index   map[string]*node
}

type nodeKind uint8

const (
	scalarNode nodeKind = iota
	tableNode
	arrayNode
)

// child returns the entry of that key, nil if there is none.
func (n *node) child(key string) *node {
	if n == nil {
		return nil
	}
	if n.index != nil {
		return n.index[key]
	}
	for _, c := range n.entries {
		if c.key == key {
			return c
		}
	}
	return nil
}

// find follows a path of keys.
func (n *node) find(path ...string) *node {
	for _, key := range path {
		n = n.child(key)
	}
	return n
}

// add appends an entry. A table that grows beyond a few keys gets an index.
func (n *node) add(c *node) *node {
	n.entries = append(n.entries, c)
	if n.kind == tableNode && len(n.entries) > 12 {
		if n.index == nil {
			n.index = make(map[string]*node, 2*len(n.entries))
			for _, e := range n.entries {
				n.index[e.key] = e
			}
		}
		n.index[c.key] = c
	}
	return c
}

// A scanner walks over TOML text that is known to be valid.
type scanner struct {
	text string
	pos  int
}

// scan returns the tree of a valid TOML text.
func scan(text string) *node {
	s := &scanner{text: strings.TrimPrefix(text, "\ufeff")}
	shift := len(text) - len(s.text)
	s.text = text
	s.pos = shift
	root := &node{kind: tableNode}
	table := root
	for s.skip(" \t\r\n"); s.pos < len(s.text); s.skip(" \t\r\n") {
		if s.text[s.pos] == '[' {
			table = s.header(root)
			continue
		}
		before := s.pos
		s.pair(table)
		if s.pos == before {
			s.pos++ // not valid TOML: never stand still
		}
	}
	return root
}

// skip passes over the given white space and over comments.
func (s *scanner) skip(white string) {
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		switch {
		case strings.IndexByte(white, c) >= 0:
			s.pos++
		case c == '#':
			if end := strings.IndexByte(s.text[s.pos:], '\n'); end >= 0 {
				s.pos += end
			} else {
				s.pos = len(s.text)
			}
		default:
			return
		}
	}
}

func (s *scanner) peek(prefix string) bool { return strings.HasPrefix(s.text[s.pos:], prefix) }

// take passes over prefix if it is next.
func (s *scanner) take(prefix string) bool {
	if s.peek(prefix) {
		s.pos += len(prefix)
		return true
	}
	return false
}

// A word is one part of a dotted key.
type word struct {
	text    string
	at, end int
}

// header reads [a.b] or [[a.b]] and returns the table it opens.
func (s *scanner) header(root *node) *node {
	at := s.pos
	array := s.take("[[")
	if !array {
		s.take("[")
	}
	path := s.keys("]")
	s.take("]")
	if array {
		s.take("]")
	}
	t := root
	for i, w := range path {
		last := i == len(path)-1
		next := t.child(w.text)
		switch {
		case next == nil && last && array:
			next = t.add(&node{key: w.text, keyAt: w.at, keyEnd: w.end, at: at, end: s.pos, kind: arrayNode})
		case next == nil:
			next = t.add(&node{key: w.text, keyAt: w.at, keyEnd: w.end, at: at, end: s.pos, kind: tableNode})
		}
		if last && array && next.kind == arrayNode {
			next = next.add(&node{keyAt: w.at, keyEnd: w.end, at: at, end: s.pos, kind: tableNode})
		} else if next.kind == arrayNode && len(next.entries) > 0 {
			next = next.entries[len(next.entries)-1]
		}
		t = next
	}
	return t
}

// keys reads a dotted key up to the stop character.
func (s *scanner) keys(stop string) []word {
	var path []word
	for s.pos < len(s.text) {
		s.skip(" \t\r\n")
		at := s.pos
		switch {
		case s.pos >= len(s.text) || s.peek(stop) || s.peek("\n"):
			return path
		case s.peek(`"`) || s.peek("'"):
			s.quoted()
		default:
			for s.pos < len(s.text) && strings.IndexByte(" \t\r\n.=]}", s.text[s.pos]) < 0 {
				s.pos++
			}
			if s.pos == at && s.text[s.pos] != '.' {
				return path
			}
		}
		if s.pos > at {
			path = append(path, word{unquoteKey(s.text[at:s.pos]), at, s.pos})
		}
		s.skip(" \t")
		if !s.take(".") {
			return path
		}
	}
	return path
}

// unquoteKey takes the quotes off a key.
func unquoteKey(raw string) string {
	if raw[0] == '\'' {
		return strings.Trim(raw, "'")
	}
	if raw[0] != '"' {
		return raw
	}
	if !strings.Contains(raw, `\`) {
		return strings.Trim(raw, `"`)
	}
	var v struct{ K string }
	if _, err := toml.Decode("K="+raw, &v); err != nil {
		return raw
	}
	return v.K
}

// pair reads key = value into table.
func (s *scanner) pair(table *node) {
	path := s.keys("=")
	if len(path) == 0 {
		return
	}
	s.skip(" \t")
	if !s.take("=") {
		return
	}
	t := table
	for _, w := range path[:len(path)-1] {
		next := t.child(w.text)
		if next == nil {
			next = t.add(&node{key: w.text, keyAt: w.at, keyEnd: w.end, at: w.at, end: w.end, kind: tableNode})
		}
		t = next
	}
	w := path[len(path)-1]
	v := s.val()
	v.key, v.keyAt, v.keyEnd = w.text, w.at, w.end
	t.add(v)
}

// val reads a value.
func (s *scanner) val() *node {
	s.skip(" \t")
	v := &node{at: s.pos, keyAt: s.pos}
	switch {
	case s.take("["):
		v.kind = arrayNode
		for s.skip(" \t\r\n,"); s.pos < len(s.text) && !s.take("]"); s.skip(" \t\r\n,") {
			before := s.pos
			item := v.add(s.val())
			item.keyEnd = item.end
			if s.pos == before {
				s.pos++
			}
		}
	case s.take("{"):
		v.kind = tableNode
		for s.skip(" \t\r\n,"); s.pos < len(s.text) && !s.take("}"); s.skip(" \t\r\n,") {
			before := s.pos
			s.pair(v)
			if s.pos == before {
				s.pos++
			}
		}
	case s.peek(`"`) || s.peek("'"):
		s.quoted()
	default:
		for s.pos < len(s.text) && strings.IndexByte(",]}#\r\n", s.text[s.pos]) < 0 {
			s.pos++
		}
		s.pos -= len(s.text[v.at:s.pos]) - len(strings.TrimRight(s.text[v.at:s.pos], " \t"))
	}
	v.end = s.pos
	return v
}

// quoted passes over a string of any of the four kinds.
func (s *scanner) quoted() {
	quote := s.text[s.pos : s.pos+1]
	if long := strings.Repeat(quote, 3); s.take(long) {
		s.until(long, quote == `"`)
		// Up to two quotes may stand right before the closing three.
		for range 2 {
			s.take(quote)
		}
		return
	}
	s.pos++
	s.until(quote, quote == `"`)
}

// until passes over everything up to and including the end mark.
func (s *scanner) until(end string, escapes bool) {
	for s.pos < len(s.text) {
		switch {
		case escapes && s.text[s.pos] == '\\':
			s.pos += 2
		case s.take(end):
			return
		default:
			s.pos++
		}
	}
	s.pos = min(s.pos, len(s.text))
}

// fill gives the nodes their values.
func (n *node) fill(v any) {
	switch v := v.(type) {
	case map[string]any:
		n.kind = tableNode
		for _, e := range n.entries {
			e.fill(v[e.key])
		}
	case []map[string]any:
		n.kind = arrayNode
		for i, e := range n.entries {
			if i < len(v) {
				e.fill(v[i])
			}
		}
	case []any:
		n.kind = arrayNode
		for i, e := range n.entries {
			if i < len(v) {
				e.fill(v[i])
			}
		}
	default:
		n.kind, n.value = scalarNode, v
	}
}
