package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"postern/policy"
)

type quarantineCmd struct {
	List    quarantineListCmd    `cmd:"" help:"List held messages."`
	Show    quarantineShowCmd    `cmd:"" help:"Show all that is known of one held message."`
	Read    quarantineReadCmd    `cmd:"" help:"Print the held message itself. The audit log notes who read it."`
	Release quarantineReleaseCmd `cmd:"" help:"Deliver a held message."`
	Delete  quarantineDeleteCmd  `cmd:"" help:"Delete held messages."`
	Forget  quarantineForgetCmd  `cmd:"" help:"Erase what is kept of a person (GDPR article 17)."`
}

// A heldRow is one line of `postern quarantine list --json`.
type heldRow struct {
	ID          string     `json:"id"`
	Transaction string     `json:"transaction"`
	Received    time.Time  `json:"received"`
	Queue       string     `json:"queue"`
	State       string     `json:"state"`
	Original    bool       `json:"original,omitempty"` // kept because a rewrite took something out: nobody waits for it
	Direction   string     `json:"direction"`
	Client      string     `json:"client,omitempty"`
	ReversePath string     `json:"reverse_path"`
	From        string     `json:"from"`
	To          []heldTo   `json:"to"`
	Subject     string     `json:"subject"`
	MessageID   string     `json:"message_id,omitempty"`
	Size        int64      `json:"size"`
	Score       float64    `json:"score"`
	Rule        string     `json:"rule"`
	Why         string     `json:"why"`
	Symbols     []heldSign `json:"symbols"`
}

// reason says why the message is here.
func (r *heldRow) reason() string {
	if r.Original {
		return "the original of a message that a rule changed"
	}
	return printable(r.Why)
}

type heldTo struct {
	Address string `json:"address"`
	State   string `json:"state"`
}

type heldSign struct {
	Name     string  `json:"name"`
	Score    float64 `json:"score"`
	Part     string  `json:"part,omitempty"`
	Evidence string  `json:"evidence,omitempty"`
}

type quarantineListCmd struct {
	Queue   string          `help:"Only this queue: spam, policy, malware or ambiguous." placeholder:"QUEUE"`
	From    string          `help:"Only messages whose author or reverse-path contains this." placeholder:"TEXT"`
	To      string          `help:"Only messages with a recipient that contains this." placeholder:"TEXT"`
	Subject string          `help:"Only messages whose subject contains this." placeholder:"TEXT"`
	Rule    string          `help:"Only messages held by this rule." placeholder:"NAME"`
	Text    string          `help:"Only messages in any of whose fields this text stands." placeholder:"TEXT"`
	Body    bool            `help:"With --text: look into the messages too; slow."`
	Since   policy.Duration `help:"Only messages held since then, as in 24h or 7d." placeholder:"DURATION"`
	Limit   int             `help:"At most so many, the newest; 1 to 1000." default:"100"`
	All     bool            `help:"Released and deleted ones too."`
	JSON    bool            `help:"Print JSON, one object a line." name:"json"`
}

// Run lists held messages, the newest first.
func (q *quarantineListCmd) Run(g *globals) error {
	switch {
	case q.Limit < 1 || q.Limit > 1000:
		return &exitError{exitUsage, fmt.Errorf("--limit %d does not lie between 1 and 1000", q.Limit)}
	case q.Body && q.Text == "":
		return &exitError{exitUsage, errors.New("--body says where to look: say what for with --text")}
	}
	v := url.Values{"queue": {q.Queue}, "from": {q.From}, "to": {q.To}, "subject": {q.Subject}, "rule": {q.Rule}, "text": {q.Text}, "limit": {fmt.Sprint(q.Limit)}}
	if q.Since > 0 {
		v.Set("since", time.Now().Add(-time.Duration(q.Since)).Format(time.RFC3339))
	}
	if q.All {
		v.Set("all", "1")
	}
	if q.Body {
		v.Set("body", "1")
	}
	return printRows(g, "/quarantine?"+v.Encode(), q.JSON, func(w io.Writer, rows []heldRow) {
		state := func(string) string { return "" }
		if q.All { // else all of them are held
			state = func(s string) string { return s + "\t" }
		}
		fmt.Fprintf(w, "ID\tAGE\tQUEUE\t%sFROM\tTO\tSUBJECT\tREASON\n", state("STATE"))
		for _, r := range rows {
			to := make([]string, len(r.To))
			for i, t := range r.To {
				to[i] = t.Address
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s%s\t%s\t%s\t%s\n", r.ID, age(r.Received), r.Queue, state(r.State), printable(r.From),
				printable(strings.Join(to, " ")), cut(printable(r.Subject), 40), r.reason())
		}
		if len(rows) == q.Limit && !g.Quiet {
			fmt.Fprintf(g.err, "these are the newest %d; there may be more: --limit\n", q.Limit)
		}
	})
}

