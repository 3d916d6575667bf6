package mail

import "bytes"

// header reads the header section of p, which begins at sc.pos, and leaves pos
// where the body begins. It takes whatever looks like a field, as mail clients
// do; where some of them stop earlier, that reading goes on the agenda.
func (sc *scanner) header(p *Part) {
	hs := headerScan{sc: sc, p: p, start: sc.pos, early: -1}
	p.start, p.end = sc.pos, sc.end
	if p.parent == nil {
		hs.fields = make([]fieldPos, 0, 24)
	}
	end := hs.read()
	p.body = sc.pos
	size := min(end-hs.start, sc.m.limits.HeaderBytes)
	raw := sc.win.s.slice(hs.start, size)
	for n := len(hs.fields); n > 0 && int(hs.fields[n-1].end) > len(raw); n-- { // a read error
		hs.fields = hs.fields[:n-1]
	}
	p.header = Header{off: hs.start, raw: raw, fields: hs.fields, cut: hs.full}
	hs.finish()
}

// A headerScan is the state of reading one header section.
type headerScan struct {
	sc     *scanner
	p      *Part
	start  int64
	fields []fieldPos
	open   bool   // a field is being read: continuation lines belong to it
	orphan int64  // where a line without a colon begins whose continuation may bring one; -1 if none
	early  int64  // where a stricter reader ends the header, -1 if nowhere
	skip   bool   // that reader skips the line instead of keeping it
	dups   uint32 // ids met, as bits
	full   bool   // a limit is hit
}

// read collects the fields and returns where the section ends. sc.pos is where
// the body begins.
func (hs *headerScan) read() int64 {
	sc := hs.sc
	hs.orphan = -1
	for sc.pos < sc.win.end {
		at := sc.pos
		if at == sc.forced {
			if sc.forcedSkip {
				_, sc.pos = sc.line()
			}
			sc.forced = -1
			return at
		}
		term := sc.term
		line, next := sc.line()
		if next <= at {
			sc.pos = sc.win.end
			return at
		}
		if len(line) == 0 {
			hs.settle()
			sc.pos = next
			return at
		}
		if (line[0] == '-' || sc.lenient) && len(sc.frames) > 0 {
			if _, ok := sc.match(line); ok {
				hs.settle()
				sc.term = term
				if at > hs.start {
					sc.note(MissingBlankLine, hs.p, at, line)
				}
				return at
			}
		}
		if !hs.take(line, at, next) {
			return at
		}
		sc.pos = next
	}
	hs.settle()
	if sc.pos > hs.start && hs.p.parent == nil {
		sc.note(MissingBlankLine, hs.p, sc.pos, nil)
	}
	return sc.pos
}

// take reads one line; false ends the header before it.
func (hs *headerScan) take(line []byte, at, next int64) bool {
	sc, p := hs.sc, hs.p
	if line[0] == ' ' || line[0] == '\t' {
		blank := len(trimSpace(line)) == 0
		switch {
		case blank:
			sc.note(FieldBlankFold, p, at, nil)
			hs.endsEarly(at, true)
			hs.extend(next)
		case hs.orphan >= 0 && bytes.IndexByte(line, ':') >= 0:
			// The colon stands on a continuation line.
			sc.note(FieldFoldedName, p, hs.orphan, line)
			colon := at - hs.orphan + int64(bytes.IndexByte(line, ':'))
			hs.begin(hs.orphan, next, colon, idOther)
			hs.orphan = -1
		case !hs.open && !hs.full && hs.orphan < 0 && len(hs.fields) == 0:
			sc.note(FieldFirstSpace, p, at, line)
			hs.endsEarly(at, false)
			return hs.field(line, at, next)
		default:
			hs.extend(next)
		}
		return true
	}
	hs.settle()
	return hs.field(line, at, next)
}

// settle deals with a line that turned out to have no colon, at all or before
// the header ends.
func (hs *headerScan) settle() {
	if hs.orphan < 0 {
		return
	}
	hs.sc.note(FieldNoColon, hs.p, hs.orphan, nil)
	hs.endsEarly(hs.orphan, false)
	hs.orphan = -1
	hs.open = false
}

// endsEarly remembers where a stricter reader ends the header.
func (hs *headerScan) endsEarly(at int64, skip bool) {
	if hs.early < 0 {
		hs.early, hs.skip = at, skip
	}
}

// extend makes the field at hand go on to next.
func (hs *headerScan) extend(next int64) {
	if !hs.open {
		return
	}
	hs.fields[len(hs.fields)-1].end = hs.cut(next)
	if !hs.full && next-hs.start > hs.sc.m.limits.HeaderBytes {
		hs.sc.note(LimitHeader, hs.p, hs.start, nil)
		hs.full = true
	}
}

