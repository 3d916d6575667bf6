package dkim

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"math/bits"
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
	length int64  // written so far
	buf    []byte // written, not yet handed on
	room   [1024]byte

	ends  int  // line ends not yet written
	space bool // relaxed: white space not yet written
	cr    bool // the last byte was CR
}

func newForm(c canon, unix bool) *form {
	f := &form{canon: c, unix: unix}
	f.buf = f.room[:0]
	return f
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
	if len(f.buf)+len(p) > cap(f.buf) {
		f.flush()
	}
	if len(p) < cap(f.buf)/2 {
		f.buf = append(f.buf, p...)
		return
	}
	f.flush()
	f.length += int64(len(p))
	for _, o := range f.outs {
		o.write(p)
	}
}

// settle writes the line ends and the white space that were waiting for
// something to follow.
func (f *form) settle() {
	for ; f.ends > 0; f.ends-- {
		f.emit(crlf)
	}
	if f.space {
		f.emit(blank)
		f.space = false
	}
}

var blank = []byte{' '}

// write takes the next bytes of the body in.
func (f *form) write(p []byte) {
	for len(p) > 0 {
		if n := f.plain(p); n > 0 {
			p = p[n:]
			continue
		}
		p = p[f.odd(p):]
	}
}

// plain takes bytes in that are canonical as they stand, all at once, and
// returns how many they are: not all that there might be.
func (f *form) plain(p []byte) int {
	if f.unix || f.cr || f.space && p[0] <= ' ' {
		return 0
	}
	n := len(p)
	if f.canon == relaxed {
		n = reduced(p)
	}
	if n > 0 && p[n-1] == '\r' {
		n-- // LF may follow
	}
	end, ends := n, 0 // what is written now: without the line ends at its end
	for end > 1 && p[end-1] == '\n' && p[end-2] == '\r' {
		end -= 2
		ends++
	}
	if end > 0 {
		f.settle() // what waited stands before these bytes
		f.emit(p[:end])
	}
	f.ends += ends
	return n
}

// Words of eight equal bytes.
const (
	ones = 0x0101010101010101
	low7 = 0x7f * ones
	high = 0x80 * ones
)

// reduced returns the length of a beginning of p in which white space is
// reduced: nowhere is there a tab, white space beside white space, or at the
// end of a line. It does not end within a line end.
func reduced(p []byte) int {
	i := 0
	for i+8 <= len(p) {
		x := binary.LittleEndian.Uint64(p[i:])
		// The high bit of each byte: of those up to the space; of tabs.
		small := ^((x&low7 + (0x7f-' ')*ones) | x) & high
		tab := x ^ '\t'*ones
		tab = ^((tab&low7 + low7) | tab) & high
		found := small&(small>>8) | tab // the first of two, or a tab
		if found == 0 {
			i += 7 // the last byte may be the first of two
			continue
		}
		i += bits.TrailingZeros64(found) / 8
		if p[i] != '\r' || i+1 == len(p) || p[i+1] != '\n' {
			return i
		}
		i += 2
	}
	return i
}

// odd takes bytes in one by one, until what follows may be plain again, and
// returns how many.
func (f *form) odd(p []byte) int {
	for i, c := range p {
		if c > ' ' && !f.cr && i > 0 && len(p)-i >= 8 && !f.unix {
			return i
		}
		if c == '\n' && (f.cr || f.unix) {
			f.cr, f.space = false, false
			f.ends++
			continue
		}
		if f.cr {
			f.put('\r')
			f.cr = false
		}
		switch {
		case c == '\r':
			f.cr = true
		case f.canon == relaxed && (c == ' ' || c == '\t'):
			f.space = true
		default:
			f.put(c)
		}
	}
	return len(p)
}

// put writes one byte of a line.
func (f *form) put(c byte) {
	if f.ends > 0 || f.space {
		f.settle()
	}
	if len(f.buf) == cap(f.buf) {
		f.flush()
	}
	f.buf = append(f.buf, c)
}

// finish ends the body. RFC 6376 section 3.4.3: a body that does not end with
// CRLF gets one, and an empty one too in simple form; section 3.4.4: in relaxed
// form an empty body stays empty.
func (f *form) finish() {
	if f.cr {
		f.put('\r')
	}
	f.ends, f.space = 0, false
	if f.canon == simple || f.length+int64(len(f.buf)) > 0 {
		f.emit(crlf)
	}
	f.flush()
}
