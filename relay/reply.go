package relay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// Bounds of one reply. RFC 5321 section 4.5.3.1.5 allows 512 octets a line;
// servers in the field write longer ones.
const (
	maxReplyLine  = 4000
	maxReplyLines = 128
	maxReplyText  = 2000 // octets kept of the text
)

// errGarbage is what replies that no SMTP server may give wrap.
var errGarbage = errors.New("reply is not SMTP")

// A replyReader reads replies off a connection (RFC 5321 section 4.2).
type replyReader struct{ *bufio.Reader }

func newReplyReader(r io.Reader) replyReader {
	return replyReader{bufio.NewReaderSize(r, maxReplyLine)}
}

// ahead reports whether a reply of one line is here already.
func (r replyReader) ahead() bool {
	b, _ := r.Peek(r.Buffered())
	i := bytes.IndexByte(b, '\n')
	return i > 3 && b[3] != '-'
}

// read reads one reply. each, if not nil, gets the text of every line. The
// error wraps errGarbage if what came is not a reply; then the connection must
// not be used any more.
func (r replyReader) read(each func(line string)) (mail.Reply, error) {
	var reply mail.Reply
	var text strings.Builder
	for n := 1; ; n++ {
		line, err := r.line()
		if err != nil {
			return mail.Reply{}, err
		}
		code, rest, last, err := splitLine(line)
		switch {
		case err != nil:
			return mail.Reply{}, err
		case n == 1:
			reply.Code = code
		case code != reply.Code:
			return mail.Reply{}, fmt.Errorf("%w: lines of one reply with codes %d and %d", errGarbage, reply.Code, code)
		case n > maxReplyLines:
			return mail.Reply{}, fmt.Errorf("%w: more than %d lines", errGarbage, maxReplyLines)
		}
		enhanced, rest := splitEnhanced(code, rest)
		if n == 1 {
			reply.Enhanced = enhanced
		}
		if each == nil && n == 1 && last {
			reply.Text = clean(rest)
			return reply, nil
		}
		line2 := clean(rest)
		if each != nil {
			each(line2)
		}
		if text.Len() < maxReplyText {
			if n > 1 {
				text.WriteByte('\n')
			}
			text.WriteString(line2)
		}
		if last {
			reply.Text = text.String()
			return reply, nil
		}
	}
}

// line reads one line without its line end. It is valid until the next read.
func (r replyReader) line() ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: line longer than %d octets", errGarbage, maxReplyLine)
	}
	if err != nil {
		return nil, fmt.Errorf("read reply: %w", err)
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, nil
}

// splitLine takes a reply line apart. RFC 5321 section 4.2: three digits, the
// first 2 to 5; then a space, a hyphen if more lines follow, or nothing.
func splitLine(line []byte) (code int, rest []byte, last bool, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !digit(line[1]) || !digit(line[2]) {
		return 0, nil, false, fmt.Errorf("%w: %q", errGarbage, shorten(line))
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, nil, true, nil
	}
	switch line[3] {
	case ' ':
		return code, line[4:], true, nil
	case '-':
		return code, line[4:], false, nil
	}
	return 0, nil, false, fmt.Errorf("%w: %q", errGarbage, shorten(line))
}

// shorten returns the beginning of a line for an error.
func shorten(line []byte) []byte { return line[:min(len(line), 80)] }

func digit(c byte) bool { return '0' <= c && c <= '9' }

// splitEnhanced splits the enhanced status code off the text (RFC 2034 section
// 4: it has the class of the reply code). If there is none, it is zero.
func splitEnhanced(code int, text []byte) (smtp.EnhancedCode, []byte) {
	var e smtp.EnhancedCode
	rest := text
	for i := range e {
		n, digits := 0, 0
		for len(rest) > 0 && digit(rest[0]) && digits < 3 {
			n = n*10 + int(rest[0]-'0')
			rest, digits = rest[1:], digits+1
		}
		if digits == 0 {
			return smtp.EnhancedCode{}, text
		}
		e[i] = n
		if i < 2 {
			if len(rest) == 0 || rest[0] != '.' {
				return smtp.EnhancedCode{}, text
			}
			rest = rest[1:]
		}
	}
	if e[0] != code/100 || len(rest) > 0 && rest[0] != ' ' {
		return smtp.EnhancedCode{}, text
	}
	if len(rest) > 0 {
		rest = rest[1:]
	}
	return e, rest
}

// clean returns text fit for a log line and for passing on: no control
// characters, valid UTF-8, bounded.
func clean(text []byte) string {
	text = text[:min(len(text), maxReplyText)]
	ok := true
	for _, c := range text {
		if c < 0x20 || c >= 0x7f {
			ok = false
			break
		}
	}
	if ok {
		return string(text)
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || 0x80 <= r && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, string(text))
}
