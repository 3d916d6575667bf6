package policy

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"

	"postern/mail"
)

// An addressSet is what a list, a group or the value of an address key holds:
// addresses, domains and patterns.
type addressSet struct {
	exact    map[mail.Path]bool
	domains  map[string]bool
	suffixes []string // ".example.org" for @*.example.org
	globs    []Glob
	null     bool // <>
	sets     []*addressSet
	patterns []string // as canonical text, in order, for shadowing and sentences
	size     int
}

// has reports whether p is in the set. The local-part's case does not count:
// nobody means two people by it.
func (s *addressSet) has(p mail.Path) bool {
	if p.IsNull() {
		return s.hasNull()
	}
	p.Local = strings.ToLower(p.Local)
	return s.contains(p)
}

func (s *addressSet) hasNull() bool {
	if s.null {
		return true
	}
	for _, sub := range s.sets {
		if sub.hasNull() {
			return true
		}
	}
	return false
}

func (s *addressSet) contains(p mail.Path) bool {
	if s.exact[p] || s.domains[p.Domain] {
		return true
	}
	for _, suffix := range s.suffixes {
		if strings.HasSuffix(p.Domain, suffix) && len(p.Domain) > len(suffix) {
			return true
		}
	}
	if len(s.globs) > 0 {
		text := p.String()
		for i := range s.globs {
			if s.globs[i].Match(text) {
				return true
			}
		}
	}
	for _, sub := range s.sets {
		if sub.contains(p) {
			return true
		}
	}
	return false
}

// add puts one address, domain or pattern into the set.
func (s *addressSet) add(text string) error {
	if text == "<>" {
		s.null = true
		s.keep(text)
		return nil
	}
	local, domain, hasAt := cutLast(text, "@")
	if !hasAt {
		local, domain = "*", text
		if !strings.Contains(domain, ".") {
			return fmt.Errorf("%q is neither an address nor a domain: write bob@example.org, @example.org or *@example.org", text)
		}
	}
	if local == "" {
		local = "*"
	}
	if local != "*" && !strings.ContainsAny(text, "*?") {
		return s.addPath(text)
	}
	wild, isSuffix := strings.CutPrefix(domain, "*.")
	if strings.ContainsAny(wild, "*?") || local != "*" {
		g := newGlob(local + "@" + domain)
		s.globs = append(s.globs, g)
		s.keep(g.lower)
		return nil
	}
	normal := mail.NormalDomain(wild)
	if !validDomain(normal) {
		return fmt.Errorf("%q is not a domain", wild)
	}
	if isSuffix {
		s.suffixes = append(s.suffixes, "."+normal)
		s.keep("@*." + normal)
		return nil
	}
	if s.domains == nil {
		s.domains = map[string]bool{}
	}
	s.domains[normal] = true
	s.keep("@" + normal)
	return nil
}

func (s *addressSet) addPath(text string) error {
	p, err := mail.ParsePath(text, true)
	if err != nil || p.Domain == "" {
		return fmt.Errorf("%q is not a mail address", text)
	}
	p.Local = strings.ToLower(p.Local)
	if s.exact == nil {
		s.exact = map[mail.Path]bool{}
	}
	s.exact[p] = true
	s.keep(p.String())
	return nil
}

func (s *addressSet) keep(pattern string) {
	s.patterns = append(s.patterns, pattern)
	s.size++
}

// include puts a whole set into this one, under its reference: "list:partners".
func (s *addressSet) include(reference string, set *addressSet) {
	s.sets = append(s.sets, set)
	s.patterns = append(s.patterns, reference)
	s.size += set.size
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(sep):], true
}

