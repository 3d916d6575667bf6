package spf

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/dns"
	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

// zone is what the tests of the filter look up.
const zone = `{
	"sender.example":   {"TXT": ["other", "v=spf1 ip4:192.0.2.0/24 include:more.example -all exp=why.sender.example"]},
	"more.example":     {"TXT": ["v=spf1 ip6:2001:db8::/32 ?all"]},
	"why.sender.example": {"TXT": ["%{i} may not: %{l} \u202e"]},
	"plain.sender.example": {"TXT": ["v=spf1 -all exp=text.example"]},
	"text.example":     {"TXT": ["see https://%{o}/%{C}?s=%{S} %{r}"]},
	"helo.example":     {"TXT": ["v=spf1 a -all"], "A": ["192.0.2.7"]},
	"client.example":   {"TXT": ["v=spf1 a -all"], "A": ["203.0.113.1"]},
	"soft.example":     {"TXT": ["v=spf1 ~all"]},
	"broken.example":   {"TXT": ["v=spf1 ip4:192.0.2.0/24 typo -all"]},
	"down.example":     {"!": "servfail"},
	"partly.example":   {"TXT": ["v=spf1 include:down.example -all"]},
	"twice.example":    {"TXT": ["v=spf1 -all", "v=spf1 +all"]}
}`

func env(t testing.TB) *filters.Env {
	t.Helper()
	z, err := dns.ParseZone([]byte(zone))
	if err != nil {
		t.Fatal(err)
	}
	return &filters.Env{Resolver: z, Hostname: "mx.example.org", Domains: []string{"example.org"}}
}

func TestConformance(t *testing.T) {
	filterstest.Run(t, Filter, filterstest.Options{
		Env: env(t), Settings: `trusted_relays = ["192.0.2.0/24"]`,
		Bad: map[string]string{"void_lookups = -1": "void_lookups", "trusted_relays = [\"x\"]": "trusted_relays"},
	})
	t.Run("no resolver", func(t *testing.T) { filterstest.Run(t, Filter, filterstest.Options{}) })
}

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

// transaction returns one from a client for a reverse-path.
func transaction(t testing.TB, client, helo, from, header string) *mail.Transaction {
	t.Helper()
	tx := filterstest.Transaction(filterstest.Message(header+"From: a@b.example\n\nx\n", mail.Options{}))
	path, err := mail.ParsePath(from, true)
	if err != nil {
		t.Fatal(err)
	}
	tx.ReversePath = path
	s := *tx.Session
	s.Client, s.Helo = netip.AddrPortFrom(netip.MustParseAddr(client), 25), helo
	tx.Session = &s
	return tx
}

