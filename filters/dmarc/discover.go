package dmarc

import (
	"context"
	"slices"

	"postern/dns"
	"postern/mail"
)

// Discover returns the record that applies to an author domain (RFC 9989 section
// 4.10.1), nil if there is none.
func Discover(ctx context.Context, r dns.Resolver, domain string) (*Record, error) {
	f := &finder{ctx: ctx, resolver: r, known: map[string]found{}}
	return f.discover(mail.NormalDomain(domain))
}

// Unauthorised returns the destinations of aggregate reports that have not agreed
// to take them: those of other organisations must publish it (RFC 9990 section
// 4). What is no mailto: URI is left out.
func (r *Record) Unauthorised(ctx context.Context, resolver dns.Resolver) ([]string, error) {
	f := &finder{ctx: ctx, resolver: resolver, known: map[string]found{}}
	own, err := f.organisation(r.Domain)
	if err != nil {
		return nil, err
	}
	var bad []string
	for _, u := range r.RUA {
		p, ok := u.address()
		if !ok || slices.Contains(bad, p.Domain) {
			continue
		}
		_, why, err := f.destination(r.Domain, own, u)
		if err != nil {
			return nil, err
		}
		if why != "" {
			bad = append(bad, p.Domain)
		}
	}
	return bad, nil
}
