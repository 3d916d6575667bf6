package policy

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"postern/mail"
)

// UpstreamFor returns the next hop for a recipient of mail that came in by the
// listener: an upstream that is meant for the listener before one that is not,
// and an exact domain before *.domain before *.
func (p *Policy) UpstreamFor(listener string, to mail.Path) (*Upstream, bool) {
	domain := to.Domain
	if domain == "" && len(p.Site.Domains) > 0 {
		domain = p.Site.Domains[0]
	}
	var best *Upstream
	rank := 0
	for i := range p.Upstreams {
		u := &p.Upstreams[i]
		r := u.fits(domain)
		if r == 0 || u.When.Listener != "" && u.When.Listener != listener {
			continue
		}
		if u.When.Listener != "" {
			r += 1 << 16
		}
		if r > rank {
			best, rank = u, r
		}
	}
	return best, best != nil
}

// fits ranks how closely the upstream's for key names the domain: 0 not at all.
func (u *Upstream) fits(domain string) int {
	if len(u.For) == 0 {
		return 1
	}
	rank := 0
	for _, f := range u.For {
		switch {
		case f == "*":
			rank = max(rank, 1)
		case f == domain:
			return 1 << 12
		case strings.HasPrefix(f, "*.") && strings.HasSuffix(domain, f[1:]):
			rank = max(rank, 1+len(f))
		}
	}
	return rank
}

// checkUpstreams checks the [[upstream]] tables against each other and the
// site.
func (c *compiler) checkUpstreams(n *node) {
	taken := map[string]string{}
	for i := range c.p.Upstreams {
		u := &c.p.Upstreams[i]
		at := n.entries[i]
		c.checkHops(u, at)
		if len(u.For) == 0 && u.When.Listener == "" {
			c.log.key(at, "upstream %q says for no domain: write for = [\"example.org\"], or \"*\" for all others", u.Name)
		}
		if u.When.Listener != "" {
			c.listenerName(at.find("when", "listener"), u.When.Listener)
		}
		for k, f := range u.For {
			u.For[k] = c.forDomain(at.child("for").items(), k, f)
			key := u.When.Listener + "\x00" + u.For[k]
			if other, ok := taken[key]; ok {
				c.log.value(at.child("for").items()[k], "%s: the upstream %q takes this domain already", u.For[k], other)
			}
			taken[key] = u.Name
		}
		if (u.User == "") != (u.Password.value == "") && !c.log.failed() {
			c.log.key(at, "upstream %q: user and password go together", u.Name)
		}
		if u.Recipients.Check == "file" {
			c.recipientsFile(u, at)
		}
	}
	for i, d := range c.p.Site.Domains {
		if _, ok := c.p.UpstreamFor("", mail.Path{Local: "x", Domain: d}); !ok && validDomain(d) {
			c.log.value(c.domainNode(i), "no upstream takes mail for %s: add it to the key for of an [[upstream]]", d)
		}
	}
}

// recipientsFile reads the list of who is there: an address or @domain a line.
// It is part of the policy, as lists are: a change of it is noticed.
func (c *compiler) recipientsFile(u *Upstream, at *node) {
	if u.Recipients.File == "" {
		c.log.key(at, `upstream %q: recipients.check = "file" needs recipients.file`, u.Name)
		return
	}
	text, path, err := c.readFile(u.Recipients.File)
	if err != nil {
		c.log.value(at.find("recipients", "file"), "upstream %q: recipients: read file: %s", u.Name, err)
		return
	}
	u.Recipients.known = &addressSet{}
	c.fileNames(path, text, func(entry string) error {
		if !strings.Contains(entry, "@") { // as an entry of a list it would be a domain
			return fmt.Errorf("%q is neither an address nor @domain", entry)
		}
		return u.Recipients.known.add(entry)
	})
}

func (c *compiler) domainNode(i int) *node {
	items := c.root.find("site", "domains").items()
	return items[min(i, len(items)-1)]
}

func (c *compiler) forDomain(items []*node, k int, f string) string {
	if f == "*" {
		return f
	}
	wild := ""
	if strings.HasPrefix(f, "*.") {
		wild, f = "*.", f[2:]
	}
	normal := mail.NormalDomain(f)
	if !validDomain(normal) {
		c.log.value(items[k], "upstream.for: %q is not a domain", f)
	}
	return wild + normal
}

func (c *compiler) listenerName(n *node, name string) {
	var known []string
	for i := range c.p.Listeners {
		known = append(known, c.p.Listeners[i].Name)
	}
	if !contains(known, name) {
		c.log.word(n, false, name, "there is no listener "+strconv.Quote(name), known)
	}
}

// checkHops checks the addresses of an upstream.
func (c *compiler) checkHops(u *Upstream, at *node) {
	to := at.child("to")
	if to == nil {
		c.log.key(at, "upstream %q has no to: where does its mail go?", u.Name)
		return
	}
	if len(u.To) == 0 && to.kind == arrayNode {
		c.log.value(to, "upstream.to is empty")
	}
	for i, hop := range u.To {
		if err := checkHop(hop); err != "" {
			c.log.at(Error, to.entries[i], false, "", "upstream.to: "+strconv.Quote(hop)+err)
		}
		if hop == "mx" && len(u.To) > 1 {
			c.log.value(to.entries[i], `upstream.to: "mx" stands alone`)
		}
	}
}

func checkHop(hop string) string {
	if hop == "mx" || strings.HasPrefix(hop, "unix:/") {
		return ""
	}
	host, port, err := net.SplitHostPort(hop)
	if err != nil {
		return ` is not an address: write "host:port", "unix:/path" or "mx"`
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return " has no port from 1 to 65535"
	}
	if net.ParseIP(host) == nil && !validDomain(mail.NormalDomain(host)) {
		return " has no host name"
	}
	return ""
}
