package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
)

// A history is what a run has been told: what must be there after a crash, and
// what must not.
type history struct {
	tried   map[string][2]string // transaction: the contents of its two copies
	acked   map[string]bool      // transactions whose Commit returned without error
	refused map[string]bool      // with an error
	removed map[string]bool      // ids that were removed: whether Remove returned without error
	updated map[string]int       // id: attempts that an Update without error wrote
}

func newHistory() *history {
	return &history{map[string][2]string{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]int{}}
}

// run does everything a spool can do, one step after the other, until it is
// done or the disk has crashed.
func (h *history) run(s *Spool) {
	for i := range 4 {
		name := fmt.Sprint("T", i)
		body := strings.Repeat(fmt.Sprintf("line of %s\r\n", name), 10+i*200) // the larger ones have files
		b := s.Buffer()
		io.WriteString(b, body)
		two := body + "second\r\n"
		h.tried[name] = [2]string{body, two}
		ids, err := s.Commit(context.Background(), []Draft{draft(name, b, "a"), draft(name, content0(two), "b")})
		b.Discard()
		if err != nil {
			h.refused[name] = true
			continue
		}
		h.acked[name] = true
		e, err := s.Get(ids[0])
		if err != nil {
			continue
		}
		e.Attempts = 7
		if s.Update(e) == nil {
			h.updated[e.ID] = 7
		}
		if i%2 == 1 {
			h.removed[ids[1]] = s.Remove(ids[1]) == nil
		}
	}
}

// check compares a recovered spool with what was promised. If lazy, changes of
// state of the last second may be lost.
func (h *history) check(t *testing.T, s *Spool, lazy bool) {
	t.Helper()
	there := map[string]int{}
	for _, e := range s.List() {
		n := 0
		if strings.HasSuffix(e.ID, ".2") {
			n = 1
		}
		tried, ok := h.tried[e.Transaction]
		if !ok {
			t.Errorf("entry %s of no transaction", e.ID)
			continue
		}
		if got := contentOf(t, s, e.ID); got != tried[n] {
			t.Errorf("%s: %d bytes of content, want %d", e.ID, len(got), len(tried[n]))
		}
		if h.removed[e.ID] && !lazy {
			t.Errorf("%s is done and there again", e.ID)
		}
		if want := h.updated[e.ID]; want > 0 && e.Attempts != want && !lazy {
			t.Errorf("%s: %d attempts, want %d", e.ID, e.Attempts, want)
		}
		there[e.Transaction]++
	}
	for name := range h.tried {
		want := 2
		if _, ok := h.removed[name+".2"]; ok {
			want = 1
		}
		switch n := there[name]; {
		case h.acked[name] && n < want:
			t.Errorf("%s was acknowledged, and %d of %d copies are there", name, n, want)
		case n != 0 && n < want:
			t.Errorf("%s: %d of %d copies are there", name, n, want)
		}
	}
}

