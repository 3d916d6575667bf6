package mail

// A scanner reads the structure of a region of a source in one pass: lines are
// found with bytes.IndexByte, and a line that may be a delimiter is compared
// with the boundaries that are open.
type scanner struct {
	m       *Message
	win     window
	notes   *notebook
	pos     int64
	end     int64
	cur     *Part       // the part whose body is at pos
	outer   int64       // where the preamble or epilogue at pos began
	frames  []frame     // open multiparts, outermost first
	term    int64       // length of the last line's terminator
	crlf    int64       // CRLF line ends seen
	bareLF  int64       // offset of the first bare LF, -1 if none
	long    int64       // offset of the first long line, -1 if none
	lenient bool        // take for a delimiter and a line end whatever anybody might
	stray   bool        // a lenient reader would see other delimiters
	stopped bool        // a limit ended the scan
	later   *agenda     // readings to try afterwards
	lines   int         // since the clock was looked at
	look    *b64Decoder // at the base64 that passes by in cur; nil: not all of it does

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
	if sc.look != nil && !sc.stopped {
		sc.cur.looked = sc.look
	}
	sc.look = nil
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
			sc.beginLook(p)
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

// beginLook looks at base64 as it passes by, so that a file need not be read
// again for it.
func (sc *scanner) beginLook(p *Part) {
	if p.encoding == encBase64 && !sc.win.s.inMemory() && sc.later != nil && !sc.later.rereading && !sc.lenient {
		sc.look = &b64Decoder{}
	}
}

// same returns an open multipart with that boundary.
func (sc *scanner) same(boundary string) *frame {
	const near = 64 // a reuse over more levels than that confuses nobody
	for i := max(len(sc.frames)-near, 0); i < len(sc.frames); i++ {
		if sc.frames[i].boundary == boundary {
			return &sc.frames[i]
		}
	}
	return nil
}

// late looks at the clock now and then and stops when time is up.
func (sc *scanner) late() bool {
	if sc.lines++; sc.lines&1023 == 0 && sc.m.now().After(sc.m.deadline) {
		sc.note(LimitTime, nil, sc.pos, nil)
		sc.stopped = true
	}
	return sc.stopped
}
