package arc

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

// keyText is a key in PEM, made once; signer uses it for a domain.
var keyText = sync.OnceValue(func() []byte {
	_, text, err := dkim.NewKey(dkim.Ed25519)
	if err != nil {
		panic(err)
	}
	return text
})

func signer(t testing.TB, domain string) dkim.Signer {
	t.Helper()
	k, err := dkim.ParsePrivateKey(keyText())
	if err != nil {
		t.Fatal(err)
	}
	return dkim.Signer{Domain: domain, Selector: "s", Key: k}
}

// zone publishes the key for some domains.
func zone(t testing.TB) *dns.Zone {
	t.Helper()
	record, err := dkim.Record(signer(t, "a.example").Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]any{"s._domainkey.down.example": map[string]any{"!": "servfail"}}
	for _, d := range []string{"list.example", "mx.forward.example", "example.org", "sender.example"} {
		names["s._domainkey."+d] = map[string]any{"TXT": []string{record}}
	}
	text, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	z, err := dns.ParseZone(text)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func env(t testing.TB) *filters.Env {
	return &filters.Env{Resolver: zone(t), Hostname: "mx.example.org", Domains: []string{"example.org"}}
}

const message = "From: ann@sender.example\r\nTo: list@list.example\r\nSubject: hello\r\n\r\nHi all\r\n"

// on returns a message with fields on top.
func on(text string, fields []string) string { return strings.Join(fields, "") + text }

func parse(text string) *mail.Message { return mail.ParseBytes([]byte(text), mail.Options{}) }

// seal puts a set on top of a message for each domain; results is what the first
// says.
func seal(t testing.TB, text, results string, domains ...string) string {
	t.Helper()
	resolver := zone(t)
	for i, d := range domains {
		a, err := dkim.VerifyARC(t.Context(), parse(text), dkim.Options{Resolver: resolver, Now: filterstest.At})
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			results = "arc=pass; dmarc=fail header.from=sender.example"
		}
		fields, err := dkim.SealARC(parse(text), d+"; "+results, a, signer(t, d), filterstest.At)
		if err != nil {
			t.Fatal(err)
		}
		text = on(text, fields)
	}
	return text
}

func TestConformance(t *testing.T) {
	tx := filterstest.Transaction(parse(seal(t, message, "dmarc=pass", "list.example")))
	filterstest.Run(t, Filter, filterstest.Options{
		Env: env(t), Settings: `trusted_sealers = ["list.example"]`, More: []*mail.Transaction{tx},
		Bad: map[string]string{
			`trusted_sealers = ["*"]`: "trusted_sealers", `domain = "X"`: "domain", `selector = "a b"`: "selector",
			`selector = "s"`: "key", `key = { env = "K" }`: "selector",
		},
	})
	t.Run("no resolver", func(t *testing.T) { filterstest.Run(t, Filter, filterstest.Options{More: []*mail.Transaction{tx}}) })
}

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

