package dkimsign

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

// A pair is a key in PEM and its record.
type pair struct {
	pem    []byte
	record string
}

// pairs are made once.
var pairs = sync.OnceValue(func() map[string]pair {
	out := map[string]pair{}
	for _, kind := range []string{dkim.RSA, dkim.Ed25519} {
		k, text, err := dkim.NewKey(kind)
		if err != nil {
			panic(err)
		}
		record, err := dkim.Record(k.Public())
		if err != nil {
			panic(err)
		}
		out[kind] = pair{text, record}
	}
	return out
})

// settings writes the keys to files and returns a table that uses them, and a
// zone that publishes them.
func settings(t testing.TB) (string, *dns.Zone) {
	t.Helper()
	dir := t.TempDir()
	for kind, p := range pairs() {
		if err := os.WriteFile(filepath.Join(dir, kind), p.pem, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	zone := map[string]any{}
	for name, kind := range map[string]string{
		"r1._domainkey.example.org": dkim.RSA, "e1._domainkey.example.org": dkim.Ed25519, "shop._domainkey.shop.example": dkim.Ed25519,
	} {
		zone[name] = map[string]any{"TXT": []string{pairs()[kind].record}}
	}
	text, err := json.Marshal(zone)
	if err != nil {
		t.Fatal(err)
	}
	z, err := dns.ParseZone(text)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`
selector = "r1"
key = { file = %[1]q }
[[keys]]
selector = "e1"
key = { file = %[2]q }
[[keys]]
selector = "shop"
key = { file = %[2]q }
domains = ["shop.example"]
`, filepath.Join(dir, dkim.RSA), filepath.Join(dir, dkim.Ed25519)), z
}

func TestConformance(t *testing.T) {
	table, _ := settings(t)
	filterstest.Run(t, Filter, filterstest.Options{
		Settings: table,
		Bad: map[string]string{
			`selector = "x"`:                                       "key",
			`key = { env = "X" }`:                                  "selector",
			"selector = \"X\"\nkey = { env = \"X\" }":              "selector",
			`key = "plain text"`:                                   "does not belong",
			"[[keys]]\nselector = \"a\"":                           "key",
			"selector=\"x\"\nkey={env=\"X\"}\ndomains=[\"a b.c\"]": "domains",
			`expire = "1h"`:                                        "expire",
		},
	})
}

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

// finish signs a message as outbound mail and returns the fields.
func finish(t testing.TB, c filters.Checker, text string, d mail.Direction) []string {
	t.Helper()
	tx := filterstest.Transaction(mail.ParseBytes([]byte(text), mail.Options{}))
	tx.Direction = d
	f, ok := c.(filters.Finisher)
	if !ok {
		t.Fatal("not a Finisher")
	}
	fields, err := f.Finish(t.Context(), tx, nil, tx.Message)
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

func TestFinish(t *testing.T) {
	table, zone := settings(t)
	c := filterstest.New(t, Filter, filterstest.Options{Settings: table})
	for _, test := range []struct {
		from      string
		direction mail.Direction
		selectors []string
	}{
		{"ann@example.org", mail.Outbound, []string{"r1", "e1"}},
		{"Ann <ann@EXAMPLE.org>", mail.Outbound, []string{"r1", "e1"}},
		{"ann@news.example.org", mail.Outbound, []string{"r1", "e1"}},
		{"ann@example.org, bob@news.example.org", mail.Outbound, []string{"r1", "e1"}},
		{"ann@shop.example", mail.Outbound, []string{"shop"}},
		{"ann@example.org, bob@shop.example", mail.Outbound, nil},
		{"ann@example.org, bob@elsewhere.example", mail.Outbound, nil},
		{"ann@badexample.org", mail.Outbound, nil},
		{"ann@elsewhere.example", mail.Outbound, nil},
		{"nobody", mail.Outbound, nil},
		{"ann@example.org", mail.Inbound, nil},
	} {
		text := "From: " + test.from + "\r\nSubject: x\r\n\r\nbody\r\n"
		fields := finish(t, c, text, test.direction)
		rs, err := dkim.Verify(t.Context(), mail.ParseBytes([]byte(strings.Join(fields, "")+text), mail.Options{}), dkim.Options{Resolver: zone, Now: filterstest.At})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rs {
			if r.Value != dkim.Pass {
				t.Errorf("%s: %+v", test.from, r)
			}
			got = append(got, r.Selector)
		}
		if !slices.Equal(got, test.selectors) {
			t.Errorf("%s %s: signed by %v, want %v", test.direction, test.from, got, test.selectors)
		}
	}
}

func TestNoKey(t *testing.T) {
	c := filterstest.New(t, Filter, filterstest.Options{})
	if fields := finish(t, c, "From: ann@example.org\r\n\r\n", mail.Outbound); fields != nil {
		t.Errorf("%q", fields)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("SECRET-CONTENT"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{broken, filepath.Join(dir, "absent")} {
		c := &Checker{}
		if err := filterstest.Decode(fmt.Sprintf("selector = \"s\"\nkey = { file = %q }", file), c); err != nil {
			t.Fatal(err)
		}
		err := c.Open(t.Context(), &filters.Env{Domains: []string{"example.org"}})
		if err == nil || !strings.Contains(err.Error(), "selector s") || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", file, err)
		}
		if err := c.Open(t.Context(), &filters.Env{Offline: true}); err != nil {
			t.Errorf("the tests of a policy need the key: %v", err)
		}
	}
}
