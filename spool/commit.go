package spool

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"postern/mail"
)

// A Content is what Commit writes. *mail.Message and *Buffer are contents.
//
// A Content may also have the methods Bytes() ([]byte, bool) or Slices()
// ([][]byte, bool), for one that lies in memory, and ReaderAt() io.ReaderAt. If that ReaderAt is a Buffer whose
// content lies in a file, or a Slicer that is made of pieces of one, the file
// becomes part of the spool and nothing of it is copied.
type Content interface {
	Size() int64
	Reader() io.Reader
}

// A Slicer is a reader over pieces. Pieces calls f for each: b is the piece,
// or, if it is nil, the n bytes of r from off on.
type Slicer interface {
	Pieces(f func(b []byte, r io.ReaderAt, off, n int64))
}

// A Draft is one copy to be committed. Drafts whose Content is the same value
// share it on disk; it must be a pointer.
type Draft struct {
	Entry   Entry
	Content Content
}

// Commit makes copies durable, all or none, and returns their ids, in order.
// When it returns without an error everything is on disk, synced. When it
// returns an error nothing of it will be delivered. Only a crash while the disk
// fails may leave copies that nobody was told of: then the client's next attempt
// makes second ones.
//
// Commits that come at the same time share one sync.
func (s *Spool) Commit(ctx context.Context, copies []Draft) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if len(copies) == 0 {
		return nil, nil
	}
	ids, err := s.reserve(copies)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	defer s.unreserve(ids)
	p := &plan{s: s}
	defer p.close()
	r, err := p.make(copies, ids)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", fullOr(err))
	}
	s.mu.Lock()
	err = s.enqueue(r)
	s.mu.Unlock()
	if err == nil {
		err = r.wait() // whatever ctx says: what is written is written
	}
	if err != nil {
		return nil, fmt.Errorf("commit: %w", fullOr(err))
	}
	return ids, nil
}

// reserve chooses the ids of copies: the entry's own, or the transaction's with
// a number behind it if there are several copies.
func (s *Spool) reserve(copies []Draft) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(copies))
	undo := func() {
		for _, id := range ids {
			delete(s.reserved, id)
		}
	}
	for i := range copies {
		e := &copies[i].Entry
		id := e.ID
		if id == "" && e.Transaction != "" {
			id = e.Transaction
			for n := 2; s.taken(id); n++ {
				id = e.Transaction + "." + strconv.Itoa(n)
			}
		}
		if id == "" {
			id = s.nextName()
		}
		if s.taken(id) {
			undo()
			return nil, fmt.Errorf("entry %q is there already", id)
		}
		s.reserved[id] = true
		ids = append(ids, id)
	}
	return ids, nil
}

func (s *Spool) taken(id string) bool { return s.reserved[id] || s.items[id] != nil }

func (s *Spool) unreserve(ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.reserved, id)
	}
}

// A plan gathers what one commit writes.
type plan struct {
	s       *Spool
	layouts []layout
	bodies  [][]*body // of each layout
	inline  [][]byte  // content bytes for the log, in order
	size    int64     // of inline
	own     []*body   // made here and held until the commit is over
	renamed bool      // the body directory must be synced
}

// close ends the plan's hold on the bodies that it made.
func (p *plan) close() {
	if len(p.own) > 0 {
		p.s.letGo(p.own...)
	}
}

