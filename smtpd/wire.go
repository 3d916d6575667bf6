package smtpd

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"postern/socket"
)

const (
	smallBuffer = 8 << 10  // for commands, and for content that trickles
	largeBuffer = 64 << 10 // for content that fills the small one, and for long AUTH lines
	outBuffer   = 2 << 10  // replies that wait to be written together

	// RFC 5321 section 4.5.3.1.4: 512 octets, and what extensions add to MAIL
	// and RCPT (SIZE, BODY, SMTPUTF8, AUTH, RET, ENVID; NOTIFY, ORCPT).
	maxCommand = 2048
	// RFC 4954 section 4.3: a base64 line of AUTH may have 12,288 octets.
	maxAuthLine = 12288 + 16
	// A line that goes on for longer than this is not a slip any more.
	maxDiscard = 64 << 10
)

// Errors of reading a command line. After the first two the line has been
// consumed and the next can be read; after the others the session is over.
var (
	errLineTooLong = errors.New("command line too long")
	errBareNewline = errors.New("command line does not end with CRLF")
	errEndless     = errors.New("command line without end")
	errDraining    = errors.New("server is shutting down")
	errTimeout     = errors.New("deadline exceeded")
)

// buffers is what a session needs only while it is at work.
type buffers struct {
	in  [smallBuffer]byte
	out [outBuffer]byte
}

// pools give buffers to the sessions of a server.
type pools struct{ small, large sync.Pool }

func newPools() *pools {
	return &pools{
		small: sync.Pool{New: func() any { return new(buffers) }},
		large: sync.Pool{New: func() any { return new([largeBuffer]byte) }},
	}
}

// wire reads lines and content from a connection and writes replies to it. It
// holds no buffers while the connection is idle.
type wire struct {
	base net.Conn // the transport: deadlines are set on it
	conn net.Conn // base, or TLS over it
	raw  syscall.RawConn
	try  func(fd uintptr) bool // w.readRaw, made once
	peek func(fd uintptr)      // w.peekRaw, made once

	pools *pools
	bufs  *buffers
	large *[largeBuffer]byte
	in    []byte // bufs.in or large; nil while idle
	r, w  int    // in[r:w] has been read and not consumed
	brim  bool   // the last read filled in: there is more
	out   []byte // replies not yet written

	asking   string // a reply that the read under way says first: see ask
	idle     bool   // the read under way waits for a new command
	midway   bool   // inside content: a shutdown waits for its end
	n        int    // result of readRaw
	more     bool   // result of peekRaw
	err      error
	one      [1]byte
	draining *atomic.Bool
	write    time.Duration
	failed   error // of writing: nothing can be said any more

	readUntil, writeUntil time.Time // the deadlines that are set, zero if not known
}

// slack is how much too early a deadline may be: it is not set anew for each
// read and write. Who is woken by one looks at the time.
const slack = time.Second

func newWire(c net.Conn, p *pools, draining *atomic.Bool, write time.Duration) *wire {
	c = socket.New(c)
	w := &wire{base: c, conn: c, pools: p, draining: draining, write: write}
	if t, ok := c.(*socket.Conn); ok {
		if raw, err := t.SyscallConn(); err == nil {
			w.raw, w.try, w.peek = raw, w.readRaw, w.peekRaw
		}
	}
	return w
}

// upgrade goes on over another connection, such as TLS. Nothing that was read
// before may remain.
func (w *wire) upgrade(c net.Conn) {
	w.conn, w.raw = c, nil
	w.r, w.w = 0, 0
	w.readUntil, w.writeUntil = time.Time{}, time.Time{}
}

// ahead reports whether the client has sent more than we have consumed, be it
// that we have not read it yet.
func (w *wire) ahead() bool {
	if w.r < w.w || w.raw == nil {
		return w.r < w.w
	}
	return w.raw.Control(w.peek) == nil && w.more
}

// peekRaw looks whether the socket has something to read.
func (w *wire) peekRaw(fd uintptr) { w.more, _ = socket.Waiting(fd) }

