package queue

import (
	"bufio"
	"bytes"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/spool"
)

var update = flag.Bool("update", false, "write testdata/*.eml anew")

const originalText = "Received: from pc.example.org by gw.example.org; Sat, 21 Nov 2026 09:40:59 +0000\r\n" +
	"From: Alice <alice@example.org>\r\n" +
	"To: Bob <bob@partner.example>,\r\n\tCarol <carol@partner.example>\r\n" +
	"Subject: the secret plan\r\n" +
	"X-Project: condor\r\n" +
	"Date: Sat, 21 Nov 2026 09:40:58 +0000\r\n" +
	"Message-ID: <1@example.org>\r\n" +
	"\r\n" +
	"Dear Bob,\r\nthe plan is in the drawer.\r\n"

// newReport is a report about a failure; change makes another of it.
func newReport(change ...func(*Report)) *Report {
	r := &Report{
		Kind: ReportFailed, Date: start.Add(time.Hour), Hostname: "gw.example.org", Unique: "0123456789ab",
		Author: mail.Path{Local: "MAILER-DAEMON", Domain: "gw.example.org"}, ReturnMax: 1 << 20,
		Entry: spool.Entry{
			ID: "01J8ZK4R", Received: start, From: mail.Path{Local: "alice", Domain: "example.org"},
			Options: smtp.MailOptions{EnvelopeID: "QQ314159", Return: smtp.DSNReturnFull},
		},
		To: []spool.Recipient{{
			Recipient: mail.Recipient{Path: mail.Path{Local: "bob", Domain: "partner.example"}, Options: smtp.RcptOptions{
				OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "bobby@partner.example"}},
			State: spool.Failed, Reply: reply(550, 5, 1, 1, "<bob@partner.example>: Recipient address rejected:\nUser unknown in virtual mailbox table, see the postmaster"),
			Hop: "mx.partner.example[192.0.2.1]:25", At: start.Add(time.Hour),
		}},
	}
	withContent(r, originalText)
	for _, f := range change {
		f(r)
	}
	return r
}

func withContent(r *Report, text string) {
	r.Content, r.Size = strings.NewReader(text), int64(len(text))
}

func TestDSNGolden(t *testing.T) {
	tests := map[string]func(*Report){
		"failed": func(*Report) {},
		"failed-headers": func(r *Report) {
			r.Entry.Options = smtp.MailOptions{}
			r.To = append(r.To, spool.Recipient{Recipient: mail.Recipient{Path: mail.Path{Local: "carol", Domain: "partner.example"}},
				State: spool.Expired, Reply: reply(451, 4, 4, 1, "cannot connect"), At: start.Add(time.Hour)})
		},
		"failed-encrypted": func(r *Report) { r.Entry.Demands.Encrypted = true },
		"failed-fr":        func(r *Report) { r.Language = "fr"; r.Entry.Options.Return = smtp.DSNReturnHeaders },
		"failed-utf8": func(r *Report) {
			r.Entry.UTF8 = true
			r.To[0].Path = mail.Path{Local: "bjørn", Domain: "partner.example"}
			r.To[0].Options = smtp.RcptOptions{OriginalRecipientType: smtp.DSNAddressTypeUTF8, OriginalRecipient: "bjørn@partner.example"}
			withContent(r, strings.Replace(originalText, "Bob <bob@", "Bjørn <bjørn@", 1))
		},
		"delayed": func(r *Report) {
			r.Kind, r.Until = ReportDelayed, start.Add(5*24*time.Hour)
			r.To[0].State, r.To[0].Reply = spool.Pending, reply(450, 4, 2, 0, "greylisted")
		},
		"relayed": func(r *Report) {
			r.Kind = ReportRelayed
			r.To[0].State, r.To[0].Reply = spool.Delivered, reply(250, 2, 6, 0, "queued as 12345")
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := BuildDSN(newReport(change))
			if err != nil {
				t.Fatal(err)
			}
			readDSN(t, got)
			file := filepath.Join("testdata", name+".eml")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs; -update writes it anew:\n%s", file, got)
			}
		})
	}
}

// A readReport is a DSN as another program reads it.
type readReport struct {
	header  netmail.Header
	text    string
	message textproto.MIMEHeader
	rcpts   []textproto.MIMEHeader
	kind    string // of the last part
	rest    string
}

