package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/dns"
	"postern/mail"
)

// aClock is a clock that tests turn on.
type aClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *aClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.IsZero() {
		c.t = time.Unix(1_700_000_000, 0)
	}
	return c.t
}

func (c *aClock) add(d time.Duration) {
	c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// closedPort returns an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// aDialer counts connections, and can be slow.
type aDialer struct {
	net.Dialer
	mu    sync.Mutex
	dials map[string]int
	wait  time.Duration
}

func (d *aDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	if d.dials == nil {
		d.dials = map[string]int{}
	}
	d.dials[address]++
	d.mu.Unlock()
	time.Sleep(d.wait)
	return d.Dialer.DialContext(ctx, network, address)
}

func (d *aDialer) count(address string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dials[address]
}

func TestFailover(t *testing.T) {
	f := (&fake{}).start(t)
	dead := closedPort(t)
	clock, dialer := &aClock{}, &aDialer{}
	c := newTestClient(t, Options{Now: clock.now, Dialer: dialer})
	hop := &Hop{Name: "h", To: []string{dead, f.address}, TLS: TLSNone}
	send := func() Outcome { return c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0] }
	for range 5 {
		if o := send(); !o.Delivered || !strings.Contains(o.Hop, "h[127.0.0.1]:") {
			t.Fatalf("%+v", o)
		}
	}
	// The dead one was tried once, and again when its pause is over.
	if n := dialer.count(dead); n != 1 {
		t.Errorf("%d dials", n)
	}
	ds := c.Stats().Destinations
	if len(ds) != 1 || ds[0].Address != dead || ds[0].Failures != 1 || ds[0].Next.Sub(clock.now()) != 30*time.Second || ds[0].Error == "" {
		t.Errorf("destinations: %+v", ds)
	}
	pause := 30 * time.Second
	for range 6 {
		clock.add(pause - time.Second)
		before := dialer.count(dead)
		send()
		if n := dialer.count(dead); n != before {
			t.Errorf("tried again before %v were over", pause)
		}
		clock.add(time.Second)
		send()
		if n := dialer.count(dead); n != before+1 {
			t.Errorf("not tried again after %v: %d dials", pause, n)
		}
		pause = min(2*pause, 5*time.Minute)
	}
}

func TestOnlyAddressIsTriedEverySecond(t *testing.T) {
	dead := closedPort(t)
	clock, dialer := &aClock{}, &aDialer{}
	c := newTestClient(t, Options{Now: clock.now, Dialer: dialer})
	hop := &Hop{Name: "h", To: []string{dead}, TLS: TLSNone}
	for i, step := range []struct {
		after time.Duration
		dials int
	}{{0, 1}, {0, 1}, {500 * time.Millisecond, 1}, {500 * time.Millisecond, 2}, {time.Minute, 3}} {
		clock.add(step.after)
		o := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]
		if o.Delivered || !o.Down || o.Reply.Code != 451 || o.Reply.Status() != "4.4.1" || o.Err == nil || o.Hop == "" {
			t.Errorf("%+v", o)
		}
		if n := dialer.count(dead); n != step.dials {
			t.Errorf("step %d: %d dials, want %d", i, n, step.dials)
		}
	}
	// It comes back.
	l, err := net.Listen("tcp", dead)
	if err != nil {
		t.Skip(err)
	}
	l.Close()
	f := &fake{}
	f.start(t)
	clock.add(time.Second)
	hop.To = []string{f.address}
	if o := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]; !o.Delivered {
		t.Errorf("%+v", o)
	}
}

func TestBackOffEnds(t *testing.T) {
	f := (&fake{say: map[string]string{"banner": "421 busy|close"}}).start(t)
	clock := &aClock{}
	c := newTestClient(t, Options{Now: clock.now})
	send := func() Outcome {
		return c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))[0]
	}
	if o := send(); !o.Down || len(c.Stats().Destinations) != 1 {
		t.Fatalf("%+v", o)
	}
	f.set("banner", "220 hello")
	clock.add(2 * time.Second)
	if o := send(); !o.Delivered || len(c.Stats().Destinations) != 0 {
		t.Errorf("%+v, %+v", o, c.Stats().Destinations)
	}
	f.set("banner", "554 no service")
	c.CloseIdle()
	if o := send(); !o.Down || !o.Reply.Temporary() {
		t.Errorf("%+v", o)
	}
}

