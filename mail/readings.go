package mail

import "bytes"

// An agenda lists the readings of a message that differ from the first. They
// are tried when the first is complete, and the parts that they alone find join
// the tree.
type agenda struct {
	m         *Message
	items     []rereading
	rereading bool
	budget    int64 // bytes that may still be read again
	seen      map[span]bool
	scratch   notebook
}

// A rereading is one entry of an agenda.
type rereading struct {
	part     *Part   // the parts found become its children
	boundary *string // split the body of part at this boundary
	guess    bool    // split it at whatever looks like a boundary
	lenient  bool    // read part again, taking for delimiters what anybody might
	start    int64   // otherwise an entity begins here
	end      int64   // and ends here; -1: with part
	forced   int64   // its header ends here; -1: where it says
	skip     bool    // and the line there is skipped
}

// A span tells parts apart: two with the same span have the same content.
type span struct {
	src              *source
	start, body, end int64
	fields           int
	encoding         encoding
	mediaType        string
}

// rereadFactor is how often a message may be read again, in all.
const rereadFactor = 6

func newAgenda(m *Message, size int64) *agenda {
	return &agenda{m: m, budget: rereadFactor*size + 64<<10}
}

// first reports whether the first reading is going on.
func (a *agenda) first() bool { return !a.rereading }

// maxItems bounds the entries of an agenda.
const maxItems = 4096

// put adds an entry.
func (a *agenda) put(r rereading) {
	if len(a.items) >= maxItems {
		a.scratch.add(LimitReadings, nil, 0, nil)
		return
	}
	a.items = append(a.items, r)
}

// split has p split at another boundary.
func (a *agenda) split(p *Part, boundary string) { a.put(rereading{part: p, boundary: &boundary}) }

// guess has p, whose boundary is missing or wrong, split at what looks like
// one.
func (a *agenda) guess(p *Part) {
	if a.first() {
		a.put(rereading{part: p, guess: true})
	}
}

// entity has another entity read in p.
func (a *agenda) entity(p *Part, start, end, forced int64, skip bool) {
	a.put(rereading{part: p, start: start, end: end, forced: forced, skip: skip})
}

// run tries every reading, and those that they give rise to.
func (a *agenda) run(root *Part, notes *notebook) {
	a.rereading = true
	for i := 0; i < len(a.items); i++ {
		if a.seen == nil {
			a.seen = make(map[span]bool)
			for _, p := range root.appendTree(nil) {
				a.seen[p.span()] = true
			}
		}
		r := a.items[i]
		if r.end < 0 || r.end == 0 {
			r.end = r.part.end
		}
		if r.boundary != nil || r.guess {
			r.start = r.part.body
		}
		if r.start >= r.end && r.boundary == nil {
			continue
		}
		if a.budget -= r.end - r.start; a.budget < 0 {
			notes.add(LimitReadings, r.part, r.start, nil)
			break
		}
		a.try(r)
	}
	for _, f := range a.scratch.list {
		if f.kind.Class() == Limit {
			notes.add(f.kind, nil, f.offset, []byte(f.evidence))
		}
	}
}

// try reads one entry.
func (a *agenda) try(r rereading) {
	p := r.part
	if r.guess {
		b, ok := guessBoundary(p.src, p.body, p.end)
		if !ok {
			return
		}
		r.boundary = &b
	}
	sc := newScanner(a.m, p.src, r.start, r.end, &a.scratch, a)
	shadow := &Part{m: a.m, src: p.src, start: r.start, body: r.start, depth: p.depth, mediaType: p.mediaType, container: true}
	if r.boundary != nil {
		sc.frames = []frame{{part: shadow, boundary: *r.boundary}}
		sc.cur, sc.outer = shadow, r.start
		sc.loop()
	} else {
		sc.lenient = r.lenient
		if r.forced > 0 {
			sc.forced, sc.forcedSkip = r.forced, r.skip
		}
		if c := sc.child(shadow, r.start); c != nil {
			sc.run(c)
		}
	}
	a.adopt(p, shadow.children)
}

// adopt makes the parts that nobody has seen yet children of p.
func (a *agenda) adopt(p *Part, parts []*Part) {
	before := 0
	for _, c := range parts {
		before += c.size()
	}
	for _, c := range parts {
		for _, n := range a.fresh(c) {
			n.reading = true
			p.append(n)
			before -= n.size()
		}
	}
	a.m.parts -= before // those that were dropped
}

