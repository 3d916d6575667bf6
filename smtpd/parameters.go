package smtpd

import (
	"errors"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// A parameter is KEYWORD or KEYWORD=value of MAIL and RCPT (RFC 5321 section
// 4.1.2), the keyword in capitals.
type parameter struct {
	keyword, value string
	valued         bool
}

// Errors of parameters; the reply follows from them.
var (
	errUnknownParameter = errors.New("unknown parameter")
	errBadParameter     = errors.New("bad value of parameter")
	errSize             = errors.New("message too big")
)

// parameterReply is the reply for an error of parameters.
func parameterReply(err error) mail.Reply {
	switch {
	case errors.Is(err, errSize):
		return replyTooBig
	case errors.Is(err, errUnknownParameter):
		// RFC 5321 section 4.1.1.11.
		return mail.Reply{Code: 555, Enhanced: smtp.EnhancedCode{5, 5, 4}, Text: "parameter not recognised or not offered"}
	}
	return mail.Reply{Code: 501, Enhanced: smtp.EnhancedCode{5, 5, 4}, Text: "bad parameter"}
}

// splitPath splits the argument of MAIL or RCPT, "FROM:<path> parameters", into
// the path without its brackets and the parameters. Spaces after the colon are
// let pass: they are sent, and mean nothing.
func splitPath(arg, prefix string) (path, rest string, ok bool) {
	if len(arg) < len(prefix) || !strings.EqualFold(arg[:len(prefix)], prefix) {
		return "", "", false
	}
	arg = strings.TrimLeft(arg[len(prefix):], " ")
	if arg == "" || arg[0] != '<' {
		return "", "", false
	}
	quoted := false
	for i := 1; i < len(arg); i++ {
		switch c := arg[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			path, rest = arg[1:i], arg[i+1:]
			return path, rest, rest == "" || rest[0] == ' '
		}
	}
	return "", "", false
}

// parseParameters reads what follows a path.
func parseParameters(rest string) ([]parameter, error) {
	var ps []parameter
	for _, f := range strings.Fields(rest) {
		k, v, valued := strings.Cut(f, "=")
		p := parameter{strings.ToUpper(k), v, valued}
		if p.keyword == "" || valued && v == "" {
			return nil, errBadParameter
		}
		for _, q := range ps {
			if q.keyword == p.keyword {
				return nil, errBadParameter
			}
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// mailOptions reads the parameters of MAIL that this session offers.
func (s *session) mailOptions(rest string) (o smtp.MailOptions, err error) {
	ps, err := parseParameters(rest)
	if err != nil {
		return o, err
	}
	for _, p := range ps {
		if err := s.mailOption(&o, p); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (s *session) mailOption(o *smtp.MailOptions, p parameter) error {
	switch {
	case !s.facts.ESMTP:
		return errUnknownParameter
	case p.keyword == "SMTPUTF8" && !p.valued: // RFC 6531 section 3.4
		o.UTF8 = true
	case p.keyword == "REQUIRETLS" && !p.valued && s.offersRequireTLS(): // RFC 8689 section 2
		o.RequireTLS = true
	case !p.valued:
		return errUnknownParameter
	case p.keyword == "SIZE":
		return s.size(o, p.value)
	case p.keyword == "BODY": // RFC 6152 section 3
		o.Body = smtp.BodyType(strings.ToUpper(p.value))
		if o.Body != smtp.Body7Bit && o.Body != smtp.Body8BitMIME {
			return errBadParameter
		}
	case p.keyword == "RET": // RFC 3461 section 4.3
		o.Return = smtp.DSNReturn(strings.ToUpper(p.value))
		if o.Return != smtp.DSNReturnFull && o.Return != smtp.DSNReturnHeaders {
			return errBadParameter
		}
	case p.keyword == "ENVID": // RFC 3461 section 4.4
		id, err := decodeXtext(p.value)
		if err != nil || len(p.value) > 100 || !printableASCII(id) {
			return errBadParameter
		}
		o.EnvelopeID = id
	case p.keyword == "AUTH" && s.set.Auth: // RFC 4954 section 5
		id, err := decodeXtext(p.value)
		if err != nil || !clean(id) {
			return errBadParameter
		}
		if id == "<>" {
			id = ""
		}
		o.Auth = &id
	default:
		return errUnknownParameter
	}
	return nil
}

// size reads SIZE (RFC 1870 section 4): up to 20 digits.
func (s *session) size(o *smtp.MailOptions, v string) error {
	if len(v) > 20 || strings.Trim(v, "0123456789") != "" {
		return errBadParameter
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n > s.set.Limits.Message {
		return errSize
	}
	o.Size = n
	return nil
}

// rcptOptions reads the parameters of RCPT.
func (s *session) rcptOptions(rest string, utf8 bool) (o smtp.RcptOptions, err error) {
	ps, err := parseParameters(rest)
	if err != nil {
		return o, err
	}
	for _, p := range ps {
		switch {
		case !s.facts.ESMTP || !p.valued:
			return o, errUnknownParameter
		case p.keyword == "NOTIFY":
			if o.Notify, err = parseNotify(p.value); err != nil {
				return o, err
			}
		case p.keyword == "ORCPT":
			if err = parseORCPT(&o, p.value, utf8); err != nil {
				return o, err
			}
		default:
			return o, errUnknownParameter
		}
	}
	return o, nil
}

// parseNotify reads NOTIFY (RFC 3461 section 4.1): NEVER alone, or others.
func parseNotify(v string) ([]smtp.DSNNotify, error) {
	var ns []smtp.DSNNotify
	for _, w := range strings.Split(strings.ToUpper(v), ",") {
		n := smtp.DSNNotify(w)
		switch n {
		case smtp.DSNNotifyNever, smtp.DSNNotifySuccess, smtp.DSNNotifyFailure, smtp.DSNNotifyDelayed:
		default:
			return nil, errBadParameter
		}
		for _, m := range ns {
			if m == n || m == smtp.DSNNotifyNever || n == smtp.DSNNotifyNever {
				return nil, errBadParameter
			}
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// parseORCPT reads ORCPT (RFC 3461 section 4.2, RFC 6533 section 3 for utf-8).
func parseORCPT(o *smtp.RcptOptions, v string, utf8 bool) error {
	kind, addr, ok := strings.Cut(v, ";")
	if !ok || kind == "" || addr == "" || len(v) > 500 || !isAtom(kind) {
		return errBadParameter
	}
	o.OriginalRecipientType = smtp.DSNAddressType(strings.ToUpper(kind))
	var err error
	if o.OriginalRecipientType == smtp.DSNAddressTypeUTF8 {
		addr, err = decodeUnitext(addr, utf8)
	} else if addr, err = decodeXtext(addr); err == nil && !printableASCII(addr) {
		err = errBadParameter
	}
	if err != nil || !clean(addr) {
		return errBadParameter
	}
	o.OriginalRecipient = addr
	return nil
}

func isAtom(t string) bool {
	return strings.IndexFunc(t, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	}) < 0
}

func printableASCII(t string) bool {
	for i := 0; i < len(t); i++ {
		if t[i] < ' ' || t[i] > '~' {
			return false
		}
	}
	return true
}

// decodeXtext reads xtext (RFC 3461 section 4): + and two hexadecimal digits
// stand for an octet.
func decodeXtext(t string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(t); i++ {
		switch c := t[i]; {
		case c == '+':
			if i+2 >= len(t) {
				return "", errBadParameter
			}
			n, err := strconv.ParseUint(t[i+1:i+3], 16, 8)
			if err != nil {
				return "", errBadParameter
			}
			b.WriteByte(byte(n))
			i += 2
		case c < '!' || c > '~' || c == '=':
			return "", errBadParameter
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// decodeUnitext reads utf-8-addr-xtext and utf-8-addr-unitext (RFC 6533 section
// 3): \x{HEX} stands for a character; others stand for themselves, in a
// transaction with SMTPUTF8 beyond ASCII too.
func decodeUnitext(t string, utf8 bool) (string, error) {
	var b strings.Builder
	for len(t) > 0 {
		if hex, ok := strings.CutPrefix(t, `\x{`); ok {
			digits, rest, ok := strings.Cut(hex, "}")
			n, err := strconv.ParseUint(digits, 16, 21)
			if !ok || err != nil || n > 0x10ffff {
				return "", errBadParameter
			}
			b.WriteRune(rune(n))
			t = rest
			continue
		}
		if c := t[0]; c < '!' || c == '\\' || c == 0x7f || c > '~' && !utf8 {
			return "", errBadParameter
		}
		b.WriteByte(t[0])
		t = t[1:]
	}
	return b.String(), nil
}
