package relay

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stored is content in a file.
type stored struct {
	*os.File
	fails error // of Open
	opens int
}

func (s *stored) Open() (*os.File, error) {
	if s.opens++; s.fails != nil {
		return nil, s.fails
	}
	return os.Open(s.Name())
}

func store(t *testing.T, text string) *stored {
	t.Helper()
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &stored{File: f}
}

// mailOf is a mail of a field on top, and of what lies in the file from off on.
func mailOf(s *stored, off, n int64, dotless bool) *Mail {
	top := []byte("Received: from us\r\n")
	m := newMail("", "a@example.com")
	m.Bytes, m.Dotless, m.Size = nil, dotless, int64(len(top))+n
	m.Content = func() io.Reader {
		return io.MultiReader(strings.NewReader(string(top)), io.NewSectionReader(s, off, n))
	}
	m.Pieces = func(f func(b []byte, r io.ReaderAt, off, n int64)) {
		f(top, nil, 0, int64(len(top)))
		f(nil, s, off, n)
	}
	return m
}

// TestSendFile sends what lies in files, by DATA and by BDAT.
func TestSendFile(t *testing.T) {
	text := strings.Repeat("A line of some length that has no dot at its start.\r\n", 30_000)
	const off = 53 // of the second line
	for _, features := range [][]string{allFeatures, chunking()} {
		for _, c := range []struct {
			name    string
			n       int
			dotless bool
			fails   error
			opens   int
		}{
			{"large", len(text) - off, true, nil, 1},
			{"not ending with a line", len(text) - off - 10, true, nil, 1},
			{"small", 5300, true, nil, 0},
			{"cannot be opened", len(text) - off, true, os.ErrNotExist, 1},
		} {
			f := (&fake{features: features}).start(t)
			s := store(t, text)
			s.fails = c.fails
			m := mailOf(s, off, int64(c.n), c.dotless)
			out := newTestClient(t, Options{}).Deliver(context.Background(), hopTo(f), m)
			if !out[0].Delivered || s.opens != c.opens {
				t.Fatalf("%s: %+v, opened %d times", c.name, out[0], s.opens)
			}
			want := "Received: from us\r\n" + text[off:off+c.n]
			if len(features) == len(allFeatures) && !strings.HasSuffix(want, "\r\n") {
				want += "\r\n"
			}
			if got, _, _ := f.got(); len(got) != 1 || got[0] != want {
				t.Errorf("%s: something else arrived", c.name)
			}
		}
	}
}

// TestSendFileWithDots does not let the system send what may need dots.
func TestSendFileWithDots(t *testing.T) {
	text := strings.Repeat(".A line with a dot at its start, and it is not short.\r\n", 10_000)
	f := (&fake{features: allFeatures}).start(t)
	s := store(t, text)
	out := newTestClient(t, Options{}).Deliver(context.Background(), hopTo(f), mailOf(s, 0, int64(len(text)), false))
	if got, _, _ := f.got(); !out[0].Delivered || s.opens != 0 || len(got) != 1 || got[0] != "Received: from us\r\n"+text {
		t.Errorf("%+v, opened %d times", out[0], s.opens)
	}
}

// TestSendFileTooShort: a file that ends early is no delivery.
func TestSendFileTooShort(t *testing.T) {
	text := strings.Repeat("A line of some length that has no dot at its start.\r\n", 10_000)
	for _, features := range [][]string{allFeatures, chunking()} {
		f := (&fake{features: features}).start(t)
		s := store(t, text)
		out := newTestClient(t, Options{}).Deliver(context.Background(), hopTo(f), mailOf(s, 0, int64(len(text))+100_000, true))
		if out[0].Delivered || !out[0].Reply.Temporary() || !errors.Is(out[0].Err, errContent) {
			t.Errorf("%+v", out[0])
		}
		if got, _, _ := f.got(); len(got) != 0 {
			t.Error("something arrived")
		}
	}
}