// make lays everything out, syncs what goes to files of its own, and returns
// the frame for the log.
func (p *plan) make(copies []Draft, ids []string) (*request, error) {
	var need int64
	for i := range copies {
		need += copies[i].Content.Size()
	}
	if err := p.s.checkFree(need); err != nil {
		return nil, err
	}
	at := make(map[Content]int, 1)
	metas := make([]copyMeta, len(copies))
	now := p.s.now()
	for i := range copies {
		c := copies[i].Content
		n, ok := at[c]
		if !ok {
			n = len(p.layouts)
			if err := p.add(c); err != nil {
				return nil, err
			}
			at[c] = n
		}
		metas[i] = copyMeta{n, encodeNew(&copies[i].Entry, ids[i], now, c.Size())}
	}
	if p.renamed {
		if err := p.s.disk.SyncDir(p.s.bodyDir()); err != nil {
			return nil, fmt.Errorf("sync body directory: %w", err)
		}
	}
	meta := encodeCommit(p.layouts, metas)
	if len(meta) > maxMeta || p.size > maxBody {
		return nil, errors.New("commit is too large")
	}
	r := &request{kind: kindCommit, meta: meta, body: p.inline, bodySize: p.size, sync: true}
	r.commit = &commit{layouts: p.layouts, bodies: p.bodies, copies: metas, ids: ids}
	return r, nil
}

// add lays out one content.
func (p *plan) add(c Content) error {
	l := layout{size: c.Size(), off: p.size}
	var bodies []*body
	inline := len(p.inline)
	err := p.slice(c, &l, &bodies)
	if err == errTooLarge {
		p.inline = p.inline[:inline]
		l, bodies = layout{size: c.Size(), off: p.size}, nil
		err = p.store(c, &l, &bodies)
	}
	if err != nil {
		return err
	}
	var sum int64
	for _, piece := range l.pieces {
		sum += piece.n
	}
	if sum != l.size {
		return fmt.Errorf("content has %d bytes, not %d", sum, l.size)
	}
	p.size += l.inline
	p.layouts = append(p.layouts, l)
	p.bodies = append(p.bodies, bodies)
	return nil
}

// errTooLarge means that too much of a content would go into the log.
var errTooLarge = errors.New("too large for the log")

// slice lays out c piece by piece: small ones in the log, those of a Buffer's
// file as references to it.
func (p *plan) slice(c Content, l *layout, bodies *[]*body) error {
	if m, ok := c.(interface{ Bytes() ([]byte, bool) }); ok {
		if b, ok := m.Bytes(); ok {
			return p.inlinePiece(b, l)
		}
	}
	if m, ok := c.(interface{ Slices() ([][]byte, bool) }); ok {
		if all, ok := m.Slices(); ok {
			for _, b := range all {
				if err := p.inlinePiece(b, l); err != nil {
					return err
				}
			}
			return nil
		}
	}
	ra, ok := c.(interface{ ReaderAt() io.ReaderAt })
	if !ok {
		return p.readPiece(c.Reader(), c.Size(), l)
	}
	switch r := ra.ReaderAt().(type) {
	case *Buffer:
		return p.bufferPiece(r, 0, c.Size(), l, bodies)
	case Slicer:
		var err error
		r.Pieces(func(b []byte, r io.ReaderAt, off, n int64) {
			if err != nil {
				return
			}
			if b != nil {
				err = p.inlinePiece(b, l)
			} else if buf, ok := r.(*Buffer); ok {
				err = p.bufferPiece(buf, off, n, l, bodies)
			} else {
				err = p.readPiece(io.NewSectionReader(r, off, n), n, l)
			}
		})
		return err
	}
	return p.readPiece(c.Reader(), c.Size(), l)
}

// inlinePiece puts b into the log.
func (p *plan) inlinePiece(b []byte, l *layout) error {
	if len(b) == 0 {
		return nil
	}
	if l.inline+int64(len(b)) > int64(p.s.opt.Memory)+4096 {
		return errTooLarge
	}
	if last := len(l.pieces) - 1; last >= 0 && l.pieces[last].file < 0 {
		l.pieces[last].n += int64(len(b))
	} else {
		l.pieces = append(l.pieces, piece{file: -1, off: l.inline, n: int64(len(b))})
	}
	l.sum = crc32.Update(l.sum, castagnoli, b)
	l.inline += int64(len(b))
	p.inline = append(p.inline, b)
	return nil
}

