// Package socket reads and writes TCP connections without the Go scheduler's
// hooks around each system call. They are for calls that may block: they wake the
// runtime's monitor thread whenever all goroutines were waiting, which then looks
// every 20 microseconds, for some milliseconds, whether one does. The sockets of
// package net never block, and a session waits for them most of the time: of the
// processor time of a relayed message, the hooks took a tenth.
//
// # Diagnostics
//
// Errors are as package net makes them: a *net.OpError that names the connection
// and wraps the system's error; os.ErrDeadlineExceeded, net.ErrClosed and io.EOF
// mean what they mean there. Sockets that are not TCP keep the hooks.
package socket

import (
	"io"
	"net"
	"os"
	"syscall"
)

// quick is how much is written without the hooks: copying more takes so long that
// the scheduler should know.
const quick = 64 << 10

// A Conn is a TCP connection. One goroutine at a time may read from it, and one
// write to it.
type Conn struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out job
	read    func(fd uintptr) bool // c.tryRead and c.tryWrite, made once
	write   func(fd uintptr) bool
}

// A job is the read or the write that is under way.
type job struct {
	p    []byte
	more net.Buffers // to write after p
	n    int         // octets that were read or written
	err  error
}

// New returns c as a Conn if it is a TCP connection, else c itself.
func New(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	s := &Conn{TCPConn: tcp, raw: raw}
	s.read, s.write = s.tryRead, s.tryWrite
	return s
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.in = job{p: p}
	err := c.raw.Read(c.read)
	n := c.in.n
	if err == nil {
		err = c.wrap("read", c.in.err)
	}
	c.in = job{}
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, err
}

func (c *Conn) tryRead(fd uintptr) (done bool) {
	c.in.n, c.in.err = Read(fd, c.in.p)
	return c.in.err != syscall.EAGAIN
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) > quick {
		return c.TCPConn.Write(p)
	}
	return c.send(job{p: p})
}

// WriteBuffers writes all of bufs, which it may change.
func (c *Conn) WriteBuffers(bufs net.Buffers) (int64, error) {
	size := 0
	for _, b := range bufs {
		size += len(b)
	}
	if size > quick || len(bufs) == 0 {
		large := bufs
		return large.WriteTo(c.TCPConn)
	}
	n, err := c.send(job{p: bufs[0], more: bufs[1:]})
	return int64(n), err
}

func (c *Conn) send(j job) (int, error) {
	c.out = j
	err := c.raw.Write(c.write)
	if err == nil {
		err = c.wrap("write", c.out.err)
	}
	n := c.out.n
	c.out = job{}
	return n, err
}

func (c *Conn) tryWrite(fd uintptr) (done bool) {
	j := &c.out
	for {
		for len(j.p) == 0 {
			if len(j.more) == 0 {
				return true
			}
			j.p, j.more = j.more[0], j.more[1:]
		}
		n, err := write(fd, j.p, j.more)
		if err == syscall.EAGAIN {
			return false
		}
		if err != nil {
			j.err = err
			return true
		}
		j.n += n
		for n > len(j.p) {
			n -= len(j.p)
			j.p, j.more = j.more[0], j.more[1:]
		}
		j.p = j.p[n:]
	}
}

// wrap gives an error of the system the form that package net gives it.
func (c *Conn) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}
