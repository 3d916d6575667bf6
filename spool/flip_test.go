package spool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestEveryByteFlipped damages each octet of a log and of a body in turn: then
// every message is there as it was, or it is known to be damaged, or something
// was set aside with an alarm. None is ever lost or changed in silence.
func TestEveryByteFlipped(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{Memory: 1500})
	want := map[string]string{}
	for _, name := range []string{"A", "B", "LAST"} {
		want[name] = "content of " + name
		commitOne(t, s, draft(name, content0(want[name]), "a", "b"))
		if name == "B" {
			want["BIG"] = strings.Repeat("big\r\n", 1200)
			commitOne(t, s, draft("BIG", content0(want["BIG"]), "a"))
		}
	}
	update := func(name string, f func(e *Entry)) {
		e, err := s.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		f(&e)
		if err := s.Update(e); err != nil {
			t.Fatal(err)
		}
	}
	update("A", func(e *Entry) { e.Suspended = true })
	update("B", func(e *Entry) { e.To[0].State = Delivered })
	commitOne(t, s, draft("DONE", content0("done"), "a"))
	if err := s.Remove("DONE"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	state := func(e Entry) string { return fmt.Sprint(e.Suspended, e.To[0].State) }
	states := map[string]string{"A": "true pending", "B": "false delivered", "BIG": "false pending", "LAST": "false pending"}
	for _, file := range []string{"log", "body"} {
		size := 0
		d.edit(file, "", func(b []byte) []byte { size = len(b); return b })
		if size == 0 {
			t.Fatalf("nothing in %s", file)
		}
		step := 1
		if file == "body" || testing.Short() {
			step = 97
		}
		for at := 0; at < size; at += step {
			damaged := d.afterKill()
			damaged.edit(file, "", func(b []byte) []byte {
				b = slices.Clone(b)
				b[at] ^= 1 << (at % 8)
				return b
			})
			checkFlipped(t, fmt.Sprintf("%s, octet %d", file, at), damaged, want, states, state)
		}
	}
}

// checkFlipped opens a damaged spool and looks for every message.
func checkFlipped(t *testing.T, where string, d *memDisk, want, states map[string]string, state func(Entry) string) {
	t.Helper()
	var log alerts
	s := openMem(t, d, Options{Memory: 1500, Log: log.logger()})
	defer s.Close()
	alarm := s.Aside() > 0 && log.count() > 0 && len(d.files("corrupt")) > 0
	for name, text := range want {
		e, err := s.Get(name)
		if err != nil {
			if !alarm {
				t.Errorf("%s: %s is gone in silence: %v", where, name, err)
			}
			continue
		}
		if got := state(e); got != states[name] && !alarm {
			t.Errorf("%s: %s is %s in silence, want %s", where, name, got, states[name])
		}
		r, err := s.Content(e.ID)
		if errors.Is(err, ErrCorrupt) {
			continue
		}
		if err != nil {
			t.Errorf("%s: %s: %v", where, name, err)
			continue
		}
		b := make([]byte, r.Size())
		if _, err := r.ReadAt(b, 0); err != nil || string(b) != text {
			t.Errorf("%s: %s reads as %q, %v", where, name, b[:min(len(b), 40)], err)
		}
		r.Close()
	}
	if _, err := s.Get("DONE"); err == nil && !alarm {
		t.Errorf("%s: what is done is back in silence", where)
	}
}
