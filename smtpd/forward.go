package smtpd

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-smtp"
	"github.com/pires/go-proxyproto"

	"postern/mail"
)

// unavailable are the values that say that a value is not known.
var unavailable = map[string]bool{"[UNAVAILABLE]": true, "[TEMPUNAVAIL]": true}

// proxy reads the PROXY header that a trusted peer must send first. Its v1 form
// must come in one piece.
func (s *session) proxy() error {
	if err := s.conn.SetReadDeadline(time.Now().Add(s.set.Limits.Handshake)); err != nil {
		return err
	}
	r := bufio.NewReaderSize(s.conn, 256)
	h, err := proxyproto.Read(r)
	if err != nil {
		return fmt.Errorf("read PROXY header: %w", err)
	}
	if n := r.Buffered(); n > 0 {
		head, _ := r.Peek(n)
		s.wire.upgrade(&unread{s.conn, append([]byte(nil), head...)})
	}
	if h.Command.IsLocal() {
		return nil // the balancer itself, looking whether we are there
	}
	from, to, ok := h.TCPAddrs()
	if !ok {
		return nil // UNKNOWN: it cannot tell; the peer stands for the client
	}
	s.change(func(f *mail.Session) {
		f.Client, f.Local = addrPort(from), addrPort(to)
	})
	s.origin = s.facts.Client.Addr()
	return nil
}

// claims are the attributes that only repeat what a client, or its DNS, says. One
// that cannot be told counts as unavailable: refusing it would refuse the mail.
var claims = map[string]bool{"NAME": true, "REVERSE_NAME": true, "HELO": true, "IDENT": true}

// An attribute is NAME=value of XFORWARD or XCLIENT; an unavailable value is
// empty.
type attribute struct{ name, value string }

// parseAttributes reads the arguments of XFORWARD and XCLIENT, whose values are
// xtext (RFC 3461 section 4).
func parseAttributes(arg, known string) ([]attribute, error) {
	var as []attribute
	for _, field := range strings.Fields(arg) {
		name, value, ok := strings.Cut(field, "=")
		name = strings.ToUpper(name)
		if !ok || !strings.Contains(known, " "+name+" ") {
			return nil, fmt.Errorf("bad attribute %s", name)
		}
		// Postfix leaves "=" as it is.
		value, err := decodeXtext(strings.ReplaceAll(value, "=", "+3D"))
		switch bad := err != nil || len(value) > 255 || !clean(value); {
		case bad && !claims[name]:
			return nil, fmt.Errorf("bad value of %s", name)
		case bad || unavailable[strings.ToUpper(value)]:
			value = ""
		}
		as = append(as, attribute{name, value})
	}
	if len(as) == 0 {
		return nil, errors.New("no attributes")
	}
	return as, nil
}

// clean reports whether a value has no controls.
func clean(v string) bool {
	return utf8.ValidString(v) && !strings.ContainsFunc(v, unicode.IsControl)
}

// parseAddr reads an ADDR value: IPv4, or IPv6 with the prefix "IPV6:".
func parseAddr(value string) (netip.Addr, error) {
	if value == "" {
		return netip.Addr{}, nil
	}
	if len(value) > 5 && strings.EqualFold(value[:5], "IPV6:") {
		value = value[5:]
	}
	a, err := netip.ParseAddr(value)
	return a.Unmap().WithZone(""), err
}

func parsePort(value string) (uint16, error) {
	if value == "" {
		return 0, nil
	}
	p, err := strconv.ParseUint(value, 10, 16)
	return uint16(p), err
}

// trustedTo answers a peer that is not trusted, or a bad moment.
func (s *session) trustedTo(networks []netip.Prefix) bool {
	switch {
	case !contains(networks, s.origin):
		// As if the command did not exist: it does not, for a stranger.
		s.reply(550, smtp.EnhancedCode{5, 7, 0}, "insufficient authorisation")
	case s.tx != nil:
		s.answer(replySequence)
	default:
		return true
	}
	return false
}

// xforward takes down what Postfix's smtpd_proxy_filter and smtp clients tell of
// the client of the next transaction. Attributes of several commands add up; the
// end of the transaction forgets them.
func (s *session) xforward(arg string) {
	if !s.trustedTo(s.set.TrustXForward) {
		return
	}
	as, err := parseAttributes(arg, " NAME ADDR PORT PROTO HELO IDENT SOURCE ")
	next := *s.facts
	if err == nil {
		err = s.tell(&next, as)
	}
	if err != nil {
		s.reply(501, smtp.EnhancedCode{5, 5, 4}, err.Error())
		return
	}
	if s.before == nil {
		s.before = s.facts
	}
	s.change(func(f *mail.Session) { *f = next })
	s.reply(250, smtp.EnhancedCode{2, 0, 0}, "OK")
}

// unforward forgets what XFORWARD has told.
func (s *session) unforward() {
	if s.before != nil {
		s.facts, s.before = s.before, nil
	}
}

// xclient does the same for a trusted peer that then wants to be treated as
// that client: the session begins anew with a banner.
func (s *session) xclient(arg string) {
	if !s.trustedTo(s.set.TrustXClient) {
		return
	}
	s.unforward()
	as, err := parseAttributes(arg, " NAME REVERSE_NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT ")
	next := *s.facts
	next.Helo, next.ESMTP, next.User = "", false, ""
	if err == nil {
		err = s.tell(&next, as)
	}
	if err != nil {
		s.reply(501, smtp.EnhancedCode{5, 5, 4}, err.Error())
		return
	}
	s.claimed, s.greeted = next.Helo, false
	s.change(func(f *mail.Session) { *f = next })
	s.greet()
}

// tell puts attributes into a session's facts.
func (s *session) tell(f *mail.Session, as []attribute) error {
	if !f.Forwarded {
		f.Forwarded = true
		f.Client = netip.AddrPortFrom(f.Client.Addr(), 0)
	}
	local := false
	for _, a := range as {
		var err error
		switch a.name {
		case "NAME":
			f.ClientName = a.value
		case "ADDR":
			var addr netip.Addr
			addr, err = parseAddr(a.value)
			f.Client = netip.AddrPortFrom(addr, f.Client.Port())
		case "PORT":
			var port uint16
			port, err = parsePort(a.value)
			f.Client = netip.AddrPortFrom(f.Client.Addr(), port)
		case "HELO":
			if f.Helo = a.value; !plausible(a.value) {
				f.Helo = ""
			}
		case "LOGIN":
			f.User = a.value
		case "SOURCE":
			local = strings.EqualFold(a.value, "LOCAL")
		case "DESTADDR":
			var addr netip.Addr
			addr, err = parseAddr(a.value)
			f.Local = netip.AddrPortFrom(addr, f.Local.Port())
		case "DESTPORT":
			var port uint16
			port, err = parsePort(a.value)
			f.Local = netip.AddrPortFrom(f.Local.Addr(), port)
		}
		if err != nil {
			return fmt.Errorf("bad value of %s", a.name)
		}
	}
	// Mail that began on the trusted host itself has no client but that host.
	if local && !f.Client.Addr().IsValid() {
		f.Client = netip.AddrPortFrom(s.origin, f.Client.Port())
	}
	return nil
}
