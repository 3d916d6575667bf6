package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters/dkimsign"
	"postern/filters/dmarc"
	"postern/filters/spf"
	"postern/mail"
	"postern/policy"
)

// signedName is a domain that is signed with DNSSEC and will be.
const signedName = "ietf.org"

// checkResolver asks for a name of ours and for one that is signed.
func checkResolver(ctx context.Context, x *patient, f *findings) {
	domain := x.policy.Site.Domains[0]
	if _, err := x.resolver.TXT(ctx, domain); err != nil && !errors.Is(err, dns.ErrNotFound) {
		f.bad("", "look at [dns] servers, or at /etc/resolv.conf", "%s: %v", domain, err)
		return
	}
	answer, err := x.resolver.MX(ctx, signedName)
	switch {
	case err != nil:
		f.warn("", "", "it answers for %s but not for %s: %v", domain, signedName, err)
	case !answer.Authentic:
		f.warn("", `run a validating resolver on this machine, or trust the one of /etc/resolv.conf with "options trust-ad"`, "it answers, but does not validate with DNSSEC: mail that asks for REQUIRETLS to a domain's MX is refused")
	default:
		f.ok("", "it answers and validates")
	}
}

// addresses are those from which mail leaves, as far as is known.
func (x *patient) addresses(ctx context.Context) ([]netip.Addr, error) {
	if len(x.own) > 0 {
		return x.own, nil
	}
	answer, err := x.resolver.Addrs(ctx, x.policy.Site.Hostname)
	return slices.DeleteFunc(slices.Clone(answer.Records), func(a netip.Addr) bool { return !a.IsGlobalUnicast() || a.IsPrivate() }), err
}

// checkAddress checks that the address and the name of this host lead to each
// other, as many receivers demand.
func checkAddress(ctx context.Context, x *patient, f *findings) {
	host := x.policy.Site.Hostname
	own, err := x.addresses(ctx)
	switch {
	case err != nil && !errors.Is(err, dns.ErrNotFound):
		f.warn(host, "", "%v", err)
		return
	case len(own) == 0:
		f.warn(host, "name the host as DNS does with [site] hostname; --address names a public address", "has no public address in DNS: other servers may refuse our mail")
		return
	}
	for _, a := range own {
		answer, err := x.resolver.PTR(ctx, a)
		remedy := fmt.Sprintf("ask the owner of the address for a PTR record to %s", host)
		named := slices.ContainsFunc(answer.Records, func(n string) bool { return strings.EqualFold(strings.TrimSuffix(n, "."), host) })
		switch {
		case errors.Is(err, dns.ErrNotFound):
			f.bad(a.String(), remedy, "has no name (PTR record): many servers refuse mail from it")
		case err != nil:
			f.warn(a.String(), "", "%v", err)
		case !named:
			f.warn(a.String(), remedy, "is called %s, and we say %s in EHLO", strings.Join(answer.Records, ", "), host)
		case !x.leadsTo(ctx, host, a):
			f.bad(a.String(), fmt.Sprintf("publish an address record of %s", host), "%s does not lead back to it", host)
		default:
			f.ok(a.String(), "is called %s, which leads back to it", host)
		}
	}
}

// leadsTo reports whether a host has an address.
func (x *patient) leadsTo(ctx context.Context, host string, a netip.Addr) bool {
	answer, err := x.resolver.Addrs(ctx, host)
	return err == nil && slices.Contains(answer.Records, a)
}

