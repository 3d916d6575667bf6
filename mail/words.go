package mail

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// DecodeHeader decodes the encoded words in unfolded text (RFC 2047), as mail
// clients do: also inside of quotes, with blanks in them, and joined across
// words that split a character.
func DecodeHeader(s string) string {
	if !strings.Contains(s, "=?") {
		return rawText(s)
	}
	var out strings.Builder
	var held []byte // bytes of words in the same charset
	charset := ""
	flush := func() {
		if len(held) > 0 {
			text, _ := decodeCharset(held, charset)
			out.WriteString(text)
			held = held[:0]
		}
	}
	gap := "" // blanks after an encoded word: dropped if another follows
	for s != "" {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		cs, data, n := encodedWord(s[i:])
		if n == 0 {
			flush()
			out.WriteString(gap)
			gap = ""
			out.WriteString(rawText(s[:i+2]))
			s = s[i+2:]
			continue
		}
		if between := s[:i]; strings.TrimSpace(between) != "" || gap == "" && len(held) == 0 && between != "" {
			flush()
			out.WriteString(gap)
			out.WriteString(rawText(between))
		}
		if cs != charset {
			flush()
			charset = cs
		}
		held = append(held, data...)
		s = s[i+n:]
		rest := strings.TrimLeft(s, " \t\r\n")
		gap, s = s[:len(s)-len(rest)], rest
	}
	flush()
	out.WriteString(gap)
	out.WriteString(rawText(s))
	return out.String()
}

// rawText makes valid UTF-8 of what a header holds undeclared.
func rawText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return guessText([]byte(s))
}

// encodedWord reads =?charset?encoding?text?= at the beginning of s and returns
// its charset, its bytes and its length; 0 if there is none.
func encodedWord(s string) (charset string, data []byte, n int) {
	rest := s[2:]
	q := strings.IndexByte(rest, '?')
	if q <= 0 || q > 75 || len(rest) < q+4 || rest[q+2] != '?' {
		return "", nil, 0
	}
	charset, _, _ = strings.Cut(rest[:q], "*") // RFC 2231 section 5: a language may follow
	kind, text := rest[q+1], rest[q+3:]
	end := strings.Index(text, "?=")
	if end < 0 {
		return "", nil, 0
	}
	n = 2 + q + 3 + end + 2
	text = text[:end]
	switch kind {
	case 'b', 'B':
		d := b64Decoder{}
		data = d.flush(d.decode(nil, []byte(text)))
	case 'q', 'Q':
		data = decodeQ(text)
	default:
		return "", nil, 0
	}
	return strings.ToLower(charset), data, n
}

// decodeQ decodes the Q encoding (RFC 2047 section 4.2).
func decodeQ(s string) []byte {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '_':
			b = append(b, ' ')
		case s[i] == '=' && i+2 < len(s) && hexValue(s[i+1]) >= 0 && hexValue(s[i+2]) >= 0:
			b = append(b, byte(hexValue(s[i+1])<<4|hexValue(s[i+2])))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return b
}

// maxWord is how long an encoded word may be (RFC 2047 section 2).
const maxWord = 75

// EncodeHeader writes text for a header field: as it is if it is ASCII, else as
// encoded words in UTF-8, separated by blanks. Control characters become
// blanks.
func EncodeHeader(text string) string {
	text = oneLine(text)
	if isASCII(text) && !strings.Contains(text, "=?") {
		return text
	}
	var out strings.Builder
	const most = (maxWord - len("=?utf-8?b??=")) / 4 * 3
	for text != "" {
		n := 0
		for n < len(text) {
			_, w := utf8.DecodeRuneInString(text[n:])
			if n+w > most {
				break
			}
			n += w
		}
		if out.Len() > 0 {
			out.WriteByte(' ')
		}
		out.WriteString("=?utf-8?b?" + base64.StdEncoding.EncodeToString([]byte(text[:n])) + "?=")
		text = text[n:]
	}
	return out.String()
}

// oneLine replaces control characters, so that a value can end no field, and
// makes the text valid UTF-8.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// isASCII reports whether s has no byte above 127.
func isASCII[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// FoldField writes a whole header field with its CRLF. CR, LF and other control
// characters in the value become blanks, so that text from outside cannot end
// the field; what is not ASCII is encoded (RFC 2047); lines are folded at blanks
// where they pass 78 bytes (RFC 5322 section 2.1.1), and nowhere else.
func FoldField(name, value string) string {
	value = strings.TrimSpace(oneLine(value))
	if !isASCII(value) {
		value = encodeWords(value)
	}
	var out strings.Builder
	out.Grow(len(name) + len(value) + 16)
	out.WriteString(name)
	out.WriteByte(':')
	column := len(name) + 1
	for value != "" {
		i := strings.IndexByte(value[1:], ' ') + 1 // a blank belongs to the word after it
		if i == 0 {
			i = len(value)
		}
		word := value[:i]
		value = value[i:]
		if word[0] != ' ' {
			word = " " + word
		}
		if column+len(word) > 78 && column > len(name)+1 && strings.TrimSpace(word) != "" {
			out.WriteString("\r\n")
			column = 0
		}
		out.WriteString(word)
		column += len(word)
	}
	out.WriteString("\r\n")
	return out.String()
}

// encodeWords encodes the words that are not ASCII, with all that stands
// between them, and leaves addresses and the rest alone.
func encodeWords(s string) string {
	words := strings.Split(s, " ")
	first, last := -1, -1
	var out []string
	flush := func(until int) {
		if first >= 0 {
			out = append(out, EncodeHeader(strings.Join(words[first:last+1], " ")))
			out = append(out, words[last+1:until]...)
		}
		first = -1
	}
	for i, w := range words {
		switch {
		case !isASCII(w):
			if first < 0 {
				first = i
			}
			last = i
		case first < 0:
			out = append(out, w)
		case strings.ContainsAny(w, `<>@,;:"()`):
			flush(i)
			out = append(out, w)
		}
	}
	flush(len(words))
	return strings.Join(out, " ")
}
