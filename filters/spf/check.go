package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/dns"
)

// Results of a check (RFC 7208 section 2.6).
const (
	None      = "none"
	Neutral   = "neutral"
	Pass      = "pass"
	Fail      = "fail"
	SoftFail  = "softfail"
	TempError = "temperror"
	PermError = "permerror"
)

// Limits of a check (RFC 7208 section 4.6.4).
const (
	maxTerms = 10  // mechanisms and modifiers that look something up
	maxHosts = 10  // exchangers of one mx, names of one address
	maxAsked = 120 // questions in all, whatever they are for
)

// A Query is what a check judges: may the client at Addr use the domain?
type Query struct {
	Addr     netip.Addr
	Local    string // of the address; empty: postmaster
	Domain   string
	Helo     string
	Receiver string // our host name, for the macro r
	At       time.Time
	MaxVoid  int // look-ups that find nothing
	Explain  bool
}

// An Answer is what a check finds.
type Answer struct {
	Result      string
	Reason      string // the mechanism that matched, or what went wrong
	Explanation string // of a fail: what the domain has to say, as it stands in its DNS; not to be trusted
}

// A check is one check under way.
type check struct {
	ctx      context.Context
	resolver dns.Resolver
	addr     netip.Addr
	local    string
	domain   string // of the identity
	helo     string
	receiver string
	at       time.Time
	maxVoid  int

	terms, void int
	names       []string // validated names of the client, once asked for
	asked       bool
	exp         string // domain-spec of the explanation of the record that said fail
	expDomain   string
}

// A verdict ends an evaluation.
type verdict struct{ result, reason string }

// Check performs check_host (RFC 7208 section 4).
func Check(ctx context.Context, r dns.Resolver, q Query) Answer {
	c := &check{
		ctx: ctx, resolver: dns.WithBudget(r, maxAsked), addr: q.Addr.Unmap().WithZone(""), local: q.Local, domain: q.Domain,
		helo: q.Helo, receiver: q.Receiver, at: q.At, maxVoid: q.MaxVoid,
	}
	if c.local == "" {
		c.local = "postmaster" // RFC 7208 section 4.3
	}
	// RFC 7208 section 4.3: a domain that is malformed or no FQDN is none.
	if !isFQDN(c.domain) || !c.addr.IsValid() {
		return Answer{Result: None, Reason: "there is no domain to check"}
	}
	v := c.host(c.domain, true)
	a := Answer{Result: v.result, Reason: v.reason}
	if a.Result == Fail && q.Explain {
		a.Explanation = c.explain()
	}
	return a
}

// isFQDN reports whether a domain can be asked for: labels of at most 63 bytes,
// more than one of them.
func isFQDN(domain string) bool {
	labels := strings.Split(strings.TrimSuffix(domain, "."), ".")
	if len(labels) < 2 || len(domain) > 253 {
		return false
	}
	return !slices.ContainsFunc(labels, func(l string) bool { return l == "" || len(l) > 63 })
}

// host evaluates the record of a domain. Only the record of the identity, and
// what it redirects to, may explain a fail.
func (c *check) host(domain string, explains bool) verdict {
	txt, v := c.find(domain)
	if v.result != "" {
		return v
	}
	r, err := parseRecord(txt)
	if err != nil {
		return verdict{PermError, err.Error()}
	}
	for i := range r.mechanisms {
		m := &r.mechanisms[i]
		matches, v := c.match(m, domain)
		if v.result != "" {
			return v
		}
		if matches {
			if explains {
				c.exp, c.expDomain = r.exp, domain
			}
			return verdict{m.result, m.text}
		}
	}
	if r.redirect != "" {
		return c.redirect(r.redirect, domain, explains)
	}
	return verdict{Neutral, "no mechanism of the record matches"} // RFC 7208 section 4.7
}

// find returns the one SPF record of a domain (RFC 7208 sections 4.4 and 4.5).
func (c *check) find(domain string) (string, verdict) {
	if !isFQDN(domain) {
		return "", verdict{None, "no domain: " + domain}
	}
	answer, err := c.resolver.TXT(c.ctx, domain)
	if err != nil && !errors.Is(err, dns.ErrNotFound) {
		return "", failed(err)
	}
	var found []string
	for _, txt := range answer.Records {
		if isRecord(txt) {
			found = append(found, txt)
		}
	}
	switch len(found) {
	case 0:
		return "", verdict{None, domain + " has no SPF record"}
	case 1:
		return found[0], verdict{}
	}
	return "", verdict{PermError, domain + " has several SPF records"}
}

// failed is the verdict after a look-up that failed for now. A check that asks
// for more than any honest record needs is an error of the record.
func failed(err error) verdict {
	if errors.Is(err, dns.ErrBudget) {
		return verdict{PermError, "the record needs too many DNS look-ups"}
	}
	return verdict{TempError, err.Error()}
}

// redirect evaluates another domain instead (RFC 7208 section 6.1).
func (c *check) redirect(spec, domain string, explains bool) verdict {
	target, v := c.term(spec, domain)
	if v.result != "" {
		return v
	}
	v = c.host(target, explains)
	if v.result == None {
		return verdict{PermError, "redirect: " + v.reason}
	}
	return v
}

// term counts a term that looks something up and returns its target.
func (c *check) term(spec, domain string) (string, verdict) {
	// RFC 7208 section 4.6.4: more than ten such terms are a permerror.
	if c.terms++; c.terms > maxTerms {
		return "", verdict{PermError, fmt.Sprintf("the record needs more than %d DNS look-ups", maxTerms)}
	}
	if spec == "" {
		return domain, verdict{}
	}
	target, err := c.expand(spec, domain, false)
	if err != nil {
		return "", verdict{PermError, err.Error()}
	}
	return shorten(target), verdict{}
}

