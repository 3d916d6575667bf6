package spool

import (
	"context"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStateTable walks the table of the package doc, state by state: what is on
// disk, and what Open makes of it after a kill and after a power failure.
func TestStateTable(t *testing.T) {
	const whole = "0123456789\r\n"
	big := strings.Repeat(whole, 1000)
	received := func(s *Spool) *Buffer {
		b := s.Buffer()
		io.WriteString(b, big)
		return b
	}
	commit := func(t *testing.T, s *Spool) Entry {
		b := received(s)
		defer b.Discard()
		e, err := s.Get(commitOne(t, s, draft("T", b, "bob"))[0])
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	type outcome struct {
		entries   int
		attempts  int
		suspended bool
	}
	tests := []struct {
		state             string
		reach             func(t *testing.T, s *Spool, d *memDisk)
		tmp, body         int // files on disk in that state
		killed, powerless outcome
	}{
		{"receiving", func(t *testing.T, s *Spool, _ *memDisk) {
			s.Buffer().Write(make([]byte, 5000))
		}, 1, 0, outcome{}, outcome{}},
		{"buffered", func(t *testing.T, s *Spool, _ *memDisk) {
			received(s).ReaderAt()
		}, 1, 0, outcome{}, outcome{}},
		{"buffered, moved to body", func(t *testing.T, s *Spool, d *memDisk) {
			d.setFault(failNth("syncdir body", 1, errCrashed))
			b := received(s)
			if _, err := s.Commit(context.Background(), []Draft{draft("T", b, "bob")}); err == nil {
				t.Error("a commit whose body directory was not synced succeeded")
			}
		}, 0, 1, outcome{}, outcome{}},
		{"committing", func(t *testing.T, s *Spool, d *memDisk) {
			// The crash comes between write and sync; nobody is told 250.
			var crashed bool
			d.setFault(func(op, name string) error {
				crashed = crashed || op == "sync" && strings.HasSuffix(name, ".log") && strings.Contains(name, "/log/") && d.names[name] != nil && len(d.names[name].data) > 100
				if crashed {
					return errCrashed
				}
				return nil
			})
			if _, err := s.Commit(context.Background(), []Draft{draft("T", received(s), "bob")}); err == nil {
				t.Error("a commit that was not synced succeeded")
			}
		}, 0, 1, outcome{entries: 1}, outcome{entries: -1}}, // -1: all or nothing, either
		{"committed, due, delivering", func(t *testing.T, s *Spool, _ *memDisk) {
			commit(t, s)
		}, 0, 1, outcome{entries: 1}, outcome{entries: 1}},
		{"deferred", func(t *testing.T, s *Spool, d *memDisk) {
			e := commit(t, s)
			e.Attempts, e.NextAttempt = 1, time.Now().Add(time.Hour)
			if err := s.Update(e); err != nil {
				t.Error(err)
			}
		}, 0, 1, outcome{entries: 1, attempts: 1}, outcome{entries: 1, attempts: -1}},
		{"suspended", func(t *testing.T, s *Spool, _ *memDisk) {
			e := commit(t, s)
			e.Attempts, e.Suspended = 1, true
			if err := s.Update(e); err != nil {
				t.Error(err)
			}
		}, 0, 1, outcome{entries: 1, attempts: 1, suspended: true}, outcome{entries: 1, attempts: 1, suspended: true}},
		{"done", func(t *testing.T, s *Spool, _ *memDisk) {
			if err := s.Remove(commit(t, s).ID); err != nil {
				t.Error(err)
			}
		}, 0, 1, outcome{}, outcome{entries: -1}},
		{"done, synced", func(t *testing.T, s *Spool, _ *memDisk) {
			if err := s.Remove(commit(t, s).ID); err != nil {
				t.Error(err)
			}
			commitOne(t, s, Draft{Entry{ID: "other"}, content0("its sync is that of the removal too")})
			for range 1000 { // the body goes after the sync
				if len(s.disk.(*memDisk).files("body")) == 0 {
					break
				}
				time.Sleep(time.Millisecond)
			}
		}, 0, 0, outcome{entries: 1}, outcome{entries: 1}},
		{"corrupt", func(t *testing.T, s *Spool, d *memDisk) {
			e := commit(t, s)
			d.edit("body", "", func(b []byte) []byte { b[0] ^= 1; return b })
			_, err := s.Content(e.ID)
			if err == nil {
				t.Error("a damaged content was opened")
			}
			s.SetAside(e.ID, err)
			commitOne(t, s, Draft{Entry{ID: "other"}, content0("after it")})
		}, 0, 0, outcome{entries: 1}, outcome{entries: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.state, func(t *testing.T) {
			d := newMemDisk()
			s := openMem(t, d, Options{Memory: 1000})
			tt.reach(t, s, d)
			if tmp, body := len(d.files("tmp")), len(d.files("body")); tmp != tt.tmp || body != tt.body {
				t.Errorf("%d files in tmp, %d in body, want %d, %d", tmp, body, tt.tmp, tt.body)
			}
			rnd := rand.New(rand.NewPCG(7, 8))
			disks := []*memDisk{d.afterKill()}
			for range 20 {
				disks = append(disks, d.afterPowerFailure(rnd))
			}
			for i, d2 := range disks {
				want := tt.powerless
				if i == 0 {
					want = tt.killed
				}
				s2 := openMem(t, d2, Options{Memory: 1000})
				l := s2.List()
				if want.entries >= 0 && len(l) != want.entries {
					t.Errorf("crash %d: %d entries, want %d", i, len(l), want.entries)
				}
				for _, e := range l {
					contentOf(t, s2, e.ID) // whole, or the test fails
					if e.ID == "T" && (want.attempts >= 0 && e.Attempts != want.attempts || e.Suspended != want.suspended) {
						t.Errorf("crash %d: %d attempts, suspended %v", i, e.Attempts, e.Suspended)
					}
				}
				s2.Close()
				if tmp := len(d2.files("tmp")); tmp != 0 {
					t.Errorf("crash %d: %d files left in tmp", i, tmp)
				}
				if bodies := len(d2.files("body")); bodies > len(l) {
					t.Errorf("crash %d: %d bodies for %d entries", i, bodies, len(l))
				}
			}
		})
	}
}

// A commit refused because the disk said EIO must not come back by itself.
func TestRefusedStaysRefused(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{})
	commitOne(t, s, draft("A", content0("A"), "a"))
	d.setFault(failNth("write log", 1, syscall.EIO))
	if _, err := s.Commit(context.Background(), []Draft{draft("refused", content0("refused"), "a")}); err == nil {
		t.Fatal("commit succeeded")
	}
	s.Close()
	s = openMem(t, d.afterKill(), Options{})
	if l := s.List(); len(l) != 1 || l[0].ID != "A" {
		t.Errorf("entries %+v", l)
	}
}
