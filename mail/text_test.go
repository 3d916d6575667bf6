package mail

import (
	"fmt"
	"strings"
	"testing"
)

func TestHTMLText(t *testing.T) {
	tests := []struct{ in, want string }{
		{"<p>a</p><p>b</p>", "a\nb"},
		{"a<br>b", "a\nb"},
		{"  a \n\t b&nbsp;c ", "a b c"},
		{"<style>x{}</style><script>y()</script><template>z</template>a", "a"},
		{"a<!-- b -->c", "ac"},
		{"&lt;b&gt; &eacute; &#x41;", "<b> é A"},
		{"<table><tr><td>a</td><td>b</td></tr></table>", "a b"},
		{"<b>in<i>ter</i>rupted</b>", "interrupted"},
		{"unclosed <a href=\"x", "unclosed"},
	}
	for _, tt := range tests {
		if got := HTMLText(tt.in); got != tt.want {
			t.Errorf("HTMLText(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestMessageText(t *testing.T) {
	m := ParseBytes([]byte(top+"--foo\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ncaf=E9\r\n"+
		"--foo\r\nContent-Type: text/html; charset=utf-7\r\n\r\n+ADw-p+AD4-hidden+ADw-/p+AD4-\r\n"+
		"--foo\r\nContent-Type: text/html\r\n\r\n<meta charset=windows-1251>\xcf\xf0\r\n"+
		"--foo\r\nContent-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nnot this\r\n"+fooEnd), Options{})
	if got, want := m.Text(), "café\nhidden\nПр\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := m.Part("4").Text(); got != "not this" {
		t.Errorf("attached text is %q", got)
	}
}

func TestTextLinks(t *testing.T) {
	tests := []struct {
		in   string
		want []string
	}{
		{"see http://a.example/x?y=z.", []string{"http://a.example/x?y=z"}},
		{"(https://a.example/(b)) and www.b.example, ok", []string{"https://a.example/(b)", "www.b.example"}},
		{"<HTTP://A.example>\"ftp://f.example\"", []string{"HTTP://A.example", "ftp://f.example"}},
		{"mailto:a@b.example tel:+123", []string{"mailto:a@b.example", "tel:+123"}},
		{"hxxp://evil.example xhttp://no", []string{"hxxp://evil.example"}},
		{"http:// http: www. wwwx www.", nil},
		{"“http://q.example/ü” «http://r.example»", []string{"http://q.example/ü", "http://r.example"}},
		{"http://a.example\u00a0b 12:30 w:x", []string{"http://a.example"}},
	}
	for _, tt := range tests {
		var got []string
		TextLinks(tt.in, func(u string) bool { got = append(got, u); return true })
		if strings.Join(got, "|") != strings.Join(tt.want, "|") {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestLinks(t *testing.T) {
	tests := []struct{ html, want string }{
		{`<a href="http://a.example/">click <b>here</b></a>`, "href http://a.example/ click here"},
		{`<a href=" ht&#116;p://a.exa` + "\n" + `mple ">x</a>`, "href http://a.example x"},
		{`<a href=http://a.example>x<a href=http://b.example>y`, "href http://a.example x|href http://b.example y"},
		{`<img src=http://i.example/p.png srcset="http://s.example 2x, http://t.example 3x">`, "src http://i.example/p.png |src http://s.example |src http://t.example "},
		{`<form action=http://f.example><button formaction=http://g.example>`, "form http://f.example |form http://g.example "},
		{`<base href="http://base.example/d/"><a href=x>y</a>`, "base http://base.example/d/ |href http://base.example/d/x y"},
		{`<meta http-equiv=Refresh content="0; URL='http://r.example'">`, "refresh http://r.example "},
		{`<map><area href=http://m.example></map>`, "href http://m.example "},
		{`<div style="background:url('http://s.example/x')">`, "style http://s.example/x "},
		{`<style>a{background:url(http://s.example)}</style>`, "style http://s.example "},
		{`<iframe srcdoc="<a href=http://in.example>q</a>">`, "href http://in.example q"},
		{`plain http://p.example text`, "text http://p.example http://p.example"},
		{`<script>location="http://j.example/"</script>`, "text http://j.example/ "},
		{`<svg><a xlink:href="http://v.example">t</a></svg>`, "href http://v.example t"},
		{`<link rel=stylesheet href=http://l.example>`, "src http://l.example "},
	}
	for _, tt := range tests {
		m := ParseBytes([]byte("Content-Type: text/html\r\n\r\n"+tt.html), Options{})
		var got []string
		for _, l := range m.Links() {
			got = append(got, fmt.Sprintf("%s %s %s", l.Kind, l.URL, l.Text))
		}
		if strings.Join(got, "|") != tt.want {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.html, got, tt.want)
		}
	}
}

func TestLinksBounded(t *testing.T) {
	m := ParseBytes([]byte("Content-Type: text/html\r\n\r\n"+strings.Repeat("<a href=http://x.example>y</a>", maxLinks+10)), Options{})
	if n := len(m.Links()); n != maxLinks {
		t.Errorf("%d links, want %d", n, maxLinks)
	}
}
