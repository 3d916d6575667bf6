package authres

import (
	"slices"
	"strings"

	"postern/mail"
)

// Forged reports whether a header field is an Authentication-Results field that
// claims to be written by one of the authserv-ids: on mail from outside it is
// forged (RFC 8601 section 5).
func Forged(f mail.Field, ids ...string) bool {
	return f.HasPrefix("Authentication-Re") && strings.EqualFold(f.Name(), fieldName) && claims(f.Value(), ids...)
}

// claims reports whether a reader might take the body of a field for one of the
// authserv-ids. That is so when the id reads as one of them, when there is no id
// to be read, and when one stands anywhere before the first semicolon: in a
// comment, in quotes or in an encoded word, or comes of leaving out comments,
// quotes and white space. Case and dots around it make no difference.
func claims(body string, ids ...string) bool {
	s := &scanner{s: body}
	id, err := s.authservID()
	if err != nil || claimed(id, ids) {
		return true
	}
	if rest := s.s[s.i:]; s.skip() != nil || s.i < len(s.s) && s.s[s.i] != ';' && !strings.ContainsAny(rest, ";") {
		return true // no semicolon: it may go on anywhere
	}
	for _, text := range []string{body, mail.DecodeHeader(body), joined(body)} {
		head, _, _ := strings.Cut(text, ";")
		for _, word := range strings.FieldsFunc(head, notInDomain) {
			if claimed(word, ids) {
				return true
			}
		}
	}
	return false
}

// joined returns a text without what RFC 5322 section 4.4 lets stand between the
// parts of a domain, and without quotes.
func joined(body string) string {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '(':
			depth++
		case c == ')':
			depth = max(depth-1, 0)
		case depth > 0, strings.IndexByte(" \t\r\n\"\\", c) >= 0:
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func claimed(id string, ids []string) bool {
	id = mail.NormalDomain(strings.Trim(id, "."))
	return slices.ContainsFunc(ids, func(own string) bool { return mail.NormalDomain(own) == id })
}

// notInDomain reports whether r separates words that may be domains.
func notInDomain(r rune) bool {
	return r < 0x80 && !isLetDig(byte(r)) && r != '-' && r != '.' && r != '_'
}
