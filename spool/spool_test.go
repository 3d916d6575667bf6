package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"postern/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A text is a Content in memory.
type text string

func (t *text) Size() int64           { return int64(len(*t)) }
func (t *text) Reader() io.Reader     { return strings.NewReader(string(*t)) }
func (t *text) Bytes() ([]byte, bool) { return []byte(*t), true }

func content0(s string) *text { t := text(s); return &t }

// openMem opens a spool on d.
func openMem(t *testing.T, d *memDisk, o Options) *Spool {
	t.Helper()
	o.disk = d
	s, err := Open("/spool", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func draft(transaction string, c Content, to ...string) Draft {
	e := Entry{Transaction: transaction, Upstream: "exchange", From: mail.Path{Local: "alice", Domain: "partner.example"}}
	for _, local := range to {
		e.To = append(e.To, Recipient{Recipient: mail.Recipient{Path: mail.Path{Local: local, Domain: "example.org"}}})
	}
	return Draft{e, c}
}

func commitOne(t *testing.T, s *Spool, d ...Draft) []string {
	t.Helper()
	ids, err := s.Commit(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func contentOf(t *testing.T, s *Spool, id string) string {
	t.Helper()
	r, err := s.Content(id)
	if err != nil {
		t.Fatalf("content of %s: %v", id, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		t.Fatalf("content of %s: %v", id, err)
	}
	return string(b)
}

func fullEntry() Entry {
	auth, priority := "alice@example.org", 3
	at := time.Date(2026, 11, 21, 9, 41, 8, 623, time.UTC)
	return Entry{
		Format: Format, ID: "01J8ZK4R", Transaction: "01J8ZK4R", Received: at, Size: 5,
		From: mail.Path{Local: "alice", Domain: "example.org"},
		Options: smtp.MailOptions{Body: smtp.Body8BitMIME, Size: 7, RequireTLS: true, UTF8: true,
			Return: smtp.DSNReturnHeaders, EnvelopeID: "QQ314159", Auth: &auth},
		To: []Recipient{{
			Recipient: mail.Recipient{Path: mail.Path{Local: "bob", Domain: "partner.example"}, Options: smtp.RcptOptions{
				Notify: []smtp.DSNNotify{smtp.DSNNotifyDelayed, smtp.DSNNotifyFailure}, OriginalRecipientType: smtp.DSNAddressTypeRFC822,
				OriginalRecipient: "bobby@partner.example", RequireRecipientValidSince: at,
				DeliverBy: &smtp.DeliverByOptions{Time: time.Minute, Mode: smtp.DeliverByReturn, Trace: true}, MTPriority: &priority,
			}},
			State: Failed, Reply: mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "no such\nuser"},
			Hop: "mx[192.0.2.1]:25", At: at,
		}, {Recipient: mail.Recipient{Path: mail.Path{Local: "postmaster"}}}},
		EightBit: true, UTF8: true, Upstream: "internet",
		Demands: mail.Demands{TLS: "required", RequireTLS: true, Encrypted: true}, Direction: mail.Outbound,
		Session: mail.Session{ID: "s1", Listener: "internal", Role: mail.RoleOutbound, Protocol: "SMTP",
			Peer: netip.MustParseAddrPort("127.0.0.1:4"), Local: netip.MustParseAddrPort("[::1]:25"), Client: netip.MustParseAddrPort("[2001:db8::1]:5"),
			ClientName: "pc.example.org", Helo: "pc", ESMTP: true, User: "alice", Direction: mail.Outbound, Forwarded: true,
			TLS: mail.TLSFacts{Version: "TLS1.3", Cipher: "c", ServerName: "n", ClientCert: "cc"}},
		Rule: "encrypt", Policy: "abcd", Attempts: 2, LastAttempt: at.Add(time.Hour), NextAttempt: at.Add(2 * time.Hour), Suspended: true, Warned: true,
	}
}

var paths = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func TestEntryKeepsEverything(t *testing.T) {
	want := fullEntry()
	var w encoder
	w.entry(&want)
	got, err := decodeEntry(w.b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, paths); d != "" {
		t.Error(d)
	}
	for n := range w.b {
		if _, err := decodeEntry(w.b[:n]); err == nil {
			t.Errorf("an entry cut to %d of %d bytes was read", n, len(w.b))
		}
	}
	if _, err := decodeEntry(append(w.b, 0)); err == nil {
		t.Error("an entry with something behind it was read")
	}
	w.b[0] = Format + 1
	if _, err := decodeEntry(w.b); !errors.Is(err, errVersion) {
		t.Errorf("entry of another format: %v", err)
	}
}

func TestCommitAndReopen(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{Memory: 1000})
	if err != nil {
		t.Fatal(err)
	}
	big := s.Buffer()
	bigText := strings.Repeat("0123456789\r\n", 10_000)
	io.WriteString(big, bigText)
	shared := content0("shared by two\r\n")
	e := fullEntry()
	wants := map[string]string{}
	add := func(want string, d ...Draft) {
		for _, id := range commitOne(t, s, d...) {
			wants[id] = want
		}
	}
	add("hello\r\n", draft("T1", content0("hello\r\n"), "bob"))
	add("shared by two\r\n", draft("T2", shared, "bob"), draft("T2", shared, "carol"))
	add(bigText, draft("T3", big, "bob"), draft("T3", big, "dave"))
	add("hello", Draft{e, content0("hello")})
	add(bigText+"!", draft("", content0(bigText+"!"), "erin"))
	add("", draft("T5", content0(""), "frank"))
	big.Discard()
	check := func() {
		t.Helper()
		if s.Len() != len(wants) {
			t.Errorf("%d entries, want %d", s.Len(), len(wants))
		}
		for id, want := range wants {
			if got := contentOf(t, s, id); got != want {
				t.Errorf("%s: content of %d bytes, want %d", id, len(got), len(want))
			}
		}
		got, err := s.Get(e.ID)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, got, paths); d != "" {
			t.Error(d)
		}
	}
	check()
	for range 3 {
		s.Close()
		if s, err = Open(dir, Options{Memory: 1000}); err != nil {
			t.Fatal(err)
		}
		check()
	}
	for id := range wants {
		if err := s.Remove(id); err != nil {
			t.Error(err)
		}
		if _, err := s.Get(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s is still there: %v", id, err)
		}
	}
	s.Close()
	if s, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Len() != 0 {
		t.Errorf("%d entries after all were removed", s.Len())
	}
	for _, sub := range []string{s.bodyDir(), s.tmpDir(), s.corruptDir()} {
		if names, _ := s.disk.Names(sub); len(names) != 0 {
			t.Errorf("%s: %v", sub, names)
		}
	}
	if s.Aside() != 0 {
		t.Errorf("%d set aside", s.Aside())
	}
}

func TestContentIsShared(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{})
	c := content0(strings.Repeat("x", 10_000))
	commitOne(t, s, draft("T", c, "a"), draft("T", c, "b"), draft("T", c, "c"))
	size, _ := d.Size("/spool/log/" + segmentName(0))
	if size > 12_000 {
		t.Errorf("three copies of one content take %d bytes", size)
	}
}

// A spliced is a Content made of new bytes and a piece of a Buffer.
type spliced struct {
	head string
	b    *Buffer
	off  int64
}

func (s *spliced) Size() int64           { return int64(len(s.head)) + s.b.Size() - s.off }
func (s *spliced) ReaderAt() io.ReaderAt { return s }
func (s *spliced) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("a spliced content is not to be read whole")
}
func (s *spliced) Reader() io.Reader { return io.NewSectionReader(s, 0, s.Size()) }
func (s *spliced) Pieces(f func(b []byte, r io.ReaderAt, off, n int64)) {
	f([]byte(s.head), nil, 0, 0)
	f(nil, s.b.ReaderAt(), s.off, s.b.Size()-s.off)
}

