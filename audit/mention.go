package audit

import "strings"

// Erase returns text with word wherever address stands in it, whatever the case
// and not as a part of a longer address, and whether it stands there at all.
func Erase(text, address, word string) (string, bool) {
	low, want := foldPair(text, address)
	var b strings.Builder
	found := false
	for {
		i := find(low, want)
		if i < 0 {
			break
		}
		found = true
		b.WriteString(text[:i])
		b.WriteString(word)
		text, low = text[i+len(want):], low[i+len(want):]
	}
	if !found {
		return text, false
	}
	b.WriteString(text)
	return b.String(), true
}

// mentions reports whether address stands in text.
func mentions(text, address string) bool {
	low, want := foldPair(text, address)
	return find(low, want) >= 0
}

// foldPair returns both in lower case, byte for byte as long as they were: where
// Unicode's lower case is longer or shorter only ASCII is folded.
func foldPair(text, address string) (string, string) {
	low, want := strings.ToLower(text), strings.ToLower(address)
	if len(low) == len(text) && len(want) == len(address) {
		return low, want
	}
	return foldASCII(text), foldASCII(address)
}

func foldASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// find returns where address begins in text, both folded; -1 if it does not
// stand there by itself.
func find(text, address string) int {
	if address == "" {
		return -1
	}
	for at := 0; ; {
		i := strings.Index(text[at:], address)
		if i < 0 {
			return -1
		}
		i += at
		end := i + len(address)
		if (i == 0 || !addressByte(text[i-1])) && ends(text[end:]) {
			return i
		}
		at = i + 1
	}
}

// ends reports whether an address before rest does not go on in it.
func ends(rest string) bool {
	if rest == "" || !addressByte(rest[0]) {
		return true
	}
	return rest[0] == '.' && (len(rest) == 1 || !addressByte(rest[1]) || rest[1] == '.') // the end of a sentence
}

// addressByte reports whether c can be part of an address.
func addressByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 0x80 || strings.IndexByte(".-_+=@!#$%&*/?^`{|}~", c) >= 0
}
