// Package report reads and writes aggregate reports: what an organisation saw in
// a day of the mail with a domain as author (RFC 9990, and the form of RFC 7489
// before it).
//
// Sums makes a table of the reports that others send about our domains: source,
// messages, how many pass and how many fail. XML and Mail write those that we
// send, as RFC 9990 has them.
//
// ParseReport takes what comes: XML, packed by gzip or zip or not, or the whole
// message that it came in. Anybody can send us such a thing, so that it is read
// as hostile: its size unpacked, the number of its records and the length of its
// texts are bounded, entities are not expanded and nothing outside of it is
// looked at. Those of real reporters have all kinds of errors; what can be read
// in spite of them is, and what was left out is in Problems.
//
// A report is a claim of whoever sent it: whether that one is to be believed is
// for the caller to know.
//
// # Diagnostics
//
// Errors of reading wrap ErrNotReport if there is no report in the data, and
// ErrTooLarge if it is beyond the limits. XML refuses a report without records,
// which RFC 9990 does not know.
package report

import (
	"errors"
	"net/netip"
	"time"
)

// Errors of ParseReport.
var (
	ErrNotReport = errors.New("not a DMARC aggregate report")
	ErrTooLarge  = errors.New("DMARC report is too large")
)

// A Report is one aggregate report: what one organisation saw of one domain in a
// time.
type Report struct {
	Organisation string // who reports
	Email        string
	Contact      string
	ID           string
	Begin, End   time.Time
	Generator    string
	Policy       Published
	Records      []Record
	Problems     []string // what the report has errors in
}

// Published is the policy that the reporter found.
type Published struct {
	Domain     string
	P, SP, NP  string
	DKIM, SPF  string // alignment: "r", "s", or empty
	FO         string // when failure reports are wanted
	Testing    bool   // t=y
	Percentage string // pct, in reports by RFC 7489
	Discovery  string // "psl" or "treewalk"
}

// A Record is about messages of one source that were judged alike.
type Record struct {
	Source       netip.Addr
	Count        int64
	Disposition  string // "none", "pass", "quarantine", "reject"
	DKIM, SPF    string // aligned: "pass" or "fail"
	Reasons      []Reason
	HeaderFrom   string
	EnvelopeFrom string
	EnvelopeTo   string
	AuthDKIM     []Auth
	AuthSPF      []Auth
}

// passes reports whether the messages passed DMARC.
func (r *Record) passes() bool { return r.DKIM == "pass" || r.SPF == "pass" }

// A Reason says why the reporter did not do what the policy asks for.
type Reason struct{ Type, Comment string }

// An Auth is a result of DKIM or SPF, aligned or not.
type Auth struct {
	Domain   string
	Selector string // of DKIM
	Scope    string // of SPF
	Result   string
	Comment  string
}
