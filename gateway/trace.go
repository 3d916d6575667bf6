package gateway

import (
	"fmt"
	"strings"

	"postern/filters"
	"postern/mail"
	"postern/mail/authres"
	"postern/policy"
)

// ownPrefix begins the names of the header fields that only Postern writes.
const ownPrefix = "x-postern-"

// forged reports whether an inbound header field pretends to be ours: one of
// X-Postern-*, a verdict on spam or SPF, or an Authentication-Results field with
// our authserv-id (RFC 8601 section 5).
func (b *begun) forged(f mail.Field) bool {
	if f.HasPrefix(ownPrefix) {
		return true
	}
	// What a mail server may take for the word of its own gateway: verdicts on
	// spam, and on SPF (RFC 7208 section 9.1).
	return f.HasPrefix("x-spam-") || f.Is("Received-SPF") || authres.Forged(f, b.Policy.Site.Hostname)
}

// traceFields are the header fields that a relayed copy gains, from the top. The
// authentication results stand above the Received field: they are of this hop
// (RFC 8601 section 4.1).
func (b *begun) traceFields(tx *mail.Transaction, rs filters.Results, c policy.Copy) []string {
	fields := []string{b.received(tx, c.Recipients), "X-Postern-Id: " + tx.ID + "\r\n"}
	if tx.Direction != mail.Inbound {
		return fields
	}
	var auth []mail.AuthResult
	for i := range rs {
		auth = append(auth, rs[i].Verdict.Auth...)
	}
	if len(auth) == 0 {
		return fields
	}
	return append([]string{authres.Field(b.Policy.Site.Hostname, auth)}, fields...)
}

// received is our trace field (RFC 5321 section 4.4). The recipient is named
// only when there is one: others may be blind copies.
func (b *begun) received(tx *mail.Transaction, to []mail.Path) string {
	s := append(make([]byte, 0, 400), "Received: from "...)
	s = append(s, safeAtom(tx.Helo)...)
	s = append(s, " ("...)
	if tx.ClientName != "" {
		s = append(append(s, safeAtom(tx.ClientName)...), ' ')
	}
	s = append(s, '[')
	addr := tx.Client.Addr().Unmap()
	if addr.Is6() {
		s = append(s, "IPv6:"...)
	}
	if addr.IsValid() {
		s = addr.WithZone("").AppendTo(s)
	} else {
		s = append(s, "unknown"...)
	}
	s = append(append(s, "])\r\n\tby "...), b.Policy.Site.Hostname...)
	s = append(append(s, " (Postern) with "...), tx.With(tx.Options.UTF8)...)
	s = append(append(s, " id "...), tx.ID...)
	if tx.TLS.Version != "" {
		s = fmt.Appendf(s, "\r\n\t(%s %s)", tx.TLS.Version, tx.TLS.Cipher)
	}
	if tx.TLS.ClientCert != "" {
		s = fmt.Appendf(s, "\r\n\t(client certificate %s)", safeAtom(tx.TLS.ClientCert))
	}
	if len(to) == 1 && len(tx.Recipients) == 1 {
		s = append(append(append(s, "\r\n\tfor <"...), to[0].String()...), '>')
	}
	s = tx.At.AppendFormat(append(s, ";\r\n\t"...), "Mon, 2 Jan 2006 15:04:05 -0700")
	return string(append(s, "\r\n"...))
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
