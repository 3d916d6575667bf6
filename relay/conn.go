package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/socket"
)

// A conn is one connection to a next hop, greeted and ready for transactions.
// It is used by one goroutine at a time.
type conn struct {
	net.Conn // TLS once it is up
	o        *Options
	r        replyReader
	ended    *atomic.Bool    // the client is closed
	raw      net.Conn        // under TLS
	socket   syscall.RawConn // to look at; nil if there is none
	peek     func(fd uintptr)
	alive    bool // peek's result
	ctx      context.Context
	caps     capabilities
	key      poolKey
	label    string // "exchange[10.0.5.10]:25"
	tls      string // for Outcome.TLS
	verified bool   // TLS with the certificate verified, or a Unix socket
	dirty    bool   // a transaction may be open: RSET first
	used     int    // transactions begun
	born     time.Time
	idle     time.Time // since when it lies in the pool
	out      []byte    // commands
	ends     []int     // where in out each command ends

	writeUntil time.Time // the deadline of writes; zero: none of ours
	readUntil  time.Time // the deadline of reads, which may be too early; zero: none of ours
	readBy     time.Time // when it is over for what is being read
}

// A failure is why something could not be done: what to tell, and the cause.
type failure struct {
	reply mail.Reply
	cause error
}

func (f *failure) Error() string { return f.cause.Error() }
func (f *failure) Unwrap() error { return f.cause }

// Replies that the client makes up itself.
var (
	replyDown    = mail.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 4, 1}, Text: "next hop cannot be reached; try again later"}
	replyLost    = mail.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 4, 2}, Text: "connection with next hop failed; try again later"}
	replyNoDNS   = mail.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 4, 3}, Text: "next hop cannot be looked up for now; try again later"}
	replyGarbage = mail.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 5, 0}, Text: "next hop did not keep to the protocol; try again later"}
	replyNoTLS   = mail.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 7, 5}, Text: "secure connection with next hop is not possible for now; try again later"}
	replyNoLogin = mail.Reply{Code: 454, Enhanced: smtp.EnhancedCode{4, 7, 0}, Text: "cannot log in to next hop; try again later"}
	replyNull    = mail.Reply{Code: 556, Enhanced: smtp.EnhancedCode{5, 1, 10}, Text: "domain does not accept mail"}
	replyNoHost  = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 2}, Text: "domain does not exist or has no mail server"}
	replyBadTo   = mail.Reply{Code: 553, Enhanced: smtp.EnhancedCode{5, 1, 3}, Text: "recipient's address is not valid"}
	replyBadFrom = mail.Reply{Code: 553, Enhanced: smtp.EnhancedCode{5, 1, 7}, Text: "reverse-path is not valid"}
	replyTooBig  = mail.Reply{Code: 552, Enhanced: smtp.EnhancedCode{5, 3, 4}, Text: "message is larger than next hop accepts"}
	replyNoAddr  = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 4, 4}, Text: "no mail server of the domain has an address"}
	replyLoop    = mail.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 4, 6}, Text: "domain's mail servers lead back to this host"}
	replyContent = mail.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 6, 0}, Text: "message has line ends that cannot be relayed"}
	replyNo8Bit  = mail.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 6, 3}, Text: "next hop does not accept 8-bit content"}
	replyNoUTF8  = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 6, 7}, Text: "next hop does not accept internationalised mail"}
	replyNoReq   = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 30}, Text: "next hop does not support REQUIRETLS"}
)

// dial connects to t and makes the connection ready for transactions.
func (c *Client) dial(ctx context.Context, hop *Hop, t target, key poolKey) (*conn, *failure) {
	cn, f := c.setUp(ctx, hop, t, key, "")
	// RFC 7435 section 3: opportunistic TLS that fails is retried in clear.
	var broken *handshakeError
	if f != nil && key.tls == TLSOpportunistic && errors.As(f.cause, &broken) && ctx.Err() == nil {
		return c.setUp(ctx, hop, t, key, "none: "+broken.Error())
	}
	return cn, f
}