// TestHangingAddressIsLeftAlone checks that an address that greets and then does
// not answer costs one message its time, not all.
func TestHangingAddressIsLeftAlone(t *testing.T) {
	f, other := (&fake{say: map[string]string{"MAIL": "hang"}}).start(t), (&fake{}).start(t)
	c := newTestClient(t, Options{CommandTimeout: time.Second})
	for i := range 3 {
		start := time.Now()
		if o := c.Deliver(context.Background(), hopTo(f, other), newMail(sample, "a@example.com"))[0]; !o.Delivered {
			t.Errorf("%+v", o)
		}
		if d := time.Since(start); i > 0 && d > 800*time.Millisecond {
			t.Errorf("took %v", d)
		}
	}
	if _, _, sessions := f.got(); sessions != 1 {
		t.Errorf("%d sessions", sessions)
	}
}

// TestTrialIsGivenBack checks that a delivery that ends before it tried does not
// keep others from trying.
func TestTrialIsGivenBack(t *testing.T) {
	f := (&fake{say: map[string]string{"banner": "once: 421 busy|close"}}).start(t)
	clock := &aClock{}
	c := newTestClient(t, Options{Now: clock.now})
	hop := hopTo(f)
	send := func(ctx context.Context) Outcome {
		return c.Deliver(ctx, hop, newMail(sample, "a@example.com"))[0]
	}
	send(context.Background())
	clock.add(time.Hour)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if o := send(ctx); o.Delivered || !errors.Is(o.Err, context.Canceled) {
		t.Errorf("%+v", o)
	}
	if o := send(context.Background()); !o.Delivered {
		t.Errorf("%+v", o)
	}
	// Nor does one that had nobody left to send to.
	f.set("banner", "once: 421 busy|close")
	c.CloseIdle()
	send(context.Background())
	clock.add(time.Hour)
	able := (&fake{}).start(t)
	hop.To = []string{able.address, f.address}
	send(context.Background())
	hop.To = hop.To[1:]
	if o := send(context.Background()); !o.Delivered {
		t.Errorf("%+v", o)
	}
}

// TestOneTrialAtATime sends many messages at once to an address that is slow to
// refuse, after it was down: one of them tries it.
func TestOneTrialAtATime(t *testing.T) {
	f, dead := (&fake{}).start(t), closedPort(t)
	clock, dialer := &aClock{}, &aDialer{}
	c := newTestClient(t, Options{Now: clock.now, Dialer: dialer})
	hop := &Hop{Name: "h", To: []string{dead, f.address}, TLS: TLSNone}
	c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))
	clock.add(time.Minute)
	dialer.wait = 50 * time.Millisecond
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if o := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]; !o.Delivered {
				t.Errorf("%+v", o)
			}
		})
	}
	group.Wait()
	if n := dialer.count(dead); n != 2 {
		t.Errorf("%d dials", n)
	}
}

func TestAddressOrder(t *testing.T) {
	fs := []*fake{(&fake{}).start(t), (&fake{}).start(t), (&fake{}).start(t)}
	c := newTestClient(t, Options{})
	hop := hopTo(fs...)
	for _, balance := range []string{"failover", "round-robin"} {
		hop.Balance = balance
		for range 6 {
			if o := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]; !o.Delivered {
				t.Fatalf("%+v", o)
			}
		}
	}
	for i, want := range []int{8, 2, 2} {
		if mails, _, _ := fs[i].got(); len(mails) != want {
			t.Errorf("address %d got %d mails, want %d", i, len(mails), want)
		}
	}
}

