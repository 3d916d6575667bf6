package mail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// An Unpacker gives a leaf part children: the members of an archive, the
// attachments of a TNEF file, what decrypting it yields. It returns nil, nil for
// a part that is not its kind. It is called once for each leaf of the content
// tree, members included, one after the other, and may use everything of the
// part but Children, and nothing of the message that lists parts. An error is a
// finding, and does not lose the members returned with it.
type Unpacker func(p *Part) ([]Member, error)

// A Member is one entry of an archive or container.
type Member struct {
	Name      string
	Size      int64 // unpacked; -1 if it is not known
	Encrypted bool
	MediaType string                        // if the container tells; "message/rfc822" is read as a message
	Open      func() (io.ReadCloser, error) // may be called several times, also at once
}

// expandAll adds the children that parts have beyond the structure: messages
// and multiparts in encoded bodies, files in text, members of archives. It goes
// through the tree in order, so that limits always hit in the same place.
func (m *Message) expandAll(p *Part) {
	if m.parts >= m.limits.Parts && len(p.children) == 0 {
		return
	}
	if m.now().After(m.deadline) {
		if m.notes.count[LimitTime] == 0 {
			m.notes.add(LimitTime, p, p.body, nil)
		}
		return
	}
	m.expandEncoded(p)
	if p.IsLeaf() {
		m.expandText(p)
		m.unpack(p)
	}
	for i := 0; i < len(p.children); i++ {
		m.expandAll(p.children[i])
	}
}

// expandEncoded reads the structure of an encoded message or multipart. It is
// forbidden, and decoded by clients.
func (m *Message) expandEncoded(p *Part) {
	message := isMessageType(p.mediaType) && !p.container
	multipart := p.container && p.boundary != nil && p.encoding != encIdentity
	if !message && !multipart || p.src != nil && p.encoding == encIdentity && p.member == nil {
		return
	}
	if int(p.depth) >= m.limits.Depth {
		m.notes.add(LimitDepth, p, p.start, nil)
		return
	}
	if !m.unfold(p, p.Length()) {
		return
	}
	data, err := p.Bytes()
	if err != nil {
		m.notes.add(UnpackFailed, p, p.body, []byte(err.Error()))
		return
	}
	inner := &source{b: data, size: int64(len(data))}
	later := newAgenda(m, inner.size)
	sc := newScanner(m, inner, 0, inner.size, &m.notes, later)
	shadow := &Part{m: m, src: inner, depth: p.depth, mediaType: p.mediaType, container: true, end: inner.size}
	if multipart {
		sc.frames = []frame{{part: shadow, boundary: *p.boundary}}
		sc.cur = shadow
		sc.loop()
	} else if c := sc.child(shadow, 0); c != nil {
		sc.run(c)
	}
	if len(later.items) > 0 {
		later.run(shadow, &m.notes)
	}
	for _, c := range shadow.children {
		p.append(c)
	}
}

// unfoldFactor is how often the length of the message what is encoded in it may
// come to, encoded messages in encoded messages counted again: each is a quarter
// shorter than what it lies in. Where readers differ, the same bytes are several
// parts, at each level more.
const unfoldFactor = 4

// unfold reports whether n more bytes of the message may be decoded and kept to
// read the structure of what is in them.
func (m *Message) unfold(p *Part, n int64) bool {
	if within(&m.unfolded, n, unfoldFactor*m.src.size+1<<20) {
		return true
	}
	m.notes.add(LimitDecoded, p, p.body, nil)
	return false
}

// append makes c the last child of p.
func (p *Part) append(c *Part) {
	c.parent = p
	p.children = append(p.children, c)
	c.number = int32(len(p.children))
}

// newChild makes the next child of p in its own source; nil when a limit is
// hit.
func (m *Message) newChild(p *Part) *Part {
	if m.parts >= m.limits.Parts {
		m.notes.add(LimitParts, p, p.body, nil)
		return nil
	}
	if int(p.depth) >= m.limits.Depth {
		m.notes.add(LimitDepth, p, p.body, nil)
		return nil
	}
	m.parts++
	c := &Part{m: m, depth: p.depth + 1, mediaType: "application/octet-stream"}
	p.append(c)
	return c
}

