package policy

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"postern/mail"
)

// notBuilt are the keys, tables and actions that the policy language has, but
// this version does not: to accept them in silence would be a promise.
var notBuilt = map[string]string{
	"ldap":                         "",
	"digest":                       "",
	"alert":                        "",
	"console":                      "",
	"keyring":                      "",
	"portal":                       "",
	"list.*.console":               ": entries come from the policy or from a file",
	"list.*.ldap":                  "",
	"group.*.ldap":                 `: write the members in a list, or use { file = "..." }`,
	"group.*.console":              "",
	"upstream.dane":                "",
	"upstream.mta_sts":             "",
	"metrics.otlp":                 "",
	"quarantine.queue.*.users_may": "",
	"quarantine.queue.*.release":   "",
	"rule.match.encrypted":         "",
	"rule.match.content":           "",
	"rule.match.hours":             "",
	"rule.match.language":          "",
	"rule.match.expr":              "",
	"rule.action.encrypt":          "",
	"rule.action.decrypt":          "",
	"rule.action.sign":             "",
	"test.mail.keys":               "",
	"test.expect.encrypted":        "",
}

// notBuiltWords are the words, by their beginning, that a key will have.
var notBuiltWords = map[string]map[string]string{
	"listener.auth.backend":     {"ldap": "LDAP"},
	"upstream.recipients.check": {"ldap": "LDAP"},
	"storage.database":          {"postgres://": "PostgreSQL"},
	"storage.mail":              {"s3://": "S3"},
	"storage.cache":             {"redis://": "Redis"},
}

// checkSite normalises the site's domains and fills what follows from them.
func (c *compiler) checkSite() {
	s := &c.p.Site
	c.p.domains, c.site = map[string]bool{}, &addressSet{}
	n := c.root.find("site", "domains")
	if n == nil || n.kind == arrayNode && len(n.entries) == 0 {
		c.log.key(c.root.child("site"), `[site] needs domains = ["example.org"]: the domains we accept mail for`)
		return
	}
	for i, d := range s.Domains {
		normal := mail.NormalDomain(d)
		switch {
		case !validDomain(normal) || normal[0] == '[':
			c.log.value(n.entries[i], "site.domains: %q is not a domain", d)
			continue
		case c.p.domains[normal]:
			c.log.value(n.entries[i], "site.domains: %s stands here twice", normal)
		}
		s.Domains[i] = normal
		c.p.domains[normal] = true
		if err := c.site.add("@" + normal); err != nil {
			c.log.value(n.entries[i], "site.domains: %s", err)
		}
	}
	if s.Hostname == "" {
		s.Hostname = c.opts.Hostname
	} else if !validDomain(mail.NormalDomain(s.Hostname)) {
		c.log.value(c.root.find("site", "hostname"), "site.hostname: %q is not a host name", s.Hostname)
	}
	if s.Admin == "" && len(s.Domains) > 0 {
		s.Admin = "postmaster@" + s.Domains[0]
	} else if p, err := mail.ParsePath(s.Admin, true); err != nil || p.Domain == "" {
		c.log.value(c.root.find("site", "admin"), "site.admin: %q is not a mail address", s.Admin)
	}
	var err error
	if c.p.zone, err = time.LoadLocation(s.Timezone); err != nil {
		c.log.value(c.root.find("site", "timezone"), `site.timezone: %q is not a time zone: write it as in "Europe/Paris"`, s.Timezone)
	}
}

// resolvePaths makes the names of files start at the folder of the policy file.
func (c *compiler) resolvePaths() {
	p := c.p
	files := []*string{&p.TLS.Certificate, &p.TLS.Key, &p.TLS.ClientCA}
	for i := range p.Listeners {
		files = append(files, &p.Listeners[i].Auth.File)
	}
	for i := range p.Upstreams {
		u := &p.Upstreams[i]
		files = append(files, &u.CA, &u.ClientCert, &u.ClientKey, &u.Recipients.File)
	}
	for _, f := range files {
		if *f != "" {
			*f = c.path(*f)
		}
	}
}

// checkNames checks that every table of an array has a name of its own.
func (c *compiler) checkNames(n *node, kind string) {
	seen := map[string]bool{}
	for _, e := range n.entries {
		name := e.child("name")
		switch {
		case name == nil:
			c.log.key(e, "%s has no name", kind)
		case seen[fmt.Sprint(name.value)]:
			c.log.value(name, "there are two %ss %q", kind, name.value)
		default:
			seen[fmt.Sprint(name.value)] = true
		}
	}
}

func (c *compiler) checkListeners() {
	n := c.root.child("listener")
	if n == nil {
		l := Listener{}
		c.dec.table(nil, &l, "listener")
		l.Name, l.Address = "internet", ":25"
		c.p.Listeners = []Listener{l}
		return
	}
	if n.kind != arrayNode || len(n.entries) != len(c.p.Listeners) {
		return
	}
	c.checkNames(n, "listener")
	addresses := map[string]string{}
	for i := range c.p.Listeners {
		l, at := &c.p.Listeners[i], n.entries[i]
		c.checkListener(l, at)
		if other, ok := addresses[l.Address]; ok {
			c.log.value(at.child("address"), "listener %q has this address already", other)
		}
		if l.Address != "" && !strings.HasSuffix(l.Address, ":0") {
			addresses[l.Address] = l.Name
		}
	}
}

