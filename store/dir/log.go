package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"postern/store"
)

const logSuffix = ".log"

// Log is a log in a directory. It implements store.Log.
type Log struct {
	root     string
	readOnly bool
	lock     *os.File

	mu       sync.Mutex
	sections []store.Section
	file     *os.File // the last section's
	failed   error    // a sync of file failed
	repaired string   // what was set aside when it was opened
	closed   bool
}

var _ store.Log = (*Log)(nil)

// OpenLog opens the log for writing and makes it if it is not there;
// store.ErrLocked if another process has it.
func OpenLog(root string) (*Log, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(root, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &Log{root: root, lock: lock}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("open log %s: %w", root, store.ErrLocked)
	}
	if err := l.load(); err != nil {
		l.Close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	return l, nil
}

// ReadLog opens the log for reading only, as it is now, whoever else has it.
func ReadLog(root string) (*Log, error) {
	l := &Log{root: root, readOnly: true}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	return l, nil
}

// load finds the sections and makes the last one ready for writing.
func (l *Log) load() error {
	entries, err := os.ReadDir(l.root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), logSuffix)
		first, err := strconv.ParseUint(base, 10, 64)
		if !ok || err != nil || first == 0 || l.name(first) != e.Name() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		l.sections = append(l.sections, store.Section{First: first, Size: info.Size()})
	}
	slices.SortFunc(l.sections, func(a, b store.Section) int {
		if a.First < b.First {
			return -1
		}
		return 1
	})
	if len(l.sections) == 0 {
		if l.readOnly {
			return nil
		}
		return l.begin(1)
	}
	for i := range len(l.sections) - 1 {
		l.sections[i].Lines = l.sections[i+1].First - l.sections[i].First
	}
	return l.resume(&l.sections[len(l.sections)-1])
}

func (l *Log) name(first uint64) string { return fmt.Sprintf("%020d%s", first, logSuffix) }

func (l *Log) path(first uint64) string { return filepath.Join(l.root, l.name(first)) }

// begin makes an empty section.
func (l *Log) begin(first uint64) error {
	f, err := os.OpenFile(l.path(first), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return full(err)
	}
	if err := syncFolder(l.root); err != nil {
		f.Close()
		os.Remove(l.path(first))
		return full(err)
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file, l.failed = f, nil
	l.sections = append(l.sections, store.Section{First: first})
	return nil
}

// resume counts the lines of the last section and sets aside what follows them:
// half a line, or what a power failure leaves of a write that was not durable.
// File systems fill what they have not written with zeros, between lines that
// they have written too; no line holds a zero.
func (l *Log) resume(s *store.Section) error {
	flags := os.O_RDWR
	if l.readOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(l.path(s.First), flags, 0)
	if err != nil {
		return err
	}
	if err := countLines(f, s); err != nil || l.readOnly {
		return errors.Join(err, f.Close())
	}
	l.file = f
	info, err := f.Stat()
	if err != nil || info.Size() == s.Size {
		return err
	}
	return l.setAside(s, info.Size())
}

// countLines finds the whole lines before the first zero.
func countLines(f io.ReaderAt, s *store.Section) error {
	buf := make([]byte, 1<<16)
	s.Lines, s.Size = 0, 0
	for at := int64(0); ; {
		n, err := f.ReadAt(buf, at)
		text, _, zero := bytes.Cut(buf[:n], []byte{0})
		if i := bytes.LastIndexByte(text, '\n'); i >= 0 {
			s.Size = at + int64(i) + 1
		}
		s.Lines += uint64(bytes.Count(text, []byte{'\n'}))
		at += int64(n)
		if zero || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// setAside moves what follows the last whole line to a file of its own.
func (l *Log) setAside(s *store.Section, end int64) error {
	name := l.tornName(s.First)
	torn, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(torn, io.NewSectionReader(l.file, s.Size, end-s.Size))
	if err == nil {
		_, err = torn.Write([]byte{'\n'})
	}
	if err == nil {
		err = torn.Sync()
	}
	if e := torn.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := l.file.Truncate(s.Size); err != nil {
		return err
	}
	l.repaired = fmt.Sprintf("%d bytes after line %d were not written whole: they were set aside in %s", end-s.Size, s.First+s.Lines-1, filepath.Base(name))
	return l.file.Sync()
}

// tornName is where what is set aside of a section goes.
func (l *Log) tornName(first uint64) string {
	return strings.TrimSuffix(l.path(first), logSuffix) + ".torn"
}

// Repaired implements store.Log.
func (l *Log) Repaired() string { return l.repaired }

// Append implements store.Log.
func (l *Log) Append(_ context.Context, first uint64, lines []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return fmt.Errorf("append to log: %w", err)
	}
	s := &l.sections[len(l.sections)-1]
	if next := s.First + s.Lines; first != next {
		return fmt.Errorf("append to log: line %d does not follow line %d", first, next-1)
	}
	if len(lines) == 0 || lines[len(lines)-1] != '\n' {
		return errors.New("append to log: not whole lines")
	}
	if _, err := l.file.WriteAt(lines, s.Size); err != nil {
		l.file.Truncate(s.Size) // the next Append writes over it anyhow
		return fmt.Errorf("append to log: %w", full(err))
	}
	if err := l.file.Sync(); err != nil {
		// The kernel may have dropped the pages and will not say so again.
		l.failed = err
		return fmt.Errorf("append to log: %w", full(err))
	}
	s.Size += int64(len(lines))
	s.Lines += uint64(bytes.Count(lines, []byte{'\n'}))
	return nil
}

// writable goes on in a new section if the last one cannot be trusted.
func (l *Log) writable() error {
	switch {
	case l.closed:
		return store.ErrClosed
	case l.readOnly:
		return fs.ErrPermission
	case l.failed == nil:
		return nil
	}
	s := l.sections[len(l.sections)-1]
	l.file.Truncate(s.Size)
	if s.Lines > 0 {
		return l.begin(s.First + s.Lines)
	}
	if err := os.Rename(l.path(s.First), l.path(s.First)+".failed"); err != nil {
		return err
	}
	l.sections = l.sections[:len(l.sections)-1]
	return l.begin(s.First)
}

// Roll implements store.Log.
func (l *Log) Roll(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return fmt.Errorf("roll log: %w", err)
	}
	s := l.sections[len(l.sections)-1]
	if s.Lines == 0 {
		return nil
	}
	if err := l.begin(s.First + s.Lines); err != nil {
		return fmt.Errorf("roll log: %w", err)
	}
	return nil
}

// Sections implements store.Log.
func (l *Log) Sections(context.Context) ([]store.Section, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sections), nil
}

// Cut implements store.Log.
func (l *Log) Cut(_ context.Context, first uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, err := l.find(first)
	if err != nil {
		return fmt.Errorf("cut log: %w", err)
	}
	for _, s := range l.sections[:i] {
		if err := os.Remove(l.path(s.First)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cut log: %w", err)
		}
		if err := os.Remove(l.tornName(s.First)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cut log: %w", err)
		}
		l.sections = l.sections[1:]
	}
	if err := syncFolder(l.root); err != nil {
		return fmt.Errorf("cut log: %w", err)
	}
	return nil
}

func (l *Log) find(first uint64) (int, error) {
	if l.closed {
		return 0, store.ErrClosed
	}
	i := slices.IndexFunc(l.sections, func(s store.Section) bool { return s.First == first })
	if i < 0 {
		return 0, store.ErrNotFound
	}
	return i, nil
}

// Close implements store.Log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var errs []error
	if l.file != nil {
		errs = append(errs, l.file.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}