// Between any two steps on the disk the machine may stop.
func TestCrashBetweenAllSteps(t *testing.T) {
	opts := Options{Memory: 2000, Segment: 9000}
	full := newMemDisk()
	s := openMem(t, full, opts)
	newHistory().run(s)
	s.Close()
	total := full.steps
	if total < 40 {
		t.Fatalf("only %d steps: %v", total, full.seen)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for at := 1; at <= total; at++ {
		d := newMemDisk()
		d.crashAt = at
		o := opts
		o.disk = d
		h := newHistory()
		s, err := Open("/spool", o)
		if err == nil {
			h.run(s)
			s.Close()
		}
		after := []*memDisk{d.afterKill()}
		for range 4 {
			after = append(after, d.afterPowerFailure(rnd))
		}
		for i, d2 := range after {
			s2 := openMem(t, d2, opts)
			h.check(t, s2, i > 0)
			if names := d2.files("tmp"); len(names) > 0 {
				t.Errorf("buffers left: %v", names)
			}
			// What was recovered is worth as much as what is new.
			h2 := *h
			id := commitOne(t, s2, draft("T1", content0(h.tried["T1"][0]), "again"))
			s2.Remove(id[0])
			s2.Close()
			s3 := openMem(t, d2.afterPowerFailure(rnd), opts)
			h2.check(t, s3, true)
			s3.Close()
		}
		if t.Failed() {
			t.Fatalf("crash at step %d of %d: %s", at, total, d.seen[min(at, len(d.seen))-1])
		}
	}
	t.Logf("%d steps", total)
}

// Every step may fail once and the next succeed.
func TestEveryStepFailsOnce(t *testing.T) {
	opts := Options{Memory: 2000, Segment: 9000}
	full := newMemDisk()
	s := openMem(t, full, opts)
	opened := full.steps
	newHistory().run(s)
	s.Close()
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for at := opened + 1; at <= full.steps; at++ {
			d := newMemDisk()
			n := 0
			var failed string
			d.fault = func(op, name string) error {
				if n++; n == at {
					failed = op + " " + name
					return cause
				}
				return nil
			}
			s := openMem(t, d, opts)
			h := newHistory()
			h.run(s)
			h.check(t, s, false) // the running process never forgets
			if failed == "" {    // it comes now
				s.Commit(context.Background(), []Draft{draft("never", content0("never"), "a")})
				h.refused["never"] = failed != ""
				h.tried["never"] = [2]string{"never", ""}
				h.removed["never.2"] = true
			}
			extra := commitOne(t, s, draft("after", content0("after"), "a"))[0]
			s.Close()
			h.tried["after"] = [2]string{"after", ""}
			for i, d2 := range []*memDisk{d.afterKill(), d.afterPowerFailure(rnd)} {
				s2 := openMem(t, d2, opts)
				s2.Remove(extra)
				h.check(t, s2, i > 0)
				for _, e := range s2.List() {
					if h.refused[e.Transaction] {
						t.Errorf("%s was refused and is there", e.ID)
					}
				}
				s2.Close()
			}
			if t.Failed() {
				t.Fatalf("%v at step %d of %d: %s", cause, at, full.steps, failed)
			}
		}
	}
}

// A failed sync: nobody is told 250, and the segment is never used again.
func TestFailedSyncEndsTheSegment(t *testing.T) {
	var log alerts
	d := newMemDisk()
	s := openMem(t, d, Options{Log: log.logger()})
	commitOne(t, s, draft("first", content0("first"), "a"))
	d.setFault(failNth("sync log", 1, syscall.EIO))
	if _, err := s.Commit(context.Background(), []Draft{draft("lost", content0("lost"), "a")}); !errors.Is(err, syscall.EIO) {
		t.Fatalf("commit with a failed sync: %v", err)
	}
	if log.count() != 1 {
		t.Errorf("%d alerts, want 1: %s", log.count(), log.b.String())
	}
	if s.Len() != 1 {
		t.Errorf("%d entries", s.Len())
	}
	commitOne(t, s, draft("second", content0("second"), "a"))
	if n := len(d.files("log")); n != 2 {
		t.Errorf("%d segments, want 2", n)
	}
	s.Close()
	for _, d2 := range []*memDisk{d.afterKill(), d.afterPowerFailure(rand.New(rand.NewPCG(1, 1)))} {
		s2 := openMem(t, d2, Options{})
		if s2.Len() != 2 {
			t.Errorf("%d entries after a restart, want 2", s2.Len())
		}
		s2.Close()
	}
}

