package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/encoding/htmlindex"
)

// Limits of the content.
const (
	maxRecords  = 200_000
	maxList     = 100 // results and reasons of one record
	maxText     = 1000
	maxProblems = 20
)

// The elements of a report, whatever their name space (RFC 9990 appendix A, RFC
// 7489 appendix C). Everything is text: reporters write numbers in many ways.
type (
	xmlMetadata struct {
		Organisation string   `xml:"org_name"`
		Email        string   `xml:"email"`
		Contact      string   `xml:"extra_contact_info"`
		ID           string   `xml:"report_id"`
		Begin        string   `xml:"date_range>begin"`
		End          string   `xml:"date_range>end"`
		Generator    string   `xml:"generator"`
		Errors       []string `xml:"error"`
	}
	xmlPolicy struct {
		Domain     string `xml:"domain"`
		P          string `xml:"p"`
		SP         string `xml:"sp"`
		NP         string `xml:"np"`
		DKIM       string `xml:"adkim"`
		SPF        string `xml:"aspf"`
		FO         string `xml:"fo"`
		Testing    string `xml:"testing"`
		Percentage string `xml:"pct"`
		Discovery  string `xml:"discovery_method"`
	}
	xmlRecord struct {
		Source      string `xml:"row>source_ip"`
		Count       string `xml:"row>count"`
		Disposition string `xml:"row>policy_evaluated>disposition"`
		DKIM        string `xml:"row>policy_evaluated>dkim"`
		SPF         string `xml:"row>policy_evaluated>spf"`
		Reasons     []struct {
			Type    string `xml:"type"`
			Comment string `xml:"comment"`
		} `xml:"row>policy_evaluated>reason"`
		HeaderFrom   string    `xml:"identifiers>header_from"`
		EnvelopeFrom string    `xml:"identifiers>envelope_from"`
		EnvelopeTo   string    `xml:"identifiers>envelope_to"`
		AuthDKIM     []xmlAuth `xml:"auth_results>dkim"`
		AuthSPF      []xmlAuth `xml:"auth_results>spf"`
	}
	xmlAuth struct {
		Domain   string `xml:"domain"`
		Selector string `xml:"selector"`
		Scope    string `xml:"scope"`
		Result   string `xml:"result"`
		Comment  string `xml:"human_result"`
	}
)

// declared matches the encoding in an XML declaration.
var declared = regexp.MustCompile(`^<\?xml[^>]{0,200}encoding=["']([A-Za-z0-9._-]+)["']`)

// decode returns the text in UTF-8.
func decode(text []byte) ([]byte, error) {
	m := declared.FindSubmatch(text)
	if m == nil || strings.EqualFold(string(m[1]), "utf-8") {
		return bytes.ToValidUTF8(text, []byte("?")), nil
	}
	e, err := htmlindex.Get(string(m[1]))
	if err != nil {
		return nil, fmt.Errorf("%w: charset %q: %w", ErrNotReport, m[1], err)
	}
	return e.NewDecoder().Bytes(text)
}

// newDecoder returns a decoder that forgives what is not well formed. It knows
// no entities but the five of XML.
func newDecoder(text []byte) (*xml.Decoder, error) {
	text, err := decode(text)
	if err != nil {
		return nil, err
	}
	if !harmless(text) {
		return nil, fmt.Errorf("%w: its elements are too long or too deep", ErrTooLarge)
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	d.Strict = false
	d.CharsetReader = func(_ string, input io.Reader) (io.Reader, error) { return input, nil } // it is UTF-8 by now
	return d, nil
}

// Limits of the form: the decoder keeps all attributes of an element, and the
// names of all open elements, in many times the memory of their text.
const (
	maxTag   = 16 << 10
	maxDepth = 64
)

// harmless reports whether no tag is very long, no element very deep, and there
// is no document type, which could define entities.
func harmless(text []byte) bool {
	for depth := 0; ; {
		start := bytes.IndexByte(text, '<')
		if start < 0 {
			return true
		}
		text = text[start:]
		if skipped, ok := afterOpaque(text); ok {
			text = skipped
			continue
		}
		end := tagEnd(text)
		switch {
		case end < 0:
			return len(text) <= maxTag
		case end > maxTag || bytes.HasPrefix(text, []byte("<!")):
			return false
		case text[1] == '/':
			depth--
		case text[end-1] != '/':
			depth++
		}
		if depth > maxDepth {
			return false
		}
		text = text[end:]
	}
}

// opaque are the beginnings and ends of what has no tags in it.
var opaque = [][2]string{{"<!--", "-->"}, {"<![CDATA[", "]]>"}, {"<?", "?>"}}

// afterOpaque returns what follows a comment and its like; false if text begins
// with none.
func afterOpaque(text []byte) ([]byte, bool) {
	for _, o := range opaque {
		if rest, ok := bytes.CutPrefix(text, []byte(o[0])); ok {
			_, after, _ := bytes.Cut(rest, []byte(o[1])) // without end: an error for the decoder
			return after, true
		}
	}
	return nil, false
}

// tagEnd returns where the tag that text begins with ends, -1 if nowhere. A ">"
// in quotes does not end it.
func tagEnd(text []byte) int {
	var quote byte
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>':
			return i
		}
		if i > maxTag {
			return i
		}
	}
	return -1
}

