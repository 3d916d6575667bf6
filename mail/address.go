package mail

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// An Address is one mailbox of a From, To or similar field (RFC 5322 section
// 3.4).
type Address struct {
	Name string // display name, decoded
	Path Path
}

// String returns the address for people: Name <path>.
func (a Address) String() string {
	if a.Name == "" {
		return a.Path.String()
	}
	return a.Name + " <" + a.Path.String() + ">"
}

// errAddress is what is wrong with an address list.
var errAddress = errors.New("address list: not all of it is addresses")

// ParseAddresses reads an address-list with groups and comments, as tolerantly
// as mail clients do: it returns every mailbox that it can find, and an error
// when something else was there too.
func ParseAddresses(value string) ([]Address, error) {
	s := addressScan{s: value}
	for s.i < len(s.s) {
		s.step()
	}
	s.end()
	if s.bad {
		return s.list, errAddress
	}
	return s.list, nil
}

// An addressScan reads an address list in one pass, without recursion.
type addressScan struct {
	s       string
	i       int
	list    []Address
	words   []string // of the display name, or of an address without brackets
	quoted  bool     // one of words was a quoted string
	glue    bool     // no blank since the last word
	comment string   // the last comment: a name in old mail
	angle   string   // what stood between angle brackets
	angled  bool
	bad     bool
}

// step takes one token.
func (s *addressScan) step() {
	c := s.s[s.i]
	switch c {
	case ' ', '\t', '\r', '\n':
		s.i++
		s.glue = false
	case '(':
		s.comment = s.takeComment()
	case '"':
		s.word(s.takeQuoted(), true)
	case '<':
		s.takeAngle()
	case ',', ';':
		s.i++
		s.end()
	case ':':
		s.i++
		s.words, s.quoted = nil, false // the name of a group
	default:
		n := s.atomEnd()
		s.word(s.s[s.i:n], false)
		s.i = n
	}
}

// atomEnd returns where the atom at i ends. The brackets of an address literal
// protect its colons.
func (s *addressScan) atomEnd() int {
	const most = 64 // longer than any address literal
	for n := s.i; n < len(s.s); n++ {
		switch s.s[n] {
		case '[':
			if close := strings.IndexByte(s.s[n:min(n+most, len(s.s))], ']'); close > 0 && (n == s.i || s.s[n-1] == '@') {
				n += close
			}
		case ' ', '\t', '\r', '\n', '(', '"', '<', ',', ';', ':':
			return max(n, s.i+1)
		}
	}
	return len(s.s)
}

// word adds a word; one that follows without a blank belongs to the word before
// it: "a b"@c.
func (s *addressScan) word(w string, quoted bool) {
	s.bad = s.bad || s.angled // text after an address in angle brackets
	s.quoted = s.quoted || quoted
	if n := len(s.words); s.glue && n > 0 {
		s.words[n-1] += w
	} else {
		s.words = append(s.words, w)
	}
	s.glue = true
}

// takeComment reads a comment, which may nest.
func (s *addressScan) takeComment() string {
	start, depth := s.i+1, 0
	for ; s.i < len(s.s); s.i++ {
		switch s.s[s.i] {
		case '\\':
			s.i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				text := s.s[start:s.i]
				s.i++
				return text
			}
		}
	}
	s.i = len(s.s)
	s.bad = true
	return ""
}

// takeQuoted reads a quoted string, with its quotes.
func (s *addressScan) takeQuoted() string {
	start := s.i
	for s.i++; s.i < len(s.s); s.i++ {
		switch s.s[s.i] {
		case '\\':
			s.i++
		case '"':
			s.i++
			return s.s[start:s.i]
		}
	}
	s.i = len(s.s)
	s.bad = true
	return s.s[start:]
}

