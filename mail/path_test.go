package mail

import (
	"errors"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	long := strings.Repeat("a", 64)
	label := strings.Repeat("d", 63)
	tests := []struct {
		in   string
		utf8 bool
		want string // "" is an error
	}{
		{"alice@example.org", false, "alice@example.org"},
		{"Alice@EXAMPLE.org", false, "Alice@example.org"},
		{"alice@example.org.", false, "alice@example.org"},
		{"postmaster", false, "postmaster"},
		{"PostMaster", false, "PostMaster"},
		{"a.b+c=d@e", false, "a.b+c=d@e"},
		{"bounce@mail_out.example.org", false, "bounce@mail_out.example.org"},
		{`"a b"@example.org`, false, `"a b"@example.org`},
		{`"alice"@example.org`, false, `alice@example.org`},
		{`"a\lice"@example.org`, false, `alice@example.org`},
		{`"a@b"@example.org`, false, `"a@b"@example.org`},
		{`"x> Y"@d`, false, `"x> Y"@d`},
		{`"a\"b\\c"@d`, false, `"a\"b\\c"@d`},
		{`""@d`, false, `""@d`},
		{`"a..b"@d`, false, `"a..b"@d`},
		{"@relay.example,@b.example:alice@example.org", false, "alice@example.org"},
		{"alice@[192.0.2.1]", false, "alice@[192.0.2.1]"},
		{"alice@[IPv6:2001:DB8::1]", false, "alice@[IPv6:2001:db8::1]"},
		{"alice@[ipv6:2001:db8:0:0::1]", false, "alice@[IPv6:2001:db8::1]"},
		{long + "@example.org", false, long + "@example.org"},
		{"用户@例え.jp", true, "用户@xn--r8jz45g.jp"},
		{"a@BÜCHER.example", true, "a@xn--bcher-kva.example"},
		{"a@xn--bcher-kva.example", false, "a@xn--bcher-kva.example"},

		{"alice", false, ""},
		{"@example.org", false, ""},
		{"alice@", false, ""},
		{"alice@@example.org", false, ""},
		{"a b@example.org", false, ""},
		{".a@example.org", false, ""},
		{"a.@example.org", false, ""},
		{"a..b@example.org", false, ""},
		{"a@b@example.org", false, ""},
		{`"a@example.org`, false, ""},
		{`"a"b@example.org`, false, ""},
		{`a"b"@example.org`, false, ""},
		{`"a\`, false, ""},
		{`"victim@d"> X@e`, false, ""},
		{"a@example..org", false, ""},
		{"a@-example.org", false, ""},
		{"a@example-.org", false, ""},
		{"a@exam ple.org", false, ""},
		{"a@example.org..", false, ""},
		{"a@.", false, ""},
		{"a@<b>", false, ""},
		{"a@b,c", false, ""},
		{"a@b(c)", false, ""},
		{"a\x00@b", false, ""},
		{"a@b\r\n", false, ""},
		{"a\r@b", false, ""},
		{"\"a\nb\"@b", false, ""},
		{"a@b\x7f", false, ""},
		{"é@example.org", false, ""},
		{"a@bücher.example", false, ""},
		{"\xff@example.org", true, ""},
		{"\"é\\é\"@example.org", true, ""},
		{"a@[192.0.2.1", false, ""},
		{"a@[192.0.2.300]", false, ""},
		{"a@[2001:db8::1]", false, ""},
		{"a@[IPv6:192.0.2.1]", false, ""},
		{"a@[IPv6:fe80::1%eth0]", false, ""},
		{"a@[tag:x]", false, ""},
		{long + "a@example.org", false, ""},
		{"a@" + label + "d.example", false, ""},
		{"a@" + strings.Repeat(label+".", 4) + "org", false, ""},
		{"@a:b", false, ""},
		{"@:a@b", false, ""},
		{"a:b@c", false, ""},
	}
	for _, tt := range tests {
		p, err := ParsePath(tt.in, tt.utf8)
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("ParsePath(%q) = %q, want an error", tt.in, p)
		case tt.want == "" && !errors.Is(err, ErrPath):
			t.Errorf("ParsePath(%q): %v does not wrap ErrPath", tt.in, err)
		case tt.want != "" && err != nil:
			t.Errorf("ParsePath(%q): %v", tt.in, err)
		case tt.want != "" && p.String() != tt.want:
			t.Errorf("ParsePath(%q) = %q, want %q", tt.in, p, tt.want)
		}
	}
}

func TestParsePathNull(t *testing.T) {
	if p, err := ParsePath("", false); err != nil || !p.IsNull() {
		t.Errorf("got %v, %v, want the null path", p, err)
	}
}

// TestPathEqual compares paths that name the same mailbox.
func TestPathEqual(t *testing.T) {
	for _, pair := range [][2]string{
		{"a@EXAMPLE.org", "a@example.org."}, {`"a"@b`, "a@b"}, {"a@bücher.example", "a@XN--BCHER-KVA.example"},
		{"a@[IPv6:2001:db8:0::1]", "a@[IPv6:2001:db8::1]"}, {"@r.example:a@b", "a@b"},
	} {
		x, err1 := ParsePath(pair[0], true)
		y, err2 := ParsePath(pair[1], true)
		if err1 != nil || err2 != nil || x != y {
			t.Errorf("%q and %q: %v %v, %v %v", pair[0], pair[1], x, y, err1, err2)
		}
	}
}

func TestLiteral(t *testing.T) {
	for in, want := range map[string]string{"a@[192.0.2.1]": "192.0.2.1", "a@[IPv6:2001:db8::1]": "2001:db8::1", "a@b": ""} {
		p, err := ParsePath(in, false)
		if err != nil {
			t.Fatal(err)
		}
		if a, ok := p.Literal(); ok != (want != "") || ok && a.String() != want {
			t.Errorf("%s: %v %v", in, a, ok)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"a@b", `"a b"@c`, "@a:b@c", "a@[IPv6:::1]", "é@ü", `"x> Y"@d`, "a@b."} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, utf8 bool) {
		p, err := ParsePath(s, utf8)
		if err != nil {
			if !errors.Is(err, ErrPath) || p != (Path{}) {
				t.Fatalf("%q: %v with %v", s, p, err)
			}
			return
		}
		out := p.String()
		if strings.ContainsAny(out, "\r\n\x00") {
			t.Fatalf("%q gives %q", s, out)
		}
		again, err := ParsePath(out, utf8)
		if err != nil || again != p {
			t.Fatalf("%q gives %q gives %v, %v", s, out, again, err)
		}
		if !strings.HasPrefix(out, `"`) && strings.ContainsAny(out, "<> ,") {
			t.Fatalf("%q gives %q without quotes", s, out)
		}
	})
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		domain, of string
		want       bool
	}{
		{"a.example", "a.example", true}, {"b.a.example", "a.example", true}, {"ba.example", "a.example", false}, {"example", "a.example", false},
		{"a.example", "", false}, {"", "a.example", false},
	} {
		if Within(c.domain, c.of) != c.want {
			t.Errorf("%q within %q: %v", c.domain, c.of, !c.want)
		}
	}
}
