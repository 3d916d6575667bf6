package dkimsign

import (
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"postern/crypto/dkim"
	"postern/filters"
)

// A State is where a key of the directory stands in its life. It is the
// extension of its file, so that a state changes by renaming.
type State string

// The states, in order.
const (
	Next State = "next" // made; it does not sign until its record is published
	Used State = "key"  // signs
	Last State = "last" // signs beside the keys that follow it, for a while
	Old  State = "old"  // signs no more; its record stays for mail on the way
)

// signs reports whether mail is signed with keys in that state.
func (s State) signs() bool { return s == Used || s == Last }

// A File is a key of the directory: DIRECTORY/DOMAIN/SELECTOR.STATE.
type File struct {
	Domain   string
	Selector string
	State    State
	Since    time.Time // when it came into its state: the file's time
	Path     string
	Key      crypto.Signer
}

// Kind is the type of the key: dkim.RSA or dkim.Ed25519.
func (f *File) Kind() string {
	if _, ok := f.Key.Public().(interface{ Size() int }); ok {
		return dkim.RSA
	}
	return dkim.Ed25519
}

// ReadFolder returns the keys of a directory by domain and selector. Files and
// folders whose names are none of a key's are left alone. A key that others
// than its owner and group may read is an error, and so is a folder that others
// than its owner may write to: they could put keys of their own there.
func ReadFolder(dir string) ([]File, error) {
	domains, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	if err := guarded(dir); err != nil {
		return nil, err
	}
	var all []File
	for _, d := range domains {
		if !dkim.ValidName(d.Name(), 2) {
			continue
		}
		found, err := readDomain(dir, d.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// readDomain returns the keys of one domain; none if it has no folder.
func readDomain(dir, domain string) ([]File, error) {
	folder := filepath.Join(dir, domain)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the keys of %s: %w", domain, err)
	}
	if err := guarded(folder); err != nil {
		return nil, err
	}
	var all []File
	for _, e := range entries {
		selector, state, ok := strings.Cut(e.Name(), ".")
		if !ok || !slices.Contains([]State{Next, Used, Last, Old}, State(state)) || !dkim.ValidName(selector, 1) {
			continue
		}
		f := File{Domain: domain, Selector: selector, State: State(state), Path: filepath.Join(folder, e.Name())}
		if err := f.read(); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b File) int { return cmp.Compare(a.Selector, b.Selector) })
	return all, nil
}

// guarded returns an error if others than its owner may write to a folder.
func guarded(folder string) error {
	info, err := os.Stat(folder)
	if err != nil {
		return fmt.Errorf("look at a folder of keys: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("%s has mode %04o: others than its owner may put keys there; run: chmod go-w %s", folder, mode, folder)
	}
	return nil
}

// unfinished begins the names of keys that are not whole yet.
const unfinished = ".new-"

// lock keeps other rotations out of the directory until unlock is called. The
// system lets go of it when the process ends, however that is.
func lock(dir string) (unlock func() error, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock the keys: %w", err)
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("another rotation is at work in %s; try again later", dir)
		}
		return nil, errors.Join(err, d.Close())
	}
	return d.Close, nil
}

// clear removes what a rotation that was stopped left in the folder of a domain:
// it may be a second name of a key that is to be destroyed.
func clear(dir, domain string) error {
	left, err := filepath.Glob(filepath.Join(dir, domain, unfinished+"*"))
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		return fmt.Errorf("remove what is left of a key: %w", err)
	}
	return nil
}

// read reads the key and its times.
func (f *File) read() error {
	if err := filters.Exposed(f.Path); err != nil {
		return err
	}
	info, err := os.Stat(f.Path)
	if err != nil {
		return fmt.Errorf("read a key: %w", err)
	}
	text, err := os.ReadFile(f.Path)
	if err != nil {
		return fmt.Errorf("read a key: %w", err)
	}
	f.Since = info.ModTime()
	if f.Key, err = dkim.ParsePrivateKey([]byte(strings.TrimSpace(string(text)))); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	return nil
}

// create writes a key that only its owner can read. The file has its name only
// when it is whole.
func (f *File) create(pem []byte) (err error) {
	folder := filepath.Dir(f.Path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("make the folder of keys: %w", err)
	}
	t, err := os.CreateTemp(folder, unfinished+"*") // mode 0600
	if err != nil {
		return fmt.Errorf("write a key: %w", err)
	}
	defer os.Remove(t.Name())
	_, err = t.Write(pem)
	if err = errors.Join(err, t.Sync(), t.Close()); err != nil {
		return fmt.Errorf("write a key: %w", err)
	}
	if err := os.Link(t.Name(), f.Path); err != nil { // unlike a rename, it replaces nothing
		return fmt.Errorf("write a key: %w", err)
	}
	return syncFolder(folder)
}

// move brings the key into a state.
func (f *File) move(to State, now time.Time) error {
	path := strings.TrimSuffix(f.Path, string(f.State)) + string(to)
	// The time first: a crash in between makes the wait that it stands for
	// begin again, never end early.
	if err := os.Chtimes(f.Path, now, now); err != nil {
		return fmt.Errorf("note the time of a key: %w", err)
	}
	if err := os.Rename(f.Path, path); err != nil {
		return fmt.Errorf("bring a key into use: %w", err)
	}
	f.Path, f.State, f.Since = path, to, now
	return syncFolder(filepath.Dir(path))
}

// remove destroys the key.
func (f *File) remove() error {
	if err := os.Remove(f.Path); err != nil {
		return fmt.Errorf("remove a key: %w", err)
	}
	return syncFolder(filepath.Dir(f.Path))
}

// syncFolder makes what was done in a folder durable.
func syncFolder(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	return nil
}