// buffered returns how many octets have been read and not consumed.
func (w *wire) buffered() int { return w.w - w.r }

// pending returns them. They are valid until the next fill.
func (w *wire) pending() []byte { return w.in[w.r:w.w] }

// consume takes n octets off pending.
func (w *wire) consume(n int) {
	if w.r += n; w.r == w.w {
		w.r, w.w = 0, 0
	}
}

// take makes sure that there are buffers.
func (w *wire) take() {
	if w.bufs == nil {
		w.bufs = w.pools.small.Get().(*buffers)
	}
	if w.in == nil {
		w.in = w.bufs.in[:]
	}
	if w.out == nil {
		w.out = w.bufs.out[:0]
	}
}

// release gives the buffers back. Nothing may be in them.
func (w *wire) release() {
	if w.large != nil {
		w.pools.large.Put(w.large)
		w.large = nil
	}
	if w.bufs != nil {
		w.pools.small.Put(w.bufs)
		w.bufs = nil
	}
	w.in, w.out, w.r, w.w, w.brim = nil, nil, 0, 0, false
}

// room makes room for another read.
func (w *wire) room() {
	w.take()
	switch {
	case w.large == nil && (w.brim || w.r == 0 && w.w == len(w.in)):
		w.large = w.pools.large.Get().(*[largeBuffer]byte)
		w.r, w.w = 0, copy(w.large[:], w.in[w.r:w.w])
		w.in = w.large[:]
	case w.w < len(w.in):
	case w.r > 0:
		w.r, w.w = 0, copy(w.in, w.in[w.r:w.w])
	}
	w.brim = false
}

// ask says a 354 and waits for what it asks for. It was not said, although there
// is no error, if the client did not wait for it.
func (w *wire) ask(text string, until time.Time) (said bool, err error) {
	if w.raw == nil || w.failed != nil {
		w.say(354, true, text)
		err = w.fill(until, false)
		return w.failed == nil, err
	}
	w.asking = text
	err = w.await(until, false)
	said, w.asking = w.asking == "", ""
	return said, err
}

// fill writes what waits to be written, then reads more. With idle, it waits
// for a new command: it holds no buffers while it waits, and a shutdown ends
// the wait with errDraining.
func (w *wire) fill(until time.Time, idle bool) error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.await(until, idle)
}

