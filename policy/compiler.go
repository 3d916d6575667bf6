package policy

import (
	"hash"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"postern/filters"
)

// A mask is a set of filters, by their position in the chain.
type mask uint64

const maxFilters = 64

func (m mask) has(filter int) bool { return m&(1<<filter) != 0 }

// A symbolRef says who declares a symbol.
type symbolRef struct {
	id, filter int
	on         bool // the filter runs
}

// A keyRef says which filter gives a match key.
type keyRef struct {
	key    *filters.MatchKey
	filter int
}

// An actionRef says which filter offers an action.
type actionRef struct {
	doc    *filters.ActionDoc
	filter string
}

// A compiler turns the tree of a policy file into a Policy.
type compiler struct {
	opts    LoadOptions
	log     *problemLog
	dec     *decoder
	p       *Policy
	site    *addressSet
	lists   map[string]*nameSet
	groups  map[string]*nameSet
	off     map[string]bool // filters that are switched off
	symbols map[string]symbolRef
	keys    map[string]keyRef
	actions map[string]actionRef
	scores  map[string]float64
	hashed  hash.Hash
	root    *node
	quiet   bool // the shipped rules: what needs a missing filter is left out
}

// path is where a file that the policy names lies: a relative name starts at
// the folder of the policy file.
func (c *compiler) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(c.p.Name), name)
}

// readFile reads a file that the policy names. The file counts for the hash of the policy and for
// its reload.
func (c *compiler) readFile(name string) (text []byte, path string, err error) {
	path = c.path(name)
	if text, err = c.opts.ReadFile(path); err != nil {
		return nil, path, err
	}
	if !contains(c.p.Files, path) {
		c.p.Files = append(c.p.Files, path)
		c.hashed.Write([]byte(path))
		c.hashed.Write(text)
	}
	return text, path, nil
}

// declare makes the tables of symbols, keys and actions of all known filters.
func (c *compiler) declare() {
	c.symbols, c.keys, c.actions = map[string]symbolRef{}, map[string]keyRef{}, map[string]actionRef{}
	for i, f := range c.opts.Filters {
		for _, s := range f.Symbols {
			c.symbols[s.Name] = symbolRef{id: len(c.symbols), filter: i, on: !c.off[f.Name]}
			score := s.Score
			if v, ok := c.scores[s.Name]; ok {
				score = v
			}
			if score != 0 && !c.off[f.Name] && !f.NoScan {
				c.p.scoring |= 1 << i
			}
		}
		for k := range f.Keys {
			c.keys[f.Keys[k].Name] = keyRef{&f.Keys[k], i}
		}
		for a := range f.Actions {
			c.actions[f.Actions[a].Name] = actionRef{&f.Actions[a], f.Name}
		}
		if f.Scoring && !c.off[f.Name] && !f.NoScan {
			c.p.scoring |= 1 << i
		}
	}
}

// sortedKeys returns the keys of m in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// secret resolves { credential = }, { file = } and { env = }.
func (c *compiler) secret(n *node, where string) Secret {
	if s, ok := n.value.(string); ok && n.kind == scalarNode {
		p := c.log.src.problem(Warning, n.at, n.end, where+` stands in the policy in plain text: use { credential = "..." }, { file = "..." } or { env = "..." }`)
		line := []rune(p.Source)
		for i := p.Column - 1; i < min(p.Column-1+p.Width, len(line)); i++ {
			line[i] = '*' // the message goes to logs and screens
		}
		p.Source = string(line)
		c.log.add(p)
		return Secret{s}
	}
	if n.kind != tableNode {
		c.log.value(n, `%s must be { credential = "..." }, { file = "..." } or { env = "..." }`, where)
		return Secret{}
	}
	var from struct {
		Credential string `toml:"credential"`
		File       string `toml:"file"`
		Env        string `toml:"env"`
	}
	c.dec.table(n, &from, where)
	if len(n.entries) != 1 {
		c.log.value(n, "%s needs exactly one of credential, file and env", where)
		return Secret{}
	}
	e := n.entries[0]
	var value string
	switch {
	case from.Env != "":
		value = c.opts.Getenv(from.Env)
	case from.File != "":
		value = c.secretFile(e, from.File, where)
	case from.Credential != "":
		dir := c.opts.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" || from.Credential != filepath.Base(from.Credential) {
			c.log.value(e, "%s: no credential %q: systemd passes none ($CREDENTIALS_DIRECTORY)", where, from.Credential)
			return Secret{}
		}
		value = c.secretFile(e, filepath.Join(dir, from.Credential), where)
	}
	if value == "" && !c.log.blames(e) {
		c.log.value(e, "%s: %s %q is empty or not there", where, e.key, e.value)
	}
	return Secret{value}
}

func (c *compiler) secretFile(n *node, name, where string) string {
	text, _, err := c.readFile(name)
	if err != nil {
		c.log.value(n, "%s: read file: %s", where, err)
	}
	return strings.TrimRight(string(text), "\r\n")
}

// blames reports whether a problem is already told at the value of n.
func (l *problemLog) blames(n *node) bool {
	line, column := l.src.locate(n.at)
	return slices.ContainsFunc(l.list, func(p Problem) bool { return p.Line == line && p.Column == column })
}

// hostname returns the name of this host.
func hostname() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	return name
}
