package mail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"sort"
	"sync/atomic"
)

// A source holds the bytes that parts lie in: a message in memory, a message
// in a file, or what a part decodes to. It never changes.
type source struct {
	b    []byte      // all of it, when r is nil
	r    io.ReaderAt // where it is read from otherwise
	size int64
	err  atomic.Pointer[error] // first read error
}

// inMemory reports whether the whole source is one slice.
func (s *source) inMemory() bool { return s.r == nil }

// fail keeps the first read error.
func (s *source) fail(err error) {
	if err != nil {
		s.err.CompareAndSwap(nil, &err)
	}
}

// failure returns the first read error.
func (s *source) failure() error {
	if p := s.err.Load(); p != nil {
		return *p
	}
	return nil
}

// readAt fills p from off on and returns how much there was. A source that ends
// before its size is a read error: a message cut short must not pass for whole.
func (s *source) readAt(p []byte, off int64) int {
	n, err := s.r.ReadAt(p, off)
	if n < len(p) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		s.fail(fmt.Errorf("read message at %d: %w", off, err))
	}
	return n
}

// slice returns n bytes from off on: without a copy when in memory. After a
// read error it is shorter.
func (s *source) slice(off, n int64) []byte {
	if off < 0 || n <= 0 || off >= s.size {
		return nil
	}
	n = min(n, s.size-off)
	if s.inMemory() {
		return s.b[off : off+n : off+n]
	}
	p := make([]byte, n)
	return p[:s.readAt(p, off)]
}

// reader reads n bytes from off on.
func (s *source) reader(off, n int64) io.Reader {
	if s.inMemory() {
		return bytes.NewReader(s.slice(off, n))
	}
	return io.NewSectionReader(s.r, off, n)
}

// windowSize is how much of a file is looked at at once. Lines longer than that
// are not looked at whole.
const windowSize = 64 << 10

// pageSize is that of most systems: reading whole pages is cheapest.
const pageSize = 4 << 10

// A window moves over a region of a source, forwards only.
type window struct {
	s    *source
	buf  []byte // what of a file is at hand
	base int64  // offset of buf[0]
	end  int64  // of the region

	count bool  // count what passes through
	crs   int64 // CR bytes seen
	nul   int64 // offset of the first NUL, -1 if none
}

// newWindow returns a window over [start, end) of s.
func newWindow(s *source, start, end int64, count bool) window {
	w := window{s: s, base: start, end: min(end, s.size), count: count, nul: -1}
	if s.inMemory() && count && start < w.end {
		w.tally(s.b[start:w.end], start)
	}
	return w
}

// tally counts CR and finds NUL in bytes seen for the first time.
func (w *window) tally(b []byte, off int64) {
	w.crs += int64(bytes.Count(b, crByte))
	if w.nul < 0 {
		if i := bytes.IndexByte(b, 0); i >= 0 {
			w.nul = off + int64(i)
		}
	}
}

var crByte = []byte{'\r'}

// from returns the bytes from pos on: all of the region when in memory, else as
// much as fits in the window. An empty slice is the end of the region.
func (w *window) from(pos int64) []byte {
	if pos >= w.end {
		return nil
	}
	if w.s.inMemory() {
		return w.s.b[pos:w.end]
	}
	if w.buf == nil {
		w.buf = make([]byte, 0, min(windowSize, w.end-pos))
	}
	have := w.base + int64(len(w.buf))
	if pos < w.base || pos > have { // a jump: nothing at hand is of use
		w.base, w.buf, have = pos, w.buf[:0], pos
	}
	rest := w.buf[pos-w.base:]
	if have < w.end && len(rest) < windowSize/2 {
		n := copy(w.buf[:cap(w.buf)], rest)
		w.base = pos
		more := int(min(int64(cap(w.buf)-n), w.end-have))
		if odd := int((have + int64(more)) % pageSize); more > 2*pageSize && have+int64(more) < w.end {
			more -= odd // what is read next begins with a page
		}
		got := w.s.readAt(w.buf[n:n+more], have)
		w.buf = w.buf[:n+got]
		if w.count {
			w.tally(w.buf[n:], have)
		}
		if got < more { // read error: the region ends here
			w.end = have + int64(got)
		}
		rest = w.buf
	}
	return rest
}

// lines yields the lines of a new window, each with its end and after the offset
// where it begins. One that does not fit in the window comes in pieces.
func (w *window) lines() iter.Seq2[int64, []byte] {
	return func(yield func(int64, []byte) bool) {
		for pos := w.base; ; {
			data := w.from(pos)
			if len(data) == 0 {
				return
			}
			n := bytes.IndexByte(data, '\n') + 1
			if n == 0 {
				n = len(data)
			}
			if !yield(pos, data[:n]) {
				return
			}
			pos += int64(n)
		}
	}
}

// A splice is a source made of pieces: of another source and of new bytes. It
// is an io.ReaderAt.
type splice struct {
	pieces []piece
	size   int64
}

// A piece is a run of bytes of a splice.
type piece struct {
	at   int64 // where it begins in the splice
	b    []byte
	r    io.ReaderAt // when b is nil
	from int64       // in r
	n    int64
}

// add appends bytes.
func (sp *splice) add(b []byte) {
	if len(b) == 0 {
		return
	}
	sp.pieces = append(sp.pieces, piece{at: sp.size, b: b, n: int64(len(b))})
	sp.size += int64(len(b))
}

// addFrom appends [off, off+n) of s.
func (sp *splice) addFrom(s *source, off, n int64) {
	if n <= 0 {
		return
	}
	if s.inMemory() {
		sp.add(s.slice(off, n))
		return
	}
	if inner, ok := s.r.(*splice); ok { // keep splices of splices flat
		inner.each(off, n, func(p piece) {
			p.at = sp.size
			sp.pieces = append(sp.pieces, p)
			sp.size += p.n
		})
		return
	}
	sp.pieces = append(sp.pieces, piece{at: sp.size, r: s.r, from: off, n: n})
	sp.size += n
}

// each calls f with the pieces that make up [off, off+n), cut to it.
func (sp *splice) each(off, n int64, f func(piece)) {
	i := sort.Search(len(sp.pieces), func(i int) bool { return sp.pieces[i].at+sp.pieces[i].n > off })
	for ; n > 0 && i < len(sp.pieces); i++ {
		p := sp.pieces[i]
		skip := off - p.at
		p.n = min(p.n-skip, n)
		if p.b != nil {
			p.b = p.b[skip : skip+p.n]
		} else {
			p.from += skip
		}
		p.at = off
		f(p)
		off += p.n
		n -= p.n
	}
}

// ReadAt implements io.ReaderAt.
func (sp *splice) ReadAt(dst []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read splice: negative offset")
	}
	done := 0
	var err error
	sp.each(off, int64(len(dst)), func(p piece) {
		if err != nil {
			return
		}
		to := dst[done : done+int(p.n)]
		if p.b != nil {
			done += copy(to, p.b)
			return
		}
		var n int
		n, err = p.r.ReadAt(to, p.from)
		done += n
		if n == len(to) {
			err = nil
		}
	})
	if err == nil && done < len(dst) {
		err = io.EOF
	}
	return done, err
}

// slices returns the pieces if all are in memory.
func (sp *splice) slices() ([][]byte, bool) {
	out := make([][]byte, len(sp.pieces))
	for i, p := range sp.pieces {
		if p.b == nil {
			return nil, false
		}
		out[i] = p.b
	}
	return out, true
}