// await is fill without writing.
func (w *wire) await(until time.Time, idle bool) error {
	w.idle = idle && w.r == w.w
	for {
		if early := until.Sub(w.readUntil); early < 0 || early > slack {
			if err := w.base.SetReadDeadline(until); err != nil {
				return err
			}
			w.readUntil = until
		}
		// The check comes after the deadline is set: a shutdown sets the flag
		// and then a deadline in the past.
		if idle && !w.midway && w.draining.Load() {
			return errDraining
		}
		n, err := w.read()
		if w.failed != nil { // to say the 354: its deadline is not that of the read
			return w.failed
		}
		if n > 0 {
			w.w += n
			w.brim = w.w == len(w.in)
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if !time.Now().Before(until) {
				return errTimeout
			}
			w.readUntil = time.Time{}
			continue // a shutdown woke us, or an earlier deadline
		}
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
}

// read reads once into the free end of the buffer.
func (w *wire) read() (int, error) {
	if w.raw != nil {
		w.n, w.err = 0, nil
		if err := w.raw.Read(w.try); err != nil {
			return 0, err
		}
		return w.n, w.err
	}
	if w.idle {
		// There is no way to wait for a readable TLS connection, so one octet
		// is read without a buffer; the rest of its record is there then.
		w.release()
		n, err := w.conn.Read(w.one[:])
		if n > 0 {
			w.room()
			w.in[w.w] = w.one[0]
			w.idle = false
		}
		return n, err
	}
	w.room()
	return w.conn.Read(w.in[w.w:])
}

// readRaw reads from the socket; false means that there is nothing yet.
func (w *wire) readRaw(fd uintptr) bool {
	w.room()
	n, err := socket.Read(fd, w.in[w.w:])
	switch {
	case err == syscall.EAGAIN && w.asking != "":
		w.say(354, true, w.asking)
		w.asking = ""
		return w.flush() != nil
	case err == syscall.EAGAIN:
		if w.idle {
			w.release()
		}
		return false
	case err != nil:
		w.err = os.NewSyscallError("read", err)
	case n == 0:
		w.err = io.EOF
	default:
		w.n = n
	}
	return true
}

// line reads a command line and returns it without its CRLF. It is valid until
// the next fill. lax accepts a bare LF as its end.
func (w *wire) line(until time.Time, auth, lax bool) ([]byte, error) {
	seen := 0
	for {
		if i := bytes.IndexByte(w.in[w.r+seen:w.w], '\n'); i >= 0 {
			l := w.in[w.r : w.r+seen+i]
			w.consume(seen + i + 1)
			return checkLine(l, auth, lax)
		}
		seen = w.w - w.r
		if seen > maxCommand && (seen > maxAuthLine || !auth && !isAuth(w.pending())) {
			return nil, w.skipLine(until)
		}
		if err := w.fill(until, seen == 0); err != nil {
			return nil, err
		}
	}
}

// checkLine checks the length and the end of a line that lost its LF.
func checkLine(l []byte, auth, lax bool) ([]byte, error) {
	switch n := len(l); {
	case n > 0 && l[n-1] == '\r':
		l = l[:n-1]
	case !lax:
		return nil, errBareNewline
	}
	if len(l) > maxCommand-2 && !auth && !isAuth(l) {
		return nil, errLineTooLong
	}
	return l, nil
}

// isAuth reports whether a line is an AUTH command.
func isAuth(l []byte) bool {
	return len(l) > 4 && bytes.EqualFold(l[:5], []byte("AUTH "))
}

// skipLine throws away the rest of a line that is too long.
func (w *wire) skipLine(until time.Time) error {
	for n := 0; n < maxDiscard; {
		if i := bytes.IndexByte(w.pending(), '\n'); i >= 0 {
			w.consume(i + 1)
			return errLineTooLong
		}
		n += w.buffered()
		w.consume(w.buffered())
		if err := w.fill(until, false); err != nil {
			return err
		}
	}
	return errEndless
}

// flush writes what waits to be written.
func (w *wire) flush() error {
	if w.failed != nil || len(w.out) == 0 {
		return w.failed
	}
	until := time.Now().Add(w.write)
	if early := until.Sub(w.writeUntil); early < 0 || early > min(slack, w.write/8) {
		if err := w.base.SetWriteDeadline(until); err != nil {
			w.failed = err
			return err
		}
		w.writeUntil = until
	}
	_, w.failed = w.conn.Write(w.out)
	w.out = w.out[:0]
	return w.failed
}

// say adds a line to what waits to be written.
func (w *wire) say(code int, last bool, text ...string) {
	w.take()
	sep := byte('-')
	if last {
		sep = ' '
	}
	w.out = append(w.out, byte('0'+code/100%10), byte('0'+code/10%10), byte('0'+code%10), sep)
	for _, t := range text {
		w.out = append(w.out, t...)
	}
	w.out = append(w.out, '\r', '\n')
	if len(w.out) > outBuffer/2 {
		_ = w.flush() // kept in w.failed: the next fill returns it
	}
}

// close says the last words and closes the connection. What the client is
// still sending is read for a moment: closing with unread input would make the
// kernel throw our last reply away.
func (w *wire) close() {
	if w.flush() == nil && w.failed == nil {
		w.linger()
	}
	w.conn.Close()
	w.release()
}

func (w *wire) linger() {
	t, ok := w.base.(*socket.Conn)
	if !ok {
		return
	}
	if c, ok := w.conn.(*tls.Conn); ok {
		_ = c.CloseWrite()
	}
	if t.CloseWrite() != nil || t.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	w.take()
	for n := 0; n < lingerOctets; {
		m, err := t.Read(w.in)
		if err != nil {
			return
		}
		n += m
	}
}

const (
	lingerTime   = 500 * time.Millisecond
	lingerOctets = 1 << 20
)
