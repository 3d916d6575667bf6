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
	top   []string // fields for the top
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
	raw = strings.TrimSuffix(strings.TrimSuffix(raw, "\n"), "\r") + "\r\n"
	colon := strings.IndexByte(raw, ':')
	if colon <= 0 || !validName([]byte(raw[:colon])) {
		e.fail("%q is no header field", clip([]byte(raw)))
		return "", false
	}
	lines := strings.Split(strings.TrimSuffix(raw, "\r\n"), "\r\n")
	for i, line := range lines {
		if strings.ContainsAny(line, "\r\n\x00") || i > 0 && strings.TrimLeft(line, " \t") == "" || i > 0 && line[0] != ' ' && line[0] != '\t' {
			e.fail("%q is not one header field", clip([]byte(raw)))
			return "", false
		}
	}
	return raw, true
}

// Prepend puts whole fields on top of the header; the first given ends on top.
// They are folded already; a missing CRLF is added. Several calls stack up: what
// is given later ends above.
func (e *Editor) Prepend(fields ...string) {
	var block strings.Builder
	for _, f := range fields {
		if raw, ok := e.checkField(f); ok {
			block.WriteString(raw)
		}
	}
	e.top = append([]string{block.String()}, e.top...)
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
		e.replace(p.start, p.end, entity)
	}
}

// replaceRoot replaces the content of the whole message.
func (e *Editor) replaceRoot(p *Part, entity []byte) {
	inner := ParseBytes(entity, Options{})
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
	at := p.header.off + int64(len(p.header.raw))
	if p.body == at { // no empty line
		fields.WriteString("\r\n")
	}
	e.replace(at, at, []byte(fields.String()))
	e.replace(p.body, p.end, entity[inner.BodyOffset():])
}

// isContentField reports whether a field describes the content.
func isContentField(name string) bool {
	return hasPrefixFold([]byte(name), "content-")
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
	sp := &splice{}
	for _, t := range e.top {
		sp.add([]byte(t))
	}
	if len(e.top) > 0 && e.m.BodyOffset() == 0 {
		sp.add([]byte("\r\n")) // no header at all: the body must not become one
	}
	at := int64(0)
	for i, ed := range edits {
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
