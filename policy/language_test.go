package policy

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"

	"postern/mail"
)

func TestBytesAndDurations(t *testing.T) {
	for text, want := range map[string]Bytes{"25MB": 25 << 20, "1 KB": 1024, "0B": 0, "20GB": 20 << 30, "3TB": 3 << 40} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%s: %d, %v", text, b, err)
		}
	}
	for _, text := range []string{"", "25", "MB", "-1MB", "1.5MB", "9999999999GB", "25 M"} {
		if b := Bytes(0); b.UnmarshalText([]byte(text)) == nil {
			t.Errorf("size %q is accepted as %d", text, b)
		}
	}
	for text, want := range map[string]time.Duration{"15m": 15 * time.Minute, "30d": 720 * time.Hour, "1h30m": 90 * time.Minute, "1y": 8760 * time.Hour, "2w": 336 * time.Hour, "500ms": 500 * time.Millisecond, "0": 0} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || time.Duration(d) != want {
			t.Errorf("%s: %s, %v", text, time.Duration(d), err)
		}
	}
	for _, text := range []string{"", "15", "m", "-1m", "1.5h", "15 minutes", "99999999999y", "1h-1m"} {
		if d := Duration(0); d.UnmarshalText([]byte(text)) == nil {
			t.Errorf("duration %q is accepted as %s", text, d)
		}
	}
	for want, v := range map[string]fmt.Stringer{
		"25MB": Bytes(25 << 20), "0B": Bytes(0), "1000B": Bytes(1000), "30d": Duration(720 * time.Hour), "15m": Duration(15 * time.Minute),
		"1h": Duration(time.Hour), "1h30m": Duration(90 * time.Minute), "100/1m": Rate{100, time.Minute},
	} {
		if v.String() != want {
			t.Errorf("got %s, want %s", v, want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		glob, s string
		want    bool
	}{
		{"*", "", true},
		{"a*c", "abbbc", true},
		{"a*c", "ABC", true},
		{"a?c", "aéc", true},
		{"a?c", "ac", false},
		{"*.exe", "x.EXE", true},
		{"*.exe", "x.exe.txt", false},
		{"a*b*c", "a-b-b-c", true},
		{"abc", "abcd", false},
		{strings.Repeat("*a", 50) + "b", strings.Repeat("a", 5000), false},
	} {
		if got := newGlob(c.glob).Match(c.s); got != c.want {
			t.Errorf("%q on %q: %v", c.glob, c.s, got)
		}
	}
}

func TestAddressSet(t *testing.T) {
	var s addressSet
	for _, p := range []string{"bob@example.org", "@partner.example", "sub.partner.example", "@*.wild.example", "sales-*@shop.example", "<>", "été@bücher.example", "\"a b\"@quoted.example"} {
		if err := s.add(p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	for address, want := range map[string]bool{
		"BOB@example.org": true, "rob@example.org": false, "x@partner.example": true, "x@sub.partner.example": true, "x@other.partner.example": false,
		"x@a.wild.example": true, "x@a.b.wild.example": true, "x@wild.example": false, "x@notwild.example": false,
		"sales-1@shop.example": true, "sales@shop.example": false, "été@xn--bcher-kva.example": true, "\"a b\"@quoted.example": true,
	} {
		p, err := mail.ParsePath(address, true)
		if err != nil {
			t.Fatal(err)
		}
		if s.has(p) != want {
			t.Errorf("%s: %v", address, !want)
		}
	}
	if !s.has(mail.Path{}) {
		t.Error("<> is not in the set")
	}
	for _, p := range []string{"", "bob", "a@b@c", "@", "@-x.example", "a b@example.org", "bob@exa mple.org"} {
		if s.add(p) == nil {
			t.Errorf("%q is accepted", p)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"quarantine", "reject", "to", "tls"}
	for word, want := range map[string]string{"quarantene": "quarantine", "quarantien": "quarantine", "qarantne": "quarantine", "rejct": "reject", "rejetc": "reject", "ot": "to", "tsl": "tls", "nothing": "", "": "to"} {
		if got := nearest(word, known); got != want && word != "" {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}

// TestDefaultTags: each default is a value that its own type accepts.
func TestDefaultTags(t *testing.T) {
	var check func(ty reflect.Type)
	d := &decoder{log: &problemLog{src: &source{}}}
	count := 0
	check = func(ty reflect.Type) {
		switch ty.Kind() {
		case reflect.Slice, reflect.Map, reflect.Pointer:
			check(ty.Elem())
		case reflect.Struct:
			if ty == typeNode.Elem() || ty == typeSecret {
				return
			}
			for _, f := range d.shape(ty).fields {
				ft := ty.FieldByIndex(f.index).Type
				if f.has {
					count++
					v := reflect.New(ft).Elem()
					d.setDefault(v, f.def)
					if v.IsZero() && f.def != "0" {
						t.Errorf("%s.%s: default %q is no value", ty, f.name, f.def)
					}
					if len(f.words) > 0 && !contains(f.words, f.def) {
						t.Errorf("%s.%s: default %q is none of its words", ty, f.name, f.def)
					}
				}
				check(ft)
			}
		}
	}
	check(reflect.TypeFor[fileTable]())
	if count < 40 {
		t.Errorf("only %d defaults", count)
	}
}

func TestUpstreamFor(t *testing.T) {
	p, err := Load("p.toml", []byte(`version = 1
[site]
domains = ["example.org"]
[[listener]]
name = "in"
address = ":25"
[[listener]]
name = "filter"
address = ":10025"
role = "filter"
allow = ["127.0.0.1"]
[[upstream]]
name = "exact"
to = ["a:25"]
for = ["Example.org."]
[[upstream]]
name = "sub"
to = ["b:25"]
for = ["*.example.org"]
[[upstream]]
name = "deep"
to = ["b:25"]
for = ["*.deep.example.org"]
[[upstream]]
name = "rest"
to = ["mx"]
for = ["*"]
[[upstream]]
name = "back"
to = ["127.0.0.1:10026"]
when = { listener = "filter" }
`), fakeOptions())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ listener, to, want string }{
		{"in", "a@example.org", "exact"},
		{"in", "a@x.example.org", "sub"},
		{"in", "a@x.deep.example.org", "deep"},
		{"in", "a@elsewhere.example", "rest"},
		{"in", "a@[192.0.2.1]", "rest"},
		{"filter", "a@example.org", "back"},
		{"", "a@example.org", "exact"},
	} {
		u, ok := p.UpstreamFor(c.listener, path0(c.to))
		if !ok || u.Name != c.want {
			t.Errorf("%s for %s: %+v", c.listener, c.to, u)
		}
	}
	if u, ok := p.UpstreamFor("in", mail.Path{Local: "postmaster"}); !ok || u.Name != "exact" {
		t.Errorf("postmaster: %+v", u)
	}
	if !p.Ours(path0("x@example.org")) || !p.Ours(mail.Path{Local: "Postmaster"}) || p.Ours(path0("x@x.example.org")) {
		t.Error("Ours is wrong")
	}
	if _, ok := p.Listener("filter"); !ok {
		t.Error("no listener filter")
	}
}

func TestSentences(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "language.toml"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Load("language.toml", text, exampleOptions())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, lang := range []string{"en", "fr"} {
		for _, s := range p.Sentences(lang) {
			fmt.Fprintf(&b, "%2d  %s\n", s.Number, s.Text)
		}
	}
	golden := filepath.Join("testdata", "sentences.txt")
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Error(diff)
	}
	if len(p.Sentences("en")) != p.Rules() {
		t.Error("not every rule has a sentence")
	}
}

func TestRunTests(t *testing.T) {
	p := load(t, `
[[rule]]
name = "virus"
match = { virus = true }
action = "quarantine"
[[rule]]
name = "exe"
match = { attachment = "executable" }
action = "strip"
[[rule]]
name = "macro"
match = { attachment = "macro" }
action = "reject"
mode = "watch"
[[test]]
name = "virus is held"
mail = { attach = ["eicar.com"] }
expect = { disposition = "quarantine", rule = "virus", queue = "malware" }
[[test]]
name = "exe is stripped"
mail = { attach = ["a.exe"], to = ["a@example.org", "b@example.org"] }
expect = { disposition = "relay", actions = "strip", rule = "default" }
[[test]]
name = "would refuse"
mail = { attach = ["x.docm"], subject = "Été", header = { X-A = "b" } }
expect = { disposition = "relay", would = "reject", actions = [], journal = [] }
[[test]]
name = "wrong on purpose"
mail = { direction = "outbound", body = "x" }
expect = { disposition = "reject", rule = "virus", code = 550 }
`)
	judge := func(tx *mail.Transaction) ([]Decision, error) {
		raw, _ := tx.Message.Bytes()
		var symbols []string
		for name, symbol := range map[string]string{"eicar.com": "VIRUS_FOUND", "a.exe": "KIND_EXE", "x.docm": "KIND_MACRO"} {
			if bytes.Contains(raw, []byte(name)) {
				symbols = append(symbols, symbol)
			}
		}
		return p.Decide(tx, ran(symbols...)), nil
	}
	now := time.Unix(0, 0)
	results := p.RunTests(judge, func() time.Time { now = now.Add(time.Millisecond); return now })
	for i, r := range results {
		if want := i < 3; r.Passed != want || r.Elapsed != time.Millisecond || r.Line == 0 {
			t.Errorf("%+v", r)
		}
	}
	bad := results[3]
	if bad.Expected != "reject, rule virus, code 550" || bad.Got != "relay, rule default, code 0" || bad.Hint != "rule virus did not match: virus is nothing of the kind, not true" {
		t.Errorf("%+v", bad)
	}
	failing := p.RunTests(func(*mail.Transaction) ([]Decision, error) { return nil, errors.New("no luck") }, time.Now)
	if failing[0].Passed || failing[0].Got != "no luck" {
		t.Errorf("%+v", failing[0])
	}
}

func TestTestMail(t *testing.T) {
	for _, name := range []string{"a.exe", "b.docm", "c.zip", "d.encrypted.zip", "e.iso", "eicar.com", "eicar.zip", "f.pdf", "g.txt", "h.unknown"} {
		content := (&TestPart{Name: name}).content()
		if len(content) == 0 {
			t.Errorf("%s is empty", name)
		}
	}
	p := load(t, "[[test]]\nname = \"t\"\nmail = { from = \"ann@b.example\", reverse_path = \"<>\", to = \"bob@example.org\", subject = \"Réunion\", body = \"text\", html = \"<p>x</p>\", attach = [{ name = \"é.txt\", content = \"hello\", type = \"text/plain\" }, \"a.pdf\"], tls = true, user = \"u\", client = \"192.0.2.7\", helo = \"h.example\", at = 2026-02-03 }\nexpect = { rule = \"default\" }\n")
	tx := p.transaction(&p.Tests[0])
	if tx.Subject() != "Réunion" || !tx.ReversePath.IsNull() || tx.Helo != "h.example" || tx.Client.Addr().String() != "192.0.2.7" || tx.TLS.Version == "" || tx.Direction != mail.Outbound {
		t.Errorf("%+v %q", tx.Session, tx.Subject())
	}
	if len(tx.Authors()) != 1 || tx.Authors()[0].Path.String() != "ann@b.example" {
		t.Errorf("authors %v", tx.Authors())
	}
	if names := len(tx.Attachments()); names != 2 {
		t.Errorf("%d attachments", names)
	}
	if found := tx.Findings(); len(found) > 0 {
		t.Errorf("the message is not plain: %v", found)
	}
	if !strings.Contains(tx.Text(), "text") {
		t.Errorf("text %q", tx.Text())
	}
}

func TestInit(t *testing.T) {
	for _, full := range []bool{false, true} {
		text := Init("example.org", "10.0.5.10:25", full)
		p, err := Load("p.toml", []byte(text), fakeOptions())
		if err != nil && !full {
			t.Fatalf("full %v:\n%v", full, err)
		}
		if err == nil && (p.Mode != Watch || !p.Ours(path0("a@example.org"))) {
			t.Errorf("full %v: mode %s", full, p.Mode)
		}
	}
	if n := strings.Count(Init("example.org", "10.0.5.10:25", false), "\n"); n > 12 {
		t.Errorf("the first policy has %d lines", n)
	}
}

// FuzzLoad: no text makes the loader panic, and every valid TOML text has each
// of its keys in the tree.
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.toml")
	more, _ := filepath.Glob("testdata/*.toml")
	for _, name := range append(files, more...) {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("a.\"b\\u0020c\".d = '''\n[x]\n''''\n[ a . 'x' ]\ny = [ { z = 1 }, # c\n { q = \"\"\"\\\"\"\"\"\"\" } ]\n[[t]]\n[[t.u]]\nv = 1979-05-27 07:32:00Z\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Load("p.toml", []byte(text), exampleOptions())
		if err == nil {
			p.Decide(mailTo("", "bob@example.org"), ran())
			p.Sentences("fr")
		} else {
			_ = err.Error()
		}
		var values map[string]any
		if _, err := toml.Decode(text, &values); err == nil {
			n := scan(text)
			n.fill(values)
			same(t, n, values, "")
		}
	})
}

// same wants every key of the values in the tree.
func same(t *testing.T, n *node, v any, path string) {
	switch v := v.(type) {
	case map[string]any:
		if len(n.entries) != len(v) {
			t.Fatalf("%s: %d keys, want %d", path, len(n.entries), len(v))
		}
		for key, item := range v {
			c := n.child(key)
			if c == nil {
				t.Fatalf("%s: no key %q", path, key)
			}
			same(t, c, item, path+"."+key)
		}
	case []map[string]any:
		if len(n.entries) != len(v) {
			t.Fatalf("%s: %d tables, want %d", path, len(n.entries), len(v))
		}
		for i := range v {
			same(t, n.entries[i], v[i], path+"[]")
		}
	case []any:
		if len(n.entries) != len(v) {
			t.Fatalf("%s: %d items, want %d", path, len(n.entries), len(v))
		}
		for i := range v {
			same(t, n.entries[i], v[i], path+"[]")
		}
	}
}

func BenchmarkLoad5000(b *testing.B) {
	var text strings.Builder
	text.WriteString(fakeHead)
	for i := range 5000 {
		fmt.Fprintf(&text, "[[rule]]\nname = \"rule-%d\"\ndirection = \"inbound\"\nmatch = { from = \"user%d@sender.example\", attachment = \"macro\" }\naction = \"reject\"\nreply = \"550 5.7.1 no {from.domain}\"\n\n", i, i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load("p.toml", []byte(text.String()), fakeOptions()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecide50(b *testing.B) {
	var text strings.Builder
	for i := range 50 {
		key := []string{
			fmt.Sprintf("from = \"user%d@sender.example\"", i), fmt.Sprintf("client = \"10.0.%d.0/24\"", i), "attachment = \"macro\", to = \"site\"",
			fmt.Sprintf("score_at_least = %d", 10+i), fmt.Sprintf("subject = \"secure%d\"", i),
		}[i%5]
		fmt.Fprintf(&text, "[[rule]]\nname = \"rule-%d\"\ndirection = \"inbound\"\nmatch = { %s }\naction = \"tag\"\n", i, key)
	}
	p := load(b, text.String())
	tx, rs := mailTo("", "bob@example.org"), ran("LISTED")
	b.ReportAllocs()
	for b.Loop() {
		if d := p.Decide(tx, rs); d[0].Disposition != Relay {
			b.Fatal(fate(d[0]))
		}
	}
}
