package dkim

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"postern/mail"
)

// A recorder is a hash that keeps what it is given.
type recorder struct {
	hash.Hash
	text bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) { return r.text.Write(p) }

// canonicalBody returns the canonical body of m, up to limit.
func canonicalBody(t testing.TB, c canon, m *mail.Message, limit int64) string {
	t.Helper()
	r := &recorder{}
	f := newForm(c, unixLines(m))
	f.outs = []*output{{limit: limit, hash: r}}
	if err := readBody(m, []*form{f}); err != nil {
		t.Fatal(err)
	}
	return r.text.String()
}

// canonicalHeader returns all fields in canonical form.
func canonicalHeader(c canon, m *mail.Message) string {
	var b []byte
	for _, f := range m.Header().Fields() {
		b = append(c.appendField(b, f.Raw(), len(f.Raw()), len(f.Raw())), crlf...)
	}
	return string(b)
}

// disputedFlanker are the forms that are others here.
var disputedFlanker = map[string]string{
	"email.24/relaxed": "its last line is white space without a line end, which the expected form keeps; RFC 6376 section 3.4.4 drops it, and SMTP sends no such line",
}

// TestFlankerCanonicalisation runs the cases of the DomainKeys test suite that
// flanker extended: a message and its canonical forms.
func TestFlankerCanonicalisation(t *testing.T) {
	total, right := 0, 0
	for _, file := range files(t, "dkim/flanker", "email.*") {
		number := filepath.Ext(file)
		dir := filepath.Dir(file)
		for _, c := range []canon{simple, relaxed} {
			want := optional(t, filepath.Join(dir, c.String()+".expected"+number))
			if want == "" {
				continue
			}
			total++
			m := parse(crlfLines(readFile(t, file)))
			if got := canonicalHeader(c, m) + "\r\n" + canonicalBody(t, c, m, -1); got != want {
				if reason := disputedFlanker["email"+number+"/"+c.String()]; reason != "" {
					t.Logf("disputed: email%s, %s: %s", number, c, reason)
					continue
				}
				t.Errorf("email%s, %s (%s): %q, want %q", number, c, strings.TrimSpace(optional(t, filepath.Join(dir, "purpose"+number))), got, want)
				continue
			}
			right++
		}
	}
	t.Logf("flanker: %d of %d canonical forms right", right, total)
}

func TestCanonicalBody(t *testing.T) {
	for _, c := range []struct{ body, simple, relaxed string }{
		{"", "\r\n", ""},
		{"\r\n", "\r\n", ""},
		{"\r\n\r\n\r\n", "\r\n", ""},
		{" \r\n\t\r\n", " \r\n\t\r\n", ""},
		{"a", "a\r\n", "a\r\n"},
		{"a\r\n", "a\r\n", "a\r\n"},
		{"a\r\n\r\n\r\n", "a\r\n", "a\r\n"},
		{"a\r\n \r\n\t \r\n", "a\r\n \r\n\t \r\n", "a\r\n"},
		{" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"}, // RFC 6376 section 3.4.5
		{"\r\n\r\na\r\n", "\r\n\r\na\r\n", "\r\n\r\na\r\n"},
		{"\r\n \r\na b\r\n\r\nc", "\r\n \r\na b\r\n\r\nc\r\n", "\r\n\r\na b\r\n\r\nc\r\n"},
		{"a\rb\r\n", "a\rb\r\n", "a\rb\r\n"},
		{"a\r\r\nb", "a\r\r\nb\r\n", "a\r\r\nb\r\n"},
		{"a \r b\r\n", "a \r b\r\n", "a \r b\r\n"},
		{"a\nb \nc\r\n", "a\nb \nc\r\n", "a\nb \nc\r\n"}, // a bare LF is a character
		{"a\r", "a\r\r\n", "a\r\r\n"},
		{"a ", "a \r\n", "a\r\n"},
		{"a\x00\x01 \x02\r\n", "a\x00\x01 \x02\r\n", "a\x00\x01 \x02\r\n"},
		{"\ta\t\tb\t\r\n", "\ta\t\tb\t\r\n", " a b\r\n"},
	} {
		m := parse("From: a@b.example\r\n\r\n" + c.body)
		if got := canonicalBody(t, simple, m, -1); got != c.simple {
			t.Errorf("%q simple: %q, want %q", c.body, got, c.simple)
		}
		if got := canonicalBody(t, relaxed, m, -1); got != c.relaxed {
			t.Errorf("%q relaxed: %q, want %q", c.body, got, c.relaxed)
		}
		if got := canonicalBody(t, simple, m, 3); got != c.simple[:min(3, len(c.simple))] {
			t.Errorf("%q limited: %q", c.body, got)
		}
	}
}

