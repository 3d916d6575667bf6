package relay

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

func TestAppendPath(t *testing.T) {
	for _, c := range []struct{ local, domain, want string }{
		{"", "", "<>"},
		{"postmaster", "", "<postmaster>"},
		{"user", "example.com", "<user@example.com>"},
		{"a.b+c", "xn--bcher-kva.example", "<a.b+c@xn--bcher-kva.example>"},
		{`"quoted local"`, "example.com", `<"quoted local"@example.com>`},
		{`"a\"b\\c"`, "example.com", `<"a\"b\\c"@example.com>`},
		{"needs quotes", "example.com", `<"needs quotes"@example.com>`},
		{`vic@example.com> X`, "example.com", `<"vic@example.com> X"@example.com>`},
		{`a"b`, "example.com", `<"a\"b"@example.com>`},
		{`a\`, "example.com", `<"a\\"@example.com>`},
		{`"open`, "example.com", `<"\"open"@example.com>`},
		{`"a"b"`, "example.com", `<"\"a\"b\""@example.com>`},
		{`"end\"`, "example.com", `<"\"end\\\""@example.com>`},
		{".dot", "example.com", `<".dot"@example.com>`},
		{"two..dots", "example.com", `<"two..dots"@example.com>`},
		{"dot.", "example.com", `<"dot."@example.com>`},
		{"müller", "example.com", "<müller@example.com>"},
		{"user", "[192.0.2.1]", "<user@[192.0.2.1]>"},
		{"user", "[IPv6:2001:db8::1]", "<user@[IPv6:2001:db8::1]>"},
		{"user", "under_score.example", "<user@under_score.example>"},
		{"", "example.com", ""},
		{"new\r\nline", "example.com", ""},
		{"nul\x00", "example.com", ""},
		{"tab\t", "example.com", ""},
		{"del\x7f", "example.com", ""},
		{"bad\xff", "example.com", ""},
		{strings.Repeat("a", 2000), "example.com", ""},
		{"user", "example.com> SIZE=1", ""},
		{"user", "example.com\r\nDATA", ""},
		{"user", "exa mple.com", ""},
		{"user", ".example.com", ""},
		{"user", "example..com", ""},
		{"user", "example.com.", ""},
		{"user", "[", ""},
		{"user", "[]", ""},
		{"user", "[1.2.3.4", ""},
		{"user", "[1.2.3.4]>[", ""},
		{"user", "[1 2]", ""},
		{"user", `[1"]`, ""},
		{"user", "a@b", ""},
		{"user", "bad\xff.example", ""},
	} {
		got, err := appendPath(nil, mail.Path{Local: c.local, Domain: c.domain})
		if string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q@%q: got %q, %v, want %q", c.local, c.domain, got, err, c.want)
		}
	}
}

// FuzzPath checks that no path can end its command line or its argument.
func FuzzPath(f *testing.F) {
	f.Add(`"a b"`, "example.com")
	f.Add("a> b", "x")
	f.Add(`\`, "[x]")
	f.Add("0", `[0"]`)
	f.Fuzz(func(t *testing.T, local, domain string) {
		b, err := appendPath(nil, mail.Path{Local: local, Domain: domain})
		if err != nil {
			return
		}
		s, quoted := string(b), false
		if len(s) < 2 || s[0] != '<' || s[len(s)-1] != '>' {
			t.Fatalf("%q", s)
		}
		for i := 1; i < len(s)-1; i++ {
			switch c := s[i]; {
			case c < 0x20 || c == 0x7f:
				t.Fatalf("%q has a control character", s)
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case !quoted && (c == ' ' || c == '<' || c == '>'):
				t.Fatalf("%q ends early", s)
			}
		}
		if quoted {
			t.Fatalf("%q does not end its quotes", s)
		}
	})
}

func TestUnsayablePathsAreRefusedAlone(t *testing.T) {
	f := (&fake{}).start(t)
	c := newTestClient(t, Options{})
	m := newMail(sample, "good@example.com")
	for _, p := range []mail.Path{{Local: "evil\r\nRCPT TO:<x@y>", Domain: "example.com"}, {Local: "a", Domain: "x> y"}, {}} {
		m.To = append(m.To, mail.Recipient{Path: p})
	}
	out := c.Deliver(context.Background(), hopTo(f), m)
	for i, want := range []string{"2.0.0", "5.1.3", "5.1.3", "5.1.3"} {
		if out[i].Reply.Status() != want || out[i].Down || out[i].Recipient != m.To[i].Path {
			t.Errorf("recipient %d: %+v", i, out[i])
		}
	}
	m.From = mail.Path{Local: "evil\r\n", Domain: "example.com"}
	for _, o := range c.Deliver(context.Background(), hopTo(f), m) {
		if o.Reply.Status() != "5.1.7" {
			t.Errorf("%+v", o)
		}
	}
	if _, lines, _ := f.got(); len(lines) != 4 { // EHLO, MAIL, RCPT, DATA
		t.Errorf("%q", lines)
	}
	// Nobody to send to, nothing to do.
	if out := c.Deliver(context.Background(), hopTo(f), newMail(sample)); len(out) != 0 {
		t.Errorf("%+v", out)
	}
}

func TestParameters(t *testing.T) {
	full := Mail{
		Options: smtp.MailOptions{Return: smtp.DSNReturnHeaders, EnvelopeID: "id+1=2 é", Body: smtp.Body8BitMIME},
		To: []mail.Recipient{
			{Path: path("a@example.com"), Options: smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifyFailure, smtp.DSNNotifyDelayed}, OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "o+x@example.com"}},
			{Path: path("b@example.com"), Options: smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifyNever}, OriginalRecipientType: smtp.DSNAddressTypeUTF8, OriginalRecipient: "ö\\ x@example.com"}},
			{Path: path("c@example.com"), Options: smtp.RcptOptions{Notify: []smtp.DSNNotify{"FAILURE\r\nX"}, OriginalRecipientType: "X\r\n", OriginalRecipient: "y"}},
		},
	}
	for name, c := range map[string]struct {
		features []string
		change   func(*Mail)
		want     []string
	}{
		"all": {allFeatures, nil, []string{
			"MAIL FROM:<s@example.org> SIZE=3 BODY=8BITMIME RET=HDRS ENVID=id+2B1+3D2+20+C3+A9",
			"RCPT TO:<a@example.com> NOTIFY=FAILURE,DELAY ORCPT=rfc822;o+2Bx@example.com",
			`RCPT TO:<b@example.com> NOTIFY=NEVER ORCPT=utf-8;\x{F6}\x{5C}\x{20}x@example.com`,
			"RCPT TO:<c@example.com>"}},
		"none": {[]string{"PIPELINING"}, nil, []string{
			"MAIL FROM:<s@example.org>", "RCPT TO:<a@example.com>", "RCPT TO:<b@example.com>", "RCPT TO:<c@example.com>"}},
		"UTF8": {allFeatures, func(m *Mail) { m.UTF8, m.Options.EnvelopeID = true, strings.Repeat("x", 101) }, []string{
			"MAIL FROM:<s@example.org> SIZE=3 BODY=8BITMIME SMTPUTF8 RET=HDRS",
			"RCPT TO:<a@example.com> NOTIFY=FAILURE,DELAY ORCPT=rfc822;o+2Bx@example.com",
			`RCPT TO:<b@example.com> NOTIFY=NEVER ORCPT=utf-8;ö\x{5C}\x{20}x@example.com`,
			"RCPT TO:<c@example.com>"}},
		"null reverse-path": {allFeatures, func(m *Mail) {
			m.From, m.Options, m.To = mail.Path{}, smtp.MailOptions{Return: smtp.DSNReturnFull}, m.To[2:]
		}, []string{"MAIL FROM:<> SIZE=3 RET=FULL", "RCPT TO:<c@example.com>"}},
		"binary": {append([]string{"CHUNKING", "BINARYMIME"}, allFeatures...), func(m *Mail) {
			m.Options, m.To = smtp.MailOptions{Body: smtp.BodyBinaryMIME}, m.To[2:]
		}, []string{"MAIL FROM:<s@example.org> SIZE=3 BODY=BINARYMIME", "RCPT TO:<c@example.com>", "BDAT 3 LAST"}},
	} {
		f := (&fake{features: c.features}).start(t)
		m := full
		m.From, m.Bytes, m.Size = path("s@example.org"), [][]byte{[]byte("x\r\n")}, 3
		if c.change != nil {
			c.change(&m)
		}
		for _, o := range newTestClient(t, Options{}).Deliver(context.Background(), hopTo(f), &m) {
			if !o.Delivered || o.DSN != slices.Contains(c.features, "DSN") {
				t.Errorf("%s: %+v", name, o)
			}
		}
		if _, lines, _ := f.got(); !slices.Equal(lines[1:len(c.want)+1], c.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", name, lines[1:], c.want)
		}
	}
}

