package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"postern/mail"
	"postern/relay"
	"postern/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 21, 9, 41, 0, 0, time.UTC)

// A bench is a queue in the hands of a test: its clock, its next hop and what
// it has said.
type bench struct {
	t  *testing.T
	s  *spool.Spool
	q  *Queue
	mu sync.Mutex

	now       time.Time
	hop       func(e spool.Entry, to mail.Path) relay.Outcome
	tries     []string // "id local-part" of each
	events    []Event
	submitted []submitted
	refuse    error // of Submit
	kept      []spool.Entry
}

type submitted struct {
	from    mail.Path
	to      []mail.Recipient
	content string
}

func newBench(t *testing.T, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, now: start}
	s, err := spool.Open(t.TempDir(), spool.Options{Now: b.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b.s = s
	b.hop = func(spool.Entry, mail.Path) relay.Outcome { return accepted }
	b.open(change...)
	return b
}

// open makes a new queue over the spool: a restart.
func (b *bench) open(change ...func(*Options)) {
	o := Options{Spool: b.s, Deliver: b.deliver, Submit: b.submit, Events: b.event, Now: b.clock,
		Rand: func() float64 { return 0.5 }, Hostname: "gw.example.org"}
	for _, f := range change {
		f(&o)
	}
	b.q = New(o)
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func (b *bench) deliver(_ context.Context, e spool.Entry, content io.ReaderAt, size int64) []relay.Outcome {
	if _, err := io.ReadAll(io.NewSectionReader(content, 0, size)); err != nil {
		b.t.Error(err)
	}
	var outs []relay.Outcome
	for _, to := range e.To {
		b.mu.Lock()
		b.tries = append(b.tries, e.ID+" "+to.Local)
		hop := b.hop
		b.mu.Unlock()
		out := hop(e, to.Path)
		out.Recipient = to.Path
		outs = append(outs, out)
	}
	return outs
}

func (b *bench) submit(_ context.Context, from mail.Path, to []mail.Recipient, content []byte) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse != nil {
		return "", b.refuse
	}
	b.submitted = append(b.submitted, submitted{from, to, string(content)})
	return "dsn", nil
}

func (b *bench) keep(_ context.Context, e spool.Entry, _ io.ReaderAt, _ int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse != nil {
		return b.refuse
	}
	b.kept = append(b.kept, e)
	return nil
}

func (b *bench) event(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
}

// kinds returns the events so far as "kind local-part".
func (b *bench) kinds() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ks []string
	for _, e := range b.events {
		ks = append(ks, string(e.Kind)+" "+e.To.Local)
	}
	return ks
}

// settle lets the queue do all that is due now.
func (b *bench) settle() {
	for range 10_000 {
		b.q.dispatch(context.Background())
		b.q.work.Wait()
		b.q.mu.Lock()
		due := len(b.q.later) > 0 && !b.q.later[0].next.After(b.q.o.Now())
		for _, d := range b.q.dests {
			due = due || len(d.ready) > 0
		}
		b.q.mu.Unlock()
		if !due {
			return
		}
	}
	b.t.Fatal("the queue never comes to rest")
}

// pass lets time pass in steps, as long as there is something in the queue, and
// returns how much it took.
func (b *bench) pass(most, step time.Duration) time.Duration {
	b.settle()
	for d := time.Duration(0); d < most; d += step {
		if b.s.Len() == 0 {
			return d
		}
		b.advance(step)
		b.settle()
	}
	return most
}

