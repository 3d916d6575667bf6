package gateway

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A nextHop is a mail server that says what a test wants.
type nextHop struct {
	addr  string
	lmtp  bool
	tls   *tls.Config
	words []string // EHLO keywords

	mu    sync.Mutex
	say   map[string]string // the beginning of a command, or "." and a recipient, to the reply; "close" closes
	lines []string
	mails []delivered
}

// delivered is a message that the next hop has taken, for those to whom it said
// yes.
type delivered struct {
	from, content string
	to            []string
}

func newNextHop(t testing.TB) *nextHop {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &nextHop{addr: l.Addr().String(), say: map[string]string{}, words: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"}}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				stop := make(chan struct{})
				defer close(stop)
				defer c.Close()
				go func() {
					select {
					case <-t.Context().Done():
						c.Close()
					case <-stop:
					}
				}()
				h.serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		open.Wait()
	})
	return h
}

func (h *nextHop) set(command, reply string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.say[command] = reply
}

// reply is the reply to a command: the longest beginning decides.
func (h *nextHop) reply(command, usual string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	best := ""
	for k := range h.say {
		if strings.HasPrefix(command, k) && len(k) > len(best) {
			best = k
		}
	}
	if best != "" {
		return h.say[best]
	}
	return usual
}

func (h *nextHop) got() []delivered {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.mails)
}

// commands are the lines that begin so.
func (h *nextHop) commands(prefix string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []string
	for _, l := range h.lines {
		if strings.HasPrefix(l, prefix) {
			found = append(found, l)
		}
	}
	return found
}

func (h *nextHop) serve(c net.Conn) {
	r := bufio.NewReader(c)
	io.WriteString(c, "220 hop.example ESMTP\r\n")
	var d delivered
	secure, begun := false, false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		h.mu.Lock()
		h.lines = append(h.lines, line)
		h.mu.Unlock()
		verb, _, _ := strings.Cut(line, " ")
		answer := h.reply(line, "250 2.0.0 ok")
		switch verb {
		case "EHLO", "LHLO":
			answer = "250-hop.example"
			for _, w := range h.words {
				answer += "\r\n250-" + w
			}
			if h.tls != nil && !secure {
				answer += "\r\n250-STARTTLS"
			}
			answer += "\r\n250 HELP"
		case "STARTTLS":
			io.WriteString(c, "220 go\r\n")
			tc := tls.Server(c, h.tls)
			if tc.Handshake() != nil {
				return
			}
			c, r, secure = tc, bufio.NewReader(tc), true
			continue
		case "MAIL":
			d, begun = delivered{from: angle(line)}, strings.HasPrefix(answer, "2")
		case "RCPT":
			if !begun {
				answer = "503 5.5.1 no MAIL"
			}
			if strings.HasPrefix(answer, "2") {
				d.to = append(d.to, angle(line))
			}
		case "DATA":
			if len(d.to) == 0 {
				answer = "554 5.5.1 no recipients"
				break
			}
			if answer = h.reply(line, "354 go"); !strings.HasPrefix(answer, "354") {
				break
			}
			io.WriteString(c, "354 go\r\n")
			if !h.content(r, &d) {
				return
			}
			answer = h.final(&d)
		case "QUIT":
			return
		}
		if answer == "close" {
			return
		}
		if rest, ok := strings.CutPrefix(answer, "late "); ok {
			time.Sleep(30 * time.Millisecond)
			answer = rest
		}
		io.WriteString(c, answer+"\r\n")
	}
}

// content reads up to the dot.
func (h *nextHop) content(r *bufio.Reader, d *delivered) bool {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			d.content = b.String()
			return true
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
}

// final answers the content, in LMTP once for each recipient.
func (h *nextHop) final(d *delivered) string {
	if !h.lmtp {
		answer := h.reply(".", "250 2.0.0 kept")
		if strings.HasPrefix(answer, "2") {
			h.keep(*d)
		}
		return answer
	}
	var answers []string
	kept := *d
	kept.to = nil
	for _, to := range d.to {
		answer := h.reply("."+to, "250 2.0.0 kept")
		answers = append(answers, answer)
		if strings.HasPrefix(answer, "2") {
			kept.to = append(kept.to, to)
		}
	}
	if len(kept.to) > 0 {
		h.keep(kept)
	}
	return strings.Join(answers, "\r\n")
}

func (h *nextHop) keep(d delivered) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mails = append(h.mails, d)
}

// angle is what stands between the angle brackets of a command.
func angle(line string) string {
	_, rest, _ := strings.Cut(line, "<")
	path, _, _ := strings.Cut(rest, ">")
	return path
}
