package spf

import (
	"context"
	"errors"
	"net"
	"net/netip"

	other "blitiri.com.ar/go/spf"

	"postern/dns"
)

// otherCheck answers a test with another implementation of SPF.
func otherCheck(z suiteZone, test scenarioTest) string {
	result, _ := other.CheckHostWithSender(net.ParseIP(test.Host), test.Helo, test.MailFrom, other.WithResolver(otherResolver{z}))
	return string(result)
}

// An otherResolver lets it look up in a suiteZone.
type otherResolver struct{ z suiteZone }

// netError makes the error that it expects.
func netError(name string, err error) error {
	if err == nil {
		return nil
	}
	return &net.DNSError{Err: err.Error(), Name: name, IsNotFound: errors.Is(err, dns.ErrNotFound), IsTemporary: errors.Is(err, dns.ErrTemporary)}
}

func (r otherResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a, err := r.z.TXT(ctx, name)
	return a.Records, netError(name, err)
}

func (r otherResolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	a, err := r.z.MX(ctx, name)
	var all []*net.MX
	for _, mx := range a.Records {
		all = append(all, &net.MX{Host: mx.Host})
	}
	return all, netError(name, err)
}

func (r otherResolver) LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error) {
	a, err := r.z.Addrs(ctx, name)
	var all []net.IPAddr
	for _, addr := range a.Records {
		all = append(all, net.IPAddr{IP: addr.AsSlice()})
	}
	return all, netError(name, err)
}

func (r otherResolver) LookupAddr(ctx context.Context, text string) ([]string, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return nil, err
	}
	a, err := r.z.PTR(ctx, addr)
	return a.Records, netError(text, err)
}
