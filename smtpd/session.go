package smtpd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// session is one connection from beginning to end. Only its own goroutine
// touches it, but for conn.
type session struct {
	srv  *Server
	set  *Config // what the session began with
	conn net.Conn
	wire *wire

	facts    *mail.Session // a new value after each change
	pristine *mail.Session // as they were before the banner
	before   *mail.Session // as they were before XFORWARD; nil if there was none
	claimed  string        // HELO of XCLIENT: stands for what the peer says

	// origin is who speaks to us: the host that is connected, or that a
	// balancer's PROXY header names. Trust and counts go by it, never by what
	// XCLIENT or XFORWARD tell.
	origin netip.Addr

	tx     *mail.Transaction
	chunks *content // of a BDAT that is not the last

	counted  bool // in srv.visitors
	greeted  bool // EHLO, HELO or LHLO was said
	over     bool // the connection closes after the replies
	errors   int
	junk     int // commands since the last message that led to none
	messages int
	failures int
}

func newSession(srv *Server, set *Config, conn net.Conn) *session {
	s := &session{srv: srv, set: set, conn: conn}
	s.wire = newWire(conn, srv.pools, &srv.draining, set.Limits.Write)
	peer := addrPort(conn.RemoteAddr())
	s.facts = &mail.Session{
		ID:       newID(set.Now(), set.Rand),
		Listener: set.Name,
		Role:     set.Role,
		Protocol: "SMTP",
		Peer:     peer,
		Local:    addrPort(conn.LocalAddr()),
		Client:   peer,
	}
	if set.LMTP {
		s.facts.Protocol = "LMTP"
	}
	s.origin = peer.Addr()
	s.facts.Direction = set.direction(s.facts)
	return s
}

// wake makes a session that waits look whether the server is shutting down.
func (s *session) wake() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) }

// change makes a new value of the session's facts for what follows.
func (s *session) change(f func(*mail.Session)) {
	next := *s.facts
	f(&next)
	next.Direction = s.set.direction(&next)
	s.facts = &next
}

// serve runs the session. A panic ends this session, and no other.
func (s *session) serve() {
	began := time.Now()
	defer s.srv.forget(s)
	defer func() {
		if p := recover(); p != nil {
			s.log().Error("session broke", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			s.last(mail.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 3, 0}, Text: "internal error; try again later"})
		}
		s.end()
		s.set.Log.Debug("session ended", "session", s.facts.ID, "listener", s.set.Name, "client", s.facts.Client.String(),
			"messages", s.messages, "errors", s.errors, "time", time.Since(began))
	}()
	if s.open() {
		s.run()
	}
}

// run reads and answers commands.
func (s *session) run() {
	for !s.over {
		line, err := s.wire.line(time.Now().Add(s.set.Limits.Command), false, s.lax())
		switch {
		case err == nil:
			s.command(line)
		case !s.misread(err):
			return
		}
	}
}

// lax reports whether a command line may end with a bare LF.
func (s *session) lax() bool { return s.set.BareNewline == "normalise" }

// misread answers a line that could not be read. It reports whether the
// session goes on.
func (s *session) misread(err error) bool {
	switch {
	case errors.Is(err, errLineTooLong):
		s.reply(500, smtp.EnhancedCode{5, 5, 2}, "line too long")
		return true
	case errors.Is(err, errEndless):
		s.reply(500, smtp.EnhancedCode{5, 5, 2}, "line too long")
	case errors.Is(err, errBareNewline):
		// What comes after it may be meant for a server with other ideas of
		// where a line ends.
		s.reply(500, smtp.EnhancedCode{5, 5, 2}, "a line must end with CR LF")
	case errors.Is(err, errDraining):
		s.last(mail.ReplyShutdown)
	case errors.Is(err, errTimeout):
		s.last(mail.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 4, 2}, Text: "timeout; closing the connection"})
	}
	s.over = true
	return false
}

// end leaves nothing behind.
func (s *session) end() {
	s.abort()
	s.wire.close()
	if s.counted {
		s.srv.visitors.leave(s.origin)
		s.counted = false
	}
}