// add commits an outbound entry with the recipients and adds it.
func (b *bench) add(change func(*spool.Entry), to ...string) string {
	b.t.Helper()
	e := spool.Entry{Transaction: "T", Upstream: "internet", Direction: mail.Outbound, From: mail.Path{Local: "alice", Domain: "example.org"}}
	for _, local := range to {
		e.To = append(e.To, spool.Recipient{Recipient: mail.Recipient{Path: mail.Path{Local: local, Domain: "partner.example"}}})
	}
	if change != nil {
		change(&e)
	}
	content := mail.ParseBytes([]byte("From: alice@example.org\r\nSubject: the secret plan\r\n\r\nbody\r\n"), mail.Options{})
	ids, err := b.s.Commit(context.Background(), []spool.Draft{{Entry: e, Content: content}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.q.Add(ids...)
	return ids[0]
}

func reply(code int, a, b, c int, text string) mail.Reply {
	return mail.Reply{Code: code, Enhanced: smtp.EnhancedCode{a, b, c}, Text: text}
}

var (
	accepted = relay.Outcome{Delivered: true, Said: true, Reply: reply(250, 2, 0, 0, "ok"), Hop: "mx.partner.example[192.0.2.1]:25", TLS: "TLS1.3"}
	refused  = relay.Outcome{Said: true, Reply: reply(550, 5, 1, 1, "no such user"), Hop: "mx.partner.example[192.0.2.1]:25"}
	later    = relay.Outcome{Said: true, Reply: reply(450, 4, 2, 0, "greylisted"), Hop: "mx.partner.example[192.0.2.1]:25"}
	down     = relay.Outcome{Reply: reply(451, 4, 4, 1, "cannot connect"), Down: true}
)

func same(out relay.Outcome) func(spool.Entry, mail.Path) relay.Outcome {
	return func(spool.Entry, mail.Path) relay.Outcome { return out }
}

func wantKinds(t *testing.T, b *bench, want ...string) {
	t.Helper()
	got := b.kinds()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

func TestDelivery(t *testing.T) {
	b := newBench(t)
	b.hop = func(_ spool.Entry, to mail.Path) relay.Outcome {
		switch to.Local {
		case "yes":
			return accepted
		case "no":
			return refused
		}
		return later
	}
	id := b.add(nil, "yes", "no", "wait")
	b.settle()
	wantKinds(t, b, "delivered yes", "bounced no", "deferred wait")
	if len(b.submitted) != 1 || !strings.Contains(b.submitted[0].content, "no@partner.example") || strings.Contains(b.submitted[0].content, "yes@") {
		t.Errorf("DSNs: %+v", b.submitted)
	}
	if to := b.submitted[0].to[0].Path; to.String() != "alice@example.org" || !b.submitted[0].from.IsNull() {
		t.Errorf("DSN from <%s> to <%s>", b.submitted[0].from, to)
	}
	e, err := b.s.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(e.To[0].State, e.To[1].State, e.To[2].State, e.Attempts); got != "delivered failed pending 1" {
		t.Errorf("states: %s", got)
	}
	ev := b.events[0]
	if ev.Hop != accepted.Hop || ev.TLS != "TLS1.3" || ev.Reply.Code != 250 || ev.Entry.ID != id {
		t.Errorf("event %+v", ev)
	}
	// After a restart only those still pending are tried.
	b.open()
	b.tries, b.hop = nil, same(accepted)
	b.settle()
	if len(b.tries) != 0 {
		t.Errorf("tried before its time: %q", b.tries)
	}
	b.advance(time.Minute)
	b.settle()
	if want := []string{id + " wait"}; !slices.Equal(b.tries, want) {
		t.Errorf("tried %q, want %q", b.tries, want)
	}
	if b.s.Len() != 0 || len(b.q.jobs) != 0 {
		t.Errorf("%d entries, %d jobs left", b.s.Len(), len(b.q.jobs))
	}
}

func TestSchedule(t *testing.T) {
	b := newBench(t)
	var times []time.Duration
	b.hop = func(spool.Entry, mail.Path) relay.Outcome {
		times = append(times, b.clock().Sub(start))
		return later
	}
	b.add(nil, "bob")
	took := b.pass(10*24*time.Hour, time.Minute)
	want := []time.Duration{0, time.Minute, 6 * time.Minute, 21 * time.Minute, 81 * time.Minute}
	for i, w := range want {
		if times[i] != w {
			t.Errorf("attempt %d after %v, want %v", i+1, times[i], w)
		}
	}
	for i := len(want); i < len(times); i++ {
		if p := times[i] - times[i-1]; p != 4*time.Hour {
			t.Errorf("pause %v before attempt %d", p, i+1)
		}
	}
	if took < 5*24*time.Hour || took > 5*24*time.Hour+4*time.Hour {
		t.Errorf("expired after %v", took)
	}
	last := b.events[len(b.events)-1]
	if last.Kind != EventExpired || len(b.submitted) != 1 || !strings.Contains(b.submitted[0].content, "Status: 5.4.7") {
		t.Errorf("last event %+v, %d DSNs", last, len(b.submitted))
	}
}

func TestJitter(t *testing.T) {
	o := &Options{}
	o.setDefaults()
	for _, r := range []float64{0, 0.25, 0.999999} {
		o.Rand = func() float64 { return r }
		p := o.next(start, 5).Sub(start)
		if p < 216*time.Minute || p > 264*time.Minute {
			t.Errorf("pause %v is more than a tenth off 4h", p)
		}
	}
}

func TestClockJumpsDoNotExpire(t *testing.T) {
	const year = 365 * 24 * time.Hour
	t.Run("ahead", func(t *testing.T) {
		b := newBench(t)
		b.hop = same(later)
		b.add(nil, "bob")
		b.pass(10*time.Hour, time.Minute)
		b.advance(year)
		b.settle()
		if b.s.Len() != 1 || slices.Contains(b.kinds(), "expired bob") {
			t.Fatal("a clock that jumps ahead expires mail")
		}
		if took := b.pass(10*24*time.Hour, time.Minute); took < 4*24*time.Hour || took > 6*24*time.Hour {
			t.Errorf("expired %v after the jump", took)
		}
	})
	t.Run("back", func(t *testing.T) {
		b := newBench(t)
		b.hop = same(later)
		b.add(nil, "bob")
		b.pass(10*time.Hour, time.Minute)
		tries := len(b.tries)
		b.advance(-year)
		b.pass(5*time.Hour, time.Minute)
		if len(b.tries) == tries {
			t.Error("mail waits for a year after the clock went back")
		}
		if took := b.pass(10*24*time.Hour, time.Minute); took < 3*24*time.Hour || took > 6*24*time.Hour {
			t.Errorf("expired %v after the jump", took)
		}
	})
	t.Run("back over a restart", func(t *testing.T) {
		b := newBench(t)
		b.hop = same(later)
		b.add(nil, "bob")
		b.pass(10*time.Hour, time.Minute)
		b.advance(-year)
		b.open()
		tries := len(b.tries)
		b.pass(5*time.Hour, time.Minute)
		if len(b.tries) == tries {
			t.Error("mail waits for a year after the clock went back")
		}
	})
}

func TestWhoIsTold(t *testing.T) {
	null := func(e *spool.Entry) { e.From = mail.Path{} }
	inbound := func(e *spool.Entry) { e.Direction = mail.Inbound }
	notify := func(n ...smtp.DSNNotify) func(*spool.Entry) {
		return func(e *spool.Entry) { e.To[0].Options.Notify = n }
	}
	always := func(o *Options) { o.Bounce = "always" }
	tests := []struct {
		name   string
		entry  func(*spool.Entry)
		option func(*Options)
		told   bool
		kept   bool
		reason string
	}{
		{"outbound", nil, nil, true, false, ""},
		{"inbound", inbound, nil, false, true, whyInbound},
		{"inbound, always", inbound, always, true, false, ""},
		{"no direction", func(e *spool.Entry) { e.Direction = "" }, nil, false, true, whyInbound},
		{"null", null, nil, false, true, whyNull},
		{"null, always", null, always, false, true, whyNull},
		{"NOTIFY=NEVER", notify(smtp.DSNNotifyNever), nil, false, false, whyNotify},
		{"NOTIFY=FAILURE", notify(smtp.DSNNotifyFailure), nil, true, false, ""},
		{"NOTIFY=SUCCESS,DELAY", notify(smtp.DSNNotifySuccess, smtp.DSNNotifyDelayed), nil, false, false, whyNotify},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.open(func(o *Options) {
				o.Keep = b.keep
				if tt.option != nil {
					tt.option(o)
				}
			})
			b.hop = same(refused)
			b.add(tt.entry, "bob")
			b.settle()
			if got := len(b.submitted) == 1; got != tt.told {
				t.Errorf("%d DSNs", len(b.submitted))
			}
			if got := len(b.kept) == 1; got != tt.kept {
				t.Errorf("kept: %v", b.kept)
			}
			wantKinds(t, b, "bounced bob")
			if b.events[0].Reason != tt.reason {
				t.Errorf("reason %q, want %q", b.events[0].Reason, tt.reason)
			}
			if b.s.Len() != 0 {
				t.Error("it is still in the spool")
			}
		})
	}
}

// A failure is not done with before the author can know of it.
func TestDSNThatCannotBeSent(t *testing.T) {
	for _, direction := range []mail.Direction{mail.Outbound, mail.Inbound} {
		b := newBench(t)
		b.open(func(o *Options) { o.Keep = b.keep })
		b.hop, b.refuse = same(refused), errors.New("no space")
		b.add(func(e *spool.Entry) { e.Direction = direction }, "bob")
		b.settle()
		wantKinds(t, b, "deferred bob")
		if b.s.Len() != 1 {
			t.Fatal("the entry is gone, and nobody knows")
		}
		b.refuse = nil
		b.advance(time.Hour)
		b.settle()
		wantKinds(t, b, "deferred bob", "bounced bob")
		if b.s.Len() != 0 || len(b.submitted)+len(b.kept) != 1 {
			t.Errorf("%d entries, %d DSNs, %d kept", b.s.Len(), len(b.submitted), len(b.kept))
		}
		b.refuse = errors.New("never again")
		b.add(func(e *spool.Entry) { e.Direction = direction }, "carol")
		if took := b.pass(20*24*time.Hour, 10*time.Minute); took < 9*24*time.Hour || took > 12*24*time.Hour {
			t.Errorf("given up after %v", took)
		}
	}
}

func TestDelayIsReportedOnce(t *testing.T) {
	for _, tt := range []struct {
		notify  []smtp.DSNNotify
		byUs    bool
		reports int
	}{
		{nil, false, 0},
		{nil, true, 1},
		{[]smtp.DSNNotify{smtp.DSNNotifyDelayed}, false, 1},
		{[]smtp.DSNNotify{smtp.DSNNotifyFailure}, true, 0},
		{[]smtp.DSNNotify{smtp.DSNNotifyNever}, true, 0},
	} {
		b := newBench(t, func(o *Options) { o.DelayNotify = tt.byUs })
		b.hop = same(later)
		b.add(func(e *spool.Entry) { e.To[0].Options.Notify = tt.notify }, "bob")
		b.pass(3*time.Hour, time.Minute)
		if len(b.submitted) != 0 {
			t.Errorf("%v: a delay of 3 hours was reported", tt.notify)
		}
		b.pass(60*time.Hour, time.Minute)
		if len(b.submitted) != tt.reports {
			t.Errorf("%v: %d reports", tt.notify, len(b.submitted))
		} else if tt.reports == 1 && !strings.Contains(b.submitted[0].content, "Action: delayed") {
			t.Error(b.submitted[0].content)
		}
	}
}

func TestSuccess(t *testing.T) {
	withDSN := accepted
	withDSN.DSN = true
	for _, tt := range []struct {
		out     relay.Outcome
		notify  []smtp.DSNNotify
		reports int
	}{
		{accepted, nil, 0},
		{accepted, []smtp.DSNNotify{smtp.DSNNotifySuccess}, 1},
		{withDSN, []smtp.DSNNotify{smtp.DSNNotifySuccess}, 0},
		{accepted, []smtp.DSNNotify{smtp.DSNNotifyFailure}, 0},
	} {
		b := newBench(t)
		b.hop = same(tt.out)
		b.add(func(e *spool.Entry) { e.To[0].Options.Notify = tt.notify }, "bob")
		b.settle()
		if len(b.submitted) != tt.reports {
			t.Errorf("%v, DSN %v: %d reports", tt.notify, tt.out.DSN, len(b.submitted))
		} else if tt.reports == 1 && !strings.Contains(b.submitted[0].content, "Action: relayed") {
			t.Error(b.submitted[0].content)
		}
	}
}

// Our own DSNs fail too. No DSN comes of that.
func TestNoLoopOfBounces(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Bounce = "always" })
	b.hop = same(refused)
	b.add(nil, "bob")
	b.settle()
	for i := 0; i < len(b.submitted) && i < 10; i++ {
		m := b.submitted[i]
		ids, err := b.s.Commit(context.Background(), []spool.Draft{{
			Entry:   spool.Entry{Upstream: "internet", Direction: mail.Outbound, From: m.from, To: []spool.Recipient{{Recipient: m.to[0]}}},
			Content: mail.ParseBytes([]byte(m.content), mail.Options{}),
		}})
		if err != nil {
			t.Fatal(err)
		}
		b.q.Add(ids...)
		b.settle()
	}
	if len(b.submitted) != 1 {
		t.Errorf("%d DSNs", len(b.submitted))
	}
}

