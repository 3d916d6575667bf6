package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// A disk is the file system below the spool. Tests put one in its place that
// fails, fills up or stops at the nth step.
type disk interface {
	MkdirAll(dir string) error
	Open(name string, flag int) (file, error) // flag as for os.OpenFile; new files are 0600
	Rename(from, to string) error
	Remove(name string) error
	Names(dir string) ([]string, error)          // plain files only, sorted
	Size(name string) (int64, error)             // fs.ErrNotExist if there is none
	SyncDir(dir string) error                    // makes creations, renames and removals in dir durable
	Free(dir string) (int64, error)              // bytes that we may still use
	Lock(name string) (unlock func(), err error) // errLocked if another process has it
}

// A file is an open file of a disk.
type file interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Sync() error // data and whatever is needed to read it back
	Truncate(size int64) error
}

var errLocked = errors.New("in use by another process")

// osDisk is the real file system.
type osDisk struct{}

type osFile struct{ *os.File }

func (osDisk) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (osDisk) Open(name string, flag int) (file, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }
func (osDisk) Remove(name string) error     { return os.Remove(name) }

func (osDisk) Names(dir string) ([]string, error) {
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range all {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (osDisk) Size(name string) (int64, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (osDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osDisk) Free(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// Lock takes an advisory lock that ends with the process, however it ends.
func (osDisk) Lock(name string) (func(), error) {
	f, err := os.OpenFile(filepath.Clean(name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}
