package dns_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/dns"
	"postern/dns/dnstest"
)

// client returns a Client of the servers, with an empty hosts file.
func client(t testing.TB, o dns.ClientOptions) *dns.Client {
	t.Helper()
	if o.Hosts == "" {
		o.Hosts = filepath.Join(t.TempDir(), "hosts")
	}
	return dns.NewClient(o)
}

func TestClient(t *testing.T) {
	s := dnstest.Start(t, dns.SampleZone(t))
	c := client(t, dns.ClientOptions{Servers: []string{s.Addr}})
	for round := range 2 { // the second one from the cache
		for _, q := range dns.LookUps {
			if got := dns.Say(c, q.Kind, q.Name); got != q.Want {
				t.Errorf("round %d: %s %s: got %s, want %s", round, q.Kind, q.Name, got, q.Want)
			}
		}
	}
	if st := c.Stats(); st.Hits == 0 || st.Queries == 0 || st.Cached == 0 {
		t.Errorf("stats: %+v", st)
	}
}

func TestClientCache(t *testing.T) {
	s := dnstest.Start(t, dns.SampleZone(t))
	var offset atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	c := client(t, dns.ClientOptions{Servers: []string{s.Addr}, Now: now})
	ctx := context.Background()
	steps := []struct {
		name  string
		after time.Duration
		asked int
	}{
		{"example.org", 0, 1},
		{"example.org", 50 * time.Second, 1},
		{"example.org", 61 * time.Second, 2},
		{"sf.example", 61 * time.Second, 1},
		{"sf.example", 64 * time.Second, 1},
		{"sf.example", 70 * time.Second, 2},
		{"nothing.example", 70 * time.Second, 1},
		{"nothing.example", 70 * time.Second, 2}, // no SOA record: not kept
		{"soa.example", 70 * time.Second, 1},
		{"soa.example", 95 * time.Second, 1}, // MINIMUM is 30 s
		{"soa.example", 101 * time.Second, 2},
	}
	for i, step := range steps {
		offset.Store(int64(step.after))
		a, err := c.TXT(ctx, step.name)
		if got := s.Asked(step.name); got != step.asked {
			t.Errorf("step %d: %s was asked for %d times, want %d (%v)", i, step.name, got, step.asked, err)
		}
		if i == 1 && (a.TTL > 11*time.Second || a.TTL <= 0) {
			t.Errorf("a cached answer's TTL does not run down: %v", a.TTL)
		}
	}
	c.Flush()
	_, _ = c.TXT(ctx, "soa.example")
	if got := s.Asked("soa.example"); got != 3 {
		t.Errorf("after Flush: asked %d times", got)
	}
}

