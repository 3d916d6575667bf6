package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"

	"postern/dns"
	"postern/mail"
)

// A route is the way of some recipients: entries of Hop.To in the order in
// which they are tried.
type route struct {
	to      []int
	entries []string
	domain  mail.Path // whose MX is meant by "mx": only the Domain counts
}

// A place is a host that takes mail, before its name is looked up.
type place struct {
	network, host, port string
	entry               string // "host:port" as written in Hop.To, or empty
	mx                  bool   // found in DNS, so that others decide where it leads
	as                  string
}

// A target is an address to connect to.
type target struct {
	network, address string // for Dialer
	key              string // "10.0.5.10:25", "unix:/path": names it in pools and back-off
	host             string // the name to verify
	as               string // the name in the label
}

// label returns the target as it stands in Outcome.Hop.
func (t target) label() string {
	if t.network == "unix" {
		return t.as + "[" + t.address + "]"
	}
	host, port, err := net.SplitHostPort(t.address)
	if err != nil {
		return t.as + "[" + t.address + "]"
	}
	return t.as + "[" + host + "]:" + port
}

// routes sorts the recipients by the way they go: all together, or by domain
// where MX records decide.
func (d *delivery) routes(to []int) []route {
	entries := d.entries()
	if len(to) == 0 || len(entries) == 0 {
		return nil
	}
	byDomain := false
	for _, e := range entries {
		byDomain = byDomain || e == "mx"
	}
	if !byDomain {
		return []route{{to: to, entries: entries}}
	}
	var rs []route
	at := map[string]int{}
	for _, i := range to {
		domain := mail.NormalDomain(d.m.To[i].Domain)
		n, ok := at[domain]
		if !ok {
			n = len(rs)
			at[domain] = n
			rs = append(rs, route{entries: entries, domain: mail.Path{Domain: domain}})
		}
		rs[n].to = append(rs[n].to, i)
	}
	return rs
}

// entries returns Hop.To, for round-robin beginning with another one each time.
func (d *delivery) entries() []string {
	to := d.hop.To
	if d.hop.Balance != "round-robin" || len(to) < 2 {
		return to
	}
	turn, ok := d.turns.Load(d.hop.Name)
	if !ok {
		turn, _ = d.turns.LoadOrStore(d.hop.Name, new(atomic.Uint32))
	}
	k := int(turn.(*atomic.Uint32).Add(1)-1) % len(to)
	return append(append(make([]string, 0, len(to)), to[k:]...), to[:k]...)
}

// places returns the hosts that one entry of Hop.To means.
func (d *delivery) places(ctx context.Context, entry string, domain mail.Path) ([]place, *failure) {
	if entry == "mx" {
		return d.exchanges(ctx, domain)
	}
	if path, ok := strings.CutPrefix(entry, "unix:"); ok {
		return []place{{network: "unix", host: path, as: d.hop.Name}}, nil
	}
	host, port, err := net.SplitHostPort(entry)
	if err != nil {
		host, port, entry = strings.Trim(entry, "[]"), "25", ""
	}
	return []place{{network: "tcp", host: host, port: port, entry: entry, as: d.hop.Name}}, nil
}

// targets looks the addresses of a place up.
func (d *delivery) targets(ctx context.Context, p place) ([]target, *failure) {
	if p.network == "unix" {
		return []target{{"unix", p.host, "unix:" + p.host, "", p.as}}, nil
	}
	if ip, err := netip.ParseAddr(p.host); err == nil {
		if p.entry != "" && ip.Is4() {
			return []target{{"tcp", p.entry, p.entry, p.host, p.as}}, nil // as it is written
		}
		return d.usable(p, []netip.Addr{ip})
	}
	if d.o.Resolver == nil {
		address := net.JoinHostPort(p.host, p.port)
		return []target{{"tcp", address, address, p.host, p.as}}, nil
	}
	answer, err := d.o.Resolver.Addrs(ctx, p.host)
	switch {
	case errors.Is(err, dns.ErrNotFound) && p.mx:
		return nil, &failure{replyNoAddr, fmt.Errorf("look up %s: %w", p.host, err)}
	case err != nil:
		return nil, &failure{replyNoDNS, fmt.Errorf("look up %s: %w", p.host, err)}
	}
	return d.usable(p, answer.Records)
}