// cut returns an offset in the header, within its limit.
func (hs *headerScan) cut(off int64) uint32 {
	return uint32(min(off-hs.start, hs.sc.m.limits.HeaderBytes))
}

// field reads the line as the beginning of a field; false ends the header
// before it.
func (hs *headerScan) field(line []byte, at, next int64) bool {
	colon := bytes.IndexByte(line, ':')
	if len(hs.fields) == 0 && at == hs.start && isMboxLine(line) {
		if hs.p.parent == nil {
			hs.sc.note(MboxLine, hs.p, at, line)
		}
		hs.open = false
		return true
	}
	if colon > 0 {
		hs.begin(at, next, int64(colon), hs.name(line[:colon], at))
		return true
	}
	if len(hs.fields) == 0 && at == hs.start {
		// The first line is no field: clients take it all for body. What
		// skips the line and reads on is another reading.
		hs.sc.note(MissingHeader, hs.p, at, line)
		hs.sc.later.entity(hs.p, next, -1, -1, false)
		return false
	}
	hs.open = false
	hs.orphan = at
	return true
}

// begin adds a field.
func (hs *headerScan) begin(at, next, colon int64, id fieldID) {
	l := hs.sc.m.limits
	if hs.full {
		return
	}
	if len(hs.fields) >= l.Fields {
		hs.full, hs.open = true, false
		hs.sc.note(LimitFields, hs.p, at, nil)
		return
	}
	if next-hs.start > l.HeaderBytes {
		hs.sc.note(LimitHeader, hs.p, at, nil)
		hs.full = true
		if at+colon-hs.start >= l.HeaderBytes {
			hs.open = false
			return
		}
	}
	hs.open = true
	hs.fields = append(hs.fields, fieldPos{start: uint32(at - hs.start), end: hs.cut(next), colon: uint32(colon), id: id})
}

// name looks at a field name and returns its id.
func (hs *headerScan) name(name []byte, at int64) fieldID {
	id := identify(name)
	if id == idOther {
		trimmed := trimSpace(name)
		if len(trimmed) != len(name) && name[0] != ' ' && name[0] != '\t' {
			hs.sc.note(FieldSpaceColon, hs.p, at, name)
		}
		if len(trimmed) != len(name) {
			id = identify(trimmed)
		}
		if !validName(trimmed) {
			hs.sc.note(FieldBadName, hs.p, at, name)
		}
	}
	return id
}

// finish looks at the section as a whole: fields that may stand once, and the
// reading of those who end it earlier.
func (hs *headerScan) finish() {
	sc, p := hs.sc, hs.p
	for i := range hs.fields {
		f := &hs.fields[i]
		if f.id == idOther {
			if c := f.colon; bytes.IndexByte(p.header.raw[f.start:f.start+c], '\n') >= 0 {
				f.id = identify(trimSpace(p.header.raw[f.start : f.start+c]))
			}
			if f.id == idOther {
				continue
			}
		}
		if f.id == idReceived {
			continue
		}
		if bit := uint32(1) << f.id; hs.dups&bit != 0 {
			if k := duplicateKind(f.id, p.parent == nil); k != "" {
				sc.note(k, p, hs.start+int64(f.start), p.header.raw[f.start:f.end])
			}
		} else {
			hs.dups |= bit
		}
	}
	if hs.early >= 0 {
		sc.later.entity(p, hs.start, -1, hs.early, hs.skip)
	}
	if p.parent == nil && hs.dups&(1<<idFrom) == 0 && sc.later.first() {
		sc.note(MissingFrom, p, hs.start, nil)
	}
}

// duplicateKind returns what it means that a field stands twice. RFC 5322
// section 3.6 has the list of those that may stand once.
func duplicateKind(id fieldID, top bool) FindingKind {
	switch id {
	case idContentType:
		return DuplicateContentType
	case idEncoding:
		return DuplicateEncoding
	case idDisposition:
		return DuplicateDisposition
	}
	if !top {
		return ""
	}
	switch id {
	case idFrom:
		return DuplicateFrom
	case idSender:
		return DuplicateSender
	case idSubject:
		return DuplicateSubject
	}
	return DuplicateField
}

// validName reports whether every byte may stand in a field name (RFC 5322
// section 2.2).
func validName(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// isMboxLine reports whether the line is what mailbox files put before a
// message.
func isMboxLine(line []byte) bool {
	if len(line) > 0 && line[0] == '>' {
		line = line[1:]
	}
	return len(line) > 5 && string(line[:5]) == "From "
}
