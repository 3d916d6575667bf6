package gateway

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/audit"
	"postern/mail"
	"postern/store"
)

// partRules hold for erin and strip programs for carol.
const partRules = `
[[rule]]
name = "hold-erin"
match = { to = "erin@ours.example" }
action = "quarantine"
[[rule]]
name = "strip-carol"
match = { to = "carol@ours.example", attachment = "executable" }
action = "strip"
`

// program is a message with a Windows program.
const program = "From: alice@sender.example\nSubject: tool\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" +
	"--b\nContent-Type: text/plain\n\nHere it is.\n--b\nContent-Type: application/octet-stream\nContent-Disposition: attachment; filename=\"tool.exe\"\n" +
	"Content-Transfer-Encoding: base64\n\nTVqQAAMAAAAEAAAA//8AALgAAAAAAAAAQAAAAAAAAAA=\n--b--\n"

// A badIndex breaks what it is told to.
type badIndex struct {
	store.Records
	insert func(ctx context.Context, h *store.Held) error // before
	after  func()                                         // after
}

func (b *badIndex) Insert(ctx context.Context, h *store.Held) error {
	if b.insert != nil {
		if err := b.insert(ctx, h); err != nil {
			return err
		}
	}
	err := b.Records.Insert(ctx, h)
	if b.after != nil {
		b.after()
	}
	return err
}

// A badLog is an audit log's place that fails when it is told to.
type badLog struct {
	store.Log
	fails atomic.Bool
}

func (b *badLog) Append(ctx context.Context, first uint64, lines []byte) error {
	if b.fails.Load() {
		return errTest
	}
	return b.Log.Append(ctx, first, lines)
}

// TestAllOrNothing: when one copy cannot be made durable, none is, nothing was
// relayed, and the client keeps the message for everybody.
func TestAllOrNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	bad := &badLog{}
	everybody := []string{"bob@ours.example", "carol@ours.example", "erin@ours.example", "erika@ours.example"}
	var inserts atomic.Int32
	for _, c := range []struct {
		name   string
		plan   plan
		ctx    context.Context
		before func(*world)
		reply  string
	}{
		{name: "spool full", plan: plan{reserve: 1 << 60}, reply: "452 4.3.1"},
		{name: "quarantine full", plan: plan{maxSize: 1}, reply: "452 4.3.1"},
		{name: "spool closed", before: func(w *world) { w.spool.Close() }, reply: "451 4.3.0"},
		{name: "database closed", before: func(w *world) { w.db.Close() }, reply: "451 4.3.0"},
		{name: "audit log closed", before: func(w *world) { w.audit.Close() }, reply: "451 4.3.0"},
		{
			name: "second hold fails", reply: "451 4.3.0",
			plan: plan{records: func(r store.Records) store.Records {
				return &badIndex{Records: r, insert: func(context.Context, *store.Held) error {
					if inserts.Add(1) == 2 {
						return errTest
					}
					return nil
				}}
			}},
		},
		{
			name: "cancelled between hold and commit", ctx: ctx, reply: "451 4.3.0",
			plan: plan{records: func(r store.Records) store.Records { return &badIndex{Records: r, after: cancel} }},
		},
		{
			name: "audit log fails", reply: "451 4.3.0", plan: plan{auditLog: func(l store.Log) store.Log { bad.Log = l; return bad }},
			before: func(*world) { bad.fails.Store(true) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.plan.rules = partRules
			w := newWorld(t, c.plan)
			if c.before != nil {
				c.before(w)
			}
			s := w.send(letter{to: everybody, content: program, unasked: true, ctx: c.ctx})
			bad.fails.Store(false)
			if !strings.HasPrefix(s.one(), c.reply) || strings.Contains(s.one(), "test") || len(s.data) != 1 {
				t.Errorf("told %q", s.data)
			}
			want(t, "relayed", w.relayed())
			if c.name != "spool closed" {
				want(t, "queued", w.queued())
			}
			if c.name != "database closed" {
				want(t, "held", w.held())
				if used := w.quarantine.Used(); used != 0 {
					t.Errorf("%d bytes are held", used)
				}
			}
			for _, f := range w.fates {
				if f.Status != "deferred" || f.Held != "" || f.Queued != "" || f.Err == nil {
					t.Errorf("fate %+v", f)
				}
			}
		})
	}
}