// The same when the kernel wrote the refused commit all the same and cutting it
// off fails too.
func TestVoid(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{})
	commitOne(t, s, draft("first", content0("first"), "a"))
	d.setFault(func(op, name string) error {
		if op == "sync" && strings.Contains(name, "/log/0000000000000000") || op == "truncate" {
			return syscall.EIO
		}
		return nil
	})
	if _, err := s.Commit(context.Background(), []Draft{draft("refused", content0("refused"), "a")}); err == nil {
		t.Fatal("commit succeeded")
	}
	commitOne(t, s, draft("second", content0("second"), "a"))
	s.Close()
	s = openMem(t, d.afterKill(), Options{})
	if got := len(s.List()); got != 2 {
		t.Errorf("%d entries, want 2", got)
	}
	commitOne(t, s, draft("third", content0("third"), "a")) // its segment knows of the void too
	s.Close()
	d3 := s.disk.(*memDisk).afterKill()
	d3.edit("log", segmentName(1), func([]byte) []byte { return nil })
	s = openMem(t, d3, Options{})
	for _, e := range s.List() {
		if e.Transaction == "refused" {
			t.Error("what was refused is there")
		}
	}
}

// A full disk refuses mail, forgets nothing, and takes mail again when there is
// space.
func TestDiskFullAndBack(t *testing.T) {
	var log alerts
	d := newMemDisk()
	s := openMem(t, d, Options{Log: log.logger()})
	id := commitOne(t, s, draft("first", content0("first"), "a"))[0]
	d.setFault(func(op, _ string) error {
		if op == "write" || op == "create" {
			return errNoSpace
		}
		return nil
	})
	for range 3 {
		if _, err := s.Commit(context.Background(), []Draft{draft("more", content0("more"), "a")}); !errors.Is(err, ErrFull) {
			t.Errorf("commit on a full disk: %v", err)
		}
	}
	if err := s.Remove(id); err == nil {
		t.Error("a removal that could not be written was not reported")
	}
	if _, err := s.Get(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("the removal does not hold: %v", err)
	}
	if log.count() != 1 {
		t.Errorf("%d alerts, want 1", log.count())
	}
	d.setFault(nil)
	commitOne(t, s, draft("second", content0("second"), "a"))
	s.Close()
	s = openMem(t, d.afterKill(), Options{})
	if l := s.List(); len(l) != 1 || l[0].Transaction != "second" {
		t.Errorf("after a restart: %v", l)
	}
}

func TestBufferFileNotTrustedAfterFailedSync(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{Memory: 100})
	b := s.Buffer()
	defer b.Discard()
	io.WriteString(b, strings.Repeat("x", 10_000))
	d.setFault(failNth("sync tmp", 1, syscall.EIO))
	for range 2 { // the second sync would succeed, and prove nothing
		if _, err := s.Commit(context.Background(), []Draft{draft("T", b, "a")}); !errors.Is(err, syscall.EIO) {
			t.Errorf("commit: %v", err)
		}
	}
}

