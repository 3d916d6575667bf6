package spool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestBuffer(t *testing.T) {
	s, err := Open(t.TempDir(), Options{Memory: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, size := range []int{0, 1, 16 << 10, 20_000, 70_000, 100_000, 100_001, 300_000, 1 << 20} {
		for _, step := range []int{1000, 4096, 100_000, 1 << 20} {
			want := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
			b := s.Buffer()
			for rest := want; len(rest) > 0; {
				n := min(step, len(rest))
				if m, err := b.Write(rest[:n]); m != n || err != nil {
					t.Fatalf("Write: %d, %v", m, err)
				}
				rest = rest[n:]
			}
			if b.Size() != int64(size) {
				t.Fatalf("Size %d, want %d", b.Size(), size)
			}
			p, inMemory := b.Bytes()
			if inMemory != (size <= 100_000) {
				t.Errorf("size %d in memory: %v", size, inMemory)
			}
			if inMemory && !bytes.Equal(p, want) {
				t.Errorf("size %d step %d: other bytes", size, step)
			}
			got, err := io.ReadAll(io.NewSectionReader(b.ReaderAt(), 0, b.Size()))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("size %d step %d: read %d bytes, %v", size, step, len(got), err)
			}
			if b.SHA256() != sha256.Sum256(want) {
				t.Errorf("size %d step %d: wrong hash", size, step)
			}
			b.Discard()
		}
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "tmp")); len(left) != 0 {
		t.Errorf("%d files left in tmp", len(left))
	}
}

func TestBufferAfterDiscard(t *testing.T) {
	s, err := Open(t.TempDir(), Options{Memory: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, size := range []int{10, 5000} {
		b := s.Buffer()
		b.Write(make([]byte, size))
		r := b.ReaderAt()
		b.Retain()
		b.Discard()
		if _, err := r.ReadAt(make([]byte, 5), 0); err != nil {
			t.Errorf("size %d: retained buffer: %v", size, err)
		}
		b.Discard()
		if _, err := r.ReadAt(make([]byte, 5), 0); !errors.Is(err, os.ErrClosed) {
			t.Errorf("size %d: read after Discard: %v", size, err)
		}
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, errLocked) {
		t.Errorf("second Open: %v", err)
	}
	s.Close()
	if s, err = Open(dir, Options{}); err != nil {
		t.Fatalf("Open after Close: %v", err)
	}
	s.Close()
}
