package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"
)

type queueCmd struct {
	List    queueListCmd    `cmd:"" help:"List the messages that wait."`
	Retry   queueRetryCmd   `cmd:"" help:"Try to deliver now."`
	Suspend queueSuspendCmd `cmd:"" help:"Keep a message from being tried."`
	Resume  queueResumeCmd  `cmd:"" help:"Let a suspended message be tried again."`
	Drop    queueDropCmd    `cmd:"" help:"Delete a message from the queue. Nobody is told."`
}

// A queueRow is one line of `postern queue list --json`.
type queueRow struct {
	ID          string           `json:"id"`
	Transaction string           `json:"transaction"`
	Received    time.Time        `json:"received"`
	From        string           `json:"from"`
	Upstream    string           `json:"upstream"`
	Size        int64            `json:"size"`
	State       string           `json:"state"`
	Attempts    int              `json:"attempts"`
	Next        time.Time        `json:"next_attempt"`
	Cause       string           `json:"cause,omitempty"`
	To          []queueRecipient `json:"to"`
}

type queueRecipient struct {
	Address string `json:"address"`
	State   string `json:"state"`
	Reply   string `json:"reply,omitempty"`
}

type queueListCmd struct {
	From     string `help:"Only messages whose reverse-path contains this." placeholder:"TEXT"`
	To       string `help:"Only messages that wait for a recipient that contains this." placeholder:"TEXT"`
	Upstream string `help:"Only messages for this upstream." placeholder:"NAME"`
	Text     string `help:"Only messages whose id, addresses or last reply contain this." placeholder:"TEXT"`
	JSON     bool   `help:"Print JSON, one object a line." name:"json"`
}

// Run lists the queue.
func (q *queueListCmd) Run(g *globals) error {
	v := url.Values{"from": {q.From}, "to": {q.To}, "upstream": {q.Upstream}, "text": {q.Text}}
	return printRows(g, "/queue?"+v.Encode(), q.JSON, func(w io.Writer, rows []queueRow) {
		fmt.Fprintln(w, "ID\tAGE\tSTATE\tTRIES\tNEXT\tFROM\tTO\tLAST REPLY")
		for _, r := range rows {
			for _, to := range r.To {
				if r.Cause != "" {
					to.Reply += " (" + r.Cause + ")"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t<%s>\t<%s>\t%s\n", r.ID, age(r.Received), r.State, r.Attempts,
					r.Next.Local().Format(time.TimeOnly), printable(r.From), printable(to.Address), printable(to.Reply))
			}
		}
	})
}

// queueIDs are the messages that a verb of the queue is for.
type queueIDs struct {
	IDs  []string `arg:"" name:"id" help:"Ids from the list; \"all\" is every message."`
	JSON bool     `help:"Print JSON." name:"json"`
}

type (
	queueRetryCmd   struct{ queueIDs }
	queueSuspendCmd struct{ queueIDs }
	queueResumeCmd  struct{ queueIDs }
)

// Run makes the messages due now.
func (q *queueRetryCmd) Run(g *globals) error { return queueAct(g, "retry", q.IDs, "", q.JSON) }

// Run keeps the messages from being tried.
func (q *queueSuspendCmd) Run(g *globals) error { return queueAct(g, "suspend", q.IDs, "", q.JSON) }

// Run lets the messages be tried again.
func (q *queueResumeCmd) Run(g *globals) error { return queueAct(g, "resume", q.IDs, "", q.JSON) }

type queueDropCmd struct {
	IDs    []string `arg:"" name:"id" help:"Ids from the list."`
	Reason string   `required:"" help:"Why; it is written to the audit log." placeholder:"TEXT"`
	JSON   bool     `help:"Print JSON." name:"json"`
}

// Run deletes messages from the queue.
func (q *queueDropCmd) Run(g *globals) error {
	if slices.Contains(q.IDs, "all") {
		return &exitError{exitUsage, errors.New("drop takes the ids of messages, not all")}
	}
	return queueAct(g, "drop", q.IDs, q.Reason, q.JSON)
}

// queueRequest is what the verbs of the queue send.
type queueRequest struct {
	IDs    []string `json:"ids"`
	Reason string   `json:"reason,omitempty"`
}

// queueAnswer says for how many messages it was done.
type queueAnswer struct {
	Done int `json:"done"`
}

func queueAct(g *globals, verb string, ids []string, reason string, asJSON bool) error {
	var n queueAnswer
	if err := g.call("POST", "/queue/"+verb, queueRequest{ids, reason}, &n); err != nil {
		return err
	}
	if asJSON {
		return printJSON(g.out, n)
	}
	if !g.Quiet {
		fmt.Fprintf(g.err, "%s: %s\n", verb, count(n.Done, "message"))
	}
	return nil
}

func age(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
