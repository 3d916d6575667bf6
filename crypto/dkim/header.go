package dkim

import (
	"bytes"
	"hash"
	"hash/maphash"

	"postern/mail"
)

// A canon is a canonicalisation of RFC 6376 section 3.4.
type canon uint8

const (
	simple canon = iota
	relaxed
)

func (c canon) String() string {
	if c == relaxed {
		return "relaxed"
	}
	return "simple"
}

// parseCanon reads c=: that of the header and, after a slash, that of the body,
// which is simple if it is not there.
func parseCanon(b []byte) (header, body canon, ok bool) {
	h, rest, both := bytes.Cut(b, []byte{'/'})
	header, ok = parseOneCanon(h)
	if both && ok {
		body, ok = parseOneCanon(rest)
	}
	return header, body, ok
}

func parseOneCanon(b []byte) (canon, bool) {
	switch string(b) {
	case "simple":
		return simple, true
	case "relaxed":
		return relaxed, true
	}
	return simple, false
}

// An index finds the fields of a header by name, from the bottom up, in a time
// that does not depend on how many there are. It does not change.
type index struct {
	fields []mail.Field
	seed   maphash.Seed // who writes the names does not know where they lie
	last   []int32      // a hash table: the lowest field of a name, -1 in a free place
	above  []int32      // field -> the next one of its name further up, -1 if none
}

func newIndex(fields []mail.Field) *index {
	size := 16
	for size < 2*len(fields) {
		size *= 2
	}
	room := make([]int32, size+len(fields))
	x := &index{fields: fields, seed: maphash.MakeSeed(), last: room[:size], above: room[size:]}
	for i := range x.last {
		x.last[i] = -1
	}
	for i, f := range fields {
		at := x.place(fieldName(f.Raw()))
		x.above[i] = x.last[at]
		x.last[at] = int32(i)
	}
	return x
}

// place returns where in the table a name lies, or else the free place for it.
func (x *index) place(name []byte) int {
	var buf [64]byte
	mask := len(x.last) - 1
	at := int(maphash.Bytes(x.seed, appendLower(buf[:0], name))) & mask
	for x.last[at] >= 0 && !equalName(fieldName(x.fields[x.last[at]].Raw()), name) {
		at = (at + 1) & mask
	}
	return at
}

// equalName compares names without case; only that of ASCII counts.
func equalName(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if c != b[i] && lower(c) != lower(b[i]) {
			return false
		}
	}
	return true
}

// all returns the places of the fields of a name, from the bottom up.
func (x *index) all(name string) []int {
	var out []int
	for i := x.last[x.place([]byte(name))]; i >= 0; i = x.above[i] {
		out = append(out, int(i))
	}
	return out
}

// pick calls f with each field that h= names, in that order. RFC 6376 section
// 5.4.2: of several fields of a name the lowest comes first, and each only once;
// a name without a field left counts for nothing. The field own is passed over.
func (x *index) pick(names []byte, own int, f func(raw []byte)) {
	next := append(make([]int32, 0, 128), x.last...)
	words(names, func(w []byte) bool {
		at := x.place(w)
		i := next[at]
		if i >= 0 && int(i) == own {
			i = x.above[i]
		}
		if i >= 0 {
			f(x.fields[i].Raw())
			next[at] = x.above[i]
		}
		return true
	})
}

// fieldName returns the name of a raw field.
func fieldName(raw []byte) []byte { return trim(raw[:max(bytes.IndexByte(raw, ':'), 0)]) }

// appendLower appends ASCII in lower case.
func appendLower(dst, b []byte) []byte {
	for _, c := range b {
		dst = append(dst, lower(c))
	}
	return dst
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// appendField appends a field in canonical form, without the line end. The bytes
// from cut to end are left out.
func (c canon) appendField(dst, raw []byte, cut, end int) []byte {
	if c == relaxed {
		return appendRelaxed(dst, raw, cut, end)
	}
	// RFC 6376 section 3.4.1: the field as it is.
	raw = trimEnd(raw)
	dst = appendLines(dst, raw[:min(cut, len(raw))])
	return appendLines(dst, raw[min(end, len(raw)):])
}

// trimEnd cuts the line end off a field.
func trimEnd(raw []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte{'\n'}), []byte{'\r'})
}

// appendLines appends text whose lines end with CRLF, or with LF in a file in
// Unix form: the next hop gets CRLF.
func appendLines(dst, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return append(dst, b...)
		}
		dst = append(dst, b[:i]...)
		if i == 0 || b[i-1] != '\r' {
			dst = append(dst, '\r')
		}
		dst = append(dst, '\n')
		b = b[i+1:]
	}
}

// appendRelaxed appends a field in relaxed form (RFC 6376 section 3.4.2): the
// name in lower case, one line, one space for any white space, none around the
// colon and at the end.
func appendRelaxed(dst, raw []byte, cut, end int) []byte {
	value := min(max(bytes.IndexByte(raw, ':'), 0)+1, len(raw))
	dst = append(appendLower(dst, fieldName(raw)), ':')
	start := len(dst)
	dst = appendValue(dst, start, raw[value:max(cut, value)])
	dst = appendValue(dst, start, raw[end:])
	if n := len(dst); n > start && dst[n-1] == ' ' {
		dst = dst[:n-1]
	}
	return dst
}

// appendValue appends a part of a value that begins at start, white space
// reduced.
func appendValue(dst []byte, start int, b []byte) []byte {
	for len(b) > 0 {
		n := 0
		for n < len(b) && b[n] > ' ' {
			n++
		}
		dst = append(dst, b[:n]...)
		if n == len(b) {
			break
		}
		if c := b[n]; !isWSP(c) {
			dst = append(dst, c) // a control character
		} else if len(dst) > start && dst[len(dst)-1] != ' ' {
			dst = append(dst, ' ')
		}
		b = b[n+1:]
	}
	return dst
}

// crlf ends every line that is hashed.
var crlf = []byte("\r\n")

// hashHeader writes what the b= of a signature signs: the fields that h= names,
// and the signature's own field without b=. buf is for use as scratch.
func (x *index) hashHeader(h hash.Hash, s *signature, buf []byte) []byte {
	x.pick(s.names, s.field, func(raw []byte) {
		buf = s.header.appendField(buf, raw, len(raw), len(raw))
		buf = append(buf, crlf...)
		if len(buf) >= 4096 {
			h.Write(buf)
			buf = buf[:0]
		}
	})
	h.Write(s.header.appendField(buf, s.raw, s.from, s.to))
	return buf[:0]
}
