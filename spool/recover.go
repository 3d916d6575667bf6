package spool

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A recovery builds the index from what is on disk.
type recovery struct {
	s      *Spool
	voids  map[uint64]int64
	bodies map[string]*body // in use
	onDisk map[string]bool  // names in the body directory
}

// recover reads the log from the oldest segment on, sets aside what is damaged
// and removes what a crash left unfinished.
func (s *Spool) recover() error {
	r := &recovery{s: s, voids: map[uint64]int64{}, bodies: map[string]*body{}, onDisk: map[string]bool{}}
	names, err := s.disk.Names(s.bodyDir())
	if err != nil {
		return fmt.Errorf("list bodies: %w", err)
	}
	for _, n := range names {
		r.onDisk[n] = true
	}
	before, err := s.disk.Names(s.corruptDir())
	if err != nil {
		return fmt.Errorf("list what was set aside: %w", err)
	}
	for _, n := range before { // their numbers are not used again
		s.w.next = max(s.w.next, numberOf(n)+1)
	}
	if err := r.openSegments(); err != nil {
		return err
	}
	for _, g := range s.w.segments {
		if err := r.replay(g); err != nil {
			return err
		}
	}
	r.checkBodies()
	return r.removeOrphans(len(before) > 0 || s.aside > 0)
}

// numberOf returns the segment that a file in the corrupt directory came from;
// zero if it is not of that kind.
func numberOf(name string) uint64 {
	if len(name) < 17 || !strings.ContainsRune(".-", rune(name[16])) {
		return 0
	}
	n, err := strconv.ParseUint(name[:16], 16, 64)
	if err != nil || n > 1<<62 {
		return 0
	}
	return n
}

