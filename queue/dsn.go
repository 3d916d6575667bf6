package queue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/spool"
)

// A ReportKind is what a DSN tells.
type ReportKind uint8

// What a DSN may tell.
const (
	ReportFailed  ReportKind = iota // given up
	ReportDelayed                   // late, still being tried
	ReportRelayed                   // handed on to where no DSN will come from
)

// A Report is all that a DSN is made of.
type Report struct {
	Kind      ReportKind
	Entry     spool.Entry
	To        []spool.Recipient // whom it is about; without a Hop: the reply is our own word
	Content   io.ReaderAt       // of the entry; nil: it cannot be read
	Size      int64             // of Content
	ReturnMax int64             // return no more than that of it
	Date      time.Time
	Until     time.Time // delayed: when it will be given up
	Hostname  string    // who reports
	Author    mail.Path
	Language  string // "fr": French, then English; else English
	Unique    string // for boundary and Message-ID
}

// headerMax is how much of a header section is returned.
const headerMax = 64 << 10

var errNoRecipients = errors.New("a DSN must be about a recipient")

// BuildDSN returns the message that reports to the reverse-path: a
// multipart/report (RFC 6522) of a text for people, a message/delivery-status
// (RFC 3464) and what is returned of the original.
func BuildDSN(r *Report) ([]byte, error) {
	if len(r.To) == 0 {
		return nil, errNoRecipients
	}
	utf8 := r.needsUTF8()
	original := r.original(utf8)
	boundary := "=_postern_" + r.Unique
	for bytes.Contains(original, []byte(boundary)) {
		boundary += "_"
	}
	var b bytes.Buffer
	b.WriteString(mail.FoldField("Date", r.Date.Format(time.RFC1123Z)))
	fmt.Fprintf(&b, "From: Mail Delivery System <%s>\r\n", r.Author)
	fmt.Fprintf(&b, "To: <%s>\r\n", r.Entry.From)
	b.WriteString(mail.FoldField("Subject", r.words().subject[r.Kind]))
	fmt.Fprintf(&b, "Message-ID: <%s@%s>\r\n", r.Unique, r.Hostname)
	b.WriteString("Auto-Submitted: auto-replied\r\n") // RFC 3834 section 5
	b.WriteString("MIME-Version: 1.0\r\n")
	kind := "delivery-status" // RFC 6522 section 3: report-type is the subtype of the second part
	if utf8 {
		kind = "global-delivery-status" // RFC 6533 section 6
	}
	fmt.Fprintf(&b, "Content-Type: multipart/report; report-type=%s;\r\n\tboundary=\"%s\"\r\n\r\n", kind, boundary)
	part := func(fields string) { fmt.Fprintf(&b, "--%s\r\n%s\r\n", boundary, fields) }

	part("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n")
	b.Write(quoted(r.text()))
	b.WriteString("\r\n")
	if utf8 {
		part("Content-Type: message/" + kind + "; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n")
		b.Write(quoted(r.status(true)))
	} else {
		part("Content-Type: message/" + kind + "\r\n")
		b.WriteString(r.status(false))
	}
	b.WriteString("\r\n")
	if len(original) > 0 {
		b.Write(append([]byte("--"+boundary+"\r\n"), original...))
		b.WriteString("\r\n")
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.Bytes(), nil
}

// needsUTF8 reports whether an address in the report is not ASCII.
func (r *Report) needsUTF8() bool {
	for i := range r.To {
		if !ascii(r.To[i].Path.String()) || !ascii(r.To[i].Options.OriginalRecipient) {
			return true
		}
	}
	return false
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c >= utf8.RuneSelf }) < 0
}

func quoted(s string) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	io.WriteString(w, s) // a bytes.Buffer takes everything
	w.Close()
	return b.Bytes()
}

// status is the body of message/delivery-status.
func (r *Report) status(utf8 bool) string {
	var b strings.Builder
	field := func(name, value string) {
		if value != "" {
			b.WriteString(statusField(name, value, utf8))
		}
	}
	field("Original-Envelope-Id", r.Entry.Options.EnvelopeID)
	field("Reporting-MTA", "dns; "+r.Hostname)
	field("Arrival-Date", r.Entry.Received.Format(time.RFC1123Z))
	field("X-Postern-Queue-ID", r.Entry.ID)
	for i := range r.To {
		b.WriteString("\r\n")
		to := &r.To[i]
		if orcpt := to.Options.OriginalRecipient; orcpt != "" {
			kind := string(to.Options.OriginalRecipientType)
			if kind == "" {
				kind = string(smtp.DSNAddressTypeRFC822)
			}
			field("Original-Recipient", strings.ToLower(kind)+"; "+orcpt)
		}
		kind := "rfc822"
		if !ascii(to.Path.String()) {
			kind = "utf-8"
		}
		field("Final-Recipient", kind+"; "+to.Path.String())
		field("Action", [...]string{"failed", "delayed", "relayed"}[r.Kind])
		field("Status", r.statusCode(to))
		if name := remoteMTA(to.Hop); name != "" {
			field("Remote-MTA", "dns; "+name)
		}
		if to.Reply.Code != 0 && to.Hop != "" { // RFC 3464 section 2.3.6: what the transport said, not we
			field("Diagnostic-Code", "smtp; "+to.Reply.String())
		}
		if !to.At.IsZero() {
			field("Last-Attempt-Date", to.At.Format(time.RFC1123Z))
		}
		if r.Kind == ReportDelayed && !r.Until.IsZero() {
			field("Will-Retry-Until", r.Until.Format(time.RFC1123Z))
		}
	}
	return b.String()
}

