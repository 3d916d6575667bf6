package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// ClientOptions say whom a Client asks and how. Zero fields have defaults.
type ClientOptions struct {
	Servers    []string      // "host:port" or "host"; empty: those of ResolvConf
	ResolvConf string        // default "/etc/resolv.conf"; read again when it changes
	Hosts      string        // default "/etc/hosts"; read again when it changes
	Timeout    time.Duration // for one look-up, all tries together [5s]
	Now        func() time.Time
}

// A Client looks names up over the network and keeps the answers. It is safe
// for concurrent use and needs no closing.
type Client struct {
	timeout time.Duration
	now     func() time.Time
	servers *serverList
	hosts   *hostsFile
	cache   *lru.Cache[question, *entry]
	flights singleflight.Group
	queries atomic.Int64
	hits    atomic.Int64
}

// A question is the key of the cache.
type question struct {
	name string // canonical
	kind uint16
}

func (q question) String() string { return dns.TypeToString[q.kind] + " " + q.name }

// An entry is the answer to a question, or the error. Of the records only the
// slice of its kind is set.
type entry struct {
	texts     []string // TXT, PTR
	addrs     []netip.Addr
	mxs       []MX
	authentic bool
	err       error
	ttl       time.Duration
	expires   time.Time
}

// Bounds of how many answers are kept, and how long.
const (
	cached      = 10_000
	maxTTL      = 24 * time.Hour
	maxNegative = time.Hour
	failureTTL  = 5 * time.Second // RFC 9520 section 3.2: between 1 s and 5 min
)