func TestSplicedContentRefersToTheBuffer(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{Memory: 1000})
	b := s.Buffer()
	whole := strings.Repeat("0123456789\r\n", 1000)
	io.WriteString(b, whole)
	ids := commitOne(t, s,
		draft("T", &spliced{"Received: one\r\n", b, 0}, "a"),
		draft("T", &spliced{"Received: two\r\n", b, 12}, "b"))
	b.Discard()
	if n := len(d.files("body")); n != 1 {
		t.Errorf("%d bodies, want 1", n)
	}
	if got := contentOf(t, s, ids[0]); got != "Received: one\r\n"+whole {
		t.Error("first copy differs")
	}
	if got := contentOf(t, s, ids[1]); got != "Received: two\r\n"+whole[12:] {
		t.Error("second copy differs")
	}
	r, _ := s.Content(ids[0])
	defer r.Close()
	p := make([]byte, 30)
	if n, err := r.ReadAt(p, 5); n != 30 || err != nil || string(p) != ("Received: one\r\n" + whole)[5:35] {
		t.Errorf("ReadAt over the seam: %q, %v", p[:n], err)
	}
	if n, err := r.ReadAt(p, r.Size()-3); n != 3 || err != io.EOF {
		t.Errorf("ReadAt at the end: %d, %v", n, err)
	}
	s.Remove(ids[0])
	s.Remove(ids[1])
	s.Close()
	if n := len(d.files("body")); n != 0 {
		t.Errorf("%d bodies after both entries are done", n)
	}
}

