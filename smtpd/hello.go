package smtpd

import (
	"crypto/tls"
	"net"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// trusted reports whether the origin may tell us who the client is.
func (s *session) trusted() bool {
	return contains(s.set.TrustXForward, s.origin) || contains(s.set.TrustXClient, s.origin)
}

// open does what comes before the first command. It reports whether there may
// be one.
func (s *session) open() bool {
	if contains(s.set.TrustProxy, s.origin) {
		if err := s.proxy(); err != nil {
			s.refused("proxy", err)
			return false
		}
	}
	s.pristine = s.facts
	// Behind a trusted relay stand many clients.
	if !s.trusted() {
		if !s.srv.visitors.enter(s.origin, s.set.Limits.PerAddress) {
			s.refused("address", nil)
			return s.turnAway(mail.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 7, 0}, Text: "too many connections from your address"})
		}
		s.counted = true
	}
	if s.set.TLS == "implicit" && !s.handshake() {
		return false
	}
	if len(s.set.Allow) > 0 && !contains(s.set.Allow, s.origin) {
		s.refused("allow", nil)
		return s.turnAway(mail.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "access denied"})
	}
	if s.set.Auth && s.srv.failures.bannedHost(s.origin, s.set) {
		s.refused("banned", nil)
		return s.turnAway(mail.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 7, 0}, Text: "too many failed logins from your address"})
	}
	return s.patient() && s.greet()
}

func (s *session) refused(reason string, err error) {
	s.set.Hooks.refused(reason)
	s.log().Info("session refused", "reason", reason, "err", err)
}

// turnAway says why the session ends before it began. A client that awaits TLS
// is only cut off.
func (s *session) turnAway(r mail.Reply) bool {
	if s.set.TLS != "implicit" || s.facts.TLS.Version != "" {
		s.last(r)
	}
	return false
}

// patient waits for GreetDelay. Who speaks meanwhile does not listen to us (RFC
// 5321 section 3.1: the client waits for the greeting).
func (s *session) patient() bool {
	if s.set.Limits.GreetDelay <= 0 {
		return true
	}
	err := s.wire.fill(time.Now().Add(s.set.Limits.GreetDelay), true)
	if err == errTimeout {
		return true
	}
	switch err {
	case nil:
		s.refused("early", nil)
		s.last(replyAhead)
	case errDraining:
		s.last(mail.ReplyShutdown)
	}
	return false
}

// greet asks the backend and says the banner.
func (s *session) greet() bool {
	if r := s.srv.backend.Connect(s.srv.ctx, s.facts); r.Code != 0 && !r.OK() {
		s.last(r)
		return false
	}
	word := " ESMTP" // RFC 5321 section 4.2: the word that says that EHLO is known
	if s.set.LMTP {
		word = " LMTP"
	}
	s.wire.say(220, true, s.set.Hostname, word)
	s.set.Hooks.reply(220)
	return true
}

// hello answers EHLO, HELO and LHLO (RFC 5321 section 4.1.1.1, RFC 2033 section
// 4.1). A second one ends the transaction and begins anew.
func (s *session) hello(verb, arg string) {
	if s.set.LMTP != (verb == "LHLO") {
		s.reply(500, smtp.EnhancedCode{5, 5, 1}, "this is "+s.facts.Protocol+": command not recognised")
		return
	}
	if !plausible(arg) {
		s.reply(501, smtp.EnhancedCode{5, 5, 4}, "say who you are")
		return
	}
	s.abort()
	s.greeted = true
	s.change(func(f *mail.Session) {
		f.ESMTP = verb != "HELO"
		if f.Helo = arg; s.claimed != "" {
			f.Helo = s.claimed
		}
	})
	s.set.Hooks.reply(250)
	if verb == "HELO" {
		s.wire.say(250, true, s.set.Hostname)
		return
	}
	s.extensions()
}

// plausible reports whether an EHLO argument can be taken down. Many clients
// say what is not a domain name; what it is worth is for a filter to say.
func plausible(arg string) bool {
	if arg == "" || len(arg) > 255 || !utf8.ValidString(arg) {
		return false
	}
	for i := 0; i < len(arg); i++ {
		switch arg[i] {
		case ' ', '\t', '<', '>', '"', '\\':
			return false
		}
	}
	return true
}

