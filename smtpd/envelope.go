package smtpd

import (
	"github.com/emersion/go-smtp"

	"postern/mail"
)

// Replies about the envelope.
var (
	replyTLSFirst   = mail.Reply{Code: 530, Enhanced: smtp.EnhancedCode{5, 7, 0}, Text: "must issue a STARTTLS command first"}
	replyLogin      = mail.Reply{Code: 530, Enhanced: smtp.EnhancedCode{5, 7, 0}, Text: "authentication required"}
	replyManyRcpts  = mail.Reply{Code: 452, Enhanced: smtp.EnhancedCode{4, 5, 3}, Text: "too many recipients; send the rest in another transaction"}
	replyManyMails  = mail.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 7, 0}, Text: "too many messages in this session; connect again"}
	replyRate       = mail.Reply{Code: 450, Enhanced: smtp.EnhancedCode{4, 7, 1}, Text: "too many messages from your address; try again later"}
	replyNotASCII   = mail.Reply{Code: 553, Enhanced: smtp.EnhancedCode{5, 6, 7}, Text: "address beyond ASCII without SMTPUTF8"}
	replySyntaxFrom = mail.Reply{Code: 501, Enhanced: smtp.EnhancedCode{5, 5, 4}, Text: "syntax: MAIL FROM:<address>"}
	replySyntaxTo   = mail.Reply{Code: 501, Enhanced: smtp.EnhancedCode{5, 5, 4}, Text: "syntax: RCPT TO:<address>"}
	replyBadFrom    = mail.Reply{Code: 501, Enhanced: smtp.EnhancedCode{5, 1, 7}, Text: "bad reverse-path"}
	replyBadTo      = mail.Reply{Code: 501, Enhanced: smtp.EnhancedCode{5, 1, 3}, Text: "bad forward-path"}
	replyTooBig     = mail.Reply{Code: 552, Enhanced: smtp.EnhancedCode{5, 3, 4}, Text: "message too big"}
)

// mayMail reports whether a transaction can begin now, and answers if not.
func (s *session) mayMail() bool {
	r := mail.Reply{}
	switch {
	case !s.greeted:
		r = replyHelloFirst
	case s.tx != nil:
		// RFC 5321 section 4.1.4: no MAIL inside a transaction. One that was
		// taken for a new beginning would keep the recipients of the first.
		r = replySequence
	case s.set.TLS == "required" && s.facts.TLS.Version == "":
		r = replyTLSFirst // RFC 3207 section 4
	case s.set.Role == mail.RoleSubmission && s.facts.Direction != mail.Outbound:
		r = replyLogin // RFC 6409 section 4.3
	case s.messages >= s.set.Limits.Messages:
		r = replyManyMails
	default:
		return true
	}
	s.answer(r)
	return false
}

// mail answers MAIL (RFC 5321 section 4.1.1.2).
func (s *session) mail(arg string) {
	if !s.mayMail() {
		return
	}
	text, rest, ok := splitPath(arg, "FROM:")
	if !ok {
		s.answer(replySyntaxFrom)
		return
	}
	options, err := s.mailOptions(rest)
	if err != nil {
		s.answer(parameterReply(err))
		return
	}
	from, bad := s.path(text, options.UTF8, replyBadFrom)
	if bad.Code != 0 {
		s.answer(bad)
		return
	}
	now := s.set.Now()
	if (s.facts.Forwarded || !s.trusted()) && !s.srv.visitors.allow(s.facts.Client.Addr(), s.set.Limits.Rate, now) {
		s.answer(replyRate)
		return
	}
	tx := &mail.Transaction{
		ID:       newID(now, s.set.Rand),
		Session:  s.facts,
		Envelope: mail.Envelope{ReversePath: from, Options: options},
		At:       now,
	}
	r := s.srv.backend.Mail(s.srv.ctx, tx)
	if r.OK() {
		s.tx = tx
	}
	s.answer(enhance(r, smtp.EnhancedCode{2, 1, 0}))
}

// rcpt answers RCPT (RFC 5321 section 4.1.1.3).
func (s *session) rcpt(arg string) {
	switch {
	case s.tx == nil || s.chunks != nil:
		s.answer(replySequence)
		return
	case len(s.tx.Recipients) >= s.set.Limits.Recipients:
		s.answer(replyManyRcpts) // RFC 5321 section 4.5.3.1.10
		return
	}
	text, rest, ok := splitPath(arg, "TO:")
	if !ok {
		s.answer(replySyntaxTo)
		return
	}
	utf8 := s.tx.Options.UTF8
	options, err := s.rcptOptions(rest, utf8)
	if err != nil {
		s.answer(parameterReply(err))
		return
	}
	path, bad := s.path(text, utf8, replyBadTo)
	if bad.Code == 0 && path.IsNull() {
		bad = replyBadTo
	}
	if bad.Code != 0 {
		s.answer(bad)
		return
	}
	to := mail.Recipient{Path: path, Options: options}
	r := s.srv.backend.Rcpt(s.srv.ctx, s.tx, to)
	if r.OK() {
		s.tx.Recipients = append(s.tx.Recipients, to)
	}
	s.answer(enhance(r, smtp.EnhancedCode{2, 1, 5}))
}

// path reads a path without its brackets; on failure it returns what to say.
func (s *session) path(text string, utf8 bool, bad mail.Reply) (mail.Path, mail.Reply) {
	if text == "" {
		return mail.Path{}, mail.Reply{}
	}
	// RFC 5321 section 4.5.3.1: a path has at most 256 octets with its
	// punctuation, a local-part 64. Longer local-parts are in use.
	if len(text) > 1024 {
		return mail.Path{}, bad
	}
	if !utf8 && !printableASCII(text) {
		return mail.Path{}, replyNotASCII // RFC 6531 section 3.5
	}
	p, err := mail.ParsePath(text, utf8)
	if err != nil || p.IsNull() {
		return mail.Path{}, bad
	}
	return p, mail.Reply{}
}

// enhance gives an acceptance the status code of its command, where the backend
// gave the general one.
func enhance(r mail.Reply, e smtp.EnhancedCode) mail.Reply {
	if r.OK() && (r.Enhanced == smtp.EnhancedCode{} || r.Enhanced == smtp.EnhancedCode{2, 0, 0}) {
		r.Enhanced = e
	}
	return r
}