// TestNeverConverted goes through what a next hop may lack.
func TestNeverConverted(t *testing.T) {
	without := func(word string) []string {
		return slices.DeleteFunc(append([]string{"CHUNKING", "BINARYMIME"}, allFeatures...), func(s string) bool { return strings.HasPrefix(s, word) })
	}
	const beyond = "Subject: h\u00e9\r\n\r\nx\r\n"
	from := func(m *Mail, open func() io.Reader) { m.Bytes, m.Content, m.EightBit = nil, open, true }
	for name, c := range map[string]struct {
		features []string
		change   func(*Mail)
		want     string
	}{
		"8BITMIME":                {without("8BIT"), func(m *Mail) { *m, m.EightBit = *newMail(beyond, "a@example.com"), true }, "554 5.6.3"},
		"8BITMIME from a file":    {without("8BIT"), func(m *Mail) { from(m, func() io.Reader { return strings.NewReader(beyond) }) }, "554 5.6.3"},
		"8BITMIME cannot be read": {without("8BIT"), func(m *Mail) { from(m, func() io.Reader { return iotest.ErrReader(io.ErrClosedPipe) }) }, "554 5.6.3"},
		"8BITMIME only declared":  {without("8BIT"), func(m *Mail) { m.EightBit, m.Options.Body = true, smtp.Body8BitMIME }, "250"},
		"8BITMIME not needed":     {without("8BIT"), func(m *Mail) { m.Options.Body = smtp.Body8BitMIME }, "250"},
		"SMTPUTF8 content":        {without("SMTPUTF8"), func(m *Mail) { *m, m.UTF8 = *newMail(beyond, "a@example.com"), true }, "550 5.6.7"},
		"SMTPUTF8 only declared":  {without("SMTPUTF8"), func(m *Mail) { m.UTF8, m.Options.UTF8 = true, true }, "250"},
		"SMTPUTF8 reverse-path":   {without("SMTPUTF8"), func(m *Mail) { m.From.Local = "é" }, "550 5.6.7"},
		"SMTPUTF8 recipient":      {without("SMTPUTF8"), func(m *Mail) { m.To[0].Local = "é" }, "550 5.6.7"},
		"SMTPUTF8 not needed":     {without("SMTPUTF8"), func(m *Mail) { m.Options.UTF8 = true }, "250"},
		"BINARYMIME":              {without("BINARY"), func(m *Mail) { m.Options.Body = smtp.BodyBinaryMIME }, "554 5.6.3"},
		"CHUNKING for BINARYMIME": {without("CHUNKING"), func(m *Mail) { m.Options.Body = smtp.BodyBinaryMIME }, "554 5.6.3"},
		"room":                    {append([]string{"SIZE 10"}, without("SIZE")...), func(*Mail) {}, "552 5.3.4"},
		"SIZE 0":                  {append([]string{"SIZE 0"}, without("SIZE")...), func(*Mail) {}, "250"},
		"nothing":                 {[]string{}, func(*Mail) {}, "250"},
	} {
		f := (&fake{features: c.features}).start(t)
		m := newMail(sample, "a@example.com")
		c.change(m)
		client := newTestClient(t, Options{})
		for range 2 {
			o := client.Deliver(context.Background(), hopTo(f), m)[0]
			if !strings.HasPrefix(o.Reply.String(), c.want) || o.Delivered != (c.want == "250") || o.Down {
				t.Errorf("%s: %+v", name, o)
			}
		}
		mails, lines, sessions := f.got()
		if c.want != "250" && (len(mails) > 0 || len(lines) != 1 || sessions != 1) {
			t.Errorf("%s: said %q in %d sessions", name, lines, sessions)
		}
	}
}