// TestNextAddress says when another address is tried: after what happened before
// the content, for the recipients that it happened to; never after a 5xx.
func TestNextAddress(t *testing.T) {
	for _, c := range []struct {
		verb, reply string
		next        bool
	}{
		{"banner", "554 no", true}, {"MAIL", "451 later", true}, {"RCPT", "450 later", true}, {"DATA", "451 later", true},
		{"MAIL", "close", true}, {"RCPT", "421 bye|close", true}, {"DATA", "what?", true},
		{"MAIL", "550 no", false}, {"RCPT", "550 no", false}, {"DATA", "554 no", false},
		{".", "451 later", false}, {".", "554 no", false}, {".", "close", false}, {".", "421 bye|close", false}, {".", "what?", false},
	} {
		first, second := (&fake{say: map[string]string{c.verb: c.reply}}).start(t), (&fake{}).start(t)
		client := newTestClient(t, patient)
		o := client.Deliver(context.Background(), hopTo(first, second), newMail(sample, "a@example.com"))[0]
		mails, _, _ := second.got()
		if c.next != o.Delivered || c.next != (len(mails) == 1) {
			t.Errorf("%s %s: %+v, %d mails", c.verb, c.reply, o, len(mails))
		}
	}
}

func TestRefusalIsKeptOverDown(t *testing.T) {
	for _, order := range []string{"refuses first", "is down first"} {
		f := (&fake{say: map[string]string{"RCPT": "450 4.2.1 busy"}}).start(t)
		hop := &Hop{Name: "h", TLS: TLSNone, To: []string{f.address, closedPort(t)}}
		if order == "is down first" {
			hop.To[0], hop.To[1] = hop.To[1], hop.To[0]
		}
		o := newTestClient(t, patient).Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]
		if o.Down || o.Reply.Code != 450 {
			t.Errorf("%s: %+v", order, o)
		}
	}
}

func TestManyRecipients(t *testing.T) {
	for name, c := range map[string]struct {
		features []string
		mails    int
	}{
		"a hundred at once": {allFeatures, 3},
		"LIMITS":            {append([]string{"LIMITS RCPTMAX=50 FOO=1"}, allFeatures...), 5},
	} {
		f := (&fake{features: c.features}).start(t)
		m := newMail(sample)
		for i := range 250 {
			m.To = append(m.To, mail.Recipient{Path: path(fmt.Sprintf("u%d@example.com", i))})
		}
		for i, o := range newTestClient(t, Options{}).Deliver(context.Background(), hopTo(f), m) {
			if !o.Delivered || o.Recipient != m.To[i].Path {
				t.Fatalf("%s: %+v", name, o)
			}
		}
		mails, lines, sessions := f.got()
		rcpts := 0
		for _, l := range lines {
			if strings.HasPrefix(l, "RCPT") {
				rcpts++
			}
		}
		if len(mails) != c.mails || rcpts != 250 || sessions != 1 {
			t.Errorf("%s: %d mails, %d RCPT, %d sessions", name, len(mails), rcpts, sessions)
		}
	}
}

func TestTooManyRecipients(t *testing.T) {
	f := (&fake{say: map[string]string{"RCPT TO:<c@example.com>": "once: 452 4.5.3 too many", "RCPT TO:<d@example.com>": "once: 452 too many"}}).start(t)
	for _, o := range newTestClient(t, Options{}).Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com", "b@example.com", "c@example.com", "d@example.com")) {
		if !o.Delivered {
			t.Errorf("%+v", o)
		}
	}
	if mails, _, _ := f.got(); len(mails) != 2 {
		t.Errorf("%d mails", len(mails))
	}
	// A next hop that has room for nobody is not asked for ever.
	f = (&fake{say: map[string]string{"RCPT": "452 4.5.3 too many"}}).start(t)
	if o := newTestClient(t, Options{}).Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))[0]; o.Reply.Code != 452 || o.Down {
		t.Errorf("%+v", o)
	}
}