// takeAngle reads what stands in angle brackets. A ">" in quotes does not end
// it.
func (s *addressScan) takeAngle() {
	start := s.i + 1
	quoted := false
	for s.i++; s.i < len(s.s); s.i++ {
		switch c := s.s[s.i]; {
		case c == '\\':
			s.i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted, c == '<' && !quoted:
			if s.angled {
				s.bad = true // two addresses: the first is kept, and this one too
				s.emit()
			}
			s.angle, s.angled = s.s[start:s.i], true
			if c == '>' {
				s.i++
			}
			return
		}
	}
	s.bad = true
	s.i = len(s.s)
	if start < len(s.s) && !s.angled {
		s.angle, s.angled = s.s[start:], true
	}
}

// end finishes one mailbox.
func (s *addressScan) end() {
	if s.angled || len(s.words) > 0 {
		s.emit()
	}
	s.words, s.quoted, s.glue, s.comment, s.angle, s.angled = nil, false, false, "", "", false
}

// emit adds the mailbox at hand to the list.
func (s *addressScan) emit() {
	if s.angled {
		p, ok := loosePath(s.angle)
		s.bad = s.bad || !ok
		if ok {
			s.list = append(s.list, Address{Name: displayName(s.words), Path: p})
		}
		return
	}
	p, ok := Path{}, false
	if joined(s.words) {
		p, ok = loosePath(strings.Join(s.words, ""))
	}
	if !ok && len(s.words) > 1 { // words before an address without brackets
		last := s.words[len(s.words)-1]
		if p, ok = loosePath(last); ok {
			s.bad = true
			s.list = append(s.list, Address{Name: displayName(s.words[:len(s.words)-1]), Path: p})
			return
		}
	}
	if !ok {
		s.bad = true
		return
	}
	s.list = append(s.list, Address{Name: DecodeHeader(s.comment), Path: p})
}

// joined reports whether words are one address with blanks in it, such as
// "a @ b . c".
func joined(words []string) bool {
	for i := 1; i < len(words); i++ {
		before, after := words[i-1][len(words[i-1])-1], words[i][0]
		if before != '@' && before != '.' && after != '@' && after != '.' {
			return false
		}
	}
	return true
}

// displayName joins and decodes the words of a name.
func displayName(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(unquote(w))
	}
	return strings.TrimSpace(DecodeHeader(b.String()))
}

// unquote removes the quotes of quoted strings in a word and resolves their
// quoted pairs.
func unquote(w string) string {
	if strings.IndexByte(w, '"') < 0 {
		return w
	}
	b := make([]byte, 0, len(w))
	quoted := false
	for i := 0; i < len(w); i++ {
		switch {
		case w[i] == '"':
			quoted = !quoted
		case w[i] == '\\' && quoted && i+1 < len(w):
			i++
			b = append(b, w[i])
		default:
			b = append(b, w[i])
		}
	}
	return string(b)
}

// loosePath reads an address as headers have it: with blanks, routes and what
// ParsePath refuses, as long as there is a local-part and a domain.
func loosePath(s string) (Path, bool) {
	s = strings.TrimSpace(s)
	if p, err := ParsePath(s, true); err == nil && !p.IsNull() && p.Domain != "" {
		return p, true
	}
	s = strings.TrimSpace(string(stripComments([]byte(s))))
	if route, rest, ok := strings.Cut(s, ":"); ok && strings.HasPrefix(route, "@") {
		s = rest
	}
	at := lastAt(s)
	if at <= 0 || at == len(s)-1 {
		return Path{}, false
	}
	local, domain := strings.TrimSpace(s[:at]), strings.TrimSpace(s[at+1:])
	if local == "" || domain == "" || strings.ContainsAny(domain, " \t<>\"") {
		return Path{}, false
	}
	if !utf8.ValidString(local) {
		local = rawText(local)
	}
	p := Path{Local: local, Domain: NormalDomain(domain)}
	return p, p.Domain != ""
}

// lastAt returns where the last "@" outside of quotes stands, -1 if nowhere.
func lastAt(s string) int {
	at, quoted := -1, false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			quoted = !quoted
		case '@':
			if !quoted {
				at = i
			}
		}
	}
	return at
}
