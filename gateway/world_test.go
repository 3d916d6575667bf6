package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/audit"
	"postern/dns"
	"postern/filters"
	"postern/mail"
	"postern/policy"
	"postern/quarantine"
	"postern/queue"
	"postern/relay"
	"postern/spool"
	"postern/store"
	"postern/store/dir"
	"postern/store/sqlite"
)

// basis is the policy of these tests; HOP and LMTPHOP are next hops, QUEUE what
// stands in [queue], UPSTREAM what the first upstream says besides.
const basis = `
version = 1
[site]
hostname = "gw.ours.example"
domains  = ["ours.example", "second.example"]
admin    = "admin@ours.example"
[[listener]]
name = "in"
address = "127.0.0.1:2525"
[[listener]]
name = "out"
address = "127.0.0.1:2587"
role = "outbound"
allow = ["10.0.0.0/8"]
[[listener]]
name = "lmtp"
address = "127.0.0.1:2424"
protocol = "lmtp"
[[upstream]]
name = "mailbox"
to = ["HOP"]
tls = "none"
for = ["ours.example", "second.example"]
UPSTREAM
[[upstream]]
name = "world"
to = ["HOP"]
tls = "none"
for = ["*"]
[queue]
QUEUE
[filter.probe]
timeout = "200ms"
`

// A plan says how a world differs from the usual one.
type plan struct {
	rules    string
	queue    string
	upstream string
	replace  [2]string                         // in basis
	reserve  int64                             // of the spool
	maxSize  int64                             // of the quarantine
	records  func(store.Records) store.Records // wraps the index of the quarantine
	auditLog func(store.Log) store.Log         // wraps the audit log's place
	wrap     func(*Options)                    // changes the options of the gateway
	hop      func(*nextHop)                    // changes the next hop
	resolver dns.Resolver
}

