package mail

import (
	"bytes"
	"strings"
)

// line returns the line at pos without its terminator, and where the next one
// begins. Of a line that does not fit in the window it returns the head.
func (sc *scanner) line() (head []byte, next int64) {
	data := sc.win.from(sc.pos)
	n := bytes.IndexByte(data, '\n')
	if sc.lenient {
		if cr := bytes.IndexByte(data, '\r'); cr >= 0 && (n < 0 || cr < n-1) {
			sc.term = 1
			return data[:cr], sc.pos + int64(cr) + 1
		}
	}
	if n >= 0 {
		next = sc.pos + int64(n) + 1
		if n > maxLine+1 && sc.long < 0 {
			sc.long = sc.pos
		}
		if n > 0 && data[n-1] == '\r' {
			sc.crlf++
			sc.term = 2
			return data[:n-1], next
		}
		sc.term = 1
		if sc.bareLF < 0 {
			sc.bareLF = next - 1
		}
		return data[:n], next
	}
	next = sc.pos + int64(len(data))
	if len(data) > maxLine && sc.long < 0 {
		sc.long = sc.pos
	}
	if next >= sc.end || len(data) == 0 {
		sc.term = 0
		return data, max(next, sc.pos)
	}
	head = bytes.Clone(data[:min(len(data), lineHead)])
	return head, sc.skipLine(next)
}

// skipLine returns where the next line begins after one that goes on at pos.
func (sc *scanner) skipLine(pos int64) int64 {
	last := byte(0)
	for {
		data := sc.win.from(pos)
		if len(data) == 0 {
			sc.term = 0
			return pos
		}
		n := bytes.IndexByte(data, '\n')
		if n < 0 {
			last = data[len(data)-1]
			pos += int64(len(data))
			continue
		}
		if n > 0 {
			last = data[n-1]
		}
		sc.term = 1
		if last == '\r' {
			sc.crlf++
			sc.term = 2
		} else if sc.bareLF < 0 {
			sc.bareLF = pos + int64(n)
		}
		return pos + int64(n) + 1
	}
}

// body moves over lines to the next delimiter.
func (sc *scanner) body() (delim, bool) {
	if sc.lenient || sc.cur != nil && sc.cur.container {
		return sc.bodySlow()
	}
	for {
		data := sc.win.from(sc.pos)
		if len(data) == 0 {
			return delim{}, false
		}
		i, found := sc.fast(data)
		if sc.look != nil {
			sc.look.look(data[:i])
		}
		at := sc.pos + int64(i)
		if !found && i == 0 { // a line longer than the window, or the last one
			d, ok := sc.oneLine()
			if ok {
				return d, true
			}
			continue
		}
		sc.pos = at
		if found {
			d, ok := sc.oneLine()
			if ok {
				return d, true
			}
		}
		if sc.late() {
			return delim{}, false
		}
	}
}

// fast moves over whole lines of data that cannot be a delimiter. It returns
// how far it came, and whether it stopped at a line to be looked at.
func (sc *scanner) fast(data []byte) (int, bool) {
	i, bare, long, term := 0, -1, -1, sc.term
	crlf := int64(0)
	delims := len(sc.frames) > 0
	found := false
loop:
	for i < len(data) {
		switch data[i] {
		case '-', ' ', '\t':
			if delims && mayDelimit(data[i:]) {
				found = true
				break loop
			}
		case 'b', '=':
			if beginsFile(data[i:]) {
				sc.cur.embedded = true
				sc.m.expand = true
			}
		}
		n := bytes.IndexByte(data[i:], '\n')
		if n < 0 {
			break
		}
		if n > 0 && data[i+n-1] == '\r' {
			crlf++
			term = 2
		} else {
			if bare < 0 {
				bare = i + n
			}
			term = 1
		}
		if n > maxLine+1 && long < 0 {
			long = i
		}
		i += n + 1
	}
	sc.crlf += crlf
	sc.term = term
	if bare >= 0 && sc.bareLF < 0 {
		sc.bareLF = sc.pos + int64(bare)
	}
	if long >= 0 && sc.long < 0 {
		sc.long = sc.pos + int64(long)
	}
	return i, found
}

// mayDelimit reports whether a line can be a delimiter to somebody.
func mayDelimit(b []byte) bool {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return len(b) > 1 && b[0] == '-' && b[1] == '-'
}

// beginsFile reports whether a line begins a uuencoded or yEnc file.
func beginsFile(b []byte) bool {
	return len(b) > 8 && (string(b[:6]) == "begin " || string(b[:8]) == "=ybegin " || string(b[:6]) == "begin-")
}

// bodySlow is body for preambles, epilogues and lenient reading.
func (sc *scanner) bodySlow() (delim, bool) {
	for sc.pos < sc.win.end {
		if d, ok := sc.oneLine(); ok {
			return d, true
		}
		if sc.late() {
			return delim{}, false
		}
	}
	return delim{}, false
}

// oneLine moves over the line at pos unless it is a delimiter.
func (sc *scanner) oneLine() (delim, bool) {
	term := sc.term
	head, next := sc.line()
	if next <= sc.pos {
		next = sc.win.end // nothing left: a read error
	}
	if d, ok := sc.match(head); ok {
		d.at, d.next = sc.pos, next
		sc.term = term
		return d, true
	}
	if sc.look != nil {
		sc.look.look(head)
		if next-sc.pos > int64(len(head))+2 { // only the head of a long line is here
			sc.look = nil
		}
	}
	if sc.cur != nil && !sc.cur.container && len(head) > 0 && (head[0] == 'b' || head[0] == '=') && beginsFile(head) {
		sc.cur.embedded = true
		sc.m.expand = true
	}
	sc.pos = next
	return delim{}, false
}

// match compares a line with the boundaries that are open: innermost first,
// and one that has ended only if no other fits.
func (sc *scanner) match(line []byte) (delim, bool) {
	if len(sc.frames) == 0 || !mayDelimit(line) {
		return delim{}, false
	}
	padded := line[0] != '-'
	// RFC 2046 section 5.1.1: white space after a delimiter is padding.
	text := trimSpace(line)[2:]
	best, closed := -1, false
	prefix := -1
	for i := len(sc.frames) - 1; i >= 0; i-- {
		f := &sc.frames[i]
		b := f.boundary
		if len(text) < len(b) || string(text[:len(b)]) != b {
			continue
		}
		rest := text[len(b):]
		if len(rest) != 0 && string(rest) != "--" {
			if prefix < 0 && b != "" {
				prefix = i
			}
			continue
		}
		if best < 0 || sc.frames[best].closed && !f.closed {
			best, closed = i, len(rest) != 0
		}
		if !f.closed {
			break
		}
	}
	if best >= 0 {
		if !padded || sc.lenient {
			return delim{frame: best, closing: closed}, true
		}
		sc.note(BoundaryPadded, sc.frames[best].part, sc.pos, line)
		sc.stray = true
		return delim{}, false
	}
	if prefix >= 0 {
		f := &sc.frames[prefix]
		if sc.lenient {
			return delim{frame: prefix, closing: strings.HasPrefix(string(text[len(f.boundary):]), "--")}, true
		}
		sc.note(BoundaryPrefix, f.part, sc.pos, line)
		sc.stray = true
	}
	return delim{}, false
}
