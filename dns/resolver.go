// Package dns looks names up: a Resolver interface, a caching client over
// miekg/dns, and a fake that answers from a zone file.
package dns

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Errors of a look-up. Every other error of a Resolver wraps ErrTemporary.
var (
	ErrNotFound  = errors.New("no such DNS record")         // NXDOMAIN or NODATA: lasting
	ErrTemporary = errors.New("DNS look-up failed for now") // SERVFAIL, time-out, no server
)

// A Resolver looks DNS records up. Names are given with or without the trailing
// dot; answers come without. TTL and the AD bit come with each answer.
type Resolver interface {
	TXT(ctx context.Context, name string) (Answer[string], error)
	Addrs(ctx context.Context, name string) (Answer[netip.Addr], error) // A and AAAA
	A(ctx context.Context, name string) (Answer[netip.Addr], error)
	AAAA(ctx context.Context, name string) (Answer[netip.Addr], error)
	MX(ctx context.Context, name string) (Answer[MX], error) // by preference
	PTR(ctx context.Context, addr netip.Addr) (Answer[string], error)
}

// An Answer is a set of records.
type Answer[T any] struct {
	Records   []T
	TTL       time.Duration
	Authentic bool // the AD bit of a validating resolver
}

// An MX is one mail exchanger (RFC 5321 section 5.1). Host "" is a null MX
// (RFC 7505).
type MX struct {
	Preference uint16
	Host       string
}
