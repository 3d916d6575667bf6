package mail

import (
	"bytes"
	"strings"
	"unicode/utf8"

	xencoding "golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// decodeCharset converts text to UTF-8 as mail clients do, and reports whether
// the charset is known. Text without a charset, or with one that is not known,
// is UTF-8 if it can be, else Windows-1252.
func decodeCharset(b []byte, charset string) (string, bool) {
	charset = strings.ToLower(strings.Trim(strings.TrimSpace(charset), `"'`))
	switch charset {
	case "", "us-ascii", "ascii", "utf-8", "utf8", "unknown-8bit", "x-unknown", "default":
		return guessText(b), true
	case "utf-7", "utf7", "unicode-1-1-utf-7", "x-unicode-1-1-utf-7", "csunicode11utf7":
		return decodeUTF7(b), true
	}
	e := lookupCharset(charset)
	if e == nil {
		return guessText(b), false
	}
	if strings.HasPrefix(charset, "utf-16") && looksLittleEndian(b) {
		e = unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)
	}
	out, err := e.NewDecoder().Bytes(b)
	if err != nil {
		return guessText(b), true
	}
	return string(out), true
}

// lookupCharset returns the encoding of a charset, nil if it is not known.
func lookupCharset(charset string) xencoding.Encoding {
	switch charset {
	case "utf-16", "utf16", "ucs-2", "iso-10646-ucs-2":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM) // RFC 2781 section 4.3
	case "utf-16le", "utf16le":
		return unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)
	case "utf-16be", "utf16be":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	case "utf-32", "utf32", "utf-32be":
		return utf32.UTF32(utf32.BigEndian, utf32.UseBOM)
	case "utf-32le":
		return utf32.UTF32(utf32.LittleEndian, utf32.UseBOM)
	}
	if e, err := htmlindex.Get(charset); err == nil {
		if name, err := htmlindex.Name(e); err != nil || name != "replacement" {
			return e
		}
		return nil
	}
	for _, alias := range []string{charset, strings.Replace(charset, "windows", "windows-", 1), strings.Replace(charset, "cp", "windows-", 1), strings.ReplaceAll(charset, "_", "-")} {
		if e, err := htmlindex.Get(alias); err == nil {
			return e
		}
		if e, err := ianaindex.MIME.Encoding(alias); err == nil && e != nil {
			return e
		}
		if e, err := ianaindex.IANA.Encoding(alias); err == nil && e != nil {
			return e
		}
	}
	return nil
}

// looksLittleEndian reports whether UTF-16 text without a byte order mark has
// the zero bytes of its ASCII letters where little-endian text has them.
func looksLittleEndian(b []byte) bool {
	b = b[:min(len(b), 512)]
	even, odd := 0, 0
	for i, c := range b {
		if c == 0 {
			even += 1 - i&1
			odd += i & 1
		}
	}
	return odd > even
}

// guessText reads bytes as UTF-8 if they are, else as Windows-1252. A byte
// order mark decides.
func guessText(b []byte) string {
	switch {
	case bytes.HasPrefix(b, []byte{0xEF, 0xBB, 0xBF}):
		b = b[3:]
	case bytes.HasPrefix(b, []byte{0xFF, 0xFE}), bytes.HasPrefix(b, []byte{0xFE, 0xFF}):
		if out, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder().Bytes(b); err == nil {
			return string(out)
		}
	}
	if utf8.Valid(b) {
		return string(b)
	}
	if mostlyUTF8(b) {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	out, err := charmap.Windows1252.NewDecoder().Bytes(b)
	if err != nil {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return string(out)
}

// mostlyUTF8 reports whether broken text was meant to be UTF-8: one bad byte
// must not turn the rest into something else.
func mostlyUTF8(b []byte) bool {
	good, bad := 0, 0
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			bad++
		case n > 1:
			good++
		}
		b = b[n:]
	}
	return good > bad
}

// decodeUTF7 decodes UTF-7 (RFC 2152), which hides markup from those who do
// not know it. What is no valid sequence stays as it is.
func decodeUTF7(b []byte) string {
	var out strings.Builder
	out.Grow(len(b))
	for i := 0; i < len(b); {
		if b[i] != '+' {
			if b[i] < 0x80 {
				out.WriteByte(b[i])
			} else {
				out.WriteRune(rune(b[i]))
			}
			i++
			continue
		}
		i++
		if i < len(b) && b[i] == '-' {
			out.WriteByte('+')
			i++
			continue
		}
		n := i
		for n < len(b) && b64Value[b[n]] < 64 {
			n++
		}
		if n == i {
			out.WriteByte('+')
			continue
		}
		writeUTF16(&out, b[i:n])
		i = n
		if i < len(b) && b[i] == '-' {
			i++
		}
	}
	return out.String()
}

// writeUTF16 writes the UTF-16 text that base64 holds.
func writeUTF16(out *strings.Builder, b64 []byte) {
	var acc uint32
	bits := 0
	var high rune
	for _, c := range b64 {
		acc = acc<<6 | uint32(b64Value[c])
		if bits += 6; bits < 16 {
			continue
		}
		bits -= 16
		u := rune(acc >> bits & 0xFFFF)
		acc &= 1<<bits - 1
		switch {
		case u >= 0xD800 && u < 0xDC00:
			high = u
		case u >= 0xDC00 && u < 0xE000:
			if high != 0 {
				out.WriteRune((high-0xD800)<<10 | (u - 0xDC00) + 0x10000)
			}
			high = 0
		default:
			out.WriteRune(u)
			high = 0
		}
	}
}
