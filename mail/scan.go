package mail

import (
	"bytes"
	"strings"
)

// A scanner reads the structure of a region of a source in one pass: lines are
// found with bytes.IndexByte, and a line that may be a delimiter is compared
// with the boundaries that are open.
type scanner struct {
	m       *Message
	win     window
	notes   *notebook
	pos     int64
	end     int64
	cur     *Part   // the part whose body is at pos
	outer   int64   // where the preamble or epilogue at pos began
	frames  []frame // open multiparts, outermost first
	term    int64   // length of the last line's terminator
	crlf    int64   // CRLF line ends seen
	bareLF  int64   // offset of the first bare LF, -1 if none
	long    int64   // offset of the first long line, -1 if none
	lenient bool    // take for a delimiter and a line end whatever anybody might
	stray   bool    // a lenient reader would see other delimiters
	stopped bool    // a limit ended the scan
	later   *agenda // readings to try afterwards
	lines   int     // since the clock was looked at

	forced     int64 // where the next header ends, whatever it says; -1 if nowhere
	forcedSkip bool  // and the line there is skipped
}

// A frame is a multipart that is being read.
type frame struct {
	part     *Part
	boundary string
	seen     bool // a delimiter of it was met
	closed   bool // its end was met: what follows is the epilogue
}

// maxLine is the longest line that RFC 5322 section 2.1.1 allows, without CRLF.
const maxLine = 998

// lineHead is how much is kept of a line that does not fit in the window.
const lineHead = 8 << 10

// newScanner returns a scanner over [start, end) of a source.
func newScanner(m *Message, s *source, start, end int64, notes *notebook, later *agenda) *scanner {
	return &scanner{m: m, win: newWindow(s, start, end, later != nil && !later.rereading), notes: notes, pos: start, end: min(end, s.size),
		bareLF: -1, long: -1, forced: -1, later: later}
}

// note adds a finding about a part.
func (sc *scanner) note(k FindingKind, p *Part, offset int64, evidence []byte) {
	sc.notes.add(k, p, offset, evidence)
}

// run reads the entity p, which begins at sc.pos, and everything in it.
func (sc *scanner) run(p *Part) {
	sc.enter(p)
	sc.loop()
}

// loop reads bodies until the region ends.
func (sc *scanner) loop() {
	for !sc.stopped {
		d, ok := sc.body()
		if !ok {
			break
		}
		sc.delimiter(d)
		sc.late()
	}
	sc.close(-1, sc.end)
}

// A delim is a delimiter line that was found.
type delim struct {
	frame   int
	closing bool
	at      int64 // where its line begins
	next    int64 // where the next line begins
}

// delimiter ends the parts that end here and begins the next.
func (sc *scanner) delimiter(d delim) {
	end := max(d.at-sc.term, 0)
	sc.close(d.frame, end)
	f := &sc.frames[d.frame]
	f.seen = true
	sc.pos, sc.cur, sc.outer = d.next, f.part, d.next
	if d.closing {
		f.closed = true
		return
	}
	if f.closed {
		sc.note(BoundaryAfterEnd, f.part, d.at, []byte(f.boundary))
		f.closed = false
	}
	if child := sc.child(f.part, d.next); child != nil {
		sc.enter(child)
	}
}

// child makes the next child of a part, which begins at start; nil when a limit
// is hit.
func (sc *scanner) child(p *Part, start int64) *Part {
	m := sc.m
	if m.parts >= m.limits.Parts {
		sc.note(LimitParts, p, start, nil)
		sc.stopped = true
		return nil
	}
	m.parts++
	c := &Part{m: m, src: p.src, parent: p, start: start, depth: p.depth + 1, number: int32(len(p.children) + 1)}
	p.children = append(p.children, c)
	return c
}

// close ends every part inside the frame k, and pops the frames above it. -1
// ends everything.
func (sc *scanner) close(k int, end int64) {
	if sc.cur != nil && sc.cur.container && sc.outer < end && !sc.stopped {
		sc.outside(sc.cur, sc.outer, end)
	}
	var stop *Part
	if k >= 0 {
		stop = sc.frames[k].part
	}
	for q := sc.cur; q != nil && q != stop && q.src == sc.win.s; q = q.parent {
		q.end = max(end, q.body)
	}
	for i := len(sc.frames) - 1; i > k; i-- {
		f := &sc.frames[i]
		switch {
		case !f.seen:
			sc.note(BoundaryNotFound, f.part, f.part.body, []byte(f.boundary))
			f.part.leafToo = true
			sc.later.guess(f.part)
		case !f.closed:
			sc.note(BoundaryUnclosed, f.part, end, []byte(f.boundary))
		}
	}
	sc.frames = sc.frames[:k+1]
	sc.cur = nil
}

// enter reads the header of p and prepares for its body. A message in a
// message is entered at once.
func (sc *scanner) enter(p *Part) {
	for p != nil {
		sc.header(p)
		sc.classify(p)
		sc.cur, sc.outer = p, sc.pos
		p.end = sc.end
		switch {
		case !p.container:
			return
		case int(p.depth) >= sc.m.limits.Depth:
			sc.note(LimitDepth, p, p.start, nil)
			p.container, p.leafToo = false, true
			return
		case p.boundary != nil:
			if f := sc.same(*p.boundary); f != nil {
				sc.note(BoundaryReused, p, p.start, []byte(f.boundary))
			}
			sc.frames = append(sc.frames, frame{part: p, boundary: *p.boundary})
			return
		}
		p = sc.child(p, sc.pos) // message/rfc822
	}
}

// same returns an open multipart with that boundary.
func (sc *scanner) same(boundary string) *frame {
	for i := range sc.frames {
		if sc.frames[i].boundary == boundary {
			return &sc.frames[i]
		}
	}
	return nil
}

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
	if sc.cur != nil && !sc.cur.container && len(head) > 0 && (head[0] == 'b' || head[0] == '=') && beginsFile(head) {
		sc.cur.embedded = true
		sc.m.expand = true
	}
	sc.pos = next
	return delim{}, false
}

// late looks at the clock now and then and stops when time is up.
func (sc *scanner) late() bool {
	if sc.lines++; sc.lines&1023 == 0 && sc.m.now().After(sc.m.deadline) {
		sc.note(LimitTime, nil, sc.pos, nil)
		sc.stopped = true
	}
	return sc.stopped
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