// mxZone leads example domains to loopback addresses; the port is the fake's.
const mxZone = `{
"good.example": {"MX": ["20 b.mx.example", "10 a.mx.example"]},
"implicit.example": {"A": ["127.0.0.1"]},
"null.example": {"MX": ["0 ."], "A": ["127.0.0.1"]},
"none.example": {"TXT": ["nothing here"]},
"broken.example": {"!": "servfail"},
"noaddr.example": {"MX": ["10 gone.example", "20 none.example"]},
"halfdead.example": {"MX": ["10 gone.example", "20 broken.example"]},
"loop.example": {"MX": ["10 gw.example.net", "20 a.mx.example"]},
"backup.example": {"MX": ["10 a.mx.example", "20 GW.example.net", "20 c.mx.example", "30 b.mx.example"]},
"self.example": {"MX": ["10 outside.example"]},
"secure.example": {"MX": ["10 a.mx.example"], "AD": true},
"a.mx.example": {"A": ["127.0.0.1"]},
"b.mx.example": {"A": ["127.0.0.2"]},
"c.mx.example": {"A": ["127.0.0.3"]},
"mapped.example": {"MX": ["10 m.mx.example"]},
"m.mx.example": {"AAAA": ["::ffff:127.0.0.1"]},
"gw.example.net": {"A": ["127.0.0.1"]}
}`

func TestMX(t *testing.T) {
	zone, err := dns.ParseZone([]byte(mxZone))
	if err != nil {
		t.Fatal(err)
	}
	f := (&fake{}).start(t)
	_, port, _ := net.SplitHostPort(f.address)
	n, _ := strconv.Atoi(port)
	for _, c := range []struct {
		domain string
		want   string // what delivers it, or the reply
		down   bool
	}{
		{"good.example", "a.mx.example[127.0.0.1]", false},
		{"GOOD.example", "a.mx.example[127.0.0.1]", false},
		{"implicit.example", "implicit.example[127.0.0.1]", false},
		{"backup.example", "a.mx.example[127.0.0.1]", false},
		{"mapped.example", "m.mx.example[127.0.0.1]", false},
		{"[127.0.0.1]", "127.0.0.1[127.0.0.1]", false},
		{"[IPv6:::ffff:127.0.0.1]", "[127.0.0.1]", false},
		{"[x-tag:foo]", "550 5.1.2", false},
		{"null.example", "556 5.1.10", false},
		{"none.example", "550 5.1.2", false},
		{"gone.example", "550 5.1.2", false},
		{"broken.example", "451 4.4.3", true},
		{"noaddr.example", "550 5.4.4", false},
		{"halfdead.example", "451 4.4.3", true},
		{"loop.example", "554 5.4.6", false},
		{"gw.example.net", "554 5.4.6", false},
		{"", "550 5.1.2", false},
	} {
		client := newTestClient(t, Options{Resolver: zone, MXPort: n, LoopbackMX: true})
		m := newMail(sample)
		m.To = []mail.Recipient{{Path: mail.Path{Local: "postmaster", Domain: c.domain}}}
		o := client.Deliver(context.Background(), &Hop{Name: "internet", To: []string{"mx"}, TLS: TLSNone}, m)[0]
		got := o.Reply.String()
		if o.Delivered {
			got = o.Hop
		}
		if !strings.Contains(got, c.want) || o.Down != c.down {
			t.Errorf("%s: got %s, down %v, want %s (%v)", c.domain, got, o.Down, c.want, o.Err)
		}
	}
}

func TestMXNotToLoopback(t *testing.T) {
	zone, _ := dns.ParseZone([]byte(mxZone))
	dialer := &aDialer{}
	c := newTestClient(t, Options{Resolver: zone, Dialer: dialer})
	for _, domain := range []string{"good.example", "implicit.example", "[127.0.0.1]", "[IPv6:::1]", "[0.0.0.0]", "[IPv6:::ffff:127.0.0.1]"} {
		m := newMail(sample)
		m.To = []mail.Recipient{{Path: mail.Path{Local: "a", Domain: domain}}}
		o := c.Deliver(context.Background(), &Hop{Name: "internet", To: []string{"mx"}}, m)[0]
		if o.Reply.Status() != "5.4.4" || len(dialer.dials) != 0 {
			t.Errorf("%s: %+v, dials %v", domain, o, dialer.dials)
		}
	}
}

