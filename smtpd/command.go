package smtpd

import (
	"strings"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// Replies to commands.
var (
	replySequence    = mail.Reply{Code: 503, Enhanced: smtp.EnhancedCode{5, 5, 1}, Text: "bad sequence of commands"}
	replyHelloFirst  = mail.Reply{Code: 503, Enhanced: smtp.EnhancedCode{5, 5, 1}, Text: "say hello first"}
	replyUnknown     = mail.Reply{Code: 500, Enhanced: smtp.EnhancedCode{5, 5, 1}, Text: "command not recognised"}
	replyNoArgument  = mail.Reply{Code: 501, Enhanced: smtp.EnhancedCode{5, 5, 4}, Text: "this command has no argument"}
	replyAhead       = mail.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 5, 0}, Text: "protocol violation: you sent more before this reply"}
	replyOtherTongue = mail.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 5, 0}, Text: "this is a mail server"}
)

// alone are the commands that must be the last of what a client sends ahead: RFC
// 2920 section 3.1, RFC 4954 section 4, RFC 3207 section 4. Of those that it
// names, NOOP, VRFY, EXPN and QUIT change nothing and are let be.
var alone = map[string]bool{"EHLO": true, "HELO": true, "LHLO": true, "DATA": true, "AUTH": true, "STARTTLS": true, "XCLIENT": true}

// otherTongues are the verbs by which HTTP and its like are known: a browser
// can be made to speak to us with a mail in its request.
var otherTongues = map[string]bool{"GET": true, "POST": true, "CONNECT": true, "PUT": true, "HEAD": true, "OPTIONS": true, "PATCH": true, "DELETE": true, "TRACE": true, "PRI": true}

// command answers one command line.
func (s *session) command(line []byte) {
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			s.garbled(line)
			return
		}
	}
	verb, arg, _ := strings.Cut(string(line), " ")
	verb, arg = strings.ToUpper(verb), strings.Trim(arg, " \t")
	if otherTongues[verb] {
		s.answer(replyOtherTongue)
		s.over = true
		return
	}
	// DATA looks when it refuses, or asks for, the content.
	if alone[verb] && (s.wire.buffered() > 0 || verb != "DATA" && s.wire.ahead()) {
		s.aheadOf(verb)
		return
	}
	s.dispatch(verb, arg)
	if junk[verb] && !s.over && !s.trusted() {
		if s.junk++; s.junk > s.set.Limits.Junk {
			s.mistake()
		}
	}
}

// aheadOf ends the session of a client that did not wait for the reply to verb.
func (s *session) aheadOf(verb string) {
	s.answer(replyAhead)
	s.log().Info("session refused", "reason", "sent ahead of the reply to "+verb)
	s.over = true
}

// garbled answers a line with control characters. RFC 5321 section 2.3.8: CR
// and LF occur in pairs, as the end of a line, and not otherwise.
func (s *session) garbled(line []byte) {
	s.reply(500, smtp.EnhancedCode{5, 5, 2}, "control character in command")
	if line[0] == 0x16 { // a TLS handshake record: nothing sensible can follow
		s.over = true
	}
}

// junk are the commands that move no mail. Whoever goes on and on with them
// wants something else.
var junk = map[string]bool{"EHLO": true, "HELO": true, "LHLO": true, "RSET": true, "NOOP": true, "VRFY": true, "HELP": true}

func (s *session) dispatch(verb, arg string) {
	switch verb {
	case "EHLO", "HELO", "LHLO":
		s.hello(verb, arg)
	case "MAIL":
		s.mail(arg)
	case "RCPT":
		s.rcpt(arg)
	case "DATA":
		s.data(arg)
	case "BDAT":
		s.bdat(arg)
	case "RSET":
		s.rset(arg)
	case "NOOP":
		s.reply(250, smtp.EnhancedCode{2, 0, 0}, "OK")
	case "QUIT":
		s.last(mail.Reply{Code: 221, Enhanced: smtp.EnhancedCode{2, 0, 0}, Text: "goodbye"})
	case "STARTTLS":
		s.startTLS(arg)
	case "AUTH":
		s.auth(arg)
	case "XCLIENT":
		s.xclient(arg)
	case "XFORWARD":
		s.xforward(arg)
	case "VRFY":
		// RFC 5321 section 7.3: neither yes nor no, to hide who exists.
		s.reply(252, smtp.EnhancedCode{2, 0, 0}, "cannot verify; send mail and see")
	case "EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML":
		s.reply(502, smtp.EnhancedCode{5, 5, 1}, "command not implemented")
	case "HELP":
		s.reply(214, smtp.EnhancedCode{2, 0, 0}, "see RFC 5321")
	default:
		s.answer(replyUnknown)
	}
}

// rset ends the transaction.
func (s *session) rset(arg string) {
	if arg != "" {
		s.answer(replyNoArgument)
		return
	}
	s.abort()
	s.reply(250, smtp.EnhancedCode{2, 0, 0}, "OK")
}
