package dmarc

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"postern/dns"
	"postern/filters"
	"postern/filters/dmarc/report"
	"postern/filters/filterstest"
	"postern/mail"
)

const reportZone = `{
	"_dmarc.ask.example":      {"TXT": ["v=DMARC1; p=reject; np=none; t=y; fo=1; adkim=s; rua=mailto:rua@ask.example"]},
	"_dmarc.own.ask.example":  {"TXT": ["v=DMARC1; p=none"]},
	"_dmarc.bad.example":      {"TXT": ["v=DMARC1; p=refuse; rua=mailto:rua@bad.example"]},
	"_dmarc.down.example":     {"!": "servfail"},
	"_dmarc.big.example":      {"TXT": ["v=DMARC1; p=none"]},
	"ask.example._report._dmarc.yes.example":      {"TXT": ["unrelated", "v=DMARC1"]},
	"ask.example._report._dmarc.other.example":    {"TXT": ["v=DMARC1; rua=mailto:real@other.example!5k,mailto:two@other.example"]},
	"ask.example._report._dmarc.elsewhere.example": {"TXT": ["v=DMARC1; rua=mailto:x@victim.example"]},
	"ask.example._report._dmarc.http.example":     {"TXT": ["v=DMARC1; rua=https://http.example/"]},
	"ask.example._report._dmarc.slow.example":     {"!": "timeout"},
	"ask.example._report._dmarc.spf.example":      {"TXT": ["v=spf1 -all"]}
}`

