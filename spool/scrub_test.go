package spool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A scrubbing is a run that scrubs the log, and what it was told.
type scrubbing struct {
	live    map[string]string // id: content of what was acknowledged and is not done
	states  map[string]int    // id: attempts in a state that has come to the disk
	pending map[string]int    // the same, not synced yet
	done    []string          // contents of what is done
	synced  int               // of done: how many have come to the disk
	over    []string          // ids and contents of what was done when a scrub succeeded
}

// run commits, updates and removes in an order that leaves segments that are
// all live, mixed, and dead, with states and removals in later ones.
func (h *scrubbing) run(s *Spool) {
	h.live, h.states, h.pending = map[string]string{}, map[string]int{}, map[string]int{}
	commit := func(name string, size int) []string {
		one, two := "secret "+name+".1."+strings.Repeat("x", size), "secret "+name+".2."+strings.Repeat("y", size)
		ids, err := s.Commit(context.Background(), []Draft{draft(name, content0(one), name+"-a"), draft(name, content0(two), name+"-b")})
		if err == nil {
			h.live[ids[0]], h.live[ids[1]] = one, two
		}
		return ids
	}
	update := func(ids []string, attempts int) {
		for _, id := range ids {
			if e, err := s.Get(id); err == nil {
				e.Attempts = attempts
				if s.Update(e) == nil {
					h.pending[id] = attempts
				}
			}
		}
	}
	remove := func(ids ...string) {
		for _, id := range ids {
			body := h.live[id]
			delete(h.live, id)
			if s.Remove(id) == nil {
				h.done = append(h.done, id, strings.SplitAfterN(body, ".", 3)[0])
			}
		}
	}
	scrub := func(name string) {
		if commit(name, 10) == nil { // this syncs what was before
			return
		}
		h.synced = len(h.done)
		for id, n := range h.pending {
			h.states[id] = n
		}
		if s.Scrub(context.Background()) == nil {
			h.over = slices.Clone(h.done)
		}
	}
	stay := commit("stay", 700) // a segment that stays whole
	mixed := commit("mixed", 700)
	big := commit("big", 3000)
	gone := commit("gone", 700)
	if stay == nil || mixed == nil || big == nil || gone == nil {
		return
	}
	update(stay, 3)
	update(mixed, 4)
	update(gone, 5)
	remove(gone...)
	remove(mixed[0])
	if half := commit("half", 700); half != nil { // makes the segment of these removals one to scrub
		remove(half[0])
	}
	scrub("sync1")
	update(stay, 6)
	remove(big[0])
	last := commit("last", 700)
	update(last, 7)
	scrub("sync2")
	remove(last...)
	scrub("sync3")
}

// check looks at a recovered spool. What was done before a scrub never comes
// again, neither as an entry nor as bytes in a segment.
func (h *scrubbing) check(t *testing.T, s *Spool, d *memDisk) {
	t.Helper()
	for id, want := range h.live {
		if e, err := s.Get(id); err != nil {
			t.Errorf("%s was acknowledged and is gone: %v", id, err)
		} else if got := contentOf(t, s, id); got != want {
			t.Errorf("%s: other content", id)
		} else if n := h.states[id]; e.Attempts < n {
			t.Errorf("%s: %d attempts, want %d", id, e.Attempts, n)
		}
	}
	for i := 0; i < h.synced; i += 2 {
		if _, err := s.Get(h.done[i]); err == nil {
			t.Errorf("%s is done and there again", h.done[i])
		}
	}
	if word := d.finds(h.overContents()); word != "" {
		t.Errorf("%q is still in the log", word)
	}
}

// overContents returns words of the contents that must be gone. What both
// copies of a transaction have in common is left out.
func (h *scrubbing) overContents() []string {
	var words []string
	for i := 0; i < len(h.over); i += 2 {
		name, n, _ := strings.Cut(h.over[i], ".")
		if n == "" {
			n = "1"
		}
		words = append(words, "secret "+name+"."+n)
	}
	return words
}

// finds returns the first of words that stands in a segment or a body.
func (d *memDisk) finds(words []string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.names {
		for _, word := range words {
			if strings.Contains(string(f.data), word) {
				return word
			}
		}
	}
	return ""
}

