package dmarc

import (
	"errors"
	"slices"
	"testing"

	"postern/dns"
)

func TestDiscover(t *testing.T) {
	zone, err := dns.ParseZone([]byte(`{
		"_dmarc.example.org": {"TXT": ["v=DMARC1; p=reject; rua=mailto:a@example.org,mailto:b@reports.example,mailto:c@yes.example,mailto:d@sub.example.org,https://x.example/"]},
		"example.org._report._dmarc.yes.example": {"TXT": ["v=DMARC1"]},
		"example.org._report._dmarc.reports.example": {"TXT": ["nothing"]},
		"_dmarc.broken.example": {"!": "servfail"},
		"_dmarc.far.example": {"TXT": ["v=DMARC1; p=none; rua=mailto:a@broken.example"]},
		"_dmarc.late.example": {"TXT": ["v=DMARC1; p=none; rua=mailto:a@slow.example"]},
		"late.example._report._dmarc.slow.example": {"!": "servfail"}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Discover(t.Context(), zone, "News.Example.org")
	if err != nil || r == nil || r.Domain != "example.org" {
		t.Fatalf("%+v, %v", r, err)
	}
	if bad, err := r.Unauthorised(t.Context(), zone); err != nil || !slices.Equal(bad, []string{"reports.example"}) {
		t.Errorf("%q, %v", bad, err)
	}
	if r, err := Discover(t.Context(), zone, "none.example"); r != nil || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Discover(t.Context(), zone, "broken.example"); !errors.Is(err, dns.ErrTemporary) {
		t.Error(err)
	}
	for _, domain := range []string{"far.example", "late.example"} {
		r, err := Discover(t.Context(), zone, domain)
		if err != nil {
			t.Fatal(err)
		}
		if bad, err := r.Unauthorised(t.Context(), zone); err == nil {
			t.Errorf("%s: %q", domain, bad)
		}
	}
}
