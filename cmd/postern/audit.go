package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/audit"
	"postern/store"
	"postern/store/dir"
)

type auditCmd struct {
	Tail   auditTailCmd   `cmd:"" help:"Show the last records."`
	Verify auditVerifyCmd `cmd:"" help:"Check that no record was changed, removed or added."`
	Export auditExportCmd `cmd:"" help:"Print records as JSON, one object a line."`
}

// The audit log is read as files: it can be read, and verified, while the
// gateway runs and when it does not.
func (g *globals) auditLog() (store.Log, string, error) {
	root, err := g.stateDir()
	if err != nil {
		return nil, "", err
	}
	l, err := dir.ReadLog(auditDir(root))
	if err != nil {
		return nil, "", fmt.Errorf("open the audit log: %w", err)
	}
	return l, root, nil
}

type auditVerifyCmd struct {
	JSON bool `help:"Print JSON." name:"json"`
}

// Run verifies the whole chain.
func (a *auditVerifyCmd) Run(g *globals) error {
	root, err := g.stateDir()
	if err != nil {
		return err
	}
	report, err := audit.Verify(context.Background(), func() (store.Log, error) { return dir.ReadLog(auditDir(root)) }, auditHead(root), auditKey(root))
	var bad *audit.BadRecord
	if err != nil && !errors.As(err, &bad) {
		return err
	}
	if a.JSON {
		answer := struct {
			audit.Report
			Problem string `json:"problem,omitempty"`
		}{Report: report}
		if bad != nil {
			answer.Problem = bad.Error()
		}
		if err := printJSON(g.out, answer); err != nil {
			return err
		}
	}
	if bad != nil {
		return fmt.Errorf("the audit log does not verify: %w", bad)
	}
	if !a.JSON {
		fmt.Fprintf(g.out, "%d records, %d to %d, verify; the last hash is %s\n", report.Records, report.First, report.Last, report.Hash)
	}
	return nil
}

// auditQuery are the flags that select records.
type auditQuery struct {
	ID    string        `help:"Only records of this transaction or held message."`
	Event string        `help:"Only this event: verdict, release, read, delete, forget, reload..."`
	Since time.Duration `help:"Only records since then, as in 24h."`
	Limit int           `help:"At most so many, the last ones." default:"100"`
}

func (q *auditQuery) query() audit.Query {
	a := audit.Query{ID: q.ID, Limit: q.Limit}
	if q.Event != "" {
		a.Events = []audit.Event{audit.Event(q.Event)}
	}
	if q.Since > 0 {
		a.Since = time.Now().Add(-q.Since)
	}
	return a
}

type auditTailCmd struct {
	auditQuery
}

// Run prints the last records, one a line.
func (a *auditTailCmd) Run(g *globals) error {
	l, _, err := g.auditLog()
	if err != nil {
		return err
	}
	defer l.Close()
	records, err := audit.List(context.Background(), l, a.query())
	if err != nil {
		return err
	}
	for _, r := range records {
		fmt.Fprintf(g.out, "%d %s %s %s", r.Seq, r.At.UTC().Format("2006-01-02T15:04:05.000Z"), r.Event, r.ID)
		for _, kv := range [][2]string{{"item", r.Item}, {"from", r.From}, {"to", r.To}, {"disposition", r.Disposition}, {"rule", r.Rule}, {"actor", r.Actor}, {"why", r.Why}, {"reason", r.Reason}, {"detail", r.Detail}} {
			if kv[1] != "" {
				fmt.Fprintf(g.out, " %s=%q", kv[0], printable(kv[1]))
			}
		}
		fmt.Fprintln(g.out)
	}
	return nil
}

type auditExportCmd struct {
	auditQuery
}

// Run prints records as JSON.
func (a *auditExportCmd) Run(g *globals) error {
	l, _, err := g.auditLog()
	if err != nil {
		return err
	}
	defer l.Close()
	return audit.Export(context.Background(), l, g.out, a.query())
}