// Between any two steps of a scrub the machine may stop.
func TestCrashWhileScrubbing(t *testing.T) {
	opts := Options{Segment: 1000, Memory: 2000}
	full := newMemDisk()
	s := openMem(t, full, opts)
	var h scrubbing
	h.run(s)
	if len(h.over) != 14 || full.finds([]string{"gone-a", "gone-b", "last-a"}) != "" || full.finds(h.overContents()) != "" {
		t.Errorf("done: %q; in the log: %q", h.over, full.finds(append(h.overContents(), "gone-a", "gone-b", "last-a")))
	}
	if full.finds([]string{"secret stay.1"}) == "" || full.finds([]string{"secret mixed.2"}) == "" {
		t.Error("the test does not find what is there")
	}
	if !slices.Contains(full.files("log"), segmentName(0)) {
		t.Error("a segment that is all live was copied")
	}
	s.Close()
	rnd := rand.New(rand.NewPCG(7, 8))
	for at := 1; at <= full.steps; at++ {
		d := newMemDisk()
		d.crashAt = at
		o := opts
		o.disk = d
		var h scrubbing
		if s, err := Open("/spool", o); err == nil {
			h.run(s)
			s.Close()
		}
		for _, d2 := range []*memDisk{d.afterKill(), d.afterPowerFailure(rnd), d.afterPowerFailure(rnd), d.afterPowerFailure(rnd)} {
			s2 := openMem(t, d2, opts)
			h.check(t, s2, d2)
			if err := s2.Scrub(context.Background()); err != nil {
				t.Error(err)
			}
			s2.Close()
			d3 := d2.afterPowerFailure(rnd)
			s3 := openMem(t, d3, opts)
			h.check(t, s3, d3)
			s3.Close()
		}
		if t.Failed() {
			t.Fatalf("crash at step %d of %d: %s", at, full.steps, full.seen[at-1])
		}
	}
	t.Logf("%d steps", full.steps)
}

// Every step of a scrub may fail once: the next scrub does what was left.
func TestEveryStepOfScrubFailsOnce(t *testing.T) {
	opts := Options{Segment: 1000, Memory: 2000}
	full := newMemDisk()
	s := openMem(t, full, opts)
	opened := full.steps
	new(scrubbing).run(s)
	s.Close()
	rnd := rand.New(rand.NewPCG(9, 10))
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for at := opened + 1; at <= full.steps; at++ {
			d := newMemDisk()
			n := 0
			d.fault = func(string, string) error {
				if n++; n == at {
					return cause
				}
				return nil
			}
			s := openMem(t, d, opts)
			var h scrubbing
			h.run(s)
			h.check(t, s, d)
			if err := s.Scrub(context.Background()); err != nil && n < at {
				t.Error(err)
			}
			s.Scrub(context.Background())
			s.Close()
			for _, d2 := range []*memDisk{d.afterKill(), d.afterPowerFailure(rnd)} {
				s2 := openMem(t, d2, opts)
				h.check(t, s2, d2)
				s2.Close()
			}
			if t.Failed() {
				t.Fatalf("%v at step %d of %d: %s", cause, at, full.steps, full.seen[at-1])
			}
		}
	}
}

// Finished mail does not stay readable on a site with little mail, neither in
// a run nor over a restart.
func TestLinger(t *testing.T) {
	for _, restart := range []bool{false, true} {
		d := newMemDisk()
		opts := Options{Linger: 30 * time.Millisecond}
		if restart {
			opts.Linger = time.Hour
		}
		s := openMem(t, d, opts)
		id := commitOne(t, s, draft("T", content0("secret content"), "bob"), draft("T", content0("what waits"), "carol"))
		if err := s.Remove(id[0]); err != nil {
			t.Fatal(err)
		}
		if restart {
			s.Close()
			opts.Linger = time.Millisecond
			d = d.afterKill()
			s = openMem(t, d, opts)
		}
		for begun := time.Now(); d.finds([]string{"secret content", "bob"}) != ""; time.Sleep(time.Millisecond) {
			if time.Since(begun) > 20*time.Second {
				t.Fatalf("restart %v: a finished mail stays in the log", restart)
			}
		}
		if got := contentOf(t, s, id[1]); got != "what waits" {
			t.Errorf("what waits: %q", got)
		}
		s.Close()
	}
}

