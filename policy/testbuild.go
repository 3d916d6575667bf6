package policy

import (
	"archive/zip"
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"

	"postern/mail"
)

// transaction makes the transaction that the test describes: real bytes, as
// they would come from a client.
func (p *Policy) transaction(t *Test) *mail.Transaction {
	m := &t.Mail
	direction, listener := p.testRoute(m)
	ours, theirs := "somebody@"+p.Site.Domains[0], "somebody@sender.example"
	from, to := cmp.Or(m.From, theirs), m.To
	if direction == mail.Outbound {
		from = cmp.Or(m.From, ours)
		ours = "somebody@recipient.example"
	}
	if len(to) == 0 {
		to = Words{ours}
	}
	author := path0(from)
	reverse := author
	if m.ReversePath != nil {
		reverse = path0(strings.Trim(*m.ReversePath, "<>"))
	}
	client := testClient(m, listener, direction)
	s := &mail.Session{
		ID: "test", Protocol: "SMTP", ESMTP: true, Role: mail.RoleInbound, Direction: direction,
		Peer: client, Client: client, User: m.User, Helo: cmp.Or(m.Helo, "mail."+author.Domain),
	}
	if listener != nil {
		s.Listener, s.Role = listener.Name, listener.Role
	}
	if m.TLS {
		s.TLS = mail.TLSFacts{Version: "TLS1.3", Cipher: "TLS_AES_256_GCM_SHA384"}
	}
	tx := &mail.Transaction{ID: "test", Session: s, At: m.At.in(p.zone)}
	if tx.At.IsZero() {
		tx.At = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	}
	tx.ReversePath = reverse
	for _, a := range to {
		tx.Recipients = append(tx.Recipients, mail.Recipient{Path: path0(a)})
	}
	tx.Message = mail.ParseBytes(m.bytes(from, to, tx.At), p.chain.ParseOptions())
	return tx
}

// path0 parses an address that the loader has checked.
func path0(s string) mail.Path {
	p, err := mail.ParsePath(s, true)
	if err != nil {
		return mail.Path{}
	}
	return p
}

// testRoute chooses direction and listener of a test.
func (p *Policy) testRoute(m *TestMail) (mail.Direction, *Listener) {
	outbound := func(l *Listener) bool { return l.Role == mail.RoleOutbound || l.Role == mail.RoleSubmission }
	if l, ok := p.Listener(m.Listener); ok {
		direction := m.Direction
		if direction == "" && (outbound(l) || m.User != "") {
			direction = mail.Outbound
		}
		return cmp.Or(direction, mail.Inbound), l
	}
	direction := cmp.Or(m.Direction, mail.Inbound)
	if m.Direction == "" && m.User != "" {
		direction = mail.Outbound
	}
	for i := range p.Listeners {
		if l := &p.Listeners[i]; outbound(l) == (direction == mail.Outbound) {
			return direction, l
		}
	}
	return direction, nil
}

// testClient is the client's address: for outbound mail one that the listener
// allows.
func testClient(m *TestMail, l *Listener, d mail.Direction) netip.AddrPort {
	client, err := netip.ParseAddr(m.Client)
	if err != nil {
		client = netip.AddrFrom4([4]byte{203, 0, 113, 9})
		if d == mail.Outbound && l != nil && len(l.Allow) > 0 {
			client = l.Allow[0].Addr()
		}
	}
	return netip.AddrPortFrom(client, 25025)
}

const testBoundary = "postern-test-boundary"

// bytes writes the message.
func (m *TestMail) bytes(from string, to []string, at time.Time) []byte {
	var b bytes.Buffer
	field := func(name, value string) { b.WriteString(mail.FoldField(name, value)) }
	given := map[string]bool{}
	for _, name := range sortedKeys(m.Header) {
		given[strings.ToLower(name)] = true
		field(name, m.Header[name])
	}
	standard := func(name, value string) {
		if !given[strings.ToLower(name)] {
			field(name, value)
		}
	}
	standard("Date", at.Format(time.RFC1123Z))
	standard("From", from)
	standard("To", strings.Join(to, ", "))
	standard("Subject", cmp.Or(m.Subject, "test"))
	standard("Message-ID", "<test@postern.example>")
	standard("MIME-Version", "1.0")
	if given["content-type"] {
		b.WriteString("\r\n" + crlf(m.Body))
		return b.Bytes()
	}
	if len(m.Attach) == 0 && m.HTML == "" {
		b.WriteString("Content-Type: text/plain; charset=utf-8\r\n\r\n" + crlf(m.Body))
		return b.Bytes()
	}
	kind := "mixed"
	if len(m.Attach) == 0 {
		kind = "alternative"
	}
	fmt.Fprintf(&b, "Content-Type: multipart/%s; boundary=\"%s\"\r\n\r\n", kind, testBoundary)
	part := func(header, body string) {
		fmt.Fprintf(&b, "--%s\r\n%s\r\n%s\r\n", testBoundary, header, body)
	}
	if m.Body != "" || m.HTML == "" {
		part("Content-Type: text/plain; charset=utf-8\r\n", crlf(m.Body))
	}
	if m.HTML != "" {
		part("Content-Type: text/html; charset=utf-8\r\n", crlf(m.HTML))
	}
	for i := range m.Attach {
		a := &m.Attach[i]
		header := mail.FoldField("Content-Type", cmp.Or(a.Type, "application/octet-stream")) +
			fmt.Sprintf("Content-Disposition: attachment; filename=\"%s\"\r\n", strings.NewReplacer(`"`, `\"`, "\r", "", "\n", "").Replace(a.Name)) +
			"Content-Transfer-Encoding: base64\r\n"
		part(header, lines76(base64.StdEncoding.EncodeToString(a.content())))
	}
	fmt.Fprintf(&b, "--%s--\r\n", testBoundary)
	return b.Bytes()
}

