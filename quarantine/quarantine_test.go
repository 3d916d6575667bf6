package quarantine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"postern/filters"
	"postern/mail"
	"postern/store"
	"postern/store/dir"
	"postern/store/sqlite"
	"postern/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// A bench is a quarantine over SQLite and a directory, with a clock and faults.
type bench struct {
	*Quarantine
	root    string
	records *sqlite.DB
	blobs   *dir.Blobs
	plan    *storetest.Plan
	options Options

	mu  sync.Mutex
	now time.Time
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func newBench(t testing.TB, s Settings) *bench {
	t.Helper()
	b := &bench{root: t.TempDir(), plan: &storetest.Plan{}, now: time.Now().UTC().Truncate(time.Second)}
	var err error
	if b.records, err = sqlite.Open(ctx, filepath.Join(b.root, "postern.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.records.Close() })
	if b.blobs, err = dir.OpenBlobs(filepath.Join(b.root, "bodies"), dir.BlobOptions{}); err != nil {
		t.Fatal(err)
	}
	b.options = Options{Settings: s, Records: storetest.FaultyRecords{Records: b.records, Plan: b.plan}, Blobs: storetest.FaultyBlobs{Blobs: b.blobs, Plan: b.plan},
		Key: filepath.Join(b.root, "quarantine.key"), Now: b.clock}
	b.reopen(t)
	return b
}

// reopen is what a restart does.
func (b *bench) reopen(t testing.TB) {
	t.Helper()
	q, err := Open(ctx, b.options)
	if err != nil {
		t.Fatal(err)
	}
	b.Quarantine = q
}

var (
	alice = mail.Path{Local: "alice", Domain: "partner.example"}
	bob   = mail.Path{Local: "bob", Domain: "example.org"}
	carol = mail.Path{Local: `"carol @home"`, Domain: "example.org"}
)

func message(n int) string {
	return fmt.Sprintf("From: Alice <alice@partner.example>\r\nSubject: Facture %d\r\nX-Token: token-%d\r\n\r\nDear bob,\r\n%s", n, n, strings.Repeat("please pay.\r\n", n))
}

func sample(n int) Item {
	auth := "alice"
	return Item{
		Transaction: fmt.Sprintf("tx-%d", n), Received: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), Queue: "spam", Direction: mail.Inbound,
		Session:     mail.Session{ID: "s", Client: netip.MustParseAddrPort("203.0.113.9:4711"), Helo: "mail.partner.example", TLS: mail.TLSFacts{Version: "TLS1.3"}, ESMTP: true},
		ReversePath: alice, Options: smtp.MailOptions{Size: 12, Return: smtp.DSNReturnFull, EnvelopeID: "e1", Auth: &auth},
		To: []Recipient{
			{Recipient: mail.Recipient{Path: bob, Options: smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifySuccess}, OriginalRecipientType: "RFC822", OriginalRecipient: "bob@example.org"}}},
			{Recipient: mail.Recipient{Path: carol}},
		},
		Upstream: "exchange", Demands: mail.Demands{TLS: "verify", Encrypted: true}, EightBit: true,
		Author: alice, AuthorName: "Alice", Subject: fmt.Sprintf("Facture n° %d", n), MessageID: fmt.Sprintf("<m%d@partner.example>", n),
		Attachments: []Attachment{{Part: "2", Name: "facture.docm", Type: "application/msword", Kind: "macro", Size: 5, SHA256: [32]byte{1}}},
		Rule:        "by-score", Why: "score 11.4 is at least 6", Policy: "5f3a", Score: 11.4,
		Symbols:  []filters.Symbol{{Name: "SPF_FAIL", Score: 2, Evidence: "203.0.113.9 may not send for alice@partner.example"}},
		Auth:     []mail.AuthResult{{Method: "spf", Value: "fail"}},
		Findings: []mail.Finding{{Kind: "duplicate-from", Offset: 7, Evidence: "two"}},
	}
}

