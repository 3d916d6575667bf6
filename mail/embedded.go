package mail

import (
	"bytes"
	"hash/crc32"
	"strconv"
	"strings"
)

// An embedded file is one that is written into text.
type embedded struct {
	name string
	data []byte
	at   int64 // of its first line in the text
	ok   bool  // complete, with an end
}

// findEmbedded returns the files that are written into text: uuencode and yEnc.
func findEmbedded(text []byte, most int) []embedded {
	var out []embedded
	for at := 0; at < len(text) && len(out) < most; {
		line := firstLine(text[at:])
		var e embedded
		var used int
		switch {
		case len(line) > 8 && string(line[:6]) == "begin ", len(line) > 13 && string(line[:13]) == "begin-base64 ":
			e, used = decodeUU(text[at:])
		case len(line) > 8 && string(line[:8]) == "=ybegin ":
			e, used = decodeYEnc(text[at:])
		}
		if used > 0 {
			e.at = int64(at)
			out = append(out, e)
			at += used
			continue
		}
		n := bytes.IndexByte(text[at:], '\n')
		if n < 0 {
			break
		}
		at += n + 1
	}
	return out
}

// firstLine returns the first line of b without its end.
func firstLine(b []byte) []byte {
	if n := bytes.IndexByte(b, '\n'); n >= 0 {
		b = b[:n]
	}
	return bytes.TrimSuffix(b, []byte("\r"))
}

// cutLine returns the first line without its end, and what follows it.
func cutLine(b []byte) (line, rest []byte) {
	n := bytes.IndexByte(b, '\n')
	if n < 0 {
		return bytes.TrimSuffix(b, []byte("\r")), nil
	}
	return bytes.TrimSuffix(b[:n], []byte("\r")), b[n+1:]
}

// decodeUU decodes a uuencoded file at the beginning of text, and says how much
// of it it takes: 0 if there is none.
func decodeUU(text []byte) (embedded, int) {
	line, rest := cutLine(text)
	words := strings.SplitN(string(line), " ", 3)
	if len(words) < 3 || !isMode(words[1]) {
		return embedded{}, 0
	}
	e := embedded{name: strings.TrimSpace(words[2])}
	if words[0] == "begin-base64" {
		return decodeUUBase64(e, text, rest)
	}
	for len(rest) > 0 {
		line, next := cutLine(rest)
		trimmed := bytes.TrimRight(line, " \t")
		if string(trimmed) == "end" {
			e.ok = true
			return e, len(text) - len(next)
		}
		var good bool
		if e.data, good = uuLine(e.data, line); !good {
			break
		}
		rest = next
	}
	if len(e.data) == 0 {
		return embedded{}, 0 // "begin 644 ..." in plain prose
	}
	return e, len(text) - len(rest)
}

// decodeUUBase64 decodes the POSIX base64 form, which "====" ends.
func decodeUUBase64(e embedded, text, rest []byte) (embedded, int) {
	var d b64Decoder
	for len(rest) > 0 {
		line, next := cutLine(rest)
		rest = next
		if string(line) == "====" {
			e.ok = true
			break
		}
		e.data = d.decode(e.data, line)
	}
	e.data = d.flush(e.data)
	return e, len(text) - len(rest)
}

// isMode reports whether w is a file mode, such as 644.
func isMode(w string) bool {
	if len(w) < 3 || len(w) > 6 {
		return false
	}
	for i := range len(w) {
		if w[i] < '0' || w[i] > '7' {
			return false
		}
	}
	return true
}

// uuLine decodes one line of uuencode. Blanks at its end may have been lost.
func uuLine(dst, line []byte) ([]byte, bool) {
	if len(line) == 0 {
		return dst, true
	}
	if line[0] < ' ' || line[0] > '`' {
		return dst, false
	}
	n := int(line[0]-' ') & 63
	line = line[1:]
	if n > 0 && len(line) < n { // at least: four characters make three bytes
		return dst, false
	}
	at := func(i int) byte {
		if i >= len(line) || line[i] < ' ' || line[i] > '`' {
			return 0
		}
		return (line[i] - ' ') & 63
	}
	for i := 0; n > 0; i, n = i+4, n-3 {
		a, b, c, d := at(i), at(i+1), at(i+2), at(i+3)
		group := [3]byte{a<<2 | b>>4, b<<4 | c>>2, c<<6 | d}
		dst = append(dst, group[:min(n, 3)]...)
	}
	return dst, true
}

// decodeYEnc decodes a yEnc file at the beginning of text (yEnc draft 1.3).
func decodeYEnc(text []byte) (embedded, int) {
	line, rest := cutLine(text)
	var e embedded
	if i := bytes.Index(line, []byte(" name=")); i >= 0 {
		e.name = strings.TrimSpace(string(line[i+len(" name="):]))
	}
	for len(rest) > 0 {
		line, next := cutLine(rest)
		rest = next
		switch {
		case bytes.HasPrefix(line, []byte("=ypart ")):
			continue
		case bytes.HasPrefix(line, []byte("=yend")):
			e.ok = yencMatches(string(line), e.data)
			return e, len(text) - len(rest)
		}
		e.data = yencLine(e.data, line)
	}
	return e, len(text)
}

// yencLine decodes one line.
func yencLine(dst, line []byte) []byte {
	for i := 0; i < len(line); i++ {
		c := line[i]
		if c == '=' && i+1 < len(line) {
			i++
			c = line[i] - 64
		}
		dst = append(dst, c-42)
	}
	return dst
}

// yencMatches compares size and checksum of the end line with the data.
func yencMatches(line string, data []byte) bool {
	for _, w := range strings.Fields(line) {
		key, v, _ := strings.Cut(w, "=")
		switch key {
		case "size":
			if n, err := strconv.Atoi(v); err != nil || n != len(data) {
				return false
			}
		case "pcrc32":
			if n, err := strconv.ParseUint(v, 16, 32); err != nil || uint32(n) != crc32.ChecksumIEEE(data) {
				return false
			}
		}
	}
	return true
}