// fresh cuts from c what is in the tree already and returns what is left: c, or
// what is new inside of it.
func (a *agenda) fresh(c *Part) []*Part {
	s := c.span()
	known := a.seen[s]
	a.seen[s] = true
	had := c.children
	c.children = nil
	var left []*Part
	for _, k := range had {
		left = append(left, a.fresh(k)...)
	}
	if known {
		return left
	}
	for _, k := range left {
		c.append(k)
	}
	if len(had) > 0 && len(left) == 0 && !c.IsLeaf() {
		return nil
	}
	return []*Part{c}
}

// size returns the number of parts from p on.
func (p *Part) size() int {
	n := 1
	for _, c := range p.children {
		n += c.size()
	}
	return n
}

// span returns what tells p from other parts.
func (p *Part) span() span {
	return span{p.src, p.start, p.body, p.end, len(p.header.fields), p.encoding, p.mediaType}
}

// guessBoundary finds a line that clients take for a delimiter when they know
// no boundary.
func guessBoundary(s *source, start, end int64) (string, bool) {
	w := newWindow(s, start, end, false)
	for _, line := range w.lines() {
		line = trimSpace(line)
		if len(line) > 2 && len(line) < 200 && line[0] == '-' && line[1] == '-' && line[2] != ' ' {
			return string(bytes.TrimSuffix(line[2:], []byte("--"))), true
		}
	}
	return "", false
}

// outside looks at the preamble or epilogue [start, end) of p for parts that a
// client may show although they stand outside of the delimiters.
func (sc *scanner) outside(p *Part, start, end int64) {
	var f *frame
	for i := range sc.frames {
		if sc.frames[i].part == p {
			f = &sc.frames[i]
		}
	}
	if f == nil || p.parent == nil && !sc.later.first() {
		return
	}
	epilogue := f.seen
	w := newWindow(sc.win.s, start, end, false)
	text := false
	for pos, line := range w.lines() {
		field := hasPrefixFold(line, "content-") && bytes.IndexByte(line, ':') > 0
		if field || beginsFile(line) {
			kind := PartInPreamble
			if epilogue {
				kind = PartInEpilogue
			}
			sc.note(kind, p, pos, trimSpace(line))
			forced := int64(-1)
			if !field {
				forced = pos
			}
			sc.later.entity(p, pos, end, forced, false)
			return
		}
		text = text || len(trimSpace(line)) > 0
	}
	if text && epilogue {
		sc.note(TextAfterEnd, p, start, nil)
	}
}

// scanTree reads the structure of a message, and then its other readings.
func scanTree(root *Part) {
	m := root.m
	later := newAgenda(m, root.src.size)
	sc := newScanner(m, root.src, 0, root.src.size, &m.notes, later)
	sc.run(root)
	if sc.bareLF >= 0 {
		sc.note(BareLF, root, sc.bareLF, nil)
	}
	if sc.long >= 0 {
		sc.note(LongLine, root, sc.long, nil)
	}
	if sc.win.nul >= 0 {
		sc.note(NULByte, root, sc.win.nul, nil)
	}
	bareCR := int64(-1)
	if sc.win.crs != sc.crlf {
		bareCR = firstBareCR(root.src)
	}
	if bareCR >= 0 {
		sc.note(BareCR, root, bareCR, nil)
	}
	if bareCR >= 0 || sc.stray {
		later.put(rereading{part: root, lenient: true, end: root.src.size, forced: -1})
	}
	if len(later.items) > 0 {
		later.run(root, &m.notes)
	}
}

// firstBareCR returns the offset of the first CR that no LF follows, -1 if
// there is none.
func firstBareCR(s *source) int64 {
	w := newWindow(s, 0, s.size, false)
	for pos := int64(0); pos < w.end; {
		data := w.from(pos)
		if len(data) == 0 {
			break
		}
		i := bytes.IndexByte(data, '\r')
		switch {
		case i < 0:
			pos += int64(len(data))
		case i+1 < len(data):
			if data[i+1] != '\n' {
				return pos + int64(i)
			}
			pos += int64(i) + 2
		case i > 0:
			pos += int64(i) // look again with what follows
		case pos+1 == w.end:
			return pos
		default:
			pos++ // a read error ended the window
		}
	}
	return -1
}