// A world is a gateway of real parts, and a next hop.
type world struct {
	t          testing.TB
	plan       plan
	g          *Gateway
	hop        *nextHop
	spool      *spool.Spool
	queue      *queue.Queue
	relay      *relay.Client
	quarantine *quarantine.Quarantine
	audit      *audit.Log
	db         *sqlite.DB
	log        *lines // of the service
	mailLog    *lines
	opened     atomic.Int32 // probes
	serial     atomic.Int64
	mu         sync.Mutex
	outcome    *Outcome // the last one
	fates      []Fate
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// policyText is the policy of the plan, with other rules if there are some.
func (w *world) policyText(rules string) string {
	text := strings.Replace(basis, w.plan.replace[0], w.plan.replace[1], 1)
	return strings.NewReplacer("HOP", w.hop.addr, "QUEUE", w.plan.queue, "UPSTREAM", w.plan.upstream).Replace(text) + rules
}

// state loads a policy with these rules.
func (w *world) state(rules string) *State {
	w.t.Helper()
	p, err := policy.Load("policy.toml", []byte(w.policyText(rules)), policy.LoadOptions{Filters: testFilters(&w.opened)})
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := NewState(p, p.Chain().ParseOptions(), &filters.Env{
		Resolver: &dns.Zone{}, Now: time.Now, Log: slog.New(slog.DiscardHandler), Hostname: p.Site.Hostname, Domains: p.Site.Domains, Language: p.Site.Language,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// noRules matches nothing: without rules the shipped ones would hold.
const noRules = `
[[rule]]
name = "none"
match = { reverse_path = "nobody@never.example" }
action = "reject"
`

func newWorld(t testing.TB, p plan) *world {
	t.Helper()
	if p.rules == "" {
		p.rules = noRules
	}
	w := &world{t: t, plan: p, hop: newNextHop(t), log: &lines{}, mailLog: &lines{}}
	if p.hop != nil {
		p.hop(w.hop)
	}
	root := t.TempDir()
	w.open(root)
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o := Options{
		Spool: w.spool, Relay: w.relay, Quarantine: w.quarantine, Audit: w.audit, MailLog: audit.NewMailLog(w.mailLog, audit.MailLogOptions{}), Log: log,
		NewID: w.newID,
		Observe: func(_ *mail.Transaction, out *Outcome, fates []Fate) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.outcome, w.fates = out, fates
		},
	}
	if p.wrap != nil {
		p.wrap(&o)
	}
	w.g = New(o, w.state(p.rules))
	w.queue = queue.New(w.g.QueueOptions())
	w.g.SetQueue(w.queue)
	t.Cleanup(func() { // what was opened first is closed last
		w.g.Close()
		w.relay.Close()
		w.audit.Close()
		w.db.Close()
		w.spool.Close()
		eventually(t, "all filters are closed", func() bool { return w.opened.Load() == 0 })
	})
	return w
}

// open opens what lies on disk.
func (w *world) open(root string) {
	t := w.t
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	quiet := slog.New(slog.DiscardHandler)
	w.spool, err = spool.Open(filepath.Join(root, "spool"), spool.Options{Reserve: w.plan.reserve, Log: quiet})
	must(err)
	w.db, err = sqlite.Open(t.Context(), filepath.Join(root, "postern.db"))
	must(err)
	blobs, err := dir.OpenBlobs(filepath.Join(root, "held"), dir.BlobOptions{})
	must(err)
	var records store.Records = w.db
	if w.plan.records != nil {
		records = w.plan.records(records)
	}
	w.quarantine, err = quarantine.Open(t.Context(), quarantine.Options{
		Settings: quarantine.Settings{MaxSize: w.plan.maxSize}, Records: records, Blobs: blobs, Key: filepath.Join(root, "quarantine.key"),
		OnRead: func(ctx context.Context, it *quarantine.Item, by quarantine.Access) error {
			return w.audit.Append(ctx, audit.Record{Event: audit.Read, Item: it.ID, Actor: by.Actor})
		},
	})
	must(err)
	place, err := dir.OpenLog(filepath.Join(root, "audit"))
	must(err)
	var auditPlace store.Log = place
	if w.plan.auditLog != nil {
		auditPlace = w.plan.auditLog(place)
	}
	w.audit, err = audit.Open(t.Context(), audit.Options{Log: auditPlace, Head: filepath.Join(root, "audit.head"), Key: filepath.Join(root, "audit.key")})
	must(err)
	w.relay = relay.New(relay.Options{Hostname: "gw.ours.example", Resolver: w.plan.resolver, Log: quiet, ConnectTimeout: 5 * time.Second})
}

func (w *world) newID() string { return fmt.Sprintf("01TEST%03d", w.serial.Add(1)) }

// run lets the queue deliver until the test ends.
func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.queue.Run(ctx)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// A letter is a transaction as a client would begin it.
type letter struct {
	from     string // reverse-path; "<>" is the null one
	to       []string
	content  string // LF line ends; default: a text from the reverse-path
	listener string // "in", "out" or "lmtp"
	options  smtp.MailOptions
	notify   map[string][]smtp.DSNNotify
	unasked  bool // begin without MAIL and RCPT: what they would refuse comes to Data
	ctx      context.Context
}

// sent is what the client was told.
type sent struct {
	tx   *mail.Transaction
	mail mail.Reply
	rcpt []mail.Reply
	data []mail.Reply
}

// one is the reply to the message, or what came before it.
func (s *sent) one() string {
	switch {
	case len(s.data) > 0:
		return s.data[0].String()
	case len(s.rcpt) > 0:
		return s.rcpt[0].String()
	}
	return s.mail.String()
}

func testPath(t testing.TB, s string) mail.Path {
	t.Helper()
	if s == "<>" || s == "" {
		return mail.Path{}
	}
	p, err := mail.ParsePath(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// begin is a session's MAIL.
func (w *world) begin(l letter) *sent {
	w.t.Helper()
	if l.from == "" {
		l.from = "alice@sender.example"
	}
	s := &mail.Session{
		ID: "session", Listener: l.listener, Role: mail.RoleInbound, Protocol: "SMTP", ESMTP: true, Helo: "mail.sender.example", Direction: mail.Inbound,
		Client: netip.MustParseAddrPort("192.0.2.7:4711"),
	}
	switch l.listener {
	case "":
		s.Listener = "in"
	case "out":
		s.Role, s.Direction, s.Client = mail.RoleOutbound, mail.Outbound, netip.MustParseAddrPort("10.0.0.9:4711")
	case "lmtp":
		s.Protocol = "LMTP"
	}
	s.Peer = s.Client
	out := &sent{tx: &mail.Transaction{ID: w.newID(), Session: s, At: time.Now(), Envelope: mail.Envelope{ReversePath: testPath(w.t, l.from), Options: l.options}}}
	if l.unasked {
		w.g.Begin(out.tx)
		out.mail = mail.ReplyOK
	} else {
		out.mail = w.g.Mail(w.context(l), out.tx)
	}
	return out
}

func (w *world) context(l letter) context.Context {
	if l.ctx != nil {
		return l.ctx
	}
	return w.t.Context()
}

// send is a whole transaction.
func (w *world) send(l letter) *sent {
	w.t.Helper()
	if len(l.to) == 0 {
		l.to = []string{"bob@ours.example"}
	}
	s := w.begin(l)
	if !s.mail.OK() {
		return s
	}
	for _, to := range l.to {
		r := mail.Recipient{Path: testPath(w.t, to), Options: smtp.RcptOptions{Notify: l.notify[to]}}
		reply := mail.ReplyOK
		if !l.unasked {
			reply = w.g.Rcpt(w.context(l), s.tx, r)
		}
		s.rcpt = append(s.rcpt, reply)
		if reply.OK() {
			s.tx.Recipients = append(s.tx.Recipients, r)
		}
	}
	if len(s.tx.Recipients) == 0 {
		w.g.Abort(s.tx)
		return s
	}
	if l.content == "" {
		l.content = text(s.tx.ReversePath.String())
	}
	s.data = w.data(w.context(l), s.tx, l.content)
	return s
}

func (w *world) data(ctx context.Context, tx *mail.Transaction, content string) []mail.Reply {
	w.t.Helper()
	body := w.spool.Buffer()
	if _, err := io.WriteString(body, crlf(content)); err != nil {
		w.t.Fatal(err)
	}
	return w.g.Data(ctx, tx, body)
}

func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

// text is a plain message with more header fields.
func text(from string, fields ...string) string {
	return strings.Join(fields, "") + "From: Alice <" + from + ">\nTo: somebody\nSubject: hello\nMessage-ID: <1@x.example>\n\nHow are you?\n..dots\n"
}

// probing is a message that tells the probe what to do.
func probing(word string) string { return text("alice@sender.example", "X-Probe: "+word+"\n") }

// held are the items of the quarantine, each in a few words: queue, rule,
// recipients with their state.
func (w *world) held() []string {
	w.t.Helper()
	var words []string
	for _, it := range w.items() {
		s := it.Queue + " " + it.Rule
		if it.Original {
			s += " original"
		}
		for _, to := range it.To {
			s += " " + to.Path.String() + "=" + string(to.State)
		}
		words = append(words, s)
	}
	return words
}

func (w *world) items() []*quarantine.Item {
	w.t.Helper()
	items, err := w.quarantine.Search(context.Background(), quarantine.Query{})
	if err != nil {
		w.t.Fatal(err)
	}
	return items
}

// queued are the entries of the spool, each in a few words: next hop, reverse-
// path, recipients.
func (w *world) queued() []string {
	var words []string
	for _, e := range w.spool.List() {
		s := e.Upstream + " <" + e.From.String() + ">"
		for _, to := range e.To {
			s += " " + to.Path.String()
		}
		words = append(words, s)
	}
	return words
}

// spooled is the content of the i-th entry of the spool.
func (w *world) spooled(i int) string {
	w.t.Helper()
	entries := w.spool.List()
	if i >= len(entries) {
		w.t.Fatalf("only %d entries in the spool", len(entries))
	}
	r, err := w.spool.Content(entries[i].ID)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// records are the audit records of an event.
func (w *world) records(event audit.Event) []audit.Record {
	w.t.Helper()
	rs, err := w.audit.List(context.Background(), audit.Query{})
	if err != nil {
		w.t.Fatal(err)
	}
	var found []audit.Record
	for _, r := range rs {
		if r.Event == event {
			found = append(found, r)
		}
	}
	return found
}

// relayed are the messages that the next hop has, each in a few words.
func (w *world) relayed() []string {
	var words []string
	for _, d := range w.hop.got() {
		words = append(words, "<"+d.from+"> "+strings.Join(d.to, " "))
	}
	return words
}

// lastFates are those of the last transaction, by status.
func (w *world) lastFates() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var words []string
	for _, f := range w.fates {
		words = append(words, f.Recipient.String()+"="+f.Status)
	}
	return words
}

// want compares lists of words.
func want(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// eventually waits for what another goroutine does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not in time: %s", what)
}

var errTest = errors.New("the test broke it")

// replies are replies with these codes.
func replies(codes string) []mail.Reply {
	var rs []mail.Reply
	for _, c := range strings.Fields(codes) {
		code, err := strconv.Atoi(c)
		if err != nil {
			panic(err)
		}
		rs = append(rs, mail.Reply{Code: code})
	}
	return rs
}
