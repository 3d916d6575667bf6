package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"sync"

	"postern/socket"
)

// Sizes of what goes out in one write.
const (
	blockSize   = 512 << 10 // at most, so that each block has its own deadline
	scratchSize = 64 << 10  // small pieces are gathered here
	copyBelow   = 4 << 10   // a piece smaller than this is copied rather than pointed at
	maxPieces   = 256       // pieces in one writev
)

// Errors of content. Those of the content itself wrap errContent.
var (
	errContent = errors.New("content cannot be sent")
	errBareLF  = fmt.Errorf("%w: it has a bare line feed before a dot", errContent)
	errEarly   = errors.New("next hop answered before the end of the content")
)

// A contentWriter writes a message's content to a connection, in large writes
// and without copying what is large. Between two flushes it points at its
// caller's slices.
type contentWriter struct {
	c       *conn
	stuff   bool // as DATA wants it: add dots (RFC 5321 section 4.5.2) and the end
	dotless bool // there is no line that needs one
	prev    [2]byte
	total   int64 // octets of content taken
	pending int   // octets not yet written
	begun   bool  // some were written, or read from elsewhere: time has passed
	scratch []byte
	pieces  net.Buffers
	out     net.Buffers // what WriteTo consumes
	block   []byte      // for reading
}

var contentWriters = sync.Pool{New: func() any {
	return &contentWriter{scratch: make([]byte, 0, scratchSize), pieces: make(net.Buffers, 0, maxPieces)}
}}

// newContentWriter returns a writer to c.
func newContentWriter(c *conn, stuff bool) *contentWriter {
	w := contentWriters.Get().(*contentWriter)
	w.c, w.stuff, w.prev, w.total, w.begun = c, stuff, [2]byte{'\r', '\n'}, 0, false
	w.reset()
	return w
}

// free gives w back.
func (w *contentWriter) free() {
	w.c, w.out = nil, nil
	w.reset()
	contentWriters.Put(w)
}

func (w *contentWriter) reset() {
	clear(w.pieces)
	w.pieces, w.scratch, w.pending = w.pieces[:0], w.scratch[:0], 0
}

// content takes the whole content of m. Afterwards the last of it is still
// pending: nothing that was sent so far can end the message.
func (w *contentWriter) content(m *Mail) error {
	w.dotless = m.Dotless
	if m.Bytes != nil || m.Content == nil {
		for _, p := range m.Bytes {
			if err := w.take(p); err != nil {
				return err
			}
		}
	} else {
		w.begun = true
		if err := w.contentOf(m); err != nil {
			return err
		}
	}
	if w.total != m.Size {
		return fmt.Errorf("%w: it has %d octets, not %d", errContent, w.total, m.Size)
	}
	return nil
}

// readFrom takes what r gives.
func (w *contentWriter) readFrom(r io.Reader) error {
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	if w.block == nil {
		w.block = make([]byte, 2*scratchSize)
	}
	for half := 0; ; half ^= 1 {
		// Two halves: what the first still has pending stays valid while the
		// second is read.
		b := w.block[half*scratchSize:][:scratchSize]
		n, err := io.ReadFull(r, b)
		if w.total > 0 && n > 0 {
			if err := w.flush(); err != nil {
				return err
			}
		}
		if err := w.take(b[:n]); err != nil {
			return err
		}
		switch {
		case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("%w: read: %w", errContent, err)
		}
	}
}

// take takes the next octets of the content.
func (w *contentWriter) take(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	w.total += int64(len(p))
	if !w.stuff {
		return w.add(p)
	}
	if w.dotless {
		w.ends(p)
		return w.add(p)
	}
	start := 0
	// RFC 5321 section 4.5.2: a line that begins with a dot gets one more. The
	// dot is sent as the end of one piece and again as the beginning of the next.
	if p[0] == '.' && w.prev[1] == '\n' {
		if w.prev[0] != '\r' {
			return errBareLF
		}
		if err := w.add(p[:1]); err != nil {
			return err
		}
	}
	for {
		i := lineDot(p[start:])
		if i < 0 {
			break
		}
		i += start
		if before := w.prev[1]; i > 0 && p[i-1] != '\r' || i == 0 && before != '\r' {
			return errBareLF
		}
		if err := w.add(p[start : i+2]); err != nil {
			return err
		}
		start = i + 1
	}
	w.ends(p)
	return w.add(p[start:])
}

