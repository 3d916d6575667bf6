package mail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var errBroken = errors.New("disk is broken")

// A failingReader fails at once.
type failingReader struct{}

func (failingReader) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

// A shortReader fails from an offset on.
type shortReader struct {
	b    []byte
	from int64
}

func (r shortReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.from {
		return 0, errBroken
	}
	n := copy(p, r.b[off:r.from])
	if n < len(p) {
		return n, errBroken
	}
	return n, nil
}

// TestReadErrors lets reads fail everywhere: Err must tell, nothing may panic.
func TestReadErrors(t *testing.T) {
	data := attachmentMail(200 << 10)
	for from := int64(0); from < int64(len(data)); from += 7919 {
		m := Parse(shortReader{data, from}, int64(len(data)), Options{})
		use(m)
		if !errors.Is(m.Err(), errBroken) {
			t.Fatalf("broken at %d: Err is %v", from, m.Err())
		}
	}
	m := Parse(bytes.NewReader(data[:1000]), int64(len(data)), Options{})
	use(m)
	if !errors.Is(m.Err(), io.ErrUnexpectedEOF) {
		t.Errorf("a message cut short: Err is %v", m.Err())
	}
}

// TestPartReadError wants the error from the part too.
func TestPartReadError(t *testing.T) {
	data := attachmentMail(200 << 10)
	broken := &switchReader{b: data}
	m := Parse(broken, int64(len(data)), Options{})
	p := m.Part("2")
	broken.broken = true
	if _, err := p.Bytes(); !errors.Is(err, errBroken) {
		t.Errorf("Bytes: %v", err)
	}
	if _, err := io.ReadAll(p.Open()); !errors.Is(err, errBroken) {
		t.Errorf("Open: %v", err)
	}
}

type switchReader struct {
	b      []byte
	broken bool
}

func (r *switchReader) ReadAt(p []byte, off int64) (int, error) {
	if r.broken {
		return 0, errBroken
	}
	return bytes.NewReader(r.b).ReadAt(p, off)
}

// TestWindows moves delimiters, headers and line ends over the edges of the
// window that a file is read through.
func TestWindows(t *testing.T) {
	for _, line := range []int{70, windowSize/2 - 5, windowSize + 10} {
		body := strings.Repeat(strings.Repeat("x", line)+"\r\n", 2*windowSize/line+1)
		for shift := range 24 {
			msg := []byte(top + "--foo\r\nX: " + strings.Repeat("y", 3*shift) + "\r\n\r\n" + body + "--foo\r\nA: b\r\n c\r\n\r\nlast\r\n" + fooEnd)
			pad := windowSize - len(top) - shift*7
			if line == 70 {
				msg = append([]byte(strings.Replace(top, "From", "X: "+strings.Repeat("z", pad)+"\r\nFrom", 1)), msg[len(top):]...)
			}
			sameTree(t, fmt.Sprint("line ", line, " shift ", shift), ParseBytes(msg, Options{}), Parse(bytes.NewReader(msg), int64(len(msg)), Options{}))
		}
	}
}

// TestHostileFromFile reads hostile messages from memory and from a file.
func TestHostileFromFile(t *testing.T) {
	for _, h := range hostile {
		msg := []byte(h.make(h.n / 50))
		sameTree(t, h.name, ParseBytes(msg, Options{}), Parse(bytes.NewReader(msg), int64(len(msg)), Options{}))
	}
}

// TestConcurrent lets filters ask for everything at once.
func TestConcurrent(t *testing.T) {
	msg := []byte(top + text1 + "--foo\r\n" + file + "--foo\r\nContent-Type: text/html\r\n\r\n<a href=http://x.example/>y</a>\r\nbegin 644 a\r\n#86)C\r\n`\r\nend\r\n" + fooEnd)
	m := Parse(bytes.NewReader(msg), int64(len(msg)), Options{Unpack: []Unpacker{listUnpacker(t)}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { use(m) })
	}
	wg.Wait()
	if n := len(m.Parts()); n != 5 {
		t.Errorf("%d parts, want 5", n)
	}
}

func TestPartTree(t *testing.T) {
	msg := top + text1 + "--foo\r\nContent-Type: multipart/alternative; boundary=bar\r\n\r\n--bar\r\n\r\nx\r\n--bar\r\nContent-Type: text/html\r\n\r\ny\r\n--bar--\r\n" +
		"--foo\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\nSubject: z\r\n\r\nin\r\n" + fooEnd
	m := ParseBytes([]byte(msg), Options{})
	var got []string
	for _, p := range m.Parts() {
		body, err := p.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if string(body) != msg[p.Offset():p.Offset()+p.Length()] {
			t.Errorf("part %s does not lie at %d", p.ID(), p.Offset())
		}
		s := string(p.ID()) + " " + p.MediaType()
		if p.IsLeaf() {
			s += " " + string(body)
		}
		got = append(got, s)
	}
	want := []string{" multipart/mixed", "1 text/plain hello", "2 multipart/alternative", "2.1 text/plain x", "2.2 text/html y", "3 message/rfc822", "3.1 text/plain in"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q", got)
	}
	for _, id := range []PartID{"0", "4", "1.1", "2.", ".1", "x", "2.1x", "01", "99999999999"} {
		if p := m.Part(id); p != nil {
			t.Errorf("Part(%q) is %s", id, p.ID())
		}
	}
	if p := m.Part("2.1"); p.Parent() != m.Part("2") || len(m.Part("2").Children()) != 2 || m.Root().Parent() != nil {
		t.Error("parents and children do not fit")
	}
	if as := m.Attachments(); len(as) != 0 {
		t.Errorf("attachments %v", as)
	}
}