func TestUpdate(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{})
	dr := draft("T", content0("x"), "a", "b")
	dr.Entry.Demands = mail.Demands{TLS: "required", Encrypted: true}
	dr.Entry.Direction = mail.Outbound
	id := commitOne(t, s, dr)[0]
	e, _ := s.Get(id)
	e.To[0].State = Delivered
	e.Attempts = 1
	e.NextAttempt = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := s.Update(e); err != nil {
		t.Fatal(err)
	}
	// Nothing later loosens what was committed.
	e.Demands = mail.Demands{TLS: "none", RequireTLS: true}
	e.From, e.Direction, e.Received, e.Size = mail.Path{}, mail.Inbound, time.Time{}, 99
	e.To[0].State = Pending
	e.To[1].Options.Notify = []smtp.DSNNotify{smtp.DSNNotifyNever}
	if err := s.Update(e); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openMem(t, d.afterKill(), Options{})
	got, err := s.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	if want := (mail.Demands{TLS: "required", RequireTLS: true, Encrypted: true}); got.Demands != want {
		t.Errorf("demands %+v, want %+v", got.Demands, want)
	}
	if got.From != dr.Entry.From || got.Direction != mail.Outbound || got.Received.IsZero() || got.Size != 1 {
		t.Errorf("what the transaction brought has changed: %+v", got)
	}
	if got.To[0].State != Delivered || got.To[1].State != Pending || got.To[1].Options.Notify != nil {
		t.Errorf("recipients %+v", got.To)
	}
	if got.Attempts != 1 || got.NextAttempt.Year() != 2027 {
		t.Errorf("attempts %d, next %v", got.Attempts, got.NextAttempt)
	}
	if err := s.Update(Entry{ID: "nobody"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("update of what is not there: %v", err)
	}
	if err := s.Remove("nobody"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removal of what is not there: %v", err)
	}
}

