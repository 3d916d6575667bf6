package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"postern/audit"
	"postern/policy"
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
		return nil, "", noAudit(root, err)
	}
	return l, root, nil
}

// noAudit says where the audit log was looked for when it is not there.
func noAudit(root string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no audit log in %s: no gateway has run with this state directory; --state names another", root)
	}
	return fmt.Errorf("open the audit log: %w", err)
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
		return noAudit(root, err)
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
		fmt.Fprintf(g.out, "%s, %d to %d: the chain is whole; the last hash is %s\n", count(int(report.Records), "record"), report.First, report.Last, report.Hash)
	}
	return nil
}

// auditQuery are the flags that select records.
type auditQuery struct {
	ID    string          `help:"Only records of this transaction or held message." placeholder:"ID"`
	Event *string         `help:"Only this event: verdict, delivery, release, read, delete, expire, forget, reload, key, start, stop, checkpoint, cut, repair or damage." enum:"verdict,delivery,release,read,delete,expire,forget,reload,key,start,stop,checkpoint,cut,repair,damage" placeholder:"EVENT"`
	Rule  string          `help:"Only verdicts of this rule." placeholder:"NAME"`
	Actor string          `help:"Only what this person did." placeholder:"USER"`
	Text  string          `help:"Only records with this address in a personal field." name:"address" placeholder:"ADDRESS"`
	Since policy.Duration `help:"Only records since then, as in 24h or 7d." placeholder:"DURATION"`
}

func (q *auditQuery) query() audit.Query {
	a := audit.Query{ID: q.ID, Rule: q.Rule, Actor: q.Actor, Address: q.Text}
	if q.Event != nil {
		a.Events = []audit.Event{audit.Event(*q.Event)}
	}
	if q.Since > 0 {
		a.Since = time.Now().Add(-time.Duration(q.Since))
	}
	return a
}

type auditTailCmd struct {
	auditQuery
	Limit int  `help:"At most so many, the last ones." default:"100"`
	JSON  bool `help:"Print JSON, one object a line." name:"json"`
}

// An auditRow is one line of `postern audit tail --json`. `postern audit export`
// prints the records as they are stored, so that their chain can be verified.
type auditRow struct {
	Seq         uint64    `json:"seq"`
	At          time.Time `json:"at"`
	Event       string    `json:"event"`
	ID          string    `json:"id,omitempty"`
	Item        string    `json:"item,omitempty"`
	From        string    `json:"from,omitempty"`
	To          string    `json:"to,omitempty"`
	Direction   string    `json:"direction,omitempty"`
	Disposition string    `json:"disposition,omitempty"`
	Queue       string    `json:"queue,omitempty"`
	Rule        string    `json:"rule,omitempty"`
	Policy      string    `json:"policy,omitempty"`
	Actor       string    `json:"actor,omitempty"`
	Why         string    `json:"why,omitempty"`
	Reply       string    `json:"reply,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Detail      string    `json:"detail,omitempty"`
}

// Run prints the last records, one a line.
func (a *auditTailCmd) Run(g *globals) error {
	l, _, err := g.auditLog()
	if err != nil {
		return err
	}
	defer l.Close()
	q := a.query()
	q.Limit = a.Limit
	records, err := audit.List(context.Background(), l, q)
	if err != nil {
		return err
	}
	for _, r := range records {
		row := auditRow{
			Seq: r.Seq, At: r.At.UTC(), Event: string(r.Event), ID: r.ID, Item: r.Item, From: r.From, To: r.To, Direction: r.Direction, Disposition: r.Disposition,
			Queue: r.Queue, Rule: r.Rule, Policy: r.Policy, Actor: r.Actor, Why: r.Why, Reply: r.Reply, Reason: r.Reason, Detail: r.Detail,
		}
		if a.JSON {
			if err := printJSON(g.out, row); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintln(g.out, row.String())
	}
	return nil
}

// String is the record as one line for people.
func (r *auditRow) String() string {
	line := fmt.Sprintf("%d %s %s", r.Seq, r.At.Format("2006-01-02T15:04:05.000Z"), r.Event)
	if r.ID != "" {
		line += " " + printable(r.ID)
	}
	for _, kv := range [][2]string{
		{"item", r.Item}, {"from", r.From}, {"to", r.To}, {"disposition", r.Disposition}, {"rule", r.Rule}, {"actor", r.Actor},
		{"why", r.Why}, {"reply", r.Reply}, {"reason", r.Reason}, {"detail", r.Detail},
	} {
		if kv[1] != "" {
			line += fmt.Sprintf(" %s=%q", kv[0], printable(kv[1]))
		}
	}
	return line
}

type auditExportCmd struct {
	auditQuery
}

// Run prints all records that match, as they are stored.
func (a *auditExportCmd) Run(g *globals) error {
	l, _, err := g.auditLog()
	if err != nil {
		return err
	}
	defer l.Close()
	return audit.Export(context.Background(), l, g.out, a.query())
}
