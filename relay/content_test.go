package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"postern/mail"
)

// oneMail is a mail of slices.
func oneMail(parts ...string) *Mail {
	m := newMail("", "a@example.com")
	m.Bytes = nil
	for _, p := range parts {
		m.Bytes = append(m.Bytes, []byte(p))
		m.Size += int64(len(p))
	}
	return m
}

// TestDots sends dots at every place of a message, cut into slices at every
// place, and compares what arrives byte for byte.
func TestDots(t *testing.T) {
	contents := []string{
		"", ".\r\n", "..\r\n", ".", "\r\n", "\r\n.", "\r\n.\r\n", "a\r\n.\r\n.\r\nb\r\n", ".a\r\n..b\r\n...c\r\n", "a.b\r\n.", "a\r\n..\r\n..",
		"\r\n\r\n.\r\n\r\n", ".\r\n.\r\n.\r\n", "x\r\n.\r\nMAIL FROM:<evil@example.org>\r\nDATA\r\n.\r\n", "no line end", "cr at the end\r",
	}
	for k := range 12 {
		line := []byte("abcdefghijkl\r\n")
		line[k] = '.'
		contents = append(contents, strings.Repeat(string(line), 3))
	}
	for _, features := range [][]string{allFeatures, chunking()} {
		f := (&fake{features: features}).start(t)
		c := newTestClient(t, Options{})
		var want []string
		send := func(m *Mail, content string) {
			t.Helper()
			if out := c.Deliver(context.Background(), hopTo(f), m); !out[0].Delivered {
				t.Fatalf("%q: %+v", content, out[0])
			}
			if len(features) == len(allFeatures) && content != "" && !strings.HasSuffix(content, "\r\n") {
				content += "\r\n" // DATA cannot say it otherwise
			}
			want = append(want, content)
		}
		for _, content := range contents {
			for cut := range len(content) + 1 {
				send(oneMail(content[:cut], content[cut:]), content)
			}
			m := oneMail(content)
			m.Bytes, m.Content = nil, func() io.Reader { return iotest.OneByteReader(strings.NewReader(content)) }
			send(m, content)
			if m := oneMail(content); lineDot([]byte("\n"+content)) < 0 {
				m.Dotless = true
				send(m, content)
			}
		}
		got, _, sessions := f.got()
		if sessions != 1 || len(got) != len(want) {
			t.Fatalf("%d mails over %d sessions, want %d", len(got), sessions, len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%v: sent %q, got %q", features, want[i], got[i])
			}
		}
	}
}

// TestBoundaries sends messages around the sizes at which writes are cut, with
// dots just there.
func TestBoundaries(t *testing.T) {
	f, ch := (&fake{}).start(t), (&fake{features: chunking()}).start(t)
	c := newTestClient(t, Options{})
	n := 0
	for _, size := range []int{copyBelow, scratchSize, bdatAtOnce, blockSize, blockSize + scratchSize} {
		for d := -3; d <= 3; d++ {
			content := bytes.Repeat([]byte("x"), size+d)
			copy(content[size+d-5:], "\r\n.\r\n")
			rest := "\r\n.after\r\n..\r\nend\r\n"
			for _, m := range []*Mail{
				oneMail(string(content), rest),
				oneMail(string(content)+rest, ".\r\n"),
			} {
				sum := bytes.Join(m.Bytes, nil)
				if d > 0 {
					m.Bytes, m.Content = nil, func() io.Reader { return bytes.NewReader(sum) }
				}
				for _, to := range []*fake{f, ch} {
					if out := c.Deliver(context.Background(), hopTo(to), m); !out[0].Delivered {
						t.Fatalf("%d%+d: %+v", size, d, out[0])
					}
					mails, _, _ := to.got()
					if got := mails[len(mails)-1]; got != string(sum) {
						t.Fatalf("%d%+d: content changed: %d octets, not %d", size, d, len(got), len(sum))
					}
				}
				n++
			}
		}
	}
	if mails, _, _ := f.got(); len(mails) != n {
		t.Errorf("%d mails, want %d", len(mails), n)
	}
}

