package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/mail"
)

func TestConnectionLimits(t *testing.T) {
	g := start(t, Config{Limits: Limits{Connections: 2}}, &backend{})
	a, b := g.hello(t), g.hello(t)
	c := g.dial(t)
	c.expect("421 4.3.2")
	c.end()
	a.cmd("221", "QUIT")
	a.closed()
	a.Close()
	wait(t, "room", func() bool { return g.Sessions() == 1 })
	g.hello(t)
	b.cmd("250", "NOOP")
}

func TestAddressLimit(t *testing.T) {
	g := start(t, Config{Limits: Limits{PerAddress: 1}}, &backend{})
	a := g.hello(t)
	g.dial(t).expect("421 4.7.0")
	a.cmd("221", "QUIT")
	a.Close()
	wait(t, "room", func() bool { return g.Sessions() == 0 })
	g.hello(t)
	// A trusted relay stands for many clients.
	c := Config{Limits: Limits{PerAddress: 1, Rate: Rate{1, time.Hour}}, TrustXForward: loopback}
	h := start(t, c, &backend{})
	r := h.hello(t)
	h.hello(t)
	for range 2 {
		r.deliver("x")
	}
	r.cmd("250", "XFORWARD ADDR=192.0.2.1")
	r.deliver("x")
	r.cmd("250", "XFORWARD ADDR=192.0.2.1")
	r.cmd("450 4.7.1", "MAIL FROM:<a@b.test>")
	r.cmd("250", "XFORWARD ADDR=192.0.2.2")
	r.deliver("x")
}

func TestMessageRate(t *testing.T) {
	now := atomic.Int64{}
	now.Store(1e9)
	g := start(t, Config{Limits: Limits{Rate: Rate{2, time.Minute}}, Now: func() time.Time { return time.Unix(now.Load(), 0) }}, &backend{})
	c := g.hello(t)
	c.deliver("x")
	c.deliver("x")
	c.cmd("450 4.7.1", "MAIL FROM:<a@b.test>")
	g.hello(t).cmd("450 4.7.1", "MAIL FROM:<a@b.test>")
	now.Add(60)
	c.deliver("x")
}

func TestAllowRefusesOthers(t *testing.T) {
	g := start(t, Config{Role: mail.RoleOutbound, Allow: nil}, &backend{})
	// Nobody is allowed: everybody is inbound.
	c := g.hello(t)
	c.cmd("250", "MAIL FROM:<a@b.test>")
	c.cmd("550", "RCPT TO:<x@elsewhere.test>")
	conf := setUp(t, Config{Role: mail.RoleOutbound})
	conf.Allow = append(conf.Allow, mustPrefix("192.0.2.0/24"))
	g.Reconfigure(conf)
	d := g.dial(t)
	d.expect("554 5.7.1")
	d.closed()
	// The session that had begun goes on as it began.
	c.cmd("250", "RCPT TO:<v@victim.test>")
}

// A client that does not read its replies is cut off, and costs no memory
// meanwhile.
func TestSlowReader(t *testing.T) {
	g := start(t, Config{Limits: Limits{Write: 200 * time.Millisecond}}, &backend{})
	c := g.hello(t)
	noops := []byte(strings.Repeat("NOOP\r\n", 10000))
	_ = c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	var err error
	for range 2000 {
		if _, err = c.Write(noops); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("120 MB of commands were taken without a reply being read")
	}
	wait(t, "end of the session", func() bool { return g.Sessions() == 0 })
}

