package gateway

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters"
	"postern/filters/standard"
	"postern/mail"
	"postern/policy"
)

// TestLendKey checks with which of its domain's keys the gateway seals: with RSA,
// wherever it stands, since there is only one seal and not everybody knows
// Ed25519.
func TestLendKey(t *testing.T) {
	w := newWorld(t, plan{})
	tables := map[string]string{}
	for _, kind := range []string{dkim.RSA, dkim.Ed25519} {
		_, pem, err := dkim.NewKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("LEND_"+kind, string(pem))
		tables[kind] = "[[filter.dkimsign.keys]]\nselector = \"" + kind + "\"\nkey = { env = \"LEND_" + kind + "\" }\n"
	}
	for _, test := range []struct{ keys, selector string }{
		{tables[dkim.Ed25519] + tables[dkim.RSA], dkim.RSA},
		{tables[dkim.RSA] + tables[dkim.Ed25519], dkim.RSA},
		{tables[dkim.Ed25519], dkim.Ed25519},
	} {
		p, err := policy.Load("policy.toml", []byte(w.policyText(noRules)+"\n[filter.arc]\nseal = true\n"+test.keys), policy.LoadOptions{Filters: append(testFilters(&w.opened)[:3], standard.Filters...)})
		if err != nil {
			t.Fatal(err)
		}
		st, err := NewState(p, mail.Options{}, &filters.Env{Resolver: &dns.Zone{}, Now: time.Now, Log: slog.New(slog.DiscardHandler), Hostname: p.Site.Hostname, Domains: p.Site.Domains})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		c, _ := p.Chain().Checker("arc")
		seals, ok := c.(interface {
			SealNow(context.Context, *mail.Transaction, filters.Results, *mail.Message) ([]string, error)
		})
		if !ok {
			t.Fatalf("%T", c)
		}
		tx := &mail.Transaction{Session: &mail.Session{}, Message: mail.ParseBytes([]byte("From: a@partner.example\r\n\r\nhello\r\n"), mail.Options{}), At: time.Now()}
		fields, err := seals.SealNow(t.Context(), tx, nil, tx.Message)
		if err != nil || len(fields) != 3 || !strings.Contains(fields[0], " a="+test.selector+"-sha256;") || !strings.Contains(fields[0], "s="+test.selector+";") {
			t.Errorf("%s: %q, %v", test.selector, fields, err)
		}
	}
}
