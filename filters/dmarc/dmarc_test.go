package dmarc

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/dns"
	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

// zone is what the tests look up.
const zone = `{
	"_dmarc.reject.example":     {"TXT": ["unrelated", "v=DMARC1; p=reject; sp=quarantine; np=none"]},
	"sub.reject.example":        {"A": ["192.0.2.1"]},
	"empty.reject.example":      {"!": "nodata"},
	"_dmarc.own.reject.example": {"TXT": ["v=DMARC1; p=none"]},
	"_dmarc.quarantine.example": {"TXT": ["v=DMARC1;p=Quarantine;t=y"]},
	"_dmarc.test.example":       {"TXT": ["v=DMARC1; p=reject; t=y"]},
	"_dmarc.monitor.example":    {"TXT": ["v=DMARC1; p=none; rua=mailto:a@monitor.example"]},
	"_dmarc.strict.example":     {"TXT": ["v=DMARC1; p=reject; adkim=s; aspf=s"]},
	"_dmarc.half.example":       {"TXT": ["v=DMARC1; p=reject; adkim=s"]},
	"_dmarc.twice.example":      {"TXT": ["v=DMARC1; p=reject", "v=DMARC1; p=none"]},
	"_dmarc.bad.example":        {"TXT": ["v=DMARC1; p=refuse"]},
	"_dmarc.badrua.example":     {"TXT": ["v=DMARC1; p=refuse; rua=mailto:x@badrua.example"]},
	"_dmarc.down.example":       {"!": "servfail"},
	"_dmarc.slow.example":       {"!": "timeout"},
	"_dmarc.npdown.example":     {"TXT": ["v=DMARC1; p=none; np=reject"]},
	"x.npdown.example":          {"!": "servfail"},
	"_dmarc.gov.test":           {"TXT": ["v=DMARC1; p=none; sp=quarantine; np=reject; psd=y"]},
	"agency.gov.test":           {"A": ["192.0.2.1"]},
	"_dmarc.unit.big.example":   {"TXT": ["v=DMARC1; p=quarantine; psd=n"]},
	"_dmarc.big.example":        {"TXT": ["v=DMARC1; p=reject"]},
	"_dmarc.xn--bcher-kva.example": {"TXT": ["v=DMARC1; p=reject"]}
}`

func env(t testing.TB) *filters.Env {
	t.Helper()
	z, err := dns.ParseZone([]byte(zone))
	if err != nil {
		t.Fatal(err)
	}
	return &filters.Env{Resolver: z}
}

// ran returns the results of spf and dkim: "spf=pass a.example dkim=fail b.example".
func ran(text string) filters.Results {
	rs := filters.Results{{Filter: "spf"}, {Filter: "dkim"}}
	words := strings.Fields(text)
	for i := 0; i+1 < len(words); i += 2 {
		method, value, _ := strings.Cut(words[i], "=")
		name, kind, k := "mailfrom", "smtp", 0
		switch method {
		case "helo":
			method, name = "spf", "helo"
		case "dkim":
			name, kind, k = "d", "header", 1
		}
		rs[k].Verdict.Auth = append(rs[k].Verdict.Auth, mail.AuthResult{
			Method: method, Value: value, Properties: []mail.Property{{Type: kind, Name: "x", Value: "y.example"}, {Type: kind, Name: name, Value: words[i+1]}},
		})
	}
	return rs
}

func TestConformance(t *testing.T) {
	filterstest.Run(t, Filter, filterstest.Options{Env: env(t), Needs: ran("spf=pass reject.example dkim=fail x.example")})
	t.Run("reports", func(t *testing.T) {
		filterstest.Run(t, Filter, filterstest.Options{Env: env(t), Needs: ran("spf=pass monitor.example dkim=fail x.example"), Settings: "reports = \"daily\"", Bad: map[string]string{
			`reports = "weekly"`: "daily", `report_from = "nobody"`: "report_from", `report_from = "a@[192.0.2.1"`: "report_from", `report_org = "a\nb"`: "report_org",
			`report_contact = "` + strings.Repeat("a", 201) + `"`: "report_contact", `report_keep = "1d"`: "report_keep", `report_keep = "91d"`: "report_keep",
		}})
	})
	t.Run("no resolver", func(t *testing.T) { filterstest.Run(t, Filter, filterstest.Options{Needs: ran("")}) })
}

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

