// Package report reads the aggregate reports that others send about mail with
// our domains as author (RFC 9990, and the form of RFC 7489 before it), and makes
// a table of them: source, messages, how many pass and how many fail.
//
// ParseReport takes what comes: XML, packed by gzip or zip or not, or the whole
// message that it came in. Anybody can send us such a thing, so that it is read
// as hostile: its size unpacked, the number of its records and the length of its
// texts are bounded, entities are not expanded and nothing outside of it is
// looked at. Reports of real senders have all kinds of errors; what can be read
// in spite of them is, and what was left out is in Problems.
//
// A report is a claim of whoever sent it: whether the sender is to be believed is
// for the caller to know.
//
// # Diagnostics
//
// Errors wrap ErrNotReport if there is no report in the data, and ErrTooLarge if
// it is beyond the limits.
package report

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strings"
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

// Passes reports whether the messages passed DMARC.
func (r *Record) Passes() bool { return r.DKIM == "pass" || r.SPF == "pass" }

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

// A Row is one line of the table: what a source sent with a domain as author.
type Row struct {
	Source            netip.Addr
	Domain            string
	Count, Pass, Fail int64
}

// Table sums reports up, by source and author domain, the most messages first.
func Table(reports ...*Report) []Row {
	type key struct {
		source netip.Addr
		domain string
	}
	at := map[key]int{}
	var rows []Row
	for _, r := range reports {
		for i := range r.Records {
			rec := &r.Records[i]
			k := key{rec.Source, rec.HeaderFrom}
			if k.domain == "" {
				k.domain = r.Policy.Domain
			}
			n, ok := at[k]
			if !ok {
				n = len(rows)
				at[k] = n
				rows = append(rows, Row{Source: k.source, Domain: k.domain})
			}
			rows[n].Count += rec.Count
			if rec.Passes() {
				rows[n].Pass += rec.Count
			} else {
				rows[n].Fail += rec.Count
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), a.Source.Compare(b.Source), strings.Compare(a.Domain, b.Domain))
	})
	return rows
}
