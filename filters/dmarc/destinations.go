package dmarc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"postern/dns"
	"postern/mail"
)

// maxDestinations is how many addresses of one record are looked at (RFC 9990
// section 3.5: as many as the receiver is ready to).
const maxDestinations = 10

// maxName is how long a name in DNS can be.
const maxName = 253

// A Destination is an address that may get reports.
type Destination struct {
	To    mail.Path
	Limit int64 // bytes of the message; 0: none
}

// Destinations says who gets the reports about a domain whose record has these
// URIs, and why others do not. Addresses elsewhere must be willing (RFC 9990
// section 4). An error means that it cannot be said for now.
func Destinations(ctx context.Context, r dns.Resolver, domain string, rua []URI) (to []Destination, refused []string, err error) {
	f := &finder{ctx: ctx, resolver: dns.WithBudget(r, maxLookUps*maxDestinations), known: map[string]found{}}
	org, err := f.organisation(domain)
	if err != nil {
		return nil, nil, fmt.Errorf("find the organisation of %s: %w", domain, err)
	}
	for i, u := range rua {
		// Those that refuse count too: whoever writes a record shall not make us
		// ask all the world.
		if i == maxDestinations || len(to) >= maxDestinations {
			refused = append(refused, fmt.Sprintf("%d more: only the first %d are looked at", len(rua)-i, maxDestinations))
			break
		}
		accepted, why, err := f.destination(domain, org, u)
		if err != nil {
			return nil, nil, fmt.Errorf("ask whether %s takes reports: %w", clip(u.Text), err)
		}
		if why != "" {
			refused = append(refused, clip(u.Text)+": "+why)
		}
		for _, d := range accepted {
			if !slices.ContainsFunc(to, func(t Destination) bool { return t.To == d.To }) {
				to = append(to, d)
			}
		}
	}
	return to, refused, nil
}

// destination says to whom one URI leads, or why to nobody.
func (f *finder) destination(domain, org string, u URI) (to []Destination, why string, err error) {
	p, ok := u.address()
	if !ok {
		return nil, "not a mailto URI with one address", nil
	}
	to = []Destination{{p, u.Limit}}
	other, err := f.organisation(p.Domain)
	if err != nil || other == org {
		return to, "", err
	}
	name := domain + "._report._dmarc." + p.Domain
	if len(name) > maxName {
		return nil, "the name to ask for its consent is too long", nil
	}
	answer, err := f.resolver.TXT(f.ctx, name)
	if err != nil && !errors.Is(err, dns.ErrNotFound) {
		return nil, "", err
	}
	agreed := false
	var instead []URI
	for _, txt := range answer.Records {
		if r, ok := ParseRecord(txt); ok {
			agreed, instead = true, append(instead, r.RUA...)
		}
	}
	switch {
	case !agreed:
		return nil, "it does not say at " + name + " that it wants them", nil
	case len(instead) == 0:
		return to, "", nil
	}
	to = nil
	for _, u := range instead {
		other, ok := u.address()
		if !ok || other.Domain != p.Domain {
			// RFC 9990 section 4: then neither address gets one.
			return nil, "it names an address of another host instead", nil
		}
		to = append(to, Destination{other, u.Limit})
	}
	return to[:min(len(to), maxDestinations)], "", nil
}