// checkMX says where the mail of our domains goes.
func checkMX(ctx context.Context, x *patient, f *findings) {
	own, _ := x.addresses(ctx) // checkAddress tells
	for _, domain := range x.policy.Site.Domains {
		answer, err := x.resolver.MX(ctx, domain)
		remedy := fmt.Sprintf("publish: %s. IN MX 10 %s.", domain, x.policy.Site.Hostname)
		var names []string
		here := false
		for _, mx := range answer.Records {
			names = append(names, mx.Host)
			here = here || strings.EqualFold(mx.Host, x.policy.Site.Hostname) || slices.ContainsFunc(own, func(a netip.Addr) bool { return x.leadsTo(ctx, mx.Host, a) })
		}
		switch {
		case errors.Is(err, dns.ErrNotFound):
			f.warn(domain, remedy, "has no MX record")
		case err != nil:
			f.warn(domain, "", "%v", err)
		case len(names) == 1 && names[0] == "":
			f.warn(domain, remedy, "says that it takes no mail (null MX)")
		case !here:
			f.warn(domain, "mend the record, or the host name in [site], unless another server stands in front of this one", "its mail goes to %s, and we are %s", strings.Join(names, ", "), x.policy.Site.Hostname)
		default:
			f.ok(domain, "its mail comes here: %s", strings.Join(names, ", "))
		}
	}
}

// leaves returns the addresses from which other servers see our mail come: our
// own, if an upstream delivers to the MX of each domain.
func (x *patient) leaves(ctx context.Context) []netip.Addr {
	direct := len(x.own) > 0 || slices.ContainsFunc(x.policy.Upstreams, func(u policy.Upstream) bool { return slices.Contains(u.To, "mx") })
	if !direct {
		return nil
	}
	own, _ := x.addresses(ctx) // checkAddress tells
	return own
}

// nobody is an address of documentation: a record is tried with it
// where our own is not known.
var nobody = netip.AddrFrom4([4]byte{192, 0, 2, 255})

// checkSPF tries the SPF records of our domains with our own addresses.
func checkSPF(ctx context.Context, x *patient, f *findings) {
	leaves := x.leaves(ctx)
	for _, domain := range x.policy.Site.Domains {
		ask := func(a netip.Addr) spf.Answer {
			return spf.Check(ctx, x.resolver, spf.Query{Addr: a, Domain: domain, Helo: x.policy.Site.Hostname, Receiver: x.policy.Site.Hostname, At: x.now, MaxVoid: 2})
		}
		if len(leaves) == 0 {
			f.spf(domain, ask(nobody), "")
		}
		for _, a := range leaves {
			f.spf(domain, ask(a), a.String())
		}
	}
}

// spf reports an answer for a domain; from is our address, if it is known.
func (f *findings) spf(domain string, a spf.Answer, from string) {
	switch {
	case a.Result == spf.None:
		f.bad(domain, fmt.Sprintf(`publish: %s. IN TXT ( "v=spf1 mx -all" ), with the addresses that send its mail`, domain), "has no SPF record")
	case a.Result == spf.PermError:
		f.bad(domain, "mend it: receivers take mail with it for forged, or ignore it", "its SPF record has an error: %s", a.Reason)
	case a.Result == spf.TempError:
		f.warn(domain, "", "its SPF record cannot be looked up: %s", a.Reason)
	case from == "":
		f.ok(domain, "has an SPF record; from which address its mail leaves is not known (--address)")
	case a.Result == spf.Pass:
		f.ok(domain, "%s may send: %s", from, a.Reason)
	default:
		f.bad(domain, fmt.Sprintf("add ip%d:%s to its SPF record", map[bool]int{true: 4, false: 6}[!strings.Contains(from, ":")], from), "%s may not send its mail: %s (%s)", from, a.Result, a.Reason)
	}
}

// checkDKIM compares the keys that sign with what is published.
func checkDKIM(ctx context.Context, x *patient, f *findings) {
	c, ok := x.policy.Chain().Checker(dkimsign.Filter.Name)
	signs, isSigner := c.(*dkimsign.Checker)
	if !ok || !isSigner {
		f.warn("", "", "[filter.dkimsign] is switched off: no mail is signed")
		return
	}
	for _, err := range signs.Exposed() {
		f.bad("", "", "%v", err)
	}
	if x.broken != nil {
		return // the keys may not have been read: checkPolicy tells
	}
	for _, s := range signs.All() {
		f.key(dkim.Published(ctx, x.resolver, s.Selector, s.Domain, s.Key.Public()), s)
	}
	f.waiting(ctx, x, signs.Directory)
	if !slices.ContainsFunc(x.policy.Listeners, func(l policy.Listener) bool { return l.Role != mail.RoleInbound }) {
		return // nothing leaves
	}
	for _, domain := range x.policy.Site.Domains {
		signers := signs.Signers(domain)
		switch {
		case len(signers) == 0:
			f.warn(domain, "run: postern keys dkim rotate "+domain, "its mail is not signed")
		case !slices.ContainsFunc(signers, func(s dkim.Signer) bool { _, is := s.Key.Public().(ed25519.PublicKey); return !is }):
			f.warn(domain, "run: postern keys dkim rotate --now "+domain, "its mail is signed with Ed25519 alone, which many receivers cannot verify")
		}
	}
}