type quarantineShowCmd struct {
	ID   string `arg:"" help:"Id of the held message or of its transaction; its beginning is enough."`
	JSON bool   `help:"Print JSON." name:"json"`
}

// Run shows one held message.
func (q *quarantineShowCmd) Run(g *globals) error {
	var r heldRow
	if err := g.call("GET", "/quarantine/"+url.PathEscape(q.ID), nil, &r); err != nil {
		return err
	}
	if q.JSON {
		return printJSON(g.out, r)
	}
	w := tabwriter.NewWriter(g.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "id\t%s, transaction %s\n", r.ID, r.Transaction)
	fmt.Fprintf(w, "held\t%s in %q: %s\n", r.Received.Local().Format(time.DateTime), r.Queue, r.State)
	fmt.Fprintf(w, "because\t%s (rule %s)\n", r.reason(), r.Rule)
	fmt.Fprintf(w, "client\t%s, %s\n", r.Client, r.Direction)
	fmt.Fprintf(w, "from\t%s, envelope <%s>\n", printable(r.From), printable(r.ReversePath))
	for _, t := range r.To {
		fmt.Fprintf(w, "to\t<%s>: %s\n", printable(t.Address), t.State)
	}
	fmt.Fprintf(w, "subject\t%s\n", printable(r.Subject))
	fmt.Fprintf(w, "size\t%d bytes, score %.1f\n", r.Size, r.Score)
	if err := w.Flush(); err != nil {
		return err
	}
	symbols := block{word: "symbols"}
	for _, s := range r.Symbols {
		symbols.rows = append(symbols.rows, []string{fmt.Sprintf("%+.1f", s.Score), s.Name, printable(s.Evidence)})
	}
	return symbols.write(g.out)
}

type quarantineReadCmd struct {
	ID string `arg:"" help:"Id of the held message or of its transaction; its beginning is enough."`
}

// Run prints the message as it was received; on a terminal, without what would
// steer that.
func (q *quarantineReadCmd) Run(g *globals) error {
	c, err := g.control()
	if err != nil {
		return err
	}
	return c.copyTo(g.out, "GET", "/quarantine/"+url.PathEscape(q.ID)+"/body", nil)
}

type quarantineReleaseCmd struct {
	ID      string   `arg:"" help:"Id of the held message or of its transaction; its beginning is enough."`
	To      []string `help:"Only to these of its recipients."`
	Copy    string   `help:"To this address instead of its recipients." placeholder:"ADDRESS"`
	Note    string   `help:"Why; it is written to the audit log."`
	Malware bool     `help:"Release it although a scanner still finds malware in it."`
	Whole   bool     `help:"Deliver all of it: no rule takes an attachment out. The audit log notes it."`
	JSON    bool     `help:"Print JSON." name:"json"`
}

// releaseAnswer is what became of it.
type releaseAnswer struct {
	To    []string `json:"to"`
	Queue []string `json:"queue"` // ids in the queue
	Taken []taken  `json:"taken_out,omitempty"`
}

// taken is an attachment that a rule took out of what was released.
type taken struct {
	Name string `json:"name"`
	Rule string `json:"rule"`
}

