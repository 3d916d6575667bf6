package filters

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"postern/mail"
)

// Networks is a list of addresses and networks in a filter's settings:
// ["192.0.2.1", "2001:db8::/32"].
type Networks []Network

// A Network is one of them.
type Network struct{ netip.Prefix }

// UnmarshalText reads an address or a network.
func (n *Network) UnmarshalText(b []byte) error {
	text := string(b)
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		n.Prefix = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return fmt.Errorf("%q is no address or network such as \"192.0.2.0/24\"", text)
	}
	n.Prefix = p.Masked()
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (n Network) MarshalText() ([]byte, error) {
	if n.IsSingleIP() {
		return []byte(n.Addr().String()), nil
	}
	return []byte(n.Prefix.String()), nil
}

// Contains reports whether an address is in one of the networks.
func (ns Networks) Contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(ns, func(n Network) bool { return n.Prefix.Contains(a) })
}

// A Client is the host that handed a message to the first host that we trust.
type Client struct {
	Addr netip.Addr
	Helo string
	Hops int // trusted relays between it and us
}

// ClientBehind returns the client of a transaction. When that is one of the
// trusted relays, it is the client that the relay's Received field names, and so
// on. false: a relay does not say, or not in one clear way, who its client was;
// what can be taken in two ways is the work of somebody who wants it to be.
func ClientBehind(tx *mail.Transaction, relays Networks) (Client, bool) {
	c := Client{Addr: tx.Client.Addr().Unmap().WithZone(""), Helo: tx.Helo}
	if len(relays) == 0 || !relays.Contains(c.Addr) {
		return c, c.Addr.IsValid()
	}
	if tx.Message == nil {
		return Client{}, false
	}
	for _, f := range tx.Message.Header().All("Received") {
		next, ok := receivedFrom(f.Value())
		if !ok {
			return Client{}, false
		}
		next.Hops = c.Hops + 1
		if c = next; !relays.Contains(c.Addr) {
			return c, true
		}
	}
	return Client{}, false
}

// What Received fields say of a client (RFC 5321 section 4.4): Postfix, Sendmail
// and Exchange write "from HELO (NAME [ADDRESS])" or "from HELO (ADDRESS)", Exim
// "from NAME ([ADDRESS] helo=HELO)", qmail "from NAME (HELO HELO) (ADDRESS)".
var (
	receivedBy      = regexp.MustCompile(`(?i)\sby\s`)
	receivedClause  = regexp.MustCompile(`(?i)^\s*from\s+(\S+)\s+(.*)$`)
	receivedHelo    = regexp.MustCompile(`(?i)helo=([^\s()]+)|\(HELO ([^\s()]+)\)`)
	receivedAddress = regexp.MustCompile(`(?i)[\[(](?:IPv6:)?([0-9a-f.:]+)[\])]`)
)

// maxReceived bounds the Received fields that are looked into.
const maxReceived = 4096

// receivedFrom reads the client out of the value of a Received field.
func receivedFrom(value string) (Client, bool) {
	if len(value) > maxReceived {
		return Client{}, false
	}
	by := receivedBy.FindAllStringIndex(value, 2)
	if len(by) != 1 {
		return Client{}, false
	}
	clause := receivedClause.FindStringSubmatch(value[:by[0][0]])
	if clause == nil {
		return Client{}, false
	}
	c, rest := Client{Helo: clause[1]}, clause[2]
	if m := receivedHelo.FindStringSubmatch(rest); m != nil {
		c.Helo = m[1] + m[2]
		rest = strings.Replace(rest, m[0], "", 1)
	}
	for _, m := range receivedAddress.FindAllStringSubmatch(rest, 10) {
		a, err := netip.ParseAddr(m[1])
		if a = a.Unmap(); err != nil || c.Addr.IsValid() && a != c.Addr {
			return Client{}, false
		}
		c.Addr = a
	}
	return c, c.Addr.IsValid()
}