func TestCommitRefuses(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{Reserve: 1000})
	commitOne(t, s, Draft{Entry{ID: "one"}, content0("x")})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Commit(ctx, []Draft{draft("T", content0("x"), "a")}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := s.Commit(context.Background(), []Draft{{Entry{ID: "two"}, content0("x")}, {Entry{ID: "one"}, content0("x")}}); err == nil {
		t.Error("an id was used twice")
	}
	commitOne(t, s, Draft{Entry{ID: "two"}, content0("x")})
	short := &lying{content0("abc"), 10}
	if _, err := s.Commit(context.Background(), []Draft{draft("T", short, "a")}); err == nil {
		t.Error("a content that is shorter than its size was taken")
	}
	d.setFree(1010)
	if _, err := s.Commit(context.Background(), []Draft{draft("T", content0(strings.Repeat("x", 20)), "a")}); !errors.Is(err, ErrFull) {
		t.Errorf("below the reserve: %v", err)
	}
	d.setFree(1 << 30)
	commitOne(t, s, draft("T", content0(strings.Repeat("x", 20)), "a"))
	s.Close()
	if _, err := s.Commit(context.Background(), []Draft{draft("T", content0("x"), "a")}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A lying content says it is longer than it is.
type lying struct {
	*text
	size int64
}

func (l *lying) Size() int64 { return l.size }

func TestBufferIsFull(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{Memory: 1000, Reserve: 1000})
	b := s.Buffer()
	defer b.Discard()
	d.setFree(900)
	if _, err := b.Write(make([]byte, 500)); err != nil {
		t.Errorf("what stays in memory needs no disk: %v", err)
	}
	if _, err := b.Write(make([]byte, 5000)); !errors.Is(err, ErrFull) {
		t.Errorf("below the reserve: %v", err)
	}
	d.setFree(1 << 30)
	d.setFault(func(op, _ string) error {
		if op == "write" {
			return errNoSpace
		}
		return nil
	})
	b2 := s.Buffer()
	defer b2.Discard()
	_, err := b2.Write(make([]byte, 500_000))
	if !errors.Is(err, ErrFull) {
		t.Errorf("disk full while writing: %v", err)
	}
	if _, again := b2.Write([]byte("x")); again == nil {
		t.Error("a buffer with a hole takes more")
	}
	if _, err := s.Commit(context.Background(), []Draft{draft("T", b2, "a")}); err == nil {
		t.Error("a buffer with a hole was committed")
	}
}

func TestManyWriters(t *testing.T) {
	s, err := Open(t.TempDir(), Options{Segment: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 40 {
				want := fmt.Sprintf("%d-%d %s", w, i, strings.Repeat("x", 5000))
				ids, err := s.Commit(context.Background(), []Draft{draft("", content0(want), "a"), draft("", content0(want+"2"), "b")})
				if err != nil {
					t.Error(err)
					return
				}
				for n, id := range ids {
					r, err := s.Content(id)
					if err != nil {
						t.Error(err)
						return
					}
					if b, ok := r.Bytes(); !ok || string(b[:len(want)]) != want {
						t.Errorf("%s: other content", id)
					}
					r.Close()
					if i%2 == 0 || n == 1 {
						if err := s.Remove(id); err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
	}
	wg.Wait()
	if s.Len() != 16*20 {
		t.Errorf("%d entries", s.Len())
	}
	s.Close()
	if s, err = Open(s.dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Len() != 16*20 || s.Aside() != 0 {
		t.Errorf("%d entries, %d set aside after a restart", s.Len(), s.Aside())
	}
}

// alerts gathers the error lines of a log.
type alerts struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (a *alerts) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.b.Write(p)
}

func (a *alerts) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(a, &slog.HandlerOptions{Level: slog.LevelError}))
}

func (a *alerts) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Count(a.b.String(), "\n")
}

func TestRoom(t *testing.T) {
	d := newMemDisk()
	s := openMem(t, d, Options{Reserve: 1000})
	d.setFree(1010)
	if s.Room(10) || !s.Room(9) {
		t.Error("10 free bytes are room for 9, not for 10")
	}
	d.setFree(1 << 30)
	for s.Room(10) != true { // what was seen holds for a moment
		time.Sleep(5 * time.Millisecond)
	}
	d.setFree(0)
	for s.Room(0) {
		time.Sleep(5 * time.Millisecond)
	}
	d.setFree(1 << 30)
	if !s.Room(10) {
		t.Error("that the disk is full is not to be remembered")
	}
}