func reportEnv(t testing.TB) dns.Resolver {
	t.Helper()
	z, err := dns.ParseZone([]byte(reportZone))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// findingOf judges a message and returns the finding.
func findingOf(t *testing.T, settings, from, reverse, subject string, needs filters.Results) *Finding {
	t.Helper()
	tx := filterstest.Transaction(mail.ParseBytes([]byte("From: "+from+"\r\nSubject: "+subject+"\r\n\r\nx\r\n"), mail.Options{}))
	tx.ReversePath = mail.Path{}
	if local, domain, ok := strings.Cut(reverse, "@"); ok {
		tx.ReversePath = mail.Path{Local: local, Domain: domain}
	}
	tx.Recipients = []mail.Recipient{{Path: mail.Path{Local: "a", Domain: "rcpt.example"}}, {Path: mail.Path{Local: "b", Domain: "rcpt.example"}}}
	c := filterstest.New(t, Filter, filterstest.Options{Env: &filters.Env{Resolver: reportEnv(t)}, Settings: settings})
	v := filterstest.Check(t, c, tx, needs...)
	found, _ := v.Details.(*Finding)
	return found
}

func auth(method, value string, properties ...string) mail.AuthResult {
	a := mail.AuthResult{Method: method, Value: value}
	for _, p := range properties {
		name, v, _ := strings.Cut(p, "=")
		kind := "header"
		if method == "spf" {
			kind = "smtp"
		}
		a.Properties = append(a.Properties, mail.Property{Type: kind, Name: name, Value: v})
	}
	return a
}

const daily = `reports = "daily"`

func TestFinding(t *testing.T) {
	source := netip.MustParseAddr("203.0.113.7")
	needs := filters.Results{
		{Filter: "spf", Verdict: filters.Verdict{Details: filters.Client{Addr: source}, Auth: []mail.AuthResult{
			auth("spf", "softfail", "mailfrom=Bounce.ask.example"), auth("spf", "pass", "helo=relay.example"),
		}}},
		{Filter: "dkim", Verdict: filters.Verdict{Auth: []mail.AuthResult{
			auth("dkim", "fail", "d=a.example", "s=s1"), auth("dkim", "pass", "d=b.example", "s=s2"), auth("dkim", "pass", "d=mail.ask.example", "s=s3"),
			auth("dkim", "pass", "d=ask.example", "s=s4"), auth("dkim", "permerror", "d=ask.example"), auth("dkim", "policy"),
		}}},
	}
	got := findingOf(t, daily, "x@ask.example", "x@bounce.ask.example", "Report Domain: a Submitter: b", needs)
	want := &Finding{
		Policy: report.Published{Domain: "ask.example", P: "reject", SP: "reject", NP: "none", DKIM: "s", SPF: "r", FO: "1", Testing: true, Discovery: "treewalk"},
		RUA:    []URI{{Text: "mailto:rua@ask.example"}}, Pass: true, Given: PolicyReject, Asked: PolicyQuarantine, Carrier: true,
		Record: report.Record{
			Source: source, DKIM: pass, SPF: fail, HeaderFrom: "ask.example", EnvelopeFrom: "bounce.ask.example", EnvelopeTo: "rcpt.example",
			AuthSPF: []report.Auth{{Domain: "bounce.ask.example", Scope: "mfrom", Result: "softfail"}},
			AuthDKIM: []report.Auth{
				{Domain: "ask.example", Selector: "s4", Result: "pass"}, {Domain: "mail.ask.example", Selector: "s3", Result: "pass"},
				{Domain: "b.example", Selector: "s2", Result: "pass"}, {Domain: "a.example", Selector: "s1", Result: "fail"},
			},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct {
		name, settings, from, reverse, needs string
		want                                 string // domain, dkim, spf; "" is no finding
	}{
		{"off", "", "x@ask.example", "x@y.example", "spf=pass ask.example", ""},
		{"nobody asks", daily, "x@own.ask.example", "x@y.example", "spf=pass own.ask.example", ""},
		{"no record", daily, "x@none.example", "x@y.example", "spf=pass none.example", ""},
		{"temporary error", daily, "x@down.example", "x@y.example", "spf=pass down.example", ""},
		{"in doubt", daily, "x@ask.example", "x@ask.example", "spf=temperror ask.example", ""},
		{"SPF", daily, "x@ask.example", "x@mail.ask.example", "spf=pass mail.ask.example dkim=pass mail.ask.example", "ask.example fail pass"},
		{"HELO with a null reverse-path", daily, "x@ask.example", "", "helo=pass mail.ask.example", "ask.example fail pass"},
		{"HELO without", daily, "x@ask.example", "x@y.example", "helo=pass mail.ask.example", "ask.example fail fail"},
		{"an error in the record", daily, "x@bad.example", "x@y.example", "spf=fail y.example", "bad.example fail fail misread"},
		{"several authors", daily, "x@ask.example, y@none.example", "x@ask.example", "spf=pass ask.example", ""},
		{"a bad field", daily, "x@ask.example <y@none.example", "x@ask.example", "spf=pass ask.example", "ask.example fail fail"},
	} {
		needs := ran(c.needs)
		got := ""
		if f := findingOf(t, c.settings, c.from, c.reverse, "Report Domain: a Submitter: b", needs); f != nil {
			got = f.Record.HeaderFrom + " " + f.Record.DKIM + " " + f.Record.SPF
			if f.Misread {
				got += " misread"
			}
			if f.Carrier != f.Pass {
				t.Errorf("%s: carrier %v", c.name, f.Carrier)
			}
			if f.Record.Source.String() != "192.0.2.7" {
				t.Errorf("%s: source %s", c.name, f.Record.Source)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	hidden := filters.Results{{Filter: "spf", Verdict: filters.Verdict{Details: filters.Client{}}}, {Filter: "dkim"}}
	if f := findingOf(t, daily, "x@ask.example", "x@y.example", "s", hidden); f != nil {
		t.Errorf("a message whose source nobody knows: %+v", f)
	}
}

func TestDestinations(t *testing.T) {
	for _, c := range []struct{ rua, to, refused string }{
		{"mailto:rua@ask.example", "rua@ask.example", ""},
		{"mailto:rua@mail.ask.example!10m", "rua@mail.ask.example 10485760", ""},
		{"MAILTO:r%75a@ask.example?subject=x , mailto:rua@ask.example", "rua@ask.example", ""},
		{"mailto:a@yes.example", "a@yes.example", ""},
		{"mailto:a@no.example,mailto:b@ask.example", "b@ask.example", "mailto:a@no.example: it does not say at ask.example._report._dmarc.no.example that it wants them"},
		{"mailto:a@spf.example", "", "mailto:a@spf.example: it does not say at ask.example._report._dmarc.spf.example that it wants them"},
		{"mailto:a@other.example", "real@other.example 5120 two@other.example", ""},
		{"mailto:a@elsewhere.example", "", "mailto:a@elsewhere.example: it names an address of another host instead"},
		{"mailto:a@http.example", "", "mailto:a@http.example: it names an address of another host instead"},
		{"https://ask.example/", "", "https://ask.example/: not a mailto URI with one address"},
		{"mailto:a@b@ask.example,mailto:%zz@ask.example,mailto:x@[192.0.2.1],mailto:x@localhost", "", "not a mailto URI"},
		{"mailto:a@" + strings.Repeat("long.", 46) + "example", "", "too long"},
		{strings.Repeat("mailto:a@ask.example,", 3) + "mailto:1@ask.example,mailto:2@ask.example,mailto:3@ask.example,mailto:4@ask.example,mailto:5@ask.example,mailto:6@ask.example,mailto:7@ask.example,mailto:8@ask.example,mailto:9@ask.example,mailto:10@ask.example",
			"a@ask.example 1@ask.example 2@ask.example 3@ask.example 4@ask.example 5@ask.example 6@ask.example 7@ask.example", "3 more: only the first 10 are looked at"},
	} {
		to, refused, err := Destinations(t.Context(), reportEnv(t), "ask.example", uris(c.rua))
		if err != nil {
			t.Errorf("%s: %v", c.rua, err)
		}
		var got []string
		for _, d := range to {
			got = append(got, d.To.String())
			if d.Limit > 0 {
				got = append(got, strconv.FormatInt(d.Limit, 10))
			}
		}
		if strings.Join(got, " ") != c.to || !strings.Contains(strings.Join(refused, "; "), c.refused) || c.refused == "" && refused != nil {
			t.Errorf("%s: %q, refused %q", c.rua, got, refused)
		}
	}
	for _, c := range []struct{ domain, rua string }{{"ask.example", "mailto:a@slow.example"}, {"down.example", "mailto:a@down.example"}, {"ask.example", "mailto:a@down.example"}} {
		if _, _, err := Destinations(t.Context(), reportEnv(t), c.domain, uris(c.rua)); err == nil {
			t.Errorf("%s: no error", c.rua)
		}
	}
	if got := uris("mailto:a@b!999999999999t,mailto:c@d!7"); got[0].Limit <= 1<<50 || got[1].Limit != 7 {
		t.Errorf("%+v", got)
	}
}

// TestManyDestinations: a record with a thousand addresses of a third party makes
// us ask for few of them.
func TestManyDestinations(t *testing.T) {
	var rua []string
	for i := range 1000 {
		rua = append(rua, fmt.Sprintf("mailto:a@x%d.b.c.d.e.f.g.no.example", i))
	}
	c := &counter{Resolver: reportEnv(t)}
	to, refused, err := Destinations(t.Context(), c, "ask.example", uris(strings.Join(rua, ",")))
	if err != nil || len(to) > 0 || len(refused) != maxDestinations+1 || len(c.names) > 100 {
		t.Errorf("%d destinations, %d refused, %d questions, %v", len(to), len(refused), len(c.names), err)
	}
}

func TestValidateSite(t *testing.T) {
	for from, good := range map[string]bool{"": true, "a@example.org": true, "a@x.example.org": true, "a@xexample.org": false, "a@other.example": false} {
		if err := (&Checker{From: from}).ValidateSite([]string{"example.net", "example.org"}); (err == nil) != good {
			t.Errorf("%q: %v", from, err)
		}
	}
}

// TestUseful: of the addresses in a record, which is anybody's, few are kept.
func TestUseful(t *testing.T) {
	var many []URI
	for i := range 100 {
		many = append(many, URI{Text: fmt.Sprintf("mailto:a%d@b.example", i)}, URI{Text: "mailto:a@b.example?" + strings.Repeat("x", maxURI)})
	}
	got := useful(many)
	if len(got) != maxDestinations+1 || got[1] != many[2] {
		t.Errorf("%d are kept: %v", len(got), got)
	}
	if got := useful(many[:3]); len(got) != 2 {
		t.Errorf("%v", got)
	}
}
