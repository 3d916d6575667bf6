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
	name := f.Name()
	if len(name) > len(ownPrefix) && strings.EqualFold(name[:len(ownPrefix)], ownPrefix) {
		return true
	}
	if !strings.EqualFold(name, "Authentication-Results") {
		return false
	}
	id := strings.TrimLeft(f.Value(), " \t")
	for strings.HasPrefix(id, "(") { // a comment may stand before the id
		end := strings.IndexByte(id, ')')
		if end < 0 {
			return true
		}
		id = strings.TrimLeft(id[end+1:], " \t")
	}
	if end := strings.IndexAny(id, "; \t("); end >= 0 {
		id = id[:end]
	}
	id = strings.Trim(id, `"`)
	return id == "" || mail.NormalDomain(id) == b.Policy.Site.Hostname
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

// safeAtom is what a client told us, fit to stand in our field: no control
// character, no comment, no more than a domain's length.
func safeAtom(text string) string {
	if text == "" {
		return "unknown"
	}
	if len(text) > 255 {
		text = text[:255]
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`()<>;\"`, r) {
			return '?'
		}
		return r
	}, text)
}