// What cannot be read for the moment stays where it is; so does a segment with
// damage that is kept nowhere else.
func TestScrubWaits(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{})
	ids := commitOne(t, s, draft("T", content0("done"), "bob"), draft("T", content0("what waits"), "carol"))
	s.Remove(ids[0])
	d.setFault(func(op, name string) error {
		if op == "remove" {
			return syscall.EBUSY
		}
		return nil
	})
	if err := s.Scrub(context.Background()); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("Scrub = %v", err)
	}
	d.setFault(nil)
	s.mu.Lock()
	seg := s.items[ids[1]].content.seg
	seg.soil()
	s.mu.Unlock()
	d.setNoOpen(syscall.EMFILE)
	if err := s.Scrub(context.Background()); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("Scrub = %v", err)
	}
	d.setNoOpen(nil)
	seg.unsaved = true // the writer rests
	if err := s.Scrub(context.Background()); !errors.Is(err, errUnsaved) {
		t.Errorf("Scrub = %v", err)
	}
	seg.unsaved = false
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Scrub(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Scrub = %v", err)
	}
	if err := s.Scrub(context.Background()); err != nil || d.finds([]string{"bob"}) != "" {
		t.Errorf("Scrub = %v; in the log: %q", err, d.finds([]string{"bob"}))
	}
	if got := contentOf(t, s, ids[1]); got != "what waits" || s.Aside() != 0 {
		t.Errorf("what waits: %q; %d set aside", got, s.Aside())
	}
	s.Close()
	if err := s.Scrub(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Scrub after Close = %v", err)
	}
}

// Mail flows while a large log is scrubbed, and none of it is lost.
func TestScrubUnderLoad(t *testing.T) {
	s, err := Open(t.TempDir(), Options{Segment: 200_000, Linger: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for i := range 600 {
		body := fmt.Sprint("content ", i, strings.Repeat("z", 3000))
		id := commitOne(t, s, draft("", content0(body), "a"))[0]
		want[id] = body
		if e, err := s.Get(id); err == nil && i%3 == 0 {
			e.Attempts = i
			s.Update(e)
		}
		if i%4 != 0 {
			delete(want, id)
			s.Remove(id)
		}
	}
	if err := s.Scrub(context.Background()); err != nil {
		t.Error(err)
	}
	dir := s.dir
	s.Close()
	if s, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Len() != len(want) {
		t.Errorf("%d entries, want %d", s.Len(), len(want))
	}
	for id, body := range want {
		if contentOf(t, s, id) != body {
			t.Errorf("%s: other content", id)
		}
	}
}

// An entry that was copied forward and is done does not come again from a
// segment of which only a part was copied.
func TestScrubAfterPartialCopy(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{})
	var drafts []Draft
	for i := range 6 {
		drafts = append(drafts, draft("T", content0(strings.Repeat(fmt.Sprint(i), 220_000)), "a"))
	}
	ids := commitOne(t, s, drafts...)
	s.Close()
	d = d.afterKill()
	s = openMem(t, d, Options{}) // its writer rests until it is woken
	first := s.w.segments[0]
	if err := errors.Join(s.nextSegment(), s.copyForward(first)); err != nil {
		t.Fatal(err)
	}
	moved := ""
	for _, id := range ids {
		if !first.live[s.items[id].content] {
			moved = id
		}
	}
	if moved == "" || len(first.live) == 0 {
		t.Fatalf("%d of 6 left", len(first.live))
	}
	if err := s.Remove(moved); err != nil {
		t.Fatal(err)
	}
	if err := s.Scrub(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openMem(t, d.afterKill(), Options{})
	if _, err := s.Get(moved); err == nil || s.Len() != 5 {
		t.Errorf("%d entries, want 5; the one that is done: %v", s.Len(), err)
	}
}