func TestClientAsksOnce(t *testing.T) {
	s := dnstest.Start(t, dns.SampleZone(t))
	c := client(t, dns.ClientOptions{Servers: []string{s.Addr}})
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if got := dns.Say(c, "A", "slow.example"); got != "[192.0.2.9]" {
				t.Errorf("got %s", got)
			}
		})
	}
	group.Wait()
	if n := s.Asked("slow.example"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestClientOneWaiterLeaves(t *testing.T) {
	s := dnstest.Start(t, dns.SampleZone(t))
	c := client(t, dns.ClientOptions{Servers: []string{s.Addr}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := c.A(ctx, "slow.example")
		done <- err
	}()
	time.Sleep(10 * time.Millisecond)
	cancel()
	if err := <-done; !errors.Is(err, dns.ErrTemporary) || !errors.Is(err, context.Canceled) {
		t.Errorf("who left: %v", err)
	}
	if got := dns.Say(c, "A", "slow.example"); got != "[192.0.2.9]" {
		t.Errorf("who stayed: %s", got)
	}
}

func TestClientTimeLimit(t *testing.T) {
	s := dnstest.Start(t, dns.SampleZone(t))
	c := client(t, dns.ClientOptions{Servers: []string{s.Addr}, Timeout: time.Second})
	start := time.Now()
	if got := dns.Say(c, "A", "to.example"); got != "!" {
		t.Errorf("got %s", got)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
	if n := s.Asked("to.example"); n < 2 {
		t.Errorf("a lost packet is not sent again: asked %d times", n)
	}
}

func TestClientNextServer(t *testing.T) {
	dead, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	s := dnstest.Start(t, dns.SampleZone(t))
	c := client(t, dns.ClientOptions{Servers: []string{dead.LocalAddr().String(), s.Addr}, Timeout: 3 * time.Second})
	if got := dns.Say(c, "A", "example.org"); got != "[192.0.2.1]" {
		t.Fatalf("got %s", got)
	}
	start := time.Now()
	if got := dns.Say(c, "A", "four.example.org"); got != "[192.0.2.4 192.0.2.5]" {
		t.Errorf("got %s", got)
	}
	if d := time.Since(start); d > 700*time.Millisecond {
		t.Errorf("the dead server is asked first again: %v", d)
	}
}

// serve answers every question with what answer makes of it.
func serve(t *testing.T, answer func(q *miekg.Msg, tcp bool) *miekg.Msg) string {
	t.Helper()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", p.LocalAddr().String())
	if err != nil {
		t.Skip(err)
	}
	h := miekg.HandlerFunc(func(w miekg.ResponseWriter, q *miekg.Msg) {
		_, tcp := w.RemoteAddr().(*net.TCPAddr)
		if m := answer(q, tcp); m != nil {
			_ = w.WriteMsg(m)
		}
	})
	for _, srv := range []*miekg.Server{{PacketConn: p, Handler: h}, {Listener: l, Handler: h}} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go srv.ActivateAndServe()
		<-started
		t.Cleanup(func() { srv.Shutdown() })
	}
	return p.LocalAddr().String()
}

func rr(t *testing.T, text string) miekg.RR {
	r, err := miekg.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestClientHostileAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(q, m *miekg.Msg, tcp bool) *miekg.Msg
		want   string
	}{
		"record of another name": {func(q, m *miekg.Msg, _ bool) *miekg.Msg {
			m.Answer = []miekg.RR{rr(t, "bank.example. 60 IN A 192.0.2.66")}
			return m
		}, "?"},
		"record of another type": {func(q, m *miekg.Msg, _ bool) *miekg.Msg {
			m.Answer = []miekg.RR{rr(t, `host.example. 60 IN TXT "192.0.2.66"`)}
			return m
		}, "?"},
		"answer to another question": {func(q, m *miekg.Msg, _ bool) *miekg.Msg {
			m.Question[0].Name = "bank.example."
			m.Answer = []miekg.RR{rr(t, "host.example. 60 IN A 192.0.2.66")}
			return m
		}, "!"},
		"not an answer": {func(q, m *miekg.Msg, _ bool) *miekg.Msg { m.Response = false; return m }, "!"},
		"refused":       {func(q, m *miekg.Msg, _ bool) *miekg.Msg { m.Rcode = miekg.RcodeRefused; return m }, "!"},
		"cut short, twice": {func(q, m *miekg.Msg, _ bool) *miekg.Msg {
			m.Truncated = true
			m.Answer = []miekg.RR{rr(t, "host.example. 60 IN A 192.0.2.66")}
			return m
		}, "!"},
		"cut short over UDP": {func(q, m *miekg.Msg, tcp bool) *miekg.Msg {
			m.Truncated = !tcp
			if tcp {
				m.Answer = []miekg.RR{rr(t, "HOST.example. 60 IN A 192.0.2.1")}
			}
			return m
		}, "[192.0.2.1]"},
		"no EDNS": {func(q, m *miekg.Msg, _ bool) *miekg.Msg {
			if q.IsEdns0() != nil {
				m.Rcode = miekg.RcodeFormatError
			} else {
				m.Answer = []miekg.RR{rr(t, "host.example. 60 IN A 192.0.2.1")}
			}
			return m
		}, "[192.0.2.1]"},
		"chain": {func(q, m *miekg.Msg, _ bool) *miekg.Msg {
			m.Answer = []miekg.RR{rr(t, "b.example. 60 IN A 192.0.2.1"), rr(t, "a.example. 60 IN CNAME B.example."), rr(t, "host.example. 60 IN CNAME a.example.")}
			return m
		}, "[192.0.2.1]"},
		"circle": {func(q, m *miekg.Msg, _ bool) *miekg.Msg {
			m.Answer = []miekg.RR{rr(t, "host.example. 60 IN CNAME a.example."), rr(t, "a.example. 60 IN CNAME host.example.")}
			return m
		}, "!"},
		"AD": {func(q, m *miekg.Msg, _ bool) *miekg.Msg {
			m.AuthenticatedData = true
			m.Answer = []miekg.RR{rr(t, "host.example. 60 IN A 192.0.2.1")}
			return m
		}, "[192.0.2.1] AD"},
	} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, func(q *miekg.Msg, tcp bool) *miekg.Msg {
				m := new(miekg.Msg)
				m.SetReply(q)
				return c.answer(q, m, tcp)
			})
			if got := dns.Say(client(t, dns.ClientOptions{Servers: []string{address}, Timeout: time.Second}), "A", "host.example"); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestClientNamesThatCannotBeAsked(t *testing.T) {
	s := dnstest.Start(t, dns.SampleZone(t))
	c := client(t, dns.ClientOptions{Servers: []string{s.Addr}})
	for _, name := range []string{".", "a..b", ".a", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 130), "sp ace.example", `back\slash.example`, "nul\x00.example", "é.example", `"q;(`} {
		if got := dns.Say(c, "TXT", name); got != "?" {
			t.Errorf("%q: got %s", name, got)
		}
	}
	if _, err := c.PTR(context.Background(), netip.Addr{}); !errors.Is(err, dns.ErrNotFound) {
		t.Errorf("PTR of no address: %v", err)
	}
}

