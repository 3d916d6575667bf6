// Package dns looks names up: a Resolver interface, a caching client over
// miekg/dns, and a fake that answers from a zone file.
//
// Client asks the servers of /etc/resolv.conf, or those that it is given, over
// UDP, and over TCP where an answer does not fit (RFC 7766); every look-up has a
// time limit. Answers are kept as long as their TTL says, at most a day;
// "not found" as long as the zone's SOA record says (RFC 2308), at most an
// hour; failures for five seconds (RFC 9520). Look-ups of the same records at
// the same time are one question. Names in /etc/hosts, and localhost, are
// answered without asking. Search lists are not used: every name is complete.
//
// Only an answer to the question that was asked is believed, with its name, type,
// class and ID (RFC 5452); of other records in it none is kept. A server that
// fails, refuses, or only names other servers is passed over for the next.
//
// Zone answers from a JSON file: any decision that rests on DNS can be repeated
// with it. Package dnstest serves a Zone on a loopback port.
//
// The package never decides what a failed look-up means: it says "not found"
// (lasting) or "failed for now", and callers must not take one for the other.
// The records of an Answer are shared: nobody changes them.
//
// # Diagnostics
//
// An error wraps ErrNotFound if the servers say that there is no such name or
// record, and ErrTemporary in every other case: no server answered in time,
// SERVFAIL, REFUSED, an answer that cannot be read. Its text names the record
// type, the name and the cause, such as
//
//	DNS look-up failed for now: TXT example.org: server 127.0.0.53:53: SERVFAIL
package dns

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"
)

// Errors of a look-up. Every other error of a Resolver wraps ErrTemporary. An
// error that wraps ErrNoName wraps ErrNotFound too.
var (
	ErrNotFound  = errors.New("no such DNS record")         // NXDOMAIN or NODATA: lasting
	ErrNoName    = errors.New("no such name")               // NXDOMAIN: nor is there anything below it (RFC 8020)
	ErrTemporary = errors.New("DNS look-up failed for now") // SERVFAIL, time-out, no server
)

// Told returns the text of an error as it may be told to others: without the
// servers that were asked.
func Told(text string) string {
	if i := strings.Index(text, ErrTemporary.Error()); i >= 0 {
		if j := strings.Index(text[i:], ": server "); j >= 0 {
			return text[:i+j]
		}
	}
	return text
}

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