// TestAllOrNothingLMTP: who was refused stays refused, whatever happens to the
// others.
func TestAllOrNothingLMTP(t *testing.T) {
	w := newWorld(t, plan{rules: mixedRules, maxSize: 1})
	s := w.send(letter{listener: "lmtp", to: []string{"bob@ours.example", "carol@ours.example", "erin@ours.example"}, unasked: true})
	for i, code := range []int{452, 550, 452} {
		if s.data[i].Code != code {
			t.Errorf("recipient %d is told %s", i, s.data[i])
		}
	}
	want(t, "held", w.held())
	want(t, "relayed", w.relayed())
}

// TestTakeOverFails: the next hop has the message for bob. What cannot be made
// durable for the others stays with the client, and nothing of it with us.
func TestTakeOverFails(t *testing.T) {
	for _, c := range []struct {
		name string
		plan plan
	}{
		{"spool", plan{reserve: 1 << 60}},
		{"quarantine", plan{maxSize: 1}},
	} {
		w := newWorld(t, c.plan)
		w.hop.set("RCPT TO:<carol", "550 5.1.1 who")
		w.hop.set("RCPT TO:<dave", "450 4.2.1 later")
		s := w.send(letter{to: []string{"bob@ours.example", "carol@ours.example", "dave@ours.example"}, unasked: true})
		if !strings.HasPrefix(s.one(), "452 4.3.1") {
			t.Errorf("%s: told %s", c.name, s.one())
		}
		want(t, c.name+": held", w.held())
		want(t, c.name+": queued", w.queued())
		want(t, c.name+": fates", w.lastFates(), "bob@ours.example=sent", "carol@ours.example=deferred", "dave@ours.example=deferred")
	}
}

// TestNextHopTakesTooLong: the time is over when the next hop answers for some;
// the others are ours all the same.
func TestNextHopTakesTooLong(t *testing.T) {
	w := newWorld(t, plan{})
	w.hop.set("RCPT TO:<carol", "550 5.1.1 who")
	ctx, cancel := context.WithCancel(t.Context())
	w.g.o.Meter = &deliveryMeter{noMeter{}, cancel}
	s := w.send(letter{to: []string{"bob@ours.example", "carol@ours.example"}, ctx: ctx})
	if !s.data[0].OK() {
		t.Errorf("told %s", s.one())
	}
	want(t, "held", w.held(), "policy next-hop carol@ours.example=held")
}

// A deliveryMeter acts when the next hop has answered.
type deliveryMeter struct {
	noMeter
	then func()
}

func (m *deliveryMeter) Delivery(string, time.Duration) { m.then() }

// TestOverTime: filters and next hop have had their time.
func TestOverTime(t *testing.T) {
	w := newWorld(t, plan{})
	ctx, cancel := context.WithCancel(t.Context())
	s := w.begin(letter{})
	s.tx.Recipients = []mail.Recipient{{Path: testPath(t, "bob@ours.example")}}
	cancel()
	if r := w.data(ctx, s.tx, text("alice@sender.example")); len(r) != 1 || !r[0].Temporary() {
		t.Errorf("told %q", r)
	}
	want(t, "relayed", w.relayed())
}

