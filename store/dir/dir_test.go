package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/store"
	"postern/store/storetest"
)

func TestBlobs(t *testing.T) {
	storetest.Blobs(t, func(t *testing.T) store.Blobs {
		b, err := OpenBlobs(t.TempDir(), BlobOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

func TestLog(t *testing.T) {
	roots := map[string]string{}
	storetest.Log(t, func(t *testing.T) store.Log {
		if roots[t.Name()] == "" {
			roots[t.Name()] = t.TempDir()
		}
		l, err := OpenLog(roots[t.Name()])
		if err != nil {
			t.Fatal(err)
		}
		return l
	})
}

var ctx = context.Background()

func openLog(t *testing.T, root string) *Log {
	t.Helper()
	l, err := OpenLog(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func add(t *testing.T, l *Log, first uint64, lines string) {
	t.Helper()
	if err := l.Append(ctx, first, []byte(lines)); err != nil {
		t.Fatal(err)
	}
}

func TestLogLock(t *testing.T) {
	root := t.TempDir()
	l := openLog(t, root)
	if _, err := OpenLog(root); !errors.Is(err, store.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	add(t, l, 1, "a\nb\n")
	r, err := ReadLog(root)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := storetest.Lines(t, r); got != "a b" {
		t.Error(got)
	}
	if r.Append(ctx, 3, []byte("c\n")) == nil || r.Roll(ctx) == nil {
		t.Error("a log that is open for reading was written")
	}
	if _, err := ReadLog(filepath.Join(root, "missing")); err == nil {
		t.Error("read a log that is not there")
	}
}

// Half a line at the end is set aside, not lost and not read.
func TestLogTorn(t *testing.T) {
	root := t.TempDir()
	l := openLog(t, root)
	add(t, l, 1, "a\nb\n")
	l.Close()
	file := l.path(1)
	content, _ := os.ReadFile(file)
	os.WriteFile(file, append(content, "half a li"...), 0o600)
	r, err := ReadLog(root)
	if err != nil {
		t.Fatal(err)
	}
	if got := storetest.Lines(t, r); got != "a b" {
		t.Error(got)
	}
	r.Close()
	l = openLog(t, root)
	add(t, l, 3, "c\n")
	if got := storetest.Lines(t, l); got != "a b c" {
		t.Error(got)
	}
	torn, err := os.ReadFile(strings.TrimSuffix(file, logSuffix) + ".torn")
	if err != nil || string(torn) != "half a li\n" {
		t.Errorf("%q, %v", torn, err)
	}
}

func TestLogShort(t *testing.T) {
	root := t.TempDir()
	l := openLog(t, root)
	add(t, l, 1, "a\nb\nc\n")
	if err := l.Roll(ctx); err != nil {
		t.Fatal(err)
	}
	add(t, l, 4, "d\n")
	l.Close()
	os.WriteFile(l.path(1), []byte("a\nb\n"), 0o600)
	l = openLog(t, root)
	err := l.Read(ctx, 1, func(uint64, []byte) error { return nil })
	var damage *store.DamageError
	if !errors.As(err, &damage) || !strings.Contains(err.Error(), "line 3 is missing") || damage.Path != l.path(1) {
		t.Error(err)
	}
}

// After a sync that failed the file is not written to any more. What it may
// have kept of the lines is not read twice.
func TestLogFailedSync(t *testing.T) {
	for _, before := range []string{"", "a\n"} {
		root := t.TempDir()
		l := openLog(t, root)
		next := uint64(1)
		if before != "" {
			add(t, l, 1, before)
			next++
		}
		file := l.file
		pipe, w, err := os.Pipe() // cannot be synced, nor written at an offset
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		l.file = pipe
		if err := l.Append(ctx, next, []byte("b\n")); err == nil {
			t.Fatal("appended to a pipe")
		}
		pipe.Close()
		l.file = file
		l.failed = errors.New("sync failed")
		file.WriteAt([]byte("b\n"), int64(len(before))) // written, but not known to be durable
		add(t, l, next, "b\nc\n")
		for range 2 {
			if got, want := storetest.Lines(t, l), strings.Join(strings.Fields(before+"b c"), " "); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			l.Close()
			l = openLog(t, root)
		}
	}
}

func TestLogIgnoresOtherFiles(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"1.log", "x.log", "00000000000000000000.log", "00000000000000000001.log.failed", "rewrite-123"} {
		os.WriteFile(filepath.Join(root, name), []byte("x\n"), 0o600)
	}
	l := openLog(t, root)
	add(t, l, 1, "a\n")
	if got := storetest.Lines(t, l); got != "a" {
		t.Error(got)
	}
}

func TestBlobsLeftovers(t *testing.T) {
	root, now := t.TempDir(), time.Now()
	b, err := OpenBlobs(root, BlobOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(ctx, "whole", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	_, file, _ := b.path("whole")
	os.WriteFile(file+partSuffix, []byte("half"), 0o600)
	os.WriteFile(filepath.Join(root, "README"), nil, 0o600)
	parts := func() int {
		found, _ := filepath.Glob(filepath.Join(root, "*", "*"+partSuffix))
		return len(found)
	}
	for _, c := range []struct {
		at   time.Time
		want int
	}{{now, 1}, {now.Add(25 * time.Hour), 0}} {
		if _, err := OpenBlobs(root, BlobOptions{Now: func() time.Time { return c.at }}); err != nil {
			t.Fatal(err)
		}
		if parts() != c.want {
			t.Errorf("%d incomplete blobs, want %d", parts(), c.want)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestReserve(t *testing.T) {
	b, err := OpenBlobs(t.TempDir(), BlobOptions{Reserve: 1 << 60})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(ctx, "x", strings.NewReader("x")); !errors.Is(err, store.ErrFull) {
		t.Errorf("got %v", err)
	}
}

func TestDiskFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full")
	}
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	if _, err := fill(ctx, f, strings.NewReader("x")); !errors.Is(full(err), store.ErrFull) {
		t.Errorf("got %v", err)
	}
	l := openLog(t, t.TempDir())
	file := l.file
	if l.file, err = os.OpenFile("/dev/full", os.O_RDWR, 0); err != nil {
		t.Skip(err)
	}
	if err := l.Append(ctx, 1, []byte("a\n")); !errors.Is(err, store.ErrFull) {
		t.Errorf("got %v", err)
	}
	l.file.Close()
	l.file = file
	add(t, l, 1, "a\n")
}

func BenchmarkPut(b *testing.B) {
	d, err := OpenBlobs(b.TempDir(), BlobOptions{})
	if err != nil {
		b.Fatal(err)
	}
	content := make([]byte, 20000)
	for n := 0; b.Loop(); n++ {
		if _, err := d.Put(ctx, fmt.Sprint("blob-", n), bytes.NewReader(content)); err != nil {
			b.Fatal(err)
		}
	}
}
