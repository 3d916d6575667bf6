package mail

import (
	"slices"
	"testing"
)

func TestParseAddresses(t *testing.T) {
	tests := []struct {
		in   string
		want []string
		ok   bool
	}{
		{"alice@example.org", []string{"alice@example.org"}, true},
		{"Alice <alice@example.org>", []string{"Alice <alice@example.org>"}, true},
		{`"Doe, Jane" <jane@example.org>, bob@example.org`, []string{"Doe, Jane <jane@example.org>", "bob@example.org"}, true},
		{"=?utf-8?q?J=C3=BCrgen?= <j@example.org>", []string{"Jürgen <j@example.org>"}, true},
		{`"=?utf-8?q?J=C3=BCrgen?=" <j@example.org>`, []string{"Jürgen <j@example.org>"}, true},
		{"bob@example.org (Bob)", []string{"Bob <bob@example.org>"}, true},
		{"Friends: a@b.example, Bob <b@b.example>; c@b.example", []string{"a@b.example", "Bob <b@b.example>", "c@b.example"}, true},
		{"undisclosed-recipients:;", nil, true},
		{"", nil, true},
		{`"a b"@example.org`, []string{`"a b"@example.org`}, true},
		{`Bob <"a b"@example.org>`, []string{`Bob <"a b"@example.org>`}, true},
		{`<"x> y"@d.example>`, []string{`"x> y"@d.example`}, true},
		{"<@route.example:a@b.example>", []string{"a@b.example"}, true},
		{"a @ b.example", []string{"a@b.example"}, true},
		{"Bob (x) <(y)b@b.example>", []string{"Bob <b@b.example>"}, true},
		{"user@[IPv6:2001:db8::1], x@y", []string{"user@[IPv6:2001:db8::1]", "x@y"}, true},
		{`"support@bank.example" <evil@attacker.example>`, []string{"support@bank.example <evil@attacker.example>"}, true},
		{"Jürgen <j@bücher.example>", []string{"Jürgen <j@xn--bcher-kva.example>"}, true},
		{"J\xfcrgen <j@b.example>", []string{"Jürgen <j@b.example>"}, true},
		{"a@b.example,,c@d.example,", []string{"a@b.example", "c@d.example"}, true},
		{"a@b.example; c@d.example", []string{"a@b.example", "c@d.example"}, true},

		{"Bob", nil, false},
		{"Bob <>", nil, false},
		{"Bob <b@b.example", []string{"Bob <b@b.example>"}, false},
		{"<a@b.example>c@d.example", []string{"c@d.example <a@b.example>"}, false},
		{"A <a@b.example> (c) , <c@d.example>", []string{"A <a@b.example>", "c@d.example"}, true},
		{"<a@b.example> <c@d.example>", []string{"a@b.example", "c@d.example"}, false},
		{"a@b.example <c@d.example>", []string{"a@b.example <c@d.example>"}, true},
		{"Bob b@b.example", []string{"Bob <b@b.example>"}, false},
		{`"Bob <b@b.example>`, nil, false},
		{"(((", nil, false},
	}
	for _, tt := range tests {
		as, err := ParseAddresses(tt.in)
		var got []string
		for _, a := range as {
			got = append(got, a.String())
		}
		if !slices.Equal(got, tt.want) || (err == nil) != tt.ok {
			t.Errorf("ParseAddresses(%q) = %q, %v; want %q, ok %v", tt.in, got, err, tt.want, tt.ok)
		}
	}
}

func FuzzParseAddresses(f *testing.F) {
	for _, s := range []string{`"Doe, J" <j@e>, b@e (x)`, "g: a@b;", "<@r:a@b>", "a@[1.2.3.4]", "((", "=?utf-8?b?x?= <a@b>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		as, _ := ParseAddresses(s)
		for _, a := range as {
			if a.Path.Local == "" || a.Path.Domain == "" {
				t.Fatalf("%q gives %#v", s, a)
			}
		}
	})
}