func (c *compiler) checkListener(l *Listener, at *node) {
	if a := at.child("address"); a == nil {
		c.log.key(at, "listener %q has no address", l.Name)
	} else if err := checkBind(l.Address); err != "" {
		c.log.value(a, "listener.address: %q%s", l.Address, err)
	}
	if l.TLS == "off" {
		l.RequireTLS = false
	}
	switch {
	case l.Role == mail.RoleOutbound && len(l.Allow) == 0:
		c.log.key(at, "listener %q has the role outbound and no allow: anybody could relay through it", l.Name)
	case l.Role == mail.RoleSubmission && l.Auth.Backend == "":
		c.log.key(at, `listener %q has the role submission and no auth: nobody could use it`, l.Name)
	case l.Role == mail.RoleFilter && len(l.Allow) == 0:
		c.log.key(at, "listener %q has the role filter and no allow: who may hand mail to it?", l.Name)
	}
	if l.Auth.Backend == "file" && l.Auth.File == "" {
		c.log.key(at.child("auth"), `listener %q: auth.backend = "file" needs auth.file`, l.Name)
	}
	if l.Auth.Backend == "" && at.child("auth") != nil {
		c.log.key(at.child("auth"), `listener %q: auth has no backend`, l.Name)
	}
	if l.Auth.Backend != "" && l.TLS == "off" {
		c.log.key(at.child("auth"), "listener %q: auth needs TLS: passwords do not travel in clear", l.Name)
	}
	if out := at.child("outbound"); out != nil && l.Role != mail.RoleFilter {
		c.log.key(out, `listener %q: outbound is for the role "filter"; other roles have allow`, l.Name)
	}
	for _, p := range append(append([]netip.Prefix{}, l.Allow...), l.Outbound...) {
		if p.Bits() == 0 && l.Role != mail.RoleInbound && l.Role != mail.RoleSubmission {
			c.log.warn(at, "listener %q lets the whole internet in: it is an open relay", l.Name)
		}
	}
}

// checkBind checks an address to listen on: ":25", "127.0.0.1:10025".
func checkBind(address string) string {
	if strings.HasPrefix(address, "unix:") {
		return ` is a Unix socket, on which clients have no address: write "127.0.0.1:10025"`
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return ` is not an address to listen on: write ":25" or "127.0.0.1:10025"`
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return " has no port from 0 to 65535"
	}
	if host != "" && net.ParseIP(host) == nil && host != "localhost" {
		return " begins with something that is not an address of this host"
	}
	return ""
}

// checkTables checks the tables that nothing refers to.
func (c *compiler) checkTables() {
	if t := c.root.child("tls"); t != nil && (c.p.TLS.Certificate == "") != (c.p.TLS.Key == "") {
		c.log.key(t, "[tls]: certificate and key go together")
	}
	if a := c.p.Metrics.Address; a != "" {
		if err := checkBind(a); err != "" {
			c.log.value(c.root.find("metrics", "address"), "metrics.address: %q%s", a, err)
		}
	}
	q := &c.p.Quarantine
	if q.Queue == nil {
		q.Queue = map[string]QuarantineQueue{}
	}
	for name := range q.Queue {
		if !contains(Queues, name) {
			c.log.word(c.root.find("quarantine", "queue", name), true, name, fmt.Sprintf("quarantine: there is no queue %q", name), Queues)
		}
	}
	for _, name := range Queues {
		if q.Queue[name].Keep == 0 {
			q.Queue[name] = QuarantineQueue{Keep: q.Keep}
		}
	}
	if len(c.p.Queue.Retry) == 0 {
		c.log.value(c.root.find("queue", "retry"), "queue.retry is empty: when is the next try?")
	}
	for i, d := range c.p.Queue.Retry {
		if d <= 0 {
			c.log.value(c.root.find("queue", "retry").entries[i], "queue.retry: a wait must be longer than 0")
		}
	}
}

// UnmarshalTOML reads "system" or a list of addresses.
func (s *DNSServers) UnmarshalTOML(v any) error {
	if word, ok := v.(string); ok {
		*s = nil
		return knownWord(word, `"system" or a list of addresses`, []string{"system"})
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return fmt.Errorf(`must be "system" or a list of addresses`)
	}
	for _, item := range list {
		address, _ := item.(string)
		if a, err := netip.ParseAddr(address); err == nil {
			address = net.JoinHostPort(a.String(), "53")
		} else if _, err := netip.ParseAddrPort(address); err != nil {
			return fmt.Errorf("%v is not the address of a DNS server: write it as in 127.0.0.1:53", item)
		}
		*s = append(*s, address)
	}
	return nil
}
