package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"postern/feedback"
	"postern/filters"
	"postern/filters/dmarc/report"
	"postern/mail"
)

type dmarcCmd struct {
	Import  dmarcImportCmd  `cmd:"" help:"Sum up the aggregate reports that others have sent about your domains."`
	Reports dmarcReportsCmd `cmd:"" help:"List the aggregate reports that the gateway sends: collecting, waiting, sent."`
	Report  dmarcReportCmd  `cmd:"" help:"Print an aggregate report as it would be sent now. Sends nothing."`
}

type dmarcImportCmd struct {
	Files  []string `arg:"" name:"file" type:"path" help:"Reports: XML, gzip, zip, messages, mbox files, or directories with them."`
	Domain string   `help:"Only this author domain and those below it."`
	Since  string   `help:"Only reports of this time: a day, as in 2026-11-21, or a time span back from now, as in 30d." placeholder:"WHEN"`
	Until  string   `help:"Only reports of the time before this." placeholder:"WHEN"`
	JSON   bool     `help:"Print JSON, one object a line." name:"json"`
}

// A reportRow is one line of `postern dmarc import --json`.
type reportRow struct {
	Source     string    `json:"source"`
	Domain     string    `json:"domain"`
	Messages   int64     `json:"messages"`
	Pass       int64     `json:"pass"`
	Fail       int64     `json:"fail"`
	DKIM       int64     `json:"dkim_aligned"`
	SPF        int64     `json:"spf_aligned"`
	Delivered  int64     `json:"delivered"`
	Quarantine int64     `json:"quarantined"`
	Reject     int64     `json:"rejected"`
	Reporters  []string  `json:"reporters"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
}

// Run prints the table: the sources with the most failures first. What can be
// read is counted, whatever else cannot.
func (d *dmarcImportCmd) Run(g *globals) error {
	sums := report.Sums{Domain: mail.NormalDomain(d.Domain)}
	for _, w := range []struct {
		flag, text string
		to         *time.Time
	}{{"--since", d.Since, &sums.From}, {"--until", d.Until, &sums.To}} {
		t, err := when(w.text, time.Now())
		if err != nil {
			return &exitError{exitUsage, fmt.Errorf("%s: %w", w.flag, err)}
		}
		*w.to = t
	}
	in := reportReader{add: sums.Add, complain: func(name string, err error) {
		fmt.Fprintf(g.err, "postern: %s: %s\n", printable(name), printable(err.Error()))
	}}
	if !g.Quiet {
		in.note = func(name, text string) { fmt.Fprintf(g.err, "%s: %s\n", printable(name), printable(text)) }
	}
	for _, name := range d.Files {
		in.read(name)
	}
	if err := d.print(g.out, sums.Rows()); err != nil {
		return err
	}
	if !g.Quiet {
		text := count(in.reports, "report")
		for _, more := range []struct {
			n    int
			what string
		}{{in.reports - sums.Duplicates - sums.Reports, "left out"}, {sums.Duplicates, "here already"}, {in.others, "other messages"}} {
			if more.n > 0 {
				text += fmt.Sprintf(", %d %s", more.n, more.what)
			}
		}
		fmt.Fprintln(g.err, text)
	}
	if in.failed > 0 {
		return &exitError{exitFailed, fmt.Errorf("%s could not be read", count(in.failed, "file"))}
	}
	return nil
}

// when reads a day, or a time span back from now. No text is the zero time.
func when(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t, nil
	}
	var back filters.Duration
	if err := back.UnmarshalText([]byte(text)); err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a day such as 2026-11-21 nor a time span such as 30d", text)
	}
	return now.Add(-back.Time()), nil
}

func (d *dmarcImportCmd) print(out io.Writer, rows []report.Row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if !d.JSON {
		fmt.Fprintln(w, "SOURCE\tDOMAIN\tMESSAGES\tFAIL\tPASS\tDKIM\tSPF\tHELD\tREFUSED\tREPORTED BY")
	}
	for _, r := range rows {
		source := "unknown"
		if r.Source.IsValid() {
			source = r.Source.String()
		}
		if d.JSON {
			if err := printJSON(out, reportRow{
				Source: source, Domain: r.Domain, Messages: r.Count, Pass: r.Pass, Fail: r.Fail, DKIM: r.DKIM, SPF: r.SPF,
				Delivered: r.None, Quarantine: r.Quarantine, Reject: r.Reject, Reporters: append([]string{}, r.Reporters...), First: r.First, Last: r.Last,
			}); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", source, printable(r.Domain), r.Count, r.Fail, r.Pass, r.DKIM, r.SPF, r.Quarantine, r.Reject,
			cut(printable(strings.Join(r.Reporters, ", ")), 60))
	}
	return w.Flush()
}

type dmarcReportsCmd struct {
	JSON bool `help:"Print JSON, one object a line." name:"json"`
}

// Run lists what the gateway knows of the reports that it sends.
func (d *dmarcReportsCmd) Run(g *globals) error {
	var a reportsAnswer
	if err := g.call("GET", "/dmarc/reports", nil, &a); err != nil {
		return err
	}
	w := tabwriter.NewWriter(g.out, 0, 0, 2, ' ', 0)
	if !d.JSON {
		fmt.Fprintln(w, "DAY\tDOMAIN\tSTATE\tMESSAGES\tRECORDS\tWHEN\tTO")
	}
	for _, r := range a.Reports {
		if d.JSON {
			if err := printJSON(g.out, r); err != nil {
				return err
			}
			continue
		}
		at := r.Due
		if at.IsZero() {
			at = r.Sent
		}
		to := strings.Join(append(append([]string{}, r.To...), r.Refused...), "; ")
		if r.Error != "" {
			to = r.Error
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", r.Day, printable(r.Domain), r.State, r.Messages, r.Records, at.Local().Format("2006-01-02 15:04"), printable(to))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !a.On && !g.Quiet {
		fmt.Fprintln(g.err, `reports are off; [filter.dmarc] reports = "daily" sends them`)
	}
	return nil
}

// reportsAnswer is what the gateway answers.
type reportsAnswer struct {
	On      bool              `json:"on"`
	Reports []feedback.Status `json:"reports"`
}

type dmarcReportCmd struct {
	Domain string `arg:"" help:"The domain that the report is about: where its DMARC record stands."`
	Day    string `help:"The UTC day, as in 2026-11-21; without it the last one that has records." placeholder:"DAY"`
}

// reportAnswer is a report as XML.
type reportAnswer struct {
	XML string `json:"xml"`
}

// Run prints a report.
func (d *dmarcReportCmd) Run(g *globals) error {
	if _, err := time.Parse(time.DateOnly, d.Day); d.Day != "" && err != nil {
		return &exitError{exitUsage, fmt.Errorf("--day: %q is not a day such as 2026-11-21", d.Day)}
	}
	var a reportAnswer
	v := url.Values{"domain": {mail.NormalDomain(d.Domain)}, "day": {d.Day}}
	if err := g.call("GET", "/dmarc/report?"+v.Encode(), nil, &a); err != nil {
		return err
	}
	_, err := io.WriteString(g.out, a.XML)
	return err
}
