package dns_test

import (
	"errors"
	"testing"

	"postern/dns"
	"postern/dns/dnstest"
)

// TestNoName checks that a name that does not exist is told from one that has no
// such record (RFC 8020), by the fake and by the client.
func TestNoName(t *testing.T) {
	z, err := dns.ParseZone([]byte(`{
		"a.example": {"A": ["192.0.2.1"]}, "x.below.example": {"A": ["192.0.2.1"]}, "empty.example": {"!": "nodata"},
		"alias.example": {"CNAME": ["gone.example"]}, "down.example": {"!": "servfail"}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	client := dns.NewClient(dns.ClientOptions{Servers: []string{dnstest.Start(t, z).Addr}})
	for name, r := range map[string]dns.Resolver{"zone": z, "client": client} {
		for domain, want := range map[string]bool{
			"gone.example": true, "x.a.example": true, "a.example": false, "below.example": false, "empty.example": false, "alias.example": false, "down.example": false,
		} {
			for range 2 {
				_, err := r.TXT(t.Context(), domain)
				if errors.Is(err, dns.ErrNoName) != want || want && !errors.Is(err, dns.ErrNotFound) {
					t.Errorf("%s: %s: %v", name, domain, err)
				}
			}
		}
	}
}