// TestHostileContentIsSentInFewWrites checks that content that is all dots does
// not cost memory or a write per line.
func TestHostileContentIsSentInFewWrites(t *testing.T) {
	content := bytes.Repeat([]byte(".\r\n"), 400_000)
	counting := &countingConn{}
	w := newContentWriter(&conn{Conn: counting, o: &Options{BlockTimeout: time.Minute}, ctx: context.Background(), ended: new(atomic.Bool), r: newReplyReader(nil)}, true)
	if err := w.content(&Mail{Bytes: [][]byte{content}, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if err := w.end(new(bool), true); err != nil {
		t.Fatal(err)
	}
	if counting.octets != len(content)*4/3+3 || counting.writes > 40 {
		t.Errorf("%d octets in %d writes", counting.octets, counting.writes)
	}
}

type countingConn struct {
	net.Conn
	writes, octets int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes++
	c.octets += len(p)
	return len(p), nil
}
func (c *countingConn) SetWriteDeadline(time.Time) error { return nil }

// TestRoundTrips counts what it takes to send a small message on a connection
// that is there: the next hop sees one group of commands, and with CHUNKING the
// content comes along.
func TestRoundTrips(t *testing.T) {
	for _, c := range []struct {
		features []string
		want     string
	}{
		{allFeatures, "[commands] [content]"},
		{chunking(), "[commands content]"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		seen := make(chan string, 10)
		go countGroups(l, c.features, seen)
		client := newTestClient(t, Options{})
		hop := &Hop{Name: "h", To: []string{l.Addr().String()}, TLS: TLSNone}
		for range 2 {
			if out := client.Deliver(context.Background(), hop, newMail(sample, "a@example.com", "b@example.com")); !out[0].Delivered || !out[1].Delivered {
				t.Fatalf("%+v", out)
			}
			if got := <-seen; got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		}
	}
}

// countGroups is a server that waits until nothing more comes before it answers,
// and says what came together.
func countGroups(l net.Listener, features []string, seen chan string) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	group := func() string {
		var all []byte
		buf := make([]byte, 65536)
		for {
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
			if len(all) == 0 {
				_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			}
			n, err := c.Read(buf)
			if all = append(all, buf[:n]...); err != nil {
				return string(all)
			}
		}
	}
	fmt.Fprint(c, "220 x\r\n")
	group()
	fmt.Fprintf(c, "250-x\r\n250-%s\r\n250 OK\r\n", strings.Join(features, "\r\n250-"))
	for {
		g := group()
		switch {
		case strings.HasPrefix(g, "MAIL") && strings.HasSuffix(g, "\r\nDATA\r\n"):
			fmt.Fprint(c, "250 a\r\n250 b\r\n250 c\r\n354 d\r\n")
			if g = group(); strings.HasSuffix(g, "\r\n.\r\n") {
				fmt.Fprint(c, "250 e\r\n")
				seen <- "[commands] [content]"
			}
		case strings.HasPrefix(g, "MAIL") && strings.HasSuffix(g, sample):
			fmt.Fprint(c, "250 a\r\n250 b\r\n250 c\r\n250 d\r\n")
			seen <- "[commands content]"
		default:
			seen <- fmt.Sprintf("%q", g)
			return
		}
	}
}

// TestNoDelayedStep sends messages one after the other: with Nagle's algorithm
// and delayed acknowledgements each would take 40 ms.
func TestNoDelayedStep(t *testing.T) {
	for _, features := range [][]string{allFeatures, lockstep(), chunking()} {
		f := (&fake{features: features}).start(t)
		c := newTestClient(t, Options{})
		const n = 25
		best := time.Hour
		for range n {
			start := time.Now()
			if out := c.Deliver(context.Background(), hopTo(f), newMail(strings.Repeat(sample, 30), "a@example.com")); !out[0].Delivered {
				t.Fatal(out[0])
			}
			best = min(best, time.Since(start))
		}
		if best > 20*time.Millisecond {
			t.Errorf("%v: the fastest message took %v", features, best)
		}
	}
}

func FuzzContent(f *testing.F) {
	f.Add([]byte("a\r\n.b\r\n"), uint8(3))
	f.Add([]byte(".\r\n..\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, content []byte, cut uint8) {
		var sent bytes.Buffer
		w := newContentWriter(&conn{Conn: &bufferConn{b: &sent}, o: &Options{BlockTimeout: time.Minute}, ctx: context.Background(), ended: new(atomic.Bool), r: newReplyReader(nil)}, true)
		defer w.free()
		k := min(int(cut), len(content))
		m := &Mail{Bytes: [][]byte{content[:k], content[k:]}, Size: int64(len(content))}
		err := w.content(m)
		bare := strings.Contains(strings.ReplaceAll("\n"+string(content), "\r\n", "\r\r"), "\n.") && strings.Contains(string(content), "\n.")
		if err == nil {
			err = w.end(new(bool), true)
		}
		if err != nil {
			if !bare {
				t.Fatalf("%q: %v", content, err)
			}
			return
		}
		got := sent.String()
		if !strings.HasSuffix("\r\n"+got, "\r\n.\r\n") || strings.Contains("\r\n"+strings.TrimSuffix(got, ".\r\n"), "\r\n.\r\n") {
			t.Fatalf("%q is sent as %q", content, got)
		}
		got = strings.TrimSuffix(got, ".\r\n")
		got = strings.TrimPrefix(strings.ReplaceAll("\r\n"+got, "\r\n.", "\r\n"), "\r\n")
		if want := string(content); got != want && got != want+"\r\n" {
			t.Fatalf("%q arrives as %q", content, got)
		}
	})
}

type bufferConn struct {
	net.Conn
	b *bytes.Buffer
}

func (c *bufferConn) Write(p []byte) (int, error)      { return c.b.Write(p) }
func (c *bufferConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzReply reads replies of any form: no panic, bounded, and what comes out is
// fit to be passed on.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "550 5.1.1 no\n", "354\r\n", "2500\r\n", "250 \xff\x00\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := newReplyReader(bytes.NewReader(text))
		reply, err := r.read(nil)
		if err != nil {
			return
		}
		if reply.Code < 200 || reply.Code > 599 || strings.ContainsAny(reply.Text, "\r\x00\x1b") || len(reply.Text) > 3*maxReplyText {
			t.Fatalf("%q reads as %+v", text, reply)
		}
		if (reply.Enhanced != mail.Reply{}.Enhanced) && reply.Enhanced[0] != reply.Code/100 {
			t.Fatalf("%q reads as %+v", text, reply)
		}
	})
}

// TestLineDot compares with the plain search, for few dots and for many.
func TestLineDot(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		b := make([]byte, r.IntN(200))
		for i := range b {
			b[i] = "..\n\r"[r.IntN(4)]
			if r.IntN(40) > 0 {
				b[i] = "abcdefg."[r.IntN(8)]
			}
		}
		want := bytes.Index(b, []byte("\n."))
		if got := lineDot(b); got != want {
			t.Fatalf("%q: %d, want %d", b, got, want)
		}
		if got := manyDots(b); got != want {
			t.Fatalf("many dots: %q: %d, want %d", b, got, want)
		}
	}
}
