package mail

import (
	"sort"
	"strings"
)

// joinPieces puts RFC 2231 continuations together in every way that clients do:
// by number, and in the order in which they stand; each with the extended
// pieces decoded and as they are.
func joinPieces(pieces []param) []string {
	if len(pieces) == 0 {
		return nil
	}
	const most = 1000 // more pieces than any name has bytes
	pieces = pieces[:min(len(pieces), most)]
	sorted := append([]param(nil), pieces...)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].piece < sorted[j].piece })
	var out []string
	out = appendNew(out, concat(upToGap(sorted), true))
	out = appendNew(out, concat(sorted, true), concat(pieces, true), concat(firstOfEach(sorted), true), concat(lastOfEach(sorted), true))
	for _, p := range pieces {
		if p.encoded {
			out = appendNew(out, concat(sorted, false))
			break
		}
	}
	return out
}

// upToGap returns the pieces 0, 1, 2... as RFC 2231 section 3 wants them; all
// if there is no piece 0.
func upToGap(sorted []param) []param {
	for i := range sorted {
		if sorted[i].piece != i {
			if i == 0 {
				return sorted
			}
			return sorted[:i]
		}
	}
	return sorted
}

// firstOfEach drops pieces whose number was there before.
func firstOfEach(sorted []param) []param {
	var out []param
	for i, p := range sorted {
		if i == 0 || p.piece != sorted[i-1].piece {
			out = append(out, p)
		}
	}
	return out
}

// lastOfEach drops pieces whose number comes again.
func lastOfEach(sorted []param) []param {
	var out []param
	for i, p := range sorted {
		if i+1 == len(sorted) || p.piece != sorted[i+1].piece {
			out = append(out, p)
		}
	}
	return out
}

// concat joins the pieces; with decode, the extended ones are percent-decoded
// and the charset that the first names is applied.
func concat(pieces []param, decode bool) string {
	var raw strings.Builder
	charset := ""
	for i, p := range pieces {
		v := p.values[0]
		if !decode || !p.encoded {
			raw.WriteString(v)
			continue
		}
		if i == 0 {
			charset, v = splitCharset(v)
		} else if cs, rest := splitCharset(v); cs != "" && charset == "" || strings.HasPrefix(v, "''") {
			charset, v = cs, rest // numbered out of order
		}
		raw.WriteString(percentDecode(v))
	}
	return decodeNamed(raw.String(), charset)
}

// decodeExtended decodes charset'language'text (RFC 2231 section 4).
func decodeExtended(v string) string {
	charset, text := splitCharset(v)
	return decodeNamed(percentDecode(text), charset)
}

// splitCharset splits charset'language'text.
func splitCharset(v string) (charset, text string) {
	a := strings.IndexByte(v, '\'')
	if a < 0 {
		return "", v
	}
	b := strings.IndexByte(v[a+1:], '\'')
	if b < 0 {
		return "", v
	}
	return v[:a], v[a+1+b+1:]
}

// decodeNamed decodes bytes in the named charset; as they are without one.
func decodeNamed(s, charset string) string {
	if charset == "" {
		return s
	}
	text, _ := decodeCharset([]byte(s), charset)
	return text
}

// percentDecode resolves %XX; what is no escape stays.
func percentDecode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if h, l := hexValue(s[i+1]), hexValue(s[i+2]); h >= 0 && l >= 0 {
				b = append(b, byte(h<<4|l))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// hexValue returns the value of a hexadecimal digit, -1 if it is none.
func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
