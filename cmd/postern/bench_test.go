package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// The benchmarks below send mail through a relay on loopback, each over the
// same client and to the same next hop: through Postern with the policies of
// testdata/bench, and through a bare relay of the same size of code as a
// textbook has, which is what the others are compared with.

const endOfData = "\r\n.\r\n"

// A loadSession is a client that sends the same message again and again.
type loadSession struct {
	conn net.Conn
	r    *bufio.Reader
}

// openLoad connects. Before the greeting it says head: the PROXY header (version
// 1) that Postern's listener expects, or nothing.
func openLoad(addr, head string) (*loadSession, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, head); err != nil {
		return nil, err
	}
	s := &loadSession{conn: conn, r: bufio.NewReader(conn)}
	if err := s.expect("220"); err != nil {
		return nil, err
	}
	return s, s.command("EHLO client.example\r\n", "250")
}

// expect reads one reply.
func (s *loadSession) expect(code string) error {
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, code) {
			return fmt.Errorf("want %s, got %q", code, line)
		}
		if len(line) > 3 && line[3] != '-' {
			return nil
		}
	}
}

func (s *loadSession) command(text, code string) error {
	if _, err := io.WriteString(s.conn, text); err != nil {
		return err
	}
	return s.expect(code)
}

// send sends one message, whose bytes end with the final dot.
func (s *loadSession) send(data []byte) error {
	if err := s.command("MAIL FROM:<bounce@bench.example>\r\n", "250"); err != nil {
		return err
	}
	if err := s.command("RCPT TO:<rcpt@sink.example>\r\n", "250"); err != nil {
		return err
	}
	if err := s.command("DATA\r\n", "354"); err != nil {
		return err
	}
	if _, err := s.conn.Write(data); err != nil {
		return err
	}
	return s.expect("250")
}

// benchMessage is a text mail of about size bytes, ready for DATA.
func benchMessage(size int) []byte {
	var b bytes.Buffer
	b.WriteString("From: Author <author@bench.example>\r\nTo: <rcpt@sink.example>\r\nSubject: a benchmark\r\n" +
		"Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@bench.example>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\n\r\n")
	for b.Len() < size {
		b.WriteString("The quick brown fox jumps over the lazy dog, and the dog does not mind it.\r\n")
	}
	b.WriteString(".\r\n")
	return b.Bytes()
}

// blackHole is a next hop that takes everything and keeps nothing.
func blackHole(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() {
				defer c.Close()
				swallow(c)
			})
		}
	})
	tb.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// swallow speaks the server's side of SMTP until the client leaves.
func swallow(c net.Conn) {
	r := bufio.NewReaderSize(c, 64<<10)
	reply := "220 sink.example ESMTP\r\n"
	for {
		if r.Buffered() == 0 || strings.HasPrefix(reply, "220") {
			if _, err := io.WriteString(c, reply); err != nil {
				return
			}
			reply = ""
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(string(line[:min(4, len(line))])); verb {
		case "EHLO":
			reply += "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 104857600\r\n"
		case "DATA":
			if _, err := io.WriteString(c, reply+"354 go on\r\n"); err != nil {
				return
			}
			if reply = "250 2.0.0 taken\r\n"; skipData(r) != nil {
				return
			}
		case "QUIT":
			_, _ = io.WriteString(c, reply+"221 bye\r\n")
			return
		default:
			reply += "250 2.0.0 ok\r\n"
		}
	}
}

// skipData reads up to the final dot.
func skipData(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return err
		}
		if len(line) == 3 && string(line) == endOfData[2:] {
			return nil
		}
	}
}

// bareRelay is the reference: go-smtp's server and client, a pool of
// connections, and nothing in between.
type bareRelay struct {
	next string
	pool chan *smtp.Client
}

