package mail

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// An Editor makes a new message from one by splicing: what is not touched stays
// identical, byte for byte, so that signatures over it survive. Errors are kept
// and come from Message; a message that could not be edited as asked must not be
// sent.
type Editor struct {
	m     *Message
	top   [][]byte // fields for the top
	edits []edit
	texts []textEdit
	err   error
}

// An edit replaces [from, to) of the message with new bytes.
type edit struct {
	from, to int64
	b        []byte
}

// ErrEdit is what errors of an Editor wrap.
var ErrEdit = errors.New("message cannot be edited")

// Edit returns an Editor of the message.
func (m *Message) Edit() *Editor { return &Editor{m: m} }

// fail keeps the first error.
func (e *Editor) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf("%w: "+format, append([]any{ErrEdit}, args...)...)
	}
}

// replace adds an edit.
func (e *Editor) replace(from, to int64, b []byte) {
	e.edits = append(e.edits, edit{from, to, b})
}

// checkField returns a whole raw field, with the CRLF at its end, and refuses
// what is not exactly one field.
func (e *Editor) checkField(raw string) (string, bool) {
	text := strings.TrimSuffix(strings.TrimSuffix(raw, "\n"), "\r")
	colon := strings.IndexByte(text, ':')
	switch {
	case colon <= 0 || !validName([]byte(text[:colon])):
		e.fail("%q is no header field", clip([]byte(raw)))
	case !isOneField(text):
		e.fail("%q is not one header field", clip([]byte(raw)))
	case len(raw) == len(text)+2:
		return raw, true
	default:
		return text + "\r\n", true
	}
	return "", false
}

// isOneField reports whether the lines of a field, all but the first, begin with
// white space and have more than that, and whether they end with CRLF.
func isOneField(text string) bool {
	for first := true; ; first = false {
		line, rest, more := strings.Cut(text, "\r\n")
		if strings.IndexByte(line, '\r') >= 0 || strings.IndexByte(line, '\n') >= 0 || strings.IndexByte(line, 0) >= 0 {
			return false
		}
		if !first && (strings.TrimLeft(line, " \t") == "" || line[0] != ' ' && line[0] != '\t') {
			return false
		}
		if !more {
			return true
		}
		text = rest
	}
}

// Prepend puts whole fields on top of the header; the first given ends on top.
// They are folded already; a missing CRLF is added. Several calls stack up: what
// is given later ends above. What stands before the first field, such as the
// line of a mailbox file, is dropped: below other fields it would end the
// header or join them.
func (e *Editor) Prepend(fields ...string) {
	n := 0
	for _, f := range fields {
		n += len(f) + 2
	}
	block := make([]byte, 0, n)
	for _, f := range fields {
		if raw, ok := e.checkField(f); ok {
			block = append(block, raw...)
		}
	}
	e.top = append([][]byte{block}, e.top...)
}

// Replace puts another whole field in the place of f, a field of the message's
// header or of one of its parts.
func (e *Editor) Replace(f Field, raw string) {
	if raw, ok := e.checkField(raw); ok {
		e.replace(f.off, f.off+int64(len(f.raw)), []byte(raw))
	}
}

// Remove takes f out.
func (e *Editor) Remove(f Field) {
	e.replace(f.off, f.off+int64(len(f.raw)), nil)
}

// RemoveAll takes every field of that name out of the message's header.
func (e *Editor) RemoveAll(name string) {
	if e.m.Header().cut {
		e.fail("its header exceeds the limits")
	}
	for _, f := range e.m.Header().All(name) {
		e.Remove(f)
	}
}

// ReplacePart puts another entity, its header, an empty line and its body, in
// the place of the part. Replacing the root replaces the fields of the message
// that describe its content, and its body; the other fields stay.
func (e *Editor) ReplacePart(id PartID, entity []byte) {
	p := e.m.Part(id)
	switch {
	case p == nil:
		e.fail("there is no part %q", id)
	case !p.InMessage():
		e.fail("part %q does not stand in the message as it is", id)
	case p.parent == nil:
		e.replaceRoot(p, entity)
	default:
		e.replace(p.start, p.end, slices.Concat(entity, p.tail()))
	}
}

