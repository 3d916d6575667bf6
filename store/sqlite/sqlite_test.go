package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"postern/store"
	"postern/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB) *DB {
	t.Helper()
	db, err := Open(context.Background(), filepath.Join(t.TempDir(), "a b%?#.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestRecords(t *testing.T) {
	storetest.Records(t, func(t *testing.T) store.Records { return open(t) })
}

func TestTallies(t *testing.T) {
	storetest.Tallies(t, func(t *testing.T) store.Tallies { return open(t) })
}

var ctx = context.Background()

func TestReopen(t *testing.T) {
	db := open(t)
	if err := db.Insert(ctx, storetest.Row(1)); err != nil {
		t.Fatal(err)
	}
	db.Close()
	again, err := Open(ctx, db.path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Held(ctx, storetest.Row(1).ID); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(db.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// What was answered is there after the process was killed: the files are copied
// as they are while the database is open.
func TestKilled(t *testing.T) {
	db := open(t)
	for n := range 20 {
		if err := db.Insert(ctx, storetest.Row(n)); err != nil {
			t.Fatal(err)
		}
	}
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(filepath.Dir(db.path))); err != nil {
		t.Fatal(err)
	}
	again, err := Open(ctx, filepath.Join(copied, filepath.Base(db.path)))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if found, err := again.Search(ctx, store.Query{}); err != nil || len(found) != 20 {
		t.Errorf("%d rows, %v", len(found), err)
	}
}

func TestDamaged(t *testing.T) {
	good := func() []byte {
		db := open(t)
		for n := range 50 {
			if err := db.Insert(ctx, storetest.Row(n)); err != nil {
				t.Fatal(err)
			}
		}
		db.Close()
		content, err := os.ReadFile(db.path)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}()
	zeroed := bytes.Clone(good)
	clear(zeroed[4096 : 4096*3])
	for name, content := range map[string][]byte{
		"no database": []byte("this is not a database file, but it is long enough to be looked at: " + string(make([]byte, 1000))),
		"pages lost":  zeroed,
		"cut short":   good[:len(good)/2],
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "postern.db")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(ctx, path)
			var damage *store.DamageError
			if !errors.As(err, &damage) || !errors.Is(err, store.ErrCorrupt) || damage.Path != path {
				t.Fatalf("got %v", err)
			}
			if text := err.Error(); !strings.Contains(text, path) || !strings.Contains(text, "backup") {
				t.Errorf("the error says neither which file nor what to do: %s", text)
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, content) {
				t.Error("the file was changed")
			}
		})
	}
	if _, err := Open(ctx, filepath.Join(t.TempDir(), "missing", "postern.db")); err == nil {
		t.Error("opened a file in a folder that is not there")
	}
}

