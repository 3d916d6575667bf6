package dkim

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"

	"postern/mail"
)

// A bodyKey names a hash of the body: all signatures that agree on it share it.
type bodyKey struct {
	canon canon
	limit int64 // of l=, -1 for the whole body
}

// A bodySum is the SHA-256 hash of a canonical body.
type bodySum struct {
	sum    [sha256.Size]byte
	length int64 // of the whole canonical body
}

// bodies keeps the hashes of one message.
type bodies struct {
	mu   sync.Mutex
	sums map[bodyKey]bodySum
}

// sum returns the hashes that are asked for. It reads the body once for all that
// are not known.
func (b *bodies) sum(m *mail.Message, keys []bodyKey) (map[bodyKey]bodySum, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var forms [2]*form
	for _, k := range keys {
		if _, ok := b.sums[k]; ok {
			continue
		}
		f := forms[k.canon]
		if f == nil {
			f = newForm(k.canon, unixLines(m))
			forms[k.canon] = f
		}
		if !slices.ContainsFunc(f.outs, func(o *output) bool { return o.limit == k.limit }) {
			f.outs = append(f.outs, &output{limit: k.limit, hash: sha256.New()})
		}
	}
	out := make(map[bodyKey]bodySum, len(keys))
	if forms != [2]*form{} {
		if err := readBody(m, forms[:]); err != nil {
			return nil, err
		}
		for _, f := range forms {
			if f != nil {
				f.store(b)
			}
		}
	}
	for _, k := range keys {
		out[k] = b.sums[k]
	}
	return out, nil
}

// store keeps the hashes of a form whose body was read.
func (f *form) store(b *bodies) {
	if b.sums == nil {
		b.sums = map[bodyKey]bodySum{}
	}
	for _, o := range f.outs {
		s := bodySum{length: f.length}
		o.hash.Sum(s.sum[:0])
		b.sums[bodyKey{f.canon, o.limit}] = s
	}
}

// unixLines reports whether the lines of a message end with LF alone: it is a
// file in Unix form, which is sent with CRLF. Elsewhere a bare LF is a character
// like any other.
func unixLines(m *mail.Message) bool {
	head := m.Header().Raw()
	i := bytes.IndexByte(head, '\n')
	return i == 0 || i > 0 && head[i-1] != '\r'
}

// chunk is how much of the body goes through all forms before the next is taken
// up: it stays in the cache.
const chunk = 64 << 10

// chunks are buffers for messages that are not in memory.
var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// readBody puts the body of m through the forms that are not nil.
func readBody(m *mail.Message, forms []*form) error {
	feed := func(p []byte) {
		for _, f := range forms {
			if f != nil {
				f.write(p)
			}
		}
	}
	skip, slices, inMemory := m.BodyOffset(), [][]byte(nil), false
	if slices, inMemory = m.Slices(); inMemory {
		for _, b := range slices {
			n := min(skip, int64(len(b)))
			skip -= n
			for b = b[n:]; len(b) > 0; {
				n := min(len(b), chunk)
				feed(b[:n])
				b = b[n:]
			}
		}
	} else if err := readChunks(m, skip, feed); err != nil {
		return err
	}
	for _, f := range forms {
		if f != nil {
			f.finish()
		}
	}
	return nil
}

// readChunks reads a message that is not in memory from an offset on.
func readChunks(m *mail.Message, off int64, feed func([]byte)) error {
	buf, ok := chunks.Get().(*[chunk]byte)
	if !ok {
		buf = new([chunk]byte)
	}
	defer chunks.Put(buf)
	r := m.ReaderAt()
	for off < m.Size() {
		p := buf[:min(chunk, m.Size()-off)]
		n, err := r.ReadAt(p, off)
		if n < len(p) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read body at %d: %w", off, err)
		}
		feed(p)
		off += int64(n)
	}
	return nil
}

// An output is a hash of a canonical body, up to a limit.
type output struct {
	limit int64 // -1 without
	taken int64
	hash  hash.Hash
}

func (o *output) write(p []byte) {
	if o.limit >= 0 {
		p = p[:min(int64(len(p)), o.limit-o.taken)]
		o.taken += int64(len(p))
	}
	o.hash.Write(p)
}

