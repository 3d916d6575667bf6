package mail

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound the work that a message can cause. They travel with it: content
// that is unpacked from it counts too. Hitting one is a finding of class Limit,
// never a crash.
type Limits struct {
	Depth        int           // nesting of parts
	Parts        int           // parts of the tree, whatever they come from
	Fields       int           // fields of one header, and parameters of one field
	HeaderBytes  int64         // of one header
	DecodedBytes int64         // unpacked from archives and other containers, in all
	Time         time.Duration // spent on reading the structure and unpacking
}

// DefaultLimits returns limits that no honest mail meets.
func DefaultLimits() Limits {
	return Limits{
		Depth:        64,
		Parts:        10_000,
		Fields:       10_000,
		HeaderBytes:  1 << 20,
		DecodedBytes: 256 << 20,
		Time:         30 * time.Second,
	}
}

// withDefaults fills in what is zero.
func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	if l.Depth <= 0 {
		l.Depth = d.Depth
	}
	if l.Parts <= 0 {
		l.Parts = d.Parts
	}
	if l.Fields <= 0 {
		l.Fields = d.Fields
	}
	if l.HeaderBytes <= 0 {
		l.HeaderBytes = d.HeaderBytes
	}
	if l.DecodedBytes <= 0 {
		l.DecodedBytes = d.DecodedBytes
	}
	if l.Time <= 0 {
		l.Time = d.Time
	}
	return l
}

// ErrLimit is what reading content that exceeds the limits ends with.
var ErrLimit = errors.New("limit of the message exceeded")

// Options say how a message is read.
type Options struct {
	Limits Limits           // zero fields: DefaultLimits
	Unpack []Unpacker       // in the order in which they are asked
	Now    func() time.Time // clock for Limits.Time; time.Now if nil
}

// A Message is a header section and a body (RFC 5322), read from bytes in
// memory or in a file. It never changes; everything derived from it is computed
// when first asked for and kept. All methods are safe for concurrent use.
type Message struct {
	src     *source
	limits  Limits
	options Options

	scanning sync.Once
	root     *Part
	notes    notebook // written while scanning and expanding
	expand   bool     // some part has more children than scanning found
	parts    int      // in the tree so far
	deadline time.Time

	expanding sync.Once
	budget    int64 // what may still be unpacked

	cached   atomic.Int64 // bytes of decoded content that parts keep
	retained atomic.Int64 // bytes that unpackers keep
	unfolded atomic.Int64 // bytes that were decoded for their structure

	listing  lazy[[]*Part]
	finding  lazy[[]Finding]
	authors  lazy[[]Address]
	texting  lazy[string]
	linking  lazy[[]Link]
	attached lazy[[]*Part]
	memos    memos
}

// A lazy value is computed once.
type lazy[T any] struct {
	once sync.Once
	v    T
}

// get returns the value, computing it at first.
func (l *lazy[T]) get(f func() T) T {
	l.once.Do(func() { l.v = f() })
	return l.v
}

// Parse returns the message that the first size bytes of r are. It reads
// nothing yet, and it never fails: what cannot be understood is a finding, and
// what cannot be read is told by Err. r must not change as long as the message
// is used.
func Parse(r io.ReaderAt, size int64, o Options) *Message {
	return newMessage(&source{r: r, size: max(size, 0)}, o)
}

// ParseBytes is Parse for a message in memory. b must not change.
func ParseBytes(b []byte, o Options) *Message {
	return newMessage(&source{b: b, size: int64(len(b))}, o)
}

func newMessage(s *source, o Options) *Message {
	return &Message{src: s, limits: o.Limits.withDefaults(), options: o}
}

// now reads the clock of the options.
func (m *Message) now() time.Time {
	if m.options.Now != nil {
		return m.options.Now()
	}
	return time.Now()
}

// Size returns the number of bytes of the message.
func (m *Message) Size() int64 { return m.src.size }

// Reader reads the message, every byte as it came.
func (m *Message) Reader() io.Reader { return m.src.reader(0, m.src.size) }