func TestClientFiles(t *testing.T) {
	s := dnstest.Start(t, dns.SampleZone(t))
	dir := t.TempDir()
	hosts, resolv := filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var offset atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	write(hosts, "# comment\n192.0.2.50 Next-Hop mail # more\n2001:db8::50 next-hop\nnonsense\n")
	host, _, _ := net.SplitHostPort(s.Addr)
	write(resolv, "nameserver "+host+"\n")
	c := client(t, dns.ClientOptions{Hosts: hosts, ResolvConf: resolv, Now: now, Timeout: 300 * time.Millisecond})
	if got := dns.Say(c, "Addrs", "next-hop"); got != "[192.0.2.50 2001:db8::50]" {
		t.Errorf("hosts: %s", got)
	}
	write(hosts, "192.0.2.51 next-hop other\n")
	offset.Store(int64(5 * time.Second))
	if got := dns.Say(c, "Addrs", "next-hop"); got != "[192.0.2.51]" {
		t.Errorf("changed hosts: %s", got)
	}
	if err := os.Remove(hosts); err != nil {
		t.Fatal(err)
	}
	offset.Store(int64(10 * time.Second))
	if got := dns.Say(c, "Addrs", "localhost"); got != "[127.0.0.1 ::1]" {
		t.Errorf("localhost without hosts: %s", got)
	}
}

func TestResolvConf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	var offset time.Duration
	list := dns.ServerListOf(file, func() time.Time { return time.Unix(1000, 0).Add(offset) })
	for i, step := range []struct{ text, want string }{
		{"", "[{127.0.0.1:53 true}]"},
		{"nameserver 192.0.2.1\nnameserver 2001:db8::1\n", "[{192.0.2.1:53 false} {[2001:db8::1]:53 false}]"},
		{"options edns0 trust-ad\nnameserver 192.0.2.1\n", "[{192.0.2.1:53 true}]"},
		{"nameserver 127.0.0.53\n", "[{127.0.0.53:53 true}]"},
	} {
		if err := os.WriteFile(file, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, time.Time{}, time.Unix(int64(i), 0)); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(list()); got != step.want {
			t.Errorf("step %d: got %s, want %s", i, got, step.want)
		}
		offset += 3 * time.Second
	}
}

// TestCacheHitCost holds an answer from the cache to a microsecond: the best of
// many tries, so that a busy machine fails nothing and a slow cache always.
func TestCacheHitCost(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("times mean nothing here")
	}
	s := dnstest.Start(t, dns.SampleZone(t))
	c := client(t, dns.ClientOptions{Servers: []string{s.Addr}})
	const times = 1000
	best := time.Hour
	for until := time.Now().Add(5 * time.Second); best > times*time.Microsecond && time.Now().Before(until); {
		start := time.Now()
		for range times {
			if _, err := c.MX(t.Context(), "example.org"); err != nil {
				t.Fatal(err)
			}
		}
		best = min(best, time.Since(start))
	}
	t.Logf("%v", best/times)
	if best > times*time.Microsecond {
		t.Errorf("an answer from the cache takes %v, more than 1 µs", best/times)
	}
	if n := c.Stats().Queries; n != 1 {
		t.Errorf("%d questions went out", n)
	}
}

func BenchmarkCacheHit(b *testing.B) {
	s := dnstest.Start(b, dns.SampleZone(b))
	c := client(b, dns.ClientOptions{Servers: []string{s.Addr}})
	ctx := context.Background()
	if _, err := c.MX(ctx, "example.org"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.MX(ctx, "example.org"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkQuestion(b *testing.B) {
	s := dnstest.Start(b, dns.SampleZone(b))
	c := client(b, dns.ClientOptions{Servers: []string{s.Addr}})
	for b.Loop() {
		c.Flush()
		if _, err := c.MX(context.Background(), "example.org"); err != nil {
			b.Fatal(err)
		}
	}
}

// TestTold: what others are told of a failure does not name our servers.
func TestTold(t *testing.T) {
	c := dns.NewClient(dns.ClientOptions{Servers: []string{"127.0.0.1:1"}, Timeout: 100 * time.Millisecond})
	_, err := c.TXT(context.Background(), "u.example")
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Fatalf("%v: the log must name the server", err)
	}
	if got := dns.Told("spf=temperror; " + err.Error()); got != "spf=temperror; DNS look-up failed for now: TXT u.example" {
		t.Errorf("%q", got)
	}
	for _, other := range []string{"", "no such DNS record", "the record names: server x", dns.ErrTemporary.Error()} {
		if got := dns.Told(other); got != other {
			t.Errorf("%q became %q", other, got)
		}
	}
}
