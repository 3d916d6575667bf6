package dmarc

import (
	"context"
	"errors"
	"strings"

	"postern/dns"
	"postern/mail"
)

// maxLabels is how many labels a name has at most whose record is asked for
// after the first one (RFC 9989 section 4.10: eight queries in all).
const maxLabels = 7

// A finder finds DMARC records. It asks for each name once; it belongs to one
// message.
type finder struct {
	ctx      context.Context
	resolver dns.Resolver
	known    map[string]found
}

// found is what is known of one name.
type found struct {
	record *Record // nil: none
	err    error
}

// record returns the DMARC record of a domain, nil if it has none. Two records
// are none (RFC 9989 section 4.10).
func (f *finder) record(domain string) (*Record, error) {
	if k, ok := f.known[domain]; ok {
		return k.record, k.err
	}
	var k found
	answer, err := f.resolver.TXT(f.ctx, "_dmarc."+domain)
	if err != nil && !errors.Is(err, dns.ErrNotFound) {
		k.err = err
	}
	n := 0
	for _, txt := range answer.Records {
		if r, ok := ParseRecord(txt); ok {
			n++
			r.Domain = domain
			k.record = r
		}
	}
	if n > 1 {
		k.record = nil
	}
	f.known[domain] = k
	return k.record, k.err
}

// parent returns the domain that the tree walk asks after another: one label
// less, and at most seven; "" at the end.
func parent(domain string) string {
	_, rest, _ := strings.Cut(domain, ".")
	for strings.Count(rest, ".") >= maxLabels {
		_, rest, _ = strings.Cut(rest, ".")
	}
	return rest
}

// walk performs the DNS tree walk (RFC 9989 section 4.10) and returns the records
// on the way, the longest name first.
func (f *finder) walk(domain string) ([]*Record, error) {
	var all []*Record
	for name := domain; name != ""; name = parent(name) {
		r, err := f.record(name)
		switch {
		case err != nil:
			return nil, err
		case r != nil:
			all = append(all, r)
			if r.PSD != 'u' {
				return all, nil
			}
		}
	}
	return all, nil
}

// organisational selects the organisational domain out of the records of a walk
// (RFC 9989 section 4.10.2).
func organisational(start string, records []*Record) string {
	for _, r := range records {
		switch {
		case r.PSD == 'n':
			return r.Domain
		case r.PSD == 'y' && r.Domain != start:
			below := strings.TrimSuffix(start, "."+r.Domain)
			return below[strings.LastIndexByte(below, '.')+1:] + "." + r.Domain
		}
	}
	if len(records) > 0 {
		return records[len(records)-1].Domain
	}
	return start
}

// organisation returns the organisational domain of a domain.
func (f *finder) organisation(domain string) (string, error) {
	records, err := f.walk(domain)
	if err != nil {
		return "", err
	}
	return organisational(domain, records), nil
}

// discover returns the record that applies to an author domain: its own, else
// that of its organisational domain, else that of the public suffix above it (RFC
// 9989 section 4.10.1); nil if there is none.
func (f *finder) discover(author string) (*Record, error) {
	if r, err := f.record(author); r != nil || err != nil {
		return r, err
	}
	records, err := f.walk(author)
	if err != nil {
		return nil, err
	}
	org := organisational(author, records)
	var suffix *Record
	for _, r := range records {
		if r.Domain == org {
			return r, nil
		}
		if r.PSD == 'y' {
			suffix = r
		}
	}
	return suffix, nil
}

// policy returns the policy of a record for an author domain, as it is given and
// as it is to be applied: t=y asks for the next milder one.
func (f *finder) policy(r *Record, author string) (given, applied Policy, err error) {
	given = r.P
	if r.Domain != author {
		if r.SP != "" {
			given = r.SP
		}
		if r.NP != "" && r.NP != given {
			exists, err := f.exists(author)
			if err != nil {
				return "", "", err
			}
			if !exists {
				given = r.NP
			}
		}
	}
	if r.Testing {
		return given, given.milder(), nil
	}
	return given, given, nil
}

// exists reports whether a domain exists (RFC 9989 section 3.2: only NXDOMAIN
// says that it does not).
func (f *finder) exists(domain string) (bool, error) {
	switch _, err := f.resolver.A(f.ctx, domain); {
	case err == nil:
		return true, nil
	case errors.Is(err, dns.ErrNotFound):
		return !errors.Is(err, dns.ErrNoName), nil
	default:
		return false, err
	}
}

// aligned reports whether an authenticated domain is aligned with the author
// domain (RFC 9989 section 4.4). The walks are done only where they can matter:
// what is not within the author's organisational domain has another one.
func (f *finder) aligned(author, domain string, strict bool) (bool, error) {
	if author == domain {
		return true, nil
	}
	if strict || lastLabel(author) != lastLabel(domain) {
		return false, nil
	}
	org, err := f.organisation(author)
	if err != nil {
		return false, err
	}
	if !mail.Within(domain, org) {
		return false, nil
	}
	other, err := f.organisation(domain)
	return err == nil && other == org, err
}

func lastLabel(domain string) string { return domain[strings.LastIndexByte(domain, '.')+1:] }
