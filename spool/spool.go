package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrFull means that free space is below Options.Reserve, or that there is
// none: mail is refused with 452 4.3.1 until there is space again.
var ErrFull = errors.New("spool is full")

// Options are the settings of a Spool.
type Options struct {
	Memory  int              // bytes of one message that are held in memory; 0: 256 KiB
	Reserve int64            // free space to leave on the file system
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // alerts; nil: none

	disk disk // nil: the real one
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

	mu sync.Mutex
}

// A body is a file in the body directory: the content of a message that was too
// large for the log.
type body struct {
	name string
	refs int
	held bool // by a Buffer
}

// Open opens the spool in dir, which is made if it is not there. Only one
// process can have it open.
func Open(dir string, o Options) (*Spool, error) {
	if o.Memory <= 0 {
		o.Memory = 256 << 10
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.disk == nil {
		o.disk = osDisk{}
	}
	s := &Spool{dir: dir, opt: o, disk: o.disk, log: o.Log, now: o.Now}
	s.prefix = strconv.FormatInt(o.Now().UnixNano(), 36) + "-"
	for _, d := range []string{dir, s.tmpDir()} {
		if err := s.disk.MkdirAll(d); err != nil {
			return nil, fmt.Errorf("make spool directory: %w", err)
		}
	}
	unlock, err := s.disk.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lock spool %s: %w", dir, err)
	}
	s.unlock = unlock
	return s, nil
}

// Close ends the use of the spool.
func (s *Spool) Close() error {
	s.unlock()
	return nil
}

// Free returns the bytes that may be used before ErrFull.
func (s *Spool) Free() (int64, error) {
	n, err := s.disk.Free(s.dir)
	if err != nil {
		return 0, err
	}
	return n - s.opt.Reserve, nil
}

// checkFree returns ErrFull below the reserve.
func (s *Spool) checkFree() error {
	n, err := s.Free()
	if err != nil {
		return err
	}
	if n <= 0 {
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

func (s *Spool) tmpDir() string { return filepath.Join(s.dir, "tmp") }

// nextName returns a file name that no earlier run has used.
func (s *Spool) nextName() string {
	return s.prefix + strconv.FormatUint(s.names.Add(1), 36)
}

// letGo ends a Buffer's hold on a body.
func (s *Spool) letGo(b *body) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.held = false
}
