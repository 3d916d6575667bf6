package virus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	chunk    = 64 << 10         // bytes in one INSTREAM chunk
	maxReply = 4 << 10          // a longer reply is garbage
	idleFor  = 10 * time.Second // clamd drops idle sessions after 30 s
	lastWord = time.Second      // to read why clamd closed the connection
)

// errReply is the error of an answer that is not one of clamd's.
var errReply = errors.New("clamd gave an answer that means nothing")

// A clamd is a client of one clamd: INSTREAM commands in IDSESSIONs, which are
// kept open between messages. What is not a clear "OK" is never clean.
type clamd struct {
	network, address string
	slots            chan struct{} // one for each connection in use

	mu   sync.Mutex
	idle []*session
	stop bool
}

func newClamd(network, address string, connections int) *clamd {
	return &clamd{network: network, address: address, slots: make(chan struct{}, connections)}
}

func (c *clamd) String() string { return "clamd " + c.address }

// scan streams content to clamd and returns the name of the signature that
// matched, or "" when clamd says that it is clean. open may be called twice.
func (c *clamd) scan(ctx context.Context, open func() io.Reader) (string, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return "", fmt.Errorf("wait for a connection to %s: %w", c, ctx.Err())
	}
	for fresh := false; ; fresh = true {
		s, err := c.session(ctx, fresh)
		if err != nil {
			return "", fmt.Errorf("connect to %s: %w", c, err)
		}
		fresh = s.number == 0
		name, err := s.instream(ctx, open())
		if err == nil {
			c.put(s)
			return name, nil
		}
		s.conn.Close()
		if name != "" {
			return name, nil
		}
		// An idle session may have been closed by clamd meanwhile.
		if fresh || ctx.Err() != nil || !errors.Is(err, errStale) {
			return "", fmt.Errorf("scan with %s: %w", c, err)
		}
	}
}

// session takes an idle session unless a fresh one is asked for, or opens one.
func (c *clamd) session(ctx context.Context, fresh bool) (*session, error) {
	c.mu.Lock()
	for !fresh && len(c.idle) > 0 {
		var s *session
		s, c.idle = c.idle[len(c.idle)-1], c.idle[:len(c.idle)-1]
		if time.Since(s.used) < idleFor {
			c.mu.Unlock()
			return s, nil
		}
		s.conn.Close()
	}
	c.mu.Unlock()
	var d net.Dialer
	conn, err := d.DialContext(ctx, c.network, c.address)
	if err != nil {
		return nil, err
	}
	return &session{conn: conn}, nil
}

func (c *clamd) put(s *session) {
	s.used = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop {
		s.conn.Close()
		return
	}
	c.idle = append(c.idle, s)
}

// close ends the idle sessions; those in use end with their scan.
func (c *clamd) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop = true
	for _, s := range c.idle {
		s.conn.Close()
	}
	c.idle = nil
}

// A session is one IDSESSION: clamd numbers the commands and repeats the number
// in its reply.
type session struct {
	conn   net.Conn
	number int // of the last command
	used   time.Time
}

// errStale says that the connection ended before clamd said anything.
var errStale = errors.New("the connection was closed")

// instream sends one stream and reads the verdict. A name together with an
// error means that clamd found something and the session is of no more use.
func (s *session) instream(ctx context.Context, content io.Reader) (string, error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := s.conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	} else if err := s.conn.SetDeadline(time.Time{}); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	s.number++
	wrote, err := s.send(content)
	if err != nil && !wrote {
		return "", err // what is to be scanned could not be read
	}
	if err != nil && ctx.Err() == nil {
		// clamd closes the connection when StreamMaxLength is reached, and says
		// so first: the reply tells more than the failed write.
		s.conn.SetReadDeadline(time.Now().Add(lastWord))
	}
	line, readErr := s.reply()
	switch {
	case readErr != nil && err != nil:
		return "", fmt.Errorf("%w: %w", errStale, err)
	case readErr != nil:
		return "", readErr
	}
	name, replyErr := verdict(line, s.number)
	if replyErr != nil {
		return "", replyErr
	}
	return name, err // "OK" to a stream that was cut is an error
}

// buffers holds what send needs.
var buffers = sync.Pool{New: func() any { return new([64 + chunk]byte) }}

// send writes the command and the stream. wrote is false if it was the content
// that failed, not the connection.
func (s *session) send(content io.Reader) (wrote bool, err error) {
	buf := buffers.Get().(*[64 + chunk]byte)
	defer buffers.Put(buf)
	head := "zINSTREAM\x00"
	if s.number == 1 {
		head = "zIDSESSION\x00" + head
	}
	at := copy(buf[:], head)
	for {
		n, err := io.ReadFull(content, buf[at+4:at+4+chunk])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return false, fmt.Errorf("read content: %w", err)
		}
		if n > 0 {
			binary.BigEndian.PutUint32(buf[at:], uint32(n))
			at += 4 + n
		}
		if last {
			binary.BigEndian.PutUint32(buf[at:], 0)
			at += 4
		}
		if _, err := s.conn.Write(buf[:at]); err != nil {
			return true, err
		}
		if last {
			return true, nil
		}
		at = 0
	}
}

// reply reads up to the NUL that ends a reply. Nothing may follow it: nothing
// was asked.
func (s *session) reply() (string, error) {
	buf := make([]byte, 0, 256)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := s.conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if i := bytes.IndexByte(buf, 0); i >= 0 {
			if i != len(buf)-1 {
				return "", fmt.Errorf("%w: more than one reply", errReply)
			}
			return string(buf[:i]), nil
		}
		switch {
		case len(buf) > maxReply:
			return "", fmt.Errorf("%w: it does not end", errReply)
		case err != nil && len(buf) == 0 && !errors.Is(err, os.ErrDeadlineExceeded):
			return "", fmt.Errorf("%w: %w", errStale, err)
		case err != nil:
			return "", fmt.Errorf("read reply: %w", err)
		}
	}
}

// verdict reads "1: stream: OK", "1: stream: Name FOUND" or "... ERROR".
func verdict(line string, number int) (string, error) {
	if text, ok := strings.CutSuffix(line, " ERROR"); ok {
		return "", fmt.Errorf("clamd: %s", strings.ToValidUTF8(text, "?"))
	}
	text, ok := strings.CutPrefix(line, strconv.Itoa(number)+": stream: ")
	if !ok {
		return "", fmt.Errorf("%w: %q", errReply, line)
	}
	if text == "OK" {
		return "", nil
	}
	name, ok := strings.CutSuffix(text, " FOUND")
	if !ok || name == "" {
		return "", fmt.Errorf("%w: %q", errReply, line)
	}
	return name, nil
}