func (b *bench) hold(t testing.TB, n int) string {
	t.Helper()
	id, err := b.Hold(ctx, sample(n), strings.NewReader(message(n)))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (b *bench) readAll(id string) (string, error) {
	r, _, err := b.Read(ctx, id, Access{Actor: "marie", Purpose: "preview"})
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	return string(text), err
}

// bodies counts the stored bodies.
func (b *bench) bodies(t testing.TB) int {
	n := 0
	if err := b.blobs.List(ctx, func(store.Blob) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func TestHoldAndRead(t *testing.T) {
	for _, plain := range []bool{false, true} {
		b := newBench(t, Settings{Plain: plain})
		id := b.hold(t, 100)
		b.reopen(t)
		got, err := b.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		wanted := sample(100)
		wanted.ID, wanted.State, wanted.At, wanted.Size, wanted.Body, wanted.SHA256 = id, Held, b.now, int64(len(message(100))), true, got.SHA256
		for i := range wanted.To {
			wanted.To[i].State = Held
		}
		if d := cmp.Diff(&wanted, got, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Errorf("item changed (-want +got):\n%s", d)
		}
		if text, err := b.readAll(id); err != nil || text != message(100) {
			t.Errorf("body: %d bytes, %v", len(text), err)
		}
		if b.Used() == 0 || b.Used() > int64(len(message(100))) {
			t.Errorf("%d bytes used", b.Used())
		}
		short, err := b.Get(ctx, strings.ToLower(id[:8]))
		if err != nil || short.ID != id {
			t.Errorf("Get of a prefix: %v", err)
		}
		b.hold(t, 1)
		_, err = b.Get(ctx, id[:4])
		want(t, err, ErrAmbiguous)
		if err == nil || !strings.Contains(err.Error(), id) {
			t.Errorf("not named: %v", err)
		}
		for _, missing := range []string{"", "nobody", strings.Repeat("0", 26)} {
			_, err = b.Get(ctx, missing)
			want(t, err, ErrNotFound)
		}
	}
}

// On disk nothing of an encrypted item can be read but what is searched.
func TestEncryptedAtRest(t *testing.T) {
	b := newBench(t, Settings{})
	it := sample(1)
	it.Symbols[0].Evidence = "EVIDENCE-IN-CLEAR"
	it.Attachments[0].Name = "NAME-IN-CLEAR"
	if _, err := b.Hold(ctx, it, strings.NewReader("BODY-IN-CLEAR")); err != nil {
		t.Fatal(err)
	}
	if found := b.grep(t, "IN-CLEAR"); len(found) > 0 {
		t.Errorf("found in %v", found)
	}
	info, err := os.Stat(b.options.Key)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
}

// grep returns the files below the state directory that have text in them.
func (b *bench) grep(t *testing.T, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(b.root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(bytes.ToLower(content), bytes.ToLower([]byte(text))) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestHoldRefuses(t *testing.T) {
	b := newBench(t, Settings{})
	noQueue, nobody := sample(1), sample(1)
	noQueue.Queue, nobody.To = "", nil
	for _, it := range []Item{noQueue, nobody} {
		if _, err := b.Hold(ctx, it, strings.NewReader("x")); err == nil {
			t.Error("held an item that cannot be released")
		}
	}
	broken := errors.New("spool file cannot be read")
	_, err := b.Hold(ctx, sample(1), io.MultiReader(strings.NewReader(message(9)), iotest.ErrReader(broken)))
	want(t, err, broken)
	if b.bodies(t) != 0 || b.Used() != 0 {
		t.Error("something remains of it")
	}
}

func TestFull(t *testing.T) {
	b := newBench(t, Settings{MaxSize: 20000, Plain: true})
	rnd := func() io.Reader { return io.LimitReader(newNoise(), 9000) }
	for range 2 {
		if _, err := b.Hold(ctx, sample(1), rnd()); err != nil {
			t.Fatal(err)
		}
	}
	_, err := b.Hold(ctx, sample(1), rnd())
	want(t, err, ErrFull)
	if used := b.Used(); used < 18000 || used > 19000 {
		t.Errorf("%d bytes used", used)
	}
	b.Configure(Settings{MaxSize: 40000, Plain: true})
	if _, err := b.Hold(ctx, sample(1), rnd()); err != nil {
		t.Errorf("after max_size was raised: %v", err)
	}
	for _, op := range []string{"put", "insert"} {
		b.plan.Fail(op, fmt.Errorf("%s: %w", op, store.ErrFull))
		_, err := b.Hold(ctx, sample(1), rnd())
		want(t, err, ErrFull)
	}
}

// newNoise returns bytes that cannot be compressed.
func newNoise() io.Reader { return &noise{x: 88172645463325252} }

type noise struct{ x uint64 }

func (n *noise) Read(p []byte) (int, error) {
	for i := range p {
		n.x ^= n.x << 13
		n.x ^= n.x >> 7
		n.x ^= n.x << 17
		p[i] = byte(n.x)
	}
	return len(p), nil
}

// A crash between the steps of Hold leaves at most a body that nothing leads
// to, and a sweep removes it.
func TestCrashWhileHolding(t *testing.T) {
	for _, op := range []string{"put", "stored", "insert"} {
		t.Run(op, func(t *testing.T) {
			b := newBench(t, Settings{})
			kept := b.hold(t, 3)
			b.plan.Fail(op, nil)
			_, err := b.Hold(ctx, sample(1), strings.NewReader(message(1)))
			want(t, err, storetest.ErrFault)
			b.reopen(t)
			items, err := b.Search(ctx, Query{})
			if err != nil || len(items) != 1 {
				t.Fatalf("%d items, %v", len(items), err)
			}
			if r, err := b.Sweep(ctx); err != nil || r.Orphans != 0 {
				t.Errorf("a fresh body was taken for an orphan: %+v, %v", r, err)
			}
			b.pass(2 * time.Hour)
			r, err := b.Sweep(ctx)
			if err != nil || b.bodies(t) != 1 || (op != "put") != (r.Orphans == 1) {
				t.Errorf("%+v, %v; %d bodies", r, err, b.bodies(t))
			}
			if text, err := b.readAll(kept); err != nil || text != message(3) {
				t.Errorf("the other item: %v", err)
			}
		})
	}
}

func TestCrashWhileDeleting(t *testing.T) {
	b := newBench(t, Settings{})
	id := b.hold(t, 3)
	b.plan.Fail("delete", nil)
	want(t, b.Delete(ctx, id), storetest.ErrFault)
	b.reopen(t)
	if _, err := b.readAll(id); !errors.Is(err, ErrErased) {
		t.Errorf("the body can still be read: %v", err)
	}
	if b.bodies(t) != 1 || b.Used() == 0 {
		t.Error("the blob should still be there")
	}
	if _, err := b.Sweep(ctx); err != nil || b.bodies(t) != 0 || b.Used() != 0 {
		t.Errorf("%v; %d bodies, %d bytes used", err, b.bodies(t), b.Used())
	}
}

// A database that was lost does not take the bodies with it.
func TestIndexLost(t *testing.T) {
	b := newBench(t, Settings{})
	b.hold(t, 1)
	fresh, err := sqlite.Open(ctx, filepath.Join(b.root, "fresh.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	b.options.Records = fresh
	for range 3 {
		b.reopen(t)
		b.pass(2 * time.Hour)
		if r, err := b.Sweep(ctx); err != nil || r.Orphans != 0 || b.bodies(t) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	b.options.Records = b.records // the backup
	b.reopen(t)
	if items, err := b.Search(ctx, Query{}); err != nil || len(items) != 1 || !items[0].Body {
		t.Error(err)
	}
}

func TestTampering(t *testing.T) {
	b := newBench(t, Settings{})
	it := sample(1)
	id, err := b.Hold(ctx, it, io.LimitReader(newNoise(), 200000)) // four chunks
	if err != nil {
		t.Fatal(err)
	}
	b.pass(-time.Second) // the other one sorts before it
	other, err := b.Hold(ctx, it, io.LimitReader(newNoise(), 200000))
	if err != nil {
		t.Fatal(err)
	}
	file := func(id string) string {
		found, _ := filepath.Glob(filepath.Join(b.root, "bodies", "*", id))
		return found[0]
	}
	good, err := os.ReadFile(file(id))
	if err != nil {
		t.Fatal(err)
	}
	foreign, _ := os.ReadFile(file(other))
	sealed := chunkSize + 16
	for name, bad := range map[string][]byte{
		"bit in the head":   flip(good, 3),
		"bit at the start":  flip(good, 5),
		"bit in the middle": flip(good, len(good)/2),
		"bit at the end":    flip(good, len(good)-1),
		"one byte missing":  good[:len(good)-1],
		"last chunk gone":   good[:headSize+3*sealed],
		"two chunks left":   good[:headSize+2*sealed],
		"no chunks":         good[:headSize],
		"empty":             {},
		"longer":            append(bytes.Clone(good), 0),
		"chunks swapped":    append(append(append(bytes.Clone(good[:headSize]), good[headSize+sealed:headSize+2*sealed]...), good[headSize:headSize+sealed]...), good[headSize+2*sealed:]...),
		"chunk doubled":     append(bytes.Clone(good[:headSize+sealed]), good[headSize:]...),
		"another body":      foreign,
	} {
		if err := os.WriteFile(file(id), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := b.readAll(id); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
	}
	os.Remove(file(id))
	_, err = b.readAll(id)
	want(t, err, ErrDamaged)
	// A key or details from another row do not open.
	h, _ := b.records.Held(ctx, other)
	for _, change := range []func(*store.Held) error{
		func(x *store.Held) error { x.Key = h.Key; return nil },
		func(x *store.Held) error { x.Sealed = h.Sealed; return nil },
		func(x *store.Held) error { x.Key = []byte{9, 9}; return nil },
		func(x *store.Held) error { x.Open = []byte("{"); return nil },
	} {
		before, _ := b.records.Held(ctx, id)
		if err := b.records.Update(ctx, id, change); err != nil {
			t.Fatal(err)
		}
		_, err := b.Get(ctx, id)
		want(t, err, ErrDamaged)
		if found, err := b.Search(ctx, Query{}); err != nil || len(found) != 2 || !strings.Contains(found[0].Why, "damaged") {
			t.Errorf("Search with a damaged item: %v", err)
		}
		b.records.Update(ctx, id, func(x *store.Held) error { *x = *before; return nil })
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func TestKeyFile(t *testing.T) {
	b := newBench(t, Settings{})
	id := b.hold(t, 1)
	key, _ := os.ReadFile(b.options.Key)
	os.Remove(b.options.Key)
	if _, err := Open(ctx, b.options); err == nil {
		t.Error("a new key was made over items of an old one")
	}
	os.WriteFile(b.options.Key, key, 0o640)
	if _, err := Open(ctx, b.options); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("key that the group can read: %v", err)
	}
	os.Chmod(b.options.Key, 0o600)
	os.WriteFile(b.options.Key, bytes.ToUpper(key), 0o600)
	b.reopen(t)
	_, err := b.Get(ctx, id)
	if want(t, err, ErrDamaged); !strings.Contains(err.Error(), "another key file") {
		t.Error(err)
	}
	os.WriteFile(b.options.Key, []byte("short\n"), 0o600)
	_, err = Open(ctx, b.options)
	want(t, err, store.ErrCorrupt)
}

func TestOnRead(t *testing.T) {
	b := newBench(t, Settings{})
	var told []string
	var refuse error
	b.options.OnRead = func(_ context.Context, it *Item, by Access) error {
		told = append(told, it.ID+" "+by.Actor+" "+by.Purpose)
		return refuse
	}
	b.reopen(t)
	id := b.hold(t, 1)
	if _, err := b.readAll(id); err != nil {
		t.Fatal(err)
	}
	refuse = errors.New("audit log is full")
	_, err := b.readAll(id)
	want(t, err, refuse)
	if len(told) != 2 || told[0] != id+" marie preview" {
		t.Error(told)
	}
}

func TestSearch(t *testing.T) {
	b := newBench(t, Settings{})
	var ids []string
	for n := range 5 {
		it := sample(n)
		if n == 3 {
			it.Queue, it.To, it.Rule = "malware", it.To[1:], "virus"
			it.Symbols = []filters.Symbol{{Name: "VIRUS", Evidence: "Eicar-Test"}}
			it.Attachments[0].Name = "Rechnung.PDF.exe"
		}
		id, err := b.Hold(ctx, it, strings.NewReader(message(n*2000)))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		b.pass(time.Second)
	}
	if err := b.MarkReleased(ctx, ids[0]); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		q    Query
		want string
	}{
		{Query{}, "43210"},
		{Query{Limit: 2}, "43"},
		{Query{Queue: "malware"}, "3"},
		{Query{Rule: "by-score"}, "4210"},
		{Query{State: Released}, "0"},
		{Query{From: "ALICE"}, "43210"},
		{Query{To: "bob@"}, "4210"},
		{Query{To: "carol @home"}, "43210"},
		{Query{Subject: "FACTURE N° 2"}, "2"},
		{Query{Since: b.now.Add(-2 * time.Second)}, "43"},
		{Query{Text: "eicar"}, "3"},
		{Query{Text: "rechnung.pdf"}, "3"},
		{Query{Text: "203.0.113.9"}, "43210"},
		{Query{Text: "203.0.113.9", Limit: 2}, "43"},
		{Query{Text: "<m4@"}, "4"},
		{Query{Text: "token-4000"}, ""},
		{Query{Text: "TOKEN-4000", Body: true}, "2"},
		{Query{Text: "please pay.\r\nplease", Body: true}, "4321"},
		{Query{Text: "nowhere", Body: true}, ""},
	} {
		found, err := b.Search(ctx, c.q)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, it := range found {
			got += strings.TrimPrefix(it.Transaction, "tx-")
		}
		if got != c.want {
			t.Errorf("Search(%+v) = %q, want %q", c.q, got, c.want)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := b.Search(ended, Query{Text: "x"}); err == nil {
		t.Error("Search went on after its context ended")
	}
}

func TestRelease(t *testing.T) {
	b := newBench(t, Settings{})
	id := b.hold(t, 1)
	done, err := b.Claim(id)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Claim(id)
	want(t, err, ErrBusy)
	state := func(wanted ...State) {
		t.Helper()
		it, err := b.Get(ctx, id)
		if err != nil || it.State != wanted[0] || it.To[0].State != wanted[1] || it.To[1].State != wanted[2] {
			t.Errorf("%v: %v %v %v", err, it.State, it.To[0].State, it.To[1].State)
		}
	}
	for range 2 { // twice is once
		if err := b.MarkReleased(ctx, id, carol); err != nil {
			t.Fatal(err)
		}
		state(Held, Held, Released)
	}
	if err := b.MarkReleased(ctx, id, mail.Path{Local: "other", Domain: "example.org"}); err != nil {
		t.Fatal(err)
	}
	state(Held, Held, Released)
	if err := b.MarkReleased(ctx, id); err != nil {
		t.Fatal(err)
	}
	state(Released, Released, Released)
	done()
	if done, err := b.Claim(id); err != nil {
		t.Error(err)
	} else {
		done()
	}
	if text, err := b.readAll(id); err != nil || text != message(1) {
		t.Errorf("a released body can be read again: %v", err)
	}
	want(t, b.MarkReleased(ctx, "nobody"), ErrNotFound)
}

func TestDelete(t *testing.T) {
	b := newBench(t, Settings{})
	id, other := b.hold(t, 1), b.hold(t, 2)
	for range 2 {
		if err := b.Delete(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	it, err := b.Get(ctx, id)
	if err != nil || it.State != Deleted || it.To[0].State != Deleted || it.Body || it.Subject == "" || len(it.Symbols) != 1 || it.Why != "" {
		t.Errorf("%+v, %v", it, err)
	}
	_, err = b.readAll(id)
	want(t, err, ErrErased)
	want(t, b.Delete(ctx, "nobody"), ErrNotFound)
	if b.bodies(t) != 1 {
		t.Error("the blob is still there")
	}
	used := b.Used()
	for range 2 {
		if err := b.Withdraw(ctx, other); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Get(ctx, other); !errors.Is(err, ErrNotFound) || b.bodies(t) != 0 || b.Used() != 0 || used == 0 {
		t.Errorf("%v; %d bytes used", err, b.Used())
	}
}

func TestForget(t *testing.T) {
	b := newBench(t, Settings{})
	toBoth := b.hold(t, 1)
	it := sample(2)
	it.To = it.To[:1]
	toBob, err := b.Hold(ctx, it, strings.NewReader(message(2)))
	if err != nil {
		t.Fatal(err)
	}
	it = sample(3)
	it.To = it.To[1:]
	it.Author, it.ReversePath, it.Why = carol, mail.Path{}, "it says \"<BOB@example.org>\",\nbob@example.org, not jimbob@example.org"
	toCarol, err := b.Hold(ctx, it, strings.NewReader(message(3)))
	if err != nil {
		t.Fatal(err)
	}
	done, err := b.Forget(ctx, "Bob@Example.org", false)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Erasure{Erased: []string{toBob}, Shared: []string{toBoth, toCarol}}, done, cmpopts.SortSlices(strings.Compare)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	_, err = b.readAll(toBob)
	want(t, err, ErrErased)
	got, err := b.Get(ctx, toBob)
	if err != nil || got.State != Erased || got.Subject != "" || got.Author != (mail.Path{}) || got.To[0].Path != (mail.Path{}) || got.Rule != "by-score" || got.Size == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = b.Get(ctx, toBoth)
	if err != nil || got.State != Held || got.To[0].Path != (mail.Path{}) || got.To[0].State != Erased || got.To[0].Options.OriginalRecipient != "" || got.To[1].Path != carol {
		t.Errorf("%+v, %v", got, err)
	}
	if text, err := b.readAll(toBoth); err != nil || text != message(1) {
		t.Errorf("carol's mail is gone: %v", err)
	}
	if got, err = b.Get(ctx, toCarol); err != nil || got.Why != "it says \"<<erased>>\",\n<erased>, not jimbob@example.org" {
		t.Errorf("%q, %v", got.Why, err)
	}
	if found := b.grep(t, "bob@example.org"); len(found) > 0 {
		t.Errorf("found in %v", found)
	}
	if b.bodies(t) != 2 {
		t.Errorf("%d bodies", b.bodies(t))
	}
	// With all, what others wait for goes too; and again nothing is left to do.
	if done, err = b.Forget(ctx, carol.String(), true); err != nil || len(done.Erased) != 2 || b.bodies(t) != 0 || b.Used() != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if done, err = b.Forget(ctx, carol.String(), true); err != nil || len(done.Erased)+len(done.Shared) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := b.Forget(ctx, "", true); err == nil {
		t.Error("forgot nobody")
	}
}

// The author's request takes the message with it, whoever waits.
func TestForgetAuthor(t *testing.T) {
	b := newBench(t, Settings{})
	id := b.hold(t, 1)
	b.plan.Fail("scrub", nil)
	_, err := b.Forget(ctx, alice.String(), false)
	want(t, err, storetest.ErrFault)
	if _, err := b.Forget(ctx, alice.String(), false); err != nil {
		t.Fatal(err)
	}
	_, err = b.readAll(id)
	want(t, err, ErrErased)
	for _, gone := range []string{"alice", "partner.example", "facture", "bob@"} {
		if found := b.grep(t, gone); len(found) > 0 {
			t.Errorf("%q found in %v", gone, found)
		}
	}
}

func TestExpire(t *testing.T) {
	day := 24 * time.Hour
	b := newBench(t, Settings{Keep: 30 * day, KeepQueue: map[string]time.Duration{"malware": 3 * day, "policy": 0}})
	hold := func(queue string) string {
		it := sample(1)
		it.Queue = queue
		id, err := b.Hold(ctx, it, strings.NewReader(message(1)))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	sweep := func(days int) (expired int) {
		t.Helper()
		for range days * 2 {
			b.pass(12 * time.Hour)
			r, err := b.Sweep(ctx)
			if err != nil || !r.Steady {
				t.Fatal(r, err)
			}
			expired += r.Expired
		}
		return expired
	}
	spam, malware, policy := hold("spam"), hold("malware"), hold("policy")
	if n := sweep(2); n != 0 {
		t.Errorf("%d expired early", n)
	}
	if n := sweep(2); n != 1 {
		t.Errorf("%d expired after the malware queue's time", n)
	}
	if _, err := b.Get(ctx, malware); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	b.MarkReleased(ctx, spam)
	b.Configure(Settings{Keep: 5 * day, KeepQueue: map[string]time.Duration{"policy": 0}})
	if n := sweep(2); n != 1 {
		t.Errorf("%d expired after the time of the spam queue", n)
	}
	if _, err := b.readAll(policy); err != nil {
		t.Error("kept for ever:", err)
	}
	if b.bodies(t) != 1 {
		t.Errorf("%d bodies", b.bodies(t))
	}
}

func TestClockJumps(t *testing.T) {
	day := 24 * time.Hour
	sweep := func(b *bench, steady bool, expired int) {
		t.Helper()
		r, err := b.Sweep(ctx)
		if err != nil || r.Steady != steady || r.Expired != expired {
			t.Errorf("Sweep = %+v, %v; want steady %v, %d expired", r, err, steady, expired)
		}
	}
	b := newBench(t, Settings{Keep: 10 * day})
	sweep(b, true, 0)
	b.hold(t, 1)
	b.pass(400 * day) // the clock goes wrong,
	for range 3 {
		sweep(b, false, 0)
		b.pass(time.Minute)
	}
	b.reopen(t)
	sweep(b, false, 0)
	b.pass(-400*day - 4*time.Minute) // and is put right
	sweep(b, false, 0)
	b.pass(time.Hour)
	sweep(b, true, 0)
	for range 11 * 2 { // and time passes
		b.pass(12 * time.Hour)
		r, err := b.Sweep(ctx)
		if err != nil || !r.Steady {
			t.Fatal(r, err)
		}
	}
	if _, err := b.Search(ctx, Query{}); err != nil || b.bodies(t) != 0 {
		t.Errorf("it did not expire in its time: %v", err)
	}
	// A clock that has started in 1970 makes no items that are old already.
	now := b.now
	b.pass(-50 * 365 * day)
	b.hold(t, 2)
	b.pass(now.Sub(b.now))
	sweep(b, true, 0)
	b.pass(time.Hour)
	sweep(b, true, 0)
}

func TestRun(t *testing.T) {
	b := newBench(t, Settings{Keep: time.Hour})
	b.hold(t, 1)
	b.pass(2 * time.Hour)
	swept := make(chan SweepReport, 10)
	b.options.Interval = time.Millisecond
	b.options.OnSweep = func(_ context.Context, r SweepReport) error { swept <- r; return errors.New("told") }
	var mu sync.Mutex
	var out bytes.Buffer
	b.options.Log = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	}), nil))
	b.reopen(t)
	running, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { b.Run(running); close(done) }()
	if r := <-swept; r.Expired != 1 {
		t.Errorf("%+v", r)
	}
	<-swept
	stop()
	for len(swept) > 0 {
		<-swept
	}
	<-done
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(out.String(), "sweep of the quarantine failed") {
		t.Error(out.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestConcurrent(t *testing.T) {
	b := newBench(t, Settings{Keep: 100 * time.Hour})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range 6 {
				id, err := b.Hold(ctx, sample(n), strings.NewReader(message(g*100)))
				if err != nil {
					t.Error(err)
					return
				}
				if text, err := b.readAll(id); err != nil || text != message(g*100) {
					t.Error(err)
				}
				switch n % 3 {
				case 0:
					err = b.Delete(ctx, id)
				case 1:
					err = b.MarkReleased(ctx, id, bob)
				}
				if err == nil {
					_, err = b.Search(ctx, Query{Text: "facture", Limit: 5})
				}
				if err != nil {
					t.Error(err)
				}
			}
		}()
	}
	for range 5 {
		if _, err := b.Sweep(ctx); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if n := b.bodies(t); n != 32 {
		t.Errorf("%d bodies, want 32", n)
	}
	used := b.Used()
	b.reopen(t)
	if used != b.Used() {
		t.Errorf("%d bytes counted, %d there", used, b.Used())
	}
}

func TestIDs(t *testing.T) {
	a, err := newID(time.UnixMilli(1<<48-1), bytes.NewReader(bytes.Repeat([]byte{255}, 10)))
	if err != nil || a != "7"+strings.Repeat("Z", 25) {
		t.Errorf("%s, %v", a, err)
	}
	b, _ := newID(time.UnixMilli(1), bytes.NewReader(make([]byte, 10)))
	c, _ := newID(time.UnixMilli(2), bytes.NewReader(make([]byte, 10)))
	if b >= c || len(b) != 26 {
		t.Errorf("%s, %s", b, c)
	}
	if _, err := newID(time.Now(), strings.NewReader("")); err == nil {
		t.Error("an id without randomness")
	}
}

func TestPaths(t *testing.T) {
	for _, p := range []mail.Path{{}, alice, bob, carol, {Local: "postmaster"}, {Local: `"a@b"`, Domain: "c.example"}, {Local: "x", Domain: "[IPv6:::1]"}, {Local: `"a@b"`}} {
		if got := path(p.String()); got != p {
			t.Errorf("%+v came back as %+v", p, got)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	key := bodyKey(make([]byte, keySize))
	for _, k := range []bodyKey{key, nil} {
		p, err := newPacker(strings.NewReader(message(50)), k, "id")
		if err != nil {
			f.Fatal(err)
		}
		packed, _ := io.ReadAll(p)
		p.free()
		f.Add(packed, k != nil)
	}
	f.Fuzz(func(t *testing.T, packed []byte, encrypted bool) {
		k := key
		if !encrypted {
			k = nil
		}
		d, err := unpack(bytes.NewReader(packed), k, "id")
		if err != nil {
			return
		}
		b := &body{dec: d, blob: io.NopCloser(nil)}
		io.Copy(io.Discard, io.LimitReader(b, 1<<20))
		b.Close()
	})
}

func BenchmarkHold(b *testing.B) {
	content := []byte(message(1) + strings.Repeat("The quick brown fox jumps over the lazy dog, again and again.\r\n", 310))
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			q := newBench(b, Settings{})
			var wg sync.WaitGroup
			b.SetBytes(int64(len(content)))
			b.ResetTimer()
			for g := range writers {
				n := (b.N + g) / writers
				wg.Add(1)
				go func() {
					defer wg.Done()
					for range n {
						if _, err := q.Hold(ctx, sample(1), bytes.NewReader(content)); err != nil {
							b.Error(err)
						}
					}
				}()
			}
			wg.Wait()
		})
	}
}