func TestMXNamesNoEnd(t *testing.T) {
	var addresses []string
	for i := range 200 {
		addresses = append(addresses, fmt.Sprintf(`"127.1.0.%d"`, i+1))
	}
	zone, err := dns.ParseZone([]byte(`{"many.example": {"A": [` + strings.Join(addresses, ",") + `]}}`))
	if err != nil {
		t.Fatal(err)
	}
	dialer := &aDialer{}
	_, port, _ := net.SplitHostPort(closedPort(t))
	n, _ := strconv.Atoi(port)
	c := newTestClient(t, Options{Resolver: zone, Dialer: dialer, LoopbackMX: true, MXPort: n})
	for range 2 {
		if o := c.Deliver(context.Background(), &Hop{Name: "internet", To: []string{"mx"}}, newMail(sample, "a@many.example"))[0]; !o.Down {
			t.Errorf("%+v", o)
		}
	}
	if len(dialer.dials) > 2*maxTries {
		t.Errorf("%d addresses were tried", len(dialer.dials))
	}
}

func TestMXOrder(t *testing.T) {
	seed := uint64(1)
	c := New(Options{Hostname: "gw.example.net", Rand: func() uint64 { seed = seed*6364136223846793005 + 1442695040888963407; return seed >> 33 }})
	d := &delivery{Client: c}
	firsts := map[string]int{}
	for range 300 {
		mxs := d.order([]dns.MX{{Preference: 20, Host: "z"}, {Preference: 10, Host: "a"}, {Preference: 10, Host: "b"}, {Preference: 10, Host: "c"}, {Preference: 30, Host: "gw.example.net."}, {Preference: 30, Host: "equal"}, {Preference: 40, Host: "worse"}})
		if len(mxs) != 4 || mxs[3].Host != "z" {
			t.Fatalf("%v", mxs)
		}
		firsts[mxs[0].Host]++
	}
	for _, host := range []string{"a", "b", "c"} {
		if firsts[host] < 60 {
			t.Errorf("equal hosts are not shuffled: %v", firsts)
		}
	}
}

func TestMXByDomain(t *testing.T) {
	zone, _ := dns.ParseZone([]byte(mxZone))
	f := (&fake{}).start(t)
	_, port, _ := net.SplitHostPort(f.address)
	n, _ := strconv.Atoi(port)
	c := newTestClient(t, Options{Resolver: zone, MXPort: n, LoopbackMX: true})
	out := c.Deliver(context.Background(), &Hop{Name: "internet", To: []string{"mx"}, TLS: TLSNone},
		newMail(sample, "a@good.example", "b@null.example", "c@good.example", "d@implicit.example", "e@broken.example"))
	for i, want := range []int{250, 556, 250, 250, 451} {
		if out[i].Reply.Code != want {
			t.Errorf("recipient %d: %+v", i, out[i])
		}
	}
	if mails, _, _ := f.got(); len(mails) != 2 {
		t.Errorf("%d mails", len(mails))
	}
}

func TestHopByName(t *testing.T) {
	f := (&fake{}).start(t)
	_, port, _ := net.SplitHostPort(f.address)
	zone, _ := dns.ParseZone([]byte(`{"two.example": {"A": ["127.0.0.9", "127.0.0.1"]}, "bad.example": {"!": "timeout"}}`))
	c := newTestClient(t, Options{Resolver: zone})
	for host, want := range map[string]string{"two.example": "250", "localhost": "250", "bad.example": "451", "missing.example": "451"} {
		o := c.Deliver(context.Background(), &Hop{Name: "h", To: []string{host + ":" + port}, TLS: TLSNone}, newMail(sample, "a@example.com"))[0]
		if got := strconv.Itoa(o.Reply.Code); got != want || o.Down != (want == "451") {
			t.Errorf("%s: %+v", host, o)
		}
	}
	// Without a resolver the dialer looks names up.
	c = newTestClient(t, Options{})
	if o := c.Deliver(context.Background(), &Hop{Name: "h", To: []string{"localhost:" + port}, TLS: TLSNone}, newMail(sample, "a@example.com"))[0]; !o.Delivered {
		t.Errorf("%+v", o)
	}
	// A hop that leads nowhere is no delivery.
	if o := c.Deliver(context.Background(), &Hop{Name: "h"}, newMail(sample, "a@example.com"))[0]; o.Delivered || !o.Reply.Temporary() {
		t.Errorf("%+v", o)
	}
}

