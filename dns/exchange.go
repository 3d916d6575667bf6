package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// udpSize is what we say in EDNS0 that we take over UDP: what passes without
// fragments (DNS Flag Day 2020).
const udpSize = 1232

// ask puts q to the servers, each in turn until one answers, and returns an
// entry with its TTL set. wire is q's name as it goes out.
func (c *Client) ask(q question, wire string) *entry {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	servers := c.servers.list()
	if len(servers) == 0 {
		return &entry{err: fmt.Errorf("%w: %s: no server is configured", ErrTemporary, q), ttl: failureTTL}
	}
	// Two rounds: a packet may get lost. The first server gets a second try
	// before the time is over.
	share := c.timeout / time.Duration(min(len(servers), 2)+1)
	var last error
	refused := 0
	for n := 0; n < 2*len(servers) && ctx.Err() == nil; n++ {
		s := servers[n%len(servers)]
		msg, err := c.exchange(ctx, q, wire, s, share)
		if err != nil {
			last = fmt.Errorf("server %s: %w", s.address, err)
			continue
		}
		why := dns.RcodeToString[msg.Rcode]
		switch {
		case referral(msg):
			why = "it does not look names up for others"
		case msg.Rcode == dns.RcodeSuccess || msg.Rcode == dns.RcodeNameError:
			c.servers.answered(s)
			return read(q, wire, msg, s.trusted && msg.AuthenticatedData)
		}
		last = fmt.Errorf("server %s: %s", s.address, why)
		// Another server may know better; the same one will not.
		if refused++; refused >= len(servers) {
			break
		}
	}
	if last == nil {
		last = ctx.Err()
	}
	return &entry{err: fmt.Errorf("%w: %s: %w", ErrTemporary, q, last), ttl: failureTTL}
}

// referral reports whether a server only names others that may know. RFC 2308
// section 2.2: that is no word on whether there are records.
func referral(msg *dns.Msg) bool {
	if msg.Rcode != dns.RcodeSuccess || len(msg.Answer) > 0 {
		return false
	}
	servers := false
	for _, rr := range msg.Ns {
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			return false
		case dns.TypeNS:
			servers = true
		}
	}
	return servers
}

// exchange puts q to one server: over UDP, over TCP when the answer does not
// fit, and without EDNS0 when the server does not know that.
func (c *Client) exchange(ctx context.Context, q question, wire string, s server, limit time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m := new(dns.Msg)
	m.SetQuestion(wire, q.kind)
	m.AuthenticatedData = true // RFC 6840 section 5.7: we understand the AD bit
	m.SetEdns0(udpSize, false)
	msg, err := c.send(ctx, m, s, "udp")
	if err == nil && (msg.Rcode == dns.RcodeFormatError || msg.Rcode == dns.RcodeNotImplemented) {
		m.Extra = nil // RFC 6891 section 7
		msg, err = c.send(ctx, m, s, "udp")
	}
	if err == nil && msg.Truncated {
		msg, err = c.send(ctx, m, s, "tcp")
		if err == nil && msg.Truncated {
			return nil, errors.New("answer is cut short")
		}
	}
	return msg, err
}

// send sends one message and checks that what comes back answers it.
func (c *Client) send(ctx context.Context, m *dns.Msg, s server, network string) (*dns.Msg, error) {
	c.queries.Add(1)
	m.Id = dns.Id()
	client := dns.Client{Net: network, UDPSize: udpSize}
	if deadline, ok := ctx.Deadline(); ok {
		client.Timeout = time.Until(deadline)
	}
	msg, _, err := client.ExchangeContext(ctx, m, s.address)
	if err != nil {
		return nil, err
	}
	if !answers(msg, &m.Question[0]) {
		return nil, errors.New("answer to another question")
	}
	return msg, nil
}