func TestSlowContent(t *testing.T) {
	g := start(t, Config{Limits: Limits{Data: 300 * time.Millisecond}}, &backend{})
	c := g.hello(t)
	c.begin()
	c.cmd("354", "DATA")
	go func() {
		for range 100 {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	c.expect("421 4.4.2")
}

func TestHandshakeDeadline(t *testing.T) {
	g := start(t, Config{TLS: "implicit", Limits: Limits{Handshake: 100 * time.Millisecond}}, &backend{})
	g.dial(t).end()
	h := start(t, Config{TrustProxy: loopback, Limits: Limits{Handshake: 100 * time.Millisecond}}, &backend{})
	h.dial(t).end()
}

// TestShutdown: an idle session and one amid a transaction get 421, one that
// receives content gets its reply first.
func TestShutdown(t *testing.T) {
	b := &backend{}
	g := start(t, Config{TLS: "optional"}, b)
	idle, amid, data, chunks, secure := g.hello(t), g.hello(t), g.hello(t), g.hello(t), g.hello(t)
	amid.begin()
	data.begin()
	data.cmd("354", "DATA")
	data.send("first\r\n")
	chunks.begin()
	chunks.send("BDAT 4\r\nhalf")
	chunks.expect("250")
	secure.startTLS()
	secure.cmd("250", "EHLO c")
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- g.Shutdown(ctx)
	}()
	for _, c := range []*client{idle, amid, secure} {
		c.expect("421 4.3.2")
		c.closed()
		c.Close()
	}
	if _, err := net.DialTimeout("tcp", g.addr, time.Second); err == nil {
		t.Error("still accepting")
	}
	data.send("second\r\n.\r\n")
	data.expect("250")
	data.expect("421 4.3.2")
	data.Close()
	chunks.send("BDAT 4 LAST\r\nrest")
	chunks.expect("250")
	chunks.expect("421")
	chunks.Close()
	if err := <-done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if n := len(b.messages()); n != 2 {
		t.Errorf("%d messages", n)
	}
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	if err := g.Serve(l); !errors.Is(err, ErrClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func TestShutdownCutsOff(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(setUp(t, Config{}), &backend{})
	go s.Serve(l)
	g := &gateway{Server: s, addr: l.Addr().String()}
	c := g.hello(t)
	c.begin()
	c.cmd("354", "DATA")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	if s.Sessions() != 0 {
		t.Error("sessions remain")
	}
}

// failing is a listener whose Accept fails in turn.
type failing struct {
	net.Listener
	errs  []error
	calls int
}

func (f *failing) Accept() (net.Conn, error) {
	f.calls++
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		if err != nil {
			return nil, err
		}
	}
	return f.Listener.Accept()
}

func TestAcceptErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &failing{Listener: l, errs: []error{syscall.ECONNABORTED, syscall.EMFILE, nil, syscall.ENFILE, syscall.EMFILE}}
	s := NewServer(setUp(t, Config{}), &backend{})
	served := make(chan error, 1)
	go func() { served <- s.Serve(f) }()
	g := &gateway{Server: s, addr: l.Addr().String()}
	for range 2 {
		g.hello(t).Close()
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if f.calls > 8 {
		t.Errorf("%d calls of Accept", f.calls)
	}
	broken := NewServer(setUp(t, Config{}), &backend{})
	l.Close()
	if err := broken.Serve(l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed socket: %v", err)
	}
}

// TestShedding runs out of file descriptors for real: clients are told so, the
// loop does not spin, and all is well afterwards.
func TestShedding(t *testing.T) {
	g := start(t, Config{Limits: Limits{PerAddress: 10000}}, &backend{})
	var clients []net.Conn
	for range 20 { // they need descriptors of this process too
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	wait(t, "sessions", func() bool { return g.Sessions() == 20 })
	a := acceptor{Listener: &failing{errs: []error{syscall.EMFILE, syscall.EMFILE, syscall.EMFILE}}}
	defer a.release()
	if _, _, err := a.accept(); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("accept: %v", err)
	}
	if d := a.wait(); d < 5*time.Millisecond {
		t.Errorf("wait %v", d)
	}
	for range 20 {
		a.wait()
	}
	if d := a.wait(); d != time.Second {
		t.Errorf("wait %v after many errors", d)
	}
	for _, c := range clients {
		c.Close()
	}
	wait(t, "end of sessions", func() bool { return g.Sessions() == 0 })
}

// A connection beyond what the descriptors allow is told to come again.
func TestDescriptorLimit(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(setUp(t, Config{}), &backend{})
	s.files = 0
	go s.Serve(l)
	(&gateway{Server: s, addr: l.Addr().String()}).dial(t).expect("421 4.3.2")
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestIdleMemory counts what an idle session costs, its client not included.
func TestIdleMemory(t *testing.T) {
	const n = 1000
	g := start(t, Config{Limits: Limits{Connections: n + 10, PerAddress: n + 10}}, &backend{})
	g.backend.mu.Lock() // room for what the test itself keeps
	g.connects = make([]*mail.Session, 0, n+10)
	g.backend.mu.Unlock()
	fds := make([]int, 0, n)
	defer func() {
		for _, fd := range fds {
			syscall.Close(fd)
		}
	}()
	addr := g.addr
	before := memory()
	for range n {
		fd, err := rawClient(addr)
		if err != nil {
			t.Skipf("after %d connections: %v", len(fds), err)
		}
		fds = append(fds, fd)
	}
	wait(t, "sessions", func() bool { return g.Sessions() == n })
	each := int64(memory()-before) / n
	t.Logf("%d octets for each idle session", each)
	if each > 24<<10 {
		t.Errorf("an idle session costs %d octets, at most %d", each, 24<<10)
	}
}

// memory returns what the process has of heap and stacks in use.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// rawClient connects without the net package, says EHLO, reads the replies and
// stays silent.
func rawClient(addr string) (int, error) {
	t, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return 0, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	sa := &syscall.SockaddrInet4{Port: t.Port, Addr: [4]byte(t.IP.To4())}
	buf := make([]byte, 1024)
	if err = syscall.Connect(fd, sa); err == nil {
		if _, err = syscall.Read(fd, buf); err == nil {
			if _, err = syscall.Write(fd, []byte("EHLO idle.test\r\n")); err == nil {
				_, err = syscall.Read(fd, buf)
			}
		}
	}
	if err != nil {
		syscall.Close(fd)
	}
	return fd, err
}

// TestReconfigure changes the settings while sessions are busy: none is lost.
func TestReconfigure(t *testing.T) {
	g := start(t, Config{}, &backend{})
	conf := setUp(t, Config{})
	var wg sync.WaitGroup
	var sent atomic.Int64
	stop := make(chan struct{})
	for range 20 {
		c := g.hello(t)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if r := c.deliver("Subject: x\r\n\r\nx"); !strings.HasPrefix(r, "250") {
					t.Errorf("reply %q", r)
					return
				}
				sent.Add(1)
			}
		})
	}
	for i := range 200 {
		conf.Limits.Message = int64(1000 + i)
		g.Reconfigure(conf)
		time.Sleep(time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if n := int64(len(g.messages())); n != sent.Load() || n == 0 {
		t.Errorf("%d messages, %d were accepted", n, sent.Load())
	}
	c := g.dial(t)
	c.expect("220")
	if got := c.cmd("250", "EHLO c"); !strings.Contains(got, "SIZE 1199") {
		t.Errorf("new session: %q", got)
	}
}

func TestHooks(t *testing.T) {
	var sessions, replies, messages, octets, auth, handshakes atomic.Int64
	hooks := Hooks{
		Session:     func(d int) { sessions.Add(int64(d)) },
		Reply:       func(int) { replies.Add(1) },
		Message:     func(n int64, ok bool) { messages.Add(1); octets.Add(n) },
		AuthFailure: func() { auth.Add(1) },
		TLS:         func(v string) { handshakes.Add(1) },
	}
	g := start(t, Config{TLS: "optional", Auth: true, Hooks: hooks}, &backend{})
	c := g.hello(t)
	c.startTLS()
	c.cmd("250", "EHLO c")
	c.cmd("535", "AUTH PLAIN AGFsaWNlAHdyb25n")
	c.deliver("12345678")
	if sessions.Load() != 1 || messages.Load() != 1 || octets.Load() != 10 || auth.Load() != 1 || handshakes.Load() != 1 {
		t.Error(sessions.Load(), messages.Load(), octets.Load(), auth.Load(), handshakes.Load())
	}
	c.cmd("221", "QUIT")
	c.Close()
	wait(t, "end", func() bool { return sessions.Load() == 0 })
	if replies.Load() != 10 {
		t.Errorf("%d replies", replies.Load())
	}
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key, err := SelfSigned(filepath.Join(dir, "tls"), "gw.test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(key); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", i.Mode(), err)
	}
	// The second start finds them.
	before, _ := os.ReadFile(cert)
	if _, _, err := SelfSigned(filepath.Join(dir, "tls"), "gw.test", time.Now()); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(cert); string(after) != string(before) {
		t.Error("made twice")
	}
	c, err := LoadCertificates(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := c.Certificate()
	otherCert, otherKey, _ := SelfSigned(filepath.Join(dir, "other"), "new.test", time.Now())
	replace := func(to, from string) {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		if err == nil {
			err = os.Chtimes(to, time.Time{}, time.Now().Add(time.Hour))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	replace(cert, otherCert) // half of the change: the pair does not match
	c.next = time.Time{}
	if c.Certificate() != first {
		t.Error("a pair that does not match was taken")
	}
	replace(key, otherKey)
	c.next = time.Time{}
	if got := c.Certificate(); got == first || got.Leaf.Subject.CommonName != "new.test" {
		t.Error("the change was not seen")
	}
	if _, err := LoadCertificates(cert, filepath.Join(dir, "none"), nil); err == nil {
		t.Error("loaded without a key")
	}
	if err := os.WriteFile(cert, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := SelfSigned(filepath.Join(dir, "tls"), "gw.test", time.Now()); err == nil {
		t.Error("a damaged certificate was overwritten")
	}
	for _, bad := range [][2]string{{"1.1", ""}, {"", filepath.Join(dir, "none")}, {"", key}} {
		if _, err := c.Config(bad[0], bad[1]); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	if conf, err := c.Config("1.3", ""); err != nil || conf.MinVersion != tls.VersionTLS13 {
		t.Errorf("1.3: %v", err)
	}
}

func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key, err := SelfSigned(dir, "gw.test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := LoadCertificates(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	ca, pair := clientAuthority(t, dir)
	conf, err := c.Config("1.2", ca)
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, Config{TLS: "implicit", TLSConfig: conf}, &backend{})
	cl := g.dial(t)
	tc := tls.Client(cl.Conn, &tls.Config{InsecureSkipVerify: true, ServerName: "gw.test", Certificates: []tls.Certificate{pair}})
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	cl.Conn = tc
	cl.r.Reset(tc)
	cl.expect("220")
	cl.cmd("250", "EHLO c")
	cl.deliver("x")
	if got := g.messages()[0].tx.TLS; got.ClientCert != "CN=printer" || got.ServerName != "gw.test" || !strings.HasPrefix(got.Version, "TLS1.3") || got.Cipher == "" {
		t.Errorf("%+v", got)
	}
	// One of another authority is refused.
	_, stranger := clientAuthority(t, t.TempDir())
	d := g.dial(t)
	ts := tls.Client(d.Conn, &tls.Config{InsecureSkipVerify: true, ServerName: "gw.test", Certificates: []tls.Certificate{stranger}})
	if err := ts.Handshake(); err == nil {
		if _, err = io.ReadAll(ts); err == nil {
			t.Error("a stranger's certificate was taken")
		}
	}
}

// TestNoCertificate: a listener that must have TLS and has none lets nobody in.
func TestNoCertificate(t *testing.T) {
	conf := setUp(t, Config{TLS: "required"})
	conf.TLSConfig = nil
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(conf, &backend{})
	go s.Serve(l)
	g := &gateway{Server: s, addr: l.Addr().String()}
	c := g.hello(t)
	c.cmd("530", "MAIL FROM:<a@b.test>")
	c.cmd("503", "STARTTLS")
	conf.TLS = "implicit"
	s.Reconfigure(conf)
	d := g.dial(t)
	d.send("EHLO c\r\n")
	if rest, _ := io.ReadAll(d.r); strings.Contains(string(rest), "220") {
		t.Errorf("in clear: %q", rest)
	}
	d.Close()
	c.Close()
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if c := (Config{TLS: "optional"}).withDefaults(); c.TLS != "off" {
		t.Errorf("optional without certificates is %q", c.TLS)
	}
}

// TestNoDelay: a reply is not held back for the acknowledgement of the last.
func TestNoDelay(t *testing.T) {
	g := start(t, Config{}, &backend{})
	g.hello(t)
	g.Server.mu.Lock()
	defer g.Server.mu.Unlock()
	for ss := range g.Server.sessions {
		v := 0
		err := ss.wire.raw.Control(func(fd uintptr) { v, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY) })
		if err != nil || v == 0 {
			t.Errorf("TCP_NODELAY is %d, %v", v, err)
		}
	}
}
