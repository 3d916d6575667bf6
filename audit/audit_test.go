package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"postern/store"
	"postern/store/dir"
	"postern/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// A place is a folder with an audit log, its head and its key.
type place struct {
	root    string
	now     time.Time
	plan    *storetest.Plan
	section int64
	report  *slog.Logger
	mu      sync.Mutex
}

func newPlace(t testing.TB) *place {
	return &place{root: t.TempDir(), now: storetest.Epoch, plan: &storetest.Plan{}}
}

func (p *place) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(time.Millisecond)
	return p.now
}

func (p *place) logDir() string { return filepath.Join(p.root, "log") }

func (p *place) options(t testing.TB) Options {
	t.Helper()
	l, err := dir.OpenLog(p.logDir())
	if err != nil {
		t.Fatal(err)
	}
	return Options{Log: storetest.FaultyLog{Log: l, Plan: p.plan}, Head: filepath.Join(p.root, "head"), Key: filepath.Join(p.root, "key"),
		Now: p.clock, Section: p.section, Report: p.report}
}

func (p *place) open(t testing.TB) *Log {
	t.Helper()
	o := p.options(t)
	l, err := Open(ctx, o)
	if err != nil {
		o.Log.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// verify verifies the closed log.
func (p *place) verify() (Report, error) {
	return Verify(ctx, func() (store.Log, error) { return dir.ReadLog(p.logDir()) }, filepath.Join(p.root, "head"), filepath.Join(p.root, "key"))
}

func sample(n int) Record {
	return Record{Event: Verdict, ID: fmt.Sprintf("01J8ZK%04d", n), Direction: "inbound", Disposition: "relay", Rule: "default", Policy: "5f3a",
		Score: 1.25, Size: 2412, Symbols: []string{"SPF_PASS", "HAS_LINK"}, From: "alice@partner.example", To: fmt.Sprintf("bob%d@example.org", n),
		Author: "alice@partner.example", Client: "203.0.113.9", Helo: "mail.partner.example", Why: "nothing spoke against it"}
}

func fillLog(t testing.TB, l *Log, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		add := l.AppendLater
		if n%5 == 4 {
			add = func(r Record) error { return l.Append(ctx, r) }
		}
		if err := add(sample(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAppendAndList(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	all := Record{Event: Release, At: storetest.Epoch, ID: "i", Item: "t", Direction: "d", Disposition: "x", Queue: "spam", Rule: "r\"\\\n\x01", Policy: "p",
		Status: "2.0.0", Relay: "exchange[10.0.5.10]:25", Score: -11.4, Size: 7, Symbols: []string{"A", "B é\u202e"}, Detail: "in words",
		Actor: "marie", From: "a@b", To: "c@d", Author: "e@f", Client: "g", Helo: "h", Why: "i", Reply: "550 no\r\nmore", Reason: "\xff\x00é"}
	if err := l.Append(ctx, all); err != nil {
		t.Fatal(err)
	}
	if err := l.AppendLater(sample(1)); err != nil {
		t.Fatal(err)
	}
	got, err := l.List(ctx, Query{})
	if err != nil || len(got) != 3 {
		t.Fatalf("got %v, %v", got, err)
	}
	if got[0].Event != Checkpoint || got[2].ID != sample(1).ID {
		t.Errorf("order: %v", got)
	}
	all.Seq, all.Hash, all.Reason = 2, got[1].Hash, "\ufffd\x00é"
	if d := cmp.Diff(all, got[1]); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	report, err := l.Verify(ctx)
	if err != nil || report.Records != 3 || report.First != 1 || report.Last != 3 || report.Erased != 0 {
		t.Errorf("Verify = %+v, %v", report, err)
	}
	if seq, hash := l.Head(); seq != 3 || hash.String() != report.Hash {
		t.Error("Head is not the last record")
	}
}

func TestListQueries(t *testing.T) {
	p := newPlace(t)
	p.section = 4000
	l := p.open(t)
	fillLog(t, l, 0, 30)
	if err := l.Append(ctx, Record{Event: Read, Item: "held-1", Actor: "marie", Reason: "asked by BOB7@example.org.", ID: "01J8ZK0007"}); err != nil {
		t.Fatal(err)
	}
	middle := p.now
	fillLog(t, l, 30, 40)
	for _, c := range []struct {
		q    Query
		want string
	}{
		{Query{ID: "01J8ZK0007"}, "verdict read"},
		{Query{ID: "held-1"}, "read"},
		{Query{Actor: "marie"}, "read"},
		{Query{Address: "bob7@EXAMPLE.org"}, "verdict read"},
		{Query{Address: "bob1@example.org"}, "verdict"},
		{Query{Address: "ob1@example.org"}, ""},
		{Query{Events: []Event{Read, Delete}}, "read"},
		{Query{Rule: "nobody"}, ""},
		{Query{Limit: 2, Since: middle, Events: []Event{Verdict}}, "verdict verdict"},
	} {
		found, err := l.List(ctx, c.q)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, r := range found {
			got = append(got, string(r.Event))
			if i > 0 && r.Seq <= found[i-1].Seq {
				t.Errorf("%+v: not in order", c.q)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("List(%+v) = %v, want %s", c.q, got, c.want)
		}
	}
	var out bytes.Buffer
	if err := Export(ctx, l.o.Log, &out, Query{}); err != nil {
		t.Fatal(err)
	}
	seq, _ := l.Head()
	if n := strings.Count(out.String(), "\n"); uint64(n) != seq {
		t.Errorf("Export wrote %d lines of %d", n, seq)
	}
}

func TestReopen(t *testing.T) {
	p := newPlace(t)
	p.section = 3000
	for n := range 5 {
		l := p.open(t)
		fillLog(t, l, n*7, n*7+7)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Append(ctx, sample(0)); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Append after Close: %v", err)
		}
		if report, err := p.verify(); err != nil || report.Records < uint64(n*7+7) {
			t.Fatalf("round %d: %+v, %v", n, report, err)
		}
	}
	if info, err := os.Stat(filepath.Join(p.root, "key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", info.Mode(), err)
	}
}

// lines returns the files of the log and their lines.
func (p *place) files(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.logDir(), "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	return files
}

func TestTampering(t *testing.T) {
	edit := func(from, to string) func(*testing.T, *place) {
		return func(t *testing.T, p *place) {
			for _, f := range p.files(t) {
				text, _ := os.ReadFile(f)
				if bytes.Contains(text, []byte(from)) {
					os.WriteFile(f, bytes.Replace(text, []byte(from), []byte(to), 1), 0o600)
					return
				}
			}
			t.Fatalf("no %q", from)
		}
	}
	onLines := func(file int, change func([]string) []string) func(*testing.T, *place) {
		return func(t *testing.T, p *place) {
			f := p.files(t)[file]
			text, _ := os.ReadFile(f)
			lines := change(strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n"))
			os.WriteFile(f, []byte(strings.TrimSuffix(strings.Join(lines, ""), "\n")+"\n"), 0o600)
		}
	}
	lastFile := func(t *testing.T, p *place) string { f := p.files(t); return f[len(f)-1] }
	cutTail := func(n int) func(*testing.T, *place) {
		return func(t *testing.T, p *place) {
			f := lastFile(t, p)
			text, _ := os.ReadFile(f)
			lines := strings.SplitAfter(string(text), "\n")
			os.WriteFile(f, []byte(strings.Join(lines[:len(lines)-1-n], "")), 0o600)
		}
	}
	for name, c := range map[string]struct {
		tamper func(*testing.T, *place)
		seq    uint64
		why    string
	}{
		"open field":       {edit(`"id":"01J8ZK0003"`, `"id":"01J8ZK9999"`), 5, "its hash does not fit"},
		"personal value":   {edit("bob3@example.org", "eve3@example.org"), 5, "the value of to was changed"},
		"hash of a value":  {edit(`"personal":{"from":"`, `"personal":{"from":"A`), 2, "its hash does not fit"},
		"new value":        {edit(`"values":{"from"`, `"values":{"reason":["",""],"from"`), 2, "the value of reason was changed"},
		"not JSON":         {edit(`{"record":{"seq":4,`, `{"record":{"seq":4;`), 4, "not a record"},
		"line removed":     {onLines(0, func(l []string) []string { return append(l[:3:3], l[4:]...) }), 4, "record 5 stands in its place"},
		"lines swapped":    {onLines(0, func(l []string) []string { l[2], l[3] = l[3], l[2]; return l }), 3, "record 4 stands in its place"},
		"line doubled":     {onLines(0, func(l []string) []string { l[3] = l[2]; return l }), 4, "record 3 stands in its place"},
		"first file gone":  {func(t *testing.T, p *place) { os.Remove(p.files(t)[0]) }, 1, "it is missing"},
		"middle file gone": {func(t *testing.T, p *place) { os.Remove(p.files(t)[1]) }, 0, "it is missing"},
		"last file gone":   {func(t *testing.T, p *place) { os.Remove(lastFile(t, p)) }, 0, "it is missing"},
		"last record gone": {cutTail(1), 0, "the log was cut off"},
		"three gone":       {cutTail(3), 0, "the log was cut off"},
		"all gone":         {func(t *testing.T, p *place) { os.RemoveAll(p.logDir()); os.Mkdir(p.logDir(), 0o700) }, 1, "the log was cut off"},
		"head gone":        {func(t *testing.T, p *place) { os.Remove(filepath.Join(p.root, "head")) }, 0, "the head is missing"},
		"head forged": {func(t *testing.T, p *place) {
			b, _ := os.ReadFile(filepath.Join(p.root, "head"))
			os.WriteFile(filepath.Join(p.root, "head"), bytes.ReplaceAll(b, []byte(`"seq":`), []byte(`"seq":1`)), 0o600)
		}, 0, "the head is missing or not signed"},
		"other key": {func(t *testing.T, p *place) {
			os.Remove(filepath.Join(p.root, "key"))
			if _, err := loadKey(filepath.Join(p.root, "key"), rand.Reader); err != nil {
				t.Fatal(err)
			}
		}, 1, "the checkpoint's signature does not fit"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.section = 4000
			l := p.open(t)
			fillLog(t, l, 0, 30)
			l.Close()
			if _, err := p.verify(); err != nil {
				t.Fatalf("before: %v", err)
			}
			c.tamper(t, p)
			_, err := p.verify()
			var bad *BadRecord
			if !errors.As(err, &bad) || !strings.Contains(bad.Why, c.why) || c.seq > 0 && bad.Seq != c.seq {
				t.Errorf("got %v, want record %d: %s", err, c.seq, c.why)
			}
		})
	}
}

// A whole new chain with right hashes still fails: its checkpoints and head are
// not signed.
func TestForgery(t *testing.T) {
	p, q := newPlace(t), newPlace(t)
	a, b := p.open(t), q.open(t)
	fillLog(t, a, 0, 10)
	fillLog(t, b, 0, 20)
	a.Close()
	b.Close()
	os.RemoveAll(p.logDir())
	if err := os.CopyFS(p.logDir(), os.DirFS(q.logDir())); err != nil {
		t.Fatal(err)
	}
	if _, err := p.verify(); err == nil {
		t.Error("a chain signed with another key verified")
	}
}

func TestTruncationNotedAtOpen(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	fillLog(t, l, 0, 10)
	l.Close()
	f := p.files(t)[0]
	text, _ := os.ReadFile(f)
	lines := strings.SplitAfter(string(text), "\n")
	os.WriteFile(f, []byte(strings.Join(lines[:8], "")), 0o600)
	l = p.open(t)
	fillLog(t, l, 10, 20)
	_, err := l.Verify(ctx)
	var bad *BadRecord
	if !errors.As(err, &bad) || !strings.Contains(bad.Why, "records 9 to 11 are missing at the end") {
		t.Errorf("Verify = %v", err)
	}
}

func TestRefusesToOpen(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*place) error
		want  string
	}{
		"no key":   {func(p *place) error { return os.Remove(filepath.Join(p.root, "key")) }, "read key"},
		"open key": {func(p *place) error { return os.Chmod(filepath.Join(p.root, "key"), 0o640) }, "chmod 600"},
		"bad key":  {func(p *place) error { return os.WriteFile(filepath.Join(p.root, "key"), []byte("x"), 0o600) }, "not a key"},
		"last line": {func(p *place) error {
			return appendFile(filepath.Join(p.logDir(), "00000000000000000001.log"), "garbage\n")
		}, "the last record cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.open(t).Close()
			l := p.open(t)
			fillLog(t, l, 0, 3)
			l.Close()
			files := p.files(t)
			if name == "last line" {
				appendFile(files[len(files)-1], "garbage\n")
			} else if err := c.spoil(p); err != nil {
				t.Fatal(err)
			}
			o := p.options(t)
			defer o.Log.Close()
			if _, err := Open(ctx, o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func TestForget(t *testing.T) {
	p := newPlace(t)
	p.section = 5000
	l := p.open(t)
	fillLog(t, l, 0, 20)
	fillLog(t, l, 7, 8)
	if err := l.Append(ctx, Record{Event: Read, Actor: "marie", Reason: "bob7@example.org asked", From: "x@y.example", Client: "192.0.2.1"}); err != nil {
		t.Fatal(err)
	}
	done, err := l.Forget(ctx, "BOB7@example.org", "dpo")
	if err != nil || done != (Erasure{Records: 3, Values: 5}) {
		t.Fatalf("Forget = %+v, %v", done, err)
	}
	report, err := l.Verify(ctx)
	if err != nil || report.Erased != 5 {
		t.Errorf("Verify = %+v, %v", report, err)
	}
	found, err := l.List(ctx, Query{ID: "01J8ZK0007"})
	if err != nil || len(found) != 2 || found[0].To != "" || found[0].From == "" || fmt.Sprint(found[0].Erased) != "[to why]" {
		t.Errorf("%+v, %v", found, err)
	}
	// The reverse-path takes the client with it.
	done, err = l.Forget(ctx, "alice@partner.example", "dpo")
	if err != nil || done != (Erasure{Records: 21, Values: 103}) {
		t.Fatalf("Forget = %+v, %v", done, err)
	}
	if again, err := l.Forget(ctx, "alice@partner.example", "dpo"); err != nil || again.Records != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	if _, err := l.Forget(ctx, "", "dpo"); err == nil {
		t.Error("Forget of nobody succeeded")
	}
	l.Close()
	if report, err := p.verify(); err != nil || report.Erased != 108 {
		t.Errorf("Verify = %+v, %v", report, err)
	}
	for _, f := range p.files(t) {
		text, _ := os.ReadFile(f)
		for _, gone := range []string{"alice", "bob7", "203.0.113.9", "mail.partner"} {
			if bytes.Contains(bytes.ToLower(text), []byte(gone)) {
				t.Errorf("%s still has %q", f, gone)
			}
		}
	}
}

func TestCut(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	for day := range 10 {
		p.now = storetest.Epoch.AddDate(0, 0, day)
		fillLog(t, l, day*5, day*5+5)
	}
	if err := l.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Cut(ctx, storetest.Epoch.AddDate(0, 0, -1)); n != 0 || err != nil {
		t.Errorf("Cut of nothing = %d, %v", n, err)
	}
	n, err := l.Cut(ctx, storetest.Epoch.AddDate(0, 0, 4).Add(time.Hour))
	if err != nil || n != 24 {
		t.Fatalf("Cut = %d, %v, want 24", n, err)
	}
	report, err := l.Verify(ctx)
	if err != nil || report.First != 25 {
		t.Errorf("Verify = %+v, %v", report, err)
	}
	l.Close()
	l = p.open(t)
	fillLog(t, l, 50, 60)
	l.Close()
	if report, err = p.verify(); err != nil || report.First != 25 {
		t.Errorf("Verify = %+v, %v", report, err)
	}
	// Cutting one more section by hand is noticed.
	os.Remove(p.files(t)[0])
	var bad *BadRecord
	if _, err := p.verify(); !errors.As(err, &bad) || bad.Seq != 25 {
		t.Errorf("Verify = %v", err)
	}
}

// Wherever cutting is interrupted, the chain verifies.
func TestCutInterrupted(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	for day := range 3 {
		p.now = storetest.Epoch.AddDate(0, 0, day)
		fillLog(t, l, day*5, day*5+5)
	}
	l.Sync(ctx)
	p.plan.Fail("cut", nil)
	if _, err := l.Cut(ctx, p.now.Add(time.Hour)); !errors.Is(err, storetest.ErrFault) {
		t.Fatal(err)
	}
	if _, err := l.Verify(ctx); err != nil {
		t.Error(err)
	}
	if n, err := l.Cut(ctx, p.now.Add(time.Hour)); err != nil || n == 0 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := l.Verify(ctx); err != nil {
		t.Error(err)
	}
}

func TestDiskFull(t *testing.T) {
	p := newPlace(t)
	var out bytes.Buffer
	p.report = slog.New(slog.NewTextHandler(&out, nil))
	l := p.open(t)
	fillLog(t, l, 0, 3)
	l.Sync(ctx)
	full := fmt.Errorf("write: %w", store.ErrFull)
	p.plan.Fail("append", full)
	if err := l.Append(ctx, sample(3)); !errors.Is(err, store.ErrFull) {
		t.Fatalf("Append on a full disk: %v", err)
	}
	if err := l.Append(ctx, sample(4)); err != nil {
		t.Fatalf("Append after it has room again: %v", err)
	}
	// What could not be written then was written now, in order.
	if report, err := l.Verify(ctx); err != nil || report.Records != 6 {
		t.Errorf("%+v, %v", report, err)
	}
	l.Close()
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "cannot be written") || !strings.Contains(got, "is written again") {
		t.Errorf("reported:\n%s", got)
	}
	if strings.Contains(out.String(), "bob") {
		t.Error("an address was logged")
	}
}

func TestBacklog(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	l.writeMu.Lock() // the disk hangs
	r := sample(0)
	r.Detail = strings.Repeat("x", 1<<20)
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = l.AppendLater(r)
	}
	l.writeMu.Unlock()
	if !errors.Is(err, ErrBacklog) || n < 60 || n > 70 {
		t.Fatalf("after %d MB: %v", n, err)
	}
	if err := l.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.AppendLater(sample(1)); err != nil {
		t.Error(err)
	}
}

func TestCancelled(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	l.writeMu.Lock()
	err := l.Append(ended, sample(1))
	l.writeMu.Unlock()
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNoRandomness(t *testing.T) {
	p := newPlace(t)
	p.open(t).Close()
	o := p.options(t)
	o.Rand = strings.NewReader("")
	l, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.AppendLater(sample(1)); err == nil {
		t.Error("a record was written without a salt")
	}
}

// A process that is killed loses at most what waits in memory, and the chain
// still verifies.
func TestKilled(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	fillLog(t, l, 0, 10)
	state := t.TempDir()
	if err := os.CopyFS(state, os.DirFS(p.root)); err != nil { // as the disk is now
		t.Fatal(err)
	}
	fillLog(t, l, 10, 20)
	l.Close()
	log, err := dir.ReadLog(filepath.Join(p.root, "log"))
	if err != nil {
		t.Fatal(err)
	}
	log.Close()
	for cut := range 3 {
		q := newPlace(t)
		os.CopyFS(q.root, os.DirFS(state))
		os.Chmod(filepath.Join(q.root, "key"), 0o600)
		if cut > 0 { // half a line, written when the power went
			if err := appendFile(q.files(t)[0], `{"record":{"seq":`[:8*cut]); err != nil {
				t.Fatal(err)
			}
		}
		again := q.open(t)
		fillLog(t, again, 20, 25)
		if report, err := again.Verify(ctx); err != nil || report.Records < 16 {
			t.Errorf("%+v, %v", report, err)
		}
	}
}

func TestConcurrent(t *testing.T) {
	p := newPlace(t)
	p.section = 20000
	l := p.open(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			fillLog(t, l, g*100, g*100+50)
		}()
	}
	wg.Add(1)
	go func() {
		defer wg.Done()
		for range 3 {
			if _, err := l.Forget(ctx, "bob100@example.org", "dpo"); err != nil {
				t.Error(err)
			}
			if _, err := l.Verify(ctx); err != nil {
				t.Error(err)
			}
			if _, err := l.List(ctx, Query{Limit: 5}); err != nil {
				t.Error(err)
			}
		}
	}()
	wg.Wait()
	report, err := l.Verify(ctx)
	if err != nil {
		t.Error(err)
	}
	verdicts, err := l.List(ctx, Query{Events: []Event{Verdict}, Limit: 1000})
	if err != nil || len(verdicts) != 400 {
		t.Errorf("%d verdicts, %v; %+v", len(verdicts), err, report)
	}
}

func TestErase(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"bob@example.org", "*"}, {"<Bob@Example.ORG>", "<*>"}, {"to bob@example.org, he said", "to *, he said"}, {"bob@example.org.", "*."},
		{"bob@example.org...", "*..."}, {"mailto:bob@example.org", "mailto:*"}, {"bob@example.org bob@example.org", "* *"},
		{"xbob@example.org bob@example.org", "xbob@example.org *"}, {"\u0130 BOB@example.org", "\u0130 *"}, {"BOB@example.orgs, bob@example.org", "BOB@example.orgs, *"},
		{"xbob@example.org", ""}, {"x.bob@example.org", ""}, {"bob@example.org.uk", ""}, {"bob@example.orgs", ""}, {"\u00e9bob@example.org", ""}, {"", ""},
	} {
		got, found := Erase(c.text, "BOB@example.org", "*")
		if found != (c.want != "") || found != mentions(c.text, "bob@EXAMPLE.org") || found && got != c.want || !found && got != c.text {
			t.Errorf("Erase(%q) = %q, %v; want %q", c.text, got, found, c.want)
		}
	}
	if mentions("anything", "") {
		t.Error("nobody is mentioned")
	}
}

func FuzzParse(f *testing.F) {
	b := &buffer{}
	r := sample(1)
	fields, values := r.appendFields([]byte(`{"seq":1`), b.salts[:], ""), r.appendValues(nil, b.salts[:])
	f.Add(appendLine(nil, fields, Hash{}, values))
	f.Add([]byte(`{"record":{},"hash":"","values":{"to":["",""]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parse(text)
		if err != nil {
			return
		}
		l.record()
		l.checkValues()
		if out, n, err := erase(text, "bob1@example.org"); n > 0 {
			if again, err := parse(out); err != nil || again.hash != l.hash || !bytes.Equal(again.Record, l.Record) {
				t.Errorf("erased line is broken: %s: %v", out, err)
			}
		} else if err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkAppendLater(b *testing.B) {
	l := newPlace(b).open(b)
	r := sample(1)
	b.ReportAllocs()
	for b.Loop() {
		if err := l.AppendLater(r); err != nil {
			l.Sync(ctx)
		}
	}
	l.Close()
}

func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			l := newPlace(b).open(b)
			defer l.Close()
			var wg sync.WaitGroup
			b.ResetTimer()
			for g := range writers {
				n := (b.N + g) / writers
				wg.Add(1)
				go func() {
					defer wg.Done()
					for range n {
						if err := l.Append(ctx, sample(1)); err != nil {
							b.Error(err)
						}
					}
				}()
			}
			wg.Wait()
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	l := newPlace(b).open(b)
	defer l.Close()
	for range 10000 {
		l.AppendLater(sample(1))
	}
	for b.Loop() {
		if _, err := l.Verify(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/10000, "us/record")
}
