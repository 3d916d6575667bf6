package spool

import (
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// lazySync is how long what nobody waits for may be unsynced.
const lazySync = time.Second

// stagingSize is how much is gathered for one write to the log.
const stagingSize = 1 << 20

// A request is one frame for the log, or with no kind only bodies to remove
// after the next sync.
type request struct {
	kind     kind
	meta     []byte
	body     [][]byte
	bodySize int64
	sync     bool       // the caller waits for the sync, not only for the write
	done     chan error // nil for what nobody waits for
	answered bool
	commit   *commit
	item     *item   // whose state it is
	bodies   []*body // removed after the sync, if still unused

	seg *segment // where it was written
	at  int64
}

// A commit is what becomes of a commit frame in the index once it is synced.
type commit struct {
	layouts []layout
	bodies  [][]*body
	copies  []copyMeta
	ids     []string
	moved   *content // it is a copy forward of this one
}

// enqueue gives r to the writer. s.mu is held.
func (s *Spool) enqueue(r *request) error {
	if s.closed {
		return ErrClosed
	}
	r.done = make(chan error, 1)
	s.waiting = append(s.waiting, r)
	s.signal()
	return nil
}

func (s *Spool) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (r *request) wait() error { return <-r.done }

// answer tells the caller, who is told only once.
func (r *request) answer(err error) {
	if r.done != nil && !r.answered {
		r.answered = true
		r.done <- err
	}
}

// A segment is one file of the log.
type segment struct {
	number  uint64
	name    string
	marker  marker
	size    int64 // bytes that count
	synced  int64 // of them
	epoch   uint64
	live    map[*content]bool // guarded by Spool.mu
	bytes   int64             // of live contents and their entries; guarded by Spool.mu
	soiled  time.Time         // since when something in it is finished; guarded by Spool.mu
	gone    bool              // it was removed; guarded by Spool.mu
	unsaved bool              // it has damage that could not be kept elsewhere
}

// forget takes a content out of the segment's live ones. Spool.mu is held.
func (g *segment) forget(c *content) {
	if g.live[c] {
		delete(g.live, c)
		g.bytes -= c.cost()
	}
}

// remember adds a content to the segment's live ones. Spool.mu is held.
func (g *segment) remember(c *content) {
	g.live[c] = true
	g.bytes += c.cost()
}

// cost is what a live content takes in the log, about.
func (c *content) cost() int64 { return c.inline + 512 }

// A writer is the one goroutine that writes the log.
type writer struct {
	segments []*segment // oldest first; changed under Spool.mu
	active   *segment   // nil: the next write begins one
	file     file       // of active
	next     uint64     // number of the next segment
	voids    []void
	staging  []byte
	unsynced []*request // written since the last sync
	again    []*request // to be written once more: their segment was given up
	failing  bool       // the last attempt failed: said once
	hold     time.Time  // until then the log is not cleaned: that failed
	closeErr error
}

// write is the writer's goroutine.
func (s *Spool) write() {
	defer close(s.stopped)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	linger := time.NewTimer(time.Hour)
	defer linger.Stop()
	armed, lingering := false, false
	for {
		if wait, ok := s.untilScrub(); ok && !lingering {
			linger.Reset(wait)
			lingering = true
		}
		final, tick := false, false
		select {
		case <-s.wake:
		case <-timer.C:
			tick, armed = true, false
		case <-linger.C:
			lingering = false
		case <-s.closing:
			final = true
		}
		s.flush(tick || final)
		if final {
			s.flush(true) // what came in between
			s.w.closeErr = s.finish()
			for _, done := range s.scrubs { // nobody adds to them after closed
				done <- ErrClosed
			}
			return
		}
		if s.clean() {
			s.signal() // there is more to do
		}
		s.scrubDue()
		if !armed && (len(s.w.unsynced)+len(s.w.again) > 0 || s.w.failing) {
			timer.Reset(lazySync)
			armed = true
		}
	}
}

// finish closes the log.
func (s *Spool) finish() error {
	w := &s.w
	var err error
	if n := len(w.again) + len(w.unsynced); n > 0 {
		err = fmt.Errorf("close spool: %d state changes could not be written", n)
	}
	if w.file != nil {
		w.file.Close()
	}
	return err
}

// flush writes everything that waits as one group, and syncs it if somebody
// waits for that, or if it must.
func (s *Spool) flush(must bool) {
	w := &s.w
	s.mu.Lock()
	group := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	group = append(w.again, group...)
	w.again = nil
	if len(group) == 0 && must && w.failing && w.active == nil {
		if err := s.nextSegment(); err != nil {
			return // said already; tried again with the next tick
		}
	}
	if len(group) == 0 && (!must || len(w.unsynced) == 0) {
		return
	}
	sync := must
	for _, r := range group {
		sync = sync || r.sync
	}
	if err := s.writeGroup(group); err != nil {
		s.giveUp(group, err)
		return
	}
	for _, r := range group {
		if !r.sync {
			r.answer(nil)
		}
	}
	w.unsynced = append(w.unsynced, group...)
	if !sync {
		return
	}
	if err := s.syncLog(); err != nil {
		s.giveUp(nil, err)
	}
}

// writeGroup writes the frames of a group to the active segment.
func (s *Spool) writeGroup(group []*request) error {
	w := &s.w
	frames := slices.ContainsFunc(group, func(r *request) bool { return r.kind != 0 })
	if frames && (w.active == nil || w.active.size >= s.opt.Segment) {
		if err := s.nextSegment(); err != nil {
			return err
		}
	}
	w.staging = w.staging[:0]
	for _, r := range group {
		if r.kind == 0 {
			continue
		}
		h := frameHeader{version: frameVersion, kind: r.kind, epoch: w.active.epoch,
			meta: int64(len(r.meta)), body: r.bodySize, metaSum: crc32.Checksum(r.meta, castagnoli)}
		r.seg, r.at = w.active, w.active.size+int64(len(w.staging))
		w.staging = h.encode(w.staging, w.active.marker)
		if err := w.stage(r.meta); err != nil {
			return err
		}
		for _, b := range r.body {
			if err := w.stage(b); err != nil {
				return err
			}
		}
	}
	if err := w.flushStaging(); err != nil {
		return err
	}
	s.noteStates(group)
	return nil
}

// stage adds b to what is written next.
func (w *writer) stage(b []byte) error {
	if len(w.staging)+len(b) > stagingSize {
		if err := w.flushStaging(); err != nil {
			return err
		}
	}
	if len(b) > stagingSize/2 {
		return w.writeOut(b)
	}
	w.staging = append(w.staging, b...)
	return nil
}

func (w *writer) flushStaging() error {
	b := w.staging
	w.staging = w.staging[:0]
	if len(b) == 0 {
		return nil
	}
	return w.writeOut(b)
}

func (w *writer) writeOut(b []byte) error {
	n, err := w.file.Write(b)
	w.active.size += int64(n)
	if err != nil {
		return fmt.Errorf("write log: %w", fullOr(err))
	}
	return nil
}

// nextSegment begins a new segment. What is in the old one is synced first.
func (s *Spool) nextSegment() error {
	w := &s.w
	if w.active != nil {
		if err := s.syncLog(); err != nil {
			return err
		}
		w.file.Close()
		w.active, w.file = nil, nil
	}
	h := segmentHeader{number: w.next, voids: w.voids}
	if _, err := io.ReadFull(s.opt.Rand, h.marker[:]); err != nil {
		return fmt.Errorf("begin segment: %w", err)
	}
	w.next++
	name := filepath.Join(s.logDir(), segmentName(h.number))
	f, err := s.disk.Open(name, os.O_CREATE|os.O_EXCL|os.O_RDWR)
	if err != nil {
		return fmt.Errorf("begin segment: %w", fullOr(err))
	}
	b := h.encode()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.disk.SyncDir(s.logDir())
	}
	if err != nil {
		f.Close()
		s.removeQuietly(name)
		return fmt.Errorf("begin segment: %w", fullOr(err))
	}
	g := &segment{number: h.number, name: name, marker: h.marker, live: map[*content]bool{}}
	g.size, g.synced = int64(len(b)), int64(len(b))
	s.mu.Lock()
	w.segments = append(w.segments, g)
	s.mu.Unlock()
	w.active, w.file = g, f
	if w.failing {
		w.failing = false
		s.log.Info("the spool can write again")
	}
	return nil
}