// key reports on the record of a key that signs.
func (f *findings) key(p dkim.Publication, s dkim.Signer) {
	subject := s.Selector + " of " + s.Domain
	record, err := dkim.Record(s.Key.Public())
	if err != nil {
		f.bad(subject, "", "%v", err)
		return
	}
	publish := "publish: " + strings.TrimSpace(dkim.ZoneLine(p.Name, record))
	switch p.State {
	case dkim.Matches:
		if p.Testing {
			f.warn(subject, "take t=y out of the record", "the record says that signatures are only a test (t=y)")
			return
		}
		f.ok(subject, "the record matches the key")
	case dkim.Unsettled:
		f.warn(subject, "", "the record cannot be looked up: %s", p.Reason)
	case dkim.Revoked:
		f.bad(subject, "run: postern keys dkim rotate --now "+s.Domain, "mail is signed with a key that is revoked")
	default:
		f.bad(subject, publish, "mail is signed, but cannot be verified: %s", p.Reason)
	}
}

// waiting reports on keys of the directory that do not sign.
func (f *findings) waiting(ctx context.Context, x *patient, dir string) {
	if dir == "" {
		return
	}
	found, err := dkimsign.ReadFolder(dir)
	if err != nil {
		f.bad(dir, "", "%v", err)
		return
	}
	for _, k := range found {
		subject := k.Selector + " of " + k.Domain
		switch k.State {
		case dkimsign.Next:
			p := dkim.Published(ctx, x.resolver, k.Selector, k.Domain, k.Key.Public())
			text := "its record is not published yet"
			if p.State == dkim.Matches {
				text = "its record is published"
			}
			f.warn(subject, "run: postern keys dkim rotate "+k.Domain, "does not sign yet: %s", text)
		case dkimsign.Old:
			f.ok(subject, "signs no more; postern keys dkim rotate removes it in time")
		}
	}
}

// checkDMARC looks at the DMARC records of our domains.
func checkDMARC(ctx context.Context, x *patient, f *findings) {
	for _, domain := range x.policy.Site.Domains {
		r, err := dmarc.Discover(ctx, x.resolver, domain)
		switch {
		case err != nil:
			f.warn(domain, "", "%v", err)
			continue
		case r == nil:
			f.bad(domain, fmt.Sprintf(`publish: _dmarc.%s. IN TXT ( "v=DMARC1; p=none; rua=mailto:%s" )`, domain, x.policy.Site.Admin), "has no DMARC record, or two: anybody may write in its name")
			continue
		case r.Invalid, r.Misread:
			f.bad(domain, "mend it: p= is none, quarantine or reject", "its DMARC record has a policy that is none")
			continue
		case r.P == dmarc.PolicyNone:
			f.warn(domain, "raise p= to quarantine or reject once the reports show that all your mail passes", "its DMARC policy is none: receivers let forged mail pass")
		default:
			f.ok(domain, "its DMARC policy is %s", r.P)
		}
		bad, err := r.Unauthorised(ctx, x.resolver)
		if err != nil {
			f.warn(domain, "", "%v", err)
		}
		for _, host := range bad {
			f.warn(domain, fmt.Sprintf(`publish there: %s._report._dmarc.%s. IN TXT ( "v=DMARC1" )`, r.Domain, host), "%s has not agreed to take its reports: they are not sent", host)
		}
	}
}