// crlf ends each line with CR LF.
func crlf(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
	if !strings.HasSuffix(s, "\r\n") {
		s += "\r\n"
	}
	return s
}

// lines76 breaks base64 text (RFC 2045 section 6.8).
func lines76(s string) string {
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return b.String() + s
}

// eicar is the standard file that every antivirus reports. It is put together
// here so that this program is not taken for it.
func eicar() string {
	return `X5O!P%@AP[4\PZX54(P^)7CC)7}` + "$EICAR-STANDARD-" + "ANTIVIRUS-TEST-FILE!$H+H*"
}

// magic is how files of an ending begin.
var magic = map[string]string{
	".exe": "MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff", ".dll": "MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff",
	".scr": "MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff", ".elf": "\x7fELF\x02\x01\x01\x00",
	".pdf": "%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n",
	".png": "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", ".jpg": "\xff\xd8\xff\xe0\x00\x10JFIF\x00", ".gif": "GIF89a\x01\x00\x01\x00",
	".rar": "Rar!\x1a\x07\x01\x00", ".7z": "7z\xbc\xaf\x27\x1c\x00\x04", ".gz": "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	".lnk": "L\x00\x00\x00\x01\x14\x02\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00F",
	".doc": "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ".xls": "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ".ppt": "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ".msi": "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
	".rtf": "{\\rtf1\\ansi test}", ".html": "<!DOCTYPE html><html><body>test</body></html>", ".htm": "<!DOCTYPE html><html><body>test</body></html>",
	".js": "var shell = new ActiveXObject('WScript.Shell');\n", ".vbs": "Set shell = CreateObject(\"WScript.Shell\")\r\n",
	".ps1": "Write-Output 'test'\r\n", ".bat": "@echo off\r\n", ".cmd": "@echo off\r\n", ".sh": "#!/bin/sh\necho test\n",
	".svg": "<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>", ".xml": "<?xml version=\"1.0\"?><test/>", ".eml": "Subject: test\r\n\r\ntest\r\n",
}

// members are the files inside archives of an ending.
var members = map[string][]string{
	".zip":  {"test.txt"},
	".jar":  {"META-INF/MANIFEST.MF", "Test.class"},
	".docx": {"[Content_Types].xml", "word/document.xml"},
	".docm": {"[Content_Types].xml", "word/document.xml", "word/vbaProject.bin"},
	".dotm": {"[Content_Types].xml", "word/document.xml", "word/vbaProject.bin"},
	".xlsx": {"[Content_Types].xml", "xl/workbook.xml"},
	".xlsm": {"[Content_Types].xml", "xl/workbook.xml", "xl/vbaProject.bin"},
	".pptx": {"[Content_Types].xml", "ppt/presentation.xml"},
	".pptm": {"[Content_Types].xml", "ppt/presentation.xml", "ppt/vbaProject.bin"},
}

// content is the attachment's content: as given, or what a file of its name has
// in it. A name that begins with eicar makes the EICAR test file, one that ends
// in .encrypted.zip an archive with a password.
func (a *TestPart) content() []byte {
	name := strings.ToLower(a.Name)
	ext := path.Ext(name)
	switch {
	case a.Content != "":
		return []byte(a.Content)
	case strings.HasPrefix(name, "eicar") && ext != ".zip":
		return []byte(eicar())
	case strings.HasPrefix(name, "eicar"):
		return zipOf(map[string]string{"eicar.com": eicar()}, []string{"eicar.com"})
	case ext == ".iso" || ext == ".img":
		image := make([]byte, 34*1024)
		copy(image[32769:], "CD001")
		return image
	case strings.HasSuffix(name, ".encrypted.zip"):
		return encryptedZip()
	case members[ext] != nil:
		return zipOf(nil, members[ext])
	case magic[ext] != "":
		return []byte(magic[ext])
	}
	return []byte("test\r\n")
}

// zipOf writes an archive.
func zipOf(contents map[string]string, names []string) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range names {
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write([]byte(cmp.Or(contents[name], "<test/>")))
		}
		if err != nil {
			return nil
		}
	}
	if w.Close() != nil {
		return nil
	}
	return b.Bytes()
}

// encryptedZip is an archive whose member claims to be encrypted: bit 0 of its
// flags, in the local header and in the directory.
func encryptedZip() []byte {
	z := zipOf(nil, []string{"secret.txt"})
	z[6] |= 1
	if at := bytes.Index(z, []byte("PK\x01\x02")); at >= 0 {
		z[at+8] |= 1
	}
	return z
}
