package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/mail"
	"postern/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is a Backend that accepts everything for victim.test, or from an
// outbound client, and remembers it.
type backend struct {
	mu       sync.Mutex
	got      []message
	aborted  int
	connects []*mail.Session
	auths    int

	mailReply, dataReply mail.Reply
	dataReplies          []mail.Reply
	onMail               func(*mail.Transaction)
	onData               func(*mail.Transaction)
	onAuth               func(password string) // called without the lock
	authErr              error
}

type message struct {
	tx   *mail.Transaction
	text string
}

func (b *backend) Connect(_ context.Context, s *mail.Session) mail.Reply {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.connects = append(b.connects, s)
	return mail.Reply{}
}

func (b *backend) Auth(_ context.Context, _ *mail.Session, user, password string) error {
	if b.onAuth != nil {
		b.onAuth(password)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.auths++
	if b.authErr != nil {
		return b.authErr
	}
	if user == "alice" && password == "secret" {
		return nil
	}
	return ErrAuth
}

func (b *backend) Mail(_ context.Context, tx *mail.Transaction) mail.Reply {
	if b.onMail != nil {
		b.onMail(tx)
	}
	if b.mailReply.Code != 0 {
		return b.mailReply
	}
	return mail.ReplyOK
}

func (b *backend) Rcpt(_ context.Context, tx *mail.Transaction, to mail.Recipient) mail.Reply {
	if to.Domain == "victim.test" || to.Domain == "" || tx.Trusted() {
		return mail.ReplyOK
	}
	return mail.ReplyNoRelaying
}

func (b *backend) Data(_ context.Context, tx *mail.Transaction, body *spool.Buffer) []mail.Reply {
	defer body.Discard()
	text, err := io.ReadAll(io.NewSectionReader(body.ReaderAt(), 0, body.Size()))
	if err != nil {
		return []mail.Reply{mail.ReplyTryAgain}
	}
	if b.onData != nil {
		b.onData(tx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, message{tx, string(text)})
	if b.dataReplies != nil {
		return b.dataReplies
	}
	if b.dataReply.Code != 0 {
		return []mail.Reply{b.dataReply}
	}
	rs := make([]mail.Reply, len(tx.Recipients))
	for i := range rs {
		rs[i] = mail.ReplyOK
	}
	return rs
}

func (b *backend) Abort(*mail.Transaction) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.aborted++
}

func (b *backend) aborts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.aborted
}

func (b *backend) messages() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]message(nil), b.got...)
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func newSpool(t testing.TB) *spool.Spool {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// testTLS returns settings with a self-signed pair.
func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	cert, key, err := SelfSigned(t.TempDir(), "gw.test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := LoadCertificates(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := c.Config("", "")
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

// a gateway under test: a server on loopback.
type gateway struct {
	*Server
	*backend
	addr   string
	served chan error
}

// start serves with c until the end of the test.
func start(t testing.TB, c Config, b *backend) *gateway {
	t.Helper()
	g := startWith(t, c, b)
	g.backend = b
	return g
}

func startWith(t testing.TB, c Config, b Backend) *gateway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{Server: NewServer(setUp(t, c), b), addr: l.Addr().String(), served: make(chan error, 1)}
	go func() { g.served <- g.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := g.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-g.served; !errors.Is(err, ErrClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return g
}

// setUp fills in what every server needs.
func setUp(t testing.TB, c Config) Config {
	t.Helper()
	c.Name, c.Hostname = "test", "gw.test"
	if c.Spool == nil {
		c.Spool = newSpool(t)
	}
	if c.TLS != "" && c.TLS != "off" && c.TLSConfig == nil {
		c.TLSConfig = testTLS(t)
	}
	if c.AuthDelay == 0 {
		c.AuthDelay = time.Millisecond
	}
	return c
}

// client is the other end: raw octets out, lines in.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (g *gateway) dial(t testing.TB) *client {
	t.Helper()
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t, conn, bufio.NewReader(conn)}
	t.Cleanup(func() { c.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// hello connects, reads the banner and says EHLO.
func (g *gateway) hello(t testing.TB) *client {
	t.Helper()
	c := g.dial(t)
	c.expect("220")
	c.cmd("250", "EHLO client.test")
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Fatalf("send %.40q: %v", text, err)
	}
}

// reply reads one reply, its lines joined by "\n".
func (c *client) reply() (string, error) {
	var lines []string
	for {
		l, err := c.r.ReadString('\n')
		if err != nil {
			return strings.Join(lines, "\n"), err
		}
		l = strings.TrimSuffix(l, "\r\n")
		lines = append(lines, l)
		if len(l) < 4 || l[3] != '-' {
			return strings.Join(lines, "\n"), nil
		}
	}
}

// expect reads a reply that must begin with want.
func (c *client) expect(want string) string {
	c.t.Helper()
	got, err := c.reply()
	if err != nil || !strings.HasPrefix(got, want) {
		c.t.Fatalf("reply %q, %v; want %s", got, err, want)
	}
	return got
}

// cmd sends a line and expects a reply.
func (c *client) cmd(want, line string) string {
	c.t.Helper()
	c.send(line + "\r\n")
	return c.expect(want)
}

// closed expects the end of the connection, and nothing before it.
func (c *client) closed() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); len(rest) > 0 || errors.Is(err, context.DeadlineExceeded) {
		c.t.Fatalf("more came: %q, %v", rest, err)
	}
}

// silent expects nothing for a moment.
func (c *client) silent() {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if l, err := c.r.ReadString('\n'); err == nil || len(l) > 0 {
		c.t.Fatalf("unexpected %q", l)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
}

func (c *client) startTLS() {
	c.t.Helper()
	c.cmd("220", "STARTTLS")
	c.upgrade()
}

func (c *client) upgrade() {
	c.t.Helper()
	conn := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true, ServerName: "gw.test"})
	if err := conn.Handshake(); err != nil {
		c.t.Fatalf("handshake: %v", err)
	}
	c.Conn, c.r = conn, bufio.NewReader(conn)
}

