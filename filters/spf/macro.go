package spf

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A piece is a part of a macro-string: literal text, or a macro (RFC 7208
// section 7.1).
type piece struct {
	macro      bool   // "%{...}", and "%%", "%_" and "%-", whose text stands for them
	text       string // of a literal
	letter     byte   // lower case; zero for literals and for "%%", "%_" and "%-"
	escape     bool   // the letter was upper case
	digits     int    // zero: all parts
	reverse    bool
	delimiters string
}

// macroLetters are those that stand in a record, and those that stand in
// explanations too.
const (
	macroLetters   = "slodiphv"
	explainLetters = macroLetters + "crt"
)

// splitMacros reads a macro-string, or with explain an explain-string, which may
// have spaces and more letters.
func splitMacros(s string, explain bool) ([]piece, error) {
	var parts []piece
	for i := 0; i < len(s); {
		if s[i] != '%' {
			start := i
			for ; i < len(s) && s[i] != '%'; i++ {
				if (s[i] <= ' ' || s[i] > '~') && !(explain && s[i] == ' ') {
					return nil, fmt.Errorf("%w: a character that may not stand there", errRecord)
				}
			}
			parts = append(parts, piece{text: s[start:i]})
			continue
		}
		if i+1 == len(s) {
			return nil, fmt.Errorf("%w: a lone %%", errRecord)
		}
		switch s[i+1] {
		case '%':
			parts = append(parts, piece{macro: true, text: "%"})
		case '_':
			parts = append(parts, piece{macro: true, text: " "})
		case '-':
			parts = append(parts, piece{macro: true, text: "%20"})
		case '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("%w: a macro without end", errRecord)
			}
			p, ok := parseMacro(s[i+2:i+end], explain)
			if !ok {
				return nil, fmt.Errorf("%w: no such macro", errRecord)
			}
			parts = append(parts, p)
			i += end - 1
		default:
			return nil, fmt.Errorf("%w: a lone %%", errRecord)
		}
		i += 2
	}
	return parts, nil
}

// parseMacro reads what stands in the braces of a macro.
func parseMacro(s string, explain bool) (piece, bool) {
	if s == "" {
		return piece{}, false
	}
	letters := macroLetters
	if explain {
		letters = explainLetters
	}
	p := piece{macro: true, letter: s[0] | 0x20, escape: s[0] < 'a', delimiters: "."}
	if strings.IndexByte(letters, p.letter) < 0 || s[0] < 'A' {
		return p, false
	}
	rest := strings.TrimLeft(s[1:], "0123456789")
	if number := s[1 : len(s)-len(rest)]; number != "" {
		// RFC 7208 section 7.3: zero is an error; more digits than there are
		// parts are no error.
		n, err := strconv.Atoi(number)
		if strings.Trim(number, "0") == "" {
			return p, false
		}
		if err != nil || n > 128 {
			n = 128
		}
		p.digits = n
	}
	if strings.HasPrefix(rest, "r") || strings.HasPrefix(rest, "R") {
		p.reverse, rest = true, rest[1:]
	}
	if rest != "" {
		p.delimiters = rest
	}
	return p, strings.Trim(rest, ".-+,/_=") == ""
}

// expand expands a macro-string that the record's grammar has accepted.
func (c *check) expand(s, domain string, explain bool) (string, error) {
	parts, err := splitMacros(s, explain)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for i := range parts {
		p := &parts[i]
		if p.letter == 0 {
			b.WriteString(p.text)
		} else {
			b.WriteString(p.apply(c.macro(p.letter, domain)))
		}
		if b.Len() > maxExpansion {
			return "", fmt.Errorf("%w: a macro expands to too much", errRecord)
		}
	}
	return b.String(), nil
}

// maxExpansion bounds what a macro-string may become.
const maxExpansion = 4096

// apply performs the transformers of a macro on its value.
func (p *piece) apply(v string) string {
	if p.digits > 0 || p.reverse || p.delimiters != "." {
		parts := strings.FieldsFunc(v, func(r rune) bool { return strings.ContainsRune(p.delimiters, r) })
		if p.reverse {
			slices.Reverse(parts)
		}
		if p.digits > 0 && p.digits < len(parts) {
			parts = parts[len(parts)-p.digits:]
		}
		v = strings.Join(parts, ".")
	}
	if p.escape {
		v = percent(v)
	}
	return v
}

// percent escapes everything but the unreserved characters of URIs (RFC 7208
// section 7.3).
func percent(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// macro returns the value of a macro letter (RFC 7208 section 7.2).
func (c *check) macro(letter byte, domain string) string {
	switch letter {
	case 's':
		return c.local + "@" + c.domain
	case 'l':
		return c.local
	case 'o':
		return c.domain
	case 'd':
		return domain
	case 'i':
		return dotted(c.addr)
	case 'p':
		return c.validated(domain)
	case 'v':
		if c.addr.Is4() {
			return "in-addr"
		}
		return "ip6"
	case 'h':
		return c.helo
	case 'c':
		return c.addr.String()
	case 'r':
		return c.receiver
	case 't':
		return strconv.FormatInt(c.at.Unix(), 10)
	}
	return ""
}

// dotted returns an address as the macro i has it: IPv6 in nibbles with dots.
func dotted(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	var b strings.Builder
	for i, c := range a.AsSlice() {
		if i > 0 {
			b.WriteByte('.')
		}
		fmt.Fprintf(&b, "%x.%x", c>>4, c&15)
	}
	return b.String()
}