// ReaderAt reads the message at any offset.
func (m *Message) ReaderAt() io.ReaderAt {
	if !m.src.inMemory() {
		return m.src.r
	}
	return &splice{pieces: []piece{{b: m.src.b, n: m.src.size}}, size: m.src.size}
}

// Bytes returns the whole message if it is in memory as one slice. It must not
// be changed.
func (m *Message) Bytes() ([]byte, bool) { return m.src.b, m.src.inMemory() }

// Slices returns the whole message as consecutive slices if it is in memory,
// also after it was edited. They must not be changed.
func (m *Message) Slices() ([][]byte, bool) {
	if m.src.inMemory() {
		return [][]byte{m.src.b}, true
	}
	if sp, ok := m.src.r.(*splice); ok {
		return sp.slices()
	}
	return nil, false
}

// Err returns the first error met while reading the message. What was computed
// from a message that cannot be read is worth nothing: check Err before a
// verdict is believed.
func (m *Message) Err() error { return m.src.failure() }

// BodyOffset returns where the body begins.
func (m *Message) BodyOffset() int64 { return m.scan().body }

// Header returns the header section of the message.
func (m *Message) Header() *Header { return &m.scan().header }

// Root returns the message as a part: the root of the content tree.
func (m *Message) Root() *Part { return m.scan() }

// scan reads the structure at first.
func (m *Message) scan() *Part {
	m.scanning.Do(func() {
		m.deadline = m.now().Add(m.limits.Time)
		m.budget = m.limits.DecodedBytes
		m.root = &Part{m: m, src: m.src}
		m.parts = 1
		scanTree(m.root)
	})
	return m.root
}

// tree returns the root once the whole tree is known, decoded and unpacked
// parts included.
func (m *Message) tree() *Part {
	root := m.scan()
	if m.expand || len(m.options.Unpack) > 0 {
		m.expanding.Do(func() { m.expandAll(root) })
	}
	return root
}

// Parts returns every part of the content tree, depth first; the first is the
// root.
func (m *Message) Parts() []*Part {
	return m.listing.get(func() []*Part {
		root := m.tree()
		return root.appendTree(make([]*Part, 0, m.parts))
	})
}

// Part returns the part of that ID, nil if there is none.
func (m *Message) Part(id PartID) *Part {
	p := m.tree()
	for rest := string(id); rest != "" && p != nil; {
		var n int
		n, rest = leadingNumber(rest)
		if n < 1 || n > len(p.children) {
			return nil
		}
		p = p.children[n-1]
	}
	return p
}

// leadingNumber splits "12.3" into 12 and "3"; -1 if it is not like that.
func leadingNumber(s string) (int, string) {
	n, i := 0, 0
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9' && n < 1<<24; i++ {
		n = n*10 + int(s[i]-'0')
	}
	switch {
	case i == 0 || s[0] == '0':
		return -1, ""
	case i == len(s):
		return n, ""
	case s[i] != '.' || i+1 == len(s):
		return -1, ""
	}
	return n, s[i+1:]
}

// Attachments returns the leaf parts that a mail client shows as files: those
// with a name, those that say so, and those that are neither text nor inline.
func (m *Message) Attachments() []*Part {
	return m.attached.get(func() []*Part {
		var out []*Part
		for _, p := range m.Parts() {
			if p.IsAttachment() {
				out = append(out, p)
			}
		}
		return out
	})
}

// Subject returns the first Subject, decoded (RFC 2047).
func (m *Message) Subject() string {
	for _, f := range m.Header().All("Subject") {
		return f.Decoded()
	}
	return ""
}

// MessageID returns the first Message-ID with its angle brackets.
func (m *Message) MessageID() string { return m.Header().Get("Message-ID") }

// Hops returns the number of Received fields (RFC 5321 section 6.3: a large
// number of them is a loop).
func (m *Message) Hops() int { return m.Header().count(idReceived) }

// Authors returns the mailboxes of every From field.
func (m *Message) Authors() []Address {
	return m.authors.get(func() []Address {
		var out []Address
		for _, f := range m.Header().All("From") {
			as, err := ParseAddresses(f.Value())
			if err != nil && len(as) == 0 {
				continue // nothing in it is an address: there is no author to name
			}
			out = append(out, as...)
		}
		return out
	})
}