// usable makes targets of a place's addresses. Those that only this host can
// mean are left out where others' DNS records lead there: they would let a
// stranger send mail to our own trusted ports.
func (d *delivery) usable(p place, addrs []netip.Addr) ([]target, *failure) {
	ts := make([]target, 0, len(addrs))
	for _, a := range addrs {
		a = a.Unmap()
		if p.mx && !d.o.LoopbackMX && (a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast()) {
			continue
		}
		address := net.JoinHostPort(a.String(), p.port)
		ts = append(ts, target{"tcp", address, address, p.host, p.as})
	}
	if len(ts) == 0 {
		return nil, &failure{replyNoAddr, fmt.Errorf("look up %s: no address that mail may go to", p.host)}
	}
	return ts, nil
}

// exchanges returns the mail exchangers of a domain in the order in which they
// are to be tried (RFC 5321 section 5.1).
func (d *delivery) exchanges(ctx context.Context, domain mail.Path) ([]place, *failure) {
	port := strconv.Itoa(d.o.MXPort)
	if ip, ok := domain.Literal(); ok {
		host := ip.String()
		return []place{{network: "tcp", host: host, port: port, mx: true, as: host}}, nil
	}
	if domain.Domain == "" || domain.Domain[0] == '[' {
		return nil, &failure{replyNoHost, fmt.Errorf("%w: no domain to look up: %q", errUnsayable, domain.Domain)}
	}
	if d.o.Resolver == nil {
		return nil, &failure{replyNoDNS, errors.New("look up MX: no resolver")}
	}
	answer, err := d.o.Resolver.MX(ctx, domain.Domain)
	if errors.Is(err, dns.ErrNotFound) {
		return d.implicit(ctx, domain.Domain, port)
	}
	if err != nil {
		return nil, &failure{replyNoDNS, fmt.Errorf("look up MX of %s: %w", domain.Domain, err)}
	}
	// RFC 8689 section 4.2.1: the way to the server must be authenticated too.
	if d.m.requireTLS() && !answer.Authentic {
		return nil, &failure{replyNoReq, fmt.Errorf("MX records of %s are not authenticated", domain.Domain)}
	}
	// RFC 7505 section 3: a lone MX with an empty host says that no mail is taken.
	if len(answer.Records) == 1 && trimDot(answer.Records[0].Host) == "" {
		return nil, &failure{replyNull, fmt.Errorf("%s has a null MX", domain.Domain)}
	}
	mxs := d.order(answer.Records)
	if len(mxs) == 0 {
		return nil, &failure{replyLoop, fmt.Errorf("MX records of %s lead to %s", domain.Domain, d.o.Hostname)}
	}
	ps := make([]place, len(mxs))
	for i, mx := range mxs {
		ps[i] = place{network: "tcp", host: trimDot(mx.Host), port: port, mx: true, as: trimDot(mx.Host)}
	}
	return ps, nil
}

func trimDot(host string) string { return strings.TrimSuffix(host, ".") }

// implicit handles a domain without MX records: the domain itself is the mail
// server, if it has an address.
func (d *delivery) implicit(ctx context.Context, domain, port string) ([]place, *failure) {
	_, err := d.o.Resolver.Addrs(ctx, domain)
	switch {
	case errors.Is(err, dns.ErrNotFound):
		return nil, &failure{replyNoHost, fmt.Errorf("look up %s: %w", domain, err)}
	case err != nil:
		return nil, &failure{replyNoDNS, fmt.Errorf("look up %s: %w", domain, err)}
	case strings.EqualFold(domain, trimDot(d.o.Hostname)):
		return nil, &failure{replyLoop, fmt.Errorf("%s is this host", domain)}
	case d.m.requireTLS():
		return nil, &failure{replyNoReq, fmt.Errorf("no authenticated MX records of %s", domain)}
	}
	return []place{{network: "tcp", host: domain, port: port, mx: true, as: domain}}, nil
}

// order sorts MX records by preference, equal ones by chance. Where one of them
// is this host, those that are no better than it are left out: mail sent there
// would come back (RFC 5321 section 5.1).
func (d *delivery) order(mxs []dns.MX) []dns.MX {
	worst := 1 << 16
	for _, mx := range mxs {
		if strings.EqualFold(trimDot(mx.Host), trimDot(d.o.Hostname)) {
			worst = min(worst, int(mx.Preference))
		}
	}
	kept := make([]dns.MX, 0, len(mxs))
	for _, mx := range mxs {
		if int(mx.Preference) < worst && trimDot(mx.Host) != "" {
			kept = append(kept, mx)
		}
	}
	for i := len(kept) - 1; i > 0; i-- {
		j := int(d.o.Rand() % uint64(i+1))
		kept[i], kept[j] = kept[j], kept[i]
	}
	sort.SliceStable(kept, func(i, j int) bool { return kept[i].Preference < kept[j].Preference })
	return kept
}