// What is damaged is set aside with an alert; the rest flows.
func TestDamage(t *testing.T) {
	find := func(b []byte, what string) int { return strings.Index(string(b), what) }
	tests := []struct {
		name   string
		damage func(d *memDisk)
		there  string // the transactions left at Open
		bad    string // of them those whose content is damaged
		aside  int    // at Open
	}{
		{"nothing", func(*memDisk) {}, "A B BIG C", "", 0},
		{"cut in the last frame", func(d *memDisk) {
			d.edit("log", "0000.log", func(b []byte) []byte { return b[:len(b)-3] })
		}, "A B BIG", "", 1},
		{"cut in the middle", func(d *memDisk) {
			d.edit("log", "0000.log", func(b []byte) []byte { return b[:find(b, "content of B")+5] })
		}, "A", "", 1},
		{"zeros at the end", func(d *memDisk) {
			d.edit("log", "0000.log", func(b []byte) []byte { return append(b, make([]byte, 9000)...) })
		}, "A B BIG C", "", 0},
		{"garbage at the end", func(d *memDisk) {
			d.edit("log", "0000.log", func(b []byte) []byte { return append(b, "garbage"...) })
		}, "A B BIG C", "", 1},
		{"flipped bit in an envelope", func(d *memDisk) {
			d.edit("log", "0000.log", func(b []byte) []byte { b[find(b, "content of A")-50] ^= 1; return b })
		}, "B BIG C", "", 1},
		{"flipped bit in a content", func(d *memDisk) {
			d.edit("log", "0000.log", func(b []byte) []byte { b[find(b, "content of B")] ^= 1; return b })
		}, "A B BIG C", "B", 0},
		{"flipped bit in the last content", func(d *memDisk) {
			d.edit("log", "0000.log", func(b []byte) []byte { b[find(b, "content of C")] ^= 1; return b })
		}, "A B BIG", "", 1},
		{"zero-length segment", func(d *memDisk) {
			d.edit("log", "0000.log", func([]byte) []byte { return nil })
		}, "", "", 0},
		{"garbage for a segment", func(d *memDisk) {
			d.edit("log", "0000.log", func(b []byte) []byte { return []byte(strings.Repeat("garbage ", 100)) })
		}, "", "", 1},
		{"segment of another version", func(d *memDisk) {
			d.edit("log", "0000.log", func(b []byte) []byte { return otherSegmentVersion(b) })
		}, "", "", 1},
		{"frame of another version", func(d *memDisk) {
			d.edit("log", "0000.log", func(b []byte) []byte { return otherFrameVersion(b) })
		}, "B BIG C", "", 1},
		{"body gone", func(d *memDisk) {
			d.Remove("/spool/body/" + d.files("body")[0])
		}, "A B C", "", 1},
		{"body cut", func(d *memDisk) {
			d.edit("body", "", func(b []byte) []byte { return b[:100] })
		}, "A B BIG C", "BIG", 0},
		{"zero-length body", func(d *memDisk) {
			d.edit("body", "", func(b []byte) []byte { return nil })
		}, "A B BIG C", "BIG", 0},
		{"flipped bit in a body", func(d *memDisk) {
			d.edit("body", "", func(b []byte) []byte { b[77] ^= 1; return b })
		}, "A B BIG C", "BIG", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newMemDisk()
			s := openMem(t, d, Options{Memory: 2000})
			commitOne(t, s, draft("A", content0("content of A"), "a"))
			commitOne(t, s, draft("B", content0("content of B"), "a"))
			commitOne(t, s, draft("BIG", content0(strings.Repeat("x", 10_000)), "a"))
			commitOne(t, s, draft("C", content0("content of C"), "a"))
			s.Close()
			d = d.afterKill()
			tt.damage(d)
			var log alerts
			s = openMem(t, d, Options{Log: log.logger()})
			var there, bad []string
			for _, e := range s.List() {
				there = append(there, e.Transaction)
				r, err := s.Content(e.ID)
				if err == nil {
					r.Close()
					continue
				}
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s: %v", e.ID, err)
				}
				bad = append(bad, e.Transaction)
				if err := s.SetAside(e.ID, err); err != nil {
					t.Error(err)
				}
			}
			if got := strings.Join(there, " "); got != tt.there {
				t.Errorf("there: %q, want %q", got, tt.there)
			}
			if got := strings.Join(bad, " "); got != tt.bad {
				t.Errorf("damaged: %q, want %q", got, tt.bad)
			}
			want := tt.aside + len(bad)
			if s.Aside() != want || log.count() < want {
				t.Errorf("%d set aside with %d alerts, want %d: %s", s.Aside(), log.count(), want, log.b.String())
			}
			if want > 0 && len(d.files("corrupt")) == 0 {
				t.Error("nothing was kept")
			}
			commitOne(t, s, draft("D", content0("content of D"), "a"))
			s.Close()
			var again alerts
			s = openMem(t, d.afterKill(), Options{Log: again.logger()})
			if tt.name != "body gone" && again.count() != 0 {
				t.Errorf("the next Open raises the alarm again: %s", again.b.String())
			}
			if _, err := s.Get("D"); err != nil {
				t.Errorf("new mail does not flow: %v", err)
			}
		})
	}
}

