package filters

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes text from outside fit to stand in evidence: valid UTF-8, on one
// line, without control and formatting characters (U+202E and its like would
// turn the reader's line around), at most max bytes.
func Clean(text string, max int) string {
	if len(text) <= max && isPlain(text) {
		return text
	}
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(text, "\uFFFD") {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co) {
			r = '\uFFFD'
		}
		if b.Len()+utf8.RuneLen(r) > max {
			b.WriteString("...")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// isPlain reports whether text is printable ASCII.
func isPlain(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