// validDomain reports whether d, in normal form, can be a domain of mail
// (RFC 5321 section 4.1.2), or is an address literal.
func validDomain(d string) bool {
	if len(d) > 255 || d == "" {
		return false
	}
	if d[0] == '[' {
		_, ok := mail.Path{Local: "x", Domain: d}.Literal()
		return ok
	}
	for label := range strings.SplitSeq(d, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// A named list or group.
type nameSet struct {
	set  *addressSet
	node *node
	used bool
}

// nameTable reads [list] or [group].
func (c *compiler) nameTable(kind string, n *node) map[string]*nameSet {
	table := map[string]*nameSet{}
	if n == nil {
		return table
	}
	if n.kind != tableNode {
		c.log.value(n, "%s must be a table", kind)
		return table
	}
	for _, e := range n.entries {
		where := kind + "." + e.key
		ns := &nameSet{set: &addressSet{}, node: e}
		switch e.kind {
		case arrayNode:
			c.inlineNames(e, ns.set, where)
		case tableNode:
			c.namesFrom(e, ns.set, kind)
		default:
			c.log.value(e, `%s must be a list in [ ] or { file = "..." }`, where)
		}
		table[e.key] = ns
	}
	return table
}

func (c *compiler) inlineNames(n *node, set *addressSet, where string) {
	for _, item := range n.entries {
		s, ok := item.value.(string)
		if !ok {
			c.log.value(item, "%s: an entry must be a string in quotes", where)
		} else if err := set.add(s); err != nil {
			c.log.value(item, "%s: %s", where, err)
		}
	}
}

// namesFrom reads { file = "..." }.
func (c *compiler) namesFrom(n *node, set *addressSet, kind string) {
	var from struct {
		File string `toml:"file"`
	}
	c.dec.table(n, &from, kind+"."+n.key)
	f := n.child("file")
	if f == nil || from.File == "" {
		if !c.log.failed() {
			c.log.key(n, `%s.%s has no entries: write a list in [ ] or { file = "..." }`, kind, n.key)
		}
		return
	}
	text, path, err := c.readFile(from.File)
	if err != nil {
		c.log.value(f, "%s.%s: read file: %s", kind, n.key, err)
		return
	}
	c.fileNames(path, text, set.add)
}

// fileNames reads a list file: one entry a line, # begins a comment.
func (c *compiler) fileNames(path string, text []byte, add func(entry string) error) {
	src := &source{name: path, text: string(text)}
	at := 0
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	lines.Split(splitLines)
	for lines.Scan() {
		raw := lines.Text()
		entry, _, _ := strings.Cut(raw, "#")
		if trimmed := strings.TrimSpace(entry); trimmed != "" {
			if err := add(trimmed); err != nil {
				start := at + strings.Index(raw, trimmed)
				c.log.add(src.problem(Error, start, start+len(trimmed), err.Error()))
			}
		}
		at += len(raw)
	}
}

// splitLines is bufio.ScanLines that keeps the line ends, so that offsets can
// be counted.
func splitLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// addresses reads the value of an address key: one entry or a list of entries,
// each an address, a domain, a pattern, site, list:NAME or group:NAME.
func (c *compiler) addresses(n *node, where string) *addressSet {
	set := &addressSet{}
	for _, item := range n.items() {
		s, ok := item.value.(string)
		if !ok {
			c.log.value(item, "%s must be a string in quotes, or a list of them", where)
			continue
		}
		kind, name, isRef := strings.Cut(s, ":")
		switch {
		case s == "site":
			set.include("site", c.site)
		case isRef && kind == "list":
			c.reference(item, set, s, kind, name, where, c.lists)
		case isRef && kind == "group":
			c.reference(item, set, s, kind, name, where, c.groups)
		default:
			if err := set.add(s); err != nil {
				c.log.at(Error, item, false, nearestPrefix(s), where+": "+err.Error())
			}
		}
	}
	if len(n.items()) == 0 {
		c.log.value(n, "%s: an empty list matches nothing", where)
	}
	return set
}

// nearestPrefix suggests what a misspelt "list:partners" was meant to be.
func nearestPrefix(s string) string {
	kind, name, ok := strings.Cut(s, ":")
	if !ok {
		return nearest(s, []string{"site"})
	}
	if near := nearest(kind, []string{"list", "group"}); near != "" {
		return near + ":" + name
	}
	return ""
}

func (c *compiler) reference(n *node, set *addressSet, text, kind, name, where string, table map[string]*nameSet) {
	ns, ok := table[name]
	if !ok {
		near := nearest(name, sortedKeys(table))
		if near != "" {
			near = kind + ":" + near
		}
		known := "there is none"
		if len(table) > 0 {
			known = kind + "s are: " + strings.Join(sortedKeys(table), ", ")
		}
		c.log.at(Error, n, false, near, fmt.Sprintf("%s: %s %q is not defined; %s", where, kind, name, known))
		return
	}
	ns.used = true
	set.include(text, ns.set)
}

// items returns the items of an array, or the node itself: one value counts as
// a list of one.
func (n *node) items() []*node {
	if n.kind == arrayNode {
		return n.entries
	}
	return []*node{n}
}