// setUp connects and goes through greeting, EHLO, STARTTLS and AUTH. noTLS, if
// not empty, says why TLS is not to be tried.
func (c *Client) setUp(ctx context.Context, hop *Hop, t target, key poolKey, noTLS string) (*conn, *failure) {
	dialing, cancel := context.WithTimeout(ctx, c.o.ConnectTimeout)
	defer cancel()
	nc, err := c.o.Dialer.DialContext(dialing, t.network, t.address)
	if err != nil {
		return nil, &failure{replyDown, fmt.Errorf("connect to %s: %w", t.label(), err)}
	}
	nc = socket.New(nc)
	c.stats.dialed.Add(1)
	cn := &conn{
		Conn: nc, raw: nc, o: &c.o, ctx: ctx, ended: &c.pools.ended, key: key, label: t.label(), tls: "none", born: time.Now(),
		verified: t.network == "unix",
	}
	cn.r = newReplyReader(steadyReader{cn})
	cn.watch(nc)
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(past) })
	_ = nc.SetDeadline(time.Now().Add(c.o.SetupTimeout))
	var f *failure
	if !c.pools.watch(nc) {
		f = &failure{replyDown, errClosed}
	}
	if f == nil {
		f = cn.greet(hop)
	}
	if f == nil && noTLS != "" {
		cn.tls = noTLS
	} else if f == nil {
		f = c.secure(cn, hop, t)
	}
	if f == nil && hop.User != "" {
		f = cn.login(hop)
	}
	if !stop() && f == nil {
		f = &failure{replyLost, context.Cause(ctx)}
	}
	if f != nil {
		c.pools.forget(nc)
		_ = nc.Close()
		return nil, f
	}
	return cn, nil
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// greet reads the greeting and says EHLO, LHLO or, where EHLO is not known,
// HELO.
func (c *conn) greet(hop *Hop) *failure {
	reply, err := c.read(nil)
	if err != nil {
		return &failure{replyDown, fmt.Errorf("read greeting: %w", err)}
	}
	// RFC 5321 section 3.1: 554 says that there is no SMTP service here; it is
	// no word on any recipient.
	if reply.Code != 220 {
		return &failure{replyDown, fmt.Errorf("greeting: %s", reply)}
	}
	if err := c.settled(); err != nil {
		return &failure{replyGarbage, err}
	}
	if f := c.hello(hop.LMTP); f != nil {
		return f
	}
	return nil
}

// hello says who we are and learns what the next hop can.
func (c *conn) hello(lmtp bool) *failure {
	verb := "EHLO "
	if lmtp {
		verb = "LHLO "
	}
	c.caps = capabilities{}
	first := true
	reply, err := c.command(verb+helloName(c.o.Hostname), func(line string) {
		if !first {
			c.caps.learn(line)
		}
		first = false
	})
	// RFC 5321 section 3.2: a server that does not know EHLO gets HELO.
	if err == nil && reply.Permanent() && !lmtp {
		c.caps = capabilities{}
		reply, err = c.command("HELO "+helloName(c.o.Hostname), nil)
	}
	switch {
	case err != nil:
		return &failure{replyDown, fmt.Errorf("%s: %w", strings.TrimSpace(verb), err)}
	case reply.Code != 250:
		return &failure{replyDown, fmt.Errorf("%s: %s", strings.TrimSpace(verb), reply)}
	}
	if err := c.settled(); err != nil {
		return &failure{replyGarbage, err}
	}
	return nil
}

// helloName returns our host name, or "localhost" if it is not one.
func helloName(name string) string {
	if name == "" || !sayableDomain(name) || !isASCII(name) {
		return "localhost"
	}
	return name
}

// command sends one line and reads its reply.
func (c *conn) command(line string, each func(string)) (mail.Reply, error) {
	c.out = append(append(c.out[:0], line...), "\r\n"...)
	if _, err := c.Write(c.out); err != nil {
		return mail.Reply{}, fmt.Errorf("send command: %w", err)
	}
	return c.read(each)
}

func (c *conn) read(each func(string)) (mail.Reply, error) { return c.r.read(each) }

// settled returns an error if the next hop said more than it was asked.
func (c *conn) settled() error {
	if n := c.r.Buffered(); n > 0 {
		b, _ := c.r.Peek(min(n, 80))
		return fmt.Errorf("%w: said unasked: %q", errGarbage, b)
	}
	return nil
}

// secure reports whether the connection is TLS.
func (c *conn) secure() bool {
	_, ok := c.Conn.(*tls.Conn)
	return ok
}

// writeDeadline and readDeadline give the next writes and reads a time limit;
// if the context ended, it is over already. A limit of an earlier write holds on
// while it is not much shorter, that of an earlier read while there is some time
// left: a steadyReader that it wakes too early goes on.
func (c *conn) writeDeadline(d time.Duration) {
	now := time.Now()
	if left := c.writeUntil.Sub(now); left > d || left < d-d/8 {
		c.writeUntil = now.Add(d)
		_ = c.SetWriteDeadline(c.writeUntil)
	}
	c.enforceEnd()
}

