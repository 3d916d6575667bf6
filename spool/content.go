package spool

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
)

// A Reader reads the content of an entry. Its bytes have been compared with
// their checksums when it was opened. It may be used from many goroutines until
// it is closed; then its memory is used for other mail.
type Reader struct {
	size   int64
	whole  []byte // all of it, if it lies in the log
	pieces []readerPiece
	files  []file
	closed bool
}

// A readerPiece is a run of bytes that begins at start in the content.
type readerPiece struct {
	start int64
	n     int64
	r     io.ReaderAt
	off   int64
}

// Content opens the content of an entry. An error that is ErrCorrupt means that
// it is damaged: the entry should be SetAside.
func (s *Spool) Content(id string) (*Reader, error) {
	for range 3 {
		s.mu.Lock()
		it := s.items[id]
		var c *content
		if it != nil {
			c = it.content
		}
		s.mu.Unlock()
		if c == nil {
			return nil, ErrNotFound
		}
		r, err := s.openContent(c)
		if err == nil {
			return r, nil
		}
		s.mu.Lock()
		moved := s.items[id] != it || it.content != c
		s.mu.Unlock()
		if !moved { // else the log was cleaned meanwhile: look again
			return nil, fmt.Errorf("open content of %s: %w", id, err)
		}
	}
	return nil, ErrNotFound
}

func (s *Spool) openContent(c *content) (*Reader, error) {
	inline, err := s.readInline(c)
	if err != nil {
		return nil, err
	}
	r := &Reader{size: c.size}
	if len(c.files) == 0 {
		r.whole = inline // in order: see layout
		return r, nil
	}
	for _, b := range c.files {
		f, err := s.openBody(b)
		if err != nil {
			r.Close()
			return nil, err
		}
		r.files = append(r.files, f)
	}
	var start int64
	for _, p := range c.pieces {
		rp := readerPiece{start: start, n: p.n, r: bytes.NewReader(inline), off: p.off}
		if p.file >= 0 {
			rp.r = r.files[p.file]
		}
		r.pieces = append(r.pieces, rp)
		start += p.n
	}
	return r, nil
}

// readInline reads the bytes of a content that lie in the log.
func (s *Spool) readInline(c *content) ([]byte, error) {
	if c.inline == 0 {
		return nil, nil
	}
	f, err := s.disk.Open(c.seg.name, os.O_RDONLY)
	if err != nil {
		return nil, missing(err)
	}
	defer f.Close()
	b := takeMemory(int(c.inline))[:c.inline]
	if _, err := f.ReadAt(b, c.at); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: segment is cut", ErrCorrupt)
		}
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != c.sum {
		return nil, fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	return b, nil
}

// openBody opens a body file and compares it with its checksum.
func (s *Spool) openBody(b bodyFile) (file, error) {
	name := filepath.Join(s.bodyDir(), b.name)
	size, err := s.disk.Size(name)
	if err != nil {
		return nil, missing(err)
	}
	if size != b.size {
		return nil, fmt.Errorf("%w: %d bytes, not %d", ErrCorrupt, size, b.size)
	}
	f, err := s.disk.Open(name, os.O_RDONLY)
	if err != nil {
		return nil, missing(err)
	}
	buf := takeMemory(writeBuffer)
	defer giveMemory(buf)
	var sum uint32
	for off := int64(0); off < size; {
		p := buf[:min(int64(cap(buf)), size-off)]
		n, err := f.ReadAt(p, off)
		if n < len(p) {
			f.Close()
			return nil, fmt.Errorf("read body: %w", err)
		}
		sum = crc32.Update(sum, castagnoli, p)
		off += int64(n)
	}
	if sum != b.sum {
		f.Close()
		return nil, fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	return f, nil
}

// missing makes ErrCorrupt of a file that is not there.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// Size returns the length of the content.
func (r *Reader) Size() int64 { return r.size }

// Bytes returns the content if it is in memory. It must not be changed.
func (r *Reader) Bytes() ([]byte, bool) { return r.whole, len(r.files) == 0 }

// ReadAt implements io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if r.closed {
		return 0, os.ErrClosed
	}
	if off < 0 {
		return 0, errors.New("read content: negative offset")
	}
	if len(r.files) == 0 {
		return bytes.NewReader(r.whole).ReadAt(p, off)
	}
	done := 0
	i := sort.Search(len(r.pieces), func(i int) bool { return r.pieces[i].start+r.pieces[i].n > off })
	for ; i < len(r.pieces) && done < len(p); i++ {
		piece := r.pieces[i]
		skip := off + int64(done) - piece.start
		want := p[done:min(int64(len(p)), int64(done)+piece.n-skip)]
		n, err := piece.r.ReadAt(want, piece.off+skip)
		done += n
		if n < len(want) {
			return done, fmt.Errorf("read content: %w", err)
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// Close ends the use of the Reader.
func (r *Reader) Close() error {
	var err error
	for _, f := range r.files {
		err = errors.Join(err, f.Close())
	}
	if len(r.files) == 0 {
		giveMemory(r.whole)
	}
	r.files, r.pieces, r.whole, r.closed = nil, nil, nil, true
	return err
}
