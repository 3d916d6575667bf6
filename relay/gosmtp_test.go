package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// A sink is go-smtp's server, keeping what it gets.
type sink struct {
	mu    sync.Mutex
	mails []received
	rcpt  func(to string) error
	data  func([]byte) error
}

type received struct {
	from string
	opts smtp.MailOptions
	to   []string
	rcpt []smtp.RcptOptions
	data []byte
}

type sinkSession struct {
	*sink
	m received
}

func (s *sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }
func (s *sinkSession) Reset()                               { s.m = received{} }
func (s *sinkSession) Logout() error                        { return nil }
func (s *sinkSession) Mail(from string, o *smtp.MailOptions) error {
	s.m.from, s.m.opts = from, *o
	return nil
}
func (s *sinkSession) Rcpt(to string, o *smtp.RcptOptions) error {
	if s.rcpt != nil {
		if err := s.rcpt(to); err != nil {
			return err
		}
	}
	s.m.to, s.m.rcpt = append(s.m.to, to), append(s.m.rcpt, *o)
	return nil
}
func (s *sinkSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.data != nil {
		if err := s.data(b); err != nil {
			return err
		}
	}
	m := s.m
	m.data = b
	s.mu.Lock()
	s.mails = append(s.mails, m)
	s.mu.Unlock()
	return nil
}
func (s *sinkSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	if err := s.Data(r); err != nil {
		return err
	}
	for _, to := range s.m.to {
		if to == "second@example.com" {
			status.SetStatus(to, &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "full"})
		} else {
			status.SetStatus(to, nil)
		}
	}
	return nil
}

func (s *sink) got() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.mails...)
}

// startSink starts go-smtp's server and returns its address.
func startSink(t testing.TB, s *sink, network string, tune func(*smtp.Server)) string {
	t.Helper()
	srv := smtp.NewServer(s)
	srv.Domain = "sink.example"
	srv.MaxLineLength = 1 << 30
	srv.MaxMessageBytes = 1 << 30
	srv.EnableSMTPUTF8, srv.EnableDSN, srv.EnableREQUIRETLS = true, true, true
	srv.ErrorLog = quiet{}
	if tune != nil {
		tune(srv)
	}
	address, prefix := "127.0.0.1:0", ""
	if network == "unix" {
		address, prefix = t.TempDir()+"/s", "unix:"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return prefix + l.Addr().String()
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// newTestClient returns a client with short times.
func newTestClient(t testing.TB, o Options) *Client {
	t.Helper()
	if o.Hostname == "" {
		o.Hostname = "gw.example.net"
	}
	c := New(o)
	t.Cleanup(c.Close)
	return c
}

// path returns the path that s names; tests need no grammar.
func path(s string) mail.Path {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '@' {
			return mail.Path{Local: s[:i], Domain: s[i+1:]}
		}
	}
	return mail.Path{Local: s}
}

func newMail(content string, to ...string) *Mail {
	m := &Mail{ID: "T1", From: path("sender@example.org"), Size: int64(len(content)), Bytes: [][]byte{[]byte(content)}}
	for _, p := range to {
		m.To = append(m.To, mail.Recipient{Path: path(p)})
	}
	return m
}

const sample = "From: sender@example.org\r\nSubject: test\r\n\r\nHello.\r\n.\r\n..two\r\nEnd\r\n"

func TestDeliverToGoSMTP(t *testing.T) {
	s := &sink{rcpt: func(to string) error {
		if to == "nobody@example.com" {
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
		}
		return nil
	}}
	address := startSink(t, s, "tcp", nil)
	c := newTestClient(t, Options{})
	hop := &Hop{Name: "sink", To: []string{address}, TLS: TLSNone}
	for n := range 3 {
		out := c.Deliver(context.Background(), hop, newMail(sample, "user@example.com", "nobody@example.com", "other@example.com"))
		for i, want := range []int{250, 550, 250} {
			if out[i].Reply.Code != want || out[i].Delivered != (want == 250) {
				t.Errorf("round %d recipient %d: %+v", n, i, out[i])
			}
		}
		if out[0].Hop == "" || out[0].TLS != "none" {
			t.Errorf("outcome does not say where: %+v", out[0])
		}
	}
	got := s.got()
	if len(got) != 3 {
		t.Fatalf("%d mails", len(got))
	}
	for _, m := range got {
		if string(m.data) != sample || m.from != "sender@example.org" || fmt.Sprint(m.to) != "[user@example.com other@example.com]" {
			t.Errorf("got %+v", m)
		}
	}
	if st := c.Stats(); st.Dialed != 1 || st.Reused != 2 || st.Idle != 1 || st.Busy != 0 || st.Delivered != 6 || st.Refused != 3 {
		t.Errorf("stats: %+v", st)
	}
}

func TestDeliverLarge(t *testing.T) {
	s := &sink{}
	address := startSink(t, s, "tcp", nil)
	c := newTestClient(t, Options{})
	hop := &Hop{Name: "sink", To: []string{address}, TLS: TLSNone}
	content := bytes.Repeat([]byte(sample), 40000)
	for _, m := range []*Mail{
		{Bytes: [][]byte{content}},
		{Bytes: [][]byte{content[:1000], content[1000:1003], content[1003:]}},
		{Content: func() io.Reader { return bytes.NewReader(content) }},
	} {
		m.From, m.Size = path("a@example.org"), int64(len(content))
		m.To = []mail.Recipient{{Path: path("b@example.com")}}
		start := time.Now()
		out := c.Deliver(context.Background(), hop, m)
		if !out[0].Delivered {
			t.Fatalf("%+v", out[0])
		}
		t.Log(time.Since(start))
	}
	for i, m := range s.got() {
		if !bytes.Equal(m.data, content) {
			t.Errorf("mail %d changed", i)
		}
	}
}

func TestDeliverLMTP(t *testing.T) {
	s := &sink{}
	for _, network := range []string{"unix", "tcp"} {
		address := startSink(t, s, network, func(srv *smtp.Server) { srv.LMTP = true })
		c := newTestClient(t, Options{})
		hop := &Hop{Name: "dovecot", To: []string{address}, LMTP: true, TLS: TLSNone}
		out := c.Deliver(context.Background(), hop, newMail(sample, "first@example.com", "second@example.com", "third@example.com"))
		for i, want := range []int{250, 452, 250} {
			if out[i].Reply.Code != want {
				t.Errorf("%s: recipient %d: %+v", network, i, out[i])
			}
		}
	}
}
