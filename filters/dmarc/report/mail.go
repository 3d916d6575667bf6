package report

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"postern/mail"
)

// An Envelope says how a report is sent.
type Envelope struct {
	From, To  mail.Path
	Submitter string // the domain that reports
	Date      time.Time
}

// fileName is the name of the attachment (RFC 9990 section 3.5.2). A report that
// is sent again has the same.
func (r *Report) fileName(submitter string) string {
	return fmt.Sprintf("%s!%s!%d!%d.xml.gz", submitter, r.Policy.Domain, r.Begin.Unix(), r.End.Unix())
}

// Mail writes the message that carries a report (RFC 9990 section 3.5.2): a
// sentence for people and the report, packed.
func (r *Report) Mail(e Envelope) ([]byte, error) {
	content, err := r.XML()
	if err != nil {
		return nil, err
	}
	packed, err := pack(content)
	if err != nil {
		return nil, fmt.Errorf("pack report: %w", err)
	}
	// What names this message, so that the same report to the same address is
	// always the same message.
	sum := sha256.Sum256([]byte(r.ID + " " + e.To.String()))
	mark := hex.EncodeToString(sum[:12])
	boundary := "=_" + mark
	var b bytes.Buffer
	b.WriteString(mail.FoldField("From", "<"+e.From.String()+">"))
	b.WriteString(mail.FoldField("To", "<"+e.To.String()+">"))
	b.WriteString(mail.FoldField("Subject", "Report Domain: "+r.Policy.Domain+" Submitter: "+e.Submitter+" Report-ID: <"+r.ID+">"))
	fmt.Fprintf(&b, "Date: %s\r\nMessage-ID: <dmarc.%s@%s>\r\n", e.Date.Format(time.RFC1123Z), mark, e.Submitter)
	b.WriteString("Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n") // RFC 3834 section 5
	fmt.Fprintf(&b, "Content-Type: multipart/mixed;\r\n\tboundary=\"%s\"\r\n\r\n", boundary)
	fmt.Fprintf(&b, "--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n", boundary)
	fmt.Fprintf(&b, "This is a DMARC aggregate report by %s\r\nabout mail with the domain %s\r\nfrom %s to %s.\r\n\r\n",
		e.Submitter, r.Policy.Domain, r.Begin.UTC().Format(time.RFC3339), r.End.UTC().Format(time.RFC3339))
	name := r.fileName(e.Submitter)
	fmt.Fprintf(&b, "--%s\r\nContent-Type: application/gzip;\r\n\tname=\"%s\"\r\nContent-Disposition: attachment;\r\n\tfilename=\"%s\"\r\n", boundary, name, name)
	b.WriteString("Content-Transfer-Encoding: base64\r\n\r\n")
	for text := base64.StdEncoding.EncodeToString(packed); text != ""; {
		n := min(len(text), 76) // RFC 2045 section 6.8
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return b.Bytes(), nil
}

func pack(content []byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(content); err != nil {
		return nil, err
	}
	err := z.Close()
	return b.Bytes(), err
}

// IsSubject reports whether a subject is that of a message that carries a report.
func IsSubject(subject string) bool {
	words := strings.Fields(subject)
	return len(words) >= 5 && strings.EqualFold(words[0], "Report") && strings.EqualFold(words[1], "Domain:") && strings.EqualFold(words[3], "Submitter:")
}
