package mail

import (
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// A Path is a reverse-path or forward-path (RFC 5321 section 4.1.2) without
// its angle brackets and source route. It is comparable: two Paths are equal
// if they name the same mailbox. The zero Path is the null reverse-path.
type Path struct {
	Local  string // as received: a quoted local-part keeps its quotes
	Domain string // lower case, A-labels, no trailing dot; an address literal keeps its brackets; empty only in <> and <postmaster>
}

// ErrPath is what ParsePath's errors wrap.
var ErrPath = errors.New("not a mail address")

// IsNull reports whether p is the null reverse-path.
func (p Path) IsNull() bool { return p == Path{} }

// String returns the path as it stands between angle brackets on the wire.
func (p Path) String() string {
	if p.Domain == "" {
		return p.Local
	}
	return p.Local + "@" + p.Domain
}

// Within reports whether a domain is another one or lies below it, both as
// NormalDomain writes them.
func Within(domain, of string) bool {
	return domain == of || strings.HasSuffix(domain, "."+of)
}

// NormalDomain returns d in the form in which Paths carry domains: lower case,
// A-labels, without a trailing dot. What cannot be a domain comes back in
// lower case only.
func NormalDomain(d string) string {
	d = strings.TrimSuffix(d, ".")
	ascii := true
	for i := 0; i < len(d); i++ {
		if d[i] >= 0x80 {
			ascii = false
			break
		}
	}
	if ascii {
		return strings.ToLower(d)
	}
	if a, err := idna.Lookup.ToASCII(d); err == nil {
		return a
	}
	return strings.ToLower(d)
}

// Literal returns the address of an address literal ([192.0.2.1],
// [IPv6:2001:db8::1], RFC 5321 section 4.1.3).
func (p Path) Literal() (netip.Addr, bool) {
	d := p.Domain
	if len(d) < 3 || d[0] != '[' || d[len(d)-1] != ']' {
		return netip.Addr{}, false
	}
	d = d[1 : len(d)-1]
	if len(d) > 5 && strings.EqualFold(d[:5], "ipv6:") {
		d = d[5:]
	}
	a, err := netip.ParseAddr(d)
	return a, err == nil
}
