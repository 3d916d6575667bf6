package smtpd

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/mail"
)

// Commands that move no mail are answered for a while, then counted as errors,
// and then the session ends. A message begins the count anew.
func TestJunkLimit(t *testing.T) {
	for _, command := range []string{"NOOP", "RSET", "VRFY a", "HELP", "EHLO again.test", "HELO again.test"} {
		t.Run(command, func(t *testing.T) {
			g := start(t, Config{Limits: Limits{Junk: 5, Errors: 3}}, &backend{})
			c := g.hello(t) // the first
			for range 4 {
				c.cmd("2", command)
			}
			c.deliver("x")
			for range 5 + 2 {
				c.cmd("2", command)
			}
			c.cmd("2", command)
			c.expect("421 4.7.0")
			c.closed()
		})
	}
}

// A balancer that looks whether we are there, or a relay that resets what it
// was refused, is not cut off.
func TestJunkOfTrustedPeer(t *testing.T) {
	g := start(t, Config{Limits: Limits{Junk: 1, Errors: 1}, TrustXForward: loopback}, &backend{})
	c := g.hello(t)
	for range 10 {
		c.cmd("250", "RSET")
	}
	c.deliver("x")
}

// Chunks without octets do not stretch the time for a message.
func TestEmptyChunks(t *testing.T) {
	g := start(t, Config{Limits: Limits{Data: 200 * time.Millisecond}}, &backend{})
	c := g.hello(t)
	c.begin()
	last := ""
	for began := time.Now(); time.Since(began) < 10*time.Second && !strings.HasPrefix(last, "421"); {
		if _, err := fmt.Fprint(c.Conn, "BDAT 0\r\n"); err != nil {
			break
		}
		var err error
		if last, err = c.reply(); err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !strings.HasPrefix(last, "421 4.4.2") {
		t.Errorf("last reply %q", last)
	}
	wait(t, "abort", func() bool { return g.aborts() == 1 })
}

// A name that nobody can have is not remembered: names of thousands of octets
// would fill the memory.
func TestLongNamesAreNotRemembered(t *testing.T) {
	g := start(t, Config{TLS: "optional", Auth: true, AuthDelay: time.Millisecond, MaxFailures: 3}, &backend{})
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	c := g.hello(t)
	c.startTLS()
	c.cmd("250", "EHLO c.test")
	for i := range 2 {
		c.cmd("334", "AUTH LOGIN")
		c.cmd("334", encode(strings.Repeat(string(rune(97+i)), 6000)))
		c.cmd("535", encode("x"))
	}
	g.failures.mu.Lock()
	defer g.failures.mu.Unlock()
	for _, k := range g.failures.pairs.Keys() {
		if k.account != "" {
			t.Errorf("remembers a name of %d octets", len(k.account))
		}
	}
	if n := g.failures.pairs.Len(); n != 1 {
		t.Errorf("%d pairs", n)
	}
}

// A 421 among the replies of LMTP ends the session whatever follows it.
func TestShutdownAmongReplies(t *testing.T) {
	g := start(t, Config{LMTP: true}, &backend{dataReplies: []mail.Reply{{Code: 421, Text: "closing"}, {Code: 550, Text: "no"}}})
	c := g.dial(t)
	c.expect("220")
	c.cmd("250", "LHLO c.test")
	c.begin()
	c.cmd("250", "RCPT TO:<another@victim.test>")
	c.cmd("354", "DATA")
	c.send("x\r\n.\r\n")
	c.expect("421")
	c.expect("550")
	c.closed()
}