func TestFilter(t *testing.T) {
	const relayed = "Received: from helo.example (x [192.0.2.7]) by relay; Mon\n"
	for _, c := range []struct {
		name, settings, client, helo, from, header string
		symbols, results                           string
		evidence                                   string
	}{
		{name: "pass", client: "192.0.2.7", helo: "helo.example", from: "alice@sender.example",
			symbols: "SPF_PASS", results: "pass smtp.mailfrom=sender.example",
			evidence: "192.0.2.7 for sender.example: ip4:192.0.2.0/24"},
		{name: "mapped address", client: "::ffff:192.0.2.7", helo: "HELO.example.", from: "alice@SENDER.example",
			symbols: "SPF_PASS", results: "pass smtp.mailfrom=sender.example"},
		{name: "HELO passes", client: "::ffff:192.0.2.7", helo: "HELO.example.", from: "a@soft.example",
			symbols: "SPF_SOFTFAIL SPF_HELO_PASS", results: "softfail smtp.mailfrom=soft.example; pass smtp.helo=helo.example"},
		{name: "IPv6", client: "2001:db8::7", helo: "[IPv6:2001:db8::7]", from: "alice@sender.example",
			symbols: "SPF_PASS", results: "pass smtp.mailfrom=sender.example"},
		{name: "IPv6 in HELO", client: "2001:db8::7", helo: "[IPv6:2001:db8::7]", from: "a@soft.example",
			symbols: "SPF_SOFTFAIL SPF_HELO_NONE", results: "softfail smtp.mailfrom=soft.example; none smtp.helo=[ipv6:2001:db8::7]"},
		{name: "fail", client: "203.0.113.9", helo: "helo.example", from: "alice@sender.example",
			symbols: "SPF_FAIL SPF_HELO_FAIL", results: "fail smtp.mailfrom=sender.example; fail smtp.helo=helo.example",
			evidence: "203.0.113.9 for sender.example: -all"},
		{name: "explanation", client: "203.0.113.9", helo: "x", from: `"o b"@plain.sender.example`, settings: "helo = false",
			symbols: "SPF_FAIL", results: "fail smtp.mailfrom=plain.sender.example",
			evidence: `203.0.113.9 for plain.sender.example: -all; plain.sender.example says: see https://plain.sender.example/203.0.113.9?s=%22o%20b%22%40plain.sender.example mx.example.org`},
		{name: "no explanation wanted", client: "203.0.113.9", helo: "x", from: "a@plain.sender.example", settings: "helo = false\nexplain = false",
			symbols: "SPF_FAIL", results: "fail smtp.mailfrom=plain.sender.example", evidence: "203.0.113.9 for plain.sender.example: -all"},
		{name: "null reverse-path", client: "192.0.2.7", helo: "helo.example", from: "",
			symbols: "SPF_PASS SPF_HELO_PASS", results: "pass smtp.helo=helo.example"},
		{name: "null reverse-path fails", client: "203.0.113.9", helo: "helo.example", from: "",
			symbols: "SPF_FAIL SPF_HELO_FAIL", results: "fail smtp.helo=helo.example"},
		{name: "softfail and nothing", client: "203.0.113.9", helo: "nothing.example", from: "a@soft.example",
			symbols: "SPF_SOFTFAIL SPF_HELO_NONE", results: "softfail smtp.mailfrom=soft.example; none smtp.helo=nothing.example"},
		{name: "errors", client: "203.0.113.9", helo: "broken.example", from: "a@partly.example",
			symbols: "SPF_TEMPERROR SPF_HELO_PERMERROR", results: "temperror smtp.mailfrom=partly.example; permerror smtp.helo=broken.example"},
		{name: "two records", client: "203.0.113.9", helo: "down.example", from: "a@twice.example",
			symbols: "SPF_PERMERROR SPF_HELO_TEMPERROR", results: "permerror smtp.mailfrom=twice.example; temperror smtp.helo=down.example"},
		{name: "odd HELO", client: "203.0.113.9", helo: "a) ; dmarc=pass (\r\n", from: "a@soft.example",
			symbols: "SPF_SOFTFAIL SPF_HELO_NONE", results: "softfail smtp.mailfrom=soft.example; none smtp.helo=a) ; dmarc=pass (\r\n"},
		{name: "at sign in quotes", client: "203.0.113.9", helo: "x", from: `"a@sender.example"@soft.example`, settings: "helo = false",
			symbols: "SPF_SOFTFAIL", results: "softfail smtp.mailfrom=soft.example"},
		{name: "address literal", client: "203.0.113.9", helo: "x", from: `a@[203.0.113.9]`, settings: "helo = false",
			symbols: "SPF_NONE", results: "none smtp.mailfrom=[203.0.113.9]"},
		{name: "behind a relay", client: "198.51.100.10", helo: "relay", from: "alice@sender.example", header: relayed, settings: `trusted_relays = ["198.51.100.10"]`,
			symbols: "SPF_PASS", results: "pass smtp.mailfrom=sender.example",
			evidence: "192.0.2.7 for sender.example: ip4:192.0.2.0/24 (behind 1 trusted relays)"},
		{name: "not behind a relay", client: "198.51.100.11", helo: "x", from: "alice@sender.example", header: relayed, settings: "trusted_relays = [\"198.51.100.10\"]\nhelo = false",
			symbols: "SPF_FAIL", results: "fail smtp.mailfrom=sender.example"},
		{name: "a relay that tells nothing", client: "198.51.100.10", helo: "relay", from: "alice@sender.example", settings: "trusted_relays = [\"198.51.100.10\"]\nhelo = false",
			symbols: "SPF_NONE", results: "none smtp.mailfrom=sender.example"},
	} {
		checker := filterstest.New(t, Filter, filterstest.Options{Env: env(t), Settings: c.settings})
		v := filterstest.Check(t, checker, transaction(t, c.client, c.helo, c.from, c.header))
		if got := strings.Join(filterstest.Names(v), " "); got != c.symbols {
			t.Errorf("%s: %s, want %s", c.name, got, c.symbols)
		}
		var all []string
		for _, r := range v.Auth {
			p := r.Properties[0]
			all = append(all, r.Value+" "+p.Type+"."+p.Name+"="+p.Value)
			if r.Method != "spf" || (r.Value == Pass) != (r.Reason == "") {
				t.Errorf("%s: %+v", c.name, r)
			}
		}
		if diff := cmp.Diff(c.results, strings.Join(all, "; ")); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if c.evidence != "" && v.Symbols[0].Evidence != c.evidence {
			t.Errorf("%s: evidence %q", c.name, v.Symbols[0].Evidence)
		}
	}
}