// replaceRoot replaces the content of the whole message.
func (e *Editor) replaceRoot(p *Part, entity []byte) {
	inner := ParseBytes(entity, Options{})
	if p.header.cut {
		e.fail("its header exceeds the limits")
	}
	for _, f := range p.header.Fields() {
		if isContentField(f.Name()) {
			e.Remove(f)
		}
	}
	var fields strings.Builder
	for _, f := range inner.Header().Fields() {
		raw := strings.TrimRight(string(f.Raw()), "\r\n")
		fields.WriteString(raw + "\r\n")
	}
	if !p.header.Has("MIME-Version") && inner.Header().Has("Content-Type") && !inner.Header().Has("MIME-Version") {
		fields.WriteString("MIME-Version: 1.0\r\n")
	}
	at, before, after := p.headerEnd()
	e.replace(at, at, []byte(before+fields.String()+after))
	e.replace(p.body, p.end, entity[inner.BodyOffset():])
}

// headerEnd returns where fields can be added to the part's header, and what
// must stand before and after them: a header without an empty line at its end
// gets one.
func (p *Part) headerEnd() (at int64, before, after string) {
	raw := p.header.raw
	at = p.header.off + int64(len(raw))
	if p.body == at {
		after = "\r\n"
		if n := len(raw); n > 0 && raw[n-1] != '\n' {
			before = "\r\n"
		}
	}
	return at, before, after
}

// tail returns the line end that must follow new content of the part: none if
// one stands there already, as it does before a delimiter unless the part was
// empty.
func (p *Part) tail() []byte {
	if next := p.src.slice(p.end, 1); len(next) > 0 && next[0] != '\r' && next[0] != '\n' {
		return []byte("\r\n")
	}
	return nil
}

// isContentField reports whether a field describes the content.
func isContentField(name string) bool {
	return hasPrefixFold([]byte(name), "content-")
}

// loose returns how many bytes at the beginning of the message would join a
// field put on top, or end the header after it: the line that mailbox files put
// there, blank lines of white space, and white space before the first field.
func (m *Message) loose() int64 {
	raw := m.Header().raw
	at := 0
	for at < len(raw) {
		line, rest := cutLine(raw[at:])
		switch {
		case at == 0 && isMboxLine(line), len(line) > 0 && len(trimSpace(line)) == 0:
			at = len(raw) - len(rest)
			continue
		}
		for at < len(raw) && (raw[at] == ' ' || raw[at] == '\t') {
			at++
		}
		break
	}
	return int64(at)
}

// Message returns the edited message, which reads what is untouched from the
// original. Its options are those of the original.
func (e *Editor) Message() (*Message, error) {
	if e.err != nil {
		return nil, e.err
	}
	if len(e.top) == 0 && len(e.edits) == 0 && len(e.texts) == 0 {
		return e.m, nil
	}
	edits := slices.Clone(e.edits)
	for _, t := range e.texts {
		more, err := t.edits()
		if err != nil {
			return nil, err
		}
		edits = append(edits, more...)
	}
	slices.SortStableFunc(edits, func(a, b edit) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) // insertions first
	})
	sp := &splice{pieces: make([]piece, 0, len(e.top)+2*len(edits)+2)}
	for _, t := range e.top {
		sp.add(t)
	}
	at := int64(0)
	if len(e.top) > 0 {
		at = e.m.loose()
		if e.m.BodyOffset() == 0 {
			sp.add([]byte("\r\n")) // no header at all: the body must not become one
		}
	}
	loose := at
	for i, ed := range edits {
		ed.from = max(ed.from, min(loose, ed.to)) // what is dropped already
		if i > 0 && ed.from == edits[i-1].from && ed.to == edits[i-1].to && ed.b == nil && edits[i-1].b == nil {
			continue // the same removal twice
		}
		if ed.from < at || ed.to > e.m.src.size {
			return nil, fmt.Errorf("%w: two changes of the same bytes at %d", ErrEdit, ed.from)
		}
		sp.addFrom(e.m.src, at, ed.from-at)
		sp.add(ed.b)
		at = ed.to
	}
	sp.addFrom(e.m.src, at, e.m.src.size-at)
	if err := e.m.Err(); err != nil {
		return nil, fmt.Errorf("edit message: %w", err)
	}
	src := &source{r: sp, size: sp.size}
	if len(sp.pieces) == 1 && sp.pieces[0].b != nil {
		src = &source{b: sp.pieces[0].b, size: sp.size}
	}
	return &Message{src: src, limits: e.m.limits, options: e.m.options}, nil
}