// abort ends the transaction, if there is one.
func (s *session) abort() {
	tx := s.tx
	s.tx = nil
	if c := s.chunks; c != nil {
		s.chunks, s.wire.midway = nil, false
		c.discard()
	}
	if tx != nil {
		s.srv.backend.Abort(tx)
	}
	s.unforward()
}

// log returns the session's logger.
func (s *session) log() *slog.Logger {
	return s.set.Log.With("session", s.facts.ID, "listener", s.set.Name, "client", s.facts.Client.String())
}

// reply answers a command.
func (s *session) reply(code int, enhanced smtp.EnhancedCode, text string) {
	s.answer(mail.Reply{Code: code, Enhanced: enhanced, Text: text})
}

// answer says a reply and draws its consequences.
func (s *session) answer(r mail.Reply) {
	r = valid(r)
	s.say(r)
	s.set.Hooks.reply(r.Code)
	s.judge(r)
}

// valid returns r, or a temporary failure if r is no reply.
func valid(r mail.Reply) mail.Reply {
	if r.Code < 200 || r.Code > 599 {
		return mail.ReplyTryAgain
	}
	return r
}

// judge ends a session whose last reply says so, or that has earned too many
// refusals.
func (s *session) judge(r mail.Reply) {
	switch {
	case r.Code == 421:
		s.over = true
	case r.Permanent():
		s.mistake()
	}
}

// mistake counts an error. RFC 5321 section 7.8: a server may close the
// connection of a client that attacks it.
func (s *session) mistake() {
	if s.errors++; s.errors >= s.set.Limits.Errors && !s.over {
		s.last(mail.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 7, 0}, Text: "too many errors; closing the connection"})
	}
}

// last says a reply after which the connection closes.
func (s *session) last(r mail.Reply) {
	s.over = true
	s.say(r)
	s.set.Hooks.reply(r.Code)
}

// say writes a reply, an enhanced status code on each line (RFC 2034 section 4).
func (s *session) say(r mail.Reply) {
	status := ""
	if c := r.Code / 100; (c == 2 || c == 4 || c == 5) && r.Enhanced != smtp.NoEnhancedCode {
		status = statusText(r)
	}
	text := r.Text
	for {
		line, rest, more := strings.Cut(text, "\n")
		s.wire.say(r.Code, !more, status, printable(line))
		if !more {
			return
		}
		text = rest
	}
}

// statusText returns the enhanced status code as it stands before the text; where
// there is none, the class alone.
func statusText(r mail.Reply) string {
	e := r.Enhanced
	if e[0] < 2 || e[0] > 9 || uint(e[1]) > 9 || uint(e[2]) > 9 {
		return r.Status() + " "
	}
	at := 600*e[0] + 60*e[1] + 6*e[2]
	return statusTexts[at : at+6]
}

// statusTexts holds "0.0.0 " to "9.9.9 ", six octets each.
var statusTexts = func() string {
	b := make([]byte, 0, 6000)
	for i := range 1000 {
		b = append(b, byte('0'+i/100), '.', byte('0'+i/10%10), '.', byte('0'+i%10), ' ')
	}
	return string(b)
}()

// printable makes any text fit for a reply line: RFC 5321 section 4.2 has ASCII
// without controls, section 4.5.3.1.5 512 octets.
func printable(t string) string {
	if len(t) > 480 {
		t = t[:480]
	}
	for i := 0; i < len(t); i++ {
		if t[i] < ' ' && t[i] != '\t' || t[i] > '~' {
			return strings.Map(func(r rune) rune {
				switch {
				case r == '\r':
					return -1
				case r < ' ' && r != '\t' || r > '~':
					return '?'
				}
				return r
			}, t)
		}
	}
	return t
}

// cut says why content broke off, if the client can still hear it.
func (s *session) cut(err error) {
	s.over = true
	if errors.Is(err, errTimeout) {
		s.last(mail.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 4, 2}, Text: "timeout or too slow; closing the connection"})
	}
	s.log().Info("content cut", "err", err)
}
