package report

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"slices"
	"strings"
)

// nameSpace is that of RFC 9990 section 6.1.
const nameSpace = "urn:ietf:params:xml:ns:dmarc-2.0"

// The elements of a report as it is written, in the order of the tables in RFC
// 9990 section 3.1.1.
type (
	outFeedback struct {
		XMLName  xml.Name    `xml:"urn:ietf:params:xml:ns:dmarc-2.0 feedback"`
		Version  string      `xml:"version"`
		Metadata outMetadata `xml:"report_metadata"`
		Policy   outPolicy   `xml:"policy_published"`
		Records  []outRecord `xml:"record"`
	}
	outMetadata struct {
		Organisation string `xml:"org_name"`
		Email        string `xml:"email"`
		Contact      string `xml:"extra_contact_info,omitempty"`
		ID           string `xml:"report_id"`
		Begin        int64  `xml:"date_range>begin"`
		End          int64  `xml:"date_range>end"`
		Error        string `xml:"error,omitempty"`
		Generator    string `xml:"generator,omitempty"`
	}
	outPolicy struct {
		Domain    string `xml:"domain"`
		Discovery string `xml:"discovery_method,omitempty"`
		P         string `xml:"p"`
		SP        string `xml:"sp,omitempty"`
		NP        string `xml:"np,omitempty"`
		FO        string `xml:"fo,omitempty"`
		DKIM      string `xml:"adkim,omitempty"`
		SPF       string `xml:"aspf,omitempty"`
		Testing   string `xml:"testing"`
	}
	outRecord struct {
		Source       string      `xml:"row>source_ip"`
		Count        int64       `xml:"row>count"`
		Disposition  string      `xml:"row>policy_evaluated>disposition"`
		DKIM         string      `xml:"row>policy_evaluated>dkim"`
		SPF          string      `xml:"row>policy_evaluated>spf"`
		Reasons      []outReason `xml:"row>policy_evaluated>reason"`
		HeaderFrom   string      `xml:"identifiers>header_from"`
		EnvelopeFrom string      `xml:"identifiers>envelope_from"` // empty: the null reverse-path
		EnvelopeTo   string      `xml:"identifiers>envelope_to,omitempty"`
		Results      outResults  `xml:"auth_results"`
	}
	outReason struct {
		Type    string `xml:"type"`
		Comment string `xml:"comment,omitempty"`
	}
	outResults struct {
		DKIM []outAuth `xml:"dkim"`
		SPF  []outAuth `xml:"spf"`
	}
	outAuth struct {
		Domain   string `xml:"domain"`
		Selector string `xml:"selector,omitempty"`
		Scope    string `xml:"scope,omitempty"`
		Result   string `xml:"result"`
		Comment  string `xml:"human_result,omitempty"`
	}
)

// maxSignatures is how many signatures a record has (RFC 9990 section 3.1.3).
const maxSignatures = 100

// errEmpty is what XML says of a report without records.
var errEmpty = errors.New("a DMARC report needs a record")

// XML writes a report as RFC 9990 has it.
func (r *Report) XML() ([]byte, error) {
	if len(r.Records) == 0 {
		return nil, errEmpty
	}
	out := outFeedback{
		Version: "1.0",
		Metadata: outMetadata{
			Organisation: r.Organisation, Email: r.Email, Contact: r.Contact, ID: r.ID, Begin: r.Begin.Unix(), End: r.End.Unix(),
			Error: strings.Join(r.Problems, "; "), Generator: r.Generator,
		},
		Policy: outPolicy{
			Domain: r.Policy.Domain, Discovery: r.Policy.Discovery, P: r.Policy.P, SP: r.Policy.SP, NP: r.Policy.NP, FO: r.Policy.FO,
			DKIM: r.Policy.DKIM, SPF: r.Policy.SPF, Testing: "n",
		},
	}
	if r.Policy.Testing {
		out.Policy.Testing = "y"
	}
	for i := range r.Records {
		out.Records = append(out.Records, r.Records[i].out())
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	e := xml.NewEncoder(&b)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// out is the record as it is written.
func (r *Record) out() outRecord {
	o := outRecord{
		Source: r.Source.String(), Count: r.Count, Disposition: r.Disposition, DKIM: r.DKIM, SPF: r.SPF,
		HeaderFrom: r.HeaderFrom, EnvelopeFrom: r.EnvelopeFrom, EnvelopeTo: r.EnvelopeTo,
	}
	for _, reason := range r.Reasons {
		o.Reasons = append(o.Reasons, outReason(reason))
	}
	for _, a := range r.AuthDKIM[:min(len(r.AuthDKIM), maxSignatures)] {
		o.Results.DKIM = append(o.Results.DKIM, outAuth(a))
	}
	for _, a := range r.AuthSPF[:min(len(r.AuthSPF), 1)] { // RFC 9990 section 3.1.1.13: only that of MAIL
		o.Results.SPF = append(o.Results.SPF, outAuth(a))
	}
	return o
}

// Sort puts the records in order: the most messages first.
func (r *Report) Sort() {
	slices.SortStableFunc(r.Records, func(a, b Record) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), a.Source.Compare(b.Source), strings.Compare(a.HeaderFrom, b.HeaderFrom))
	})
}