// begin says MAIL and RCPT.
func (c *client) begin() {
	c.t.Helper()
	c.cmd("250 2.1.0", "MAIL FROM:<a@attack.test>")
	c.cmd("250 2.1.5", "RCPT TO:<victim@victim.test>")
}

// deliver sends a whole message and returns the reply to it.
func (c *client) deliver(text string) string {
	c.t.Helper()
	c.begin()
	c.cmd("354", "DATA")
	c.send(text + "\r\n.\r\n")
	return c.expect("")
}

func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

func TestOneMessage(t *testing.T) {
	g := start(t, Config{}, &backend{})
	c := g.hello(t)
	c.begin()
	c.cmd("354", "DATA")
	c.send("Subject: x\r\n\r\n..dot\r\n...\r\nend\r\n.\r\n")
	c.expect("250 2.0.0 OK")
	c.cmd("221 2.0.0", "QUIT")
	c.closed()
	got := g.messages()
	if len(got) != 1 {
		t.Fatalf("%d messages", len(got))
	}
	if want := "Subject: x\r\n\r\n.dot\r\n..\r\nend\r\n"; got[0].text != want {
		t.Errorf("content %q, want %q", got[0].text, want)
	}
	tx := got[0].tx
	if tx.ReversePath.String() != "a@attack.test" || len(tx.Recipients) != 1 || tx.Helo != "client.test" || !tx.ESMTP || tx.Direction != mail.Inbound || len(tx.ID) != 18 || tx.At.IsZero() {
		t.Errorf("transaction %+v, session %+v", tx, tx.Session)
	}
	if !tx.Peer.IsValid() || tx.Client != tx.Peer {
		t.Errorf("peer %v, client %v", tx.Peer, tx.Client)
	}
}

