// Package authres writes and reads Authentication-Results fields (RFC 8601).
//
// Format makes the body of a field out of results, whatever is in them: what a
// client, a message or a DNS record put there cannot end the field, begin
// another result or open a comment. Parse reads a body as strictly as the RFC
// has it; Read takes in what large providers write too. Both know comments and
// quoted strings as what they are, so that a result inside of one is none.
//
// Forged tells the fields that pretend to be ours. It errs on the side of
// removal: a field that another reader might take for ours is one of them.
//
// The package decides nothing: whether the results of some authserv-id are
// believed is for its callers.
//
// # Diagnostics
//
// Errors of Parse wrap ErrSyntax or ErrVersion and name the byte of the body
// where reading stopped:
//
//	not an Authentication-Results field: byte 23: no result after the method
package authres

import (
	"strings"

	"postern/mail"
)

// fieldName is the name of the field.
const fieldName = "Authentication-Results"

// Bounds of what Format writes.
const (
	maxLine  = 78  // RFC 5322 section 2.1.1
	maxValue = 300 // longer values are cut
)

// Field returns a whole Authentication-Results field with the results: name,
// body and the CRLF that ends it.
func Field(id string, results []mail.AuthResult) string {
	return fieldName + ": " + Format(id, results) + "\r\n"
}

// Format returns the body of a field with the results: folded, without the CRLF
// that ends it. A result whose method or value is not a keyword is left out, as
// are such properties; other text is cleaned, quoted where it has to be, and cut
// where it is very long. No results are written as "none".
func Format(id string, results []mail.AuthResult) string {
	w := &writer{column: len("ARC-"+fieldName) + len(": i=50; ")}
	w.word(token(id))
	wrote := false
	for i := range results {
		if r := &results[i]; isKeyword(r.Method) && isKeyword(r.Value) {
			w.result(r)
			wrote = true
		}
	}
	if !wrote {
		w.b.WriteString("; none") // RFC 8601 section 2.2: no-result
	}
	return w.b.String()
}

// A writer folds what it writes.
type writer struct {
	b      strings.Builder
	column int
}

// result writes one result on a line of its own.
func (w *writer) result(r *mail.AuthResult) {
	w.b.WriteString(";\r\n\t")
	w.column = 8
	w.word(strings.ToLower(r.Method) + "=" + strings.ToLower(r.Value))
	if text := clean(r.Reason); text != "" {
		w.space("reason=" + quote(text))
	}
	for _, p := range r.Properties {
		if isKeyword(p.Type) && isKeyword(p.Name) {
			w.space(strings.ToLower(p.Type) + "." + strings.ToLower(p.Name) + "=" + value(p.Value))
		}
	}
}

// space writes white space and a word. The word may have spaces: it is quoted
// there, and may be folded before each of them.
func (w *writer) space(word string) {
	first, _, _ := strings.Cut(word, " ")
	if w.column+1+len(first) > maxLine {
		w.b.WriteString("\r\n\t")
		w.column = 8
	} else {
		w.b.WriteByte(' ')
		w.column++
	}
	w.word(word)
}

func (w *writer) word(word string) {
	for i, piece := range strings.Split(word, " ") {
		if i > 0 {
			// RFC 5322 section 3.2.4: a line break before white space is no part
			// of the quoted string, the white space is.
			if w.column+1+len(piece) > maxLine {
				w.b.WriteString("\r\n")
				w.column = 0
			}
			w.b.WriteByte(' ')
			w.column++
		}
		w.b.WriteString(piece)
		w.column += len(piece)
	}
}

// token writes a token, or a quoted string.
func token(s string) string {
	if s = clean(s); isToken(s) {
		return s
	}
	return quote(s)
}

// value writes a value of a property: as it is where it is a token, a domain or
// an address, else as a quoted string.
func value(s string) string {
	s = clean(s)
	if isToken(s) || isAddress(s) {
		return s
	}
	return quote(s)
}

// clean returns text on one line, in printable ASCII, with single spaces, cut
// to maxValue.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == ' ' || r == '\t' || r == '\r' || r == '\n':
			if b.Len() > 0 && !strings.HasSuffix(b.String(), " ") {
				b.WriteByte(' ')
			}
		case r < ' ' || r > '~':
			b.WriteByte('?')
		default:
			b.WriteByte(byte(r))
		}
		if b.Len() >= maxValue {
			break
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// quote writes a quoted string (RFC 5322 section 3.2.4).
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

// isKeyword reports whether s is a Keyword (RFC 5321 section 4.1.2).
func isKeyword(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isLetDig(s[i]) && s[i] != '-' {
			return false
		}
	}
	return s != "" && s[len(s)-1] != '-'
}

func isLetDig(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// isToken reports whether s is a token (RFC 2045 section 5.1).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenChar(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenChar(c byte) bool {
	return c > ' ' && c <= '~' && strings.IndexByte(`()<>@,;:\"/[]?=`, c) < 0
}

// isAddress reports whether s is an address, or a domain with an "@" before it,
// that needs no quotes (RFC 8601 section 2.2: pvalue). Local-parts with odd
// characters are quoted, though they need not be.
func isAddress(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && (local == "" || isToken(local) && isDotted(local)) && isDomain(domain)
}

// isDotted reports whether s has no empty part between its dots.
func isDotted(s string) bool {
	return s != "" && s[0] != '.' && s[len(s)-1] != '.' && !strings.Contains(s, "..")
}

// isDomain reports whether s is a domain name: letters, digits, hyphens and
// underscores in labels.
func isDomain(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isLetDig(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.' {
			return false
		}
	}
	return isDotted(s)
}