func TestCheck(t *testing.T) {
	one := seal(t, message, "dmarc=pass header.from=sender.example", "list.example")
	two := seal(t, message, "dmarc=pass header.from=sender.example", "list.example", "mx.forward.example")
	const trusted = `trusted_sealers = ["list.example", "Forward.example"]`
	for _, test := range []struct {
		name, text, settings string
		symbols              []string
		evidence             string
	}{
		{"none", message, trusted, []string{"ARC_NONE"}, ""},
		{"nobody is trusted", one, "", []string{"ARC_PASS"}, "i=1 list.example"},
		{"trusted", one, trusted, []string{"ARC_PASS", "ARC_TRUSTED"}, "i=1 list.example"},
		{"both trusted", two, trusted, []string{"ARC_PASS", "ARC_TRUSTED"}, "i=1 list.example, i=2 mx.forward.example"},
		{"one of two", two, `trusted_sealers = ["forward.example"]`, []string{"ARC_PASS"}, "not trusted: list.example"},
		{"similar name", one, `trusted_sealers = ["ist.example"]`, []string{"ARC_PASS"}, "not trusted: list.example"},
		{"failed at the first", seal(t, message, "spf=fail; dmarc=fail header.from=sender.example", "list.example"), trusted, []string{"ARC_PASS"}, "list.example says that DMARC had failed"},
		{"failed, unreadable", seal(t, message, "spf=fail (; dmarc = FAIL", "list.example"), trusted, []string{"ARC_PASS"}, "DMARC had failed"},
		{"another author on top", "From: boss@victim.example\r\n" + one, trusted, []string{"ARC_PASS"}, "not trusted: a From field that"},
		{"no author", seal(t, strings.TrimPrefix(message, "From: ann@sender.example\r\n"), "dmarc=pass", "list.example"), trusted, []string{"ARC_PASS"}, "a From field that"},
		{"changed", one + "more\r\n", trusted, []string{"ARC_FAIL"}, "the message signature of i=1: the body was changed"},
		{"forged", "ARC-Authentication-Results: i=1; list.example; dmarc=pass\r\n" + message, trusted, []string{"ARC_FAIL"}, "i=1 has no field ARC-Seal"},
		{"DNS is down", seal(t, message, "dmarc=pass", "down.example"), trusted, []string{"ARC_TEMPERROR"}, "could not be looked up"},
	} {
		c := filterstest.New(t, Filter, filterstest.Options{Env: env(t), Settings: test.settings})
		v := filterstest.Check(t, c, filterstest.Transaction(parse(test.text)))
		if diff := cmp.Diff(test.symbols, filterstest.Names(v)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
		if !strings.Contains(v.Symbols[0].Evidence, test.evidence) || len(v.Auth) != 1 || v.Auth[0].Method != "arc" {
			t.Errorf("%s: %+v", test.name, v)
		}
	}
}

func TestAuthResult(t *testing.T) {
	c := filterstest.New(t, Filter, filterstest.Options{Env: env(t)})
	v := filterstest.Check(t, c, filterstest.Transaction(parse(seal(t, message, "dmarc=pass", "list.example"))))
	want := []mail.AuthResult{{Method: "arc", Value: "pass", Properties: []mail.Property{{Type: "header", Name: "oldest-pass", Value: "0"}}}}
	if diff := cmp.Diff(want, v.Auth); diff != "" {
		t.Error(diff)
	}
}

// keyFile writes the key to a file and returns settings that seal with it.
func keyFile(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, keyText(), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("seal = true\nselector = \"s\"\nkey = { file = %q }", name)
}

// signed is a message that its author's domain signed, and what the filters found
// of it.
func signed(t testing.TB, text string) (string, filters.Results) {
	t.Helper()
	fields, err := dkim.Sign(parse(text), filterstest.At, signer(t, "sender.example"))
	if err != nil {
		t.Fatal(err)
	}
	return on(text, fields), filters.Results{
		{Filter: "dkim", Verdict: filters.Verdict{Auth: []mail.AuthResult{{Method: "dkim", Value: "pass", Properties: []mail.Property{{Type: "header", Name: "d", Value: "sender.example"}}}}}},
		{Filter: "dmarc", Verdict: filters.Verdict{Auth: []mail.AuthResult{{Method: "dmarc", Value: "pass"}}}},
	}
}

func TestFinish(t *testing.T) {
	text, results := signed(t, message)
	c := filterstest.New(t, Filter, filterstest.Options{Env: env(t), Settings: keyFile(t)})
	tagged := strings.Replace(text, "Subject: ", "Subject: [X] ", 1)
	failed := filters.Results{{Filter: "dkim", Verdict: filters.Verdict{Auth: []mail.AuthResult{{Method: "dkim", Value: "fail"}}}}}
	for _, test := range []struct {
		name      string
		after     string
		results   filters.Results
		direction mail.Direction
		sealed    bool
	}{
		{"unchanged", text, results, mail.Inbound, false},
		{"fields on top", "Received: x\r\n" + text, results, mail.Inbound, false},
		{"tagged", tagged, results, mail.Inbound, true},
		{"body", text + "-- \r\ndisclaimer\r\n", results, mail.Inbound, true},
		{"nothing had held", tagged, failed, mail.Inbound, false},
		{"our own client", tagged, results, mail.Outbound, false},
	} {
		tx := filterstest.Transaction(parse(text))
		tx.Direction = test.direction
		f, ok := c.(filters.Finisher)
		if !ok {
			t.Fatal("not a Finisher")
		}
		fields, err := f.Finish(t.Context(), tx, test.results, parse(test.after))
		if err != nil || (len(fields) == 3) != test.sealed {
			t.Errorf("%s: %q, %v", test.name, fields, err)
			continue
		}
		if !test.sealed {
			continue
		}
		a, err := dkim.VerifyARC(t.Context(), parse(on(test.after, fields)), dkim.Options{Resolver: zone(t), Now: filterstest.At})
		if err != nil || a.Value != dkim.Pass || a.Chain[0].Domain != "example.org" ||
			!strings.HasPrefix(a.Chain[0].Results, "mx.example.org;") || !strings.Contains(a.Chain[0].Results, "dkim=pass header.d=sender.example") {
			t.Errorf("%s: %+v, %v", test.name, a, err)
		}
	}
}

// TestSealChain checks that a chain that passed is continued, that one that
// failed is sealed as such, and that one that says so is left alone.
func TestSealChain(t *testing.T) {
	c := filterstest.New(t, Filter, filterstest.Options{Env: env(t), Settings: "seal = true"})
	checker, ok := c.(*Checker)
	if !ok {
		t.Fatalf("%T", c)
	}
	if d, wanted := checker.SealDomain(); d != "example.org" || !wanted {
		t.Errorf("%q, %v", d, wanted)
	}
	if err := checker.UseSigner(dkim.Signer{Domain: "example.org", Selector: "s"}); err == nil {
		t.Error("a signer without a key is taken")
	}
	if err := checker.UseSigner(signer(t, "example.org")); err != nil {
		t.Fatal(err)
	}
	good := seal(t, message, "dmarc=pass", "list.example")
	for _, test := range []struct {
		name, text, cv string
	}{
		{"passed", good, "cv=pass"},
		{"failed", good + "more\r\n", "cv=fail"},
		{"says so", strings.Replace(good, "cv=none", "cv=fail", 1), ""},
		{"DNS is down", seal(t, message, "dmarc=pass", "down.example"), ""},
	} {
		fields, err := checker.SealNow(t.Context(), filterstest.Transaction(parse(test.text)), nil, parse(test.text))
		if err != nil || (test.cv == "") != (fields == nil) || test.cv != "" && !strings.Contains(fields[0], test.cv) {
			t.Errorf("%s: %q, %v", test.name, fields, err)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	for _, table := range []string{
		"seal = true\nselector = \"s\"\nkey = { file = \"/no/such/file\" }",
		"seal = true\nselector = \"s\"\nkey = { env = \"ARC_TEST_KEY\" }",
	} {
		t.Setenv("ARC_TEST_KEY", "not a key")
		c := &Checker{}
		if err := filterstest.Decode(table, c); err != nil {
			t.Fatal(err)
		}
		if err := c.Open(context.Background(), env(t)); err == nil {
			t.Errorf("%s: opened", table)
		}
		if err := c.Open(context.Background(), &filters.Env{Offline: true}); err != nil {
			t.Errorf("%s: the tests of a policy need the key: %v", table, err)
		}
	}
}