// parseXML reads the first feedback element of a document.
func parseXML(text []byte) (*Report, error) {
	d, err := newDecoder(text)
	if err != nil {
		return nil, err
	}
	for {
		token, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: no feedback element: %w", ErrNotReport, err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "feedback" {
			break
		}
	}
	r := &Report{}
	known := 0
	for {
		token, err := d.Token()
		if err != nil {
			return r.ended(known, err)
		}
		switch t := token.(type) {
		case xml.EndElement:
			return r.ended(known, nil)
		case xml.StartElement:
			ok, err := r.element(d, t)
			switch {
			case err != nil:
				return r.ended(known, err)
			case ok:
				known++
			}
		}
		if len(r.Records) > maxRecords {
			return nil, fmt.Errorf("%w: more than %d records", ErrTooLarge, maxRecords)
		}
	}
}

// ended is the end of reading: an error after records were read is a problem of
// the report, one before makes it none.
func (r *Report) ended(known int, err error) (*Report, error) {
	switch {
	case err == nil && known == 0:
		return nil, fmt.Errorf("%w: an empty feedback element", ErrNotReport)
	case err != nil && len(r.Records) == 0:
		return nil, fmt.Errorf("%w: %w", ErrNotReport, err)
	case err != nil:
		r.problem("the report breaks off: %v", err)
	}
	return r, nil
}

func (r *Report) problem(format string, args ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, clip(fmt.Sprintf(format, args...)))
	}
}

// element reads one element below feedback; false if it is not known.
func (r *Report) element(d *xml.Decoder, start xml.StartElement) (bool, error) {
	switch start.Name.Local {
	case "report_metadata":
		var m xmlMetadata
		if err := d.DecodeElement(&m, &start); err != nil {
			return false, err
		}
		r.Organisation, r.Email, r.Contact, r.ID, r.Generator = clip(m.Organisation), clip(m.Email), clip(m.Contact), clip(m.ID), clip(m.Generator)
		r.Begin, r.End = r.time("begin", m.Begin), r.time("end", m.End)
		for _, text := range m.Errors {
			r.problem("the reporter says: %s", text)
		}
	case "policy_published":
		var p xmlPolicy
		if err := d.DecodeElement(&p, &start); err != nil {
			return false, err
		}
		r.Policy = Published{
			Domain: word(p.Domain), P: word(p.P), SP: word(p.SP), NP: word(p.NP), DKIM: word(p.DKIM), SPF: word(p.SPF), FO: word(p.FO),
			Testing: word(p.Testing) == "y", Percentage: word(p.Percentage), Discovery: word(p.Discovery),
		}
	case "record":
		var x xmlRecord
		if err := d.DecodeElement(&x, &start); err != nil {
			return false, err
		}
		r.record(&x)
	default:
		return false, d.Skip()
	}
	return true, nil
}

// time reads seconds since 1970.
func (r *Report) time(what, text string) time.Time {
	whole, _, _ := strings.Cut(strings.TrimSpace(text), ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n < 0 || n > 1<<35 {
		r.problem("%s is no time: %q", what, text)
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

// record takes a record in.
func (r *Report) record(x *xmlRecord) {
	n := len(r.Records) + 1
	rec := Record{
		Disposition: word(x.Disposition), DKIM: word(x.DKIM), SPF: word(x.SPF), HeaderFrom: word(x.HeaderFrom),
		EnvelopeFrom: word(x.EnvelopeFrom), EnvelopeTo: word(x.EnvelopeTo), AuthDKIM: auths(x.AuthDKIM), AuthSPF: auths(x.AuthSPF),
	}
	addr, err := netip.ParseAddr(strings.TrimSpace(x.Source))
	if err != nil {
		r.problem("record %d: %q is no address", n, x.Source)
	}
	rec.Source = addr.Unmap().WithZone("")
	rec.Count, err = strconv.ParseInt(strings.TrimSpace(x.Count), 10, 64)
	if err != nil || rec.Count < 0 || rec.Count > 1<<40 {
		r.problem("record %d: %q is no count", n, x.Count)
		rec.Count = 0
	}
	for _, reason := range x.Reasons[:min(len(x.Reasons), maxList)] {
		if reason.Type != "" || reason.Comment != "" {
			rec.Reasons = append(rec.Reasons, Reason{word(reason.Type), clip(reason.Comment)})
		}
	}
	r.Records = append(r.Records, rec)
}

func auths(list []xmlAuth) []Auth {
	var all []Auth
	for _, a := range list[:min(len(list), maxList)] {
		all = append(all, Auth{word(a.Domain), clip(a.Selector), word(a.Scope), word(a.Result), clip(a.Comment)})
	}
	return all
}

// word returns a text that is a word or a domain: in lower case.
func word(s string) string { return strings.TrimSuffix(strings.ToLower(clip(s)), ".") }

// clip returns text on one line, without control characters, of a bounded
// length.
func clip(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
}