func TestOutcomesThatMakeNoSense(t *testing.T) {
	b := newBench(t)
	b.open(func(o *Options) {
		o.Deliver = func(context.Context, spool.Entry, io.ReaderAt, int64) []relay.Outcome {
			return []relay.Outcome{accepted}
		}
	})
	b.add(nil, "bob", "carol")
	b.settle()
	wantKinds(t, b, "deferred bob", "deferred carol")
}

func TestDestinationDown(t *testing.T) {
	b := newBench(t)
	b.hop = same(down)
	for i := range 50 {
		b.add(nil, fmt.Sprint("user", i))
	}
	b.add(func(e *spool.Entry) { e.Upstream = "exchange" }, "other")
	b.settle()
	// The first burst finds out together; it is not more than the concurrency.
	if n := len(b.tries); n > 22 {
		t.Errorf("%d attempts at a destination that is down", n)
	}
	if u := b.q.Stats().Unreachable; !slices.Equal(u, []string{"exchange", "internet"}) {
		t.Errorf("unreachable: %q", u)
	}
	if n := len(b.kinds()); n != 51 {
		t.Errorf("%d events, want one of each", n)
	}
	b.tries = nil
	for range 60 {
		b.advance(time.Minute)
		b.settle()
	}
	if n := len(b.tries); n == 0 || n > 2*20 {
		t.Errorf("%d attempts in an hour", n)
	}
	b.hop = same(accepted)
	b.pass(2*time.Hour, time.Minute)
	if n := b.s.Len(); n != 0 {
		t.Errorf("%d entries left after it came back", n)
	}
	if u := b.q.Stats().Unreachable; len(u) != 0 {
		t.Errorf("unreachable: %q", u)
	}
}