// remoteMTA is the name of a next hop that has one, else its address (RFC 3464
// section 2.1.2): "exchange[10.0.5.10]:25" bears our own name for it. What is
// reached through a file has neither.
func remoteMTA(hop string) string {
	name, rest, _ := strings.Cut(hop, "[")
	address, _, _ := strings.Cut(rest, "]")
	switch {
	case strings.HasPrefix(address, "/"):
		return ""
	case address != "" && !strings.Contains(name, "."):
		if strings.Contains(address, ":") {
			address = "IPv6:" + address
		}
		return "[" + address + "]"
	}
	return name
}

// statusCode is the code of the Status field: that of the reply, if it fits the
// action.
func (r *Report) statusCode(to *spool.Recipient) string {
	switch {
	case r.Kind == ReportRelayed:
		return "2.0.0"
	case r.Kind == ReportDelayed && !to.Reply.Temporary():
		return "4.0.0"
	case r.Kind == ReportFailed && to.State == spool.Expired:
		return "5.4.7" // RFC 3463 section 3.5: delivery time expired
	case r.Kind == ReportFailed && !to.Reply.Permanent():
		return "5.0.0"
	}
	return to.Reply.Status()
}

// statusField writes one field of message/delivery-status: printable, folded,
// in UTF-8 only where that is allowed.
func statusField(name, value string, utf8 bool) string {
	value = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && !utf8 {
			return '?'
		}
		return c
	}, strings.ReplaceAll(value, "\n", " "))
	line := name + ":"
	var b strings.Builder
	for i, word := range strings.Fields(value) {
		word = word[:min(len(word), 500)] // RFC 5321 section 4.5.3.1.6: no line over 998
		if i > 0 && len(line)+1+len(word) > 76 {
			b.WriteString(line + "\r\n")
			line = ""
		}
		line += " " + word
	}
	b.WriteString(line + "\r\n")
	return b.String()
}

// original is the last part, its header fields included: the message, its
// header section, or nothing.
func (r *Report) original(utf8 bool) []byte {
	if r.Content == nil {
		return nil
	}
	if r.full() {
		b := make([]byte, r.Size)
		if n, err := r.Content.ReadAt(b, 0); int64(n) == r.Size && (err == nil || errors.Is(err, io.EOF)) && sevenBit(b) {
			return append([]byte("Content-Type: message/rfc822\r\n\r\n"), b...)
		}
	}
	header := r.header()
	if header == nil {
		return nil
	}
	kind := "text/rfc822-headers"
	if utf8 || r.Entry.UTF8 {
		kind = "message/global-headers" // RFC 6533 section 6
	}
	if sevenBit(header) {
		return append([]byte("Content-Type: "+kind+"\r\n\r\n"), header...)
	}
	return append([]byte("Content-Type: "+kind+"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"), quoted(string(header))...)
}

// full reports whether the whole message may be returned.
func (r *Report) full() bool {
	d := r.Entry.Demands
	// RFC 8689 section 5: a message with REQUIRETLS is returned as if with
	// RET=HDRS.
	return r.Kind == ReportFailed && r.Entry.Options.Return == smtp.DSNReturnFull && r.Size <= r.ReturnMax &&
		!d.Encrypted && !d.RequireTLS && !r.Entry.Options.RequireTLS
}

func sevenBit(b []byte) bool {
	line := 0
	for _, c := range b {
		if c == '\n' {
			line = -1
		}
		if line++; c >= 0x80 || c == 0 || line > 1000 { // 998 and CRLF
			return false
		}
	}
	return true
}

// plainFields are what is returned of the header section of a message that must
// not travel in clear: who wrote to whom, when. No Subject, and nothing that
// we do not know.
var plainFields = []string{"Date", "From", "To", "Cc", "Message-ID", "In-Reply-To", "References"}

// header is what is returned of the header section.
func (r *Report) header() []byte {
	b := make([]byte, min(r.Size, headerMax))
	n, err := r.Content.ReadAt(b, 0)
	if int64(n) < int64(len(b)) && err != nil {
		return nil
	}
	b = b[:n]
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return nil
	}
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		b = b[:i+2]
	} else if i := bytes.LastIndex(b, []byte("\r\n")); i >= 0 {
		b = b[:i+2]
	}
	if !r.Entry.Demands.Encrypted {
		return b
	}
	var plain []byte
	keep := false
	for _, line := range bytes.SplitAfter(b, []byte("\r\n")) {
		if len(line) == 0 {
			continue
		}
		if line[0] != ' ' && line[0] != '\t' {
			name, _, ok := bytes.Cut(line, []byte(":"))
			keep = ok && oneOf(plainFields, strings.TrimRight(string(name), " \t"))
		}
		if keep {
			plain = append(plain, line...)
		}
	}
	return plain
}

func oneOf(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