// readDSN reads a DSN with the standard library and checks its form.
func readDSN(t *testing.T, b []byte) readReport {
	t.Helper()
	for i, line := range strings.SplitAfter(string(b), "\n") {
		if line != "" && !strings.HasSuffix(line, "\r\n") || len(line) > 1000 || strings.ContainsRune(strings.TrimSuffix(line, "\r\n"), '\r') {
			t.Errorf("line %d: %q", i+1, line)
		}
	}
	if !sevenBit(b) {
		t.Error("a DSN must pass where 8BITMIME is not offered")
	}
	m, err := netmail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || !strings.HasSuffix(params["report-type"], "delivery-status") {
		t.Fatalf("%s %v: %v", kind, params, err)
	}
	if m.Header.Get("Auto-Submitted") != "auto-replied" {
		t.Error("it does not say that no person wrote it")
	}
	out := readReport{header: m.Header}
	mr := multipart.NewReader(m.Body, params["boundary"])
	for i := 0; ; i++ {
		p, err := mr.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var r io.Reader = p
		if p.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			r = quotedprintable.NewReader(p)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0:
			out.text = string(body)
		case 1:
			if k, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type")); k != "message/"+params["report-type"] {
				t.Errorf("second part is %s in a report of type %s", k, params["report-type"])
			}
			tr := textproto.NewReader(bufio.NewReader(strings.NewReader(string(body) + "\r\n\r\n")))
			if out.message, err = tr.ReadMIMEHeader(); err != nil {
				t.Fatal(err)
			}
			for {
				h, err := tr.ReadMIMEHeader()
				if len(h) == 0 || err != nil {
					break
				}
				out.rcpts = append(out.rcpts, h)
			}
		case 2:
			out.kind, out.rest = p.Header.Get("Content-Type"), string(body)
		default:
			t.Error("too many parts")
		}
	}
	if out.message.Get("Reporting-Mta") == "" || len(out.rcpts) == 0 {
		t.Errorf("status part: %v, %v", out.message, out.rcpts)
	}
	for _, h := range out.rcpts {
		for _, f := range []string{"Final-Recipient", "Action", "Status"} { // RFC 3464 section 2.3: required
			if h.Get(f) == "" {
				t.Errorf("no %s in %v", f, h)
			}
		}
	}
	return out
}

func TestDSNReturnsNothingSecret(t *testing.T) {
	for _, change := range []func(*Report){
		func(r *Report) { r.Entry.Demands.Encrypted = true },
		func(r *Report) { r.Entry.Demands.Encrypted, r.Entry.Options.Return = true, smtp.DSNReturnHeaders },
		func(r *Report) { r.Entry.Demands.Encrypted, r.Language = true, "fr" },
		func(r *Report) {
			r.Entry.Demands.Encrypted = true
			withContent(r, strings.Replace(originalText, "Subject: the", "SUBJECT : the", 1))
		},
		func(r *Report) {
			r.Entry.Demands.Encrypted = true
			withContent(r, strings.Replace(originalText, "Subject: the", "Subject:\r\n\tthe", 1))
		},
		func(r *Report) {
			r.Entry.Demands.Encrypted = true
			withContent(r, "the secret plan\r\n condor\r\nTo: x@example.org")
		},
	} {
		b, err := BuildDSN(newReport(change))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"secret plan", "condor", "drawer"} {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("%q is in the DSN:\n%s", secret, b)
			}
		}
	}
}

