package dmarc

import (
	"fmt"
	"slices"
	"strings"

	"postern/mail"
)

// An author is what the From fields of a message say of its author.
type author struct {
	domains []string // A-labels; those that a client might show, if problem is set
	problem string   // why there is not one author domain; empty if there is
	several bool     // the problem is only that one good field has several domains
}

// maxDomains is how many author domains are judged. RFC 9989 section 11.5: more
// would let the author make us ask without end.
const maxDomains = 4

// authorOf reads the From fields. DMARC is about a message with one From field
// and one domain in it (RFC 9989 section 5.3.1). With any other, mail clients
// show what they like: then every domain that can be read in the fields is one
// that the message claims.
func authorOf(m *mail.Message) author {
	fields := m.Header().All("From")
	var a author
	for _, f := range fields {
		addresses, err := mail.ParseAddresses(f.Value())
		for _, addr := range addresses {
			if a.problem == "" && !isDomain(addr.Path.Domain) {
				a.problem = "the From field has an address without a domain name"
			}
			a.add(addr.Path.Domain)
		}
		switch {
		case a.problem != "":
		case err != nil:
			a.problem = "the From field is not a list of addresses"
		case len(addresses) == 0:
			a.problem = "the From field has no address"
		}
	}
	switch {
	case len(fields) == 0:
		a.problem = "there is no From field"
	case len(fields) > 1:
		a.problem = fmt.Sprintf("there are %d From fields", len(fields))
	case a.problem == "" && len(a.domains) > 1:
		a.problem, a.several = fmt.Sprintf("the From field has %d domains", len(a.domains)), true
	}
	if a.problem != "" && !a.several {
		for _, f := range fields {
			a.scan(f.Value())
			a.scan(f.Decoded())
		}
	}
	return a
}

// add adds a domain, once.
func (a *author) add(domain string) {
	domain = mail.NormalDomain(domain)
	if isDomain(domain) && !slices.Contains(a.domains, domain) {
		a.domains = append(a.domains, domain)
	}
}

// scan adds what stands behind each "@" in text.
func (a *author) scan(text string) {
	for range 20 * maxDomains {
		_, rest, ok := strings.Cut(text, "@")
		if !ok {
			return
		}
		end := strings.IndexFunc(rest, func(r rune) bool {
			return r < 0x80 && !isDomainChar(byte(r))
		})
		if end < 0 {
			end = len(rest)
		}
		a.add(strings.Trim(rest[:end], "."))
		text = rest
	}
}

func isDomainChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

// isDomain reports whether s is a domain name in the form that can be asked for.
func isDomain(s string) bool {
	if len(s) > 245 || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") || strings.Contains(s, "..") {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isDomainChar(s[i]) {
			return false
		}
	}
	return s != ""
}
