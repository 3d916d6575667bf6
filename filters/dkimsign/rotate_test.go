package dkimsign

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

// A stage is a directory of keys, its DNS and its clock.
type stage struct {
	t       *testing.T
	dir     string
	now     time.Time
	txt     map[string]string
	notes   []string
	noteErr error
	reloads int
	reload  error
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, dir: filepath.Join(t.TempDir(), "dkim"), now: filterstest.At, txt: map[string]string{}}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stage) zone() *dns.Zone {
	names := map[string]any{}
	for name, record := range s.txt {
		names[name] = map[string]any{"TXT": []string{record}}
		if record == "servfail" {
			names[name] = map[string]any{"!": record}
		}
	}
	text, err := json.Marshal(names)
	if err != nil {
		s.t.Fatal(err)
	}
	z, err := dns.ParseZone(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return z
}

const day = 24 * time.Hour

func (s *stage) rotation() *Rotation {
	return &Rotation{
		Dir: s.dir, Resolver: s.zone(), Now: func() time.Time { return s.now }, Kinds: []string{dkim.RSA, dkim.Ed25519},
		Every: 90 * day, Overlap: day, Keep: 7 * day,
		Note: func(domain, selector, what string) error {
			if s.noteErr == nil {
				s.notes = append(s.notes, what+" "+selector)
			}
			return s.noteErr
		},
		Reload: func() error { s.reloads++; return s.reload },
	}
}

// step does one and returns "selector state" of each key, sorted.
func (s *stage) step(change ...func(*Rotation)) []KeyReport {
	s.t.Helper()
	r := s.rotation()
	for _, c := range change {
		c(r)
	}
	reports, err := r.Step(s.t.Context(), "example.org")
	if err != nil {
		s.t.Fatal(err)
	}
	return reports
}

// publish puts every record that is asked for into DNS, and returns how many.
func (s *stage) publish(reports []KeyReport) int {
	n := 0
	for _, r := range reports {
		if r.Waits() {
			s.txt[r.Name] = r.Record
			n++
		}
	}
	return n
}

// is checks which keys there are and that every file is its owner's alone.
func (s *stage) is(want ...string) {
	s.t.Helper()
	var got []string
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		got = append(got, strings.TrimPrefix(d.Name(), "2026"))
		if info, err := d.Info(); err != nil || info.Mode().Perm() != 0o600 {
			s.t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("keys %q, want %q", got, want)
	}
}

// signs checks that mail is signed by so many keys, and that a verifier finds
// every one of them.
func (s *stage) signs(want int) {
	s.t.Helper()
	c := filterstest.New(s.t, Filter, filterstest.Options{Settings: fmt.Sprintf("directory = %q", s.dir)})
	const text = "From: ann@example.org\r\nSubject: x\r\n\r\nbody\r\n"
	fields := finish(s.t, c, text, mail.Outbound)
	rs, err := dkim.Verify(s.t.Context(), mail.ParseBytes([]byte(strings.Join(fields, "")+text), mail.Options{}), dkim.Options{Resolver: s.zone(), Now: filterstest.At})
	if err != nil || len(fields) != want || len(rs) != want {
		s.t.Fatalf("%d signatures, want %d: %v", len(fields), want, err)
	}
	for _, r := range rs {
		if r.Value != dkim.Pass {
			s.t.Errorf("%+v", r)
		}
	}
}

// TestRotate goes through the life of two generations of keys. At every point
// what is signed can be verified.
func TestRotate(t *testing.T) {
	s := newStage(t)
	first := s.step()
	s.is("1121-ed25519.next", "1121-rsa.next")
	s.signs(0)
	again := s.step()
	if s.is("1121-ed25519.next", "1121-rsa.next"); len(again) != 2 || !again[0].Waits() || again[0].DNS != dkim.Missing {
		t.Fatalf("%+v", again)
	}
	// One record is not enough; nor is one that was cut short.
	s.txt[first[0].Name], s.txt[first[1].Name] = first[0].Record, first[1].Record[:40]
	s.step()
	s.is("1121-ed25519.next", "1121-rsa.next")
	s.publish(first)
	if reports := s.step(); reports[0].Done != "signs from now on" || s.reloads != 1 {
		t.Errorf("%+v, %d", reports, s.reloads)
	}
	s.is("1121-ed25519.key", "1121-rsa.key")
	s.signs(2)
	s.now = s.now.Add(89 * day)
	if reports := s.step(); s.publish(reports) != 0 || s.reloads != 1 || !strings.Contains(reports[0].Wait, "replaced from 2027-02-19") {
		t.Errorf("%+v, %d", reports, s.reloads)
	}
	s.is("1121-ed25519.key", "1121-rsa.key")

	s.now = s.now.Add(day)
	second := s.step()
	s.is("1121-ed25519.key", "1121-rsa.key", "20270219-ed25519.next", "20270219-rsa.next")
	s.signs(2)
	if s.publish(second) != 2 {
		t.Fatalf("%+v", second)
	}
	s.step()
	s.is("1121-ed25519.last", "1121-rsa.last", "20270219-ed25519.key", "20270219-rsa.key")
	s.signs(4)
	s.now = s.now.Add(day - time.Minute)
	s.step()
	s.is("1121-ed25519.last", "1121-rsa.last", "20270219-ed25519.key", "20270219-rsa.key")
	s.now = s.now.Add(time.Minute)
	s.step()
	s.is("1121-ed25519.old", "1121-rsa.old", "20270219-ed25519.key", "20270219-rsa.key")
	s.signs(2)
	s.now = s.now.Add(7*day - time.Minute)
	if n := s.publish(s.step()); n != 0 {
		t.Errorf("%d records are to be revoked too early", n)
	}
	s.now = s.now.Add(time.Minute)
	last := s.step()
	s.is("1121-ed25519.old", "1121-rsa.old", "20270219-ed25519.key", "20270219-rsa.key")
	for _, r := range last {
		if strings.HasPrefix(r.Selector, "2026") != (r.Record == dkim.RevokedRecord) {
			t.Errorf("%+v", r)
		}
	}
	s.txt[last[0].Name] = last[0].Record // one revoked
	delete(s.txt, last[1].Name)          // the other one's record removed
	if reports := s.step(); reports[0].Done != "removed" || reports[0].State != "" {
		t.Errorf("%+v", reports[0])
	}
	s.is("20270219-ed25519.key", "20270219-rsa.key")
	s.signs(2)
	want := "made 20261121-rsa, made 20261121-ed25519, signs from now on 20261121-ed25519, signs from now on 20261121-rsa, " +
		"made 20270219-rsa, made 20270219-ed25519, signs beside the new keys 20261121-ed25519, signs beside the new keys 20261121-rsa, " +
		"signs from now on 20270219-ed25519, signs from now on 20270219-rsa, stopped signing 20261121-ed25519, stopped signing 20261121-rsa, " +
		"removed 20261121-ed25519, removed 20261121-rsa"
	if got := strings.Join(s.notes, ", "); got != want {
		t.Errorf("notes %s", got)
	}
}

// ready is a stage whose keys sign.
func ready(t *testing.T) *stage {
	s := newStage(t)
	s.publish(s.step())
	s.step()
	s.is("1121-ed25519.key", "1121-rsa.key")
	return s
}

func TestRotateNow(t *testing.T) {
	s := ready(t)
	now := func(r *Rotation) { r.Begin, r.Overlap, r.Keep = true, 0, 0 }
	s.publish(s.step(now))
	s.is("1121-ed25519-2.next", "1121-ed25519.key", "1121-rsa-2.next", "1121-rsa.key")
	s.now = s.now.Add(time.Minute)
	// A stolen key: over at once.
	if n := s.publish(s.step(func(r *Rotation) { r.Overlap, r.Keep = 0, 0 })); n != 2 {
		t.Errorf("%d revocations are to be published", n)
	}
	s.is("1121-ed25519-2.key", "1121-ed25519.old", "1121-rsa-2.key", "1121-rsa.old")
	s.step(func(r *Rotation) { r.Keep = 0 })
	s.is("1121-ed25519-2.key", "1121-rsa-2.key")
	s.signs(2)
}

// TestRotateStopped goes on after each place where the step could have been cut
// off.
func TestRotateStopped(t *testing.T) {
	for stop := range 4 {
		s := ready(t)
		s.now = s.now.Add(90 * day)
		s.publish(s.step())
		s.now = s.now.Add(time.Hour)
		r := s.rotation()
		n := 0
		r.Note = func(string, string, string) error {
			if n++; n > stop {
				return errors.New("no more")
			}
			return nil
		}
		if _, err := r.Step(t.Context(), "example.org"); err == nil {
			t.Fatal("the step was not stopped")
		}
		s.now = s.now.Add(time.Hour)
		s.step()
		s.is("1121-ed25519.last", "1121-rsa.last", "20270219-ed25519.key", "20270219-rsa.key")
		s.signs(4)
	}
}

// TestRotateKilled goes on after a process that ended without a word: between the
// new time of a key and its new name, between two keys that it made, and between
// two names of one key.
func TestRotateKilled(t *testing.T) {
	old := []string{"1121-ed25519.last", "1121-rsa.last", "20270219-ed25519.key", "20270219-rsa.key"}
	begun := func(change ...func(*Rotation)) *stage {
		s := ready(t)
		s.now = s.now.Add(90 * day)
		s.publish(s.step(change...))
		s.now = s.now.Add(time.Hour)
		return s
	}
	finish := func(s *stage, want ...string) {
		t.Helper()
		s.now = s.now.Add(time.Hour)
		s.publish(s.step())
		s.step()
		s.is(want...)
	}
	for _, kind := range []string{"rsa", "ed25519"} {
		s := begun()
		if err := os.Chtimes(filepath.Join(s.dir, "example.org", "20261121-"+kind+".key"), s.now, s.now); err != nil {
			t.Fatal(err)
		}
		finish(s, old...)
		s.signs(4)
	}
	one := func(r *Rotation) { r.Kinds = r.Kinds[:1] }
	s := begun(one)
	s.is("1121-ed25519.key", "1121-rsa.key", "20270219-rsa.next")
	finish(s, "1121-ed25519.last", "1121-rsa.last", "20270219-rsa.key") // in time it was asked for one kind, and published
	s = ready(t)
	s.now = s.now.Add(90 * day)
	s.step(one) // killed before anybody was told
	finish(s, old...)
	s = begun()
	name := filepath.Join(s.dir, "example.org", "20270219-rsa.next")
	if err := os.Link(name, filepath.Join(filepath.Dir(name), ".new-123")); err != nil {
		t.Fatal(err)
	}
	finish(s, old...)
}

// TestRotateAlone: two rotations at once do not get into each other's way.
func TestRotateAlone(t *testing.T) {
	s := newStage(t)
	r := s.rotation()
	note := r.Note
	var others int
	r.Note = func(domain, selector, what string) error {
		if _, err := s.rotation().Step(t.Context(), "example.org"); err == nil || !strings.Contains(err.Error(), "another rotation is at work in "+s.dir) {
			t.Errorf("a second one: %v", err)
		}
		others++
		return note(domain, selector, what)
	}
	reports, err := r.Step(t.Context(), "example.org")
	if err != nil || others != 2 || s.publish(reports) != 2 {
		t.Errorf("%d others, %v", others, err)
	}
	s.step()
	s.is("1121-ed25519.key", "1121-rsa.key")
}

// TestGuarded: where others may put keys, none are read and none are made.
func TestGuarded(t *testing.T) {
	for _, below := range []string{"", "example.org"} {
		for _, mode := range []fs.FileMode{0o770, 0o702, 0o777 | fs.ModeSticky} {
			s := ready(t)
			folder := filepath.Join(s.dir, below)
			if err := os.Chmod(folder, mode); err != nil {
				t.Fatal(err)
			}
			_, err := s.rotation().Step(t.Context(), "example.org")
			for _, err := range []error{err, (&Checker{Directory: s.dir}).Open(t.Context(), &filters.Env{})} {
				if err == nil || !strings.Contains(err.Error(), "chmod go-w "+folder) {
					t.Errorf("%q with mode %v: %v", below, mode, err)
				}
			}
			if err := os.Chmod(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			s.step()
		}
	}
}

// TestRotateHolds has what keeps a rotation from going on.
func TestRotateHolds(t *testing.T) {
	s := newStage(t)
	s.noteErr = errors.New("the audit log is full")
	if _, err := s.rotation().Step(t.Context(), "example.org"); !errors.Is(err, s.noteErr) {
		t.Errorf("%v", err)
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) > 0 {
		t.Errorf("something was made that is not noted: %v, %v", entries, err)
	}
	s = ready(t)
	s.now = s.now.Add(90 * day)
	second := s.step()
	for _, r := range second {
		s.txt[r.Name] = "servfail"
	}
	s.step()
	s.is("1121-ed25519.key", "1121-rsa.key", "20270219-ed25519.next", "20270219-rsa.next")
	s.publish(second)
	s.step()
	if _, err := (func() *Rotation { r := s.rotation(); r.Begin = true; return r })().Step(t.Context(), "example.org"); err == nil {
		t.Error("a rotation began within another one")
	}
	// The new records vanish again: the keys before sign on.
	s.now = s.now.Add(2 * day)
	s.txt[second[2].Name] = "v=DKIM1; p="
	if reports := s.step(); !strings.Contains(reports[0].Wait, "signs on") || s.publish(reports) == 0 {
		t.Errorf("%+v", reports)
	}
	s.is("1121-ed25519.last", "1121-rsa.last", "20270219-ed25519.key", "20270219-rsa.key")
	s.step()
	// A gateway that does not reload signs with the old keys still.
	s.now = s.now.Add(8 * day)
	s.reload = errors.New("the policy is refused")
	reports, err := s.rotation().Step(t.Context(), "example.org")
	if !errors.Is(err, s.reload) || slices.ContainsFunc(reports, func(r KeyReport) bool { return r.Waits() }) {
		t.Errorf("%+v, %v", reports, err)
	}
}

// TestFolder has what lies in a directory and is not a key in order.
func TestFolder(t *testing.T) {
	s := ready(t)
	name := filepath.Join(s.dir, "example.org", "20261121-rsa.key")
	for _, other := range []string{"README", ".new-123", "Upper.key", "a.key~", "b.key.bak"} {
		if err := os.WriteFile(filepath.Join(s.dir, "example.org", other), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(s.dir, "lost+found"), 0o755); err != nil {
		t.Fatal(err)
	}
	if found, err := ReadFolder(s.dir); err != nil || len(found) != 2 || found[0].Kind() != dkim.Ed25519 || found[1].Kind() != dkim.RSA {
		t.Errorf("%+v, %v", found, err)
	}
	c := &Checker{Directory: s.dir}
	fails := func(want string) {
		t.Helper()
		if err := c.Open(t.Context(), &filters.Env{}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	fails("chmod 600 " + name)
	if err := os.WriteFile(name, []byte("BEGIN SECRET"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	fails(name)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	fails(name)
	c.Directory = s.dir + ".absent"
	fails("keys dkim rotate")
	c.Directory = filepath.Join(s.dir, "example.org", "README")
	fails("README")
}