// expandText adds the files that are written into text.
func (m *Message) expandText(p *Part) {
	if p.member != nil || !strings.HasPrefix(p.mediaType, "text/") || p.encoding == encUU || p.encoding == encYEnc || !p.mayEmbed() {
		return
	}
	text, err := p.Bytes()
	if err != nil {
		return // whoever scans the part gets the same error
	}
	for _, e := range findEmbedded(text, m.limits.Parts) {
		kind := EmbeddedInText
		if !e.ok {
			kind = BrokenEmbedded
		}
		m.notes.add(kind, p, e.at, []byte(e.name))
		if !m.unfold(p, int64(len(e.data))) {
			return
		}
		c := m.newChild(p)
		if c == nil {
			return
		}
		c.src = &source{b: e.data, size: int64(len(e.data))}
		c.end = c.src.size
		c.member = &Member{Name: e.name, Size: c.end}
	}
}

// mayEmbed reports whether the text can hold a file.
func (p *Part) mayEmbed() bool {
	switch p.encoding {
	case encQuoted:
		raw := p.raw()
		for _, word := range []string{"begin", "=6", "=7", "=4", "=79"} {
			if bytes.Contains(raw, []byte(word)) {
				return true
			}
		}
		return false
	case encBase64:
		return true
	}
	return p.embedded
}

// unpack asks the unpackers for the members of p.
func (m *Message) unpack(p *Part) {
	for _, u := range m.options.Unpack {
		members, err := u(p)
		if err != nil {
			kind := UnpackFailed
			if errors.Is(err, ErrLimit) {
				kind = LimitDecoded
			}
			m.notes.add(kind, p, p.body, []byte(err.Error()))
		}
		for i := range members {
			c := m.newChild(p)
			if c == nil {
				return
			}
			c.member = &members[i]
			if t := members[i].MediaType; t != "" {
				c.mediaType = strings.ToLower(t)
			}
			m.allow(c)
		}
		if len(members) > 0 {
			return
		}
	}
}

// allow gives a member its share of what may be unpacked. It depends on nothing
// but the order of the members, so that it is always the same.
func (m *Message) allow(c *Part) {
	if c.member.Encrypted || c.member.Open == nil {
		return
	}
	want := c.member.Size
	if want < 0 {
		c.allowed = m.budget
		n, err := io.Copy(io.Discard, c.openMember())
		if err != nil {
			m.notes.add(unpackKind(err), c, 0, []byte(err.Error()))
		}
		c.member.Size, want = n, n
	}
	if want > m.budget {
		m.notes.add(LimitDecoded, c, 0, []byte(c.member.Name))
		want = m.budget
	}
	c.allowed = want
	m.budget -= want
}

// unpackKind says what kind of finding an error while unpacking is.
func unpackKind(err error) FindingKind {
	if errors.Is(err, ErrLimit) {
		return LimitDecoded
	}
	return UnpackFailed
}

// openMember reads a member of an archive, up to what it is allowed.
func (p *Part) openMember() io.Reader {
	switch {
	case p.member.Encrypted:
		return &failedReader{ErrEncrypted}
	case p.member.Open == nil:
		return &failedReader{errors.New("member cannot be read")}
	}
	return &memberReader{p: p, left: p.allowed}
}

// A memberReader opens a member when it is read and closes it at its end.
type memberReader struct {
	p    *Part
	r    io.ReadCloser
	left int64
	err  error
}

// Read implements io.Reader.
func (r *memberReader) Read(b []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.r == nil {
		if r.r, r.err = r.p.member.Open(); r.err != nil {
			r.err = fmt.Errorf("open member: %w", r.err)
			return 0, r.err
		}
	}
	n, err := r.r.Read(b[:min(int64(len(b)), r.left+1)])
	if int64(n) > r.left {
		n, err = int(r.left), ErrLimit
	}
	r.left -= int64(n)
	if err != nil {
		r.err = err
		if cerr := r.r.Close(); cerr != nil && errors.Is(err, io.EOF) {
			r.err = fmt.Errorf("close member: %w", cerr)
		}
	}
	return n, r.err
}
