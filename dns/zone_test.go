package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testZone = `{
"example.org": {"MX": ["20 b.example.org", "10 A.example.org."], "TXT": ["v=spf1 -all", "second"], "A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
"four.example.org": {"A": ["192.0.2.4", "192.0.2.5"]},
"six.example.org": {"AAAA": ["2001:db8::6"]},
"null.example": {"MX": ["0 ."]},
"alias.example": {"CNAME": ["Example.org."]},
"loop.example": {"CNAME": ["loop.example"]},
"*.wild.example": {"A": ["192.0.2.7"]},
"own.wild.example": {"TXT": ["own"]},
"secure.example": {"MX": ["0 example.org"], "AD": true},
"sf.example": {"!": "servfail"},
"to.example": {"!": "timeout"},
"nd.example": {"!": "nodata", "A": ["192.0.2.8"]},
"slow.example": {"!": "slow", "A": ["192.0.2.9"]},
"1.2.0.192.in-addr.arpa": {"PTR": ["host.example.org."]},
"odd.example": {"TXT": ["a\"b\\c; d", ""]},
"soa.example": {"SOA": ["ns. root. 1 2 3 4 30"]},
"four.half.example": {"A": ["192.0.2.10"]}
}`

func zone(t testing.TB) *Zone {
	t.Helper()
	z, err := ParseZone([]byte(testZone))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// lookUps are what every Resolver over testZone says; "?" is a lasting failure,
// "!" one for now.
var lookUps = []struct{ kind, name, want string }{
	{"MX", "example.org", "[{10 A.example.org} {20 b.example.org}]"},
	{"MX", "EXAMPLE.org.", "[{10 A.example.org} {20 b.example.org}]"},
	{"MX", "null.example", "[{0 }]"},
	{"MX", "alias.example", "[{10 A.example.org} {20 b.example.org}]"},
	{"MX", "secure.example", "[{0 example.org}] AD"},
	{"TXT", "example.org", "[v=spf1 -all second]"},
	{"TXT", "odd.example", `[a"b\c; d ]`},
	{"TXT", "four.example.org", "?"},
	{"TXT", "nothing.example", "?"},
	{"TXT", "org", "?"},
	{"TXT", "sf.example", "!"},
	{"TXT", "loop.example", "!"},
	{"A", "example.org", "[192.0.2.1]"},
	{"A", "six.example.org", "?"},
	{"A", "nd.example", "?"},
	{"A", "slow.example", "[192.0.2.9]"},
	{"A", "x.wild.example", "[192.0.2.7]"},
	{"A", "x.y.wild.example", "[192.0.2.7]"},
	{"A", "own.wild.example", "?"},
	{"A", "half.example", "?"},
	{"AAAA", "six.example.org", "[2001:db8::6]"},
	{"Addrs", "example.org", "[192.0.2.1 2001:db8::1]"},
	{"Addrs", "four.example.org", "[192.0.2.4 192.0.2.5]"},
	{"Addrs", "six.example.org", "[2001:db8::6]"},
	{"Addrs", "alias.example", "[192.0.2.1 2001:db8::1]"},
	{"Addrs", "nothing.example", "?"},
	{"Addrs", "sf.example", "!"},
	{"Addrs", "localhost", "[127.0.0.1 ::1]"},
	{"Addrs", "x.localhost.", "[127.0.0.1 ::1]"},
	{"Addrs", "192.0.2.99", "[192.0.2.99]"},
	{"PTR", "192.0.2.1", "[host.example.org]"},
	{"PTR", "::ffff:192.0.2.1", "[host.example.org]"},
	{"PTR", "2001:db8::1", "?"},
}

// say puts a question and writes the answer the way lookUps does.
func say(r Resolver, kind, name string) string {
	ctx := context.Background()
	var records any
	var ad bool
	var err error
	switch kind {
	case "MX":
		a, e := r.MX(ctx, name)
		records, ad, err = a.Records, a.Authentic, e
	case "TXT":
		a, e := r.TXT(ctx, name)
		records, ad, err = a.Records, a.Authentic, e
	case "A":
		a, e := r.A(ctx, name)
		records, ad, err = a.Records, a.Authentic, e
	case "AAAA":
		a, e := r.AAAA(ctx, name)
		records, ad, err = a.Records, a.Authentic, e
	case "Addrs":
		a, e := r.Addrs(ctx, name)
		records, ad, err = a.Records, a.Authentic, e
	case "PTR":
		a, e := r.PTR(ctx, netip.MustParseAddr(name))
		records, ad, err = a.Records, a.Authentic, e
	}
	switch {
	case errors.Is(err, ErrNotFound) && !errors.Is(err, ErrTemporary):
		return "?"
	case errors.Is(err, ErrTemporary) && !errors.Is(err, ErrNotFound):
		return "!"
	case err != nil:
		return err.Error()
	case ad:
		return fmt.Sprint(records) + " AD"
	}
	return fmt.Sprint(records)
}

func TestZone(t *testing.T) {
	z := zone(t)
	for _, c := range lookUps {
		if got := say(z, c.kind, c.name); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.kind, c.name, got, c.want)
		}
	}
	if got := say(z, "A", "to.example"); got != "!" {
		t.Errorf("timeout: got %s", got)
	}
}

func TestZoneEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := zone(t).TXT(ctx, "example.org"); !errors.Is(err, ErrTemporary) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestZoneRefusesNonsense(t *testing.T) {
	for text, want := range map[string]string{
		`[`:                               "parse zone",
		`{"a": {"Q": ["x"]}}`:             "unknown record type",
		`{"a": {"!": "explode"}}`:         "unknown behaviour",
		`{"a": {"A": ["2001:db8::1"]}}`:   "not an address",
		`{"a": {"AAAA": ["192.0.2.1"]}}`:  "not an address",
		`{"a": {"MX": ["mx.example"]}}`:   "no preference",
		`{"a": {"MX": ["70000 x.y"]}}`:    "no preference",
		`{"a": {"TXT": "not a list"}}`:    "cannot unmarshal",
		`{"a": {"AD": "yes"}}`:            "cannot unmarshal",
		`{"a": {"A": ["192.0.2.1", 17]}}`: "cannot unmarshal",
	} {
		if _, err := ParseZone([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestLoadZone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "zone.json")
	if _, err := LoadZone(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(file, []byte(testZone), 0o600); err != nil {
		t.Fatal(err)
	}
	z, err := LoadZone(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := say(z, "A", "example.org"); got != "[192.0.2.1]" {
		t.Errorf("got %s", got)
	}
}

func TestExamZone(t *testing.T) {
	exam := os.Getenv("POSTERN_EXAM")
	if exam == "" {
		t.Skip("POSTERN_EXAM is not set")
	}
	z, err := LoadZone(filepath.Join(exam, "zone.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ kind, name, want string }{
		{"MX", "attack.test", "[{10 mx.attack.test}]"},
		{"TXT", "slow._domainkey.legit.test", "!"},
		{"TXT", "sf._domainkey.legit.test", "!"},
	} {
		if got := say(z, c.kind, c.name); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.kind, c.name, got, c.want)
		}
	}
}

func FuzzParseZone(f *testing.F) {
	f.Add([]byte(testZone))
	f.Fuzz(func(t *testing.T, text []byte) {
		z, err := ParseZone(text)
		if err != nil {
			return
		}
		for name := range z.names {
			for _, kind := range []string{"MX", "TXT", "A", "AAAA", "Addrs"} {
				say(z, kind, name)
			}
		}
	})
}
