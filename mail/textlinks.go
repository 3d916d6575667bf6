package mail

import (
	"strings"
	"unicode/utf8"
)

// TextLinks calls found for every URL that is written in text, as mail clients
// make links of them: with a scheme, or beginning with "www.". It takes one
// pass.
func TextLinks(text string, found func(url string) bool) {
	for i := 0; i < len(text); {
		n := strings.IndexAny(text[i:], ":wW")
		if n < 0 {
			return
		}
		at := i + n
		start := -1
		if text[at] == ':' {
			start = schemeBefore(text, at)
		} else if isWWW(text[at:]) && (at == 0 || !isWordByte(text[at-1])) {
			start = at
		}
		if start < i {
			i = at + 1
			continue
		}
		end := linkEnd(text, max(at, start))
		u := trimLink(text[start:end])
		if strings.Trim(text[at+1:max(start+len(u), at+1)], `/\`) != "" && !found(u) {
			return
		}
		i = max(end, at+1)
	}
}

// linkSchemes are the schemes that clients make links of.
var linkSchemes = []string{"http", "https", "ftp", "hxxp", "hxxps", "mailto", "tel", "file", "smb"}

// schemeBefore returns where the scheme that ends at the colon begins; -1 if
// there is none that counts.
func schemeBefore(text string, colon int) int {
	start := colon
	for start > 0 && colon-start < 12 && isLetter(text[start-1]) {
		start--
	}
	for _, s := range linkSchemes {
		if n := colon - len(s); n >= start && strings.EqualFold(text[n:colon], s) && (n == 0 || !isLetter(text[n-1])) {
			slashes := strings.HasPrefix(text[colon+1:], "//") || strings.HasPrefix(text[colon+1:], `\\`)
			if slashes || s == "mailto" || s == "tel" {
				return n
			}
		}
	}
	return -1
}

// isWWW reports whether s begins with "www." and more.
func isWWW(s string) bool {
	return len(s) > 5 && strings.EqualFold(s[:4], "www.") && isWordByte(s[4])
}

// linkEnd returns where the URL that is at i ends.
func linkEnd(text string, i int) int {
	for i < len(text) {
		c := text[i]
		if c <= ' ' || c == '<' || c == '>' || c == '"' || c == 0x7f || c == '`' {
			return i
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError || r == 0xA0 || r >= 0x2000 && r <= 0x200A || r >= 0x2018 && r <= 0x201F || r == 0x3000 || r == 0xAB || r == 0xBB {
				return i
			}
			i += n
			continue
		}
		i++
	}
	return i
}

// trimLink cuts off the punctuation of the sentence that a URL stands in: a
// closing bracket only if it was not opened in the URL.
func trimLink(u string) string {
	var count [3]int
	for i := range len(u) {
		if k := strings.IndexByte("([{", u[i]); k >= 0 {
			count[k]++
		} else if k := strings.IndexByte(")]}", u[i]); k >= 0 {
			count[k]--
		}
	}
	for u != "" {
		c := u[len(u)-1]
		if k := strings.IndexByte(")]}", c); k >= 0 {
			if count[k] >= 0 {
				return u
			}
			count[k]++
		} else if strings.IndexByte(".,;:!?'*_", c) < 0 {
			return u
		}
		u = u[:len(u)-1]
	}
	return u
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// isWordByte reports whether c belongs to a word.
func isWordByte(c byte) bool { return isLetter(c) || c >= '0' && c <= '9' || c >= utf8.RuneSelf }
