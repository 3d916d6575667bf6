package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/filters"
)

// A linkTable holds the keys that every [filter.NAME] table has beside those of
// the filter.
type linkTable struct {
	Enabled   bool            `toml:"enabled" default:"true" doc:"run the filter"`
	Timeout   Duration        `toml:"timeout" default:"30s" doc:"time for one message"`
	OnFailure filters.Failure `toml:"on_failure" value:"\"defer\" or \"ignore\"" default:"defer" doc:"when the filter breaks: defer what a rule that rests on it might decide, or ignore it as if it had seen nothing"`
}

var linkKeys = []string{"enabled", "timeout", "on_failure"}

// filterTables configures and links the filters: each runs with its defaults,
// over which its table is decoded.
func (c *compiler) filterTables(tables, scores *node) {
	if len(c.opts.Filters) > maxFilters {
		c.log.value(nil, "there are %d filters, more than %d", len(c.opts.Filters), maxFilters)
		return
	}
	c.unknownFilters(tables)
	c.scoreTable(scores)
	c.p.chain, c.p.filters = &filters.Chain{}, map[string]int{}
	for i, f := range c.opts.Filters {
		c.p.filters[f.Name] = i
		c.p.names = append(c.p.names, f.Name)
		c.link(f, tables.child(f.Name), tables)
		if !c.off[f.Name] && !f.NoScan {
			c.p.scans |= 1 << i
		}
	}
	c.declare()
	c.p.symbols = c.symbols
}

func (c *compiler) unknownFilters(tables *node) {
	if tables == nil {
		return
	}
	var known []string
	for _, f := range c.opts.Filters {
		known = append(known, f.Name)
	}
	if tables.kind != tableNode {
		c.log.value(tables, "filter must be tables, as in [filter.virus]")
		return
	}
	for _, e := range tables.entries {
		if !contains(known, e.key) {
			c.log.word(e, true, e.key, fmt.Sprintf("there is no filter %q", e.key), known)
		}
	}
}

// scoreTable reads [scores].
func (c *compiler) scoreTable(n *node) {
	c.scores = map[string]float64{}
	if n == nil {
		return
	}
	declared := map[string]bool{}
	for _, f := range c.opts.Filters {
		for _, s := range f.Symbols {
			declared[s.Name] = true
		}
	}
	if n.kind != tableNode {
		c.log.value(n, "scores must be a table")
		return
	}
	for _, e := range n.entries {
		switch v := e.value.(type) {
		case float64:
			c.scores[e.key] = v
		case int64:
			c.scores[e.key] = float64(v)
		default:
			c.log.value(e, "scores.%s must be a number", e.key)
		}
		if !declared[e.key] {
			c.log.word(e, true, e.key, fmt.Sprintf("scores: no filter reports the symbol %q", e.key), sortedKeys(declared))
		}
		if v := c.scores[e.key]; v < -1000 || v > 1000 || v != v {
			c.log.value(e, "scores.%s must lie between -1000 and 1000", e.key)
		}
	}
}

// link configures one filter and appends it to the chain.
func (c *compiler) link(f *filters.Filter, n, tables *node) {
	checker := f.New()
	var t linkTable
	c.dec.table(nil, &t, "")
	where := "filter." + f.Name
	if n != nil {
		own := c.dec.names(checker)
		c.dec.table(n, checker, where, linkKeys...)
		c.dec.table(n, &t, where, own...)
		if t.Timeout < 0 || t.Timeout == 0 && n.child("timeout") != nil && !c.log.blames(n.child("timeout")) {
			c.log.value(n.child("timeout"), "%s.timeout must be longer than 0", where)
		}
	}
	if !t.Enabled {
		c.off[f.Name] = true
		return
	}
	if v, ok := checker.(filters.Validator); ok && (n == nil || !c.log.failed()) {
		if err := v.Validate(); err != nil {
			c.blameSetting(n, n, err)
		}
	}
	if v, ok := checker.(filters.SiteValidator); ok && !c.log.failed() {
		if err := v.ValidateSite(c.p.Site.Domains); err != nil {
			c.blameSetting(n, n, err)
		}
	}
	if w, ok := checker.(filters.Warner); ok {
		for _, text := range w.Warnings() {
			if n == nil {
				text += fmt.Sprintf(" (the policy has no table [filter.%s])", f.Name)
			}
			c.log.warn(n, "filter %s: %s", f.Name, text)
		}
	}
	settings := filters.LinkSettings{Timeout: time.Duration(t.Timeout), OnFailure: t.OnFailure, Scores: c.scores}
	if err := c.p.chain.Link(f, checker, settings); err != nil {
		at := n
		for _, want := range f.Requires {
			if off := tables.child(want).child("enabled"); c.off[want] && off != nil {
				at = off
			}
		}
		c.log.key(at, "%s", err)
	}
}

// blameSetting turns the error of a Validator into problems, each at its
// setting if it names one.
func (c *compiler) blameSetting(n, otherwise *node, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			c.blameSetting(n, otherwise, e)
		}
		return
	}
	var se *filters.SettingError
	if !errors.As(err, &se) {
		c.log.key(otherwise, "%s", err)
		return
	}
	at := n.find(strings.Split(se.Key, ".")...)
	if at == nil {
		c.log.key(otherwise, "%s", err)
		return
	}
	text, _ := at.value.(string)
	c.dec.blame(at, text, se.Key, se.Err)
}
