package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/mail"
)

// A TestResult is the outcome of one [[test]].
type TestResult struct {
	Name     string        `json:"name"`
	Line     int           `json:"line"`
	Passed   bool          `json:"passed"`
	Expected string        `json:"expected,omitempty"` // what differs, as the test wants it
	Got      string        `json:"got,omitempty"`
	Hint     string        `json:"hint,omitempty"` // why the expected rule did not decide
	Elapsed  time.Duration `json:"elapsed"`
	Err      error         `json:"-"`
}

// RunTests runs the policy's tests. judge takes a transaction to its decisions
// on the same path as live mail, without a side effect. now measures the time
// that each test takes.
func (p *Policy) RunTests(judge func(*mail.Transaction) ([]Decision, error), now func() time.Time) []TestResult {
	results := make([]TestResult, 0, len(p.Tests))
	for i := range p.Tests {
		t := &p.Tests[i]
		r := TestResult{Name: t.Name, Line: t.Line}
		start := now()
		ds, err := judge(p.transaction(t))
		r.Elapsed = now().Sub(start)
		r.Err = err
		if err != nil {
			r.Got = err.Error()
		} else {
			p.compare(t, ds, &r)
		}
		results = append(results, r)
	}
	return results
}

// compare checks every recipient's decision.
func (p *Policy) compare(t *Test, ds []Decision, r *TestResult) {
	for i := range ds {
		wants, gots := t.Expect.differs(&ds[i])
		if len(wants) == 0 {
			continue
		}
		r.Expected, r.Got = strings.Join(wants, ", "), strings.Join(gots, ", ")
		if len(ds) > 1 {
			r.Got += " for " + ds[i].Recipient.String()
		}
		r.Hint = hint(t.Expect.Rule, &ds[i])
		return
	}
	r.Passed = len(ds) > 0
	if !r.Passed {
		r.Got = "no decision"
	}
}

// differs lists what is not as expected.
func (e *Expect) differs(d *Decision) (wants, gots []string) {
	check := func(what, want, got string) {
		if want != "" && want != got {
			wants = append(wants, strings.TrimSpace(what+" "+want))
			gots = append(gots, strings.TrimSpace(what+" "+got))
		}
	}
	check("", e.Disposition, d.Disposition.String())
	check("rule", e.Rule, d.Rule)
	check("queue", e.Queue, orWord(d.Queue, "none"))
	if e.Code != 0 {
		check("code", strconv.Itoa(e.Code), strconv.Itoa(d.Reply.Code))
	}
	if e.Would != "" {
		would := d.Disposition
		if d.Would != nil {
			would = *d.Would
		}
		check("would", e.Would, would.String())
	}
	if e.Actions != nil {
		var names []string
		for i := range d.Actions {
			names = append(names, d.Actions[i].Name)
		}
		check("actions", sortedList(e.Actions), sortedList(names))
	}
	if e.Journal != nil {
		var to []string
		for _, path := range d.Journal {
			to = append(to, path.String())
		}
		check("journal", sortedList(e.Journal), sortedList(to))
	}
	return wants, gots
}

func sortedList(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(slices.Values(words)), "+")
}

// hint tells why the expected rule did not decide.
func hint(rule string, d *Decision) string {
	for i := range d.Trace {
		t := &d.Trace[i]
		switch {
		case t.Rule != rule:
		case t.Matched == Yes && t.Watched:
			return "rule " + rule + " matched, but is only watched"
		case t.Matched == Yes:
			return "rule " + rule + " matched"
		default:
			return t.String()
		}
	}
	if rule != "" && rule != DefaultRule {
		return "rule " + rule + " was not reached: " + d.Rule + " came first"
	}
	return d.Why
}

// String tells how the rule came out, with the first key that failed.
func (t *RuleTrace) String() string {
	switch {
	case t.Matched == Yes:
		return fmt.Sprintf("rule %s matched", t.Rule)
	case t.Matched == Unknown:
		return fmt.Sprintf("rule %s cannot be decided: %s: %s", t.Rule, t.Key, t.Got)
	case strings.HasPrefix(t.Key, "except"):
		return fmt.Sprintf("rule %s did not match: %s = %s takes it out: %s", t.Rule, t.Key, t.Want, t.Got)
	default:
		return fmt.Sprintf("rule %s did not match: %s is %s, not %s", t.Rule, t.Key, t.Got, t.Want)
	}
}
