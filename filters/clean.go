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
