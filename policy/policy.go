package policy

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"postern/filters"
	"postern/mail"
)

// DefaultRule is the rule name of a decision that no rule gave.
const DefaultRule = "default"

// A Policy is a compiled policy file. It does not change: a reload makes a new
// one, and transactions keep the one they began with.
type Policy struct {
	Name       string // of the file
	Hash       string // SHA-256, in hex, of the text and of every file that it names
	Mode       Mode
	Site       Site
	Listeners  []Listener
	TLS        TLS
	Upstreams  []Upstream
	Queue      Queue
	Limits     GatewayLimits
	DNS        DNS
	Quarantine QuarantineTable
	Storage    Storage
	Log        Log
	Metrics    Metrics
	Audit      AuditTable
	Tests      []Test
	Warnings   Problems // what is not wrong enough to refuse the policy
	Files      []string // files that the policy names and that were read: lists, secrets. A change of one of them is a change of the policy
	Shipped    bool     // the file has no [[rule]]: the shipped rules stand in

	rules    []*rule
	chain    *filters.Chain
	filters  map[string]int // position by name
	names    []string
	symbols  map[string]symbolRef
	scans    mask // filters that run
	scoring  mask // filters that give scores
	splits   bool // a rule may come out differently for two recipients
	watching bool // some rule is only watched
	domains  map[string]bool
	zone     *time.Location // [site] timezone
}

// Chain returns the filters, configured and linked in order.
func (p *Policy) Chain() *filters.Chain { return p.chain }

// ShortHash is the beginning of the hash, for logs.
func (p *Policy) ShortHash() string { return p.Hash[:12] }

// Ours reports whether the domain of to is one of the site's. A postmaster
// without a domain is ours too (RFC 5321 section 4.5.1).
func (p *Policy) Ours(to mail.Path) bool {
	return p.domains[to.Domain] || to.Domain == "" && strings.EqualFold(to.Local, "postmaster")
}

// Rules returns how many rules there are.
func (p *Policy) Rules() int { return len(p.rules) }

// Asks reports whether the match of a rule has a condition that rests on what
// this filter has found, and on nothing else.
func (p *Policy) Asks(rule, filter string) bool {
	at, ok := p.filters[filter]
	if !ok {
		return false
	}
	for _, r := range p.rules {
		if r.name == rule {
			return slices.ContainsFunc(r.match, func(c *condition) bool { return c.rests == 1<<at })
		}
	}
	return false
}

// Listener returns the listener of that name.
func (p *Policy) Listener(name string) (*Listener, bool) {
	for i := range p.Listeners {
		if p.Listeners[i].Name == name {
			return &p.Listeners[i], true
		}
	}
	return nil, false
}

// elemType is the type that v points to.
func elemType(v any) reflect.Type { return reflect.TypeOf(v).Elem() }