func TestConcurrency(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Concurrency, o.Total = 3, 5 })
	var mu sync.Mutex
	now, most, by, mostBy := 0, 0, map[string]int{}, 0
	b.hop = func(e spool.Entry, _ mail.Path) relay.Outcome {
		mu.Lock()
		now++
		by[e.Upstream]++
		most, mostBy = max(most, now), max(mostBy, by[e.Upstream])
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		now--
		by[e.Upstream]--
		mu.Unlock()
		return accepted
	}
	for i := range 40 {
		b.add(func(e *spool.Entry) { e.Upstream = fmt.Sprint("hop", i%4) }, "bob")
	}
	b.settle()
	if most > 5 || mostBy > 3 || most < 2 {
		t.Errorf("%d at once, %d to one destination", most, mostBy)
	}
	if b.s.Len() != 0 {
		t.Errorf("%d left", b.s.Len())
	}
}

func TestSuspendResumeRetryDrop(t *testing.T) {
	b := newBench(t)
	b.hop = same(later)
	id := b.add(nil, "bob")
	other := b.add(func(e *spool.Entry) { e.Upstream = "exchange" }, "carol")
	b.settle()
	if err := b.q.Suspend(id); err != nil {
		t.Fatal(err)
	}
	b.tries = nil
	b.pass(20*24*time.Hour, time.Hour)
	if slices.ContainsFunc(b.tries, func(s string) bool { return strings.HasPrefix(s, id+" ") }) {
		t.Error("a suspended entry was tried")
	}
	if _, err := b.s.Get(id); err != nil {
		t.Errorf("a suspended entry is gone: %v", err)
	}
	if _, err := b.s.Get(other); err == nil {
		t.Error("its neighbour did not expire")
	}
	b.open() // still so after a restart
	b.settle()
	if l := b.q.List(Filter{}); len(l) != 1 || l[0].ID != id || l[0].Status != StatusSuspended {
		t.Errorf("suspended: %+v", l)
	}
	b.tries = nil
	if err := b.q.Resume(id); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if len(b.tries) != 1 {
		t.Errorf("%d attempts after Resume", len(b.tries))
	}
	if err := b.q.Retry(id); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if len(b.tries) != 2 {
		t.Errorf("%d attempts after Retry", len(b.tries))
	}
	b.events = nil
	if err := b.q.Drop(id, "worthless"); err != nil {
		t.Fatal(err)
	}
	wantKinds(t, b, "dropped bob")
	if b.events[0].Reason != "worthless" || b.s.Len() != 0 {
		t.Errorf("event %+v", b.events[0])
	}
	for _, err := range []error{b.q.Drop(id, ""), b.q.Retry(id), b.q.Suspend(id), b.q.Resume(id)} {
		if !errors.Is(err, spool.ErrNotFound) {
			t.Errorf("of what is gone: %v", err)
		}
	}
}