// extensions lists what we offer in this state of the session.
func (s *session) extensions() {
	w, l := s.wire, &s.set.Limits
	w.say(250, false, s.set.Hostname)
	w.say(250, false, "PIPELINING")                              // RFC 2920
	w.say(250, false, "SIZE ", strconv.FormatInt(l.Message, 10)) // RFC 1870
	if s.offersTLS() {
		w.say(250, false, "STARTTLS") // RFC 3207
	}
	if s.offersAuth() {
		w.say(250, false, "AUTH PLAIN LOGIN") // RFC 4954
	}
	if s.offersRequireTLS() {
		w.say(250, false, "REQUIRETLS") // RFC 8689
	}
	if contains(s.set.TrustXClient, s.origin) {
		w.say(250, false, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT")
	}
	if contains(s.set.TrustXForward, s.origin) {
		w.say(250, false, "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE")
	}
	w.say(250, false, "ENHANCEDSTATUSCODES")                                                                // RFC 2034
	w.say(250, false, "8BITMIME")                                                                           // RFC 6152
	w.say(250, false, "SMTPUTF8")                                                                           // RFC 6531
	w.say(250, false, "DSN")                                                                                // RFC 3461
	w.say(250, false, "LIMITS RCPTMAX=", strconv.Itoa(l.Recipients), " MAILMAX=", strconv.Itoa(l.Messages)) // RFC 9422
	w.say(250, true, "CHUNKING")                                                                            // RFC 3030
}

// offersTLS: not to a peer that has told whom it speaks for, as that would be
// forgotten and the peer itself, whom we trust, be taken for the client.
func (s *session) offersTLS() bool {
	return s.facts.TLS.Version == "" && !s.facts.Forwarded && s.set.TLSConfig != nil && (s.set.TLS == "optional" || s.set.TLS == "required")
}

// offersAuth: RFC 4954 section 4 and RFC 8314: passwords travel inside TLS only.
func (s *session) offersAuth() bool {
	return s.set.Auth && s.facts.TLS.Version != "" && s.facts.User == ""
}

func (s *session) offersRequireTLS() bool {
	return s.set.RequireTLS && s.facts.TLS.Version != ""
}

// startTLS answers STARTTLS. Nothing said before the handshake counts after it
// (RFC 3207 section 4.2); nothing sent before it is left, as the session ends if
// something follows the command.
func (s *session) startTLS(arg string) {
	switch {
	case arg != "":
		s.answer(replyNoArgument)
		return
	case !s.offersTLS() || s.tx != nil:
		s.answer(replySequence)
		return
	case !s.greeted:
		s.answer(replyHelloFirst)
		return
	}
	s.reply(220, smtp.NoEnhancedCode, "go ahead")
	if s.wire.flush() != nil {
		s.over = true
		return
	}
	s.handshake()
}

// handshake begins TLS. If it fails the connection is of no use any more.
func (s *session) handshake() bool {
	conn := tls.Server(s.wire.conn, s.set.TLSConfig)
	_ = s.conn.SetDeadline(time.Now().Add(s.set.Limits.Handshake))
	s.wire.release()
	if err := conn.HandshakeContext(s.srv.ctx); err != nil {
		s.over = true
		s.wire.failed = err // nothing may be said in clear any more
		s.log().Info("handshake failed", "err", err)
		return false
	}
	s.wire.upgrade(conn)
	state := conn.ConnectionState()
	facts := mail.TLSFacts{Version: versionName(state.Version), Cipher: tls.CipherSuiteName(state.CipherSuite), ServerName: state.ServerName}
	if len(state.VerifiedChains) > 0 {
		facts.ClientCert = state.PeerCertificates[0].Subject.String()
	}
	s.greeted, s.claimed, s.before = false, "", nil
	s.facts = s.pristine
	s.change(func(f *mail.Session) { f.TLS = facts })
	s.set.Hooks.tls(facts.Version)
	return true
}

// versionName returns "TLS1.3".
func versionName(v uint16) string {
	switch v {
	case tls.VersionTLS12:
		return "TLS1.2"
	case tls.VersionTLS13:
		return "TLS1.3"
	}
	return "TLS" + strconv.Itoa(int(v))
}

// unread is a connection some of whose octets have been read ahead.
type unread struct {
	net.Conn
	head []byte
}

// Read returns what was read ahead, then what comes.
func (u *unread) Read(p []byte) (int, error) {
	if len(u.head) > 0 {
		n := copy(p, u.head)
		u.head = u.head[n:]
		return n, nil
	}
	return u.Conn.Read(p)
}
