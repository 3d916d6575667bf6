package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"text/tabwriter"
	"time"

	"postern/dns"
	"postern/filters/standard"
	"postern/gateway"
	"postern/policy"
)

type doctorCmd struct {
	Address []netip.Addr  `help:"Address from which our mail leaves, where a NAT hides it; default: those of the site's host name." placeholder:"IP"`
	Limit   time.Duration `help:"How long all checks may take." default:"30s"`
	DNS     string        `help:"Answer every DNS look-up from this zone file (JSON)." type:"path" placeholder:"FILE"`
	JSON    bool          `help:"Print JSON, one object a line." name:"json"`
}

// Levels of findings.
const (
	levelOK      = "ok"
	levelWarning = "warning"
	levelError   = "error"
)

// A finding is one line of the doctor.
type finding struct {
	Level   string `json:"level"`
	Check   string `json:"check"`
	Subject string `json:"subject,omitempty"` // what was looked at
	Text    string `json:"text"`
	Remedy  string `json:"remedy,omitempty"`
}

// findings are those of one check.
type findings struct {
	check string
	all   []finding
}

func (f *findings) ok(subject, format string, args ...any) {
	f.all = append(f.all, finding{levelOK, f.check, subject, fmt.Sprintf(format, args...), ""})
}

func (f *findings) warn(subject, remedy, format string, args ...any) {
	f.all = append(f.all, finding{levelWarning, f.check, subject, fmt.Sprintf(format, args...), remedy})
}

func (f *findings) bad(subject, remedy, format string, args ...any) {
	f.all = append(f.all, finding{levelError, f.check, subject, fmt.Sprintf(format, args...), remedy})
}

// A patient is what the checks look at. They only read.
type patient struct {
	file     string
	policy   *policy.Policy
	state    *gateway.State // nil: the policy's filters and next hops cannot be opened
	broken   error          // why
	resolver dns.Resolver
	own      []netip.Addr // from which mail leaves, as was said
	now      time.Time
}

// A check looks at one thing.
type check struct {
	name string
	look func(context.Context, *patient, *findings)
}

// checks are all that the doctor looks at, in the order of its report.
var checks = []check{
	{"policy", checkPolicy},
	{"gateway", checkRunning},
	{"state", checkState},
	{"clock", checkClock},
	{"resolver", checkResolver},
	{"tls", checkCertificate},
	{"upstream", checkUpstreams},
	{"antivirus", checkEngines},
	{"address", checkAddress},
	{"mx", checkMX},
	{"spf", checkSPF},
	{"dkim", checkDKIM},
	{"dmarc", checkDMARC},
}

// Run looks at what goes wrong in real life, and changes nothing.
func (d *doctorCmd) Run(g *globals) error {
	ctx, cancel := context.WithTimeout(context.Background(), d.Limit)
	defer cancel()
	p, all, err := d.patient(g)
	if err != nil {
		return err
	}
	if p != nil {
		defer p.close()
		all = p.examine(ctx, checks)
	}
	if err := d.write(g.out, all, g.Quiet); err != nil {
		return err
	}
	for _, f := range all {
		if f.Level == levelError {
			return &exitError{code: exitFailed}
		}
	}
	return nil
}

// patient loads the policy. One that is wrong is all that there is to say.
func (d *doctorCmd) patient(g *globals) (*patient, []finding, error) {
	p, err := policy.LoadFile(g.Config, policy.LoadOptions{Filters: standard.Filters})
	var problems policy.Problems
	if errors.As(err, &problems) {
		f := &findings{check: "policy"}
		f.problems(problems)
		return nil, f.all, nil
	}
	if err != nil {
		return nil, nil, noPolicy(g.Config, err)
	}
	if g.State != "" {
		p.Storage.State = g.State
	}
	x := &patient{file: g.Config, policy: p, own: d.Address, now: time.Now()}
	if x.resolver, err = openResolver(p, d.DNS); err != nil {
		return nil, nil, err
	}
	x.state, x.broken = gateway.NewState(p, parseOptions(p), envOf(p, x.resolver, slog.New(slog.DiscardHandler)))
	return x, nil, nil
}

func (x *patient) close() {
	if x.state != nil {
		x.state.Close()
	}
}

