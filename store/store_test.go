package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"postern/store"
	"postern/store/sqlite"
)

func TestDamageError(t *testing.T) {
	cause := errors.New("page 3 is empty")
	err := error(&store.DamageError{Path: "/var/lib/postern/postern.db", Remedy: "Restore it.", Kind: store.ErrCorrupt, Err: cause})
	if !errors.Is(err, store.ErrCorrupt) || !errors.Is(err, cause) || errors.Is(err, store.ErrNewer) {
		t.Error("it does not match what it is")
	}
	if got := err.Error(); got != "/var/lib/postern/postern.db: damaged: page 3 is empty. Restore it." {
		t.Error(got)
	}
	bare := &store.DamageError{Path: "x", Remedy: "Y.", Kind: store.ErrNewer}
	if !errors.Is(bare, store.ErrNewer) || bare.Error() != "x: written by a newer version. Y." {
		t.Error(bare)
	}
}

func TestPage(t *testing.T) {
	for limit, want := range map[int]int{-1: 100, 0: 100, 1: 1, 1000: 1000, 1001: 1000} {
		if got := (store.Query{Limit: limit}).Page(); got != want {
			t.Errorf("Limit %d is %d rows, want %d", limit, got, want)
		}
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	random := bytes.NewReader([]byte("0123456789abcdef0123456789abcdef"))
	if _, err := store.KeyFile(path, 16, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no key and none to be made: %v", err)
	}
	if _, err := store.KeyFile(path, 16, iotest.ErrReader(errors.New("no randomness"))); err == nil {
		t.Error("a key without randomness")
	}
	key, err := store.KeyFile(path, 16, random)
	if err != nil || string(key) != "0123456789abcdef" {
		t.Fatalf("%q, %v", key, err)
	}
	again, err := store.KeyFile(path, 16, random)
	if err != nil || !bytes.Equal(key, again) {
		t.Errorf("%q, %v", again, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("%v", left)
	}
	if _, err := store.KeyFile(path, 32, random); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), path) {
		t.Errorf("key of another size: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
		os.Chmod(path, mode)
		if _, err := store.KeyFile(path, 16, random); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := store.KeyFile(filepath.Join(path, "x"), 16, random); err == nil {
		t.Error("a key below a file")
	}
}

func TestSteady(t *testing.T) {
	ctx := context.Background()
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	for i, step := range []struct {
		pass time.Duration
		want bool
	}{
		{0, true}, {time.Hour, true}, {23 * time.Hour, true}, {-23 * time.Hour, true},
		{25 * time.Hour, false}, {time.Minute, false}, {58 * time.Minute, false}, {time.Minute, true},
		{-48 * time.Hour, false}, {48 * time.Hour, false}, {30 * time.Minute, false}, {30 * time.Minute, true}, {time.Hour, true},
	} {
		now = now.Add(step.pass)
		got, err := store.Steady(ctx, db, "sweep", now, time.Hour)
		if err != nil || got != step.want {
			t.Errorf("step %d, %v later: %v, %v", i, step.pass, got, err)
		}
	}
	far := time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC) // farther than a time.Duration reaches
	if got, err := store.Steady(ctx, db, "sweep", far, time.Hour); got || err != nil {
		t.Errorf("year 9000: %v, %v", got, err)
	}
	if err := db.Set(ctx, "sweep", "garbage"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Steady(ctx, db, "sweep", now, time.Hour); err == nil {
		t.Error("garbage was taken for a time")
	}
}
