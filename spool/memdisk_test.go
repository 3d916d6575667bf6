package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// errCrashed is what every step says after the crash.
var errCrashed = errors.New("the machine has crashed")

// A memDisk is a file system that knows what is durable: the bytes of a file up
// to its last sync, the names of a directory up to its last sync. It can fail or
// crash at any step.
type memDisk struct {
	mu    sync.Mutex
	names map[string]*memFile // what the running system sees
	safe  map[string]*memFile // what a power failure leaves
	locks map[string]bool

	steps   int
	crashAt int                         // all steps from this one on fail; 0: none
	fault   func(op, name string) error // asked at every step
	seen    []string                    // names of the steps
	free    int64
	badFrom int64 // bytes of segments in [badFrom, badTo) cannot be read
	badTo   int64
	noOpen  error // what opening a segment to read it says; nil: it is opened
}

type memFile struct {
	data   []byte
	synced []byte // content as of the last sync
}

func newMemDisk() *memDisk {
	return &memDisk{names: map[string]*memFile{}, safe: map[string]*memFile{}, locks: map[string]bool{}, free: 1 << 40}
}

// step counts one operation and says whether it fails. d.mu is held.
func (d *memDisk) step(op, name string) error {
	d.steps++
	d.seen = append(d.seen, op+" "+filepath.Base(filepath.Dir(name)))
	if d.crashAt > 0 && d.steps >= d.crashAt {
		return errCrashed
	}
	if d.fault != nil {
		return d.fault(op, name)
	}
	return nil
}

// afterKill returns the disk as a killed process leaves it: whatever was written
// is there.
func (d *memDisk) afterKill() *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := newMemDisk()
	for name, f := range d.names {
		c := &memFile{slices.Clone(f.data), slices.Clone(f.data)}
		n.names[name], n.safe[name] = c, c
	}
	return n
}

// afterPowerFailure returns the disk as a power failure leaves it: what was
// synced is there, of the rest some, in any order.
func (d *memDisk) afterPowerFailure(rnd *rand.Rand) *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := newMemDisk()
	// Names changed since the last sync of their directory may be as before or
	// as after.
	view := map[string]*memFile{}
	for name, f := range d.safe {
		view[name] = f
	}
	for name, f := range d.names {
		if view[name] != f && rnd.IntN(2) == 0 {
			view[name] = f
		}
	}
	for name := range view {
		if d.names[name] == nil && rnd.IntN(2) == 0 {
			delete(view, name)
		}
	}
	for name, f := range view {
		data := slices.Clone(f.synced)
		if len(f.data) > len(data) {
			// Blocks of the tail reach the disk in any order; the others are zeros.
			tail := slices.Clone(f.data[len(data):])
			tail = tail[:rnd.IntN(len(tail)+1)]
			for at := 0; at < len(tail); at += 512 {
				if rnd.IntN(3) == 0 {
					clear(tail[at:min(at+512, len(tail))])
				}
			}
			data = append(data, tail...)
		}
		c := &memFile{data, slices.Clone(data)}
		n.names[name], n.safe[name] = c, c
	}
	return n
}

func (d *memDisk) MkdirAll(string) error { return nil }

func (d *memDisk) Open(name string, flag int) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if flag&(os.O_CREATE|os.O_WRONLY|os.O_RDWR) != 0 {
		if err := d.step("create", name); err != nil {
			return nil, err
		}
	}
	f := d.names[name]
	switch {
	case d.noOpen != nil && flag == os.O_RDONLY && strings.HasSuffix(name, ".log"):
		return nil, &fs.PathError{Op: "open", Path: name, Err: d.noOpen}
	case f == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case f != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case f == nil:
		f = &memFile{}
		d.names[name] = f
	case flag&os.O_TRUNC != 0:
		f.data, f.synced = nil, nil
	}
	return &memHandle{d: d, f: f, name: name}, nil
}

func (d *memDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("rename", to); err != nil {
		return err
	}
	f := d.names[from]
	if f == nil {
		return fs.ErrNotExist
	}
	delete(d.names, from)
	d.names[to] = f
	return nil
}

func (d *memDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("remove", name); err != nil {
		return err
	}
	if d.names[name] == nil {
		return fs.ErrNotExist
	}
	delete(d.names, name)
	return nil
}

func (d *memDisk) Names(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for n := range d.names {
		if filepath.Dir(n) == dir {
			names = append(names, filepath.Base(n))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (d *memDisk) Size(name string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.names[name]; f != nil {
		return int64(len(f.data)), nil
	}
	return 0, fs.ErrNotExist
}

func (d *memDisk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("syncdir", dir+"/"); err != nil {
		return err
	}
	for n := range d.safe {
		if filepath.Dir(n) == dir && d.names[n] != d.safe[n] {
			delete(d.safe, n)
		}
	}
	for n, f := range d.names {
		if filepath.Dir(n) == dir {
			d.safe[n] = f
		}
	}
	return nil
}

func (d *memDisk) Free(string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free, nil
}

func (d *memDisk) setFree(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = n
}

func (d *memDisk) setFault(f func(op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

func (d *memDisk) Lock(name string) (func(), error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locks[name] {
		return nil, errLocked
	}
	d.locks[name] = true
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.locks, name)
	}, nil
}

// files returns the names below a directory, for the tests.
func (d *memDisk) files(dir string) []string {
	names, _ := d.Names(filepath.Join("/spool", dir))
	return names
}

// edit changes the bytes of the only file in dir whose name contains part.
func (d *memDisk) edit(dir, part string, f func(b []byte) []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n, file := range d.names {
		if filepath.Base(filepath.Dir(n)) == dir && strings.Contains(n, part) {
			file.data = f(slices.Clone(file.data))
			file.synced = slices.Clone(file.data)
		}
	}
}

type memHandle struct {
	d      *memDisk
	f      *memFile
	name   string
	closed bool
}

func (h *memHandle) Write(p []byte) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.closed {
		return 0, os.ErrClosed
	}
	err := h.d.step("write", h.name)
	n := len(p)
	if err != nil { // some of it was written all the same
		n /= 2
	}
	h.f.data = append(h.f.data, p[:n]...)
	return n, err
}

func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.closed {
		return 0, os.ErrClosed
	}
	if off >= int64(len(h.f.data)) {
		return 0, io.EOF
	}
	if strings.HasSuffix(h.name, ".log") && off < h.d.badTo && off+int64(len(p)) > h.d.badFrom {
		return 0, syscall.EIO
	}
	n := copy(p, h.f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) Sync() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.step("sync", h.name); err != nil {
		return err
	}
	h.f.synced = slices.Clone(h.f.data)
	return nil
}

func (h *memHandle) Truncate(size int64) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.step("truncate", h.name); err != nil {
		return err
	}
	h.f.data = h.f.data[:size]
	return nil
}

func (h *memHandle) Close() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	h.closed = true
	return nil
}

// failNth returns a fault that gives err at the nth step whose operation and
// directory are what.
func failNth(what string, nth int, err error) func(op, name string) error {
	return func(op, name string) error {
		if op+" "+filepath.Base(filepath.Dir(name)) == what {
			if nth--; nth == 0 {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
		return nil
	}
}

var errNoSpace = &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}

func (d *memDisk) setNoOpen(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noOpen = err
}