// TestPipelining sends everything that RFC 2920 allows in one piece, and
// counts how many pieces the replies come in.
func TestPipelining(t *testing.T) {
	g := start(t, Config{}, &backend{})
	c := g.hello(t)
	c.send("MAIL FROM:<a@attack.test>\r\nRCPT TO:<victim@victim.test>\r\nRCPT TO:<x@elsewhere.test>\r\nDATA\r\n")
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil || bytes.Count(buf[:n], []byte("\r\n")) != 4 {
		t.Fatalf("first read %q, %v: the replies must come together", buf[:n], err)
	}
	for i, want := range []string{"250 2.1.0", "250 2.1.5", "550 5.7.1", "354"} {
		if l := strings.Split(string(buf[:n]), "\r\n")[i]; !strings.HasPrefix(l, want) {
			t.Errorf("reply %q, want %s", l, want)
		}
	}
	c.send("x\r\n.\r\nMAIL FROM:<b@attack.test>\r\nRCPT TO:<victim@victim.test>\r\nRSET\r\nNOOP\r\nQUIT\r\n")
	for _, want := range []string{"250 2.0.0", "250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.0.0", "221"} {
		c.expect(want)
	}
	if n := len(g.messages()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// TestContentSentAhead: content that came before it was asked for, though after
// DATA, is not taken.
func TestContentSentAhead(t *testing.T) {
	in, out := make(chan struct{}), make(chan struct{})
	g := start(t, Config{}, &backend{onMail: func(*mail.Transaction) {
		close(in)
		<-out
	}})
	c := g.hello(t)
	c.send("MAIL FROM:<a@attack.test>\r\nRCPT TO:<victim@victim.test>\r\nDATA\r\n")
	<-in
	c.send("x\r\n.\r\n")
	time.Sleep(10 * time.Millisecond) // it is there when DATA is answered
	close(out)
	for _, want := range []string{"250 2.1.0", "250 2.1.5", "554 5.5.0"} {
		c.expect(want)
	}
	c.closed()
	if n := len(g.messages()); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// TestRefusedDataSentAhead: what stands behind a DATA that is refused is content,
// not commands, even if it was not read together with it.
func TestRefusedDataSentAhead(t *testing.T) {
	out := make(chan struct{})
	g := start(t, Config{}, &backend{onMail: func(*mail.Transaction) { <-out }})
	c := g.hello(t)
	first := "MAIL FROM:<a@attack.test>\r\n"
	last := "RCPT TO:<x@elsewhere.test>\r\nDATA\r\n"
	for room := smallBuffer - len(first) - len(last); room > 0; { // both fill what is read at once
		n := min(room, 1000)
		if room-n > 0 && room-n < 20 {
			n -= 20
		}
		first += "NOOP " + strings.Repeat("x", n-7) + "\r\n"
		room -= n
	}
	if first += last; len(first) != smallBuffer {
		t.Fatalf("%d octets", len(first))
	}
	c.send(first + "MAIL FROM:<smuggled@attack.test>\r\nRCPT TO:<victim@victim.test>\r\n")
	time.Sleep(10 * time.Millisecond)
	close(out)
	c.expect("250 2.1.0")
	for range strings.Count(first, "NOOP") {
		c.expect("250 2.0.0")
	}
	c.expect("550 5.7.1")
	c.expect("554 5.5.0")
	c.closed()
}

// TestGoCannotBeSaid: where 354 cannot be said in time, as the client does not
// read, nothing is taken from it any more.
func TestGoCannotBeSaid(t *testing.T) {
	const limit = 10 * time.Second
	var g *gateway
	b := &backend{onMail: func(*mail.Transaction) { // the time is over before it begins
		g.Server.mu.Lock()
		defer g.Server.mu.Unlock()
		for s := range g.sessions {
			s.wire.writeUntil = time.Now().Add(limit)
			_ = s.conn.SetWriteDeadline(time.Unix(1, 0))
		}
	}}
	g = start(t, Config{Limits: Limits{Write: limit}}, b)
	c := g.hello(t)
	c.send("MAIL FROM:<a@attack.test>\r\nRCPT TO:<victim@victim.test>\r\nDATA\r\n")
	time.Sleep(20 * time.Millisecond)
	_, _ = io.WriteString(c.Conn, "Subject: x\r\n\r\nx\r\n.\r\n") // may be reset already
	c.closed()
	if n := len(g.messages()); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// TestNoEnhancedCode: a reply that has none, as a next hop may give it, gets that
// of its class.
func TestNoEnhancedCode(t *testing.T) {
	g := start(t, Config{}, &backend{dataReply: mail.Reply{Code: 550, Text: "no such user"}})
	if got := g.hello(t).deliver("x"); got != "550 5.0.0 no such user" {
		t.Errorf("%q", got)
	}
}

func TestReplyLines(t *testing.T) {
	b := &backend{dataReply: mail.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "first\nsecond\r\nthird \x00ü " + strings.Repeat("x", 600)}}
	g := start(t, Config{}, b)
	c := g.hello(t)
	got := c.deliver("x")
	lines := strings.Split(got, "\n")
	if len(lines) != 3 || lines[0] != "550-5.7.1 first" || lines[1] != "550-5.7.1 second" || !strings.HasPrefix(lines[2], "550 5.7.1 third ??") {
		t.Errorf("%q", got)
	}
	if n := len(lines[2]); n > 510 {
		t.Errorf("line of %d octets", n)
	}
}

func TestZeroReplyIsTemporary(t *testing.T) {
	g := startWith(t, Config{}, zeroBackend{})
	c := g.hello(t)
	c.cmd("451 4.3.0", "MAIL FROM:<a@b.test>")
}

type zeroBackend struct{}

func (zeroBackend) Connect(context.Context, *mail.Session) mail.Reply         { return mail.Reply{} }
func (zeroBackend) Auth(context.Context, *mail.Session, string, string) error { return ErrAuth }
func (zeroBackend) Mail(context.Context, *mail.Transaction) mail.Reply        { return mail.Reply{} }
func (zeroBackend) Rcpt(context.Context, *mail.Transaction, mail.Recipient) mail.Reply {
	return mail.Reply{}
}
func (zeroBackend) Data(_ context.Context, _ *mail.Transaction, b *spool.Buffer) []mail.Reply {
	b.Discard()
	return nil
}
func (zeroBackend) Abort(*mail.Transaction) {}

func TestPanicEndsTheSessionOnly(t *testing.T) {
	b := &backend{}
	b.onData = func(tx *mail.Transaction) {
		if tx.ReversePath.Local == "bad" {
			panic("broken")
		}
	}
	g := start(t, Config{}, b)
	c := g.hello(t)
	c.cmd("250", "MAIL FROM:<bad@attack.test>")
	c.cmd("250", "RCPT TO:<victim@victim.test>")
	c.cmd("354", "DATA")
	c.send("x\r\n.\r\n")
	c.expect("421 4.3.0")
	c.closed()
	if got := g.hello(t).deliver("x"); !strings.HasPrefix(got, "250") {
		t.Errorf("the next session got %q", got)
	}
}

func TestIdentifiers(t *testing.T) {
	now := time.UnixMilli(1790000000000)
	a, b := newID(now, bytes.NewReader(make([]byte, 9))), newID(now.Add(time.Millisecond), bytes.NewReader(make([]byte, 9)))
	if len(a) != 18 || a >= b {
		t.Errorf("%q, %q", a, b)
	}
	if c := newID(now, bytes.NewReader(nil)); len(c) != 18 {
		t.Errorf("without randomness: %q", c)
	}
	if c := NewID(); len(c) != 18 {
		t.Errorf("%q", c)
	}
	seen := map[string]bool{}
	c := (Config{}).withDefaults()
	for range 10000 {
		seen[newID(now, c.Rand)] = true
	}
	if len(seen) != 10000 {
		t.Errorf("%d of 10000 are unique", len(seen))
	}
}

// sink is a Backend that takes all and keeps nothing.
type sink struct{ zeroBackend }

func (sink) Mail(context.Context, *mail.Transaction) mail.Reply                 { return mail.ReplyOK }
func (sink) Rcpt(context.Context, *mail.Transaction, mail.Recipient) mail.Reply { return mail.ReplyOK }
func (sink) Data(_ context.Context, tx *mail.Transaction, b *spool.Buffer) []mail.Reply {
	b.Discard()
	rs := make([]mail.Reply, len(tx.Recipients))
	for i := range rs {
		rs[i] = mail.ReplyOK
	}
	return rs
}

// closedDoor is a Backend that lets nobody in.
type closedDoor struct{ zeroBackend }

func (closedDoor) Connect(context.Context, *mail.Session) mail.Reply {
	return mail.Reply{Code: 554, Enhanced: [3]int{5, 7, 1}, Text: "blocked"}
}

func TestConnectRefused(t *testing.T) {
	c := startWith(t, Config{}, closedDoor{}).dial(t)
	c.expect("554 5.7.1 blocked")
	c.closed()
	d := startWith(t, Config{TLS: "implicit"}, closedDoor{}).dial(t)
	d.upgrade()
	d.expect("554 5.7.1 blocked")
}
