package mail

import (
	"bytes"
	"io"
	"strings"
	"sync/atomic"
	"testing"
)

// A countingReaderAt counts the bytes that are read from it.
type countingReaderAt struct {
	io.ReaderAt
	n atomic.Int64
}

func (c *countingReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n.Add(int64(n))
	return n, err
}

// An ordinary part has no other readings, and asking for them must not read it:
// it may be large.
func TestReadingsOfAnOrdinaryPartReadNothing(t *testing.T) {
	text := "Subject: large\r\nContent-Type: text/plain\r\n\r\n" + strings.Repeat("one line of it\r\n", 1<<18)
	r := &countingReaderAt{ReaderAt: strings.NewReader(text)}
	m := Parse(r, int64(len(text)), Options{})
	root := m.Root()
	m.Findings()
	before := r.n.Load()
	if got := root.Readings(); len(got) != 0 {
		t.Errorf("%d other readings", len(got))
	}
	if n := r.n.Load() - before; n != 0 {
		t.Errorf("read %d bytes to find that there is nothing to read", n)
	}
	b, err := root.Bytes()
	if err != nil || !bytes.HasSuffix(b, []byte("one line of it\r\n")) {
		t.Errorf("Bytes: %d bytes, %v", len(b), err)
	}
}
