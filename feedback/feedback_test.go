package feedback

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/dns"
	"postern/filters"
	"postern/filters/dmarc"
	"postern/filters/dmarc/report"
	"postern/filters/standard"
	"postern/mail"
	"postern/policy"
	"postern/store"
	"postern/store/sqlite"
	"postern/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const zone = `{
	"_dmarc.down.example": {"!": "servfail"},
	"many.example._report._dmarc.service.example": {"TXT": ["v=DMARC1"]}
}`

const rules = `version = 1
[site]
domains = ["ours.example"]
[[upstream]]
name = "mail"
to = ["127.0.0.1:1"]
for = ["*"]
[[rule]]
name = "honour"
match = { dmarc = "fail" }
action = "reject"
[[rule]]
name = "other"
match = { size_over = "1MB" }
action = "reject"
`

// A desk is a Reporter with everything around it.
type desk struct {
	t      *testing.T
	r      *Reporter
	db     *sqlite.DB
	plan   *storetest.Plan
	policy *policy.Policy
	log    *bytes.Buffer

	mu     sync.Mutex
	now    time.Time
	set    Settings
	refuse map[string]error // submission to an address
	mails  [][]byte
	to     []string
	signs  bool
	block  func(ctx context.Context) error // before a submission
}

func (d *desk) Now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// at moves the clock.
func (d *desk) at(text string) {
	d.t.Helper()
	now, err := time.Parse(time.RFC3339, text)
	if err != nil {
		d.t.Fatal(err)
	}
	d.mu.Lock()
	d.now = now
	d.mu.Unlock()
}

func (d *desk) submit(ctx context.Context, from mail.Path, to []mail.Recipient, content []byte) (string, error) {
	if !from.IsNull() || len(to) != 1 {
		d.t.Errorf("from %s to %v", from, to)
	}
	if d.block != nil {
		if err := d.block(ctx); err != nil {
			return "", err
		}
	}
	if err := d.refuse[to[0].Path.String()]; err != nil {
		return "", err
	}
	d.mails, d.to = append(d.mails, content), append(d.to, to[0].Path.String())
	return fmt.Sprintf("ID%d", len(d.mails)), nil
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, log: &bytes.Buffer{}, plan: &storetest.Plan{}, refuse: map[string]error{}, signs: true, set: Settings{
		On: true, From: mail.Path{Local: "dmarc", Domain: "ours.example"}, Organisation: "Ours", Contact: "https://ours.example/", Domains: []string{"ours.example"}, Keep: 7 * 24 * time.Hour,
	}}
	d.at("2026-11-21T12:00:00Z")
	var err error
	if d.policy, err = policy.Load("p.toml", []byte(rules), policy.LoadOptions{Filters: standard.Filters}); err != nil {
		t.Fatal(err)
	}
	if d.db, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "x.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.db.Close() })
	d.start()
	return d
}

// start makes a new Reporter over the same store, as a restart would.
func (d *desk) start() {
	z, err := dns.ParseZone([]byte(zone))
	if err != nil {
		d.t.Fatal(err)
	}
	d.r = New(Options{
		Tallies: storetest.FaultyTallies{Tallies: d.db, Plan: d.plan}, Records: storetest.FaultyRecords{Records: d.db, Plan: d.plan},
		Settings: func() Settings { return d.set }, Resolver: z, Submit: d.submit, Signs: func(string) bool { return d.signs },
		Generator: "Postern test", Log: slog.New(slog.NewTextHandler(d.log, nil)), Now: d.Now,
	})
}

// see counts messages of a domain.
func (d *desk) see(domain, source string, n int, change ...func(*dmarc.Finding)) {
	for range n {
		f := &dmarc.Finding{
			Policy: report.Published{Domain: domain, P: "reject", SP: "reject", NP: "reject", DKIM: "r", SPF: "r", FO: "0", Discovery: "treewalk"},
			RUA:    []dmarc.URI{{Text: "mailto:rua@" + domain}}, Given: "reject", Asked: "reject", Pass: true,
			Record: report.Record{Source: netip.MustParseAddr(source), DKIM: "pass", SPF: "fail", HeaderFrom: domain},
		}
		for _, c := range change {
			c(f)
		}
		d.note(f, policy.Relay)
	}
}

func (d *desk) note(f *dmarc.Finding, fate policy.Disposition) {
	d.r.Note(&mail.Transaction{}, filters.Results{{Filter: "dmarc", Verdict: filters.Verdict{Details: f}}}, []policy.Decision{{Disposition: fate}}, d.policy)
}

// show writes the state of all reports.
func (d *desk) show() string {
	d.t.Helper()
	all, err := d.r.Statuses(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	var parts []string
	for _, s := range all {
		parts = append(parts, strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %d %s", s.Day[8:], s.Domain, s.State, s.Messages, strings.Join(s.To, " "))), " "))
	}
	return strings.Join(parts, "; ")
}

func (d *desk) want(what, got, want string) {
	d.t.Helper()
	if got != want {
		d.t.Errorf("%s: %s, want %s\n%s", what, got, want, d.log)
	}
}

// TestReport: what is seen on a day leaves the next night, once, and is gone.
func TestReport(t *testing.T) {
	d := newDesk(t)
	d.see("a.example", "192.0.2.1", 3)
	d.see("a.example", "192.0.2.2", 1, func(f *dmarc.Finding) { f.Record.SPF = "pass"; f.Misread = true })
	d.see("b.example", "192.0.2.1", 2)
	d.see("ours.example", "192.0.2.1", 1)
	d.see("c.example", "192.0.2.1", 1, func(f *dmarc.Finding) { f.Record.HeaderFrom = "sub.ours.example" })
	d.see("c.example", "192.0.2.1", 1, func(f *dmarc.Finding) { f.Carrier = true })
	d.note(&dmarc.Finding{Policy: report.Published{Domain: "d.example"}}, policy.Defer)
	d.r.Note(&mail.Transaction{}, nil, nil, d.policy)
	d.r.Tick(t.Context())
	d.want("before midnight", d.show(), "21 a.example collecting 4; 21 b.example collecting 2")
	d.at("2026-11-22T00:09:00Z")
	d.r.Tick(t.Context())
	d.want("too early", d.show(), "21 a.example waiting 4; 21 b.example waiting 2")
	d.see("a.example", "192.0.2.1", 1)
	d.at("2026-11-22T03:11:00Z")
	d.r.Tick(t.Context())
	d.r.Tick(t.Context())
	d.want("sent", d.show(), "21 a.example sent 4 rua@a.example; 21 b.example sent 2 rua@b.example; 22 a.example collecting 1")
	rep, err := report.ParseReport(d.mails[0])
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(rep.Organisation, rep.Email, rep.ID, rep.Begin.Unix(), rep.End.Unix(), rep.Policy.P, len(rep.Records), rep.Records[0].Count, rep.Records[0].Source, rep.Problems)
	d.want("report", got, "Ours dmarc@ours.example 2026-11-21.a.example@ours.example 1795219200 1795305599 reject 2 3 192.0.2.1 "+
		"[the reporter says: a policy in the DMARC record is not none, quarantine or reject: p=none was assumed]\n")
	if len(d.mails) != 2 {
		t.Errorf("%d mails", len(d.mails))
	}
	if rows, err := d.db.Rows(t.Context(), "2026-11-21", "a.example"); err != nil || len(rows) > 0 {
		t.Errorf("records stay: %v, %v", rows, err)
	}
	d.set.Own = true
	d.see("ours.example", "192.0.2.1", 1)
	d.set.On = false
	d.see("b.example", "192.0.2.1", 1)
	d.at("2026-11-23T05:00:00Z")
	d.r.Tick(t.Context())
	d.want("switched off", d.show(), "21 a.example sent 4 rua@a.example; 21 b.example sent 2 rua@b.example; 22 a.example waiting 1; 22 ours.example waiting 1")
}

// TestSpread: reports leave at different times, and each at the same one whoever
// asks.
func TestSpread(t *testing.T) {
	times := map[time.Time]bool{}
	for i := range 50 {
		s := &store.Subject{Day: "2026-11-21", Name: fmt.Sprintf("d%d.example", i)}
		at := due(s, stateOf(s), time.Time{})
		if at.Format(time.DateOnly) != "2026-11-22" || at.Hour() > 3 || at != due(s, stateOf(s), time.Time{}) {
			t.Errorf("%s at %s", s.Name, at)
		}
		times[at.Truncate(time.Minute)] = true
	}
	if len(times) < 20 {
		t.Errorf("only %d different minutes", len(times))
	}
}

// TestRetry: what cannot be submitted is kept and tried again, with longer waits,
// also after a restart; who has it does not get it twice.
func TestRetry(t *testing.T) {
	d := newDesk(t)
	d.see("many.example", "192.0.2.1", 1, func(f *dmarc.Finding) {
		f.RUA = []dmarc.URI{{Text: "mailto:a@many.example"}, {Text: "mailto:b@service.example"}, {Text: "mailto:c@victim.example"}, {Text: "mailto:d@many.example", Limit: 100}}
	})
	d.refuse["b@service.example"] = errors.New("no route to <b@service.example>")
	d.at("2026-11-22T04:00:00Z")
	d.r.Tick(t.Context())
	d.want("failed", d.show(), "21 many.example failing 1 a@many.example")
	all, err := d.r.Statuses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s := all[0]; s.Tries != 1 || !strings.Contains(s.Error, "no route") || !s.Due.Equal(d.now.Add(15*time.Minute)) || len(s.Refused) != 2 ||
		!strings.Contains(s.Refused[0], "victim.example: it does not say") || !strings.Contains(s.Refused[1], "more than the 100 it takes") {
		t.Errorf("%+v", s)
	}
	d.start()
	d.at("2026-11-22T04:14:00Z")
	d.r.Tick(t.Context())
	d.at("2026-11-22T04:16:00Z")
	d.r.Tick(t.Context())
	if all, _ = d.r.Statuses(t.Context()); all[0].Tries != 2 || !all[0].Due.Equal(d.now.Add(30*time.Minute)) {
		t.Errorf("%+v", all[0])
	}
	delete(d.refuse, "b@service.example")
	d.at("2026-11-22T05:00:00Z")
	d.r.Tick(t.Context())
	d.want("sent", d.show(), "21 many.example sent 1 a@many.example b@service.example")
	if !slices.Equal(d.to, []string{"a@many.example", "b@service.example"}) {
		t.Errorf("sent to %q", d.to)
	}
}

// TestSentTwice: a crash before the note sends the same message again.
func TestSentTwice(t *testing.T) {
	d := newDesk(t)
	d.see("a.example", "192.0.2.1", 1)
	d.at("2026-11-22T04:00:00Z")
	d.plan.Fail("note", nil)
	d.r.Tick(t.Context())
	if !strings.Contains(d.log.String(), "it may be sent again") {
		t.Error(d.log)
	}
	d.start()
	d.r.Tick(t.Context())
	if len(d.mails) != 2 || !bytes.Equal(d.mails[0], d.mails[1]) {
		t.Errorf("%d mails, or they differ", len(d.mails))
	}
	d.want("sent", d.show(), "21 a.example sent 1 rua@a.example")
}

// TestStopped: a process that is told to stop while it sends notes what it has
// sent, and counts the rest for no failure.
func TestStopped(t *testing.T) {
	d := newDesk(t)
	d.see("a.example", "192.0.2.1", 1, func(f *dmarc.Finding) {
		f.RUA = []dmarc.URI{{Text: "mailto:a@a.example"}, {Text: "mailto:b@a.example"}}
	})
	d.see("b.example", "192.0.2.1", 1)
	d.at("2026-11-22T04:00:00Z")
	ctx, stop := context.WithCancel(t.Context())
	d.block = func(ctx context.Context) error {
		if len(d.to) == 1 {
			stop()
		}
		return ctx.Err()
	}
	d.r.Tick(ctx)
	d.block = nil
	d.want("stopped", d.show(), "21 a.example waiting 1 a@a.example; 21 b.example waiting 1")
	d.start()
	d.r.Tick(t.Context())
	d.want("sent", d.show(), "21 a.example sent 1 a@a.example b@a.example; 21 b.example sent 1 rua@b.example")
	if !slices.Equal(d.to, []string{"a@a.example", "b@a.example", "rua@b.example"}) {
		t.Errorf("sent to %q\n%s", d.to, d.log)
	}
}

// TestSlow: a report may take a minute, and what took too long is put off.
func TestSlow(t *testing.T) {
	d := newDesk(t)
	d.see("a.example", "192.0.2.1", 1)
	d.see("b.example", "192.0.2.1", 1)
	d.at("2026-11-22T04:00:00Z")
	d.block = func(ctx context.Context) error {
		if end, ok := ctx.Deadline(); !ok || time.Until(end) > oneTurn {
			t.Errorf("it may take until %s", end)
		}
		return context.DeadlineExceeded
	}
	d.r.Tick(t.Context())
	d.want("slow", d.show(), "21 a.example failing 1; 21 b.example failing 1")
}

// TestClock: what was noted by a wrong clock does not hold for ever.
func TestClock(t *testing.T) {
	d := newDesk(t)
	d.see("a.example", "192.0.2.1", 1)
	d.r.Flush(t.Context())
	d.refuse["rua@a.example"] = errors.New("no")
	d.at("2031-01-01T00:00:00Z")
	d.r.send(t.Context())
	d.want("far ahead", d.show(), "21 a.example failing 1")
	delete(d.refuse, "rua@a.example")
	d.at("2026-11-22T04:00:00Z")
	d.r.Tick(t.Context())
	d.want("put back", d.show(), "21 a.example sent 1 rua@a.example")
	d.at("2026-11-21T23:00:00Z")
	d.see("a.example", "192.0.2.1", 3)
	d.r.Tick(t.Context())
	d.want("put back before its day was over", d.show(), "21 a.example sent 1 rua@a.example")
	if !strings.Contains(d.log.String(), "or their day is reported already\" messages=3") {
		t.Error(d.log)
	}
}

// TestNoSuchYear: a time that cannot be written down is logged, and ends nothing.
func TestNoSuchYear(t *testing.T) {
	d := newDesk(t)
	d.see("a.example", "192.0.2.1", 1)
	d.r.Flush(t.Context())
	d.refuse["rua@a.example"] = errors.New("no")
	d.at("9999-12-31T23:59:00Z") // the next try is in the year 10000, which JSON does not know
	d.r.send(t.Context())
	if len(d.mails) != 0 || !strings.Contains(d.log.String(), "it may be sent again") {
		t.Errorf("%d mails; %s", len(d.mails), d.log)
	}
}

// TestHostile: what strangers wrote as domain and selector breaks out of nothing.
func TestHostile(t *testing.T) {
	d := newDesk(t)
	texts := []string{"</selector><count>9</count>", "]]>&lt;&#0;", "a\x00b\x1b[2J\x7f", "a\xff\xfe\xc0", "\ufffe\uffff\u2028", "\r\nBcc: <x@y.example>", "\" onload=\"", "<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>&a;"}
	for _, text := range texts {
		d.see("a.example", "192.0.2.1", 1, func(f *dmarc.Finding) {
			f.Policy.FO = text
			f.Record.HeaderFrom, f.Record.EnvelopeFrom, f.Record.EnvelopeTo = text, text, text
			f.Record.AuthDKIM = []report.Auth{{Domain: text, Selector: text, Result: "fail"}}
			f.Record.AuthSPF = []report.Auth{{Domain: text, Scope: "mfrom", Result: "fail"}}
		})
	}
	d.at("2026-11-22T04:00:00Z")
	text, err := d.r.XML(t.Context(), "a.example", "")
	if err != nil {
		t.Fatal(err)
	}
	elements := map[string]int{}
	for dec := xml.NewDecoder(bytes.NewReader(text)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements[e.Name.Local]++
			if len(e.Attr) > 0 && e.Name.Local != "feedback" {
				t.Errorf("%v", e)
			}
		}
	}
	for _, name := range []string{"count", "selector", "envelope_to", "record"} {
		if elements[name] != len(texts) {
			t.Errorf("%d %s, want %d", elements[name], name, len(texts))
		}
	}
	d.r.Tick(t.Context())
	if len(d.mails) != 1 || bytes.Contains(d.mails[0], []byte("Bcc")) {
		t.Errorf("%d messages", len(d.mails))
	}
}

// TestNobodyWillHaveIt: a report without an address is done with, one whose DNS
// is down waits.
func TestNobodyWillHaveIt(t *testing.T) {
	d := newDesk(t)
	d.signs = false
	d.see("a.example", "192.0.2.1", 1, func(f *dmarc.Finding) {
		f.RUA = []dmarc.URI{{Text: "mailto:x@victim.example"}, {Text: "https://a.example/"}}
	})
	d.see("down.example", "192.0.2.1", 1)
	d.at("2026-11-22T04:00:00Z")
	d.r.Tick(t.Context())
	d.want("state", d.show(), "21 a.example refused 1; 21 down.example failing 1")
	if len(d.mails) > 0 || !strings.Contains(d.log.String(), "not a mailto URI") || strings.Count(d.log.String(), "not signed with DKIM") != 1 {
		t.Error(d.log)
	}
}

// TestStoreFails: records stay in memory as long as there is room, and the log
// tells what is lost.
func TestStoreFails(t *testing.T) {
	d := newDesk(t)
	for i := range maxMemory {
		d.see("a.example", fmt.Sprintf("10.0.%d.%d", i/256, i%256), 1)
	}
	d.see("a.example", "10.0.0.0", 1) // this one is known
	d.see("a.example", "192.0.2.1", 2)
	select {
	case <-d.r.full:
	default:
		t.Error("nobody was told that memory is half full")
	}
	d.at("2026-11-22T04:00:00Z")
	d.plan.Fail("tally", store.ErrFull)
	d.r.Tick(t.Context())
	if len(d.mails) > 0 || !strings.Contains(d.log.String(), "stay in memory") || !strings.Contains(d.log.String(), "messages=2") {
		t.Error(d.log)
	}
	d.plan.Fail("subjects", nil)
	if _, err := d.r.Statuses(t.Context()); !errors.Is(err, storetest.ErrFault) {
		t.Errorf("got %v", err)
	}
	if _, err := d.r.XML(t.Context(), "a.example", ""); err != nil {
		t.Errorf("got %v", err)
	}
	d.r.Tick(t.Context())
	d.want("sent", d.show(), "21 a.example sent 5001 rua@a.example")
	for _, op := range []string{"subjects", "expire", "set"} {
		d.at(d.Now().Add(2 * time.Hour).Format(time.RFC3339))
		d.plan.Fail(op, nil)
		before := strings.Count(d.log.String(), "level=ERROR")
		d.r.Tick(t.Context())
		if strings.Count(d.log.String(), "level=ERROR") != before+1 {
			t.Errorf("%s: %s", op, d.log)
		}
	}
	for _, op := range []string{"subjects", "rows"} {
		d.see("b.example", "192.0.2.1", 1)
		d.r.Flush(t.Context())
		d.plan.Fail(op, nil)
		if _, err := d.r.XML(t.Context(), "b.example", ""); !errors.Is(err, storetest.ErrFault) {
			t.Errorf("%s: %v", op, err)
		}
	}
	d.plan.Fail("subjects", nil)
	if _, err := d.r.Statuses(t.Context()); !errors.Is(err, storetest.ErrFault) {
		t.Errorf("got %v", err)
	}
	// What comes back into full memory is lost.
	d.see("b.example", "192.0.2.9", 1)
	seen, subjects := d.r.seen, d.r.about
	d.r.seen = map[key]int64{}
	for i := range maxMemory {
		d.r.seen[key{row: fmt.Sprint(i)}] = 1
	}
	if d.r.restore(seen, subjects); d.r.lost != 1 {
		t.Errorf("%d lost", d.r.lost)
	}
}

// TestTooMany: what a domain, or all of them, can make us keep is bounded.
func TestTooMany(t *testing.T) {
	d := newDesk(t)
	for n := range maxRows + 10 {
		d.see("a.example", fmt.Sprintf("10.1.%d.%d", n/256, n%256), 1)
		if n == maxMemory-1 {
			d.r.Flush(t.Context())
		}
	}
	d.see("b.example", "192.0.2.1", 1)
	d.want("kept", d.show(), "21 a.example collecting 5000; 21 b.example collecting 1")
	if !strings.Contains(d.log.String(), "messages=10") {
		t.Error(d.log)
	}
}

// TestExpire: what is too old goes, unless the clock has jumped.
func TestExpire(t *testing.T) {
	d := newDesk(t)
	d.set.On = true
	d.refuse["rua@a.example"] = errors.New("no")
	d.see("a.example", "192.0.2.1", 1)
	d.see("b.example", "192.0.2.1", 1)
	d.r.Tick(t.Context())
	for d.Now().Format(time.DateOnly) < "2026-11-29" {
		d.at(d.Now().Add(12 * time.Hour).Format(time.RFC3339))
		d.r.Tick(t.Context())
	}
	d.want("old", d.show(), "")
	if !strings.Contains(d.log.String(), "were never sent: their records are removed\" reports=1") {
		t.Error(d.log)
	}
	d.see("b.example", "192.0.2.1", 1)
	d.r.Tick(t.Context())
	d.at("2027-11-29T12:00:00Z")
	d.r.Tick(t.Context())
	d.want("after a jump", d.show(), "29 b.example sent 1 rua@b.example")
	d.at("2026-11-29T12:00:00Z")
	d.r.Tick(t.Context())
	d.at("2026-11-29T15:00:00Z")
	d.r.Tick(t.Context())
	d.want("after a jump back", d.show(), "29 b.example sent 1 rua@b.example")
}

// TestDamaged: what cannot be read is told and tried again; it hurts no other.
func TestDamaged(t *testing.T) {
	d := newDesk(t)
	d.see("z.example", "192.0.2.1", 1)
	d.r.Flush(t.Context())
	for _, bad := range []store.Tally{
		{Day: "2026-11-20", Name: "a.example", About: []byte("no"), Row: []byte("{}"), Count: 1},
		{Day: "2026-11-20", Name: "b.example", About: []byte("{}"), Row: []byte("no"), Count: 1},
		{Day: "day", Name: "c.example", About: []byte("{}"), Row: []byte("{}"), Count: 1},
	} {
		if _, err := d.db.Tally(t.Context(), []store.Tally{bad}, 9); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.db.Note(t.Context(), "2026-11-21", "z.example", []byte("no"), false); err != nil {
		t.Fatal(err)
	}
	d.at("2026-11-22T04:00:00Z")
	for _, domain := range []string{"a.example", "b.example", "c.example"} {
		if _, err := d.r.XML(t.Context(), domain, ""); err == nil {
			t.Errorf("%s: no error", domain)
		}
	}
	d.r.Tick(t.Context())
	if len(d.mails) != 1 || strings.Count(d.log.String(), "it is tried again") != 2 { // the day that is none is never over
		t.Errorf("%d mails\n%s", len(d.mails), d.log)
	}
}

func TestXMLOfDay(t *testing.T) {
	d := newDesk(t)
	d.see("a.example", "192.0.2.1", 1)
	d.at("2026-11-22T00:01:00Z")
	d.see("a.example", "192.0.2.1", 2)
	for at, want := range map[string]string{"": "<count>2</count>", "2026-11-21": "<count>1</count>", "2026-11-22": "<count>2</count>"} {
		text, err := d.r.XML(t.Context(), "a.example", at)
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%q: %s, %v", at, text, err)
		}
	}
	for _, c := range [][2]string{{"a.example", "2026-11-20"}, {"b.example", ""}} {
		if _, err := d.r.XML(t.Context(), c[0], c[1]); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", c, err)
		}
	}
}

// TestRun: what is in memory is written at the end.
func TestRun(t *testing.T) {
	d := newDesk(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.r.Run(ctx)
	}()
	for i := range maxMemory / 2 {
		d.see("a.example", fmt.Sprintf("10.0.%d.%d", i/256, i%256), 1)
	}
	for range 500 { // half full: written without waiting for the minute
		if all, err := d.db.Subjects(t.Context()); err == nil && len(all) == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if all, err := d.db.Subjects(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("nothing is written: %v, %v", all, err)
	}
	d.see("b.example", "192.0.2.1", 1)
	cancel()
	<-done
	d.start()
	d.want("after the end", d.show(), "21 a.example collecting 2500; 21 b.example collecting 1")
}

func TestDisposition(t *testing.T) {
	d := newDesk(t)
	arc := filters.Result{Filter: "arc", Verdict: filters.Verdict{Symbols: []filters.Symbol{{Name: "ARC_TRUSTED"}}}}
	relay, hold, refuse, drop := policy.Decision{Disposition: policy.Relay, Rule: policy.DefaultRule}, policy.Decision{Disposition: policy.Quarantine, Rule: "honour"},
		policy.Decision{Disposition: policy.Reject, Rule: "honour"}, policy.Decision{Disposition: policy.Discard, Rule: "other"}
	other := policy.Decision{Disposition: policy.Reject, Rule: "other"}
	for _, c := range []struct {
		name         string
		pass         bool
		given, asked dmarc.Policy
		ds           []policy.Decision
		arc          bool
		list         string
		want         string
	}{
		{name: "pass", pass: true, given: "reject", asked: "reject", ds: []policy.Decision{relay}, want: "pass"},
		{name: "pass, but spam", pass: true, given: "quarantine", asked: "quarantine", ds: []policy.Decision{other}, want: "pass"},
		{name: "pass without a policy", pass: true, given: "none", asked: "none", ds: []policy.Decision{relay}, want: "none"},
		{name: "refused", given: "reject", asked: "reject", ds: []policy.Decision{refuse}, want: "reject"},
		{name: "held", given: "quarantine", asked: "quarantine", ds: []policy.Decision{hold}, want: "quarantine"},
		{name: "refused by another rule", given: "quarantine", asked: "quarantine", ds: []policy.Decision{other}, want: "quarantine"},
		{name: "spam of a domain without a policy", given: "none", asked: "none", ds: []policy.Decision{other}, want: "none"},
		{name: "dropped", given: "reject", asked: "reject", ds: []policy.Decision{drop}, want: "reject"},
		{name: "harder than asked", given: "none", asked: "none", ds: []policy.Decision{refuse}, want: "reject local_policy"},
		{name: "milder than asked", given: "reject", asked: "reject", ds: []policy.Decision{hold}, want: "quarantine local_policy"},
		{name: "the mildest counts", given: "reject", asked: "reject", ds: []policy.Decision{refuse, relay, hold}, want: "none local_policy"},
		{name: "put off for one", given: "reject", asked: "reject", ds: []policy.Decision{refuse, {}}, want: "reject"},
		{name: "trusted forwarder", given: "reject", asked: "reject", ds: []policy.Decision{relay}, arc: true, want: "none trusted_forwarder arc=pass"},
		{name: "list", given: "reject", asked: "reject", ds: []policy.Decision{relay}, arc: true, list: "List-Id: <x>\r\n", want: "none mailing_list arc=pass"},
		{name: "anybody can say that he is a list", given: "reject", asked: "reject", ds: []policy.Decision{relay}, list: "List-Id: <x>\r\n", want: "none local_policy"},
		{name: "testing", given: "reject", asked: "quarantine", ds: []policy.Decision{hold}, want: "quarantine policy_test_mode"},
		{name: "testing quarantine", given: "quarantine", asked: "none", ds: []policy.Decision{relay}, want: "none policy_test_mode"},
		{name: "testing, but refused", given: "reject", asked: "quarantine", ds: []policy.Decision{refuse}, want: "reject"},
	} {
		rs := filters.Results{}
		if c.arc {
			rs = append(rs, arc)
		}
		tx := &mail.Transaction{Message: mail.ParseBytes([]byte(c.list+"Subject: x\r\n\r\n"), mail.Options{})}
		done, rule := mildest(c.ds)
		got, reasons := disposition(&dmarc.Finding{Pass: c.pass, Given: c.given, Asked: c.asked}, done, d.policy.Asks(rule, "dmarc"), tx, rs)
		for _, r := range reasons {
			got += " " + strings.TrimSpace(r.Type+" "+r.Comment)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// BenchmarkNote is what a message costs that is counted.
func BenchmarkNote(b *testing.B) {
	d := &desk{set: Settings{On: true}}
	r := New(Options{Settings: func() Settings { return d.set }, Now: time.Now})
	p, err := policy.Load("p.toml", []byte(rules), policy.LoadOptions{Filters: standard.Filters})
	if err != nil {
		b.Fatal(err)
	}
	found := &dmarc.Finding{
		Policy: report.Published{Domain: "a.example", P: "reject"}, RUA: []dmarc.URI{{Text: "mailto:rua@a.example"}}, Given: "reject", Asked: "reject", Pass: true,
		Record: report.Record{
			Source: netip.MustParseAddr("192.0.2.1"), DKIM: "pass", SPF: "pass", HeaderFrom: "a.example",
			AuthDKIM: []report.Auth{{Domain: "a.example", Selector: "s", Result: "pass"}}, AuthSPF: []report.Auth{{Domain: "a.example", Result: "pass"}},
		},
	}
	rs, ds := filters.Results{{Filter: "dmarc", Verdict: filters.Verdict{Details: found}}}, []policy.Decision{{Disposition: policy.Relay}}
	for b.Loop() {
		r.Note(&mail.Transaction{}, rs, ds, p)
	}
}