func (c *conn) readDeadline(d time.Duration) {
	now := time.Now()
	c.readBy = now.Add(d)
	if left := c.readUntil.Sub(now); left > d || left < d/4 {
		c.waitUntil(c.readBy)
	}
	c.enforceEnd()
}

func (c *conn) waitUntil(t time.Time) {
	c.readUntil = t
	_ = c.SetReadDeadline(t)
}

// A steadyReader reads from a connection until readBy.
type steadyReader struct{ c *conn }

func (p steadyReader) Read(b []byte) (int, error) {
	for {
		n, err := p.c.Conn.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || p.c.over() || !time.Now().Before(p.c.readBy) {
			return n, err
		}
		p.c.waitUntil(p.c.readBy)
		p.c.enforceEnd()
	}
}

// over reports whether the context or the client ended.
func (c *conn) over() bool { return c.ctx.Err() != nil || c.ended.Load() }

// interrupt ends what the connection is waiting for.
func (c *conn) interrupt() { _ = c.raw.SetDeadline(past) }

// enforceEnd lets a deadline be over if the context or the client ended: what
// set such a deadline may have done so before another one was set.
func (c *conn) enforceEnd() {
	if c.over() {
		_ = c.SetDeadline(past)
	}
}

// quitBriefly says QUIT, does not wait for the answer, and closes.
func (c *conn) quitBriefly() {
	_ = c.SetDeadline(time.Now().Add(time.Second)) // the connection's last
	_, _ = c.Write([]byte("QUIT\r\n"))
	_ = c.Close()
}

// capabilities are what the next hop announced (RFC 5321 section 4.1.1.1).
type capabilities struct {
	pipelining bool   // RFC 2920
	chunking   bool   // RFC 3030
	binary     bool   // BINARYMIME, RFC 3030
	eightBit   bool   // 8BITMIME, RFC 6152
	utf8       bool   // SMTPUTF8, RFC 6531
	dsn        bool   // RFC 3461
	starttls   bool   // RFC 3207
	requireTLS bool   // RFC 8689
	sized      bool   // SIZE, RFC 1870
	size       int64  // the largest message; 0: not said
	rcptMax    int    // recipients in one transaction, RFC 9422; 0: not said
	auth       string // " PLAIN LOGIN ", RFC 4954
	xforward   attributes
}

// learn takes in one line of the EHLO reply.
func (c *capabilities) learn(line string) {
	keyword, args, _ := strings.Cut(line, " ")
	switch strings.ToUpper(keyword) {
	case "PIPELINING":
		c.pipelining = true
	case "CHUNKING":
		c.chunking = true
	case "BINARYMIME":
		c.binary = true
	case "8BITMIME":
		c.eightBit = true
	case "SMTPUTF8":
		c.utf8 = true
	case "DSN":
		c.dsn = true
	case "STARTTLS":
		c.starttls = true
	case "REQUIRETLS":
		c.requireTLS = true
	case "SIZE":
		c.sized = true
		if n, err := strconv.ParseInt(args, 10, 64); err == nil && n > 0 {
			c.size = n
		}
	case "LIMITS":
		for _, limit := range strings.Fields(args) {
			if v, ok := strings.CutPrefix(strings.ToUpper(limit), "RCPTMAX="); ok {
				if n, err := strconv.Atoi(v); err == nil && n > 0 {
					c.rcptMax = n
				}
			}
		}
	case "AUTH":
		c.auth += " " + strings.ToUpper(args) + " "
	case "XFORWARD":
		c.xforward = parseAttributes(args)
	}
}

// watch prepares quiet for the socket under nc.
func (c *conn) watch(nc net.Conn) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	c.socket = raw
	c.peek = func(fd uintptr) {
		octets, closed := socket.Waiting(fd)
		c.alive = !octets && !closed
	}
}

// quiet reports whether the connection is open and the next hop has said
// nothing that was not read.
func (c *conn) quiet() bool {
	if c.r.Buffered() > 0 {
		return false
	}
	if c.socket == nil {
		return true
	}
	c.alive = false
	if err := c.socket.Control(c.peek); err != nil {
		return false
	}
	return c.alive
}
