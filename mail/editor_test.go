package mail

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// edited applies f and returns the bytes of the result.
func edited(t *testing.T, msg string, f func(*Editor)) (string, error) {
	t.Helper()
	e := ParseBytes([]byte(msg), Options{}).Edit()
	f(e)
	m, err := e.Message()
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(m.Reader())
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != m.Size() {
		t.Errorf("size %d, read %d", m.Size(), len(b))
	}
	if s, ok := m.Slices(); !ok || string(bytes.Join(s, nil)) != string(b) {
		t.Errorf("slices differ from what is read")
	}
	return string(b), nil
}

const (
	signed = "From: a@b\r\nMIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\nContent-Type: text/plain\r\n\r\nhi\r\n--s--\r\n"
	both   = "From: a@b\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=x\r\n\r\n" +
		"--x\r\nContent-Type: text/plain\r\n\r\nhi\r\n--x\r\nContent-Type: text/html\r\n\r\n<html><body class=a><p>hi</p></body></html>\r\n--x--\r\n"
)

func TestEditor(t *testing.T) {
	const msg = "Received: x\r\nSubject: a\r\n\tb\r\nX: 1\r\nx : 2\r\n\r\nbody\r\n"
	tests := []struct {
		name, msg string
		f         func(*Editor)
		want      string // "" is an error
	}{
		{"nothing", msg, func(*Editor) {}, msg},
		{"prepend", msg, func(e *Editor) { e.Prepend("A: 1\r\n", "B: 2") }, "A: 1\r\nB: 2\r\n" + msg},
		{"prepend twice", msg, func(e *Editor) { e.Prepend("A: 1"); e.Prepend("B: 2") }, "B: 2\r\nA: 1\r\n" + msg},
		{"prepend folded", msg, func(e *Editor) { e.Prepend("A: 1\r\n\t2\r\n") }, "A: 1\r\n\t2\r\n" + msg},
		{"prepend to a body", "hello\r\n", func(e *Editor) { e.Prepend("A: 1") }, "A: 1\r\n\r\nhello\r\n"},
		{"prepend to nothing", "", func(e *Editor) { e.Prepend("A: 1") }, "A: 1\r\n\r\n"},
		{"prepend to a mailbox line", "From a@b Mon\r\nA: 1\r\n\r\nx", func(e *Editor) { e.Prepend("B: 2") }, "B: 2\r\nA: 1\r\n\r\nx"},
		{"prepend to white space", " \r\n\t A: 1\r\n\r\nx", func(e *Editor) { e.Prepend("B: 2") }, "B: 2\r\nA: 1\r\n\r\nx"},
		{"prepend and remove", " A: 1\r\nC: 3\r\n\r\nx", func(e *Editor) { e.Prepend("B: 2"); e.RemoveAll("A") }, "B: 2\r\nC: 3\r\n\r\nx"},
		{"inject", msg, func(e *Editor) { e.Prepend("A: 1\r\nB: 2") }, ""},
		{"inject a body", msg, func(e *Editor) { e.Prepend("A: 1\r\n\r\nB") }, ""},
		{"inject LF", msg, func(e *Editor) { e.Prepend("A: 1\nB: 2") }, ""},
		{"no field", msg, func(e *Editor) { e.Prepend("hello") }, ""},
		{"blank fold", msg, func(e *Editor) { e.Prepend("A: 1\r\n \r\n") }, ""},
		{"remove all", msg, func(e *Editor) { e.RemoveAll("X") }, "Received: x\r\nSubject: a\r\n\tb\r\n\r\nbody\r\n"},
		{"remove twice", msg, func(e *Editor) { e.RemoveAll("X"); e.RemoveAll("X") }, "Received: x\r\nSubject: a\r\n\tb\r\n\r\nbody\r\n"},
		{"replace", msg, func(e *Editor) { e.Replace(e.m.Header().All("Subject")[0], "Subject: c") }, "Received: x\r\nSubject: c\r\nX: 1\r\nx : 2\r\n\r\nbody\r\n"},
		{"replace and remove", msg, func(e *Editor) { e.Replace(e.m.Header().All("X")[0], "X: 3"); e.RemoveAll("X") }, ""},
		{"part", both, func(e *Editor) { e.ReplacePart("2", []byte("\r\nnone")) }, both[:strings.Index(both, "Content-Type: text/html")] + "\r\nnone\r\n--x--\r\n"},
		{"no part", both, func(e *Editor) { e.ReplacePart("3", nil) }, ""},
		{"parts that overlap", both, func(e *Editor) { e.ReplacePart("2", nil); e.ReplacePart("", nil) }, ""},
		{"root", both, func(e *Editor) { e.ReplacePart("", []byte("Content-Type: text/plain\r\n\r\nnew\r\n")) },
			"From: a@b\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nnew\r\n"},
		{"root of plain text", msg, func(e *Editor) { e.ReplacePart("", []byte("Content-Type: text/html\r\n\r\nnew\r\n")) },
			strings.Replace(msg, "\r\n\r\nbody", "\r\nContent-Type: text/html\r\nMIME-Version: 1.0\r\n\r\nnew", 1)},
		{"prefix", msg, func(e *Editor) { e.PrefixText("top", "") }, strings.Replace(msg, "body", "top\r\nbody", 1)},
		{"append", msg, func(e *Editor) { e.AppendText("end\n", "") }, msg + "end\r\n"},
		{"around", msg, func(e *Editor) { e.PrefixText("top", ""); e.AppendText("end", "") }, strings.Replace(msg, "body", "top\r\nbody", 1) + "end\r\n"},
		{"both bodies", both, func(e *Editor) { e.PrefixText("p", "<i>q</i>"); e.AppendText("r", "<i>s</i>") },
			strings.Replace(strings.Replace(both, "\r\n\r\nhi", "\r\n\r\np\r\nhi\r\nr\r\n", 1), "<p>hi</p>", "<i>q</i><p>hi</p><i>s</i>", 1)},
		{"needs a charset", msg, func(e *Editor) { e.PrefixText("é", "") },
			strings.Replace(msg, "\r\n\r\nbody", "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n\r\n=C3=A9\r\nbody", 1)},
		{"has a charset", "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nx\r\n", func(e *Editor) { e.PrefixText("é", "") },
			"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=E9\r\nx\r\n"},
		{"charset too small", "Content-Type: text/plain; charset=iso-8859-1; format=flowed\r\nContent-Transfer-Encoding: base64\r\n\r\n6Q==\r\n", func(e *Editor) { e.PrefixText("日", "") },
			"Content-Type: text/plain; charset=utf-8; format=\"flowed\"\r\nContent-Transfer-Encoding: base64\r\n\r\n5pelDQrDqQ==\r\n"},
		{"HTML in ASCII", "Content-Type: text/html\r\n\r\n<p>x\r\n", func(e *Editor) { e.PrefixText("", "é") }, "Content-Type: text/html\r\n\r\n&#233;<p>x\r\n"},
		{"HTML without body", "Content-Type: text/html\r\n\r\n<!DOCTYPE html><html><head></head>x</html>", func(e *Editor) { e.AppendText("", "A"); e.PrefixText("", "B") },
			"Content-Type: text/html\r\n\r\n<!DOCTYPE html><html><head></head>BxA</html>"},
		{"empty part", top + "--foo\r\n\r\n" + fooEnd, func(e *Editor) { e.PrefixText("x", "") }, top + "--foo\r\n\r\nx\r\n\r\n" + fooEnd},
		{"empty part replaced", top + "--foo\r\n\r\n" + fooEnd, func(e *Editor) { e.ReplacePart("1", []byte("\r\nx")) }, top + "--foo\r\n\r\nx\r\n" + fooEnd},
		{"part without empty line", top + "--foo\r\nA: b\r\n" + fooEnd, func(e *Editor) { e.PrefixText("x", "") }, top + "--foo\r\nA: b\r\n\r\nx\r\n\r\n" + fooEnd},
		{"header without line end", "A: b", func(e *Editor) { e.PrefixText("x", "") }, "A: b\r\n\r\nx\r\n"},
		{"signed", signed, func(e *Editor) { e.PrefixText("x", "") }, ""},
		{"inline OpenPGP", "A: b\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n", func(e *Editor) { e.PrefixText("x", "") }, ""},
		{"unknown charset", "Content-Type: text/plain; charset=x-y\r\n\r\nx", func(e *Editor) { e.PrefixText("é", "") }, ""},
		{"UTF-16", "Content-Type: text/plain; charset=utf-16be\r\nContent-Transfer-Encoding: base64\r\n\r\nAGE=\r\n", func(e *Editor) { e.PrefixText("x", "") },
			"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\neA0KYQ==\r\n"},
		{"ambiguous", "Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nx", func(e *Editor) { e.PrefixText("x", "") }, ""},
		{"no text", "Content-Type: image/gif\r\n\r\nx", func(e *Editor) { e.PrefixText("x", "") }, ""},
		{"only an attachment", "Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nx", func(e *Editor) { e.PrefixText("x", "") }, ""},
		{"inside a message", "Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\nx", func(e *Editor) { e.PrefixText("x", "") }, ""},
	}
	for _, tt := range tests {
		got, err := edited(t, tt.msg, tt.f)
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("%s: got %q, want an error", tt.name, got)
		case tt.want == "" && !errors.Is(err, ErrEdit):
			t.Errorf("%s: %v does not wrap ErrEdit", tt.name, err)
		case tt.want != "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case got != tt.want:
			t.Errorf("%s:\ngot  %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

// TestEditChain edits an edited message from a file.
func TestEditChain(t *testing.T) {
	data := attachmentMail(300 << 10)
	m := Parse(bytes.NewReader(data), int64(len(data)), Options{})
	for i := range 3 {
		e := m.Edit()
		e.Prepend("X-Pass: " + string(rune('0'+i)))
		e.PrefixText("line "+string(rune('0'+i)), "")
		var err error
		if m, err = e.Message(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := io.ReadAll(m.Reader())
	if err != nil {
		t.Fatal(err)
	}
	want := "X-Pass: 2\r\nX-Pass: 1\r\nX-Pass: 0\r\n" + strings.Replace(string(data), "Here they are.", "line 2\r\nline 1\r\nline 0\r\nHere they are.", 1)
	if string(got) != want {
		t.Error("the edited message is not what it should be")
	}
	if m.Part("2").Hash() != ParseBytes(data, Options{}).Part("2").Hash() || len(m.Findings()) > 0 {
		t.Errorf("the attachment changed: %v", m.Findings())
	}
	if _, ok := m.Bytes(); ok {
		t.Error("an edited file is in memory")
	}
}

// TestEditCutHeader wants no field to stay behind unseen.
func TestEditCutHeader(t *testing.T) {
	m := ParseBytes([]byte("A: 1\r\nA: 2\r\nA: 3\r\n\r\nx"), Options{Limits: Limits{Fields: 2}})
	for name, f := range map[string]func(*Editor){
		"remove":  func(e *Editor) { e.RemoveAll("A") },
		"replace": func(e *Editor) { e.ReplacePart("", []byte("\r\ny")) },
		"prefix":  func(e *Editor) { e.PrefixText("y", "") },
	} {
		e := m.Edit()
		f(e)
		if _, err := e.Message(); !errors.Is(err, ErrEdit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEditReadError(t *testing.T) {
	m := Parse(failingReader{}, 1000, Options{})
	e := m.Edit()
	e.Prepend("A: b")
	if _, err := e.Message(); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want the read error", err)
	}
}

// FuzzEditor edits any message: what is added comes back, the rest is the same.
func FuzzEditor(f *testing.F) {
	f.Add([]byte(both), "A: b")
	f.Add([]byte(signed), "x")
	f.Add([]byte("hello"), "A: b\r\n\tc\r\n")
	f.Add([]byte("From x\r\n y\r\n\r\n"), "A: b")
	f.Fuzz(func(t *testing.T, msg []byte, field string) {
		m := ParseBytes(msg, Options{})
		e := m.Edit()
		e.Prepend(field)
		out, err := e.Message()
		if err != nil {
			return
		}
		got, err := io.ReadAll(out.Reader())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(got, msg[m.loose():]) {
			t.Fatalf("%q is not kept in %q", msg, got)
		}
		if h := out.Header(); h.Len() == 0 || !strings.HasPrefix(field, strings.TrimRight(string(h.Fields()[0].Raw()), "\r\n")) {
			t.Fatalf("%q is not on top of %q", field, got)
		}
		e = m.Edit()
		e.PrefixText("some text", "<b>some text</b>")
		if out, err = e.Message(); err == nil && !strings.Contains(out.Text(), "some text") {
			t.Fatalf("the text is not in %q", out.Text())
		}
	})
}
