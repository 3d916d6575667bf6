package mail

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of RFC 5321 section 4.5.3.1.
const (
	maxLocal  = 64
	maxDomain = 255
	maxPath   = 254 // 256 with the angle brackets
)

// ParsePath reads what stands between the angle brackets of MAIL FROM and RCPT
// TO: a Mailbox of RFC 5321 section 4.1.2, "postmaster" alone, or nothing, the
// null reverse-path. A source route is dropped (appendix C). With utf8, the
// grammar of RFC 6531 holds. A quoted local-part that needs no quotes loses
// them, so that equal mailboxes have equal Paths. Errors wrap ErrPath.
func ParsePath(s string, utf8 bool) (Path, error) {
	if s == "" {
		return Path{}, nil
	}
	if err := checkBytes(s, utf8); err != nil {
		return Path{}, err
	}
	if strings.EqualFold(s, "postmaster") { // RFC 5321 section 4.5.1
		return Path{Local: s}, nil
	}
	if s[0] == '@' {
		route, rest, ok := strings.Cut(s, ":")
		if !ok || !isRoute(route) {
			return Path{}, badPath("bad source route", s)
		}
		s = rest
	}
	local, rest, err := parseLocal(s)
	if err != nil {
		return Path{}, err
	}
	if rest == "" || rest[0] != '@' {
		return Path{}, badPath("no domain", s)
	}
	if len(local) > maxLocal {
		return Path{}, badPath("local-part longer than 64 bytes", s)
	}
	domain, err := parseDomain(rest[1:])
	if err != nil {
		return Path{}, err
	}
	p := Path{Local: local, Domain: domain}
	if len(local)+1+len(domain) > maxPath {
		return Path{}, badPath("longer than 254 bytes", s)
	}
	return p, nil
}

// badPath makes an error that shows what was given, cut and printable.
func badPath(why, s string) error {
	return fmt.Errorf("%w: %s: %q", ErrPath, why, s[:min(len(s), 80)])
}

// checkBytes refuses what must stand nowhere in a path.
func checkBytes(s string, eai bool) error {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f:
			return badPath("control character", s)
		case c >= utf8.RuneSelf && !eai:
			return badPath("not ASCII, and SMTPUTF8 was not asked for", s)
		}
	}
	if eai && !utf8.ValidString(s) {
		return badPath("not UTF-8", s)
	}
	return nil
}

// isRoute reports whether s is an A-d-l: "@a,@b".
func isRoute(s string) bool {
	for _, at := range strings.Split(s, ",") {
		if len(at) < 2 || at[0] != '@' {
			return false
		}
		if _, err := parseDomain(at[1:]); err != nil {
			return false
		}
	}
	return true
}

// isAtext has the bytes of an atom (RFC 5321 section 4.1.2, RFC 6531 section
// 3.3).
func isAtext(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c >= utf8.RuneSelf:
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// isDotString reports whether s is atoms separated by dots.
func isDotString(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		if s[i] != '.' && !isAtext(s[i]) {
			return false
		}
	}
	return true
}

// parseLocal reads a local-part and returns it in its normal form.
func parseLocal(s string) (local, rest string, err error) {
	if s == "" {
		return "", "", badPath("no local-part", s)
	}
	if s[0] != '"' {
		at := strings.IndexByte(s, '@')
		if at < 0 {
			at = len(s)
		}
		if !isDotString(s[:at]) {
			return "", "", badPath("bad local-part", s)
		}
		return s[:at], s[at:], nil
	}
	var plain strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return normalLocal(plain.String()), s[i+1:], nil
		case '\\':
			if i++; i == len(s) || s[i] >= utf8.RuneSelf {
				return "", "", badPath("bad quoted pair", s)
			}
		}
		plain.WriteByte(s[i])
	}
	return "", "", badPath("quote is not closed", s)
}

// normalLocal writes the content of a local-part with no more quotes than it
// needs (RFC 5321 section 4.1.2: a receiver must take both forms for the same).
func normalLocal(plain string) string {
	if isDotString(plain) {
		return plain
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(plain) {
		if plain[i] == '"' || plain[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(plain[i])
	}
	b.WriteByte('"')
	return b.String()
}

// parseDomain reads a domain or address literal and returns its normal form.
func parseDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return parseLiteral(s)
	}
	d := strings.TrimSuffix(s, ".")
	if !isASCII(d) {
		a, err := idna.Lookup.ToASCII(d)
		if err != nil {
			return "", badPath("bad international domain", s)
		}
		d = a
	}
	if len(d) > maxDomain {
		return "", badPath("domain longer than 255 bytes", s)
	}
	for rest, more := d, true; more; {
		var label string
		label, rest, more = strings.Cut(rest, ".")
		if !isLabel(label) {
			return "", badPath("bad domain", s)
		}
	}
	return strings.ToLower(d), nil
}

// isLabel reports whether s is a sub-domain of RFC 5321: letters, digits and
// inner hyphens. Underscores, which the DNS has and some hosts use, are let
// through.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// parseLiteral reads an address literal (RFC 5321 section 4.1.3) and returns it
// in its normal form.
func parseLiteral(s string) (string, error) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", badPath("bracket is not closed", s)
	}
	six := len(inner) > 5 && strings.EqualFold(inner[:5], "ipv6:")
	if six {
		inner = inner[5:]
	}
	a, err := netip.ParseAddr(inner)
	if err != nil || a.Is4() == six || a.Zone() != "" {
		return "", badPath("bad address literal", s)
	}
	if six {
		return "[IPv6:" + a.String() + "]", nil
	}
	return "[" + a.String() + "]", nil
}