// otherFrameVersion makes the first frame one of another version.
func otherFrameVersion(b []byte) []byte {
	h, n, err := decodeSegmentHeader(b)
	if err != nil {
		panic(err)
	}
	fh, _ := decodeFrameHeader(b[n:], h.marker)
	fh.version = 9
	copy(b[n:], fh.encode(nil, h.marker))
	return b
}

// otherSegmentVersion makes a segment one of another version.
func otherSegmentVersion(b []byte) []byte {
	_, n, err := decodeSegmentHeader(b)
	if err != nil {
		panic(err)
	}
	payload := append([]byte{segmentVersion + 1}, b[segmentPrefix+1:n]...)
	head := rawSegmentHeader(payload)
	return append(head, b[n:]...)
}

// The mail cannot bring a frame of its own into a damaged segment.
func TestMailCannotForgeFrames(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{})
	other := openMem(t, newMemDisk(), Options{})
	commitOne(t, other, draft("forged", content0("forged"), "a"))
	other.Close()
	o := other.disk.(*memDisk)
	forged := string(o.names["/spool/log/"+segmentName(0)].data)
	commitOne(t, s, draft("A", content0(forged), "a"))
	commitOne(t, s, draft("B", content0("content of B"), "a"))
	s.Close()
	d = d.afterKill()
	d.edit("log", "0000.log", func(b []byte) []byte { b[60] ^= 1; return b })
	s = openMem(t, d, Options{})
	if l := s.List(); len(l) != 1 || l[0].Transaction != "B" {
		t.Errorf("entries: %+v", l)
	}
}

// Old live entries do not keep the log from shrinking, and survive its cleaning.
func TestCleaning(t *testing.T) {
	d := newMemDisk()
	opts := Options{Segment: 10_000, Memory: 4000}
	s := openMem(t, d, opts)
	wants := map[string]string{}
	big := content0(strings.Repeat("big", 5000))
	for i := range 600 {
		c := content0(fmt.Sprint("content ", i, strings.Repeat("x", 800)))
		id := commitOne(t, s, draft("", c, "a"))[0]
		switch {
		case i%100 == 0:
			wants[id] = string(*c)
			e, _ := s.Get(id)
			e.Attempts = i + 1
			if err := s.Update(e); err != nil {
				t.Fatal(err)
			}
		default:
			if err := s.Remove(id); err != nil {
				t.Fatal(err)
			}
		}
		if i == 50 {
			for _, id := range commitOne(t, s, draft("two", big, "a"), draft("two", big, "b")) {
				wants[id] = string(*big)
			}
		}
	}
	check := func(s *Spool) {
		t.Helper()
		if s.Len() != len(wants) {
			t.Errorf("%d entries, want %d", s.Len(), len(wants))
		}
		last := uint64(0)
		for id, want := range wants {
			if got := contentOf(t, s, id); got != want {
				t.Errorf("%s: content differs", id)
			}
			if o := s.items[id].order; o == 0 {
				t.Error("no order", last)
			}
		}
	}
	check(s)
	s.Close()
	if n := len(d.files("log")); n > 12 {
		t.Errorf("%d segments for %d entries", n, len(wants))
	}
	for _, d2 := range []*memDisk{d.afterKill(), d.afterPowerFailure(rand.New(rand.NewPCG(1, 1)))} {
		s := openMem(t, d2, opts)
		check(s)
		s.Close()
	}
}

