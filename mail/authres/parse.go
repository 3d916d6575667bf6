package authres

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"postern/mail"
)

// Errors of Parse and Read.
var (
	ErrSyntax  = errors.New("not an Authentication-Results field")
	ErrVersion = errors.New("an unknown version of Authentication-Results")
)

// maxBody bounds the fields that are read.
const maxBody = 64 << 10

// Parse reads the body of a field, folded or not, as strictly as RFC 8601
// section 2.2 defines it. Names and values of results are returned in lower
// case; "none" is no results. After an error nothing of it is to be believed.
func Parse(body string) (id string, results []mail.AuthResult, err error) {
	return parse(body, false)
}

// Read reads what Parse does, and forgives what large providers write: a
// semicolon at the end, values that ought to be quoted, and words such as
// action=none, which it leaves out. Comments and quoted strings are what they are
// here too.
func Read(body string) (id string, results []mail.AuthResult, err error) {
	return parse(body, true)
}

// A scanner reads a body.
type scanner struct {
	s        string
	i        int
	tolerant bool
}

func parse(body string, tolerant bool) (string, []mail.AuthResult, error) {
	s := &scanner{s: strings.TrimSuffix(body, "\r\n"), tolerant: tolerant}
	id, results, err := s.payload()
	if err != nil {
		return "", nil, err
	}
	return id, results, nil
}

func (s *scanner) fail(what string) error {
	return fmt.Errorf("%w: byte %d: %s", ErrSyntax, s.i, what)
}

// payload reads the whole body.
func (s *scanner) payload() (id string, results []mail.AuthResult, err error) {
	if len(s.s) > maxBody {
		return "", nil, fmt.Errorf("%w: it is too long", ErrSyntax)
	}
	if id, err = s.authservID(); err != nil {
		return "", nil, err
	}
	for n := 0; ; n++ {
		if err := s.skip(); err != nil {
			return "", nil, err
		}
		switch {
		case s.i == len(s.s) && (n > 0 || s.tolerant):
			return id, results, nil
		case s.peek() != ';':
			return "", nil, s.fail("no semicolon before a result")
		}
		s.i++
		r, none, err := s.result(n == 0)
		switch {
		case err != nil:
			return "", nil, err
		case none:
			return id, nil, nil
		case r.Method != "":
			results = append(results, r)
		}
	}
}

// authservID reads the authserv-id and the version.
func (s *scanner) authservID() (string, error) {
	if err := s.skip(); err != nil {
		return "", err
	}
	id, err := s.value()
	if err != nil {
		return "", err
	}
	if id == "" {
		return "", s.fail("no authserv-id")
	}
	if err := s.skip(); err != nil {
		return "", err
	}
	start := s.i
	for s.i < len(s.s) && '0' <= s.s[s.i] && s.s[s.i] <= '9' {
		s.i++
	}
	if version := strings.TrimLeft(s.s[start:s.i], "0"); s.i > start && version != "1" {
		return "", fmt.Errorf("%w: byte %d", ErrVersion, start)
	}
	return id, nil
}

// result reads one result after its semicolon. none says that it was "none"
// instead, which may only stand alone. A result without a method is nothing.
func (s *scanner) result(first bool) (r mail.AuthResult, none bool, err error) {
	if err := s.skip(); err != nil {
		return r, false, err
	}
	if s.i == len(s.s) && s.tolerant {
		return r, false, nil
	}
	if r.Method = strings.ToLower(s.run(isKeywordChar)); !isKeyword(r.Method) {
		return r, false, s.fail("no method")
	}
	if err := s.skip(); err != nil {
		return r, false, err
	}
	if first && r.Method == "none" && s.i == len(s.s) {
		return r, true, nil
	}
	if s.peek() == '/' {
		if err := s.methodVersion(); err != nil {
			return r, false, err
		}
	}
	if s.peek() != '=' {
		return r, false, s.fail("no result after the method")
	}
	s.i++
	if err := s.skip(); err != nil {
		return r, false, err
	}
	if r.Value = strings.ToLower(s.run(isKeywordChar)); !isKeyword(r.Value) {
		return r, false, s.fail("no result after the method")
	}
	return r, false, s.properties(&r)
}

// methodVersion reads the version of a method: "/1".
func (s *scanner) methodVersion() error {
	s.i++
	if err := s.skip(); err != nil {
		return err
	}
	start := s.i
	for s.i < len(s.s) && '0' <= s.s[s.i] && s.s[s.i] <= '9' {
		s.i++
	}
	if s.i == start {
		return s.fail("no version of the method")
	}
	return s.skip()
}

// properties reads the reason and the properties of a result.
func (s *scanner) properties(r *mail.AuthResult) error {
	for n := 0; ; n++ {
		before := s.i
		if err := s.skip(); err != nil {
			return err
		}
		if s.i == len(s.s) || s.peek() == ';' {
			return nil
		}
		if n == 0 && s.i == before {
			return s.fail("no white space before a property")
		}
		kind := strings.ToLower(s.run(isKeywordChar))
		if !isKeyword(kind) {
			return s.fail("no property")
		}
		if err := s.skip(); err != nil {
			return err
		}
		if err := s.property(r, kind, n); err != nil {
			return err
		}
	}
}