// answers reports whether msg is an answer to q and to nothing else (RFC 5452
// section 9.1). Only a failure may come without the question: servers that
// cannot read one send none back, and nothing is learnt from it but that.
func answers(msg *dns.Msg, q *dns.Question) bool {
	switch {
	case !msg.Response || msg.Opcode != dns.OpcodeQuery:
		return false
	case len(msg.Question) == 0:
		return msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError
	case len(msg.Question) > 1:
		return false
	}
	got := msg.Question[0]
	return got.Qtype == q.Qtype && got.Qclass == q.Qclass && strings.EqualFold(got.Name, q.Name)
}

// read makes an entry of an answer.
func read(q question, wire string, msg *dns.Msg, authentic bool) *entry {
	owner, ttl, ok := follow(q, wire, msg)
	e := &entry{authentic: authentic}
	if ok && msg.Rcode == dns.RcodeSuccess {
		for _, rr := range msg.Answer {
			h := rr.Header()
			if h.Rrtype == q.kind && h.Class == dns.ClassINET && strings.EqualFold(h.Name, owner) {
				ttl = min(ttl, time.Duration(h.Ttl)*time.Second)
				e.add(rr)
			}
		}
	}
	if !ok {
		return &entry{err: fmt.Errorf("%w: %s: CNAME records lead nowhere", ErrTemporary, q), ttl: failureTTL}
	}
	if e.texts == nil && e.addrs == nil && e.mxs == nil {
		if msg.Rcode == dns.RcodeNameError && owner == wire {
			return &entry{err: fmt.Errorf("%w: %w: %s", ErrNotFound, ErrNoName, q), ttl: negativeTTL(msg), authentic: authentic}
		}
		return &entry{err: fmt.Errorf("%w: %s", ErrNotFound, q), ttl: negativeTTL(msg), authentic: authentic}
	}
	sortMX(e.mxs)
	e.ttl = max(ttl, 0)
	return e
}

// follow follows the CNAME records of an answer and returns the name at their
// end and the smallest TTL on the way. ok is false if they go in circles.
func follow(q question, wire string, msg *dns.Msg) (owner string, ttl time.Duration, ok bool) {
	owner, ttl = wire, maxTTL
	for range maxAliases {
		next := ""
		for _, rr := range msg.Answer {
			if c, is := rr.(*dns.CNAME); is && strings.EqualFold(c.Hdr.Name, owner) {
				next = c.Target
				ttl = min(ttl, time.Duration(c.Hdr.Ttl)*time.Second)
				break
			}
		}
		if next == "" || q.kind == dns.TypeCNAME {
			return owner, ttl, true
		}
		owner = next
	}
	return "", 0, false
}

// negativeTTL returns how long "not found" may be kept: RFC 2308 section 5: the
// smaller of the SOA record's TTL and its MINIMUM, and not at all without one.
func negativeTTL(msg *dns.Msg) time.Duration {
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second, maxNegative)
		}
	}
	return 0
}

// add takes one record in.
func (e *entry) add(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.A:
		if a, ok := netip.AddrFromSlice(rr.A); ok {
			e.addrs = append(e.addrs, a.Unmap())
		}
	case *dns.AAAA:
		if a, ok := netip.AddrFromSlice(rr.AAAA); ok {
			e.addrs = append(e.addrs, a)
		}
	case *dns.MX:
		e.mxs = append(e.mxs, MX{rr.Preference, plainName(rr.Mx)})
	case *dns.PTR:
		e.texts = append(e.texts, plainName(rr.Ptr))
	case *dns.TXT:
		e.texts = append(e.texts, unescape(strings.Join(rr.Txt, "")))
	}
}

// plainName returns a name without trailing dot. Its escapes stay: a dot or a
// space inside a label must not become one that separates.
func plainName(name string) string { return strings.TrimSuffix(name, ".") }

// unescape undoes the escapes that miekg/dns writes into TXT strings: \DDD and
// \c.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' && i+1 < len(s) {
			i++
			c = s[i]
			if i+2 < len(s) && isDigit(c) && isDigit(s[i+1]) && isDigit(s[i+2]) {
				c = (c-'0')*100 + (s[i+1]-'0')*10 + s[i+2] - '0'
				i += 2
			}
		}
		b = append(b, c)
	}
	return string(b)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