// examine runs the checks at the same time. Those that do not end in time are
// left behind.
func (x *patient) examine(ctx context.Context, checks []check) []finding {
	done := make([]chan []finding, len(checks))
	for i, c := range checks {
		done[i] = make(chan []finding, 1)
		go func() {
			f := &findings{check: c.name}
			c.look(ctx, x, f)
			done[i] <- f.all
		}()
	}
	var all []finding
	for i, c := range checks {
		var found []finding
		select {
		case found = <-done[i]:
		case <-ctx.Done():
			select {
			case found = <-done[i]:
			case <-time.After(grace): // what ctx ends needs a moment to say so
				found = []finding{{levelError, c.name, "", "the check did not end in time", "try again with a longer --limit"}}
			}
		}
		all = append(all, found...)
	}
	return all
}

// grace is how long a check has to report after the time is over.
const grace = 200 * time.Millisecond

// write prints one line for each finding; with quiet, only of what is wrong.
func (d *doctorCmd) write(out io.Writer, all []finding, quiet bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	counts := map[string]int{}
	for _, f := range all {
		counts[f.Level]++
		if quiet && f.Level == levelOK {
			continue
		}
		if d.JSON {
			if err := printJSON(out, f); err != nil {
				return err
			}
			continue
		}
		text := f.Text
		if f.Subject != "" {
			text = f.Subject + ": " + text
		}
		if f.Remedy != "" {
			text += "; " + f.Remedy
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Level, f.Check, printable(text))
	}
	if !d.JSON && !quiet {
		fmt.Fprintf(w, "%s, %s, %d ok\n", count(counts[levelError], "error"), count(counts[levelWarning], "warning"), counts[levelOK])
	}
	return w.Flush()
}

// problems reports what the loader of the policy found.
func (f *findings) problems(problems policy.Problems) {
	for _, x := range problems {
		place := x.File
		if x.Line > 0 {
			place = fmt.Sprintf("%s:%d", x.File, x.Line)
		}
		if x.Severity == policy.Error {
			f.bad(place, "postern check shows the place", "%s", x.Text)
		} else {
			f.warn(place, "", "%s", x.Text)
		}
	}
}

// checkPolicy says whether the gateway could start with the policy.
func checkPolicy(_ context.Context, x *patient, f *findings) {
	f.problems(x.policy.Warnings)
	// The tests open the filters of a policy in their own way: they get another
	// one.
	var results []policy.TestResult
	p, err := policy.LoadFile(x.file, policy.LoadOptions{Filters: standard.Filters})
	if err == nil {
		results, err = runPolicyTests(p)
	}
	if err != nil {
		f.bad(x.file, "", "its tests cannot be run: %v", err)
	}
	for _, r := range results {
		if !r.Passed {
			f.bad(x.file, "run: postern test", "test %q fails", r.Name)
		}
	}
	if x.broken != nil {
		f.bad(x.file, "", "the gateway cannot start with it: %v", x.broken)
		return
	}
	f.ok(x.file, "%s, %s", count(x.policy.Rules(), "rule"), count(len(results), "test"))
}

// checkRunning compares a running gateway with the policy file.
func checkRunning(_ context.Context, x *patient, f *findings) {
	var s statusAnswer
	err := dialControl(x.policy.Storage.State).call("GET", "/status", nil, &s)
	switch {
	case isDown(err):
		f.warn("", "start it with: postern serve", "no gateway runs on %s", x.policy.Storage.State)
		return
	case err != nil:
		f.bad("", "", "%v", err)
		return
	}
	if s.Stale != "" {
		f.bad("", "run: postern check, then postern reload", "the last reload was refused: %s", s.Stale)
	} else if s.Policy != x.policy.Hash {
		f.warn("", "run: postern reload", "it runs with another policy than the file has now")
	}
	for _, what := range s.Waiting {
		f.warn(what, "restart the gateway", "has changed since the start")
	}
	for _, d := range s.Down {
		f.bad(d.Upstream, "", "%s cannot be reached since %s: %s", d.Address, d.Since.UTC().Format(time.RFC3339), d.Error)
	}
	if s.Aside > 0 {
		f.warn("spool", "look into spool/corrupt of the state directory", "%d damaged entries were set aside", s.Aside)
	}
	f.ok("", "pid %d, version %s, %s queued", s.PID, s.Version, count(s.Queued, "message"))
}
