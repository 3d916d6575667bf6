package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"postern/filters"
)

// LoadOptions is what a policy is loaded against.
type LoadOptions struct {
	Filters  []*filters.Filter            // every filter there is, in chain order
	ReadFile func(string) ([]byte, error) // for lists and secrets; nil: os.ReadFile
	Getenv   func(string) string          // for secrets; nil: os.Getenv
	Hostname string                       // default of [site] hostname; empty: the host's name
	Now      func() time.Time             // only to warn of expired rules; nil: time.Now
}

func (o LoadOptions) withDefaults() LoadOptions {
	if o.ReadFile == nil {
		o.ReadFile = os.ReadFile
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Hostname == "" {
		o.Hostname = hostname()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// A fileTable is the policy file as it is written.
type fileTable struct {
	Version    *node           `toml:"version" value:"1" doc:"format of the file"`
	Mode       Mode            `toml:"mode" default:"enforce" value:"\"enforce\" or \"watch\"" doc:"watch delivers everything but malware and notes what would have happened"`
	Site       Site            `toml:"site"`
	Listener   []Listener      `toml:"listener"`
	TLS        TLS             `toml:"tls"`
	Upstream   []Upstream      `toml:"upstream"`
	Queue      Queue           `toml:"queue"`
	Limits     GatewayLimits   `toml:"limits"`
	List       *node           `toml:"list"`
	Group      *node           `toml:"group"`
	DNS        DNS             `toml:"dns"`
	Filter     *node           `toml:"filter"`
	Scores     *node           `toml:"scores"`
	Rule       *node           `toml:"rule"`
	Test       []Test          `toml:"test"`
	Quarantine QuarantineTable `toml:"quarantine"`
	Storage    Storage         `toml:"storage"`
	Log        Log             `toml:"log"`
	Metrics    Metrics         `toml:"metrics"`
	Audit      AuditTable      `toml:"audit"`
}

// LoadFile reads and compiles a policy file.
func LoadFile(path string, o LoadOptions) (*Policy, error) {
	o = o.withDefaults()
	text, err := o.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return Load(path, text, o)
}

// Load compiles the text of a policy file against the filters that exist. Its
// error is of type Problems: everything that is wrong, each with its place.
func Load(name string, text []byte, o LoadOptions) (*Policy, error) {
	c := newCompiler(name, string(text), o.withDefaults())
	if c.parse() {
		c.compile()
	}
	c.log.sort()
	if c.log.failed() {
		return nil, c.log.list
	}
	c.p.Warnings = c.log.list
	c.p.Hash = hex.EncodeToString(c.hashed.Sum(nil))
	return c.p, nil
}

func newCompiler(name, text string, o LoadOptions) *compiler {
	log := &problemLog{src: &source{name: name, text: text}}
	c := &compiler{opts: o, log: log, p: &Policy{Name: name}, hashed: sha256.New(), off: map[string]bool{}}
	c.dec = &decoder{log: log, secret: c.secret, conditions: c.matchWords}
	c.hashed.Write([]byte(text))
	return c
}

// parse makes the tree. It reports whether the text is TOML at all.
func (c *compiler) parse() bool {
	var values map[string]any
	_, err := toml.Decode(c.log.src.text, &values)
	var pe toml.ParseError
	switch {
	case errors.As(err, &pe):
		c.log.add(c.log.src.problem(Error, pe.Position.Start, pe.Position.Start+pe.Position.Len, pe.Message+syntaxRemedy(pe.Message)))
		return false
	case err != nil:
		c.log.value(nil, "%s", err)
		return false
	}
	c.root = scan(c.log.src.text)
	c.root.fill(values)
	return true
}

// syntaxRemedies say what to do about the commonest mistakes in TOML, by the
// beginning of the parser's message.
var syntaxRemedies = []struct{ message, remedy string }{
	{"expected value but found", `: a text stands in straight quotes, as in "text"`},
	{"strings cannot contain newlines", ": is a quote missing at the end?"},
	{"expected '.' or '=', but got", ": a line is KEY = VALUE, a comment begins with #"},
}

func syntaxRemedy(message string) string {
	for _, r := range syntaxRemedies {
		if strings.HasPrefix(message, r.message) {
			return r.remedy
		}
	}
	return ""
}

// compile goes on after mistakes as far as it makes sense, so that all are told
// at once.
func (c *compiler) compile() {
	var t fileTable
	c.dec.table(c.root, &t, "")
	c.version(t.Version)
	p := c.p
	p.Mode, p.Site, p.Listeners, p.TLS, p.Upstreams = t.Mode, t.Site, t.Listener, t.TLS, t.Upstream
	p.Queue, p.Limits, p.DNS, p.Quarantine, p.Storage = t.Queue, t.Limits, t.DNS, t.Quarantine, t.Storage
	p.Log, p.Metrics, p.Audit, p.Tests = t.Log, t.Metrics, t.Audit, t.Test
	c.checkSite()
	c.checkListeners()
	if n := c.root.child("upstream"); n != nil && len(n.entries) == len(p.Upstreams) {
		c.checkNames(n, "upstream")
		c.checkUpstreams(n)
	} else if n == nil {
		c.log.value(nil, "there is no [[upstream]]: where does mail go?")
	}
	c.checkTables()
	c.lists, c.groups = c.nameTable("list", t.List), c.nameTable("group", t.Group)
	c.filterTables(t.Filter, t.Scores)
	c.ruleTables(t.Rule)
	c.checkTests()
	c.unusedNames("list", c.lists)
	c.unusedNames("group", c.groups)
	c.resolvePaths()
}

func (c *compiler) version(n *node) {
	switch {
	case n == nil:
		c.log.at(Warning, nil, false, "", "version = 1 is missing at the top: it says which format this is")
	case n.value != int64(1):
		c.log.value(n, "version must be 1: this program reads no other format")
	}
}

// ruleTables compiles the rules, or the shipped ones if there are none.
func (c *compiler) ruleTables(n *node) {
	if n == nil {
		c.shippedRules()
		return
	}
	if n.kind != arrayNode {
		c.log.value(n, "rule must be written [[rule]], with two brackets")
		return
	}
	c.compileRules(n)
	c.checkShadows()
	for _, r := range c.p.rules {
		if r.malware && r.verb == verbEnd {
			return
		}
	}
	if _, ok := c.keys[virusFilter]; ok && !c.off[virusFilter] {
		c.log.warn(n.entries[0], "no rule holds or refuses malware: add one with match = { virus = true }")
	}
}

func (c *compiler) compileRules(n *node) {
	seen := map[string]*rule{}
	for i, e := range n.entries {
		before := c.log.errs
		r := c.rule(e, i+1)
		if r == nil {
			continue
		}
		r.wrong = c.log.errs > before
		if other := seen[r.name]; other != nil && r.name != "" {
			c.log.value(e.child("name"), "the rule in line %d is called %q already", other.line, r.name)
		}
		if r.name == DefaultRule {
			c.log.value(e.child("name"), "%q is what decisions say that no rule gave: choose another name", r.name)
		}
		seen[r.name] = r
		c.p.rules = append(c.p.rules, r)
		c.p.watching = c.p.watching || c.p.watches(r)
	}
}

// unusedNames warns of lists that nothing refers to. After a mistake there is no
// telling what would have.
func (c *compiler) unusedNames(kind string, table map[string]*nameSet) {
	for _, name := range sortedKeys(table) {
		if !table[name].used && !c.log.failed() {
			c.log.warn(table[name].node, "%s %q is not used", kind, name)
		}
	}
}
