package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Glob is a pattern in which * stands for any run of characters and ? for
// one. Case does not count. There are no classes and no escapes.
type Glob struct {
	text  string // as written
	lower string
	plain bool // no * and no ?
}

// UnmarshalText reads a pattern.
func (g *Glob) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "" {
		return fmt.Errorf("an empty pattern matches nothing")
	}
	*g = newGlob(s)
	return nil
}

func newGlob(s string) Glob {
	return Glob{text: s, lower: strings.ToLower(s), plain: !strings.ContainsAny(s, "*?")}
}

// String returns the pattern as written.
func (g Glob) String() string { return g.text }

// Match reports whether all of s matches.
func (g Glob) Match(s string) bool {
	s = strings.ToLower(s)
	if g.plain {
		return s == g.lower
	}
	return globMatch(g.lower, s)
}

// globMatch needs time in proportion to the product of the lengths at worst:
// it remembers only the last *.
func globMatch(p, s string) bool {
	i, j, star, mark := 0, 0, -1, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && p[i] == '?':
			i, j = i+1, j+runeLen(s[j:])
		case i < len(p) && p[i] == s[j]:
			i, j = i+1, j+1
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// runeLen returns the length of the first character of s.
func runeLen(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}
