package relay

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// startSwallow starts a server that costs as little as can be: it answers and
// throws away.
func startSwallow(b *testing.B, features ...string) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go swallow(c, features)
		}
	}()
	return l.Addr().String()
}

func swallow(c net.Conn, features []string) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	out := bufio.NewWriterSize(c, 4<<10)
	say := func(s string) {
		out.WriteString(s)
		if r.Buffered() == 0 {
			out.Flush()
		}
	}
	say("220 x\r\n")
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch {
		case bytes.HasPrefix(line, []byte("EHLO")):
			say("250-x\r\n250-" + strings.Join(features, "\r\n250-") + "\r\n250 PIPELINING\r\n")
		case bytes.HasPrefix(line, []byte("BDAT ")):
			n, _ := strconv.Atoi(string(bytes.Fields(line)[1]))
			if _, err := r.Discard(n); err != nil {
				return
			}
			say("250 2.0.0 kept\r\n")
		case bytes.HasPrefix(line, []byte("DATA")):
			say("354 go\r\n")
			out.Flush()
			for {
				line, err := r.ReadSlice('\n')
				if err != nil && err != bufio.ErrBufferFull {
					return
				}
				if len(line) == 3 && line[0] == '.' {
					break
				}
			}
			say("250 2.0.0 kept\r\n")
		default:
			say("250 2.0.0 ok\r\n")
		}
	}
}

// benchContent is text mail of about n octets, a dot line now and then.
func benchContent(n int) []byte {
	var b bytes.Buffer
	b.WriteString("From: a@example.org\r\nTo: b@example.com\r\nSubject: benchmark\r\n\r\n")
	for i := 0; b.Len() < n; i++ {
		if i%97 == 0 {
			b.WriteString(".\r\n")
		}
		b.WriteString("Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod te\r\n")
	}
	return b.Bytes()
}

var benchSizes = []struct {
	name string
	n    int
}{{"4KB", 4 << 10}, {"100KB", 100 << 10}, {"5MB", 5 << 20}}

// BenchmarkDeliver delivers one message after the other over one connection:
// relay by DATA and BDAT from memory and from a reader, and go-smtp's client.
func BenchmarkDeliver(b *testing.B) {
	for _, size := range benchSizes {
		content := benchContent(size.n)
		for _, kind := range []string{"DATA", "BDAT", "reader"} {
			b.Run(fmt.Sprintf("relay/%s/%s", kind, size.name), func(b *testing.B) {
				features := []string{"8BITMIME"}
				if kind == "BDAT" {
					features = append(features, "CHUNKING")
				}
				c := New(Options{Hostname: "gw.example.net"})
				defer c.Close()
				hop := &Hop{Name: "sink", To: []string{startSwallow(b, features...)}, TLS: TLSNone}
				m := &Mail{From: path("a@example.org"), To: []mail.Recipient{{Path: path("b@example.com")}}, Size: int64(len(content)), Bytes: [][]byte{content}}
				if kind == "reader" {
					m.Bytes, m.Content = nil, func() io.Reader { return bytes.NewReader(content) }
				}
				b.SetBytes(int64(len(content)))
				b.ReportAllocs()
				for b.Loop() {
					if out := c.Deliver(context.Background(), hop, m); !out[0].Delivered {
						b.Fatal(out[0])
					}
				}
			})
		}
		b.Run("gosmtp/DATA/"+size.name, func(b *testing.B) {
			c, err := smtp.Dial(startSwallow(b, "8BITMIME"))
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.SendMail("a@example.org", []string{"b@example.com"}, bytes.NewReader(content)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStuff is the dot-stuffing alone, against a scan for line ends.
func BenchmarkStuff(b *testing.B) {
	content := benchContent(5 << 20)
	m := &Mail{Bytes: [][]byte{content}, Size: int64(len(content))}
	b.Run("relay", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		c := &conn{Conn: &countingConn{}, o: &Options{BlockTimeout: 1}, ctx: context.Background(), ended: new(atomic.Bool), r: newReplyReader(nil)}
		for b.Loop() {
			w := newContentWriter(c, true)
			if err := w.content(m); err != nil {
				b.Fatal(err)
			}
			w.free()
		}
	})
	b.Run("count", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			bytes.Count(content, []byte{'\n'})
		}
	})
}
