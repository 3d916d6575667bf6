package smtpd

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"postern/spool"
)

// contentIn is c with a body of the spool.
func contentIn(sp *spool.Spool, c content) *content {
	c.body = sp.Buffer()
	c.into = c.body
	return &c
}

// receive passes a stream through dots in pieces cut by cut, and returns the
// content with what it thinks of it, and how much of the stream it used.
func receive(t testing.TB, sp *spool.Spool, stream []byte, normalise bool, cut func(rest int) int) (text string, c *content, used int, end bool) {
	t.Helper()
	c = contentIn(sp, content{limit: 1 << 30, normalise: normalise, began: time.Now()})
	d := dots{start: true}
	var pending []byte
	for rest := stream; ; {
		n, done := d.next(pending, c)
		pending, used = pending[n:], used+n
		if done || len(rest) == 0 {
			end = done
			break
		}
		n = cut(len(rest))
		pending = append(append([]byte(nil), pending...), rest[:n]...)
		rest = rest[n:]
	}
	if end {
		c.finish()
	}
	b, _ := c.body.Bytes()
	text = string(b)
	if dots := strings.Contains("\n"+text, "\n."); dots && !d.met && !c.rewritten {
		t.Fatalf("%q: nobody has met the dot that begins a line of %q", stream, text)
	}
	return text, c, used, end
}

// reference does the same octet by octet, as the RFC says it.
func reference(stream string, normalise bool) (text string, bare, nul, end bool, used int) {
	i := strings.Index("\r\n"+stream, "\r\n.\r\n")
	if i < 0 {
		return "", false, false, false, 0
	}
	body := strings.TrimPrefix(strings.ReplaceAll("\r\n"+stream[:i], "\r\n.", "\r\n"), "\r\n")
	stripped := strings.ReplaceAll(body, "\r\n", "")
	bare, nul = strings.ContainsAny(stripped, "\r\n"), strings.Contains(body, "\x00")
	if normalise {
		body = strings.ReplaceAll(body, "\r\n", "\n")
		body = strings.ReplaceAll(body, "\r", "\n")
		body = strings.ReplaceAll(body, "\n", "\r\n")
	}
	return body, bare, nul, true, i + 3
}

// TestDotsAgainstReference feeds random streams of the octets that matter, in
// random pieces.
func TestDotsAgainstReference(t *testing.T) {
	sp := newSpool(t)
	r := rand.New(rand.NewPCG(1, 2))
	alphabet := []string{"\r", "\n", ".", "x", "\r\n", "\r\n.", "\x00"}
	weights := []int{0, 1, 2, 3, 4, 4, 4, 5, 5, 0, 1, 2, 3, 4, 5, 6}
	for range 20000 {
		var b strings.Builder
		for range r.IntN(12) {
			b.WriteString(alphabet[weights[r.IntN(len(weights))]])
		}
		stream := b.String()
		if r.IntN(4) > 0 {
			stream += "\r\n.\r\nNOOP\r\n"
		}
		checkStream(t, sp, stream, r.IntN(2) == 0, func(rest int) int { return 1 + r.IntN(min(rest, 4)) })
	}
}

func checkStream(t testing.TB, sp *spool.Spool, stream string, normalise bool, cut func(int) int) {
	t.Helper()
	want, bare, nul, end, used := reference(stream, normalise)
	got, c, gotUsed, gotEnd := receive(t, sp, []byte(stream), normalise, cut)
	defer c.discard()
	if gotEnd != end || end && gotUsed != used {
		t.Fatalf("%q: end %v after %d, want %v after %d", stream, gotEnd, gotUsed, end, used)
	}
	if !end {
		return
	}
	if c.nul != nul || c.bare() != bare {
		t.Fatalf("%q: bare %v, NUL %v; want %v, %v", stream, c.bare(), c.nul, bare, nul)
	}
	if !nul && (!bare || normalise) && got != want {
		t.Fatalf("%q, normalise %v: content %q, want %q", stream, normalise, got, want)
	}
}

// TestEndAcrossBuffers puts the end of data at every place of a read.
func TestEndAcrossBuffers(t *testing.T) {
	sp := newSpool(t)
	for _, edge := range []int{1024, 4096, smallBuffer, 32768, largeBuffer} {
		for off := -6; off <= 1; off++ {
			body := strings.Repeat("x", edge+off-2) + "\r\n"
			first := true
			checkStream(t, sp, body+".\r\nNOOP\r\n", false, func(rest int) int {
				if first {
					first = false
					return min(edge, rest)
				}
				return rest
			})
		}
	}
}

