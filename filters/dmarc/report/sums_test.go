package report

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// table is the table of reports.
func table(reports ...*Report) []Row {
	var s Sums
	for _, r := range reports {
		s.Add(r)
	}
	return s.Rows()
}

func TestSums(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	day := func(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }
	first := &Report{Organisation: "R", ID: "1", Begin: day(1), End: day(2), Policy: Published{Domain: "example.org"}, Records: []Record{
		{Source: b, Count: 2, SPF: "pass", Disposition: "none"}, {Source: a, Count: 1, DKIM: "pass", HeaderFrom: "b.example.org", Disposition: "pass"},
		{Source: a, Count: 1, HeaderFrom: "a.example.org", Disposition: "quarantine"}, {Source: b, Count: 3, Disposition: "reject"},
	}}
	second := &Report{Organisation: "Q", ID: "1", Begin: day(3), End: day(4), Policy: Published{Domain: "example.org"}, Records: []Record{
		{Source: b, Count: math.MaxInt64, DKIM: "pass", SPF: "pass"},
	}}
	var s Sums
	for _, r := range []*Report{first, second, first} {
		s.Add(r)
	}
	want := []Row{
		{Source: b, Domain: "example.org", Count: math.MaxInt64, Pass: math.MaxInt64, Fail: 3, DKIM: math.MaxInt64, SPF: math.MaxInt64, None: math.MaxInt64, Reject: 3,
			Reporters: []string{"Q", "R"}, First: day(1), Last: day(4)},
		{Source: a, Domain: "a.example.org", Count: 1, Fail: 1, Quarantine: 1, Reporters: []string{"R"}, First: day(1), Last: day(2)},
		{Source: a, Domain: "b.example.org", Count: 1, Pass: 1, DKIM: 1, None: 1, Reporters: []string{"R"}, First: day(1), Last: day(2)},
	}
	if diff := cmp.Diff(want, s.Rows(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	if s.Reports != 2 || s.Duplicates != 1 {
		t.Errorf("%d reports, %d duplicates", s.Reports, s.Duplicates)
	}
	for _, c := range []struct {
		s             Sums
		rows, reports int
	}{
		{Sums{Domain: "a.example.org"}, 1, 1}, {Sums{Domain: "example.org"}, 3, 2}, {Sums{Domain: "xample.org"}, 0, 0},
		{Sums{From: day(3)}, 1, 1}, {Sums{To: day(3)}, 3, 1}, {Sums{From: day(2), To: day(3)}, 3, 1}, {Sums{From: day(5)}, 0, 0},
	} {
		s := c.s
		s.Add(first)
		s.Add(second)
		if len(s.Rows()) != c.rows || s.Reports != c.reports {
			t.Errorf("%+v: %d rows of %d reports", c, len(s.Rows()), s.Reports)
		}
	}
	if len(table()) != 0 {
		t.Error("a table of nothing")
	}
}
