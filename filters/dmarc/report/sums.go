package report

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/mail"
)

// A Row is one line of the table: what a source sent with a domain as author.
type Row struct {
	Source                   netip.Addr
	Domain                   string
	Count                    int64
	Pass, Fail               int64 // of DMARC
	DKIM, SPF                int64 // how many were aligned by each
	None, Quarantine, Reject int64 // what was done with them
	Reporters                []string
	First, Last              time.Time // of the reports: begin and end
}

// maxReporters is how many names of reporters a row has.
const maxReporters = 20

// Sums sums reports up. Each report counts once, however often it is added. The
// zero Sums is ready.
type Sums struct {
	Domain     string    // only this author domain and those below it; empty: all
	From, To   time.Time // only reports of a time that touches this one; zero: all
	Reports    int       // that count
	Duplicates int       // that were added again
	rows       map[rowKey]*Row
	known      map[[4]string]bool
}

type rowKey struct {
	source netip.Addr
	domain string
}

// Add adds a report.
func (s *Sums) Add(r *Report) {
	if !s.From.IsZero() && r.End.Before(s.From) || !s.To.IsZero() && !r.Begin.Before(s.To) {
		return
	}
	if s.rows == nil {
		s.rows, s.known = map[rowKey]*Row{}, map[[4]string]bool{}
	}
	// RFC 9990 section 3.5.4: a report that comes again has the same identifier.
	id := [4]string{strings.ToLower(r.Organisation), r.ID, r.Policy.Domain, r.Begin.String()}
	if s.known[id] && r.ID != "" {
		s.Duplicates++
		return
	}
	s.known[id] = true
	counts := false
	for i := range r.Records {
		counts = s.record(r, &r.Records[i]) || counts
	}
	if counts {
		s.Reports++
	}
}

// record adds one record; false if it is of another domain.
func (s *Sums) record(r *Report, rec *Record) bool {
	k := rowKey{rec.Source, rec.HeaderFrom}
	if k.domain == "" {
		k.domain = r.Policy.Domain
	}
	if s.Domain != "" && !mail.Within(k.domain, s.Domain) {
		return false
	}
	row := s.rows[k]
	if row == nil {
		row = &Row{Source: k.source, Domain: k.domain, First: r.Begin, Last: r.End}
		s.rows[k] = row
	}
	add(&row.Count, rec.Count, true)
	add(&row.Pass, rec.Count, rec.passes())
	add(&row.Fail, rec.Count, !rec.passes())
	add(&row.DKIM, rec.Count, rec.DKIM == "pass")
	add(&row.SPF, rec.Count, rec.SPF == "pass")
	add(&row.Quarantine, rec.Count, rec.Disposition == "quarantine")
	add(&row.Reject, rec.Count, rec.Disposition == "reject")
	add(&row.None, rec.Count, rec.Disposition != "quarantine" && rec.Disposition != "reject")
	if r.Begin.Before(row.First) {
		row.First = r.Begin
	}
	if r.End.After(row.Last) {
		row.Last = r.End
	}
	if r.Organisation != "" && len(row.Reporters) < maxReporters && !slices.Contains(row.Reporters, r.Organisation) {
		row.Reporters = append(row.Reporters, r.Organisation)
	}
	return true
}

// add adds n, which is not negative, if on. What would be too large stays the
// largest number: the counts are whatever a stranger wrote.
func add(to *int64, n int64, on bool) {
	if on {
		*to += min(n, math.MaxInt64-*to)
	}
}

// Rows returns the table, the most failures first, then the most messages.
func (s *Sums) Rows() []Row {
	rows := make([]Row, 0, len(s.rows))
	for row := range maps.Values(s.rows) {
		slices.Sort(row.Reporters)
		rows = append(rows, *row)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Fail, a.Fail), cmp.Compare(b.Count, a.Count), a.Source.Compare(b.Source), strings.Compare(a.Domain, b.Domain))
	})
	return rows
}