// A form brings a body into canonical form as it is read (RFC 6376 sections
// 3.4.3 and 3.4.4). Line ends are written only when something follows them, since
// empty lines at the end do not count; so is white space, since in relaxed form
// it does not count at the end of a line.
type form struct {
	canon  canon
	unix   bool // lines end with LF
	outs   []*output
	length int64 // written so far
	buf    []byte

	ends  int  // line ends not yet written
	inner bool // in the middle of a line
	space bool // relaxed: white space not yet written
	cr    bool // the last byte was CR
}

func newForm(c canon, unix bool) *form {
	return &form{canon: c, unix: unix, buf: make([]byte, 0, 4096)}
}

// flush hands on what is in the buffer.
func (f *form) flush() {
	f.length += int64(len(f.buf))
	for _, o := range f.outs {
		o.write(f.buf)
	}
	f.buf = f.buf[:0]
}

// emit writes canonical bytes.
func (f *form) emit(p []byte) {
	if len(p) >= 512 {
		f.flush()
		f.length += int64(len(p))
		for _, o := range f.outs {
			o.write(p)
		}
		return
	}
	if len(f.buf)+len(p) > cap(f.buf) {
		f.flush()
	}
	f.buf = append(f.buf, p...)
}

// settle writes the line ends and the white space that were waiting for
// something to follow.
func (f *form) settle() {
	for ; f.ends > 0; f.ends-- {
		f.emit(crlf)
	}
	if f.space {
		f.emit([]byte{' '})
		f.space = false
	}
}

// write takes the next bytes of the body in.
func (f *form) write(p []byte) {
	for len(p) > 0 {
		if !f.inner && !f.cr {
			if n := f.lines(p); n > 0 {
				p = p[n:]
				continue
			}
		}
		p = p[f.line(p):]
	}
}

// lines takes whole lines in that are canonical as they stand, all at once, and
// returns how many bytes they are.
func (f *form) lines(p []byte) int {
	if f.unix {
		return 0 // line ends are not as they stand
	}
	pos, end := 0, 0 // end: behind the last byte of the last line that is not empty
	ends := 0        // line ends behind it
	for {
		i := bytes.IndexByte(p[pos:], '\n')
		if i <= 0 || p[pos+i-1] != '\r' || !f.verbatim(p[pos:pos+i-1]) {
			break
		}
		if i > 1 {
			end, ends = pos+i-1, 0
		}
		ends++
		pos += i + 1
	}
	if end > 0 {
		f.settle() // what waited stands before these lines
		f.emit(p[:end])
	}
	f.ends += ends
	return pos
}

// verbatim reports whether a line is canonical as it stands.
func (f *form) verbatim(line []byte) bool {
	if f.canon == simple {
		return true
	}
	n := len(line)
	return n == 0 || line[n-1] != ' ' && bytes.IndexByte(line, '\t') < 0 && !bytes.Contains(line, twoSpaces)
}

var twoSpaces = []byte("  ")

// line takes bytes in up to the end of a line or of p, and returns how many.
func (f *form) line(p []byte) int {
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '\n' && (f.cr || f.unix) {
			f.cr, f.space, f.inner = false, false, false
			f.ends++
			return i + 1
		}
		if f.cr {
			f.put(nil, '\r')
			f.cr = false
		}
		switch {
		case c == '\r':
			f.cr = true
		case f.canon == relaxed && (c == ' ' || c == '\t'):
			f.space, f.inner = true, true
		default:
			n := i + 1
			for n < len(p) && p[n] > ' ' {
				n++
			}
			f.put(p[i+1:n], c)
			i = n - 1
		}
	}
	return len(p)
}

// put writes one byte of a line, and those that follow it.
func (f *form) put(rest []byte, c byte) {
	f.inner = true
	if f.ends > 0 || f.space {
		f.settle()
	}
	if len(f.buf) == cap(f.buf) {
		f.flush()
	}
	f.buf = append(f.buf, c)
	f.emit(rest)
}

// finish ends the body. RFC 6376 section 3.4.3: a body that does not end with
// CRLF gets one, and an empty one too in simple form; section 3.4.4: in relaxed
// form an empty body stays empty.
func (f *form) finish() {
	if f.cr {
		f.put(nil, '\r')
	}
	f.ends, f.space = 0, false
	if f.canon == simple || f.length+int64(len(f.buf)) > 0 {
		f.emit(crlf)
	}
	f.flush()
}
