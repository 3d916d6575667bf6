package dns

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// joinAddrs joins what look-ups of A and AAAA records yielded, IPv4 first. What
// one of them found is returned although the other failed: an address that works
// is worth more than a complete list.
func joinAddrs(four, six Answer[netip.Addr], err4, err6 error) (Answer[netip.Addr], error) {
	switch {
	case err4 == nil && err6 == nil:
		return Answer[netip.Addr]{
			Records:   slices.Concat(four.Records, six.Records),
			TTL:       min(four.TTL, six.TTL),
			Authentic: four.Authentic && six.Authentic,
		}, nil
	case err4 == nil:
		return four, nil
	case err6 == nil:
		return six, nil
	case errors.Is(err4, ErrNotFound):
		return Answer[netip.Addr]{}, err6 // not found either, or worse
	}
	return Answer[netip.Addr]{}, err4
}

// literalOrLocal answers for names that are addresses themselves, and for
// localhost (RFC 6761 section 6.3: always this host, never asked for).
func literalOrLocal(name string) (Answer[netip.Addr], bool) {
	name = canonical(name)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return Answer[netip.Addr]{
			Records: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()},
			TTL:     time.Hour,
		}, true
	}
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return Answer[netip.Addr]{Records: []netip.Addr{a}, TTL: time.Hour}, true
	}
	return Answer[netip.Addr]{}, false
}

// reverseName returns the name under which the PTR records of addr lie (RFC
// 1035 section 3.5, RFC 3596 section 2.5).
func reverseName(addr netip.Addr) string {
	addr = addr.Unmap()
	b := make([]byte, 0, 80)
	if addr.Is4() {
		a := addr.As4()
		for i := 3; i >= 0; i-- {
			b = append(strconv.AppendUint(b, uint64(a[i]), 10), '.')
		}
		return string(append(b, "in-addr.arpa"...))
	}
	const hex = "0123456789abcdef"
	a := addr.As16()
	for i := 15; i >= 0; i-- {
		b = append(b, hex[a[i]&15], '.', hex[a[i]>>4], '.')
	}
	return string(append(b, "ip6.arpa"...))
}