func segmentName(number uint64) string { return fmt.Sprintf("%016x.log", number) }

// syncLog makes what was written durable, puts it into the index and answers.
func (s *Spool) syncLog() error {
	w := &s.w
	if g := w.active; g != nil && g.size > g.synced {
		if err := w.file.Sync(); err != nil {
			return fmt.Errorf("sync log: %w", fullOr(err))
		}
		g.synced = g.size
		g.epoch++
	}
	written := w.unsynced
	w.unsynced = nil
	var unused []*body
	s.mu.Lock()
	for _, r := range written {
		if r.commit != nil {
			unused = append(unused, s.publish(r)...)
		}
		for _, b := range r.bodies {
			if b.refs == 0 && !b.held {
				unused = append(unused, b)
			}
		}
	}
	s.mu.Unlock()
	for _, r := range written {
		r.answer(nil)
	}
	for _, b := range unused {
		s.removeQuietly(filepath.Join(s.bodyDir(), b.name))
	}
	return nil
}

// publish puts a synced commit into the index. s.mu is held.
func (s *Spool) publish(r *request) []*body {
	contents := make([]*content, len(r.commit.layouts))
	for i, l := range r.commit.layouts {
		contents[i] = &content{layout: l, seg: r.seg, at: r.at + headerSize + int64(len(r.meta)) + l.off, bodies: r.commit.bodies[i]}
	}
	if r.commit.moved != nil {
		return s.move(r.commit.moved, contents[0], len(r.commit.copies))
	}
	for i, c := range r.commit.copies {
		s.order++
		it := &item{id: r.commit.ids[i], order: s.order, entry: c.entry, content: contents[c.content]}
		it.content.items = append(it.content.items, it)
		s.items[it.id] = it
	}
	for _, c := range contents {
		c.seg.remember(c)
		for _, b := range c.bodies {
			b.refs++
		}
	}
	return nil
}

// giveUp ends the use of the active segment after a write or sync failed: what
// the disk has of it since the last sync nobody knows. Commits fail; changes of
// state are written again, to the next segment, which also says that the end of
// this one is void.
func (s *Spool) giveUp(group []*request, cause error) {
	w := &s.w
	if !w.failing {
		w.failing = true
		s.log.Error("the spool cannot write: new mail is refused until it can", "err", cause)
	}
	for _, r := range append(w.unsynced, group...) {
		if r.commit == nil {
			w.again = append(w.again, r)
		}
		r.answer(cause)
	}
	w.unsynced = nil
	g := w.active
	if g == nil {
		return
	}
	w.voids = append(w.voids, void{g.number, g.synced})
	s.mu.Lock()
	g.soil()
	s.mu.Unlock()
	g.size = g.synced
	// A help for disks that are full, no more: the void is what counts.
	if err := w.file.Truncate(g.synced); err != nil {
		s.log.Warn("cannot cut the end off a log segment", "file", g.name, "err", err)
	}
	w.file.Close()
	w.active, w.file = nil, nil
}