func startBareRelay(tb testing.TB, next string) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := smtp.NewServer(&bareRelay{next: next, pool: make(chan *smtp.Client, 64)})
	server.Domain = "bare.example"
	server.MaxMessageBytes = 64 << 20
	go func() { _ = server.Serve(l) }()
	tb.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

// NewSession implements smtp.Backend.
func (b *bareRelay) NewSession(*smtp.Conn) (smtp.Session, error) { return &bareSession{relay: b}, nil }

type bareSession struct {
	relay *bareRelay
	from  string
	to    []string
}

func (s *bareSession) Reset()        { s.from, s.to = "", nil }
func (s *bareSession) Logout() error { return nil }

func (s *bareSession) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *bareSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *bareSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var c *smtp.Client
	select {
	case c = <-s.relay.pool:
	default:
		if c, err = smtp.Dial(s.relay.next); err != nil {
			return err
		}
	}
	if err := c.SendMail(s.from, s.to, bytes.NewReader(b)); err != nil {
		c.Close()
		return err
	}
	select {
	case s.relay.pool <- c:
	default:
		c.Close()
	}
	return nil
}

// startBench runs Postern in this process with a policy of testdata/bench and
// returns the address of its listener.
func startBench(tb testing.TB, name, next string) string {
	tb.Helper()
	text, err := os.ReadFile("../../testdata/bench/" + name + ".toml")
	if err != nil {
		tb.Fatal(err)
	}
	policy := strings.NewReplacer("127.0.0.1:2525", "127.0.0.1:0", "127.0.0.1:2600", next).Replace(string(text))
	in, err := start(context.Background(), settings{
		file: name + ".toml", text: []byte(policy), state: tb.TempDir(),
		log: slog.New(slog.DiscardHandler), mailLog: io.Discard,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { in.stop(context.Background()) })
	return in.addr("bench")
}

// proxyHead says that a client on another network is connected.
const proxyHead = "PROXY TCP4 198.18.0.5 127.0.0.1 40000 2525\r\n"

// relays are the systems that the benchmarks compare.
var relays = []struct {
	name, head string
	start      func(tb testing.TB, next string) string
}{
	{"bare", "", startBareRelay},
	{"relay", proxyHead, func(tb testing.TB, next string) string { return startBench(tb, "relay", next) }},
	{"spool", proxyHead, func(tb testing.TB, next string) string { return startBench(tb, "spool", next) }},
}

func benchmarkRelay(b *testing.B, size, sessions int) {
	data := benchMessage(size)
	for _, relay := range relays {
		b.Run(relay.name, func(b *testing.B) {
			addr := relay.start(b, blackHole(b))
			work := make(chan struct{}, sessions)
			var clients sync.WaitGroup
			for range sessions {
				s, err := openLoad(addr, relay.head)
				if err != nil {
					b.Fatal(err)
				}
				defer s.conn.Close()
				clients.Go(func() {
					for range work {
						if err := s.send(data); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			clients.Wait()
			b.StopTimer()
		})
	}
}

func BenchmarkRelayOneSession(b *testing.B)  { benchmarkRelay(b, 4<<10, 1) }
func BenchmarkRelayTenSessions(b *testing.B) { benchmarkRelay(b, 4<<10, 10) }
func BenchmarkRelayTenMegabytes(b *testing.B) {
	benchmarkRelay(b, 10<<20, 2)
}

// TestNoDelayedStep checks that no side waits for a delayed acknowledgement: on
// Linux that costs 40 ms a message, whatever the machine.
func TestNoDelayedStep(t *testing.T) {
	addr := startBench(t, "relay", blackHole(t))
	s, err := openLoad(addr, proxyHead)
	if err != nil {
		t.Fatal(err)
	}
	defer s.conn.Close()
	data := benchMessage(4 << 10)
	var took []time.Duration
	for range 21 {
		begin := time.Now()
		if err := s.send(data); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	if median := took[len(took)/2]; median >= 40*time.Millisecond {
		t.Errorf("a message took %v", median)
	}
}