// show writes a verdict on one line: symbols without their prefix, and the
// authentication result.
func show(v filters.Verdict) string {
	var words []string
	for _, s := range v.Symbols {
		words = append(words, strings.TrimPrefix(s.Name, "DMARC_"))
	}
	for _, r := range v.Auth {
		words = append(words, r.Method+"="+r.Value)
		for _, p := range r.Properties {
			words = append(words, p.Type+"."+p.Name+"="+p.Value)
		}
	}
	return strings.Join(words, " ")
}

func TestFilter(t *testing.T) {
	for _, c := range []struct{ name, from, results, want string }{
		{"pass by SPF", "reject.example", "spf=pass reject.example", "PASS POLICY_REJECT FROM_ALIGNED dmarc=pass header.from=reject.example policy.dmarc=reject"},
		{"pass by DKIM", "reject.example", "spf=fail a.example dkim=fail reject.example dkim=pass mail.reject.example",
			"PASS POLICY_REJECT FROM_ALIGNED dmarc=pass header.from=reject.example policy.dmarc=reject"},
		{"fail", "reject.example", "spf=pass a.example dkim=pass b.example", "FAIL POLICY_REJECT dmarc=fail header.from=reject.example policy.dmarc=reject"},
		{"only a suffix in common", "reject.example", "spf=pass a-reject.example", "FAIL POLICY_REJECT dmarc=fail header.from=reject.example policy.dmarc=reject"},
		{"softfail is no pass", "reject.example", "spf=softfail reject.example dkim=neutral reject.example", "FAIL POLICY_REJECT dmarc=fail header.from=reject.example policy.dmarc=reject"},
		{"HELO does not count", "reject.example", "spf=fail a.example helo=pass reject.example", "FAIL POLICY_REJECT dmarc=fail header.from=reject.example policy.dmarc=reject"},
		{"sp", "sub.reject.example", "spf=fail a.example", "FAIL POLICY_QUARANTINE dmarc=fail header.from=sub.reject.example policy.dmarc=quarantine"},
		{"np", "gone.reject.example", "spf=fail a.example", "FAIL POLICY_NONE dmarc=fail header.from=gone.reject.example policy.dmarc=none"},
		{"a name without records exists", "empty.reject.example", "spf=fail a.example", "FAIL POLICY_QUARANTINE dmarc=fail header.from=empty.reject.example policy.dmarc=quarantine"},
		{"own record", "own.reject.example", "spf=fail a.example", "FAIL POLICY_NONE dmarc=fail header.from=own.reject.example policy.dmarc=none"},
		{"siblings are aligned", "own.reject.example", "dkim=pass sub.reject.example", "PASS POLICY_NONE FROM_ALIGNED dmarc=pass header.from=own.reject.example policy.dmarc=none"},
		{"test of quarantine", "quarantine.example", "", "FAIL POLICY_NONE dmarc=fail header.from=quarantine.example policy.dmarc=none"},
		{"test of reject", "test.example", "", "FAIL POLICY_QUARANTINE dmarc=fail header.from=test.example policy.dmarc=quarantine"},
		{"p=none", "monitor.example", "", "FAIL POLICY_NONE dmarc=fail header.from=monitor.example policy.dmarc=none"},
		{"strict", "strict.example", "spf=pass a.strict.example dkim=pass b.strict.example", "FAIL POLICY_REJECT dmarc=fail header.from=strict.example policy.dmarc=reject"},
		{"strict and equal", "strict.example", "spf=fail a.strict.example dkim=pass Strict.Example.", "PASS POLICY_REJECT FROM_ALIGNED dmarc=pass header.from=strict.example policy.dmarc=reject"},
		{"strict DKIM only", "half.example", "dkim=pass b.half.example", "FAIL POLICY_REJECT dmarc=fail header.from=half.example policy.dmarc=reject"},
		{"relaxed SPF beside", "half.example", "spf=pass b.half.example dkim=pass b.half.example", "PASS POLICY_REJECT FROM_ALIGNED dmarc=pass header.from=half.example policy.dmarc=reject"},
		{"no record", "nothing.example", "spf=pass other.example", "NONE dmarc=none header.from=nothing.example"},
		{"no record, aligned", "nothing.example", "spf=pass nothing.example", "NONE FROM_ALIGNED dmarc=none header.from=nothing.example"},
		{"two records", "twice.example", "", "NONE dmarc=none header.from=twice.example"},
		{"bad policy", "bad.example", "spf=pass bad.example", "PERMERROR FROM_ALIGNED dmarc=permerror header.from=bad.example"},
		{"bad policy with reports", "badrua.example", "", "FAIL POLICY_NONE dmarc=fail header.from=badrua.example policy.dmarc=none"},
		{"servfail", "down.example", "spf=pass down.example", "TEMPERROR dmarc=temperror header.from=down.example"},
		{"servfail above", "a.b.slow.example", "", "TEMPERROR dmarc=temperror header.from=a.b.slow.example"},
		{"np unknown", "x.npdown.example", "", "TEMPERROR dmarc=temperror header.from=x.npdown.example"},
		{"DKIM unknown", "reject.example", "spf=fail a.example dkim=temperror mail.reject.example", "TEMPERROR POLICY_REJECT dmarc=temperror header.from=reject.example policy.dmarc=reject"},
		{"DKIM unknown but passes", "reject.example", "spf=pass reject.example dkim=temperror mail.reject.example", "PASS POLICY_REJECT FROM_ALIGNED dmarc=pass header.from=reject.example policy.dmarc=reject"},
		{"DKIM unknown of another", "reject.example", "dkim=temperror attack.example", "FAIL POLICY_REJECT dmarc=fail header.from=reject.example policy.dmarc=reject"},
		{"SPF unknown", "reject.example", "spf=temperror reject.example", "TEMPERROR POLICY_REJECT dmarc=temperror header.from=reject.example policy.dmarc=reject"},
		{"public suffix", "agency.gov.test", "", "FAIL POLICY_QUARANTINE dmarc=fail header.from=agency.gov.test policy.dmarc=quarantine"},
		{"public suffix, gone", "gone.gov.test", "", "FAIL POLICY_REJECT dmarc=fail header.from=gone.gov.test policy.dmarc=reject"},
		{"public suffix, aligned below it", "a.agency.gov.test", "dkim=pass b.agency.gov.test", "PASS POLICY_REJECT FROM_ALIGNED dmarc=pass header.from=a.agency.gov.test policy.dmarc=reject"},
		{"not aligned by a public suffix", "agency.gov.test", "dkim=pass other.gov.test dkim=pass gov.test", "FAIL POLICY_QUARANTINE dmarc=fail header.from=agency.gov.test policy.dmarc=quarantine"},
		{"the suffix itself", "gov.test", "dkim=pass gov.test", "PASS POLICY_NONE FROM_ALIGNED dmarc=pass header.from=gov.test policy.dmarc=none"},
		{"psd=n", "a.unit.big.example", "dkim=pass big.example", "FAIL POLICY_QUARANTINE dmarc=fail header.from=a.unit.big.example policy.dmarc=quarantine"},
		{"psd=n aligned", "a.unit.big.example", "dkim=pass b.unit.big.example", "PASS POLICY_QUARANTINE FROM_ALIGNED dmarc=pass header.from=a.unit.big.example policy.dmarc=quarantine"},
		{"psd=n from above", "big.example", "dkim=pass unit.big.example", "FAIL POLICY_REJECT dmarc=fail header.from=big.example policy.dmarc=reject"},
		{"odd domains", "reject.example", "dkim=pass reject.example'a.example dkim=pass reject.example(.a.example spf=pass \"reject.example", "FAIL POLICY_REJECT dmarc=fail header.from=reject.example policy.dmarc=reject"},
	} {
		tx := filterstest.Transaction(filterstest.Message("From: Somebody <a@"+c.from+">\n\nx\n", mail.Options{}))
		v := filterstest.Check(t, filterstest.New(t, Filter, filterstest.Options{Env: env(t)}), tx, ran(c.results)...)
		if diff := cmp.Diff(c.want, show(v)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestAuthors(t *testing.T) {
	const refused = "FAIL POLICY_REJECT FROM_INVALID dmarc=fail policy.dmarc=reject"
	for _, c := range []struct{ name, header, want string }{
		{"one address, twice", "From: a@reject.example, b@reject.example\n", "PASS POLICY_REJECT FROM_ALIGNED dmarc=pass header.from=reject.example policy.dmarc=reject"},
		{"a group", "From: Board: a@reject.example, b@reject.example;\n", "PASS POLICY_REJECT FROM_ALIGNED dmarc=pass header.from=reject.example policy.dmarc=reject"},
		{"U-labels", "From: a@bücher.example\n", "FAIL POLICY_REJECT dmarc=fail header.from=xn--bcher-kva.example policy.dmarc=reject"},
		{"an address in the name", "From: \"ceo@strict.example\" <a@reject.example>\n", "PASS POLICY_REJECT FROM_ALIGNED dmarc=pass header.from=reject.example policy.dmarc=reject"},
		{"two fields", "From: a@nothing.example\nFrom: b@strict.example\n", refused},
		{"two fields of one domain", "From: a@reject.example\nFrom: b@reject.example\n", refused},
		{"two fields, a blank before the colon", "From: a@nothing.example\nFrom : b@strict.example\n", refused},
		{"two domains", "From: a@nothing.example, b@strict.example\n", refused},
		{"two domains, one passes", "From: a@reject.example, b@monitor.example\n", "FAIL POLICY_NONE FROM_INVALID dmarc=fail policy.dmarc=none"},
		{"the strictest policy", "From: a@monitor.example, b@test.example, c@strict.example\n", refused},
		{"two domains without policy", "From: a@nothing.example, b@other.example\n", "PERMERROR FROM_INVALID dmarc=permerror"},
		{"group of two domains", "From: Board: a@nothing.example, b@strict.example;\n", refused},
		{"semicolons", "From: a@nothing.example; b@strict.example\n", refused},
		{"address inside an encoded word", "From: =?utf-8?B?PGFAc3RyaWN0LmV4YW1wbGU+?=,<b@nothing.example>\n", refused},
		{"quoted pair", "From: <a@strict.example>\\,<b@nothing.example>\n", refused},
		{"text after the address", "From: <a@nothing.example>b@strict.example\n", refused},
		{"NUL", "From: <a@strict.example\x00.nothing.example>\n", refused},
		{"no From", "Resent-From: a@strict.example\n", "PERMERROR FROM_INVALID dmarc=permerror"},
		{"empty", "From:\n", "PERMERROR FROM_INVALID dmarc=permerror"},
		{"empty group", "From: undisclosed:;\n", "PERMERROR FROM_INVALID dmarc=permerror"},
		{"null address", "From: <>\n", "PERMERROR FROM_INVALID dmarc=permerror"},
		{"no domain", "From: admin\n", "PERMERROR FROM_INVALID dmarc=permerror"},
		{"address literal", "From: a@[192.0.2.1]\n", "PERMERROR FROM_INVALID dmarc=permerror"},
		{"unknown for now", "From: a@down.example, b@nothing.example\n", "TEMPERROR FROM_INVALID dmarc=temperror"},
		{"unknown for now, but one fails", "From: a@down.example, b@strict.example\n", refused},
	} {
		tx := filterstest.Transaction(filterstest.Message(c.header+"\nx\n", mail.Options{}))
		v := filterstest.Check(t, filterstest.New(t, Filter, filterstest.Options{Env: env(t)}), tx, ran("spf=pass reject.example")...)
		if diff := cmp.Diff(c.want, show(v)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestNullReversePath(t *testing.T) {
	tx := filterstest.Transaction(filterstest.Message("From: mailer-daemon@reject.example\n\nx\n", mail.Options{}))
	tx.ReversePath = mail.Path{}
	checker := filterstest.New(t, Filter, filterstest.Options{Env: env(t)})
	if v := filterstest.Check(t, checker, tx, ran("helo=pass mx.reject.example")...); !slices.Contains(filterstest.Names(v), "DMARC_PASS") {
		t.Errorf("HELO passes: %s", show(v))
	}
	if v := filterstest.Check(t, checker, tx, ran("spf=pass reject.example helo=fail mx.reject.example")...); !slices.Contains(filterstest.Names(v), "DMARC_FAIL") {
		t.Errorf("HELO fails: %s", show(v))
	}
	tx.Session.Direction = mail.Outbound
	if v := filterstest.Check(t, checker, tx, ran("")...); len(v.Symbols) > 0 {
		t.Errorf("our own client is judged: %s", show(v))
	}
}

func TestEvidence(t *testing.T) {
	for _, c := range []struct{ from, results, want string }{
		{"news.reject.example", "spf=fail a.example dkim=pass b.example", "news.reject.example: spf=fail a.example, dkim=pass b.example; reject.example says none"},
		{"reject.example", "dkim=pass b.reject.example", "reject.example: dkim passes for b.reject.example; reject.example says reject"},
		{"test.example", "", "test.example; test.example says reject, for a test"},
		{"nothing.example", "", "nothing.example; no DMARC record"},
	} {
		tx := filterstest.Transaction(filterstest.Message("From: a@"+c.from+"\n\nx\n", mail.Options{}))
		v := filterstest.Check(t, filterstest.New(t, Filter, filterstest.Options{Env: env(t)}), tx, ran(c.results)...)
		if got := v.Symbols[0].Evidence; got != c.want {
			t.Errorf("%s: %q, want %q", c.from, got, c.want)
		}
	}
}

// A counter counts the TXT questions.
type counter struct {
	dns.Resolver
	names []string
}

func (c *counter) TXT(ctx context.Context, name string) (dns.Answer[string], error) {
	c.names = append(c.names, name)
	return c.Resolver.TXT(ctx, name)
}

// TestQuestions checks what is asked: RFC 9989 section 4.10 has the long name.
func TestQuestions(t *testing.T) {
	var authors []string
	for i := range 50 {
		authors = append(authors, fmt.Sprintf("a@%sd%d.example", strings.Repeat("x.", 30), i))
	}
	for _, c := range []struct {
		name, from, results string
		want                []string
		most                int
	}{
		{name: "the same domain", from: "a@reject.example", results: "spf=pass reject.example dkim=pass reject.example", want: []string{"_dmarc.reject.example"}},
		{name: "nothing passes", from: "a@reject.example", results: "spf=fail reject.example", want: []string{"_dmarc.reject.example"}},
		{name: "another top label", from: "a@reject.example", results: "spf=pass reject.test", want: []string{"_dmarc.reject.example"}},
		{name: "strict", from: "a@strict.example", results: "spf=pass a.strict.example", want: []string{"_dmarc.strict.example"}},
		{name: "another domain", from: "a@reject.example", results: "spf=pass bounce.other.example", want: []string{"_dmarc.reject.example", "_dmarc.example"}},
		{name: "below", from: "a@reject.example", results: "spf=pass bounce.reject.example", want: []string{"_dmarc.reject.example", "_dmarc.example", "_dmarc.bounce.reject.example"}},
		{name: "the walk of the RFC", from: "a@a.b.c.d.e.f.g.h.i.j.mail.big.test", want: []string{
			"_dmarc.a.b.c.d.e.f.g.h.i.j.mail.big.test", "_dmarc.g.h.i.j.mail.big.test", "_dmarc.h.i.j.mail.big.test", "_dmarc.i.j.mail.big.test",
			"_dmarc.j.mail.big.test", "_dmarc.mail.big.test", "_dmarc.big.test", "_dmarc.test",
		}},
		{name: "many authors", from: strings.Join(authors, ", "), most: 4 * 8},
	} {
		counted := &counter{Resolver: env(t).Resolver}
		tx := filterstest.Transaction(filterstest.Message("From: "+c.from+"\n\nx\n", mail.Options{}))
		filterstest.Check(t, filterstest.New(t, Filter, filterstest.Options{Env: &filters.Env{Resolver: counted}}), tx, ran(c.results)...)
		if c.most > 0 && len(counted.names) > c.most {
			t.Errorf("%s: %d questions", c.name, len(counted.names))
		}
		if c.most == 0 && !slices.Equal(counted.names, c.want) {
			t.Errorf("%s: %q, want %q", c.name, counted.names, c.want)
		}
	}
}

func TestParseRecord(t *testing.T) {
	for txt, want := range map[string]Record{
		"v=DMARC1":                         {P: "none", PSD: 'u'},
		"v=DMARC1;":                        {P: "none", PSD: 'u'},
		"V = DMARC1 ; P = Reject ; ;x; =y": {P: "reject", PSD: 'u'},
		"v=DMARC1; sp=none; p=quarantine":  {P: "quarantine", SP: "none", PSD: 'u'},
		"v=DMARC1; p=reject; p=none":       {P: "reject", PSD: 'u'},
		"v=DMARC1; p=reject; pct=0; rf=afrf; ri=86400; unknown=1; fo=1:D": {P: "reject", PSD: 'u', FO: "1:d"},
		"v=DMARC1; p=reject; np=NONE; psd=Y; t=y; adkim=S; aspf=s":        {P: "reject", NP: "none", PSD: 'y', Testing: true, StrictDKIM: true, StrictSPF: true},
		"v=DMARC1; p=reject; psd=x; t=x; adkim=x; aspf=":                  {P: "reject", PSD: 'u'},
		"v=DMARC1; p=reject; rua=mailto:a@b.example!10m, mailto:c@d.example ,x, https://e.example/;ruf=mailto:f@g.example": {
			P: "reject", PSD: 'u', RUA: []URI{{"mailto:a@b.example", 10 << 20}, {Text: "mailto:c@d.example"}, {Text: "https://e.example/"}}},
		"v=DMARC1; p=reject; sp=bogus":                         {P: "none", PSD: 'u', Invalid: true},
		"v=DMARC1; p=reject; np=":                              {P: "none", PSD: 'u', Invalid: true},
		"v=DMARC1; p=reject; sp=bogus; rua=mailto:a@b.example": {P: "none", PSD: 'u', RUA: []URI{{Text: "mailto:a@b.example"}}, Misread: true},
		"v=DMARC1; p=; rua=nonsense":                           {P: "none", PSD: 'u', Invalid: true},
	} {
		r, ok := ParseRecord(txt)
		if !ok {
			t.Errorf("%q is no record", txt)
		} else if diff := cmp.Diff(want, *r); diff != "" {
			t.Errorf("%q: %s", txt, diff)
		}
	}
	for _, txt := range []string{"", "v=DMARC2; p=none", "v=dmarc1; p=none", "p=none; v=DMARC1", " v=DMARC1", "v=DMARC1 p=none", "v=DMARC10", "v=spf1 -all"} {
		if _, ok := ParseRecord(txt); ok {
			t.Errorf("%q is a record", txt)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("v=DMARC1; p=reject; sp=none; np=quarantine; psd=n; t=y; rua=mailto:a@b!1k")
	f.Fuzz(func(t *testing.T, txt string) {
		r, ok := ParseRecord(txt)
		if ok && (r.P.severity() == 0 || r.SP != "" && r.SP.severity() == 0 || r.NP != "" && r.NP.severity() == 0) {
			t.Errorf("%q: %+v", txt, r)
		}
		if !ok {
			return
		}
		for _, u := range r.RUA {
			if p, ok := u.address(); ok && (p.Local == "" || !isDomain(p.Domain)) || u.Limit < 0 {
				t.Errorf("%q: %+v leads to %s", txt, u, p)
			}
		}
	})
}

// FuzzFrom checks that no From field makes DMARC pass but one that has one
// domain, the one that SPF passes for.
func FuzzFrom(f *testing.F) {
	f.Add("a@reject.example")
	f.Add("<a@reject.example>, b@strict.example")
	f.Add("=?utf-8?q?a=40strict.example?= <a@reject.example>\r\nFrom: x")
	z, err := dns.ParseZone([]byte(zone))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, from string) {
		tx := filterstest.Transaction(mail.ParseBytes([]byte("From: "+from+"\r\n\r\nx\r\n"), mail.Options{}))
		tx.Session.Client = netip.MustParseAddrPort("192.0.2.1:25")
		c := &Checker{resolver: z}
		v, err := c.Check(t.Context(), tx, ran("spf=pass reject.example"))
		if err != nil {
			t.Fatal(err)
		}
		if v.Symbols[0].Name != "DMARC_PASS" {
			return
		}
		for _, a := range tx.Message.Authors() {
			if a.Path.Domain != "reject.example" {
				t.Errorf("%q passes with %s", from, a)
			}
		}
		if tx.Message.Header().All("From")[0].Name() == "" || len(tx.Message.Header().All("From")) != 1 {
			t.Errorf("%q passes", from)
		}
	})
}
