package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"postern/store"
)

// Blobs runs the suite over an implementation. open returns an empty one.
func Blobs(t *testing.T, open func(t *testing.T) store.Blobs) {
	for name, test := range map[string]func(*testing.T, store.Blobs){
		"put and open": blobsPut, "failures": blobsFail, "names": blobsNames, "list": blobsList, "concurrent": blobsConcurrent,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func readBlob(t *testing.T, b store.Blobs, name string) []byte {
	t.Helper()
	r, size, err := b.Open(context.Background(), name)
	must(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	must(t, err)
	if int64(len(got)) != size {
		t.Errorf("Open told %d bytes, %d came", size, len(got))
	}
	return got
}

func blobsPut(t *testing.T, b store.Blobs) {
	ctx := context.Background()
	for i, size := range []int{0, 1, 65536, 1 << 20} {
		name, content := fmt.Sprintf("blob-%d", i), bytes.Repeat([]byte{byte(i), 0xff}, size/2+1)[:size]
		n, err := b.Put(ctx, name, iotest.HalfReader(bytes.NewReader(content)))
		must(t, err)
		if n != int64(size) {
			t.Errorf("Put returned %d, want %d", n, size)
		}
		if !bytes.Equal(readBlob(t, b, name), content) {
			t.Errorf("%d bytes came back changed", size)
		}
	}
	_, err := b.Put(ctx, "blob-1", bytes.NewReader([]byte("other")))
	want(t, err, store.ErrExists)
	if got := readBlob(t, b, "blob-1"); len(got) != 1 {
		t.Error("a second Put changed the blob")
	}
	must(t, b.Delete(ctx, "blob-1"))
	must(t, b.Delete(ctx, "blob-1"))
	_, _, err = b.Open(ctx, "blob-1")
	want(t, err, store.ErrNotFound)
}

func blobsFail(t *testing.T, b store.Blobs) {
	ctx, cancel := context.WithCancel(context.Background())
	broken := errors.New("broken reader")
	_, err := b.Put(ctx, "one", io.MultiReader(bytes.NewReader(make([]byte, 100000)), iotest.ErrReader(broken)))
	want(t, err, broken)
	cancel()
	_, err = b.Put(ctx, "one", bytes.NewReader([]byte("x")))
	want(t, err, context.Canceled)
	ctx = context.Background()
	_, _, err = b.Open(ctx, "one")
	want(t, err, store.ErrNotFound)
	must(t, b.List(ctx, func(f store.Blob) error { return fmt.Errorf("%s remains", f.Name) }))
	_, err = b.Put(ctx, "one", bytes.NewReader([]byte("x")))
	must(t, err)
}

func blobsNames(t *testing.T, b store.Blobs) {
	for _, name := range []string{"", ".", "..", "a/b", "../x", "a.part", "é", "a\x00b", string(make([]byte, 300))} {
		if _, err := b.Put(context.Background(), name, bytes.NewReader(nil)); err == nil {
			t.Errorf("Put accepted the name %q", name)
		}
		if _, _, err := b.Open(context.Background(), name); err == nil {
			t.Errorf("Open accepted the name %q", name)
		}
		if err := b.Delete(context.Background(), name); err == nil {
			t.Errorf("Delete accepted the name %q", name)
		}
	}
}

func blobsList(t *testing.T, b store.Blobs) {
	ctx := context.Background()
	wanted := map[string]int64{}
	for i := range 40 {
		name := fmt.Sprintf("Blob_%d", i)
		_, err := b.Put(ctx, name, bytes.NewReader(make([]byte, i)))
		must(t, err)
		wanted[name] = int64(i)
	}
	must(t, b.List(ctx, func(f store.Blob) error {
		if size, ok := wanted[f.Name]; !ok || size != f.Size || time.Since(f.Modified).Abs() > time.Hour {
			t.Errorf("listed %+v", f)
		}
		delete(wanted, f.Name)
		return nil
	}))
	if len(wanted) > 0 {
		t.Errorf("not listed: %v", wanted)
	}
	stop := errors.New("stop")
	want(t, b.List(ctx, func(store.Blob) error { return stop }), stop)
}

func blobsConcurrent(t *testing.T, b store.Blobs) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := b.Put(context.Background(), "same", bytes.NewReader(make([]byte, 5000)))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, store.ErrExists) {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d writers of one name succeeded, want 1", won)
	}
}