// readPiece reads n bytes of r and puts them into the log.
func (p *plan) readPiece(r io.Reader, n int64, l *layout) error {
	if l.inline+n > int64(p.s.opt.Memory)+4096 {
		return errTooLarge
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("read content: %w", err)
	}
	return p.inlinePiece(b, l)
}

// bufferPiece refers to n bytes of a Buffer.
func (p *plan) bufferPiece(b *Buffer, off, n int64, l *layout, bodies *[]*body) error {
	if b.err != nil {
		return b.err
	}
	if b.s != p.s || b.file == nil || n <= 4096 {
		return p.readPiece(io.NewSectionReader(b.ReaderAt(), off, n), n, l)
	}
	body, err := b.adopt()
	if err != nil {
		return err
	}
	p.renamed = true
	l.refer(body, off, n, bodies)
	return nil
}

// refer adds n bytes of body to the layout.
func (l *layout) refer(b *body, off, n int64, bodies *[]*body) {
	at := -1
	for i := range *bodies {
		if (*bodies)[i] == b {
			at = i
		}
	}
	if at < 0 {
		at = len(*bodies)
		*bodies = append(*bodies, b)
		l.files = append(l.files, b.bodyFile)
	}
	l.pieces = append(l.pieces, piece{file: at, off: off, n: n})
}

// store writes the whole content to a body of its own.
func (p *plan) store(c Content, l *layout, bodies *[]*body) error {
	b := p.s.Buffer()
	defer b.Discard()
	if err := b.spill(); err != nil {
		return err
	}
	n, err := io.Copy(b, c.Reader())
	if err != nil {
		return fmt.Errorf("write content: %w", err)
	}
	if n != c.Size() {
		return fmt.Errorf("content has %d bytes, not %d", n, c.Size())
	}
	body, err := b.adopt()
	if err != nil {
		return err
	}
	p.renamed = true
	// The plan takes over the hold: the Buffer goes now.
	b.body = nil
	b.file.Close()
	giveMemory(b.mem)
	b.mem, b.file = nil, nil
	p.own = append(p.own, body)
	l.refer(body, 0, n, bodies)
	return nil
}

// adopt makes the Buffer's file a body: synced, and in the body directory. The
// directory still has to be synced, even if an earlier commit renamed the file:
// that one may not have come so far.
func (b *Buffer) adopt() (*body, error) {
	b.commit.Lock()
	defer b.commit.Unlock()
	if b.body != nil {
		return b.body, nil
	}
	if b.bad != nil {
		return nil, b.bad
	}
	b.ReaderAt() // flushes
	if b.err != nil {
		return nil, b.err
	}
	if err := b.file.Sync(); err != nil {
		// What the kernel did with the dirty pages nobody knows: this file is
		// never trusted again.
		b.bad = fmt.Errorf("sync buffer file: %w", err)
		return nil, b.bad
	}
	name := filepath.Base(b.name)
	if err := b.s.disk.Rename(b.name, filepath.Join(b.s.bodyDir(), name)); err != nil {
		b.bad = fmt.Errorf("move buffer file: %w", err)
		return nil, b.bad
	}
	b.body = &body{bodyFile: bodyFile{name, b.flushed, b.crc}, held: true}
	return b.body, nil
}

// encodeNew encodes a new entry.
func encodeNew(e *Entry, id string, now time.Time, size int64) []byte {
	n := *e
	n.ID, n.Size = id, size
	if n.Received.IsZero() {
		n.Received = now
	}
	var w encoder
	w.b = make([]byte, 0, 384+96*len(n.To))
	w.entry(&n)
	return w.b
}

var _ Content = (*mail.Message)(nil)

// removeQuietly removes a file that is of no use; a file left behind is removed
// at the next Open.
func (s *Spool) removeQuietly(name string) {
	if err := s.disk.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("cannot remove spool file", "file", name, "err", err)
	}
}
