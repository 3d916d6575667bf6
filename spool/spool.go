package spool

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Errors that callers tell apart.
var (
	// ErrFull means that free space is below Options.Reserve, or that there is
	// none: mail is refused with 452 4.3.1 until there is space again.
	ErrFull = errors.New("spool is full")
	// ErrNotFound means that there is no entry of that id: it is done, or it
	// never was.
	ErrNotFound = errors.New("no such entry in the spool")
	// ErrCorrupt means that the content on disk is not what was committed.
	ErrCorrupt = errors.New("content in the spool is damaged")
	// ErrClosed means that the spool has been closed.
	ErrClosed = errors.New("spool is closed")
)

// Options are the settings of a Spool.
type Options struct {
	Memory  int              // bytes of one message that are held in memory; 0: 256 KiB
	Reserve int64            // free space to leave on the file system
	Segment int64            // bytes after which the log goes on in a new file; 0: 32 MiB
	Linger  time.Duration    // after that what is finished is gone from the log; 0: 15 minutes
	Now     func() time.Time // nil: time.Now
	Rand    io.Reader        // nil: crypto/rand
	Log     *slog.Logger     // alerts; nil: none

	disk disk // nil: the real one
}

func (o *Options) setDefaults() {
	if o.Memory <= 0 {
		o.Memory = 256 << 10
	}
	if o.Segment <= 0 {
		o.Segment = 32 << 20
	}
	if o.Linger <= 0 {
		o.Linger = 15 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.disk == nil {
		o.disk = osDisk{}
	}
}

// A Spool keeps messages on disk. Its methods may be called from many
// goroutines.
type Spool struct {
	dir    string
	opt    Options
	disk   disk
	log    *slog.Logger
	now    func() time.Time
	unlock func()
	prefix string // of the file names of this run
	names  atomic.Uint64
	seen   atomic.Pointer[freeSpace] // by Room

	mu       sync.Mutex
	items    map[string]*item
	order    uint64          // of the last item
	reserved map[string]bool // ids of commits under way
	waiting  []*request      // for the writer
	scrubs   []chan error    // who waits for the log to be scrubbed
	closed   bool
	aside    int // entries and damaged ranges set aside since Open

	wake    chan struct{}
	closing chan struct{}
	stopped chan struct{}
	w       writer // belongs to the writer goroutine
}

// An item is an entry in the index. Its state stays encoded until somebody
// asks for it: a hundred thousand deferred messages must fit in memory.
type item struct {
	id      string
	order   uint64
	entry   []byte
	content *content
	states  []*segment // that have state frames of it, since content was written; the newest last
}

// A content is the content of one or more entries of one commit.
type content struct {
	layout
	seg    *segment
	at     int64 // offset of the inline bytes in the segment
	bodies []*body
	items  []*item
}

// A body is a file in the body directory: a content that was too large for the
// log.
type body struct {
	bodyFile
	refs int  // contents that it is part of
	held bool // by a Buffer or by a commit under way
}

// Open opens the spool in dir, which is made if it is not there, and recovers
// what an earlier process left. Only one process can have it open.
func Open(dir string, o Options) (*Spool, error) {
	o.setDefaults()
	s := &Spool{
		dir: dir, opt: o, disk: o.disk, log: o.Log, now: o.Now,
		items: map[string]*item{}, reserved: map[string]bool{},
		wake: make(chan struct{}, 1), closing: make(chan struct{}), stopped: make(chan struct{}),
	}
	var random [8]byte
	if _, err := io.ReadFull(o.Rand, random[:]); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	s.prefix = hex.EncodeToString(random[:]) + "-"
	for _, d := range []string{dir, s.logDir(), s.bodyDir(), s.tmpDir(), s.corruptDir()} {
		if err := s.disk.MkdirAll(d); err != nil {
			return nil, fmt.Errorf("make spool directory: %w", err)
		}
	}
	unlock, err := s.disk.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lock spool %s: %w", dir, err)
	}
	s.unlock = unlock
	if err := s.recover(); err != nil {
		unlock()
		return nil, fmt.Errorf("recover spool %s: %w", dir, err)
	}
	go s.write()
	return s, nil
}

// Close writes what is still to be written and ends the use of the spool.
// Buffers and Readers must be done with before.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.closing)
	<-s.stopped
	s.unlock()
	return s.w.closeErr
}

// List returns all entries, in the order in which they were committed.
func (s *Spool) List() []Entry {
	s.mu.Lock()
	all := make([]*item, 0, len(s.items))
	encoded := make([][]byte, 0, len(s.items))
	for _, it := range s.items {
		all = append(all, it)
	}
	slices.SortFunc(all, func(a, b *item) int { return int(int64(a.order - b.order)) })
	for _, it := range all {
		encoded = append(encoded, it.entry)
	}
	s.mu.Unlock()
	entries := make([]Entry, 0, len(encoded))
	for _, b := range encoded {
		if e, err := decodeEntry(b); err == nil { // always: it was checked when it was read
			entries = append(entries, e)
		}
	}
	return entries
}

// Len returns the number of entries.
func (s *Spool) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.items)
}

// Get returns an entry.
func (s *Spool) Get(id string) (Entry, error) {
	s.mu.Lock()
	it := s.items[id]
	s.mu.Unlock()
	if it == nil {
		return Entry{}, ErrNotFound
	}
	return decodeEntry(it.entry)
}

