package relay

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const lateBy = 300 * time.Millisecond

// A fake is a next hop that says what a test wants it to say.
//
// say maps a verb ("MAIL", "RCPT", "DATA", "." for the end of the content,
// "BDAT"...) or a whole command line to a reply; "banner" is the greeting. A
// reply of "hang" is none, "close" closes the connection; "250 x|close" says
// something first, "250 x|500 y" says y two milliseconds later, in a segment of
// its own. "late: 250 x" waits for lateBy; "once: close" holds once. What
// is not there gets the answer of a server without complaints.
type fake struct {
	t        testing.TB
	lmtp     bool
	features []string // EHLO keywords
	tlsWords []string // EHLO keywords under TLS; nil: the same without STARTTLS
	tls      *tls.Config
	inData   func(c net.Conn) // called when DATA or BDAT begins, before the content is read

	mu       sync.Mutex
	say      map[string]string
	address  string
	sessions int
	open     int
	most     int // sessions at once
	lines    []string
	mails    []string
	listener net.Listener
}

var allFeatures = []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 100000000", "ENHANCEDSTATUSCODES"}

// start starts the fake on a loopback port.
func (f *fake) start(t testing.TB) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.t, f.listener, f.address = t, l, l.Addr().String()
	if f.features == nil {
		f.features = allFeatures
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.sessions++
			f.open++
			f.most = max(f.most, f.open)
			f.mu.Unlock()
			go func() {
				defer func() {
					c.Close()
					f.mu.Lock()
					f.open--
					f.mu.Unlock()
				}()
				f.serve(c)
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return f
}

func (f *fake) set(verb, reply string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.say == nil {
		f.say = map[string]string{}
	}
	f.say[verb] = reply
}

// reply says the reply to a line; ok is false if the session is over.
func (f *fake) reply(c net.Conn, line, usual string) (said string, ok bool) {
	f.mu.Lock()
	reply, set := f.say[line]
	if !set {
		verb, _, _ := strings.Cut(line, " ")
		if reply, set = f.say[verb]; !set {
			reply = usual
		}
	}
	if rest, once := strings.CutPrefix(reply, "once: "); once {
		reply = rest
		delete(f.say, line)
		delete(f.say, strings.Fields(line + " ")[0])
	}
	f.mu.Unlock()
	if rest, late := strings.CutPrefix(reply, "late: "); late {
		time.Sleep(lateBy)
		reply = rest
	}
	text, then, _ := strings.Cut(reply, "|")
	switch text {
	case "close":
		return "", false
	case "hang":
		io.Copy(io.Discard, c)
		return "", false
	}
	text = strings.ReplaceAll(text, "\n", "\r\n")
	if _, err := io.WriteString(c, text+"\r\n"); err != nil {
		return "", false
	}
	if then == "" || then == "close" {
		return text, then == ""
	}
	time.Sleep(2 * time.Millisecond)
	_, err := io.WriteString(c, then+"\r\n")
	return text, err == nil
}

// serve is one session.
func (f *fake) serve(c net.Conn) {
	r := bufio.NewReader(c)
	if _, ok := f.reply(c, "banner", "220 fake ESMTP"); !ok {
		return
	}
	secure, accepted := false, 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		f.mu.Lock()
		f.lines = append(f.lines, line)
		f.mu.Unlock()
		verb, args, _ := strings.Cut(line, " ")
		switch verb {
		case "EHLO", "LHLO":
			_, ok := f.reply(c, line, f.hello(secure))
			if !ok {
				return
			}
		case "STARTTLS":
			said, ok := f.reply(c, line, "220 go")
			if !ok {
				return
			}
			if strings.HasPrefix(said, "220") {
				tc := tls.Server(c, f.tls)
				if tc.Handshake() != nil {
					return
				}
				c, r, secure = tc, bufio.NewReader(tc), true
			}
		case "MAIL", "RSET":
			accepted = 0
			if _, ok := f.reply(c, line, "250 2.0.0 ok"); !ok {
				return
			}
		case "RCPT":
			said, ok := f.reply(c, line, "250 2.1.5 ok")
			if !ok {
				return
			}
			if strings.HasPrefix(said, "2") {
				accepted++
			}
		case "DATA":
			usual := "354 go on"
			if accepted == 0 {
				usual = "554 5.5.1 no valid recipients"
			}
			said, ok := f.reply(c, line, usual)
			if !ok {
				return
			}
			if strings.HasPrefix(said, "354") && !f.data(c, r, accepted) {
				return
			}
		case "BDAT":
			if !f.bdat(c, r, args, accepted) {
				return
			}
		case "QUIT":
			f.reply(c, line, "221 bye")
			return
		default:
			usual := "250 ok"
			if verb == "AUTH" {
				usual = "235 2.7.0 welcome"
			}
			if _, ok := f.reply(c, line, usual); !ok {
				return
			}
		}
	}
}

func (f *fake) hello(secure bool) string {
	words := f.features
	if secure && f.tlsWords != nil {
		words = f.tlsWords
	}
	text := "250"
	lines := []string{"fake"}
	for _, w := range words {
		if w != "STARTTLS" || !secure {
			lines = append(lines, w)
		}
	}
	var b strings.Builder
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(text + sep + l)
	}
	return b.String()
}

// data reads the content up to the dot and answers it.
func (f *fake) data(c net.Conn, r *bufio.Reader, accepted int) bool {
	if f.inData != nil {
		f.inData(c)
	}
	var content bytes.Buffer
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return false
		}
		if string(line) == ".\r\n" {
			break
		}
		content.Write(bytes.TrimPrefix(line, []byte(".")))
	}
	return f.keep(c, ".", content.String(), accepted)
}

// bdat reads a chunk and answers it.
func (f *fake) bdat(c net.Conn, r *bufio.Reader, args string, accepted int) bool {
	if f.inData != nil {
		f.inData(c)
	}
	number, _, _ := strings.Cut(args, " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		return false
	}
	chunk := make([]byte, n)
	if _, err := io.ReadFull(r, chunk); err != nil {
		return false
	}
	return f.keep(c, "BDAT", string(chunk), accepted)
}

// keep keeps a message and answers it, once or for each recipient.
func (f *fake) keep(c net.Conn, verb, content string, accepted int) bool {
	if accepted == 0 {
		_, ok := f.reply(c, verb, "554 5.5.1 no valid recipients")
		return ok
	}
	f.mu.Lock()
	f.mails = append(f.mails, content)
	f.mu.Unlock()
	n := 1
	if f.lmtp {
		n = accepted
	}
	for i := range n {
		line := verb
		if f.lmtp {
			line = fmt.Sprint(verb, i+1)
		}
		if _, ok := f.reply(c, line, "250 2.0.0 kept"); !ok {
			return false
		}
	}
	return true
}

// got returns the messages, the command lines and how many sessions there were.
func (f *fake) got() (mails, lines []string, sessions int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.mails...), append([]string(nil), f.lines...), f.sessions
}