func TestNewerSchema(t *testing.T) {
	db := open(t)
	if err := db.do(ctx, func(ctx context.Context, w *session) error {
		_, err := w.exec(ctx, "INSERT INTO schema_version VALUES (7)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	db.Close()
	_, err := Open(ctx, db.path)
	if !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "version 7") {
		t.Errorf("got %v", err)
	}
}

func TestMigrate(t *testing.T) {
	version := func(db *DB) (v int) {
		db.conn.QueryRowContext(ctx, "SELECT max(version) FROM schema_version").Scan(&v)
		return v
	}
	files := fstest.MapFS{}
	for _, name := range []string{"0001_one.sql", "0002_two.sql", "0003_bad.sql", "0004_four.sql"} {
		files["migrations/"+name] = &fstest.MapFile{Data: []byte("CREATE TABLE t" + name[:4] + " (a)")}
	}
	files["migrations/0003_bad.sql"] = &fstest.MapFile{Data: []byte("CREATE TABLE t0003 (a); CREATE TABLE t0001 (a)")}
	raw, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn, err := raw.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	db := &DB{conn: conn}
	for range 2 { // the step that fails leaves what was before it
		if err := migrate(ctx, conn, files); err == nil || !strings.Contains(err.Error(), "schema 3") {
			t.Fatalf("got %v", err)
		}
		if version(db) != 2 {
			t.Fatalf("version %d", version(db))
		}
	}
	files["migrations/0003_bad.sql"] = &fstest.MapFile{Data: []byte("CREATE TABLE t0003 (a)")}
	for range 2 {
		if err := migrate(ctx, conn, files); err != nil || version(db) != 4 {
			t.Fatalf("version %d, %v", version(db), err)
		}
	}
	files["migrations/0006_gap.sql"] = &fstest.MapFile{Data: []byte("SELECT 1")}
	if err := migrate(ctx, conn, files); err == nil || version(db) != 4 {
		t.Errorf("a gap in the numbers: %v", err)
	}
}

// A full disk fails the writes that met it, and only those.
func TestFull(t *testing.T) {
	db := open(t)
	limit := func(pages string) {
		t.Helper()
		if _, err := db.conn.ExecContext(ctx, "PRAGMA max_page_count = "+pages); err != nil {
			t.Fatal(err)
		}
	}
	limit("40")
	kept := 0
	var err error
	for n := 0; err == nil && n < 500; n++ {
		if err = db.Insert(ctx, storetest.Row(n)); err == nil {
			kept++
		}
	}
	if !errors.Is(err, store.ErrFull) || kept == 0 {
		t.Fatalf("after %d rows: %v", kept, err)
	}
	if found, err := db.Search(ctx, store.Query{Limit: 1000}); err != nil || len(found) != kept {
		t.Errorf("%d rows, want %d; %v", len(found), kept, err)
	}
	limit("4000")
	if err := db.Insert(ctx, storetest.Row(999)); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// One job of a batch that fails does not take the others with it.
func TestBatch(t *testing.T) {
	db := open(t)
	stop := errors.New("stop")
	w := &session{conn: db.conn, stmts: map[string]*sql.Stmt{}}
	set := func(name string, err error) *job {
		return &job{run: func(ctx context.Context, w *session) error {
			if _, e := w.exec(ctx, "INSERT INTO setting VALUES (?, 'x')", name); e != nil {
				return e
			}
			return err
		}}
	}
	batch := []*job{set("a", nil), set("b", stop), set("a", nil), set("c", nil)}
	if err := w.commit(ctx, batch); err != nil {
		t.Fatal(err)
	}
	if batch[0].err != nil || !errors.Is(batch[1].err, stop) || batch[2].err == nil || batch[3].err != nil {
		t.Errorf("%v %v %v %v", batch[0].err, batch[1].err, batch[2].err, batch[3].err)
	}
	for name, want := range map[string]string{"a": "x", "b": "", "c": "x"} {
		if got, err := db.Setting(ctx, name); got != want || err != nil {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	for _, s := range w.stmts {
		s.Close()
	}
}

// Erased means gone from the files.
func TestScrub(t *testing.T) {
	db := open(t)
	for n := range 20 {
		if err := db.Insert(ctx, storetest.Row(n)); err != nil {
			t.Fatal(err)
		}
	}
	h := storetest.Row(50)
	h.Subject, h.Key = "SUBJECT-TO-ERASE", []byte("KEY-TO-ERASE")
	h.Recipients[0].Address = "ADDRESS-TO-ERASE@example.org"
	if err := db.Insert(ctx, h); err != nil {
		t.Fatal(err)
	}
	if err := db.Scrub(ctx); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(ctx, h.ID, func(h *store.Held) error {
		h.Subject, h.Key, h.Recipients[0].Address = "", nil, ""
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Scrub(ctx); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(db.path), "*"))
	for _, f := range files {
		content, _ := os.ReadFile(f)
		if bytes.Contains(bytes.ToUpper(content), []byte("TO-ERASE")) {
			t.Errorf("%s still has it", f)
		}
	}
}

func BenchmarkInsert(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			db := open(b)
			var wg sync.WaitGroup
			b.ResetTimer()
			for g := range writers {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for n := g; n < b.N; n += writers {
						h := storetest.Row(n)
						h.Recipients = h.Recipients[:1]
						if err := db.Insert(ctx, h); err != nil {
							b.Error(err)
						}
					}
				}()
			}
			wg.Wait()
		})
	}
}

// BenchmarkSearch looks for things among 20,000 rows.
func BenchmarkSearch(b *testing.B) {
	db := open(b)
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := g; n < 20000; n += 64 {
				if err := db.Insert(ctx, storetest.Row(n)); err != nil {
					b.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	for name, q := range map[string]store.Query{
		"page":    {Queue: "spam", State: store.StateHeld},
		"subject": {Subject: "facture n° 77"},
		"to":      {To: "nobody"},
		"address": {Address: "bounce+500@lists.example"},
		"1000":    {Limit: 1000},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := db.Search(ctx, q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
