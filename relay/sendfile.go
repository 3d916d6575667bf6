package relay

import (
	"fmt"
	"io"
	"os"

	"postern/socket"
)

// Pieces calls f for each piece of some content, in order: b is the piece or, if
// it is nil, the n octets of r from off on.
type Pieces func(f func(b []byte, r io.ReaderAt, off, n int64))

// An opener is content in a file that the system itself can send.
type opener interface{ Open() (*os.File, error) }

// heldBack is how much of a file is always sent as other content is: nothing
// before it can end the message, and it tells how the last line ends.
const heldBack = 16 << 10

// contentOf takes the content of m that is not in memory. What goes out as it
// lies in a file is sent by the system, past us.
func (w *contentWriter) contentOf(m *Mail) error {
	to, ok := w.c.Conn.(*socket.Conn)
	if m.Pieces == nil || !ok || w.stuff && !w.dotless {
		return w.readFrom(m.Content())
	}
	var err error
	m.Pieces(func(b []byte, r io.ReaderAt, off, n int64) {
		switch {
		case err != nil:
		case b != nil:
			err = w.take(b)
		default:
			err = w.fromFile(to, r, off, n)
		}
	})
	return err
}

// fromFile takes n octets of r from off on.
func (w *contentWriter) fromFile(to *socket.Conn, r io.ReaderAt, off, n int64) error {
	if err := w.flush(); err != nil { // what is pending may lie in w.block
		return err
	}
	if o, ok := r.(opener); ok && n > 4*heldBack {
		sent, err := w.sendFile(to, o, off, n-heldBack)
		if err != nil {
			return err
		}
		off, n = off+sent, n-sent
	}
	return w.readFrom(io.NewSectionReader(r, off, n))
}

// sendFile lets the system send n octets of a file from off on. It sends none if
// the file cannot be opened.
func (w *contentWriter) sendFile(to *socket.Conn, o opener, off, n int64) (sent int64, err error) {
	f, err := o.Open()
	if err != nil {
		return 0, nil // it is read as other content is, which tells what is wrong
	}
	defer f.Close()
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return 0, fmt.Errorf("%w: read: %w", errContent, err)
	}
	for sent < n {
		w.c.writeDeadline(w.c.o.BlockTimeout)
		k, err := to.ReadFrom(io.LimitReader(f, min(n-sent, blockSize)))
		sent += k
		w.total += k
		switch {
		case err != nil:
			return sent, fmt.Errorf("send content: %w", err)
		case k == 0:
			return sent, fmt.Errorf("%w: it has %d octets less than it should", errContent, n-sent)
		}
	}
	return sent, nil
}