// ends notes the last two octets of what was taken.
func (w *contentWriter) ends(p []byte) {
	w.prev[0] = w.prev[1]
	if len(p) > 1 {
		w.prev[0] = p[len(p)-2]
	}
	w.prev[1] = p[len(p)-1]
}

// lineDot returns where the first LF stands that a dot follows, -1 if there is
// none. Encoded files have no dots at all, so dots are what it looks for as long
// as they are few.
func lineDot(p []byte) int {
	for i, dots := 0, 0; ; {
		j := bytes.IndexByte(p[i:], '.')
		if j < 0 {
			return -1
		}
		if i += j; i > 0 && p[i-1] == '\n' {
			return i - 1
		}
		i++
		if dots++; dots > 4+i/256 {
			if j = manyDots(p[i:]); j < 0 {
				return -1
			}
			return i + j
		}
	}
}

// manyDots is lineDot for text with many dots. It compares eight octets with
// dots and those before them with LFs at a time: an octet of t is zero where both
// are equal, and its high bit is set in the octet of the mask. Above the lowest
// one the mask may err.
func manyDots(p []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+9 <= len(p); i += 8 {
		b := p[i : i+9]
		lf := binary.LittleEndian.Uint64(b) ^ '\n'*ones
		dot := binary.LittleEndian.Uint64(b[1:]) ^ '.'*ones
		t := lf | dot
		if mask := (t - ones) &^ t & highs; mask != 0 {
			return i + bits.TrailingZeros64(mask)/8
		}
	}
	if j := bytes.Index(p[i:], []byte("\n.")); j >= 0 {
		return i + j
	}
	return -1
}

// add queues p as it is.
func (w *contentWriter) add(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), blockSize)
		small := n < copyBelow || w.c.secure()
		if small {
			n = min(n, scratchSize)
		}
		if w.pending+n > blockSize || len(w.pieces) == maxPieces || small && len(w.scratch)+n > scratchSize {
			if err := w.flush(); err != nil {
				return err
			}
		}
		w.queue(p[:n], small)
		p = p[n:]
	}
	return nil
}

// queue appends p to what is pending, for which there is room.
func (w *contentWriter) queue(p []byte, small bool) {
	w.pending += len(p)
	if !small {
		w.pieces = append(w.pieces, p)
		return
	}
	at := len(w.scratch)
	w.scratch = append(w.scratch, p...)
	if n := len(w.pieces); n > 0 && at > 0 {
		// Grow the last piece if it is the one just before in scratch.
		if last := w.pieces[n-1]; len(last) <= at && &last[0] == &w.scratch[at-len(last)] {
			w.pieces[n-1] = w.scratch[at-len(last):]
			return
		}
	}
	w.pieces = append(w.pieces, w.scratch[at:])
}

// flush writes what is pending, under a deadline of its own.
func (w *contentWriter) flush() error {
	if w.pending == 0 {
		return nil
	}
	w.begun = true
	w.c.writeDeadline(w.c.o.BlockTimeout)
	var err error
	if to, ok := w.c.Conn.(*socket.Conn); ok {
		_, err = to.WriteBuffers(w.pieces)
	} else {
		w.out = w.pieces
		_, err = w.out.WriteTo(w.c.Conn)
	}
	w.reset()
	if err != nil {
		return fmt.Errorf("send content: %w", err)
	}
	return nil
}

// endOfContent ends the last line and the content (RFC 5321 section 4.1.1.4).
var endOfContent = []byte("\r\n.\r\n")

// end sends the rest of the content, and with DATA the dot that ends it. t.endSent
// is set just before: from then on the message may be accepted. early says that
// the next hop has no reason to have said anything yet.
func (w *contentWriter) end(endSent *bool, early bool) error {
	if w.stuff {
		end := endOfContent
		// The CRLF before the dot is the content's own, if it ends with one.
		if w.prev == [2]byte{'\r', '\n'} {
			end = end[2:]
		}
		if err := w.add(end); err != nil {
			return err
		}
	}
	// Content from memory that goes out in one write follows at once on the reply
	// that asked for it: what came with that reply has been read.
	if early && (w.c.r.Buffered() > 0 || w.begun && !w.c.quiet()) {
		return errEarly
	}
	*endSent = true
	return w.flush()
}