// NewClient returns a Client.
func NewClient(o ClientOptions) *Client {
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.Hosts == "" {
		o.Hosts = "/etc/hosts"
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	cache, err := lru.New[question, *entry](cached)
	if err != nil {
		cache = nil // only a size below one is an error
	}
	return &Client{
		timeout: o.Timeout, now: o.Now, cache: cache,
		servers: newServerList(o), hosts: &hostsFile{file: watchedFile{path: o.Hosts, now: o.Now}},
	}
}

// ClientStats are the running totals of a Client.
type ClientStats struct{ Queries, Hits, Cached int64 }

// Stats returns how many questions went out, how many were answered from the
// cache, and how many answers it holds.
func (c *Client) Stats() ClientStats {
	return ClientStats{c.queries.Load(), c.hits.Load(), int64(c.cache.Len())}
}

// Flush forgets all answers.
func (c *Client) Flush() { c.cache.Purge() }

// TXT returns the TXT records of name; the strings of one record are joined
// (RFC 7208 section 3.3).
func (c *Client) TXT(ctx context.Context, name string) (Answer[string], error) {
	e, ttl := c.lookUp(ctx, name, dns.TypeTXT)
	return Answer[string]{e.texts, ttl, e.authentic}, e.err
}

// MX returns the MX records of name by preference.
func (c *Client) MX(ctx context.Context, name string) (Answer[MX], error) {
	e, ttl := c.lookUp(ctx, name, dns.TypeMX)
	return Answer[MX]{e.mxs, ttl, e.authentic}, e.err
}

// PTR returns the names of addr.
func (c *Client) PTR(ctx context.Context, addr netip.Addr) (Answer[string], error) {
	if !addr.IsValid() {
		return Answer[string]{}, fmt.Errorf("%w: PTR of no address", ErrNotFound)
	}
	e, ttl := c.lookUp(ctx, reverseName(addr), dns.TypePTR)
	return Answer[string]{e.texts, ttl, e.authentic}, e.err
}

// A returns the IPv4 addresses of name.
func (c *Client) A(ctx context.Context, name string) (Answer[netip.Addr], error) {
	return c.addrs(ctx, name, dns.TypeA)
}

// AAAA returns the IPv6 addresses of name.
func (c *Client) AAAA(ctx context.Context, name string) (Answer[netip.Addr], error) {
	return c.addrs(ctx, name, dns.TypeAAAA)
}

// Addrs returns the addresses of a host, IPv4 first. Names in the hosts file,
// localhost and addresses are answered without DNS.
func (c *Client) Addrs(ctx context.Context, name string) (Answer[netip.Addr], error) {
	if own, ok := c.hosts.lookUp(name); ok {
		return own, nil
	}
	if own, ok := literalOrLocal(name); ok {
		return own, nil
	}
	six, ttl6 := c.cached(question{canonical(name), dns.TypeAAAA})
	if six != nil {
		four, err4 := c.A(ctx, name)
		return joinAddrs(four, Answer[netip.Addr]{six.addrs, ttl6, six.authentic}, err4, six.err)
	}
	type half struct {
		answer Answer[netip.Addr]
		err    error
	}
	other := make(chan half, 1)
	go func() {
		a, err := c.AAAA(ctx, name)
		other <- half{a, err}
	}()
	four, err4 := c.A(ctx, name)
	h := <-other
	return joinAddrs(four, h.answer, err4, h.err)
}

func (c *Client) addrs(ctx context.Context, name string, kind uint16) (Answer[netip.Addr], error) {
	e, ttl := c.lookUp(ctx, name, kind)
	return Answer[netip.Addr]{e.addrs, ttl, e.authentic}, e.err
}

// cached returns the entry for q and how long it still holds, or nil.
func (c *Client) cached(q question) (*entry, time.Duration) {
	e, ok := c.cache.Get(q)
	if !ok {
		return nil, 0
	}
	left := e.expires.Sub(c.now())
	if left <= 0 {
		return nil, 0
	}
	c.hits.Add(1)
	return e, left
}

// lookUp returns the answer to a question from the cache or the network. It is
// never nil.
func (c *Client) lookUp(ctx context.Context, name string, kind uint16) (*entry, time.Duration) {
	q := question{canonical(name), kind}
	if e, left := c.cached(q); e != nil {
		return e, left
	}
	wire, err := wireName(q.name)
	if err != nil {
		return &entry{err: fmt.Errorf("%w: %s: %w", ErrNotFound, q, err)}, 0
	}
	// Whoever asks first asks for all, so the question does not end with its
	// context; each waits only as long as its own.
	answer := c.flights.DoChan(q.String(), func() (any, error) {
		if e, _ := c.cached(q); e != nil {
			return e, nil // it came since we looked
		}
		e := c.ask(q, wire)
		if e.ttl > 0 {
			e.expires = c.now().Add(e.ttl)
			c.cache.Add(q, e)
		}
		return e, nil
	})
	select {
	case <-ctx.Done():
		return &entry{err: fmt.Errorf("%w: %s: %w", ErrTemporary, q, context.Cause(ctx))}, 0
	case r := <-answer:
		e, ok := r.Val.(*entry)
		if !ok {
			return &entry{err: fmt.Errorf("%w: %s: %w", ErrTemporary, q, r.Err)}, 0
		}
		return e, e.ttl
	}
}

// errNotAName says that a name cannot be asked for.
var errNotAName = errors.New("not a domain name")

// wireName returns a name as miekg/dns wants it: absolute, and escaped where it
// has characters that mean something in zone files. Names may come out of mail:
// SPF macros make anything of them.
func wireName(name string) (string, error) {
	if name == "" {
		return ".", nil
	}
	plain := true
	for i := 0; i < len(name) && plain; i++ {
		c := name[i]
		plain = 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_' || c == '*' || c == '/'
	}
	if !plain {
		var b strings.Builder
		for i := 0; i < len(name); i++ {
			switch c := name[i]; {
			case c < ' ' || c > '~':
				fmt.Fprintf(&b, `\%03d`, c)
			case strings.IndexByte(` '@;()"\`, c) >= 0:
				b.WriteByte('\\')
				b.WriteByte(c)
			default:
				b.WriteByte(c)
			}
		}
		name = b.String()
	}
	// RFC 1035 section 2.3.4: labels of 63 octets, names of 255.
	if _, ok := dns.IsDomainName(name); !ok || strings.HasPrefix(name, ".") || strings.Contains(name, "..") {
		return "", errNotAName
	}
	return name + ".", nil
}
