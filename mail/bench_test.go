package mail

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// plainMail is a text mail of about n bytes, as a relay sees it.
func plainMail(n int) []byte {
	var b bytes.Buffer
	for i := range 3 {
		fmt.Fprintf(&b, "Received: from mx%d.example.net (mx%d.example.net [192.0.2.%d])\r\n\tby mx.example.org (Postfix) with ESMTPS id 4abc%d\r\n\tfor <bob@example.org>; Mon,  2 Nov 2026 10:00:0%d +0000 (UTC)\r\n", i, i, i, i, i)
	}
	b.WriteString("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=s1;\r\n\th=from:to:subject:date; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n\tb=" + strings.Repeat("abcd", 60) + "\r\n")
	b.WriteString("From: Alice <alice@example.net>\r\nTo: Bob <bob@example.org>\r\nSubject: Minutes of the meeting\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\n" +
		"Message-ID: <1@example.net>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\nUser-Agent: Mail 1.0\r\n\r\n")
	for b.Len() < n {
		b.WriteString("This is a line of ordinary text, about as long as lines in mail are.\r\n")
	}
	return b.Bytes()
}

// attachmentMail is a mail of about n bytes, most of them one base64 part.
func attachmentMail(n int) []byte {
	var b bytes.Buffer
	b.WriteString("From: Alice <alice@example.net>\r\nTo: Bob <bob@example.org>\r\nSubject: The plans\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_limit\"\r\n\r\n" +
		"--=_limit\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHere they are.\r\n--=_limit\r\nContent-Type: application/pdf; name=plan.pdf\r\n" +
		"Content-Disposition: attachment; filename=plan.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	line := strings.Repeat("QUJD", 19) + "\r\n"
	for b.Len() < n {
		b.WriteString(line)
	}
	b.WriteString("--=_limit--\r\n")
	return b.Bytes()
}

// countLines is what reading the structure is measured against.
func countLines(b []byte) int {
	n := 0
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return n
		}
		n++
		b = b[i+1:]
	}
}

var sink int

func benchStructure(b *testing.B, data []byte) {
	b.Run("lines", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			sink += countLines(data)
		}
	})
	b.Run("structure", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			sink += len(ParseBytes(data, Options{}).Root().children)
		}
	})
	b.Run("findings", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			sink += len(ParseBytes(data, Options{}).Findings())
		}
	})
}

func BenchmarkStructure(b *testing.B) {
	b.Run("20KB", func(b *testing.B) { benchStructure(b, plainMail(20<<10)) })
	b.Run("5MB", func(b *testing.B) { benchStructure(b, attachmentMail(5<<20)) })
}

// hostile are messages that make careless parsers quadratic; each takes how
// large it is.
var hostile = []struct {
	name string
	n    int
	make func(n int) string
}{
	{"siblings", 20_000, func(n int) string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", n)
	}},
	{"depth", 1_000, func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		return b.String()
	}},
	{"same boundary", 1_000, func(n int) string {
		return strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", n)
	}},
	{"messages", 1_000, func(n int) string { return strings.Repeat("Content-Type: message/rfc822\r\n\r\n", n) }},
	{"fields", 100_000, func(n int) string { return strings.Repeat("X: y\r\n", n) + "\r\nx" }},
	{"no colon", 100_000, func(n int) string { return "X: y\r\n" + strings.Repeat("xy\r\n", n) + "\r\nx" }},
	{"folds", 100_000, func(n int) string { return "Subject: x\r\n" + strings.Repeat(" y\r\n", n) + "\r\nx" }},
	{"parameters", 100_000, func(n int) string { return "Content-Type: text/plain" + strings.Repeat(";\r\n a=b", n) + "\r\n\r\nx" }},
	{"pieces", 50_000, func(n int) string {
		return "Content-Type: text/plain" + strings.Repeat(";\r\n name*1=b", n) + "\r\n\r\nx"
	}},
	{"prefixes", 10_000, func(n int) string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--bb\r\nContent-Type: text/html\r\n\r\n", n)
	}},
	{"comments", 100_000, func(n int) string { return "From: " + strings.Repeat("(", n) + "\r\n\r\nx" }},
	{"encoded words", 20_000, func(n int) string { return "Subject: " + strings.Repeat("=?utf-8?q?", n) + "\r\n\r\nx" }},
	{"preambles", 1_000, func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n", i)
		}
		for i := range n {
			fmt.Fprintf(&b, "--b%d\r\n\r\nx\r\n", n-i-1)
		}
		return b.String()
	}},
	{"bad headers", 10_000, func(n int) string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\ntext\r\nmore\r\n", n)
	}},
	{"files in text", 20_000, func(n int) string { return "\r\n" + strings.Repeat("begin 644 x\r\n#86)C\r\n", n) }},
	{"blanks", 1 << 20, func(n int) string {
		return "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat(" ", n)
	}},
	{"tags", 50_000, func(n int) string {
		return "Content-Type: text/html\r\n\r\n" + strings.Repeat("<a href=\"http://x.example/\">", n)
	}},
	{"angles", 1 << 20, func(n int) string { return "Content-Type: text/html\r\n\r\n" + strings.Repeat("<", n) }},
	{"colons", 1 << 20, func(n int) string { return "\r\n" + strings.Repeat("http:", n/5) }},
	{"addresses", 50_000, func(n int) string { return "From: " + strings.Repeat("a@b,", n) + "\r\n\r\nx" }},
}