func TestWhileDelivering(t *testing.T) {
	b := newBench(t)
	in, out := make(chan bool), make(chan bool)
	b.hop = func(spool.Entry, mail.Path) relay.Outcome { in <- true; <-out; return later }
	id := b.add(nil, "bob")
	b.q.dispatch(context.Background())
	<-in
	if err := b.q.Drop(id, ""); !errors.Is(err, ErrDelivering) {
		t.Errorf("Drop: %v", err)
	}
	if l := b.q.List(Filter{}); len(l) != 1 || l[0].Status != StatusDelivering {
		t.Errorf("list %+v", l)
	}
	b.q.Retry(id)
	b.q.Suspend(id)
	out <- true
	b.q.work.Wait()
	e, _ := b.s.Get(id)
	if !e.Suspended || e.Attempts != 1 {
		t.Errorf("suspended %v, %d attempts", e.Suspended, e.Attempts)
	}
	b.q.Resume(id)
	b.q.dispatch(context.Background())
	<-in
	b.q.Retry(id)
	out <- true
	b.q.work.Wait()
	b.q.dispatch(context.Background()) // at once: Retry came while it was tried
	<-in
	out <- true
	b.q.work.Wait()
}

func TestListAndStats(t *testing.T) {
	b := newBench(t)
	b.hop = same(later)
	one := b.add(func(e *spool.Entry) { e.Transaction = "T1" }, "bob", "carol")
	b.add(func(e *spool.Entry) { e.Upstream = "exchange" }, "dave")
	b.settle()
	b.advance(10 * time.Second)
	b.add(func(e *spool.Entry) { e.From = mail.Path{Local: "erin", Domain: "example.org"} }, "Frank")
	for _, tt := range []struct {
		f    Filter
		want int
	}{
		{Filter{}, 3}, {Filter{Text: "T1"}, 1}, {Filter{Text: one}, 1}, {Filter{From: "ALICE@"}, 2},
		{Filter{To: "carol"}, 1}, {Filter{To: "frank"}, 1}, {Filter{Upstream: "internet"}, 2}, {Filter{Text: "greylisted"}, 2}, {Filter{Text: "erin"}, 1}, {Filter{Text: "nothing"}, 0},
	} {
		if got := len(b.q.List(tt.f)); got != tt.want {
			t.Errorf("%+v: %d entries, want %d", tt.f, got, tt.want)
		}
	}
	st := b.q.Stats()
	want := []UpstreamStats{
		{Name: "exchange", Messages: 1, Deferred: 1, Oldest: 10 * time.Second},
		{Name: "internet", Messages: 2, Due: 1, Deferred: 1, Oldest: 10 * time.Second},
	}
	if !slices.Equal(st.Upstreams, want) || st.Entries != 3 {
		t.Errorf("%+v", st)
	}
}