// TestLackingNextToOthers says what holds when only some addresses lack what a
// message needs.
func TestLackingNextToOthers(t *testing.T) {
	plain := func() *fake { return (&fake{features: []string{"PIPELINING"}}).start(t) }
	m := newMail("Subject: h\u00e9\r\n\r\nx\r\n", "a@example.com")
	m.EightBit = true
	able := (&fake{}).start(t)
	if o := newTestClient(t, Options{}).Deliver(context.Background(), hopTo(plain(), able), m)[0]; !o.Delivered {
		t.Errorf("the able address is not tried: %+v", o)
	}
	hop := hopTo(plain())
	hop.To = append(hop.To, closedPort(t))
	if o := newTestClient(t, Options{}).Deliver(context.Background(), hop, m)[0]; !o.Reply.Temporary() || !o.Down {
		t.Errorf("an address that is down may be able: %+v", o)
	}
}

func TestHELO(t *testing.T) {
	f := (&fake{say: map[string]string{"EHLO": "502 5.5.1 what?"}}).start(t)
	if o := newTestClient(t, Options{}).Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))[0]; !o.Delivered {
		t.Errorf("%+v", o)
	}
	_, lines, _ := f.got()
	if !slices.Equal(lines[:3], []string{"EHLO gw.example.net", "HELO gw.example.net", "MAIL FROM:<sender@example.org>"}) {
		t.Errorf("%q", lines)
	}
	for name, want := range map[string]string{"": "localhost", "gw.example\r\nDATA": "localhost", "[192.0.2.1]": "[192.0.2.1]", "é.example": "localhost"} {
		if got := helloName(name); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}