// fastest returns the shortest of several runs.
func fastest(runs int, f func()) time.Duration {
	best := time.Hour
	for range runs {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return best
}

// patiently tries a comparison of times again: other programs run too.
func patiently(t *testing.T, try func() (ok bool, what string)) {
	t.Helper()
	if racing {
		t.Skip("times mean nothing under the race detector")
	}
	what := ""
	for range 8 {
		var ok bool
		if ok, what = try(); ok {
			t.Log(what)
			return
		}
	}
	t.Error(what)
}

// TestHostileTime doubles hostile messages: reading the structure may take
// twice the time, and at most 50 ms; reading everything stays linear too.
func TestHostileTime(t *testing.T) {
	const noise = 2 * time.Millisecond // what is shorter cannot be compared
	for _, h := range hostile {
		one, two := []byte(h.make(h.n)), []byte(h.make(2*h.n))
		patiently(t, func() (bool, string) {
			a := fastest(5, func() { ParseBytes(one, Options{}).Root() })
			b := fastest(5, func() { ParseBytes(two, Options{}).Root() })
			what := fmt.Sprintf("%s: structure %v, twice as large %v", h.name, a, b)
			return b <= max(a, noise)*5/2 && a < 50*time.Millisecond, what
		})
		patiently(t, func() (bool, string) {
			a := fastest(1, func() { use(ParseBytes(one, Options{})) })
			b := fastest(2, func() { use(ParseBytes(two, Options{})) })
			return b <= max(a, noise)*3, fmt.Sprintf("%s: everything %v, twice as large %v", h.name, a, b)
		})
	}
}

// TestStructureTime compares with counting lines.
func TestStructureTime(t *testing.T) {
	for _, c := range []struct {
		name string
		data []byte
		runs int
		most time.Duration
	}{{"20 KB of text", plainMail(20 << 10), 400, 4}, {"5 MB with an attachment", attachmentMail(5 << 20), 10, 3}} {
		patiently(t, func() (bool, string) {
			lines := fastest(c.runs, func() { sink += countLines(c.data) })
			structure := fastest(c.runs, func() { sink += len(ParseBytes(c.data, Options{}).Root().children) })
			return structure <= c.most*lines, fmt.Sprintf("%s: lines %v, structure %v", c.name, lines, structure)
		})
	}
}

// TestStructureAllocations keeps an eye on what each relayed mail costs.
func TestStructureAllocations(t *testing.T) {
	data := plainMail(20 << 10)
	if n := testing.AllocsPerRun(100, func() { ParseBytes(data, Options{}).Root() }); n > 10 {
		t.Errorf("%v allocations for the structure of a plain mail", n)
	}
	if n := testing.AllocsPerRun(100, func() { ParseBytes(data, Options{}).Findings() }); n > 30 {
		t.Errorf("%v allocations for the findings of a plain mail", n)
	}
}