func TestUnixFile(t *testing.T) {
	text := "From: a@b.example\nSubject: two\n lines\n\nfirst  line \n\nsecond\n\n\n"
	unix, mime := parse(text), parse(crlfLines(text))
	for _, c := range []canon{simple, relaxed} {
		if a, b := canonicalBody(t, c, unix, -1), canonicalBody(t, c, mime, -1); a != b {
			t.Errorf("%s: %q as a file, %q on the wire", c, a, b)
		}
		if a, b := canonicalHeader(c, unix), canonicalHeader(c, mime); a != b {
			t.Errorf("%s: %q as a file, %q on the wire", c, a, b)
		}
	}
}

// slowBody is the definition of RFC 6376 section 3.4 word by word.
func slowBody(c canon, body string) string {
	lines := strings.Split(body, "\r\n")
	for i, l := range lines {
		if c == relaxed {
			var b strings.Builder
			space := false
			for _, r := range []byte(l) {
				if r == ' ' || r == '\t' {
					space = true
					continue
				}
				if space {
					b.WriteByte(' ')
				}
				space = false
				b.WriteByte(r)
			}
			lines[i] = b.String()
		}
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) == 0 {
		if c == simple {
			return "\r\n"
		}
		return ""
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// TestBodyChunks compares the fast reader with the definition on random bodies
// that are cut into random pieces.
func TestBodyChunks(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"\r\n", "\r\n", " ", "\t", "  ", "\r", "\n", "a", "word", "two words", strings.Repeat("x", 600), "\x00", "é"}
	for range 3000 {
		var b strings.Builder
		for range random.IntN(40) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		body := b.String()
		for _, c := range []canon{simple, relaxed} {
			r := &recorder{}
			f := newForm(c, false)
			f.outs = []*output{{limit: -1, hash: r}}
			for rest := []byte(body); len(rest) > 0; {
				n := 1 + random.IntN(len(rest))
				f.write(rest[:n])
				rest = rest[n:]
			}
			f.finish()
			if got, want := r.text.String(), slowBody(c, body); got != want || f.length != int64(len(want)) {
				t.Fatalf("%q %s: %q (%d), want %q", body, c, got, f.length, want)
			}
		}
	}
}

// failing is a message file that cannot be read beyond a point.
type failing struct {
	text string
	good int64
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.good {
		return 0, io.ErrClosedPipe
	}
	return copy(p, f.text[off:]), nil
}

// TestSources checks that a message in memory, in a file and edited has one
// hash.
func TestSources(t *testing.T) {
	text := "From: a@b.example\r\n\r\n" + strings.Repeat("line of  text \r\n\r\n", 20_000)
	inMemory := parse(text)
	inFile := mail.Parse(strings.NewReader(text), int64(len(text)), mail.Options{})
	e := inMemory.Edit()
	e.Prepend("X-A: 1")
	edited, err := e.Message()
	if err != nil {
		t.Fatal(err)
	}
	e = inFile.Edit()
	e.Prepend("X-A: 1")
	editedFile, err := e.Message()
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256([]byte(slowBody(relaxed, text[strings.Index(text, "\r\n\r\n")+4:])))
	for i, m := range []*mail.Message{inMemory, inFile, edited, editedFile} {
		key := bodyKey{relaxed, -1}
		var b bodies
		sums, err := b.sum(m, []bodyKey{key})
		if err != nil || sums[key].sum != want {
			t.Errorf("%d: %x, %v", i, sums[key].sum, err)
		}
	}
	broken := mail.Parse(failing{text, 100_000}, int64(len(text)), mail.Options{})
	var b bodies
	if _, err := b.sum(broken, []bodyKey{{relaxed, -1}}); err == nil {
		t.Error("a body that cannot be read has a hash")
	}
}

func TestCanonicalHeader(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"A: X\r\n", "a:X"},
		{"B : Y\t\r\n\tZ  \r\n", "b:Y Z"}, // RFC 6376 section 3.4.5
		{"SUBJect:\r\n  a\r\n\t b \r\n", "subject:a b"},
		{"X:\r\n", "x:"},
		{"X: \t \r\n", "x:"},
		{"X:a\x00b\r\n", "x:a\x00b"},
		{"X: é  ü\r\n", "x:é ü"},
	} {
		if got := string(relaxed.appendField(nil, []byte(c.raw), len(c.raw), len(c.raw))); got != c.want {
			t.Errorf("%q: %q, want %q", c.raw, got, c.want)
		}
		if got := string(simple.appendField(nil, []byte(c.raw), len(c.raw), len(c.raw))); got != strings.TrimSuffix(c.raw, "\r\n") {
			t.Errorf("%q simple: %q", c.raw, got)
		}
	}
}
