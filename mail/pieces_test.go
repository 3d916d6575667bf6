package mail

import (
	"io"
	"strings"
	"testing"
)

func TestPiecesOfAnEditedMessage(t *testing.T) {
	const text = "Subject: one\r\nFrom: a@example.org\r\n\r\nbody\r\n"
	r := strings.NewReader(text)
	e := Parse(r, int64(len(text)), Options{}).Edit()
	e.Prepend("Received: by us\r\n")
	m, err := e.Message()
	if err != nil {
		t.Fatal(err)
	}
	pieces, ok := m.ReaderAt().(interface {
		Pieces(func(b []byte, r io.ReaderAt, off, n int64))
	})
	if !ok {
		t.Fatal("an edited message has no pieces")
	}
	var got strings.Builder
	refers := false
	pieces.Pieces(func(b []byte, from io.ReaderAt, off, n int64) {
		if b != nil {
			got.Write(b)
			return
		}
		refers = refers || from == io.ReaderAt(r)
		io.Copy(&got, io.NewSectionReader(from, off, n))
	})
	if want := "Received: by us\r\n" + text; got.String() != want {
		t.Errorf("pieces make %q, want %q", got.String(), want)
	}
	if !refers {
		t.Error("no piece refers to the original")
	}
}
