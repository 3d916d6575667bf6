package smtpd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/mail"
)

// TestDialogs plays the files of testdata. Their lines:
//
//	! settings         role=outbound lmtp tls=optional auth bare=normalise allow outbound xforward xclient proxy message=100 rcpts=2 errors=3 delay
//	C: text            send a line
//	C> "text"          send octets, quoted as in Go; lines of these are one write
//	S: text            a line of a reply, which begins so
//	R: 250             a reply of any number of lines, with this code
//	T:                 TLS handshake
//	X:                 the server closes, and says no more
//	Q:                 the server says nothing for a moment
//	N: 1               messages delivered since the last N
//	M: "text"          content of the last of them
//	F: text            facts of the last: from, recipients, client, helo, direction...
func TestDialogs(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogs: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			playDialog(t, f, string(text))
		})
	}
}

func playDialog(t *testing.T, name, text string) {
	var c *client
	var g *gateway
	conf, delivered := Config{}, 0
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '!' {
			conf = dialogConfig(t, line[1:])
			continue
		}
		if g == nil {
			g = start(t, conf, &backend{})
			c = g.dial(t)
		}
		op, arg, _ := strings.Cut(line, " ")
		fail := func(got string) {
			t.Helper()
			t.Fatalf("%s:%d: %s\n got %s", name, n+1, line, got)
		}
		switch op {
		case "C:":
			c.send(arg + "\r\n")
		case "C>":
			c.send(unquote(t, arg))
		case "S:":
			if got, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(got, arg) {
				fail(strconv.Quote(got) + " " + errText(err))
			}
		case "R:":
			if got, err := c.reply(); err != nil || !strings.HasPrefix(got, arg) {
				fail(strconv.Quote(got) + " " + errText(err))
			}
		case "T:":
			c.upgrade()
		case "X:":
			c.closed()
		case "Q:":
			c.silent()
		case "N:":
			got := g.messages()
			if strconv.Itoa(len(got)-delivered) != arg {
				fail(strconv.Itoa(len(got) - delivered))
			}
			delivered = len(got)
		case "M:":
			got := g.messages()
			if len(got) == 0 || got[len(got)-1].text != unquote(t, arg) {
				fail(strconv.Quote(got[len(got)-1].text))
			}
		case "F:":
			got := g.messages()
			if facts := describe(got[len(got)-1].tx); facts != arg {
				fail(facts)
			}
		default:
			t.Fatalf("%s:%d: unknown step %q", name, n+1, line)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func unquote(t *testing.T, arg string) string {
	t.Helper()
	s, err := strconv.Unquote(arg)
	if err != nil {
		t.Fatalf("%s: %v", arg, err)
	}
	return s
}

// describe says what a backend was told, on one line.
func describe(tx *mail.Transaction) string {
	var b strings.Builder
	o := tx.Options
	b.WriteString("from=<" + tx.ReversePath.String() + ">")
	add := func(ok bool, text string) {
		if ok {
			b.WriteString(" " + text)
		}
	}
	add(o.Body != "", "body="+string(o.Body))
	add(o.Size != 0, "size="+strconv.FormatInt(o.Size, 10))
	add(o.UTF8, "utf8")
	add(o.RequireTLS, "requiretls")
	add(o.Return != "", "ret="+string(o.Return))
	add(o.EnvelopeID != "", "envid="+o.EnvelopeID)
	if o.Auth != nil {
		b.WriteString(" auth=<" + *o.Auth + ">")
	}
	for _, r := range tx.Recipients {
		b.WriteString(" to=<" + r.String() + ">")
		for _, n := range r.Options.Notify {
			b.WriteString(" notify=" + string(n))
		}
		add(r.Options.OriginalRecipient != "", "orcpt="+string(r.Options.OriginalRecipientType)+";"+r.Options.OriginalRecipient)
	}
	add(tx.Forwarded, "forwarded client="+tx.Client.String()+" name="+tx.ClientName)
	b.WriteString(" helo=" + tx.Helo)
	add(tx.User != "", "user="+tx.User)
	add(tx.TLS.Version != "", "tls")
	b.WriteString(" " + string(tx.Direction) + " " + tx.With(o.UTF8))
	return b.String()
}

func dialogConfig(t *testing.T, settings string) Config {
	t.Helper()
	var c Config
	for _, f := range strings.Fields(settings) {
		k, v, _ := strings.Cut(f, "=")
		n, _ := strconv.Atoi(v)
		switch k {
		case "role":
			c.Role = mail.Role(v)
		case "lmtp":
			c.LMTP = true
		case "tls":
			c.TLS = v
		case "auth":
			c.Auth, c.MaxFailures = true, 3
		case "requiretls":
			c.RequireTLS = true
		case "bare":
			c.BareNewline = v
		case "allow":
			c.Allow = loopback
		case "outbound":
			c.Outbound = loopback
		case "xforward":
			c.TrustXForward = loopback
		case "xclient":
			c.TrustXClient = loopback
		case "proxy":
			c.TrustProxy = loopback
		case "message":
			c.Limits.Message = int64(n)
		case "rcpts":
			c.Limits.Recipients = n
		case "errors":
			c.Limits.Errors = n
		case "messages":
			c.Limits.Messages = n
		case "delay":
			c.Limits.GreetDelay = 200 * time.Millisecond
		default:
			t.Fatalf("unknown setting %q", f)
		}
	}
	return c
}