func TestOwnClients(t *testing.T) {
	checker := filterstest.New(t, Filter, filterstest.Options{Env: env(t)})
	tx := transaction(t, "203.0.113.9", "x", "alice@sender.example", "")
	tx.Session.Direction = mail.Outbound
	if v := filterstest.Check(t, checker, tx); len(v.Symbols)+len(v.Auth) > 0 {
		t.Errorf("our own client is checked: %+v", v)
	}
	offline := filterstest.New(t, Filter, filterstest.Options{Env: &filters.Env{Offline: true}})
	if v := filterstest.Check(t, offline, transaction(t, "203.0.113.9", "x", "alice@sender.example", "")); len(v.Symbols) > 0 {
		t.Errorf("a test of the policy looks up: %+v", v)
	}
}

func TestReceivedSPF(t *testing.T) {
	checker := filterstest.New(t, Filter, filterstest.Options{Env: env(t)}).(*Checker)
	for _, c := range []struct{ helo, from, want string }{
		{"helo.example", "alice@sender.example", "Received-SPF: pass identity=mailfrom; client-ip=192.0.2.7;\r\n helo=\"helo.example\"; envelope-from=\"alice@sender.example\";\r\n receiver=\"mx.example.org\";\r\n"},
		{"a\r\nX: y", "", "Received-SPF: none identity=helo; client-ip=192.0.2.7; helo=\"a??X: y\";\r\n envelope-from=\"\"; receiver=\"mx.example.org\";\r\n"},
		{"helo.example", `"a\"b"@sender.example`, "Received-SPF: pass identity=mailfrom; client-ip=192.0.2.7;\r\n helo=\"helo.example\"; envelope-from=\"\\\"a\\\\\\\"b\\\"@sender.example\";\r\n receiver=\"mx.example.org\";\r\n"},
	} {
		tx := transaction(t, "192.0.2.7", c.helo, c.from, "")
		v := filterstest.Check(t, checker, tx)
		m, err := checker.Rewrite(t.Context(), filters.RewriteInput{Tx: tx, Message: tx.Message, Results: filters.Results{{Filter: "spf", Verdict: v}}})
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(m.Reader())
		if diff := cmp.Diff(c.want+"From: a@b.example\r\n\r\nx\r\n", string(text)); diff != "" {
			t.Errorf("%q: %s", c.helo, diff)
		}
		if same, err := checker.Rewrite(t.Context(), filters.RewriteInput{Tx: tx, Message: tx.Message}); err != nil || same != tx.Message {
			t.Errorf("without a result: %v, %v", same, err)
		}
	}
}