// TestAuditBacklog: when the audit log takes no more records, no new mail is
// taken until it does again.
func TestAuditBacklog(t *testing.T) {
	bad := &badLog{}
	w := newWorld(t, plan{auditLog: func(l store.Log) store.Log { bad.Log = l; return bad }})
	w.g.unaudited.Store(true) // as after ErrBacklog
	bad.fails.Store(true)
	if err := w.audit.AppendLater(audit.Record{Event: audit.Start}); err != nil {
		t.Fatal(err)
	}
	if s := w.begin(letter{}); !s.mail.Temporary() {
		t.Errorf("told %s", s.mail)
	}
	bad.fails.Store(false)
	if s := w.send(letter{}); s.one()[:3] != "250" {
		t.Errorf("told %s", s.one())
	}
	if s := w.send(letter{}); s.one()[:3] != "250" || len(w.records(audit.Verdict)) != 2 {
		t.Errorf("told %s", s.one())
	}
	w.audit.Close()
	if s := w.send(letter{}); s.one()[:3] != "250" || !w.g.unaudited.Load() { // relayed already
		t.Errorf("told %s", s.one())
	}
}

// A halfReader is a body that cannot be read from some place on.
type halfReader struct {
	io.ReaderAt
	whole int64
}

func (h *halfReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > h.whole {
		return 0, errTest
	}
	return h.ReaderAt.ReadAt(p, off)
}

// TestUnreadable: a body that cannot be read back is never judged by what was
// read of it.
func TestUnreadable(t *testing.T) {
	for _, listener := range []string{"in", "lmtp"} {
		w := newWorld(t, plan{rules: mixedRules})
		whole := crlf(text("alice@sender.example")) + strings.Repeat("x\r\n", 100_000)
		s := w.begin(letter{listener: listener})
		for _, to := range []string{"bob@ours.example", "carol@ours.example"} {
			s.tx.Recipients = append(s.tx.Recipients, mail.Recipient{Path: testPath(t, to)})
		}
		s.tx.Message = mail.Parse(&halfReader{strings.NewReader(whole), 1000}, int64(len(whole)), mail.Options{})
		for _, r := range w.g.Process(t.Context(), s.tx) {
			if !strings.HasPrefix(r.String(), "451 4.3.0") || strings.Contains(r.Text, errTest.Error()) {
				t.Errorf("told %s", r)
			}
		}
		w.g.Abort(s.tx)
		want(t, "relayed", w.relayed())
		want(t, "held", w.held())
		if err := w.outcome.Copies[0].Err; !errors.Is(err, errTest) {
			t.Errorf("the log says %v", err)
		}
		if !strings.Contains(w.log.String(), errTest.Error()) {
			t.Errorf("the log knows nothing:\n%s", w.log)
		}
	}
}

// TestPanicInRoute: a panic behind the filters is the session's to catch; what
// the transaction had is given back all the same.
func TestPanicInRoute(t *testing.T) {
	w := newWorld(t, plan{wrap: func(o *Options) {
		o.Observe = func(*mail.Transaction, *Outcome, []Fate) { panic("observed") }
	}})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		w.send(letter{})
	}()
	st := w.g.State()
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.using != 0 {
		t.Errorf("%d transactions use the policy", st.using)
	}
}

// TestAbort: a transaction without a message, or that never began.
func TestAbort(t *testing.T) {
	w := newWorld(t, plan{})
	w.g.Abort(w.begin(letter{}).tx)
	w.g.Abort(&mail.Transaction{})
	s := w.begin(letter{from: "stranger@else.example", listener: "out"})
	if s.mail.Code != 550 || s.tx.Began != nil {
		t.Errorf("told %s", s.mail)
	}
	w.g.Abort(s.tx)
	w.g.Close()
	if s := w.begin(letter{}); !s.mail.Temporary() {
		t.Errorf("told %s without a policy", s.mail)
	}
	if _, err := w.g.Submit(t.Context(), mail.Path{}, nil, nil); !errors.Is(err, ErrNoPolicy) {
		t.Errorf("submit: %v", err)
	}
}

// TestNoRoom: MAIL is refused when the spool has no room.
func TestNoRoom(t *testing.T) {
	w := newWorld(t, plan{reserve: 1 << 60})
	if s := w.begin(letter{}); !strings.HasPrefix(s.mail.String(), "452 4.3.1") {
		t.Errorf("told %s", s.mail)
	}
}
