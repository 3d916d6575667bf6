package gateway

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/dns"
	"postern/filters"
	"postern/filters/standard"
	"postern/policy"
)

// A counted resolver counts the questions.
type counted struct {
	dns.Resolver
	n atomic.Int32
}

func (c *counted) TXT(ctx context.Context, name string) (dns.Answer[string], error) {
	c.n.Add(1)
	return c.Resolver.TXT(ctx, name)
}

// TestDNSBudget: what a message makes us look up is bounded over all filters.
// Beyond it their verdict is temperror; no filter breaks, and the author's domain
// is still asked for its policy.
func TestDNSBudget(t *testing.T) {
	z, err := dns.ParseZone([]byte(`{
		"sender.example": {"TXT": ["v=spf1 include:a.example -all"]}, "a.example": {"TXT": ["v=spf1 include:b.example -all"]},
		"b.example": {"TXT": ["v=spf1 include:c.example -all"]}, "c.example": {"TXT": ["v=spf1 ip4:192.0.2.7 -all"]},
		"_dmarc.sender.example": {"TXT": ["v=DMARC1; p=reject"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		lookups    string
		spf, dmarc string
	}{{"2", "SPF_TEMPERROR", "DMARC_TEMPERROR"}, {"100", "SPF_PASS", "DMARC_PASS"}} {
		w := newWorld(t, plan{replace: [2]string{"[queue]", "[dns]\nbudget = { lookups = " + c.lookups + " }\n[queue]"}})
		text := w.policyText("[filter.spf]\nhelo = false\n" + noRules)
		p, err := policy.Load("policy.toml", []byte(text), policy.LoadOptions{Filters: append(testFilters(&w.opened)[:3], standard.Filters...)})
		if err != nil {
			t.Fatal(err)
		}
		r := &counted{Resolver: z}
		st, err := NewState(p, p.Chain().ParseOptions(), &filters.Env{Resolver: r, Now: time.Now, Log: slog.New(slog.DiscardHandler), Hostname: p.Site.Hostname, Domains: p.Site.Domains})
		if err != nil {
			t.Fatal(err)
		}
		w.g.Swap(st)
		if s := w.send(letter{}); !s.data[0].OK() {
			t.Errorf("%s look-ups: told %s", c.lookups, s.one())
		}
		var seen []string
		for _, res := range w.outcome.Results {
			if res.Err != nil {
				t.Errorf("%s look-ups: %v", c.lookups, res.Err)
			}
			for _, s := range res.Verdict.Symbols {
				seen = append(seen, s.Name)
			}
		}
		if !slices.Contains(seen, c.spf) || !slices.Contains(seen, c.dmarc) {
			t.Errorf("%s look-ups: seen %q", c.lookups, seen)
		}
		if got := w.mailLog.String(); !strings.Contains(got, " spf="+strings.ToLower(c.spf[4:])+" dkim=none dmarc="+strings.ToLower(c.dmarc[6:])) {
			t.Errorf("%s look-ups: the mail log says %s", c.lookups, got)
		}
		t.Logf("%s look-ups allowed: %d asked for TXT, %q", c.lookups, r.n.Load(), seen)
	}
}