func TestRecordErrors(t *testing.T) {
	for _, bad := range []string{
		"v=spf1 all:x", "v=spf1 a:", "v=spf1 a:x", "v=spf1 a:.", "v=spf1 a/33", "v=spf1 a/032", "v=spf1 a//129", "v=spf1 a/24//", "v=spf1 ip4:1.2.3", "v=spf1 ip4",
		"v=spf1 ip4:1.2.3.4/", "v=spf1 ip4:1.2.3.4/33", "v=spf1 ip4:1.2.3.4/+1", "v=spf1 ip4:::1", "v=spf1 ip6:1.2.3.4", "v=spf1 ip6:::1%eth0", "v=spf1 ip6:::1/0129",
		"v=spf1 include", "v=spf1 include:", "v=spf1 exists", "v=spf1 ptr:", "v=spf1 ++all", "v=spf1 -", "v=spf1 unknown", "v=spf1 exp=", "v=spf1 exp=a.example exp=a.example",
		"v=spf1 redirect=", "v=spf1 redirect=a.example redirect=b.example", "v=spf1 a:%{x}.example", "v=spf1 a:%{d0}", "v=spf1 a:%{dx}", "v=spf1 a:%{d", "v=spf1 a:%d.example", "v=spf1 a:%{}",
		"v=spf1 a:%{c}", "v=spf1 a:x%", "v=spf1 m=%{d", "v=spf1 m=\x80", "v=spf1 a:é.example", "v=spf1 a:example.1", "v=spf1 a:example.-x", "v=spf1 \tall", "v=spf1 a:%{@}.example",
	} {
		if r, err := parseRecord(bad); err == nil {
			t.Errorf("%q reads: %+v", bad, r)
		}
	}
	for _, good := range []string{
		"v=spf1", "V=SPF1 ALL", "v=spf1  -all ", "v=spf1 a/24//64 mx:x.example//0 a:x.example/0", "v=spf1 a:%{ir}.%{v}._spf.%{d2}", "v=spf1 m=%%%_%- unknown.x_-1=", "v=spf1 ip4:1.2.3.4/0 ip6:::/0",
		"v=spf1 a:x/y.example", "v=spf1 a:example.x-y.", "v=spf1 exists:%{l1r+-}.%{D999999999999999999999999}", "v=spf1 ptr PTR:x.example",
	} {
		if _, err := parseRecord(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// TestBudget checks what the worst records cost.
func TestBudget(t *testing.T) {
	names := map[string]*suiteName{}
	all := "v=spf1"
	for i := range 10 {
		host := string(rune('a'+i)) + ".example"
		n := &suiteName{}
		for range 10 {
			n.mx = append(n.mx, dns.MX{Host: "h." + host})
		}
		names[host] = n
		names["h."+host] = &suiteName{a: []string{"198.51.100.1"}}
		all += " mx:" + host
	}
	names["bad.example"] = &suiteName{txt: []string{all + " -all"}}
	names["loop.example"] = &suiteName{txt: []string{"v=spf1 include:loop.example redirect=loop.example"}}
	names["bomb.example"] = &suiteName{txt: []string{"v=spf1 exists:" + strings.Repeat("%{s}", 500) + ".example -all"}}
	for domain, want := range map[string]struct {
		most   int
		result string
	}{"bad.example": {maxAsked, Fail}, "loop.example": {maxTerms + 1, PermError}, "bomb.example": {1, PermError}} {
		counted := &counter{Resolver: suiteZone(names)}
		a := Check(t.Context(), counted, Query{Addr: netip.MustParseAddr("192.0.2.1"), Local: strings.Repeat("l", 60), Domain: domain, MaxVoid: 2})
		if a.Result != want.result || counted.n > want.most {
			t.Errorf("%s: %+v after %d questions", domain, a, counted.n)
		}
	}
}

// A counter counts the questions.
type counter struct {
	dns.Resolver
	n int
}

func (c *counter) TXT(ctx context.Context, name string) (dns.Answer[string], error) {
	c.n++
	return c.Resolver.TXT(ctx, name)
}

func (c *counter) A(ctx context.Context, name string) (dns.Answer[netip.Addr], error) {
	c.n++
	return c.Resolver.A(ctx, name)
}

func (c *counter) MX(ctx context.Context, name string) (dns.Answer[dns.MX], error) {
	c.n++
	return c.Resolver.MX(ctx, name)
}

// FuzzRecord checks that any record, and any explanation, comes to one of the
// seven results.
func FuzzRecord(f *testing.F) {
	f.Add("v=spf1 a mx:%{d} include:x.example -all exp=x.example", "see %{i} %{p}", "al+ice", "h.example", true)
	f.Add("v=spf1 redirect=%{l1r-}.x.example", "%{t}%{c}%{r}", "", "", false)
	f.Fuzz(func(t *testing.T, txt, text, local, helo string, six bool) {
		z := suiteZone{"x.example": {txt: []string{txt, text}, a: []string{"192.0.2.9"}, mx: []dns.MX{{Host: "x.example"}}}, "y.example": {txt: []string{txt}}}
		q := Query{Addr: netip.MustParseAddr("192.0.2.1"), Local: local, Domain: "y.example", Helo: helo, MaxVoid: 2, Explain: true}
		if six {
			q.Addr = netip.MustParseAddr("2001:db8::1")
		}
		a := Check(t.Context(), z, q)
		for _, r := range results {
			if a.Result == r.value {
				return
			}
		}
		t.Errorf("%q: %+v", txt, a)
	})
}

// TestManyExchangers checks that the limit of ten exchangers is one of look-ups:
// a client among the first ten passes, whatever comes after them.
func TestManyExchangers(t *testing.T) {
	var mx []string
	names := map[string]any{}
	for i := range 12 {
		name := fmt.Sprintf("mx%d.many.example", i)
		mx = append(mx, fmt.Sprintf("%d %s", i, name))
		names[name] = map[string]any{"A": []string{fmt.Sprintf("192.0.2.%d", i+1)}}
	}
	names["many.example"] = map[string]any{"TXT": []string{"v=spf1 mx -all"}, "MX": mx}
	text, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	z, err := dns.ParseZone(text)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{"192.0.2.1": Pass, "192.0.2.10": Pass, "192.0.2.11": PermError, "192.0.2.99": PermError} {
		if a := Check(t.Context(), z, Query{Addr: netip.MustParseAddr(addr), Domain: "many.example", At: time.Now(), MaxVoid: 2}); a.Result != want {
			t.Errorf("%s: %+v, want %s", addr, a, want)
		}
	}
}
