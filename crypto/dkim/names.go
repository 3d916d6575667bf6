package dkim

import (
	"bytes"
	"strings"

	"golang.org/x/net/idna"
)

// parseDomain reads a domain of a signature: two labels or more for d=, one or
// more for a selector. It returns it in lower case and ASCII: U-labels are
// A-labels then (RFC 8616 section 5).
//
// Only what a host name is made of and the underscore are taken. Anything else
// is one name to the DNS, another to who reads the Authentication-Results
// field, and a third to a resolver that ends names at NUL.
func parseDomain(b []byte, labels int) (string, bool) {
	name := string(b)
	for i := 0; i < len(b); i++ {
		if b[i] >= 0x80 {
			ascii, err := idna.Lookup.ToASCII(name)
			if err != nil {
				return "", false
			}
			name = ascii
			break
		}
	}
	name = strings.ToLower(name)
	// RFC 1035 section 2.3.4: names of 253 characters, labels of 63.
	if name == "" || len(name) > 253 || strings.Count(name, ".")+1 < labels {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isLabel(label) {
			return "", false
		}
	}
	return name, true
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// within reports whether name is domain or lies below it.
func within(name, domain string) bool {
	return name == domain || len(name) > len(domain) && name[len(name)-len(domain)-1] == '.' && strings.HasSuffix(name, domain)
}

// parseIdentity reads i= (RFC 6376 section 3.5): an optional local-part in
// quoted-printable, "@" and a domain. It returns the identity as it is reported
// and the domain.
func parseIdentity(b []byte) (identity, domain string, ok bool) {
	at := bytes.LastIndexByte(b, '@')
	if at < 0 {
		return "", "", false
	}
	local, ok := unquote(b[:at])
	if !ok {
		return "", "", false
	}
	domain, ok = parseDomain(trim(b[at+1:]), 1)
	return local + "@" + domain, domain, ok
}

// unquote decodes DKIM-quoted-printable (RFC 6376 section 2.11). White space in
// it means nothing. It refuses what decodes to control characters.
func unquote(b []byte) (string, bool) {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case isWSP(c):
			continue
		case c == '=':
			if i+2 >= len(b) {
				return "", false
			}
			high, low := unhex(b[i+1]), unhex(b[i+2])
			if high < 0 || low < 0 {
				return "", false
			}
			c = byte(high<<4 | low)
			i += 2
		}
		if c < ' ' || c == 0x7f {
			return "", false
		}
		out = append(out, c)
	}
	return string(out), true
}

// unhex returns the value of a hexadecimal digit. RFC 6376 has them in upper
// case only; signers do not.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// ValidName reports whether name is a domain of at least so many labels as
// Signer wants it: in lower case and ASCII.
func ValidName(name string, labels int) bool {
	d, ok := parseDomain([]byte(name), labels)
	return ok && d == name
}