// The same at every step of the cleaning of the log.
func TestCrashWhileCleaning(t *testing.T) {
	opts := Options{Segment: 3000, Memory: 1500}
	scenario := func(s *Spool, acked map[string]string) {
		for i := range 60 {
			c := content0(fmt.Sprint("content ", i, strings.Repeat("x", 300)))
			if i == 5 {
				c = content0(strings.Repeat("big", 3000))
			}
			ids, err := s.Commit(context.Background(), []Draft{draft("", c, "a"), draft("", c, "b")})
			if err != nil {
				return
			}
			for n, id := range ids {
				acked[id] = string(*c)
				if i%10 == 5 && n == 0 {
					e, err := s.Get(id)
					if err != nil {
						return
					}
					e.Attempts = i
					s.Update(e)
					continue
				}
				delete(acked, id)
				if s.Remove(id) != nil {
					return
				}
			}
		}
	}
	full := newMemDisk()
	s := openMem(t, full, opts)
	scenario(s, map[string]string{})
	s.Close()
	if n := len(full.files("log")); n > 10 {
		t.Fatalf("the log was not cleaned: %d segments", n)
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for at := 8; at <= full.steps; at++ {
		d := newMemDisk()
		d.crashAt = at
		o := opts
		o.disk = d
		s, err := Open("/spool", o)
		if err != nil {
			continue
		}
		acked := map[string]string{}
		scenario(s, acked)
		s.Close()
		for i, d2 := range []*memDisk{d.afterKill(), d.afterPowerFailure(rnd), d.afterPowerFailure(rnd)} {
			s2 := openMem(t, d2, opts)
			for id, want := range acked {
				if _, err := s2.Get(id); err != nil {
					t.Errorf("%s was acknowledged and is gone: %v", id, err)
				} else if got := contentOf(t, s2, id); got != want {
					t.Errorf("%s: other content", id)
				}
			}
			if extra := s2.Len() - len(acked); i == 0 && extra > 2 {
				t.Errorf("%d entries that are done are there again", extra)
			}
			for _, e := range s2.List() {
				contentOf(t, s2, e.ID)
			}
			s2.Close()
		}
		if t.Failed() {
			t.Fatalf("crash at step %d of %d: %s", at, full.steps, d.seen[min(at, len(d.seen))-1])
		}
	}
	t.Logf("%d steps", full.steps)
}

// A block of the disk that cannot be read costs the mail in it, no more.
func TestUnreadableBlock(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{})
	for i := range 40 {
		commitOne(t, s, draft(fmt.Sprint("T", i), content0(strings.Repeat("x", 1000)), "a"))
	}
	s.Close()
	for _, bad := range [][2]int64{{20_000, 20_001}, {20_000, 23_000}, {0, 10}} {
		d2 := d.afterKill()
		d2.badFrom, d2.badTo = bad[0], bad[1]
		var log alerts
		s := openMem(t, d2, Options{Log: log.logger()})
		lost := 0
		for i := range 40 {
			e, err := s.Get(fmt.Sprint("T", i))
			if err == nil {
				var r *Reader
				if r, err = s.Content(e.ID); err == nil {
					r.Close()
				}
			}
			if err != nil {
				lost++
			}
		}
		most := 8
		if bad[0] == 0 {
			most = 40 // the header of the segment
		}
		if lost == 0 || lost > most {
			t.Errorf("%v: %d of 40 lost", bad, lost)
		}
		if log.count() == 0 {
			t.Errorf("%v: no alert", bad)
		}
		commitOne(t, s, draft("new", content0("new"), "a"))
		s.Close()
	}
}

// The number of a segment is never used again, as long as something in corrupt/
// bears it.
func TestSegmentNumbersAreNotReused(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{})
	commitOne(t, s, draft("A", content0("A"), "a"))
	s.Close()
	d = d.afterKill()
	d.edit("log", "", func(b []byte) []byte { return []byte(strings.Repeat("garbage ", 100)) })
	for range 3 {
		s = openMem(t, d, Options{})
		id := commitOne(t, s, draft("B", content0("B"), "a"))[0]
		s.Remove(id)
		s.Close()
		if names := d.files("log"); len(names) == 0 || names[0] == segmentName(0) || len(d.files("corrupt")) != 1 {
			t.Errorf("segments %q", names)
		}
	}
}
