package sqlite

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/store"
	"postern/store/storetest"
)

func TestContacts(t *testing.T) {
	storetest.Contacts(t, func(t *testing.T) store.Contacts { return open(t) })
}

// TestContactsHashed: no address stands in the file, the hashes of another file
// are others, and a reader sees what is there without a write.
func TestContactsHashed(t *testing.T) {
	dir, now := t.TempDir(), storetest.Epoch
	c := store.Contact{Author: "alice@sender.example", Recipient: "bob@ours.example", Time: now.Add(time.Hour)}
	var hashes [2][]byte
	for i := range hashes {
		db, err := Open(ctx, filepath.Join(dir, string(rune('a'+i))))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.Meet(ctx, []store.Contact{c}); err != nil {
			t.Fatal(err)
		}
		if err := db.read.QueryRowContext(ctx, "SELECT author FROM contact").Scan(&hashes[i]); err != nil {
			t.Fatal(err)
		}
	}
	if bytes.Equal(hashes[0], hashes[1]) || len(hashes[0]) != hashLen {
		t.Errorf("hashes %x", hashes)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err != nil || bytes.Contains(text, []byte("alice")) || bytes.Contains(text, []byte("ours.example")) {
			t.Errorf("%s names somebody, %v", f, err)
		}
	}
	r, err := ReadContacts(ctx, filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c.Time = now
	if met, err := r.Met(ctx, c); err != nil || !met {
		t.Errorf("a reader: %v, %v", met, err)
	}
	if err := r.Meet(ctx, []store.Contact{c}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a reader writes: %v", err)
	}
}

// TestReadContacts: where nobody was met there is nothing to read, and nothing is
// made.
func TestReadContacts(t *testing.T) {
	dir := t.TempDir()
	missing, empty, text := filepath.Join(dir, "missing"), filepath.Join(dir, "empty"), filepath.Join(dir, "text")
	for name, content := range map[string]string{empty: "", text: "this is no database, but a text that is long enough to be looked at as one, so that it is found out to be none at all."} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]error{missing: fs.ErrNotExist, empty: fs.ErrNotExist, text: store.ErrCorrupt} {
		if _, err := ReadContacts(ctx, name); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("it was made")
	}
	fresh := filepath.Join(dir, "fresh")
	db, err := Open(ctx, fresh)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	r, err := ReadContacts(ctx, fresh)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if met, err := r.Met(context.Background(), store.Contact{Author: "a", Recipient: "b"}); met || err != nil {
		t.Errorf("%v, %v", met, err)
	}
}
