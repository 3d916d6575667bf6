package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// What a stranger wrote must not steer the terminal of who reads it, so nothing
// of it goes there as it is: fields pass through printable, errors through
// printableLines, JSON through plainJSON, whole messages through toScreen.

// steers reports whether a character is not text: control and formatting
// characters, escape sequences among them.
func steers(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }

// printable makes text from a message fit for a terminal: what steers it becomes
// question marks.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if steers(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
}

// printableLines does the same for text of several lines.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		words := strings.Split(line, "\t")
		for k, w := range words {
			words[k] = printable(w)
		}
		lines[i] = strings.Join(words, "\t")
	}
	return strings.Join(lines, "\n")
}

// plainJSON escapes what steers a terminal and encoding/json leaves as it is. The
// value is the same (RFC 8259 section 7).
func plainJSON(text []byte) []byte {
	strange := func(r rune) bool { return r >= 0x7f && steers(r) }
	if bytes.IndexFunc(text, strange) < 0 {
		return text
	}
	const hex = "0123456789abcdef"
	out := make([]byte, 0, len(text)+16)
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if strange(r) {
			for _, u := range utf16.AppendRune(nil, r) {
				out = append(out, '\\', 'u', hex[u>>12], hex[u>>8&15], hex[u>>4&15], hex[u&15])
			}
		} else {
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}

// isScreen reports whether what is written to w may be a terminal.
func isScreen(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// toScreen copies a message to a terminal, as printable has it line by line.
func toScreen(w io.Writer, r io.Reader) error {
	in, out := bufio.NewReader(r), bufio.NewWriter(w)
	for {
		c, _, err := in.ReadRune()
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		text := string(c)
		switch next, _ := in.Peek(1); {
		case c == '\r' && string(next) == "\n":
			continue
		case c != '\n' && c != '\t':
			text = printable(text)
		}
		if _, err := out.WriteString(text); err != nil {
			return err
		}
	}
}