// property reads what follows the first word of the n-th property or reason.
func (s *scanner) property(r *mail.AuthResult, kind string, n int) error {
	name := ""
	switch {
	case s.peek() == '=' && kind == "reason" && n == 0:
		s.i++
	case s.peek() == '=' && s.tolerant:
		s.i++
	case s.peek() == '.':
		s.i++
		if err := s.skip(); err != nil {
			return err
		}
		if name = strings.ToLower(s.run(isKeywordChar)); !isKeyword(name) {
			return s.fail("no name of a property")
		}
		if err := s.skip(); err != nil {
			return err
		}
		if s.peek() != '=' {
			return s.fail("a property without value")
		}
		s.i++
	default:
		return s.fail("neither a reason nor a property")
	}
	if err := s.skip(); err != nil {
		return err
	}
	read := s.pvalue
	if kind == "reason" && n == 0 && name == "" {
		read = s.value
	}
	v, err := read()
	switch {
	case err != nil:
		return err
	case name != "":
		r.Properties = append(r.Properties, mail.Property{Type: kind, Name: name, Value: v})
	case kind == "reason":
		r.Reason = v
	}
	return nil
}

func (s *scanner) peek() byte {
	if s.i < len(s.s) {
		return s.s[s.i]
	}
	return 0
}

// run takes the bytes for which is holds.
func (s *scanner) run(is func(byte) bool) string {
	start := s.i
	for s.i < len(s.s) && is(s.s[s.i]) {
		s.i++
	}
	return s.s[start:s.i]
}

func isKeywordChar(c byte) bool { return isLetDig(c) || c == '-' }

// skip skips white space, folds and comments (RFC 5322 section 3.2.2: CFWS).
func (s *scanner) skip() error {
	for s.i < len(s.s) {
		switch s.s[s.i] {
		case ' ', '\t':
			s.i++
		case '\r', '\n':
			if err := s.fold(); err != nil {
				return err
			}
		case '(':
			if err := s.comment(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// fold reads CRLF with white space after it; no other line break is one.
func (s *scanner) fold() error {
	rest := s.s[s.i:]
	if !strings.HasPrefix(rest, "\r\n") || len(rest) < 3 || rest[2] != ' ' && rest[2] != '\t' {
		return s.fail("a line break that is no fold")
	}
	s.i += 3
	return nil
}

// comment reads a comment, which may nest.
func (s *scanner) comment() error {
	start := s.i
	for depth := 0; s.i < len(s.s); {
		switch c := s.s[s.i]; c {
		case '(':
			depth++
			s.i++
		case ')':
			depth--
			s.i++
			if depth == 0 {
				return nil
			}
		case '\r', '\n':
			if err := s.fold(); err != nil {
				return err
			}
		case '\\':
			s.i++
			if err := s.char(); err != nil {
				return err
			}
		default:
			if err := s.char(); err != nil {
				return err
			}
		}
	}
	s.i = start
	return s.fail("a comment without end")
}

// char takes one character of a comment or quoted string: no control character,
// and valid UTF-8 (RFC 6532).
func (s *scanner) char() error {
	if s.i >= len(s.s) {
		return s.fail("it ends too soon")
	}
	if c := s.s[s.i]; c < ' ' && c != '\t' || c == 0x7f {
		return s.fail("a control character")
	}
	r, n := utf8.DecodeRuneInString(s.s[s.i:])
	if r == utf8.RuneError && n == 1 {
		return s.fail("text that is not UTF-8")
	}
	s.i += n
	return nil
}

// quoted reads a quoted string and returns what it says.
func (s *scanner) quoted() (string, error) {
	var b strings.Builder
	start := s.i
	for s.i++; s.i < len(s.s); {
		switch s.s[s.i] {
		case '"':
			s.i++
			return b.String(), nil
		case '\r', '\n':
			if err := s.fold(); err != nil {
				return "", err
			}
			b.WriteByte(s.s[s.i-1])
			continue
		case '\\':
			s.i++
		}
		from := s.i
		if err := s.char(); err != nil {
			return "", err
		}
		b.WriteString(s.s[from:s.i])
	}
	s.i = start
	return "", s.fail("a quoted string without end")
}

// value reads a token or a quoted string.
func (s *scanner) value() (string, error) {
	if s.peek() == '"' {
		return s.quoted()
	}
	v := s.run(isTokenChar)
	if v == "" {
		return "", s.fail("no value")
	}
	return v, nil
}

// pvalue reads the value of a property: a token, a quoted string, a domain or an
// address.
func (s *scanner) pvalue() (string, error) {
	start := s.i
	local := ""
	if s.peek() == '"' {
		text, err := s.quoted()
		if err != nil || s.peek() != '@' {
			return text, err
		}
		local = s.s[start:s.i]
		s.i++
		domain := s.run(isAtomChar)
		if !isDomain(domain) {
			return "", s.fail("an address without domain")
		}
		return local + "@" + domain, nil
	}
	v := s.run(isAtomChar)
	local, domain, address := strings.Cut(v, "@")
	switch {
	case isToken(v), address && (local == "" || isDotAtom(local)) && isDomain(domain), v != "" && s.tolerant:
		return v, nil
	}
	s.i = start
	return "", s.fail("a value that is neither token, address nor quoted")
}

// isAtomChar reports whether c can stand in a value without quotes, be it one of
// an address or one that ought to have them.
func isAtomChar(c byte) bool {
	return c >= 0x80 || c > ' ' && c <= '~' && strings.IndexByte(`();"\`, c) < 0
}

// isDotAtom reports whether s is a local-part without quotes (RFC 5322 section
// 3.2.3, RFC 6532 section 3.2).
func isDotAtom(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x80 && !isLetDig(s[i]) && strings.IndexByte(".!#$%&'*+-/=?^_`{|}~", s[i]) < 0 {
			return false
		}
	}
	return isDotted(s) && utf8.ValidString(s)
}