func TestXForward(t *testing.T) {
	all := "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT"
	session := &mail.Session{
		Client: netip.MustParseAddrPort("[2001:db8::1]:2525"), ClientName: "host.example", Helo: "helo =+ name", ESMTP: true, Direction: mail.Inbound,
	}
	four := *session
	four.Client, four.ClientName, four.Helo, four.ESMTP, four.Direction = netip.MustParseAddrPort("[::ffff:192.0.2.1]:25"), "", "", false, mail.Outbound
	long := *session
	long.ClientName, long.Helo = strings.Repeat("n", 300), strings.Repeat("+", 300)
	for name, c := range map[string]struct {
		feature string
		client  *mail.Session
		off     bool
		want    []string
	}{
		"all":          {all, session, false, []string{"XFORWARD NAME=host.example ADDR=IPV6:2001:db8::1 PORT=2525 PROTO=ESMTP HELO=helo+20+3D+2B+20name IDENT=T1 SOURCE=REMOTE"}},
		"little known": {all, &four, false, []string{"XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.1 PORT=25 PROTO=SMTP HELO=[UNAVAILABLE] IDENT=T1 SOURCE=LOCAL"}},
		"some":         {"XFORWARD ADDR FOO", session, false, []string{"XFORWARD ADDR=IPV6:2001:db8::1"}},
		"empty":        {"XFORWARD", session, false, nil},
		"nothing":      {all, &mail.Session{}, false, []string{"XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=SMTP HELO=[UNAVAILABLE] IDENT=T1 SOURCE=REMOTE"}},
		"long": {all, &long, false, []string{
			"XFORWARD NAME=" + strings.Repeat("n", 255) + " ADDR=IPV6:2001:db8::1 PORT=2525 PROTO=ESMTP",
			"XFORWARD HELO=" + strings.Repeat("+2B", 255),
			"XFORWARD IDENT=T1 SOURCE=REMOTE"}},
		"not announced": {"FOO", session, false, nil},
		"not asked for": {all, session, true, nil},
		"our own mail":  {all, nil, false, nil},
	} {
		for _, features := range [][]string{allFeatures, lockstep()} {
			f := (&fake{features: append([]string{c.feature}, features...)}).start(t)
			hop := hopTo(f)
			hop.XForward = !c.off
			m := newMail(sample, "a@example.com")
			m.Client = c.client
			client := newTestClient(t, Options{})
			for range 2 {
				if o := client.Deliver(context.Background(), hop, m)[0]; !o.Delivered {
					t.Errorf("%s: %+v", name, o)
				}
			}
			var said []string
			_, lines, _ := f.got()
			for _, l := range lines {
				if strings.HasPrefix(l, "XFORWARD") {
					said = append(said, l)
				}
			}
			if want := append(slices.Clone(c.want), c.want...); !slices.Equal(said, want) {
				t.Errorf("%s:\ngot  %q\nwant %q", name, said, want)
			}
		}
	}
	// A next hop that does not want to know gets the mail all the same.
	f := (&fake{features: append([]string{all}, allFeatures...), say: map[string]string{"XFORWARD": "550 5.7.0 no"}}).start(t)
	hop := hopTo(f)
	hop.XForward = true
	m := newMail(sample, "a@example.com")
	m.Client = session
	if o := newTestClient(t, Options{}).Deliver(context.Background(), hop, m)[0]; !o.Delivered {
		t.Errorf("%+v", o)
	}
}

func TestLabel(t *testing.T) {
	for want, c := range map[string]target{
		"h[192.0.2.1]:25":   {network: "tcp", address: "192.0.2.1:25", as: "h"},
		"h[2001:db8::1]:25": {network: "tcp", address: net.JoinHostPort("2001:db8::1", "25"), as: "h"},
		"h[/run/lmtp]":      {network: "unix", address: "/run/lmtp", as: "h"},
		"h[odd]":            {network: "tcp", address: "odd", as: "h"},
	} {
		if got := c.label(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
