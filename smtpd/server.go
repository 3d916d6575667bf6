package smtpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"postern/mail"
	"postern/spool"
)

// ErrAuth is what Backend.Auth returns for a wrong name or password.
var ErrAuth = errors.New("wrong user name or password")

// ErrClosed is what Serve returns after Shutdown. It is a net.ErrClosed too.
var ErrClosed = fmt.Errorf("server is shut down: %w", net.ErrClosed)

// A Backend decides what the server does not: it is asked at each step of a
// session and answers with a reply. Its methods are called from many
// goroutines, but for one session never two at once. A zero Reply of Mail, Rcpt
// or Data is no answer: the client is told to try again.
type Backend interface {
	// Connect is asked before the banner. A zero Reply or a 2xx goes on; any
	// other is said instead of the banner, and the connection closed.
	Connect(ctx context.Context, s *mail.Session) mail.Reply

	// Auth verifies a password. An error that is ErrAuth means that it is
	// wrong; any other, that it cannot be verified now.
	Auth(ctx context.Context, s *mail.Session, user, password string) error

	// Mail begins a transaction: ID, Session, ReversePath, Options and At are
	// set. Unless it is accepted, nothing more is heard of it.
	Mail(ctx context.Context, tx *mail.Transaction) mail.Reply

	// Rcpt is asked for each recipient; those answered with 2xx are appended
	// to tx.Recipients.
	Rcpt(ctx context.Context, tx *mail.Transaction, to mail.Recipient) mail.Reply

	// Data takes the complete content, and body with it: it must be discarded.
	// The answer is one reply, in LMTP one per recipient, in their order.
	Data(ctx context.Context, tx *mail.Transaction, body *spool.Buffer) []mail.Reply

	// Abort ends a transaction without Data: RSET, EHLO, a refused content, a
	// lost connection.
	Abort(tx *mail.Transaction)
}

// A Server serves one listener of the policy, on one or more sockets.
type Server struct {
	backend  Backend
	settings atomic.Pointer[Config]
	pools    *pools
	visitors *addresses
	failures *failures
	files    int // how many connections the file descriptors allow

	ctx      context.Context // ends when sessions must end
	cancel   context.CancelFunc
	draining atomic.Bool
	count    atomic.Int64

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	sessions  map[*session]struct{}
	ended     sync.WaitGroup // sessions
}

// NewServer returns a server with settings c.
func NewServer(c Config, b Backend) *Server {
	s := &Server{
		backend:   b,
		pools:     newPools(),
		visitors:  newAddresses(),
		failures:  newFailures(),
		files:     fileLimit(),
		listeners: map[net.Listener]struct{}{},
		sessions:  map[*session]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.settings.Store(c.withDefaults())
	return s
}

// Reconfigure changes the settings for the sessions that begin from now on.
// Those that have begun keep what they began with. Counts of connections,
// messages and wrong passwords go on.
func (s *Server) Reconfigure(c Config) { s.settings.Store(c.withDefaults()) }

// Sessions returns how many sessions there are.
func (s *Server) Sessions() int { return int(s.count.Load()) }

// fileLimit returns how many connections may be open at once, so that a
// quarter of the file descriptors is left for the spool and the next hops.
func fileLimit() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > 1<<30 {
		return 1 << 30
	}
	return int(l.Cur - l.Cur/4)
}

// Serve accepts connections on l until Shutdown, and closes it then. It returns
// ErrClosed after Shutdown, else what went wrong.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.draining.Load() {
		s.mu.Unlock()
		l.Close()
		return ErrClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		l.Close()
	}()
	a := acceptor{Listener: l}
	defer a.release()
	for {
		conn, shed, err := a.accept()
		switch {
		case s.draining.Load():
			if conn != nil {
				conn.Close()
			}
			return ErrClosed
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		case err != nil:
			s.settings.Load().Log.Warn("accept failed", "err", err)
			s.pause(a.wait())
		case shed:
			s.refuse(conn, "files")
		default:
			s.admit(conn)
		}
	}
}

// pause waits, or less if the server ends.
func (s *Server) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// admit begins a session, or refuses it at once when there are too many.
func (s *Server) admit(conn net.Conn) {
	set := s.settings.Load()
	if n := int(s.count.Load()); n >= set.Limits.Connections || n >= s.files {
		s.refuse(conn, "connections")
		return
	}
	if ss := s.begin(set, conn); ss != nil {
		go ss.serve()
		return
	}
	conn.Close()
}

// begin puts a new session on the books; nil if the server is shutting down.
func (s *Server) begin(set *Config, conn net.Conn) *session {
	ss := newSession(s, set, conn)
	s.mu.Lock()
	if s.draining.Load() {
		s.mu.Unlock()
		return nil
	}
	s.sessions[ss] = struct{}{}
	s.ended.Add(1)
	s.count.Add(1)
	s.mu.Unlock()
	set.Hooks.session(1)
	return ss
}

// forget takes a session that has ended off the books.
func (s *Server) forget(ss *session) {
	s.mu.Lock()
	delete(s.sessions, ss)
	s.mu.Unlock()
	s.count.Add(-1)
	ss.set.Hooks.session(-1)
	s.ended.Done()
}

// refuse says 421 and closes, without a session. The socket is new, so that the
// write does not wait.
func (s *Server) refuse(conn net.Conn, reason string) {
	set := s.settings.Load()
	set.Hooks.refused(reason)
	set.Log.Debug("session refused", "listener", set.Name, "peer", conn.RemoteAddr().String(), "reason", reason)
	if set.TLS != "implicit" {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = fmt.Fprintf(conn, "421 4.3.2 %s too many connections; try again later\r\n", set.Hostname)
	}
	conn.Close()
}

// Shutdown stops accepting, ends every session with 421 - one that receives
// content, after the reply to it - and returns when all have ended. When ctx
// ends first, it cuts off those that remain, waits for them and returns ctx's
// error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	for l := range s.listeners {
		l.Close()
	}
	for ss := range s.sessions {
		ss.wake()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.ended.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	for ss := range s.sessions {
		ss.wire.base.Close()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}

// An acceptor accepts connections even without a free file descriptor, which it
// keeps one in reserve for: a client is told to try again rather than left
// waiting, and the loop never spins.
type acceptor struct {
	net.Listener
	spare *os.File
	fails int
}

// accept returns the next connection. With shed, it took the last descriptor
// and must be closed at once.
func (a *acceptor) accept() (conn net.Conn, shed bool, err error) {
	if a.spare == nil {
		a.spare, _ = os.Open(os.DevNull)
	}
	conn, err = a.Listener.Accept()
	if (errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)) && a.spare != nil {
		a.release()
		if conn, err = a.Listener.Accept(); err == nil {
			a.spare, _ = os.Open(os.DevNull)
			shed = a.spare == nil
		}
	}
	if err == nil {
		a.fails = 0
	}
	return conn, shed, err
}

// wait returns how long to wait after an error: longer after each.
func (a *acceptor) wait() time.Duration {
	a.fails++
	return min(5*time.Millisecond<<min(a.fails, 8), time.Second)
}

func (a *acceptor) release() {
	if a.spare != nil {
		a.spare.Close()
		a.spare = nil
	}
}

// addrPort returns the address of a TCP socket, IPv4 as IPv4; zero for others.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