// shorten removes labels from the left until the name fits (RFC 7208 section
// 7.3), and the trailing dot.
func shorten(name string) string {
	name = strings.TrimSuffix(name, ".")
	for len(name) > 253 {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			break
		}
		name = rest
	}
	return name
}

// match evaluates a mechanism (RFC 7208 section 5). A verdict with a result ends
// the check.
func (c *check) match(m *mechanism, domain string) (bool, verdict) {
	switch m.name {
	case "all":
		return true, verdict{}
	case "ip4", "ip6":
		return m.network.Contains(c.addr), verdict{}
	}
	target, v := c.term(m.domain, domain)
	if v.result != "" {
		return false, v
	}
	switch m.name {
	case "include":
		return c.include(target)
	case "exists":
		addrs, v := c.addrs(target, true)
		return len(addrs) > 0, v
	case "a":
		addrs, v := c.addrs(target, c.addr.Is4())
		return m.holds(addrs, c.addr), v
	case "mx":
		return c.mx(m, target)
	}
	return slices.ContainsFunc(c.clientNames(), func(n string) bool { return isWithin(n, target) }), verdict{}
}

// include evaluates another record (RFC 7208 section 5.2).
func (c *check) include(target string) (bool, verdict) {
	v := c.host(target, false)
	switch v.result {
	case Pass:
		return true, verdict{}
	case Fail, SoftFail, Neutral:
		return false, verdict{}
	case None:
		return false, verdict{PermError, "include: " + v.reason}
	}
	return false, v
}

// holds reports whether one of the addresses is in the client's network.
func (m *mechanism) holds(addrs []netip.Addr, client netip.Addr) bool {
	bits := m.six
	if client.Is4() {
		bits = m.four
	}
	network, err := client.Prefix(bits)
	return err == nil && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return network.Contains(a.Unmap()) })
}

// addrs looks up the A records of a name, or its AAAA records. A name that is
// none matches nothing.
func (c *check) addrs(name string, four bool) ([]netip.Addr, verdict) {
	ask := c.resolver.AAAA
	if four {
		ask = c.resolver.A
	}
	answer, err := ask(c.ctx, name)
	return answer.Records, c.missed(err)
}

// missed counts a look-up that found nothing. After more than the limit the
// record is in error (RFC 7208 section 4.6.4).
func (c *check) missed(err error) verdict {
	switch {
	case err == nil:
		return verdict{}
	case !errors.Is(err, dns.ErrNotFound):
		return failed(err)
	}
	if c.void++; c.void > c.maxVoid {
		return verdict{PermError, fmt.Sprintf("more than %d DNS look-ups of the record find nothing", c.maxVoid)}
	}
	return verdict{}
}

// mx evaluates mx (RFC 7208 section 5.4).
func (c *check) mx(m *mechanism, target string) (bool, verdict) {
	answer, err := c.resolver.MX(c.ctx, target)
	if v := c.missed(err); v.result != "" {
		return false, v
	}
	ask := c.resolver.AAAA
	if c.addr.Is4() {
		ask = c.resolver.A
	}
	for i, mx := range answer.Records {
		// RFC 7208 section 4.6.4: the limit is one of look-ups. A client that is
		// found before it is reached has passed.
		if i == maxHosts {
			return false, verdict{PermError, fmt.Sprintf("%s has more than %d exchangers", target, maxHosts)}
		}
		if mx.Host == "" {
			continue // RFC 7505: no exchanger
		}
		addrs, err := ask(c.ctx, mx.Host)
		if err != nil && !errors.Is(err, dns.ErrNotFound) {
			return false, failed(err)
		}
		if m.holds(addrs.Records, c.addr) {
			return true, verdict{}
		}
	}
	return false, verdict{}
}

// clientNames returns the names of the client that lead back to it (RFC 7208
// section 5.5): at most ten are tried, and a look-up that fails finds nothing.
func (c *check) clientNames() []string {
	if c.asked {
		return c.names
	}
	c.asked = true
	answer, err := c.resolver.PTR(c.ctx, c.addr)
	if err != nil {
		return nil
	}
	ask := c.resolver.AAAA
	if c.addr.Is4() {
		ask = c.resolver.A
	}
	for _, name := range answer.Records[:min(len(answer.Records), maxHosts)] {
		addrs, err := ask(c.ctx, name)
		if err == nil && slices.Contains(addrs.Records, c.addr) {
			c.names = append(c.names, strings.TrimSuffix(name, "."))
		}
	}
	return c.names
}

// validated returns the name that the macro p stands for (RFC 7208 section
// 7.3): the domain itself, else one below it, else any, else "unknown".
func (c *check) validated(domain string) string {
	best := "unknown"
	for _, n := range c.clientNames() {
		switch {
		case strings.EqualFold(n, domain):
			return n
		case isWithin(n, domain) && !isWithin(best, domain), best == "unknown":
			best = n
		}
	}
	return best
}

// isWithin reports whether name is domain or below it.
func isWithin(name, domain string) bool {
	name, domain = strings.ToLower(strings.TrimSuffix(name, ".")), strings.ToLower(strings.TrimSuffix(domain, "."))
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// explain returns the explanation of a fail, or "" if there is none that can be
// shown (RFC 7208 section 6.2): no look-up of it changes the result.
func (c *check) explain() string {
	if c.exp == "" {
		return ""
	}
	target, err := c.expand(c.exp, c.expDomain, false)
	if err != nil {
		return ""
	}
	answer, err := c.resolver.TXT(c.ctx, shorten(target))
	if err != nil || len(answer.Records) != 1 {
		return ""
	}
	text, err := c.expand(answer.Records[0], c.expDomain, true)
	if err != nil {
		return ""
	}
	return text
}
