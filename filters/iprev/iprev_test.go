package iprev

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"postern/dns"
	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

func env(t testing.TB) *filters.Env {
	t.Helper()
	var many []string
	for i := range 12 {
		many = append(many, fmt.Sprintf("%q", fmt.Sprintf("n%d.example", i)))
	}
	z, err := dns.ParseZone([]byte(`{
		"1.2.0.192.in-addr.arpa": {"PTR": ["mail.example"]},
		"mail.example": {"A": ["192.0.2.99", "192.0.2.1"], "AAAA": ["2001:db8::1"]},
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa": {"PTR": ["mail.example"]},
		"2.2.0.192.in-addr.arpa": {"PTR": ["nowhere.example", "mail.example"]},
		"3.2.0.192.in-addr.arpa": {"PTR": ["down.example", "mail.example"]},
		"4.2.0.192.in-addr.arpa": {"!": "servfail"},
		"5.2.0.192.in-addr.arpa": {"PTR": ["down.example", "five.example"]},
		"five.example": {"A": ["192.0.2.5"]},
		"down.example": {"!": "timeout"},
		"7.2.0.192.in-addr.arpa": {"PTR": [` + strings.Join(many, ",") + `]},
		"n11.example": {"A": ["192.0.2.7"]}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	return &filters.Env{Resolver: z}
}

func TestConformance(t *testing.T) {
	filterstest.Run(t, Filter, filterstest.Options{Env: env(t), Settings: `trusted_relays = ["192.0.2.0/24"]`, Bad: map[string]string{`trusted_relays = ["x"]`: "trusted_relays"}})
	t.Run("no resolver", func(t *testing.T) { filterstest.Run(t, Filter, filterstest.Options{}) })
}

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

func TestFilter(t *testing.T) {
	for _, c := range []struct{ client, header, symbol, value, evidence string }{
		{"192.0.2.1", "", "IPREV_PASS", "pass", "192.0.2.1: mail.example"},
		{"::ffff:192.0.2.1", "", "IPREV_PASS", "pass", "192.0.2.1: mail.example"},
		{"2001:db8::1", "", "IPREV_PASS", "pass", "2001:db8::1: mail.example"},
		{"192.0.2.2", "", "IPREV_FAIL", "fail", "192.0.2.2: no way back from nowhere.example, mail.example"},
		{"192.0.2.3", "", "IPREV_TEMPERROR", "temperror", ""},
		{"192.0.2.4", "", "IPREV_TEMPERROR", "temperror", ""},
		{"192.0.2.5", "", "IPREV_PASS", "pass", "192.0.2.5: five.example"},
		{"192.0.2.6", "", "IPREV_NONE", "permerror", "192.0.2.6: it has no name"},
		{"192.0.2.7", "", "IPREV_FAIL", "fail", ""}, // the twelfth name is not tried
		{"198.51.100.10", "Received: from x (x [192.0.2.1]) by relay; Mon\n", "IPREV_PASS", "pass", "192.0.2.1: mail.example"},
		{"198.51.100.10", "", "", "", ""},
	} {
		tx := filterstest.Transaction(filterstest.Message(c.header+"From: a@b.example\n\nx\n", mail.Options{}))
		tx.Session.Client = netip.AddrPortFrom(netip.MustParseAddr(c.client), 25)
		checker := filterstest.New(t, Filter, filterstest.Options{Env: env(t), Settings: `trusted_relays = ["198.51.100.10"]`})
		v := filterstest.Check(t, checker, tx)
		if c.symbol == "" {
			if len(v.Symbols)+len(v.Auth) > 0 {
				t.Errorf("%s: %+v", c.client, v)
			}
			continue
		}
		if len(v.Symbols) != 1 || len(v.Auth) != 1 {
			t.Fatalf("%s: %+v", c.client, v)
		}
		p := v.Auth[0].Properties[0]
		if v.Symbols[0].Name != c.symbol || v.Auth[0].Value != c.value || p.Type != "policy" || p.Name != "iprev" || !strings.HasPrefix(v.Symbols[0].Evidence, p.Value+": ") {
			t.Errorf("%s: %+v", c.client, v)
		}
		if c.evidence != "" && v.Symbols[0].Evidence != c.evidence {
			t.Errorf("%s: evidence %q", c.client, v.Symbols[0].Evidence)
		}
		tx.Session.Direction = mail.Outbound
		if v := filterstest.Check(t, checker, tx); len(v.Symbols) > 0 {
			t.Errorf("%s: our own client is checked", c.client)
		}
	}
}