// TestChunksInAnyPieces: what BDAT chunks hold does not depend on how they are
// cut.
func TestChunksInAnyPieces(t *testing.T) {
	sp := newSpool(t)
	r := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		var b strings.Builder
		for range 1 + r.IntN(8) {
			b.WriteString([]string{"\r", "\n", "x", "\r\n", "\r\n"}[r.IntN(5)])
		}
		text := b.String()
		bare := strings.ContainsAny(strings.ReplaceAll(text, "\r\n", ""), "\r\n")
		for _, normalise := range []bool{false, true} {
			c := contentIn(sp, content{limit: 1 << 20, normalise: normalise})
			for rest := []byte(text); len(rest) > 0; {
				n := 1 + r.IntN(len(rest))
				c.Write(rest[:n])
				rest = rest[n:]
			}
			c.finish()
			if c.bare() != bare {
				t.Fatalf("%q: bare %v", text, c.bare())
			}
			want := strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n"), "\n", "\r\n")
			if !strings.HasSuffix(want, "\r\n") {
				want += "\r\n"
			}
			if got, _ := c.body.Bytes(); (normalise || !bare) && string(got) != want {
				t.Fatalf("%q: %q, want %q", text, got, want)
			}
			c.discard()
		}
	}
}

func TestContentDeadline(t *testing.T) {
	l := &Limits{Data: 10 * time.Minute, MinRate: 100}
	c := &content{began: time.Unix(1000, 0)}
	for size, want := range map[int64]time.Duration{0: time.Minute, 100: time.Minute, 12000: 2 * time.Minute, 1 << 40: 10 * time.Minute} {
		c.size = size
		if got := c.until(l).Sub(c.began); got != want {
			t.Errorf("after %d octets until %v, want %v", size, got, want)
		}
	}
}

func TestFullSpool(t *testing.T) {
	sp, err := spool.Open(t.TempDir(), spool.Options{Memory: 1024, Reserve: 1 << 60})
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	g := start(t, Config{Spool: sp}, &backend{})
	c := g.hello(t)
	if got := c.deliver("small"); !strings.HasPrefix(got, "250") {
		t.Errorf("small: %q", got)
	}
	if got := c.deliver(strings.Repeat("large\r\n", 1000)); !strings.HasPrefix(got, "452 4.3.1") {
		t.Errorf("large: %q", got)
	}
	c.cmd("250", "NOOP")
	if g.aborts() != 1 {
		t.Errorf("%d aborted", g.aborts())
	}
}

func BenchmarkContent(b *testing.B) {
	sp := newSpool(b)
	line := strings.Repeat("0123456789", 7) + "\r\n"
	for _, size := range []int{4 << 10, 200 << 10} {
		text := []byte(strings.Repeat(line, size/len(line)) + ".\r\n")
		b.Run(fmt.Sprintf("memory/%dK", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				c := contentIn(sp, content{limit: 1 << 30})
				feed(b, c, text)
				c.discard()
			}
		})
	}
	text := []byte(strings.Repeat(line, (10<<20)/len(line)) + ".\r\n")
	b.Run("scan/10M", func(b *testing.B) { // without the storing
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			feed(b, &content{limit: -1}, text)
		}
	})
	b.Run("file/10M", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			c := contentIn(sp, content{limit: 1 << 30})
			feed(b, c, text)
			c.discard()
		}
	})
}

// feed passes a stream on in the pieces of a session's reads.
func feed(b *testing.B, c *content, text []byte) {
	d := dots{start: true}
	for {
		n, end := d.next(text[:min(len(text), largeBuffer)], c)
		if end {
			return
		}
		if n == 0 {
			b.Fatal("no end")
		}
		text = text[n:]
	}
}

func BenchmarkSession(b *testing.B) {
	for _, size := range []int{4 << 10, 10 << 20} {
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			g := start(b, Config{Limits: Limits{Messages: 1 << 30}}, &backend{})
			g.Server.backend = sink{}
			c := g.hello(b)
			_ = c.SetDeadline(time.Time{})
			text := append(bytes.Repeat([]byte(strings.Repeat("0123456789", 7)+"\r\n"), size/72), ".\r\n"...)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				c.send("MAIL FROM:<a@attack.test>\r\nRCPT TO:<victim@victim.test>\r\nDATA\r\n")
				c.expect("250")
				c.expect("250")
				c.expect("354")
				if _, err := c.Write(text); err != nil {
					b.Fatal(err)
				}
				c.expect("250")
			}
		})
	}
}

// TestCheck: what does not come over the wire is held to the same laws.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		message, newline string
		limit            int64
		received, law    string
		code             int
	}{
		{"a: b\r\n\r\nx\r\n", "reject", 100, "a: b\r\n\r\nx\r\n", "", 0},
		{"a: b\r\n\r\nx", "reject", 100, "a: b\r\n\r\nx\r\n", "", 0},
		{"", "reject", 100, "", "", 0},
		{"a: b\r\n", "reject", 6, "a: b\r\n", "", 0},
		{"a: b\r\n", "reject", 5, "", "message-size", 552},
		{"a: b\n", "reject", 100, "", "bare-newline", 550},
		{"a: b\rc\r\n", "reject", 100, "", "bare-newline", 550},
		{"a: b\r", "reject", 100, "", "bare-newline", 550},
		{"a: b\nc\rd\r\n", "normalise", 100, "a: b\r\nc\r\nd\r\n", "", 0},
		{"a: \x00\r\n", "normalise", 100, "", "nul", 550},
	} {
		received, law, no := Check([]byte(c.message), c.limit, c.newline)
		if string(received) != c.received || law != c.law || no.Code != c.code {
			t.Errorf("%q with %s: %q %s %v", c.message, c.newline, received, law, no)
		}
	}
}
