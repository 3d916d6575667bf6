package relay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// errUnsayable is what errors of paths that cannot be put on a command line
// wrap.
var errUnsayable = errors.New("path cannot be said in SMTP")

// maxPath bounds a path on a command line. RFC 5321 section 4.5.3.1.3 allows
// 256 octets; internationalised paths are longer in the field.
const maxPath = 900

// appendPath appends <path>. It never appends anything that could end the
// command line or its argument early: the local-part is a dot-string or a
// well-formed quoted-string, or is made one; the domain has only what domains
// have (RFC 5321 section 4.1.2).
func appendPath(b []byte, p mail.Path) ([]byte, error) {
	if len(p.Local)+len(p.Domain) > maxPath {
		return nil, fmt.Errorf("%w: %d octets long", errUnsayable, len(p.Local)+len(p.Domain))
	}
	b = append(b, '<')
	if p.IsNull() {
		return append(b, '>'), nil
	}
	if p.Local == "" || !utf8.ValidString(p.Local) || hasControl(p.Local) {
		return nil, fmt.Errorf("%w: local-part %q", errUnsayable, p.Local)
	}
	switch {
	case isDotString(p.Local) || isQuotedString(p.Local):
		b = append(b, p.Local...)
	default:
		b = appendQuoted(b, p.Local)
	}
	if p.Domain != "" {
		if !sayableDomain(p.Domain) {
			return nil, fmt.Errorf("%w: domain %q", errUnsayable, p.Domain)
		}
		b = append(append(b, '@'), p.Domain...)
	}
	return append(b, '>'), nil
}

func hasControl(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// isDotString reports whether s is a Dot-string (RFC 5321 section 4.1.2, with
// RFC 6531 section 3.3's UTF8-non-ascii).
func isDotString(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] == '.' && s[i-1] == '.' || s[i] != '.' && !isAtext(s[i]) {
			return false
		}
	}
	return true
}

func isAtext(c byte) bool {
	return c >= 0x80 || isLetterOrDigit(c) || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isLetterOrDigit(c byte) bool {
	return digit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// isQuotedString reports whether s is one whole Quoted-string.
func isQuotedString(s string) bool {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return false
	}
	for i := 1; i < len(s)-1; i++ {
		switch s[i] {
		case '"':
			return false
		case '\\':
			if i++; i == len(s)-1 {
				return false
			}
		}
	}
	return true
}

// appendQuoted appends s as a Quoted-string.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// sayableDomain reports whether d can stand after the @: a domain of letters,
// digits, hyphens and underscores (U-labels too), or an address literal.
func sayableDomain(d string) bool {
	if d[0] == '[' {
		if len(d) < 3 || d[len(d)-1] != ']' {
			return false
		}
		// Of dcontent only what addresses are written with.
		for _, c := range []byte(d[1 : len(d)-1]) {
			if !isLetterOrDigit(c) && strings.IndexByte(".:-_", c) < 0 {
				return false
			}
		}
		return true
	}
	if d[0] == '.' || d[len(d)-1] == '.' || strings.Contains(d, "..") || !utf8.ValidString(d) {
		return false
	}
	for _, c := range []byte(d) {
		if c < 0x80 && !isLetterOrDigit(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// isASCII reports whether s has octets up to 127 only.
func isASCII[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// appendXtext appends s as xtext (RFC 3461 section 4).
func appendXtext(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < '!' || c > '~' || c == '+' || c == '=' {
			b = append(b, '+', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

// appendUTF8Xtext appends s as utf-8-addr-unitext if raw, else as
// utf-8-addr-xtext (RFC 6533 section 3).
func appendUTF8Xtext(b []byte, s string, raw bool) []byte {
	for _, r := range s {
		switch {
		case r <= ' ' || r == 0x7f || r == '+' || r == '=' || r == '\\' || r >= 0x80 && !raw:
			b = append(append(append(b, `\x{`...), strings.ToUpper(strconv.FormatInt(int64(r), 16))...), '}')
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// appendMail appends the MAIL command with what the next hop can take of the
// message's parameters.
func appendMail(b []byte, m *Mail, caps *capabilities, utf8 bool) ([]byte, error) {
	b, err := appendPath(append(b, "MAIL FROM:"...), m.From)
	if err != nil {
		return nil, err
	}
	if caps.sized {
		b = strconv.AppendInt(append(b, " SIZE="...), m.Size, 10)
	}
	switch {
	case m.Options.Body == smtp.BodyBinaryMIME:
		b = append(b, " BODY=BINARYMIME"...)
	case caps.eightBit && (m.EightBit || utf8 || m.Options.Body == smtp.Body8BitMIME):
		b = append(b, " BODY=8BITMIME"...)
	}
	if utf8 {
		b = append(b, " SMTPUTF8"...)
	}
	if m.requireTLS() && caps.requireTLS {
		b = append(b, " REQUIRETLS"...)
	}
	if caps.dsn {
		switch m.Options.Return {
		case smtp.DSNReturnFull:
			b = append(b, " RET=FULL"...)
		case smtp.DSNReturnHeaders:
			b = append(b, " RET=HDRS"...)
		}
		// RFC 3461 section 4.4: an ENVID of at most 100 characters.
		if id := m.Options.EnvelopeID; id != "" && len(id) <= 100 {
			b = appendXtext(append(b, " ENVID="...), id)
		}
	}
	return append(b, "\r\n"...), nil
}

// appendRcpt appends the RCPT command.
func appendRcpt(b []byte, r *mail.Recipient, caps *capabilities, utf8 bool) ([]byte, error) {
	b, err := appendPath(append(b, "RCPT TO:"...), r.Path)
	if err != nil {
		return nil, err
	}
	if caps.dsn {
		b = appendNotify(b, r.Options.Notify)
		b = appendORCPT(b, &r.Options, utf8)
	}
	return append(b, "\r\n"...), nil
}

// appendNotify appends the NOTIFY parameter (RFC 3461 section 4.1).
func appendNotify(b []byte, notify []smtp.DSNNotify) []byte {
	start, sep := len(b), " NOTIFY="
	for _, n := range notify {
		switch n {
		case smtp.DSNNotifyNever, smtp.DSNNotifyDelayed, smtp.DSNNotifyFailure, smtp.DSNNotifySuccess:
			b = append(append(b, sep...), n...)
			sep = ","
		default:
			return b[:start]
		}
	}
	return b
}

// appendORCPT appends the ORCPT parameter (RFC 3461 section 4.2, RFC 6533
// section 3).
func appendORCPT(b []byte, o *smtp.RcptOptions, utf8 bool) []byte {
	if o.OriginalRecipient == "" || len(o.OriginalRecipient) > maxPath {
		return b
	}
	switch {
	case o.OriginalRecipientType == smtp.DSNAddressTypeRFC822 && isASCII(o.OriginalRecipient):
		return appendXtext(append(b, " ORCPT=rfc822;"...), o.OriginalRecipient)
	case o.OriginalRecipientType == smtp.DSNAddressTypeUTF8:
		return appendUTF8Xtext(append(b, " ORCPT=utf-8;"...), o.OriginalRecipient, utf8)
	}
	return b
}
