package smtpd

import (
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"postern/mail"
)

// The tests of this file are named after gaps that other server loops have: a
// mail that is lost, doubled or forged through each of them.

// A timeout in DATA ends the session: the rest is not run as commands.
func TestGapTimeoutInData(t *testing.T) {
	g := start(t, Config{Limits: Limits{Data: 100 * time.Millisecond}}, &backend{})
	c := g.hello(t)
	c.begin()
	c.cmd("354", "DATA")
	c.send("Subject: x\r\n\r\n")
	c.expect("421 4.4.2")
	_, _ = io.WriteString(c.Conn, "MAIL FROM:<smuggled@attack.test>\r\n")
	c.end()
	wait(t, "abort", func() bool { return g.aborts() == 1 })
	if n := len(g.messages()); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// end expects the end of the connection, be it a reset.
func (c *client) end() {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	rest, err := io.ReadAll(c.r)
	if ne, ok := err.(net.Error); ok && ne.Timeout() || len(rest) > 0 {
		c.t.Fatalf("%q, %v: want the end", rest, err)
	}
}

// half closes the client's side.
func (c *client) half() {
	c.t.Helper()
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// A chunk that is cut short is never a message.
func TestGapCutChunk(t *testing.T) {
	for _, text := range []string{"BDAT 100 LAST\r\nonly this", "BDAT 100 LAST\r\n", "BDAT 4\r\nhalf", "BDAT 4\r\nhalfBDAT 5 LAST\r\n1234"} {
		g := start(t, Config{}, &backend{})
		c := g.hello(t)
		c.begin()
		c.send(text)
		c.half()
		rest, _ := io.ReadAll(c.r)
		if strings.Count(string(rest), "250") != strings.Count(text, "half") {
			t.Errorf("%q: answered %q", text, rest)
		}
		wait(t, "abort", func() bool { return g.aborts() == 1 })
		if n := len(g.messages()); n != 0 {
			t.Errorf("%q: %d messages", text, n)
		}
	}
}

// Content that is cut short is never a message.
func TestGapCutData(t *testing.T) {
	for _, text := range []string{"", "x", "x\r\n", "x\r\n.", "x\r\n.\r", ".", ".\r"} {
		g := start(t, Config{}, &backend{})
		c := g.hello(t)
		c.begin()
		c.cmd("354", "DATA")
		c.send(text)
		c.half()
		c.end()
		wait(t, "abort", func() bool { return g.aborts() == 1 })
		if n := len(g.messages()); n != 0 {
			t.Errorf("%q: %d messages", text, n)
		}
	}
}

// Quoted local-parts stay quoted.
func TestGapQuotedLocalPart(t *testing.T) {
	g := start(t, Config{}, &backend{})
	c := g.hello(t)
	c.cmd("250", `MAIL FROM:<"a@b"@attack.test>`)
	c.cmd("250", `RCPT TO:<"victim@internal.test> X"@victim.test>`)
	c.cmd("354", "DATA")
	c.send("x\r\n.\r\n")
	c.expect("250")
	tx := g.messages()[0].tx
	if got := tx.ReversePath.String(); got != `"a@b"@attack.test` {
		t.Errorf("reverse-path %s", got)
	}
	if got := tx.Recipients[0].String(); got != `"victim@internal.test> X"@victim.test` {
		t.Errorf("forward-path %s", got)
	}
}

// A message that ends CR CR LF . CR LF ends.
func TestGapEndAfterBareCR(t *testing.T) {
	for bare, want := range map[string]string{"reject": "550 5.6.0", "normalise": "250"} {
		g := start(t, Config{BareNewline: bare}, &backend{})
		c := g.hello(t)
		c.begin()
		c.cmd("354", "DATA")
		c.send("x\r\r\n.\r\n")
		c.expect(want)
		c.cmd("250", "NOOP")
	}
}

// Fake ends of data are content, whatever follows them: one reply, one message.
func TestGapSmuggling(t *testing.T) {
	inner := "MAIL FROM:<inner@attack.test>\r\nRCPT TO:<smuggled@victim.test>\r\nDATA\r\nSubject: s\r\n\r\ns"
	for _, end := range fakeEnds {
		for _, bare := range []string{"reject", "normalise"} {
			for _, pieces := range []bool{false, true} {
				t.Run(fmt.Sprintf("%q,%s,%v", end, bare, pieces), func(t *testing.T) {
					t.Parallel()
					g := start(t, Config{BareNewline: bare}, &backend{})
					c := g.hello(t)
					c.begin()
					c.cmd("354", "DATA")
					text := "Subject: x\r\n\r\nbody" + end + inner + "\r\n.\r\n"
					if pieces {
						for i := range len(text) {
							c.send(text[i : i+1])
						}
					} else {
						c.send(text)
					}
					c.expect(map[string]string{"reject": "550 5.6.0", "normalise": "250"}[replyFor(bare, end)])
					c.silent()
					if got := g.messages(); len(got) > 1 || len(got) == 1 && strings.ContainsAny(strings.ReplaceAll(got[0].text, "\r\n", ""), "\r\n\x00") {
						t.Errorf("messages %+v", got)
					}
				})
			}
		}
	}
}

var fakeEnds = []string{
	"\n.\n", "\r.\r", "\r.\n", "\n.\r", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\r\n.\r", "\r\n\x00.\r\n", "\r\n.\x00\r\n",
	"\r\n.\r\r\n", "\r\r\n.\r\r\n", "\r\n.\r\x00\n",
}

func replyFor(bare, end string) string {
	if strings.Contains(end, "\x00") {
		return "reject"
	}
	return bare
}

// Behind a message with bare newlines nothing is run that was already sent.
func TestGapNothingBehindBareNewline(t *testing.T) {
	g := start(t, Config{}, &backend{})
	c := g.hello(t)
	c.begin()
	c.cmd("354", "DATA")
	c.send("x\n.\ny\r\n.\r\nMAIL FROM:<inner@attack.test>\r\nRCPT TO:<smuggled@victim.test>\r\nDATA\r\n")
	c.expect("550 5.6.0")
	c.end()
}

// Line length in content does not matter, nor how it is cut into packets.
func TestGapLongLines(t *testing.T) {
	g := start(t, Config{}, &backend{})
	c := g.hello(t)
	long := strings.Repeat("0123456789", 30000)
	for _, send := range []func(){
		func() {
			c.cmd("354", "DATA")
			c.send(long + "\r\n.\r\n")
		},
		func() { c.send(fmt.Sprintf("BDAT %d LAST\r\n%s\r\n", len(long)+2, long)) },
		func() {
			c.send(fmt.Sprintf("BDAT %d LAST\r\n", len(long)+2))
			c.send(long + "\r\n")
		},
	} {
		c.begin()
		send()
		c.expect("250")
	}
	for i, m := range g.messages() {
		if m.text != long+"\r\n" {
			t.Errorf("message %d has %d octets", i, len(m.text))
		}
	}
}

// Command lines have a limit, AUTH a higher one; neither costs the session, but
// a line without end does.
func TestGapLongCommands(t *testing.T) {
	g := start(t, Config{TLS: "implicit", Auth: true, MaxFailures: 50}, &backend{})
	c := g.dial(t)
	c.upgrade()
	c.expect("220")
	c.cmd("250", "EHLO c")
	c.cmd("500 5.5.2", "NOOP "+strings.Repeat("x", maxCommand))
	c.cmd("500 5.5.2", "NOOP "+strings.Repeat("x", 9000))
	c.cmd("500 5.5.2", "NOOP "+strings.Repeat("x", 40000))
	c.cmd("250", "NOOP "+strings.Repeat("x", maxCommand-10))
	c.cmd("535", "AUTH PLAIN AEFBAEFB"+strings.Repeat("QUFB", 2000))
	c.cmd("334", "AUTH PLAIN")
	c.cmd("535", "AEFBAEFB"+strings.Repeat("QUFB", 2998))
	c.cmd("250", "NOOP")
	c.send(strings.Repeat("x", maxDiscard+maxAuthLine+maxCommand))
	c.expect("500 5.5.2")
	c.end()
}

// A handshake that fails ends the session; nothing more is said in clear.
func TestGapFailedHandshake(t *testing.T) {
	g := start(t, Config{TLS: "optional"}, &backend{})
	c := g.hello(t)
	c.cmd("220", "STARTTLS")
	c.send("MAIL FROM:<a@b.test>\r\n")
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	rest, _ := io.ReadAll(c.r)
	for _, b := range rest { // at most a TLS alert
		if len(rest) > 7 || b >= '2' && b <= '5' && len(rest) > 7 {
			t.Fatalf("in clear after a failed handshake: %q", rest)
		}
	}
}

// RSET, EHLO and QUIT amid BDAT end the transaction once.
func TestGapResetAmidChunks(t *testing.T) {
	for _, verb := range []string{"RSET", "EHLO c", "QUIT"} {
		g := start(t, Config{}, &backend{})
		c := g.hello(t)
		c.begin()
		c.send("BDAT 4\r\nhalf")
		c.expect("250")
		c.cmd("2", verb)
		if verb == "QUIT" {
			c.closed()
		}
		wait(t, "abort", func() bool { return g.aborts() == 1 })
		if verb != "QUIT" {
			c.begin()
			c.send("BDAT 3 LAST\r\nnew")
			c.expect("250")
			if got := g.messages(); len(got) != 1 || got[0].text != "new\r\n" {
				t.Errorf("%s: %+v", verb, got)
			}
		}
	}
}

// A total deadline for a command is not extended by single octets.
func TestGapSlowCommand(t *testing.T) {
	g := start(t, Config{Limits: Limits{Command: 300 * time.Millisecond}}, &backend{})
	c := g.dial(t)
	c.expect("220")
	began := time.Now()
	go func() {
		for range 100 {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	c.expect("421 4.4.2")
	if d := time.Since(began); d < 200*time.Millisecond || d > 5*time.Second {
		t.Errorf("after %v", d)
	}
}

// TestGoClients lets the standard library's client and go-smtp's talk to us.
func TestGoClients(t *testing.T) {
	g := start(t, Config{TLS: "optional", Auth: true, Outbound: loopback}, &backend{})
	text := "Subject: x\r\n\r\n.hidden\r\nline\r\n"
	t.Run("net/smtp", func(t *testing.T) {
		conn, err := smtp.Dial(g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		steps := []func() error{
			func() error { return conn.Hello("client.test") },
			func() error { return conn.StartTLS(insecure()) },
			func() error { return conn.Auth(smtp.PlainAuth("", "alice", "secret", "127.0.0.1")) },
			func() error { return conn.Mail("a@victim.test") },
			func() error { return conn.Rcpt("b@elsewhere.test") },
		}
		for i, f := range steps {
			if err := f(); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
		}
		w, err := conn.Data()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, text)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := conn.Quit(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("go-smtp", func(t *testing.T) {
		conn, err := gosmtp.DialStartTLS(g.addr, insecure())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range 3 {
			if err := conn.SendMail("a@victim.test", []string{"b@elsewhere.test", "c@elsewhere.test"}, strings.NewReader(text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.Quit(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("go-smtp LMTP", func(t *testing.T) {
		b := &backend{}
		l := start(t, Config{LMTP: true}, b)
		nc, err := net.Dial("tcp", l.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn := gosmtp.NewClientLMTP(nc)
		defer conn.Close()
		for _, f := range []func() error{
			func() error { return conn.Mail("a@b.test", &gosmtp.MailOptions{Size: 10, Body: gosmtp.Body8BitMIME}) },
			func() error { return conn.Rcpt("v@victim.test", nil) },
			func() error { return conn.Rcpt("w@victim.test", nil) },
		} {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}
		w, err := conn.Data()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, text)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if m := b.messages(); len(m) != 1 || m[0].text != text {
			t.Errorf("%+v", m)
		}
	})
	got := g.messages()
	if len(got) != 4 {
		t.Fatalf("%d messages", len(got))
	}
	for _, m := range got {
		if m.text != text || m.tx.TLS.Version == "" || m.tx.Direction != mail.Outbound {
			t.Errorf("%q, %+v", m.text, m.tx.Session)
		}
	}
}

// TestCorpusSmuggling plays the fake ends of data of the corpora.
func TestCorpusSmuggling(t *testing.T) {
	dir := os.Getenv("POSTERN_CORPORA")
	if dir == "" {
		t.Skip("POSTERN_CORPORA is not set")
	}
	ends := corpusEnds(t, dir+"/smtp/smuggling/eod_sequences.json")
	if len(ends) < 20 {
		t.Fatalf("%d sequences", len(ends))
	}
	for _, end := range ends {
		g := start(t, Config{}, &backend{})
		c := g.hello(t)
		c.begin()
		c.cmd("354", "DATA")
		c.send("a" + end + "MAIL FROM:<x@attack.test>\r\n.\r\n")
		c.expect("550 5.6.0")
		c.silent()
	}
	t.Logf("%d sequences", len(ends))
}
