package socket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// pair returns both ends of a TCP connection: ours, and the other as package net
// made it.
func pair(t testing.TB) (*Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return New(a).(*Conn), b.(*net.TCPConn)
}

func TestNotTCP(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if New(a) != a {
		t.Error("another connection than it was given")
	}
}

// TestBothWays sends octets in both directions at once, in pieces of all sizes,
// to ends that read slowly.
func TestBothWays(t *testing.T) {
	ours, theirs := pair(t)
	for _, c := range []*net.TCPConn{ours.TCPConn, theirs} {
		_ = c.SetWriteBuffer(32 << 10) // small: writes have to wait and go out in parts
		_ = c.SetReadBuffer(32 << 10)
	}
	const size = 3 << 20
	sent := make([]byte, size)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range sent {
		sent[i] = byte(random.Uint32())
	}
	errs := make(chan error, 4)
	read := func(c net.Conn) {
		got := make([]byte, size)
		_, err := io.ReadFull(c, got)
		if err == nil && !bytes.Equal(got, sent) {
			err = errors.New("not what was sent")
		}
		errs <- err
	}
	go read(ours)
	go read(theirs)
	go func() {
		_, err := theirs.Write(sent)
		errs <- err
	}()
	go func() { errs <- sendPieces(ours, sent, random) }()
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// sendPieces sends p in writes of one and of several pieces, some of them empty,
// below and above what is written without the hooks.
func sendPieces(c *Conn, p []byte, random *rand.Rand) error {
	for len(p) > 0 {
		var bufs net.Buffers
		total := 0
		for range random.IntN(20) {
			n := min(len(p)-total, random.IntN(3)*random.IntN(16<<10))
			bufs = append(bufs, p[total:total+n])
			total += n
		}
		k, err := c.WriteBuffers(bufs)
		if err != nil || k != int64(total) {
			return errors.Join(err, errors.New("not all was written"))
		}
		p = p[total:]
		n := min(len(p), random.IntN(2*quick))
		if k, err := c.Write(p[:n]); err != nil || k != n {
			return errors.Join(err, errors.New("not all was written"))
		}
		p = p[n:]
	}
	return nil
}

func TestDeadlines(t *testing.T) {
	ours, _ := pair(t)
	_ = ours.SetDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := ours.Read(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %d, %v", n, err)
	}
	written, err := 0, error(nil)
	for err == nil { // until what the system keeps for the reader is full
		var n int
		n, err = ours.Write(make([]byte, quick))
		written += n
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	if n, err := ours.Write(nil); n != 0 || err == nil {
		t.Errorf("write after the deadline: %d, %v", n, err)
	}
	_ = ours.SetDeadline(time.Time{})
	if n, err := ours.Read(nil); n != 0 || err != nil {
		t.Errorf("read nothing: %d, %v", n, err)
	}
}

func TestEnds(t *testing.T) {
	ours, theirs := pair(t)
	if _, err := theirs.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if err := theirs.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(ours); string(got) != "last" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_ = theirs.SetLinger(0)
	theirs.Close() // a reset
	var err error
	for range 100 {
		if _, err = ours.Write([]byte("x")); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("write after a reset: %v", err)
	}
	var told *net.OpError
	if !errors.As(err, &told) || told.Addr == nil {
		t.Errorf("the error does not say of which connection: %v", err)
	}
	ours.Close()
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read from a closed connection: %v", err)
	}
	if _, err := ours.WriteBuffers(net.Buffers{[]byte("a"), []byte("b")}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write to a closed connection: %v", err)
	}
}

func TestWaiting(t *testing.T) {
	ours, theirs := pair(t)
	look := func() (octets, closed bool) {
		if err := ours.raw.Control(func(fd uintptr) { octets, closed = Waiting(fd) }); err != nil {
			t.Fatal(err)
		}
		return octets, closed
	}
	settle := func(f func() bool) bool {
		for range 1000 {
			if f() {
				return true
			}
			time.Sleep(time.Millisecond)
		}
		return false
	}
	if octets, closed := look(); octets || closed {
		t.Errorf("quiet: %v, %v", octets, closed)
	}
	if _, err := theirs.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if !settle(func() bool { octets, closed := look(); return octets && !closed }) {
		t.Error("what was sent is not seen")
	}
	if _, err := ours.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if !settle(func() bool { octets, closed := look(); return !octets && closed }) {
		t.Error("the end is not seen")
	}
}

// TestNoGarbage: reading and writing leave nothing behind.
func TestNoGarbage(t *testing.T) {
	ours, theirs := pair(t)
	go echo(theirs)
	out, in := make([]byte, 100), make([]byte, 100)
	bufs := make(net.Buffers, 2)
	n := testing.AllocsPerRun(200, func() {
		bufs[0], bufs[1] = out[:40], out[40:]
		if _, err := ours.WriteBuffers(bufs); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(ours, in); err != nil {
			t.Fatal(err)
		}
	})
	if n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

// echo sends back what comes.
func echo(c net.Conn) {
	p := make([]byte, 4<<10)
	for {
		n, err := c.Read(p)
		if err == nil {
			_, err = c.Write(p[:n])
		}
		if err != nil {
			return
		}
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for name, wrap := range map[string]func(c *Conn) net.Conn{
		"socket": func(c *Conn) net.Conn { return c },
		"net":    func(c *Conn) net.Conn { return c.TCPConn },
	} {
		b.Run(name, func(b *testing.B) {
			ours, theirs := pair(b)
			go echo(wrap(New(theirs).(*Conn)))
			c := wrap(ours)
			p := make([]byte, 200)
			for b.Loop() {
				if _, err := c.Write(p); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
