package mail

import (
	"strings"
	"testing"
)

func TestHeaderFields(t *testing.T) {
	const raw = "Received: from a\r\n\tby b\r\nSubject:  A  folded\r\n subject \r\nX-Odd : y\r\nEmpty:\r\nsubject: two\r\n\r\nbody\r\n"
	m := ParseBytes([]byte(raw), Options{})
	h := m.Header()
	want := []struct{ name, raw, value string }{
		{"Received", "Received: from a\r\n\tby b\r\n", "from a\tby b"},
		{"Subject", "Subject:  A  folded\r\n subject \r\n", "A  folded subject"},
		{"X-Odd", "X-Odd : y\r\n", "y"},
		{"Empty", "Empty:\r\n", ""},
		{"subject", "subject: two\r\n", "two"},
	}
	fields := h.Fields()
	if len(fields) != len(want) || h.Len() != len(want) {
		t.Fatalf("%d fields, want %d", len(fields), len(want))
	}
	for i, f := range fields {
		if f.Name() != want[i].name || string(f.Raw()) != want[i].raw || f.Value() != want[i].value {
			t.Errorf("field %d: %q %q %q", i, f.Name(), f.Raw(), f.Value())
		}
		if string(f.Raw()) != raw[f.Offset():f.Offset()+int64(len(f.Raw()))] {
			t.Errorf("field %d lies elsewhere than at %d", i, f.Offset())
		}
	}
	if h.Get("SUBJECT") != "A  folded subject" || h.Get("x-odd") != "y" || h.Get("none") != "" || h.Has("none") || !h.Has("empty") {
		t.Error("lookup by name fails")
	}
	if got := len(h.All("Subject")); got != 2 {
		t.Errorf("%d subjects, want 2", got)
	}
	if string(h.Raw()) != raw[:strings.Index(raw, "\r\n\r\n")+2] {
		t.Errorf("raw header is %q", h.Raw())
	}
	if m.BodyOffset() != int64(strings.Index(raw, "body")) {
		t.Errorf("body at %d", m.BodyOffset())
	}
}

func TestMessageFacts(t *testing.T) {
	m := ParseBytes([]byte("Received: x\r\nReceived: y\r\nFrom: Ann <ann@a.example>\r\nFrom: b@b.example, c@c.example\r\n"+
		"Subject: =?utf-8?q?Caf=C3=A9?=\r\nMessage-ID: <1@a.example>\r\n\r\nx"), Options{})
	if m.Hops() != 2 || m.Subject() != "Café" || m.MessageID() != "<1@a.example>" {
		t.Errorf("%d %q %q", m.Hops(), m.Subject(), m.MessageID())
	}
	as := m.Authors()
	if len(as) != 3 || as[0].Name != "Ann" || as[2].Path.Domain != "c.example" {
		t.Errorf("authors %v", as)
	}
}

func TestFoldField(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"Subject", "hello", "Subject: hello\r\n"},
		{"Subject", "", "Subject:\r\n"},
		{"Subject", "a\r\nBcc: x@y", "Subject: a  Bcc: x@y\r\n"},
		{"Subject", "a\x00b\u2028c", "Subject: a b c\r\n"},
		{"Subject", "Café au lait", "Subject: =?utf-8?b?Q2Fmw6k=?= au lait\r\n"},
		{"From", "Jürgen <j@example.org>", "From: =?utf-8?b?SsO8cmdlbg==?= <j@example.org>\r\n"},
		{"X", strings.Repeat("word ", 20), "X: word word word word word word word word word word word word word word word\r\n word word word word word\r\n"},
		{"X", strings.Repeat("w", 100), "X: " + strings.Repeat("w", 100) + "\r\n"},
	}
	for _, tt := range tests {
		got := FoldField(tt.name, tt.value)
		if got != tt.want {
			t.Errorf("FoldField(%q, %q) =\n%q, want\n%q", tt.name, tt.value, got, tt.want)
		}
	}
}

// TestFoldRoundTrip reads back what FoldField writes.
func TestFoldRoundTrip(t *testing.T) {
	for _, v := range []string{"short", "Ünïcödé everywhere: ñandú, 日本語テキスト and back", strings.Repeat("日本語", 40), strings.Repeat("é b ", 60), "=?not?a?word?="} {
		raw := FoldField("Subject", v)
		for _, line := range strings.Split(strings.TrimSuffix(raw, "\r\n"), "\r\n") {
			if len(line) > 78+maxWord || strings.TrimSpace(line) == "" {
				t.Errorf("%q has the line %q", v, line)
			}
		}
		m := ParseBytes([]byte(raw+"\r\n"), Options{})
		if got := m.Subject(); got != strings.TrimSpace(v) {
			t.Errorf("%q comes back as %q", v, got)
		}
	}
}

func TestDecodeHeader(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain", "plain"},
		{"=?utf-8?q?a_b=3D?=", "a b="},
		{"=?UTF-8?B?w6k=?=", "é"},
		{"=?utf-8?q?a?= =?utf-8?q?b?=", "ab"},
		{"=?utf-8?q?a?=  x =?utf-8?q?b?=", "a  x b"},
		{"=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"}, // a character split over words
		{"x=?utf-8?q?a?=y", "xay"},
		{"=?iso-8859-1?q?caf=E9?=", "café"},
		{"=?iso-8859-1*fr?q?caf=E9?=", "café"},
		{"=?windows-1252?q?=80?=", "€"},
		{"=?koi8-r?b?8NLJ18XU?=", "Привет"},
		{"=?utf-7?q?+AOk-?=", "é"},
		{"=?utf-16?b?ZgBpAGwAZQA=?=", "file"},
		{"=?nonesuch?q?abc?=", "abc"},
		{"=?utf-8?x?abc?=", "=?utf-8?x?abc?="},
		{"=?utf-8?q?abc", "=?utf-8?q?abc"},
		{"=??=", "=??="},
		{"=?", "=?"},
		{"=?utf-8?q?with blank?=", "with blank"},
		{"caf\xe9", "café"},
		{"naïve", "naïve"},
	}
	for _, tt := range tests {
		if got := DecodeHeader(tt.in); got != tt.want {
			t.Errorf("DecodeHeader(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzFoldField(f *testing.F) {
	f.Add("a b\r\nX: y")
	f.Add(strings.Repeat("é ", 50))
	f.Fuzz(func(t *testing.T, v string) {
		raw := FoldField("X", v)
		m := ParseBytes([]byte(raw+"\r\nbody"), Options{})
		if h := m.Header(); h.Len() != 1 || string(h.Fields()[0].Raw()) != raw {
			t.Fatalf("%q gives %q: %d fields", v, raw, h.Len())
		}
		if !isASCII(raw) {
			t.Fatalf("%q gives %q", v, raw)
		}
	})
}

func TestFieldNames(t *testing.T) {
	m := ParseBytes([]byte("X-One: 1\r\nx-two : 2\r\nX-: 3\r\n\r\n"), Options{})
	var got []string
	for f := range m.Header().Each() {
		if f.Is("X-TWO") != (f.Name() == "x-two") {
			t.Errorf("%s: Is says %v", f.Name(), f.Is("X-TWO"))
		}
		if f.HasPrefix("x-") {
			got = append(got, f.Name())
		}
	}
	if strings.Join(got, " ") != "X-One x-two" {
		t.Errorf("with the prefix: %q", got)
	}
	for f := range m.Header().Each() {
		if !f.Is("x-one") {
			t.Error("the first is not the first")
		}
		break
	}
}
