package relay_test

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"postern/mail"
	"postern/relay"
)

// TestRepliesApart: a next hop that sends each reply in a packet of its own, with
// Nagle's algorithm on, must not cost the 40 ms of a delayed acknowledgement.
func TestRepliesApart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go repliesApart(c.(*net.TCPConn))
		}
	}()
	client := relay.New(relay.Options{Hostname: "gw.example"})
	defer client.Close()
	hop := &relay.Hop{Name: "apart", To: []string{l.Addr().String()}, TLS: relay.TLSNone}
	content := "Subject: x\r\n\r\ntext\r\n"
	m := &relay.Mail{From: mail.Path{Local: "a", Domain: "b.example"}, To: []mail.Recipient{{Path: mail.Path{Local: "c", Domain: "d.example"}}},
		Size: int64(len(content)), Bytes: [][]byte{[]byte(content)}}
	const rounds = 25
	start := time.Now()
	for range rounds {
		if out := client.Deliver(t.Context(), hop, m); !out[0].Delivered {
			t.Fatalf("not delivered: %+v", out[0])
		}
	}
	if took := time.Since(start); took > rounds*20*time.Millisecond {
		t.Errorf("%d messages took %v", rounds, took)
	}
}

func repliesApart(c *net.TCPConn) {
	defer c.Close()
	_ = c.SetNoDelay(false)
	r := bufio.NewReader(c)
	say := func(s string) { _, _ = c.Write([]byte(s + "\r\n")) }
	say("220 apart")
	for inData := false; ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch {
		case inData:
			if line == ".\r\n" {
				inData = false
				say("250 kept")
			}
		case strings.HasPrefix(line, "EHLO"):
			say("250-apart\r\n250 PIPELINING")
		case strings.HasPrefix(line, "DATA"):
			inData = true
			say("354 go on")
		case strings.HasPrefix(line, "QUIT"):
			say("221 bye")
			return
		default:
			say("250 OK")
		}
	}
}