// Update records the new state of an entry: its recipients' states (in the
// entry's order), its times, upstream, Suspended and Warned. What the transaction brought stays as it is,
// and demands are only ever tightened: an Update with laxer ones keeps the old.
// A recipient that is done stays done.
//
// The new state holds at once and is in the log when Update returns; it is
// synced within a second. A power failure before that may repeat a delivery
// attempt. If demands were tightened, or Suspended changed, it is synced when
// Update returns.
//
// An error other than ErrNotFound and ErrClosed means that the new state holds
// but is not on disk yet; writing it is tried again until it succeeds.
func (s *Spool) Update(e Entry) error {
	s.mu.Lock()
	it := s.items[e.ID]
	if it == nil {
		s.mu.Unlock()
		return ErrNotFound
	}
	old, err := decodeEntry(it.entry)
	if err != nil {
		s.mu.Unlock()
		return fmt.Errorf("update entry %s: %w", e.ID, err)
	}
	next := merge(old, e)
	var w encoder
	w.b = make([]byte, 0, len(it.entry)+64)
	w.entry(&next)
	r := &request{kind: kindState, meta: w.b, item: it}
	r.sync = next.Demands != old.Demands || next.Suspended != old.Suspended
	if err := s.enqueue(r); err != nil {
		s.mu.Unlock()
		return err
	}
	it.entry = w.b
	s.mu.Unlock()
	if err := r.wait(); err != nil {
		return fmt.Errorf("update entry %s: %w", e.ID, err)
	}
	return nil
}

// merge returns old with what may change taken from e.
func merge(old, e Entry) Entry {
	next := old
	next.To = slices.Clone(old.To)
	for i := range next.To {
		if next.To[i].State == Pending && i < len(e.To) && e.To[i].Path == next.To[i].Path {
			to := e.To[i]
			to.Recipient = next.To[i].Recipient
			next.To[i] = to
		}
	}
	next.Upstream = e.Upstream
	next.Demands = old.Demands.Tighten(e.Demands)
	next.Attempts, next.LastAttempt, next.NextAttempt = e.Attempts, e.LastAttempt, e.NextAttempt
	next.Suspended, next.Warned = e.Suspended, old.Warned || e.Warned
	return next
}

// Remove takes an entry out: it is done. It is out at once, in the log when
// Remove returns, and synced within a second: a power failure before that may
// repeat the delivery. For errors see Update.
func (s *Spool) Remove(id string) error {
	s.mu.Lock()
	it := s.items[id]
	if it == nil {
		s.mu.Unlock()
		return ErrNotFound
	}
	var w encoder
	w.string(id)
	r := &request{kind: kindRemove, meta: w.b}
	if err := s.enqueue(r); err != nil {
		s.mu.Unlock()
		return err
	}
	r.bodies = s.drop(it)
	s.mu.Unlock()
	if err := r.wait(); err != nil {
		return fmt.Errorf("remove entry %s: %w", id, err)
	}
	return nil
}

// drop takes an item out of the index and returns the bodies that nobody needs
// any more. s.mu is held.
func (s *Spool) drop(it *item) []*body {
	delete(s.items, it.id)
	it.soil()
	c := it.content
	c.items = slices.DeleteFunc(c.items, func(other *item) bool { return other == it })
	if len(c.items) > 0 {
		return nil
	}
	c.seg.forget(c)
	var unused []*body
	for _, b := range c.bodies {
		if b.refs--; b.refs == 0 {
			unused = append(unused, b)
		}
	}
	return unused
}

// Aside returns how many entries and damaged pieces of the log were set aside
// since Open.
func (s *Spool) Aside() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aside
}

// Free returns the bytes that may be used before ErrFull: none below the
// reserve.
func (s *Spool) Free() (int64, error) {
	n, err := s.disk.Free(s.dir)
	if err != nil {
		return 0, fmt.Errorf("ask free space of spool: %w", err)
	}
	return max(n-s.opt.Reserve, 0), nil
}

// Room reports whether a message of that size, zero if it is not known, may be
// received now without reaching into the reserve. When the disk cannot be asked
// there is none. That there was room holds for a moment; a Buffer looks again
// while it grows.
func (s *Spool) Room(size int64) bool {
	seen := s.seen.Load()
	if seen == nil || time.Since(seen.at) > freeHolds {
		n, err := s.Free()
		if err != nil || n <= size {
			return false
		}
		seen = &freeSpace{at: time.Now(), n: n}
		s.seen.Store(seen)
	}
	return seen.n > size
}

// freeHolds is for how long a look at the free space tells enough for Room.
const freeHolds = 100 * time.Millisecond

// A freeSpace is what a look at the free space has told.
type freeSpace struct {
	at time.Time
	n  int64
}

// checkFree returns ErrFull if n more bytes would reach into the reserve.
func (s *Spool) checkFree(n int64) error {
	free, err := s.Free()
	if err != nil {
		return err
	}
	if free <= n {
		return ErrFull
	}
	return nil
}

// fullOr makes ErrFull of what the system says when the disk or the quota is
// used up.
func fullOr(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

func (s *Spool) logDir() string     { return filepath.Join(s.dir, "log") }
func (s *Spool) bodyDir() string    { return filepath.Join(s.dir, "body") }
func (s *Spool) tmpDir() string     { return filepath.Join(s.dir, "tmp") }
func (s *Spool) corruptDir() string { return filepath.Join(s.dir, "corrupt") }

// nextName returns a file name that no earlier run has used.
func (s *Spool) nextName() string {
	return s.prefix + strconv.FormatUint(s.names.Add(1), 36)
}

// letGo ends the hold of a Buffer or a commit on bodies. Those that nobody
// needs are removed after the next sync of the log.
func (s *Spool) letGo(bodies ...*body) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var unused []*body
	for _, b := range bodies {
		b.held = false
		if b.refs == 0 {
			unused = append(unused, b)
		}
	}
	if len(unused) > 0 {
		s.waiting = append(s.waiting, &request{bodies: unused}) // also after Close: then Open removes them
		s.signal()
	}
}
