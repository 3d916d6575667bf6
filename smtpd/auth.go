package smtpd

import (
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// Replies to AUTH (RFC 4954 section 6).
var (
	replyClearAuth    = mail.Reply{Code: 538, Enhanced: smtp.EnhancedCode{5, 7, 11}, Text: "encryption required to log in"}
	replyNoAuth       = mail.Reply{Code: 502, Enhanced: smtp.EnhancedCode{5, 5, 1}, Text: "no login here"}
	replyMechanism    = mail.Reply{Code: 504, Enhanced: smtp.EnhancedCode{5, 5, 4}, Text: "unknown mechanism"}
	replyAuthCancel   = mail.Reply{Code: 501, Enhanced: smtp.EnhancedCode{5, 7, 0}, Text: "login cancelled"}
	replyAuthEncoding = mail.Reply{Code: 501, Enhanced: smtp.EnhancedCode{5, 5, 2}, Text: "cannot decode that"}
	replyAuthWrong    = mail.Reply{Code: 535, Enhanced: smtp.EnhancedCode{5, 7, 8}, Text: "wrong user name or password"}
	replyAuthLater    = mail.Reply{Code: 454, Enhanced: smtp.EnhancedCode{4, 7, 0}, Text: "cannot verify that now; try again later"}
	replyAuthBanned   = mail.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 7, 0}, Text: "too many failed logins; try again later"}
	replyAuthOK       = mail.Reply{Code: 235, Enhanced: smtp.EnhancedCode{2, 7, 0}, Text: "welcome"}
)

// Errors of a SASL exchange.
var (
	errAuthCancel   = errors.New("login cancelled")
	errAuthEncoding = errors.New("bad base64")
	errAuthAhead    = errors.New("answer before its challenge")
)

// auth answers AUTH (RFC 4954 section 4).
func (s *session) auth(arg string) {
	mechanism, initial, _ := cutSpace(arg)
	mechanism = strings.ToUpper(mechanism)
	switch {
	case !s.set.Auth:
		s.answer(replyNoAuth)
	case !s.greeted:
		s.answer(replyHelloFirst)
	case s.facts.TLS.Version == "":
		s.answer(replyClearAuth)
	case s.facts.User != "" || s.tx != nil:
		s.answer(replySequence)
	case mechanism == "PLAIN":
		s.login(s.plain(initial))
	case mechanism == "LOGIN":
		s.login(s.loginNames(initial))
	default:
		s.answer(replyMechanism)
	}
}

// plain is the PLAIN mechanism (RFC 4616): authzid NUL authcid NUL password.
func (s *session) plain(initial string) (user, password string, err error) {
	if initial == "" {
		initial, err = s.challenge("")
	}
	var text []byte
	if err == nil && initial != "=" {
		text, err = base64.StdEncoding.DecodeString(initial)
	}
	if err != nil {
		return "", "", authError(err)
	}
	parts := strings.Split(string(text), "\x00")
	if len(parts) != 3 || parts[0] != "" && parts[0] != parts[1] {
		return "", "", errAuthEncoding
	}
	return parts[1], parts[2], nil
}

// loginNames is the LOGIN mechanism, which no RFC describes but every client
// speaks: the user name, then the password.
func (s *session) loginNames(initial string) (user, password string, err error) {
	if initial == "" {
		if initial, err = s.challenge("VXNlcm5hbWU6"); err != nil { // "Username:"
			return "", "", err
		}
	}
	name, err := base64.StdEncoding.DecodeString(initial)
	if err != nil {
		return "", "", authError(err)
	}
	answer, err := s.challenge("UGFzc3dvcmQ6") // "Password:"
	if err != nil {
		return "", "", err
	}
	secret, err := base64.StdEncoding.DecodeString(answer)
	return string(name), string(secret), authError(err)
}

// authError makes a failure to decode one of ours.
func authError(err error) error {
	var corrupt base64.CorruptInputError
	if errors.As(err, &corrupt) {
		return errAuthEncoding
	}
	return err
}

// challenge asks for the next answer of the exchange.
func (s *session) challenge(text string) (string, error) {
	s.wire.say(334, true, text)
	s.set.Hooks.reply(334)
	line, err := s.wire.line(time.Now().Add(s.set.Limits.Command), true, s.lax())
	switch {
	case err != nil:
		return "", err
	case string(line) == "*":
		return "", errAuthCancel
	case s.wire.buffered() > 0:
		return "", errAuthAhead
	}
	return string(line), nil
}

// login verifies what the exchange gave.
func (s *session) login(user, password string, err error) {
	switch {
	case errors.Is(err, errAuthCancel):
		s.answer(replyAuthCancel)
		return
	case errors.Is(err, errAuthEncoding):
		s.answer(replyAuthEncoding)
		return
	case errors.Is(err, errAuthAhead):
		s.answer(replyAhead)
		s.over = true
		return
	case err != nil:
		s.misread(err)
		return
	case user == "" || len(user) > 255 || !clean(user):
		s.wrong("") // nobody's name: it is not remembered
		return
	case s.srv.failures.banned(s.origin, user, s.set):
		s.log().Info("login banned", "user", user)
		s.answer(replyAuthBanned)
		return
	}
	switch err := s.srv.backend.Auth(s.srv.ctx, s.facts, user, password); {
	case err == nil && s.srv.failures.banned(s.origin, user, s.set):
		// Guesses side by side have banned it meanwhile: the one that is right
		// must not win.
		s.log().Info("login banned", "user", user)
		s.answer(replyAuthBanned)
	case err == nil:
		s.srv.failures.forget(s.origin, user)
		s.failures = 0
		s.change(func(f *mail.Session) { f.User = user })
		if s.before != nil {
			before := *s.before
			before.User, before.Direction = user, mail.Outbound
			s.before = &before
		}
		s.answer(replyAuthOK)
	case errors.Is(err, ErrAuth):
		s.wrong(user)
	default:
		s.log().Warn("login not verified", "user", user, "err", err)
		s.answer(replyAuthLater)
	}
}

// wrong counts a failed login and answers it, later each time.
func (s *session) wrong(user string) {
	s.set.Hooks.authFailure()
	s.log().Info("login failed", "user", user)
	delay := s.srv.failures.add(s.origin, user, s.set)
	s.failures++
	s.srv.pause(delay)
	s.answer(replyAuthWrong)
	if s.failures >= s.set.MaxFailures && !s.over {
		s.last(replyAuthBanned)
	}
}

// cutSpace splits at the first run of spaces.
func cutSpace(t string) (first, rest string, more bool) {
	first, rest, more = strings.Cut(t, " ")
	return first, strings.TrimLeft(rest, " "), more
}
