// Package dir keeps blobs and a log as files in a directory.
//
// Blobs are files in 256 subfolders. A blob is written under a name that ends
// in ".part", synced, renamed and its folder synced: whatever happens, a name
// that can be opened holds all its bytes.
//
// A Log is a row of files, each named after the number of its first line. One
// process at a time writes it; a lock sees to that.
//
// # Diagnostics
//
// A disk or quota without room, and fewer free bytes than the reserve, are
// store.ErrFull. A log file with fewer lines than its successor's name promises
// is a store.DamageError. Half a line at the end of the last file is what a
// crash leaves: it was never acknowledged and is set aside in a file that ends
// in ".torn". After a failed sync a file is not written to any more: the log
// goes on in a new one.
package dir

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"postern/store"
)

// partSuffix ends the names of blobs that are not complete.
const partSuffix = ".part"

// partAge is how old an incomplete blob must be for Open to remove it: no Put
// takes that long.
const partAge = 24 * time.Hour

// Blobs keeps blobs in a directory. It implements store.Blobs.
type Blobs struct {
	root    string
	reserve int64
}

var _ store.Blobs = (*Blobs)(nil)

// BlobOptions are the settings of Blobs.
type BlobOptions struct {
	Reserve int64            // free bytes that Put leaves on the disk
	Now     func() time.Time // default: time.Now
}

// OpenBlobs opens the directory and makes it if it is not there.
func OpenBlobs(root string, o BlobOptions) (*Blobs, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	b := &Blobs{root: root, reserve: o.Reserve}
	err := b.walk(context.Background(), func(path string, info fs.FileInfo) error {
		if strings.HasSuffix(path, partSuffix) && o.Now().Sub(info.ModTime()) > partAge {
			return os.Remove(path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	return b, nil
}

// path returns the folder and file of a name.
func (b *Blobs) path(name string) (folder, file string, err error) {
	if name == "" || len(name) > 128 {
		return "", "", fmt.Errorf("blob name %q: bad length", name)
	}
	h := fnv.New32a()
	for i := 0; i < len(name); i++ {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return "", "", fmt.Errorf("blob name %q: bad character", name)
		}
		h.Write([]byte{c})
	}
	folder = filepath.Join(b.root, fmt.Sprintf("%02x", byte(h.Sum32())))
	return folder, filepath.Join(folder, name), nil
}

// Put implements store.Blobs.
func (b *Blobs) Put(ctx context.Context, name string, r io.Reader) (int64, error) {
	folder, file, err := b.path(name)
	if err != nil {
		return 0, err
	}
	if err := b.room(); err != nil {
		return 0, fmt.Errorf("put blob: %w", err)
	}
	if err := makeFolder(folder); err != nil {
		return 0, fmt.Errorf("put blob: %w", full(err))
	}
	f, err := os.OpenFile(file+partSuffix, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("put blob %s: %w", name, store.ErrExists)
	}
	if err != nil {
		return 0, fmt.Errorf("put blob: %w", full(err))
	}
	n, err := int64(0), store.ErrExists
	if _, e := os.Lstat(file); e != nil { // nobody else can make it: we have its .part
		n, err = fill(ctx, f, r)
	} else {
		f.Close()
	}
	if err == nil {
		err = os.Rename(file+partSuffix, file)
	}
	if err != nil {
		os.Remove(file + partSuffix)
		return 0, fmt.Errorf("put blob %s: %w", name, full(err))
	}
	if err := syncFolder(folder); err != nil {
		os.Remove(file)
		return 0, fmt.Errorf("put blob %s: %w", name, full(err))
	}
	return n, nil
}

// fill writes what r gives to f, syncs and closes it.
func fill(ctx context.Context, f *os.File, r io.Reader) (int64, error) {
	n, err := io.Copy(f, reader{ctx, r})
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return n, err
}

// A reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// room refuses to go below the reserve.
func (b *Blobs) room() error {
	if b.reserve <= 0 {
		return nil
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(b.root, &s); err != nil {
		return err
	}
	if free := int64(s.Bavail) * int64(s.Bsize); free < b.reserve {
		return fmt.Errorf("%w: %d bytes free, %d are kept in reserve", store.ErrFull, free, b.reserve)
	}
	return nil
}

// full turns the kernel's word for a full disk or quota into store.ErrFull.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}

func makeFolder(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Open implements store.Blobs.
func (b *Blobs) Open(_ context.Context, name string) (io.ReadCloser, int64, error) {
	_, file, err := b.path(name)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("open blob %s: %w", name, store.ErrNotFound)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open blob: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("open blob: %w", err)
	}
	return f, info.Size(), nil
}

// Delete implements store.Blobs.
func (b *Blobs) Delete(_ context.Context, name string) error {
	folder, file, err := b.path(name)
	if err != nil {
		return err
	}
	err = os.Remove(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncFolder(folder)
	}
	if err != nil {
		return fmt.Errorf("delete blob %s: %w", name, err)
	}
	return nil
}

// List implements store.Blobs.
func (b *Blobs) List(ctx context.Context, visit func(store.Blob) error) error {
	return b.walk(ctx, func(path string, info fs.FileInfo) error {
		if strings.HasSuffix(path, partSuffix) {
			return nil
		}
		return visit(store.Blob{Name: filepath.Base(path), Size: info.Size(), Modified: info.ModTime()})
	})
}

// walk visits the files of all folders. Those that vanish meanwhile are left
// out.
func (b *Blobs) walk(ctx context.Context, visit func(path string, info fs.FileInfo) error) error {
	folders, err := os.ReadDir(b.root)
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, folder := range folders {
		if !folder.IsDir() || len(folder.Name()) != 2 {
			continue
		}
		files, err := os.ReadDir(filepath.Join(b.root, folder.Name()))
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, f := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			info, err := f.Info()
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			if err := visit(filepath.Join(b.root, folder.Name(), f.Name()), info); err != nil {
				return err
			}
		}
	}
	return nil
}
