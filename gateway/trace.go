package gateway

import (
	"fmt"
	"strings"

	"postern/mail"
	"postern/policy"
)

// ownPrefix begins the names of the header fields that only Postern writes.
const ownPrefix = "x-postern-"

// forged reports whether an inbound header field pretends to be ours: one of
// X-Postern-*, or an Authentication-Results field with our authserv-id
// (RFC 8601 section 5).
func (b *begun) forged(f mail.Field) bool {
	if f.HasPrefix(ownPrefix) {
		return true
	}
	if !f.Is("Authentication-Results") {
		return false
	}
	id := authservID(f.Value())
	return id == "" || mail.NormalDomain(id) == mail.NormalDomain(b.Policy.Site.Hostname)
}

// authservID is the authserv-id at the beginning of an Authentication-Results
// field (RFC 8601 section 2.2): a token or a quoted string, comments before it.
// It is empty if nothing like it is there.
func authservID(value string) string {
	value = afterComments(value)
	if rest, ok := strings.CutPrefix(value, `"`); ok {
		return unquoted(rest)
	}
	if end := strings.IndexAny(value, "; \t("); end >= 0 {
		value = value[:end]
	}
	return value
}

// afterComments takes white space and comments, which nest, off the beginning
// (RFC 5322 section 3.2.2). A comment without an end leaves nothing.
func afterComments(s string) string {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0:
			i++
		case depth == 0 && c != ' ' && c != '\t':
			return s[i:]
		}
	}
	return ""
}

// unquoted is the content of a quoted string whose first quote is gone.
func unquoted(s string) string {
	var b strings.Builder
	for i := 0; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return strings.TrimSpace(b.String())
}

// traceFields are the header fields that a relayed copy gains, from the top.
func (b *begun) traceFields(tx *mail.Transaction, c policy.Copy) []string {
	return []string{b.received(tx, c.Recipients), "X-Postern-Id: " + tx.ID + "\r\n"}
}

// received is our trace field (RFC 5321 section 4.4). The recipient is named
// only when there is one: others may be blind copies.
func (b *begun) received(tx *mail.Transaction, to []mail.Path) string {
	var s strings.Builder
	s.Grow(400)
	s.WriteString("Received: from ")
	s.WriteString(safeAtom(tx.Helo))
	s.WriteString(" (")
	if tx.ClientName != "" {
		s.WriteString(safeAtom(tx.ClientName))
		s.WriteByte(' ')
	}
	s.WriteByte('[')
	addr := tx.Client.Addr().Unmap()
	if addr.Is6() {
		s.WriteString("IPv6:")
	}
	if addr.IsValid() {
		s.WriteString(addr.WithZone("").String())
	} else {
		s.WriteString("unknown")
	}
	s.WriteString("])\r\n\tby ")
	s.WriteString(b.Policy.Site.Hostname)
	s.WriteString(" (Postern) with ")
	s.WriteString(tx.With(tx.Options.UTF8))
	s.WriteString(" id ")
	s.WriteString(tx.ID)
	if tx.TLS.Version != "" {
		fmt.Fprintf(&s, "\r\n\t(%s %s)", tx.TLS.Version, tx.TLS.Cipher)
	}
	if len(to) == 1 && len(tx.Recipients) == 1 {
		s.WriteString("\r\n\tfor <")
		s.WriteString(to[0].String())
		s.WriteByte('>')
	}
	s.WriteString(";\r\n\t")
	s.WriteString(tx.At.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	s.WriteString("\r\n")
	return s.String()
}

// safeAtom is what a client told us, fit to stand in our field: ASCII, no
// control character, no comment, no more than a domain's length.
func safeAtom(text string) string {
	if text == "" {
		return "unknown"
	}
	if len(text) > 255 {
		text = text[:255]
	}
	if plainAtom(text) {
		return text
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>;\"`, r) {
			return '?'
		}
		return r
	}, text)
}

// plainAtom reports whether text has letters, digits, dots and hyphens only.
func plainAtom(text string) bool {
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c != '.' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