// openSegments reads the header of every segment.
func (r *recovery) openSegments() error {
	s := r.s
	names, err := s.disk.Names(s.logDir())
	if err != nil {
		return fmt.Errorf("list log: %w", err)
	}
	for i, n := range names {
		number, err := strconv.ParseUint(strings.TrimSuffix(n, ".log"), 16, 64)
		if err != nil || segmentName(number) != n {
			s.log.Warn("not a file of the spool", "file", filepath.Join(s.logDir(), n))
			continue
		}
		s.w.next = max(s.w.next, number+1)
		if err := r.openSegment(filepath.Join(s.logDir(), n), number, i == len(names)-1); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) openSegment(name string, number uint64, last bool) error {
	s := r.s
	size, err := s.disk.Size(name)
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	f, err := s.disk.Open(name, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	defer f.Close()
	b, err := readSegmentHeader(f, size)
	var h segmentHeader
	n := 0
	if err == nil {
		h, n, err = decodeSegmentHeader(b)
	}
	if err == nil && h.number != number {
		err = fmt.Errorf("%w: segment %d under the name of %d", errMalformed, h.number, number)
	}
	if err != nil {
		if last && size < headerSize && !errors.Is(err, errVersion) {
			// A crash while the segment was begun: no frame follows a header
			// that is not synced.
			s.log.Warn("a log segment that was never begun was removed", "file", name, "bytes", size)
			s.removeQuietly(name)
			return nil
		}
		s.moveAside(name, err)
		return nil
	}
	for _, v := range h.voids {
		r.voids[v.segment] = v.from
	}
	s.w.voids = h.voids // the newest header has them all
	s.w.segments = append(s.w.segments, &segment{
		number: number, name: name, marker: h.marker, size: size, synced: int64(n), live: map[*content]bool{},
	})
	return nil
}

// readSegmentHeader reads no more of a segment than its header, whose neighbours
// may be unreadable.
func readSegmentHeader(f file, size int64) ([]byte, error) {
	b := make([]byte, min(size, int64(segmentPrefix)))
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	n := int64(len(b)) + payloadLength(b)
	if n > min(size, 1<<20) {
		return b, nil // that is no header
	}
	b = make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// A frame is one frame as it was found in a segment.
type frame struct {
	frameHeader
	at   int64
	data []byte // meta
}

// replay applies the frames of one segment to the index.
func (r *recovery) replay(g *segment) error {
	s := r.s
	f, err := s.disk.Open(g.name, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	defer f.Close()
	if from, ok := r.voids[g.number]; ok {
		if from < g.size {
			g.size = from
			g.soil()
		}
	}
	sc := &scanner{f: f, marker: g.marker, end: g.size}
	frames, damaged := sc.all(g.synced)
	var epoch uint64
	for i := range frames {
		epoch = max(epoch, frames[i].epoch)
	}
	for i := range frames {
		fr := &frames[i]
		// What was written after the last sync may be there in parts: the
		// frames before it were synced before these were written.
		if fr.epoch == epoch {
			if err := r.checkContents(f, fr); err != nil {
				damaged = append(damaged, extent{fr.at, fr.at + fr.size(), err})
				continue
			}
		}
		if err := r.apply(g, fr); err != nil {
			damaged = append(damaged, extent{fr.at, fr.at + fr.size(), err})
		}
	}
	for _, d := range damaged {
		g.soil()
		g.unsaved = !s.saveDamage(g, d) || g.unsaved
	}
	g.synced = g.size
	return nil
}

// checkContents compares the contents of a frame with their checksums.
func (r *recovery) checkContents(f file, fr *frame) error {
	if fr.version != frameVersion || fr.kind != kindCommit {
		return nil
	}
	layouts, _, err := decodeCommit(fr.data, fr.body)
	if err != nil {
		return err
	}
	for _, l := range layouts {
		b := make([]byte, l.inline)
		if _, err := f.ReadAt(b, fr.at+headerSize+fr.meta+l.off); err != nil && len(b) > 0 {
			return fmt.Errorf("%w: content: %w", errMalformed, err)
		}
		if crc32.Checksum(b, castagnoli) != l.sum {
			return fmt.Errorf("%w: checksum of content", errMalformed)
		}
	}
	return nil
}

// apply brings one frame into the index.
func (r *recovery) apply(g *segment, fr *frame) error {
	if fr.version != frameVersion {
		return fmt.Errorf("%w: frame version %d", errVersion, fr.version)
	}
	switch fr.kind {
	case kindCommit:
		return r.applyCommit(g, fr)
	case kindState:
		e, err := decodeEntry(fr.data)
		if err != nil {
			return err
		}
		if it := r.s.items[e.ID]; it != nil {
			it.entry = fr.data
			it.note(g)
		} else {
			g.soil()
		}
		return nil
	case kindRemove:
		d := &decoder{b: fr.data}
		id := d.string()
		if d.err != nil || len(d.b) > 0 {
			return errMalformed
		}
		if it := r.s.items[id]; it != nil {
			r.s.drop(it)
		}
		return nil
	}
	return fmt.Errorf("%w: frame of kind %d", errVersion, fr.kind)
}

func (r *recovery) applyCommit(g *segment, fr *frame) error {
	layouts, copies, err := decodeCommit(fr.data, fr.body)
	if err != nil {
		return err
	}
	s := r.s
	contents := make([]*content, len(layouts))
	for i, l := range layouts {
		c := &content{layout: l, seg: g, at: fr.at + headerSize + fr.meta + l.off}
		for _, bf := range l.files {
			b := r.bodies[bf.name]
			if b == nil {
				b = &body{bodyFile: bf}
				r.bodies[bf.name] = b
			}
			c.bodies = append(c.bodies, b)
		}
		contents[i] = c
	}
	var bad error
	for _, cm := range copies {
		e, err := decodeEntry(cm.entry)
		if err != nil {
			bad = err // this one is set aside, its neighbours flow
			continue
		}
		it := &item{id: e.ID, entry: cm.entry, content: contents[cm.content]}
		if old := s.items[e.ID]; old != nil { // copied forward
			it.order = old.order
			s.drop(old)
		} else {
			s.order++
			it.order = s.order
		}
		s.items[it.id] = it
		it.content.items = append(it.content.items, it)
	}
	for _, c := range contents {
		if len(c.items) > 0 {
			g.remember(c)
			for _, b := range c.bodies {
				b.refs++
			}
		}
	}
	return bad
}

// checkBodies sets aside the entries whose body file is gone.
func (r *recovery) checkBodies() {
	s := r.s
	for _, g := range s.w.segments {
		for c := range g.live {
			for _, b := range c.files {
				if !r.onDisk[b.name] {
					s.setContentAside(c, fmt.Errorf("%w: file %s is gone", ErrCorrupt, b.name))
					break
				}
			}
		}
	}
}

// removeOrphans removes what a crash left: buffers, and bodies that no entry
// refers to. If something was set aside, such a body may belong to it, and is
// set aside too.
func (r *recovery) removeOrphans(aside bool) error {
	s := r.s
	names, err := s.disk.Names(s.tmpDir())
	if err != nil {
		return fmt.Errorf("list buffers: %w", err)
	}
	for _, n := range names {
		s.removeQuietly(filepath.Join(s.tmpDir(), n))
	}
	for n := range r.onDisk {
		if b := r.bodies[n]; b != nil && b.refs > 0 {
			continue
		}
		if !aside {
			s.removeQuietly(filepath.Join(s.bodyDir(), n))
		} else if err := s.disk.Rename(filepath.Join(s.bodyDir(), n), filepath.Join(s.corruptDir(), n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Error("cannot set a body aside", "file", n, "err", err)
		}
	}
	return nil
}
