package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"postern/filters/dmarc/report"
	"postern/mail"
)

// maxReport is how many bytes of one file, or of one message of an mbox file, are
// read.
const maxReport = 32 << 20

// A reportReader reads aggregate reports from files.
type reportReader struct {
	add      func(*report.Report)
	complain func(name string, err error)
	note     func(name, text string) // of errors in a report that was read; nil: nobody wants to know

	reports, failed int
	others          int // messages in mailboxes that are no reports
}

// read reads a file, or all files of a directory and of those in it.
func (r *reportReader) read(name string) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		r.fail(name, err)
	case !info.IsDir():
		r.file(name, false)
	default:
		err := filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				r.fail(path, err)
			case d.Type().IsRegular():
				r.file(path, true)
			}
			return nil
		})
		if err != nil {
			r.fail(name, err)
		}
	}
}

func (r *reportReader) fail(name string, err error) {
	r.failed++
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err // the name is told
	}
	r.complain(name, err)
}

// file reads one file. In a mailbox, a directory of messages too, not every
// message need be a report.
func (r *reportReader) file(name string, mailbox bool) {
	f, err := os.Open(name)
	if err != nil {
		r.fail(name, err)
		return
	}
	defer f.Close()
	b := bufio.NewReaderSize(f, 64<<10)
	if start, _ := b.Peek(5); string(start) == "From " {
		r.mbox(name, b)
		return
	}
	data, err := io.ReadAll(io.LimitReader(b, maxReport+1))
	if err != nil {
		r.fail(name, err)
		return
	}
	r.one(name, data, mailbox)
}

// one takes in what may be a report.
func (r *reportReader) one(name string, data []byte, mailbox bool) {
	rep, err := report.ParseReport(data)
	switch {
	case err == nil:
		r.reports++
		for _, p := range rep.Problems {
			if r.note != nil {
				r.note(name, p)
			}
		}
		r.add(rep)
	case mailbox && isOtherMail(data):
		r.others++
	default:
		r.fail(name, err)
	}
}

// isOtherMail reports whether data is a message that does not even say that it
// carries a report.
func isOtherMail(data []byte) bool {
	for _, start := range []string{"<", "\x1f\x8b", "PK"} {
		if bytes.HasPrefix(data, []byte(start)) {
			return false
		}
	}
	m := mail.ParseBytes(data[:min(len(data), 64<<10)], mail.Options{})
	// Reports about TLS have the same subject.
	tls := m.Header().Get("TLS-Report-Domain") != "" || strings.Contains(strings.ToLower(m.Header().Get("Content-Type")), "tlsrpt")
	return len(m.Header().All("From")) > 0 && (tls || !report.IsSubject(m.Subject()))
}

// mbox reads the messages of an mbox file: each begins with a line "From " that
// stands at the beginning or after an empty line.
func (r *reportReader) mbox(name string, b *bufio.Reader) {
	var message []byte
	n, empty, large := 0, true, false
	end := func() {
		switch at := fmt.Sprintf("%s, message %d", name, n); {
		case n == 0:
		case large:
			r.fail(at, fmt.Errorf("%w: more than %d bytes", report.ErrTooLarge, maxReport))
		default:
			r.one(at, message, true)
		}
		n++
		message, large = message[:0], false
	}
	for whole := true; ; { // whether what comes begins a line
		piece, err := b.ReadSlice('\n')
		if whole && empty && bytes.HasPrefix(piece, []byte("From ")) {
			end()
		} else if large = large || len(message)+len(piece) > maxReport; !large {
			message = append(message, piece...)
		}
		if whole {
			empty = len(bytes.TrimRight(piece, "\r\n")) == 0
		}
		whole = !errors.Is(err, bufio.ErrBufferFull)
		switch {
		case err == nil || !whole:
		case errors.Is(err, io.EOF):
			end()
			return
		default:
			r.fail(name, err)
			return
		}
	}
}