func TestReconfigure(t *testing.T) {
	b := newBench(t)
	b.hop = same(later)
	b.add(nil, "bob")
	b.settle()
	o := *b.q.options()
	o.Schedule, o.Expire = []time.Duration{10 * time.Minute}, time.Hour
	b.q.Reconfigure(o)
	if took := b.pass(24*time.Hour, time.Minute); took < time.Hour || took > 80*time.Minute {
		t.Errorf("expired after %v", took)
	}
}

func TestRunAndShutdown(t *testing.T) {
	s, err := spool.Open(t.TempDir(), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	began := make(chan bool, 1)
	var delivered sync.WaitGroup
	slow := false
	o := Options{Spool: s, Grace: 50 * time.Millisecond, Events: func(e Event) {
		if e.Kind == EventDelivered {
			delivered.Done()
		}
	}}
	o.Deliver = func(ctx context.Context, e spool.Entry, _ io.ReaderAt, _ int64) []relay.Outcome {
		if !slow {
			return []relay.Outcome{accepted}
		}
		began <- true
		<-ctx.Done()
		return []relay.Outcome{{Reply: reply(451, 4, 4, 2, "cut off")}}
	}
	q := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan bool)
	go func() { q.Run(ctx); close(done) }()
	commit := func() string {
		ids, err := s.Commit(context.Background(), []spool.Draft{{
			Entry:   spool.Entry{To: []spool.Recipient{{Recipient: mail.Recipient{Path: mail.Path{Local: "bob", Domain: "example.org"}}}}},
			Content: mail.ParseBytes([]byte("\r\nbody\r\n"), mail.Options{}),
		}})
		if err != nil {
			t.Fatal(err)
		}
		q.Add(ids...)
		return ids[0]
	}
	for range 20 {
		delivered.Add(1)
		commit()
	}
	delivered.Wait()
	slow = true
	id := commit()
	<-began
	cancel()
	<-done
	e, err := s.Get(id)
	if err != nil {
		t.Fatal("what was cut off is gone")
	}
	if e.Attempts != 0 {
		t.Errorf("a delivery that the shutdown cut off counts as %d attempts", e.Attempts)
	}
}

func TestDamagedEntry(t *testing.T) {
	b := newBench(t)
	id := b.add(nil, "bob")
	if err := b.s.SetAside(id, spool.ErrCorrupt); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if len(b.tries) != 0 || len(b.q.jobs) != 0 {
		t.Errorf("tried %q, %d jobs", b.tries, len(b.q.jobs))
	}
}
