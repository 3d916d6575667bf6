package mail

import (
	"bytes"
	"iter"
	"strings"
)

// A Header is the header section of a message or part: its fields in order,
// with their exact bytes.
type Header struct {
	raw    []byte
	off    int64
	fields []fieldPos
	cut    bool // a limit was hit: there is more
}

// A fieldPos says where a field lies in its header.
type fieldPos struct {
	start, end uint32
	colon      uint32 // from start
	id         fieldID
}

// A Field is one header field: its exact bytes and where they lie.
type Field struct {
	raw   []byte
	colon int
	off   int64
}

// Raw returns the exact bytes of the section, without the empty line that ends
// it. A header longer than Limits.HeaderBytes is cut.
func (h *Header) Raw() []byte { return h.raw }

// Offset returns where the section begins.
func (h *Header) Offset() int64 { return h.off }

// Cut reports whether a limit was hit: there are more bytes or fields than
// these.
func (h *Header) Cut() bool { return h.cut }

// Len returns the number of fields.
func (h *Header) Len() int { return len(h.fields) }

// field returns the i-th field.
func (h *Header) field(i int) Field {
	f := h.fields[i]
	return Field{raw: h.raw[f.start:f.end:f.end], colon: int(f.colon), off: h.off + int64(f.start)}
}

// Fields returns all fields in order.
func (h *Header) Fields() []Field {
	out := make([]Field, len(h.fields))
	for i := range h.fields {
		out[i] = h.field(i)
	}
	return out
}

// Each goes through the fields in order.
func (h *Header) Each() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for i := range h.fields {
			if !yield(h.field(i)) {
				return
			}
		}
	}
}

// match reports whether the i-th field has that name.
func (h *Header) match(i int, name string, id fieldID) bool {
	if id != idOther {
		return h.fields[i].id == id
	}
	f := &h.fields[i]
	return f.id == idOther && equalFold(trimSpace(h.raw[f.start:f.start+f.colon]), name)
}

// All returns the fields of that name, in order. Names are compared without
// regard to case and to white space before the colon.
func (h *Header) All(name string) []Field {
	id := identify([]byte(name))
	var out []Field
	for i := range h.fields {
		if h.match(i, name, id) {
			out = append(out, h.field(i))
		}
	}
	return out
}

// Get returns the unfolded value of the first field of that name.
func (h *Header) Get(name string) string {
	id := identify([]byte(name))
	for i := range h.fields {
		if h.match(i, name, id) {
			return h.field(i).Value()
		}
	}
	return ""
}

// Has reports whether there is a field of that name.
func (h *Header) Has(name string) bool {
	id := identify([]byte(name))
	for i := range h.fields {
		if h.match(i, name, id) {
			return true
		}
	}
	return false
}

// count returns how many fields have the id.
func (h *Header) count(id fieldID) int {
	n := 0
	for i := range h.fields {
		if h.fields[i].id == id {
			n++
		}
	}
	return n
}

// first returns the raw value of the first field with the id.
func (h *Header) first(id fieldID) (value []byte, ok bool) {
	for i := range h.fields {
		if f := &h.fields[i]; f.id == id {
			return h.raw[f.start+f.colon+1 : f.end], true
		}
	}
	return nil, false
}

// Name returns the field's name as it is written, without white space around
// it.
func (f Field) Name() string { return string(trimSpace(f.raw[:f.colon])) }

// Is reports whether the field has that name, without regard to case.
func (f Field) Is(name string) bool { return equalFold(trimSpace(f.raw[:f.colon]), name) }

// HasPrefix reports whether the field's name begins with a prefix, without
// regard to case, and goes on.
func (f Field) HasPrefix(prefix string) bool {
	name := trimSpace(f.raw[:f.colon])
	return len(name) > len(prefix) && equalFold(name[:len(prefix)], prefix)
}

// Raw returns the exact bytes of the field, with the CRLF that ends it.
func (f Field) Raw() []byte { return f.raw }

// Offset returns where the field begins: in the message, or in the decoded
// content for parts that lie in such.
func (f Field) Offset() int64 { return f.off }

// Value returns the field body, unfolded (RFC 5322 section 2.2.3), without
// white space around it.
func (f Field) Value() string { return unfold(f.raw[f.colon+1:]) }

// Decoded returns the value with its encoded words decoded (RFC 2047).
func (f Field) Decoded() string { return DecodeHeader(f.Value()) }

// unfold removes line breaks and the white space around the value.
func unfold(b []byte) string {
	b = trimSpace(b)
	if bytes.IndexByte(b, '\n') < 0 {
		return string(b)
	}
	var s strings.Builder
	s.Grow(len(b))
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			s.Write(b)
			break
		}
		line := b[:i]
		if i > 0 && line[i-1] == '\r' {
			line = line[:i-1]
		}
		s.Write(line)
		b = b[i+1:]
	}
	return s.String()
}

// isSpace reports whether c is white space of a folded field.
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// trimSpace cuts white space off both ends.
func trimSpace(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// equalFold compares ASCII without regard to case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

// hasPrefixFold reports whether b begins with the lower-case s.
func hasPrefixFold(b []byte, s string) bool {
	return len(b) >= len(s) && equalFold(b[:len(s)], s)
}

// lower makes an ASCII letter lower case.
func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// A fieldID names the fields that the parser looks at.
type fieldID uint32

const (
	idOther fieldID = iota
	idContentType
	idEncoding
	idDisposition
	idMIMEVersion
	idFrom
	idSender
	idSubject
	idReceived
	idDate
	idTo
	idCc
	idReplyTo
	idMessageID
	idReferences
	idInReplyTo
	idCount
)

// fieldNames are the names of the fieldIDs.
var fieldNames = [idCount]string{
	idContentType: "content-type", idEncoding: "content-transfer-encoding", idDisposition: "content-disposition",
	idMIMEVersion: "mime-version", idFrom: "from", idSender: "sender", idSubject: "subject", idReceived: "received",
	idDate: "date", idTo: "to", idCc: "cc", idReplyTo: "reply-to", idMessageID: "message-id",
	idReferences: "references", idInReplyTo: "in-reply-to",
}

// identify returns the id of a field name.
func identify(name []byte) fieldID {
	var a, b fieldID
	switch len(name) {
	case 2:
		a, b = idTo, idCc
	case 4:
		a, b = idFrom, idDate
	case 6:
		a = idSender
	case 7:
		a = idSubject
	case 8:
		a, b = idReceived, idReplyTo
	case 10:
		a, b = idMessageID, idReferences
	case 11:
		a = idInReplyTo
	case 12:
		a, b = idContentType, idMIMEVersion
	case 19:
		a = idDisposition
	case 25:
		a = idEncoding
	default:
		return idOther
	}
	if equalFold(name, fieldNames[a]) {
		return a
	}
	if b != idOther && equalFold(name, fieldNames[b]) {
		return b
	}
	return idOther
}