func TestPartFacts(t *testing.T) {
	m := ParseBytes([]byte("Content-Type: Application/PDF; Name=a.pdf; charset=X\r\nContent-Disposition: Attachment (x); filename=a.pdf\r\nContent-Transfer-Encoding: 8BIT\r\n\r\nx"), Options{})
	p := m.Root()
	if p.MediaType() != "application/pdf" || p.Disposition() != "attachment" || p.Encoding() != "8bit" || p.Charset() != "x" || p.Params()["name"] != "a.pdf" {
		t.Errorf("%q %q %q %q %q", p.MediaType(), p.Disposition(), p.Encoding(), p.Charset(), p.Params())
	}
	if !p.IsAttachment() || p.Reading() || p.Entity() != p {
		t.Error("the root is no attachment")
	}
	for head, want := range map[string]bool{
		"Content-Type: application/pkcs7-mime; smime-type=enveloped-data": true,
		"Content-Type: application/pkcs7-mime; smime-type=signed-data":    false,
		"Content-Type: application/pkcs7-mime":                            true,
		"Content-Type: multipart/encrypted; boundary=x":                   true,
		"Content-Type: text/plain":                                        false,
	} {
		if got := ParseBytes([]byte(head+"\r\n\r\n"), Options{}).Root().Encrypted(); got != want {
			t.Errorf("%s: encrypted %v", head, got)
		}
	}
}

// TestLimitTime lets the clock run out.
func TestLimitTime(t *testing.T) {
	now := time.Unix(0, 0)
	o := Options{Limits: Limits{Time: time.Second}, Now: func() time.Time { now = now.Add(time.Minute); return now }}
	m := ParseBytes([]byte(top+strings.Repeat(text1, 5000)+fooEnd), o)
	if got := kinds(m); len(got) == 0 || got[0] != LimitTime {
		t.Errorf("findings %v", got)
	}
}

// examHides lists the exam's messages that hide the EICAR test file.
var examHides = "01 03 05 06 07 08 09 11 12 13 14 15 16 17 18 19 21 22 23 24 25 26 27 28 29 30 31 32 34 35 36 37 38 55 60 61"

// TestExam finds what the exam's MIME messages hide: the EICAR test file in some
// reading, and invoice.js among the names.
func TestExam(t *testing.T) {
	root := os.Getenv("POSTERN_EXAM")
	if root == "" {
		t.Skip("POSTERN_EXAM is not set")
	}
	read := func(id string) *Message {
		b, err := os.ReadFile(filepath.Join(root, "inputs", "MIME-"+id+".eml"))
		if err != nil {
			t.Fatal(err)
		}
		return ParseBytes(b, Options{})
	}
	const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR` + `-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`
	for _, id := range strings.Fields(examHides) {
		if !shows(read(id), eicar) {
			t.Errorf("MIME-%s: no reading shows the test file", id)
		}
	}
	for _, id := range strings.Fields("39 41 42 43 44 45 47 48 49 50 51 52") {
		found := false
		for _, p := range read(id).Parts() {
			for _, n := range p.Names() {
				found = found || strings.HasSuffix(n, ".js")
			}
		}
		if !found {
			t.Errorf("MIME-%s: no name ends in .js", id)
		}
	}
	for id, want := range map[string]FindingKind{"58": PartialMessage, "59": ExternalBody, "65": OddCharset, "67": LimitDepth, "69": LimitParts, "71": LimitHeader} {
		if got := kinds(read(id)); !strings.Contains(fmt.Sprint(got), string(want)) {
			t.Errorf("MIME-%s: findings %v, want %s", id, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range findingTests {
		f.Add([]byte(tt.msg))
	}
	f.Add(attachmentMail(500))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := ParseBytes(b, Options{})
		use(m)
		n := Parse(bytes.NewReader(b), int64(len(b)), Options{})
		sameTree(t, "fuzzed", m, n)
		for _, p := range m.Parts() {
			for _, fd := range p.Header().Fields() {
				if p.InMessage() && !bytes.Equal(b[fd.Offset():fd.Offset()+int64(len(fd.Raw()))], fd.Raw()) {
					t.Fatalf("field %q lies elsewhere than at %d", fd.Raw(), fd.Offset())
				}
			}
		}
	})
}