func TestConnectionLimit(t *testing.T) {
	f := (&fake{say: map[string]string{".": "late: 250 kept"}}).start(t)
	c := newTestClient(t, Options{})
	hop := hopTo(f)
	hop.Connections, hop.Timeout = 3, time.Minute
	var group sync.WaitGroup
	for range 15 {
		group.Go(func() {
			if o := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]; !o.Delivered {
				t.Errorf("%+v", o)
			}
		})
	}
	group.Wait()
	if f.most > 3 {
		t.Errorf("%d connections at once", f.most)
	}
	if st := c.Stats(); st.Busy != 0 || st.Idle == 0 || st.Idle > 3 {
		t.Errorf("%+v", st)
	}
	// One who cannot wait gets a temporary failure and leaves nothing behind.
	f.set(".", "hang")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	for range 6 {
		group.Go(func() {
			if o := c.Deliver(ctx, hop, newMail(sample, "a@example.com"))[0]; !o.Reply.Temporary() {
				t.Errorf("%+v", o)
			}
		})
	}
	group.Wait()
	if st := c.Stats(); st.Busy != 0 {
		t.Errorf("%+v", st)
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	f := (&fake{}).start(t)
	c := newTestClient(t, Options{IdleTimeout: 30 * time.Millisecond})
	c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))
	waitFor(t, func() bool { return c.Stats().Idle == 0 })
	waitFor(t, func() bool { _, lines, _ := f.got(); return lines[len(lines)-1] == "QUIT" })
	c.pools.mu.Lock()
	defer c.pools.mu.Unlock()
	if len(c.pools.m) != 0 {
		t.Error("an empty pool is kept")
	}
}

func TestClose(t *testing.T) {
	f := (&fake{}).start(t)
	c := newTestClient(t, Options{})
	c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))
	f.set("MAIL", "hang")
	done := make(chan Outcome, 1)
	go func() { done <- c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))[0] }()
	waitFor(t, func() bool { return c.Stats().Busy == 1 })
	c.Close()
	if o := <-done; o.Delivered || !o.Reply.Temporary() {
		t.Errorf("%+v", o)
	}
	waitFor(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.open == 0 })
}

func TestBackOffIsBounded(t *testing.T) {
	c := newTestClient(t, Options{})
	start := time.Unix(1_700_000_000, 0)
	for i := range maxTroubles + 500 {
		now := start.Add(time.Duration(i) * time.Second)
		c.paths.down(pathKey{address: strconv.Itoa(i)}, now, now, errResting)
	}
	if n := len(c.Stats().Destinations); n > maxTroubles {
		t.Errorf("%d addresses are kept", n)
	}
}

// TestWaitingIsHandedOn checks that one who leaves the line just when it is woken
// wakes the next.
func TestWaitingIsHandedOn(t *testing.T) {
	c := newTestClient(t, Options{})
	ps, key := &c.pools, poolKey{address: "x"}
	if cn, err := ps.get(context.Background(), key, 1, false); cn != nil || err != nil {
		t.Fatal(cn, err)
	}
	_, _, first := ps.tryGet(key, 1, false)
	_, _, second := ps.tryGet(key, 1, false)
	ps.drop(key, nil)
	<-first
	ps.forgo(key, first)
	select {
	case <-second:
	case <-time.After(5 * time.Second):
		t.Fatal("the next in line still waits")
	}
	done := make(chan error, 1)
	_, _ = ps.get(context.Background(), key, 1, false)
	go func() {
		_, err := ps.get(context.Background(), key, 1, false)
		done <- err
	}()
	waitFor(t, func() bool { ps.mu.Lock(); defer ps.mu.Unlock(); return len(ps.m[key].waiting) > 0 })
	c.Close()
	if err := <-done; !errors.Is(err, errClosed) {
		t.Error(err)
	}
}

func TestReapKeepsWhatIsInUse(t *testing.T) {
	f := (&fake{}).start(t)
	c := newTestClient(t, Options{IdleTimeout: time.Minute})
	c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))
	c.pools.reap()
	if st := c.Stats(); st.Idle != 1 {
		t.Errorf("%+v", st)
	}
	idleFor(c, 2*time.Minute)
	c.pools.reap()
	if st := c.Stats(); st.Idle != 0 {
		t.Errorf("%+v", st)
	}
}