func TestDSNReturns(t *testing.T) {
	eight := strings.Replace(originalText, "Dear Bob", "Chère Bob", 1)
	eightHeader := strings.Replace(originalText, "secret", "sécret", 1)
	tests := []struct {
		name   string
		change func(*Report)
		kind   string
		body   bool
	}{
		{"RET=FULL", func(*Report) {}, "message/rfc822", true},
		{"RET=HDRS", func(r *Report) { r.Entry.Options.Return = smtp.DSNReturnHeaders }, "text/rfc822-headers", false},
		{"no RET", func(r *Report) { r.Entry.Options.Return = "" }, "text/rfc822-headers", false},
		{"too large", func(r *Report) { r.ReturnMax = 10 }, "text/rfc822-headers", false},
		{"8-bit body", func(r *Report) { withContent(r, eight) }, "text/rfc822-headers", false},
		{"8-bit header", func(r *Report) { withContent(r, eightHeader) }, "text/rfc822-headers", false},
		{"REQUIRETLS", func(r *Report) { r.Entry.Options.RequireTLS = true }, "text/rfc822-headers", false},
		{"demands REQUIRETLS", func(r *Report) { r.Entry.Demands.RequireTLS = true }, "text/rfc822-headers", false},
		{"delayed", func(r *Report) { r.Kind = ReportDelayed }, "text/rfc822-headers", false},
		{"relayed", func(r *Report) { r.Kind = ReportRelayed }, "text/rfc822-headers", false},
		{"unreadable", func(r *Report) { r.Content = nil }, "", false},
		{"cut", func(r *Report) { r.Size += 100 }, "", false},
		{"no header", func(r *Report) { withContent(r, "\r\nsecret body") }, "message/rfc822", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := BuildDSN(newReport(tt.change))
			if err != nil {
				t.Fatal(err)
			}
			got := readDSN(t, b)
			if got.kind != tt.kind {
				t.Errorf("returns %q, want %q", got.kind, tt.kind)
			}
			if body := strings.Contains(got.rest, "drawer") || strings.Contains(got.rest, "secret body"); body != tt.body {
				t.Errorf("returns the body: %v", body)
			}
		})
	}
}

// What the next hop says is not to be trusted.
func TestDSNFromHostileReplies(t *testing.T) {
	for _, text := range []string{
		"x\r\n\r\nAction: delivered\r\n", "x\nFinal-Recipient: rfc822; other@example.org", "\x00\x1b[31m\u202egnp.exe", strings.Repeat("long", 1000),
		"--=_postern_0123456789ab--", "\xff\xfe", "",
	} {
		r := newReport(func(r *Report) { r.To[0].Reply.Text = text; r.To[0].Hop = "evil\r\nX: y[1]:25" })
		b, err := BuildDSN(r)
		if err != nil {
			t.Fatal(err)
		}
		got := readDSN(t, b)
		if len(got.rcpts) != 1 || got.rcpts[0].Get("Action") != "failed" || len(got.rcpts[0]["Final-Recipient"]) != 1 {
			t.Errorf("%q: %v", text, got.rcpts)
		}
		if strings.ContainsAny(string(b), "\x00\x1b") || strings.Contains(string(b), "\r\nX: y") {
			t.Errorf("%q comes through:\n%s", text, b)
		}
	}
}

func TestDSNBoundaryIsNotInTheOriginal(t *testing.T) {
	r := newReport(func(r *Report) {
		withContent(r, originalText+"--=_postern_0123456789ab--\r\n--=_postern_0123456789ab_\r\n")
	})
	b, err := BuildDSN(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := readDSN(t, b); !strings.Contains(got.rest, "=_postern_0123456789ab_\r\n") {
		t.Errorf("the original is cut: %q", got.rest)
	}
}

func TestDSNAboutNobody(t *testing.T) {
	if _, err := BuildDSN(newReport(func(r *Report) { r.To = nil })); err == nil {
		t.Error("no error")
	}
}

// Bounce makes the report for mail that was refused in the dialogue.
func TestBounce(t *testing.T) {
	b := newBench(t)
	r := newReport()
	e := r.Entry
	e.To = r.To
	got, err := b.q.Bounce(e, mail.ParseBytes([]byte(originalText), mail.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if d := readDSN(t, got); len(d.rcpts) != 1 || d.rcpts[0].Get("Status") != "5.1.1" || !strings.Contains(d.rest, "drawer") {
		t.Errorf("%+v", d)
	}
}

// A DSN names the next hop by what others know it by, never by the name that
// the policy has for it.
func TestRemoteMTA(t *testing.T) {
	for hop, want := range map[string]string{
		"":                                 "",
		"mx1.example.net[192.0.2.1]:25":    "mx1.example.net",
		"exchange[10.0.5.10]:25":           "[10.0.5.10]",
		"exchange[2001:db8::1]:25":         "[IPv6:2001:db8::1]",
		"mailbox[/run/dovecot/lmtp]":       "",
		"mailbox.local[/run/dovecot/lmtp]": "",
		"mx1.example.net":                  "mx1.example.net",
	} {
		if got := remoteMTA(hop); got != want {
			t.Errorf("remoteMTA(%q) = %q, want %q", hop, got, want)
		}
	}
}
