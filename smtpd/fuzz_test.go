package smtpd

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/mail"
)

// script is a connection whose client has said everything already, in pieces
// of some size, and then closes.
type script struct {
	in    []byte
	piece int
	out   bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	n := min(len(p), len(s.in), s.piece)
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	copy(p, s.in[:n])
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4711} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// FuzzSession plays arbitrary octets to a session: whatever they are, each
// transaction ends once, and what is accepted is whole and canonical.
func FuzzSession(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		f.Add(dialogOctets(f, file), byte(0))
	}
	f.Add([]byte("EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<v@victim.test>\r\nBDAT 5 LAST\r\nab\r\n\r\nQUIT\r\n"), byte(3))
	sp := newSpool(f)
	f.Fuzz(func(t *testing.T, in []byte, mode byte) {
		b := &backend{}
		c := Config{Hostname: "gw.test", Spool: sp, AuthDelay: 1, TrustXForward: loopback, TrustXClient: loopback, LMTP: mode&1 != 0,
			Limits: Limits{Message: 1000, Recipients: 3}}
		if mode&2 != 0 {
			c.BareNewline = "normalise"
		}
		mails := 0
		b.onMail = func(*mail.Transaction) { mails++ }
		srv := NewServer(c, b)
		conn := &script{in: in, piece: 1 + int(mode>>2)*7}
		srv.begin(srv.settings.Load(), conn).serve()
		if srv.Sessions() != 0 || len(srv.sessions) != 0 || len(srv.visitors.known) != 0 {
			t.Error("something of the session is left")
		}
		if mails != b.aborted+len(b.got) {
			t.Errorf("%d transactions, %d aborted, %d complete", mails, b.aborted, len(b.got))
		}
		if n := bytes.Count(in, []byte("\r\n.\r\n")) + bytes.Count(bytes.ToUpper(in), []byte("LAST")); len(b.got) > n {
			t.Errorf("%d messages from %d ends", len(b.got), n)
		}
		for _, m := range b.got {
			if len(m.tx.Recipients) == 0 || strings.ContainsAny(strings.ReplaceAll(m.text, "\r\n", ""), "\r\n\x00") || m.text != "" && !strings.HasSuffix(m.text, "\r\n") || len(m.text) > 2002 {
				t.Errorf("accepted %q for %d recipients", m.text, len(m.tx.Recipients))
			}
		}
		checkReplies(t, conn.out.String())
	})
}

// checkReplies: everything that was said is reply lines.
func checkReplies(t *testing.T, out string) {
	t.Helper()
	for out != "" {
		line, rest, ok := strings.Cut(out, "\r\n")
		if !ok || len(line) < 4 || len(line) > 510 || line[0] < '2' || line[0] > '5' || line[3] != ' ' && line[3] != '-' || strings.ContainsAny(line, "\r\n\x00") {
			t.Fatalf("reply line %q", line)
		}
		out = rest
	}
}

// dialogOctets returns what the client says in a dialog.
func dialogOctets(t testing.TB, file string) []byte {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, line := range strings.Split(string(text), "\n") {
		if l, ok := strings.CutPrefix(line, "C: "); ok {
			b.WriteString(l + "\r\n")
		}
	}
	return b.Bytes()
}

func TestFields(t *testing.T) {
	for in, want := range map[string]string{"a+2Bb": "a+b", "": "", "+41": "A"} {
		if got, err := decodeXtext(in); err != nil || got != want {
			t.Errorf("xtext %q: %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"+", "+4", "+GG", "a=b", "a b", "\x7f", "\xe9"} {
		if got, err := decodeXtext(bad); err == nil {
			t.Errorf("xtext %q: %q", bad, got)
		}
	}
	for in, want := range map[string]string{`a\x{E9}b`: "aéb", "é": "é", `\x{1F600}`: "😀"} {
		if got, err := decodeUnitext(in, true); err != nil || got != want {
			t.Errorf("unitext %q: %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{`\x{}`, `\x{110000}`, `\x{41`, `\y`, "a b", "é"} {
		if got, err := decodeUnitext(bad, false); err == nil {
			t.Errorf("unitext %q: %q", bad, got)
		}
	}
}

// FuzzParameters: what is parsed holds what the rest of the program relies on.
func FuzzParameters(f *testing.F) {
	for _, s := range []string{"FROM:<a@b.test> SIZE=10 BODY=8BITMIME", `FROM:<"a>b\""@c.test> RET=FULL ENVID=a+2Bb`, "FROM:<> AUTH=<>", "TO:<a@b> NOTIFY=NEVER ORCPT=utf-8;a\\x{E9}"} {
		f.Add(s)
	}
	set := (Config{Auth: true}).withDefaults()
	f.Fuzz(func(t *testing.T, arg string) {
		s := &session{set: set, facts: &mail.Session{ESMTP: true}}
		path, rest, ok := splitPath(arg, "FROM:")
		if !ok {
			if path, rest, ok = splitPath(arg, "TO:"); !ok {
				return
			}
		}
		if !strings.Contains(arg, "<"+path+">"+rest) {
			t.Errorf("%q: path %q, rest %q", arg, path, rest)
		}
		if o, err := s.mailOptions(rest); err == nil {
			if o.Size < 0 || o.Size > set.Limits.Message || !printableASCII(o.EnvelopeID) {
				t.Errorf("%q: %+v", rest, o)
			}
		}
		if o, err := s.rcptOptions(rest, true); err == nil && !clean(o.OriginalRecipient) {
			t.Errorf("%q: %+v", rest, o)
		}
	})
}
