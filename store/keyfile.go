package store

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// KeyFile reads a secret of size bytes from a file, base64 on one line. If the
// file is not there and random is not nil it makes one, readable for its owner
// only. It refuses a file that others can read or write.
func KeyFile(path string, size int, random io.Reader) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && random != nil {
		return makeKeyFile(path, size, random)
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read key: %s can be read or written by others; run: chmod 600 %s", path, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	key, err := base64.RawURLEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(key) != size {
		return nil, &DamageError{Path: path, Kind: ErrCorrupt, Err: errors.New("not a key"),
			Remedy: "Restore the key file from a backup: what it protects cannot be read without it. Nothing was changed."}
	}
	return key, nil
}

// makeKeyFile writes the key beside its place first, so that a crash leaves no
// half key there.
func makeKeyFile(path string, size int, random io.Reader) ([]byte, error) {
	key := make([]byte, size)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // 0600
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(base64.RawURLEncoding.EncodeToString(key) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Link(f.Name(), path) // unlike a rename it never replaces a key
	}
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}