// releaseRequest is what release sends.
type releaseRequest struct {
	To      []string `json:"to,omitempty"`
	Copy    string   `json:"copy,omitempty"`
	Note    string   `json:"note,omitempty"`
	Malware bool     `json:"malware,omitempty"`
	Whole   bool     `json:"whole,omitempty"`
}

// Run releases one message: scanned again for malware, rewritten as its rules
// ask, and put into the queue.
func (q *quarantineReleaseCmd) Run(g *globals) error {
	var done releaseAnswer
	if err := g.call("POST", "/quarantine/"+url.PathEscape(q.ID)+"/release", releaseRequest{q.To, q.Copy, q.Note, q.Malware, q.Whole}, &done); err != nil {
		return err
	}
	if q.JSON {
		return printJSON(g.out, done)
	}
	if !g.Quiet {
		fmt.Fprintf(g.err, "released to %s; queued as %s\n", strings.Join(done.To, ", "), strings.Join(done.Queue, ", "))
		for _, t := range done.Taken {
			fmt.Fprintf(g.err, "rule %s took out %s\n", t.Rule, printable(cmp.Or(t.Name, "an attachment without a name")))
		}
		if len(done.Taken) > 0 {
			fmt.Fprintf(g.err, "the whole message stays in the quarantine; postern quarantine release %s --copy ADDRESS --whole delivers all of it\n", q.ID)
		}
	}
	return nil
}

type quarantineDeleteCmd struct {
	IDs  []string `arg:"" name:"id" help:"Ids of held messages or of their transactions; their beginnings are enough."`
	Note string   `help:"Why; it is written to the audit log."`
}

// Run deletes held messages.
func (q *quarantineDeleteCmd) Run(g *globals) error {
	c, err := g.control()
	if err != nil {
		return err
	}
	for _, id := range q.IDs {
		if err := c.call("DELETE", "/quarantine/"+url.PathEscape(id), releaseRequest{Note: q.Note}, nil); err != nil {
			return err
		}
		if !g.Quiet {
			fmt.Fprintf(g.err, "deleted %s\n", id)
		}
	}
	return nil
}

type quarantineForgetCmd struct {
	Address string `arg:"" help:"The person's address."`
	All     bool   `help:"Messages that others wait for too."`
	Yes     bool   `help:"Do it: what is erased cannot be brought back."`
	JSON    bool   `help:"Print JSON." name:"json"`
}

// Run erases bodies and personal fields of one address.
func (q *quarantineForgetCmd) Run(g *globals) error {
	if !q.Yes {
		return &exitError{exitUsage, fmt.Errorf("this erases all that is kept of %s; say --yes", q.Address)}
	}
	var done forgetAnswer
	if err := g.call("POST", "/forget", forgetRequest{q.Address, q.All}, &done); err != nil {
		return err
	}
	if q.JSON {
		return printJSON(g.out, done)
	}
	if done == (forgetAnswer{}) {
		fmt.Fprintf(g.out, "nothing is kept of %s\n", q.Address)
		return nil
	}
	fmt.Fprintf(g.out, "erased: %s; the address in %s that others wait for; personal fields in %s; %s\n",
		count(done.Held, "held message"), count(done.Shared, "message"), count(done.Records, "audit record"), count(done.Contacts, "contact"))
	if done.Queued > 0 {
		fmt.Fprintf(g.out, "%s with the address still in the queue: these stay until they are delivered, or dropped with postern queue drop; then ask again\n",
			count(done.Queued, "message"))
	}
	return nil
}

type forgetRequest struct {
	Address string `json:"address"`
	All     bool   `json:"all"`
}

// forgetAnswer says what was erased.
type forgetAnswer struct {
	Held     int `json:"held"`   // held messages that are gone
	Shared   int `json:"shared"` // held messages of others: only the address is gone
	Records  int `json:"audit_records"`
	Contacts int `json:"contacts"` // who has written to him, and to whom he has written
	Queued   int `json:"queued"`   // messages in the queue, which stay
}
