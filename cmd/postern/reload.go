package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

type reloadCmd struct {
	JSON bool `help:"Print the status as JSON." name:"json"`
}

// Run asks the running gateway to read its policy again. A bad policy is
// refused, with every mistake in it, and the old one keeps running.
func (r *reloadCmd) Run(g *globals) error {
	c, err := g.control()
	if err != nil {
		return err
	}
	var s statusAnswer
	if err := c.call("POST", "/reload", nil, &s); err != nil {
		return err
	}
	if r.JSON {
		return printJSON(g.out, s)
	}
	if g.Quiet {
		return nil
	}
	fmt.Fprintf(g.err, "policy %s is in force\n", short(s.Policy))
	for _, x := range s.Waiting {
		fmt.Fprintf(g.err, "%s has changed and needs a restart: until then the old setting holds\n", x)
	}
	return nil
}

type statusCmd struct {
	JSON bool `help:"Print JSON." name:"json"`
}

// statusAnswer is what `postern status --json` prints.
type statusAnswer struct {
	Version   string           `json:"version"`
	PID       int              `json:"pid"`
	Since     time.Time        `json:"since"`
	File      string           `json:"policy_file"`
	Policy    string           `json:"policy"` // hash
	Loaded    time.Time        `json:"policy_loaded"`
	Stale     string           `json:"policy_error,omitempty"`        // why the last reload was refused
	Waiting   []string         `json:"waiting_for_restart,omitempty"` // settings that a reload cannot change
	Warnings  []string         `json:"warnings,omitempty"`
	Listeners []listenerStatus `json:"listeners"`
	Queued    int              `json:"queue_messages"`
	Oldest    float64          `json:"queue_oldest_age_seconds"`
	Held      map[string]int   `json:"quarantine_messages"`
	Spool     uint64           `json:"spool_free_bytes"`
	Down      []downStatus     `json:"unreachable,omitempty"` // next hops, when they were last tried
	Aside     int              `json:"spool_set_aside_entries,omitempty"`
}

type listenerStatus struct {
	Name     string `json:"name"`
	Address  string `json:"address"`
	Role     string `json:"role"`
	Sessions int    `json:"sessions"`
}

// A downStatus is an address of a next hop that could not be reached.
type downStatus struct {
	Upstream string    `json:"upstream"`
	Address  string    `json:"address"`
	Since    time.Time `json:"since"`
	Error    string    `json:"error"`
}

// Run prints how the gateway is.
func (s *statusCmd) Run(g *globals) error {
	c, err := g.control()
	if err != nil {
		return err
	}
	var a statusAnswer
	if err := c.call("GET", "/status", nil, &a); err != nil {
		return err
	}
	if s.JSON {
		return printJSON(g.out, a)
	}
	return a.write(g.out)
}

func (a *statusAnswer) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "running\tpid %d since %s, version %s\n", a.PID, a.Since.Local().Format(time.DateTime), a.Version)
	fmt.Fprintf(w, "policy\t%s %s, loaded %s\n", a.File, short(a.Policy), a.Loaded.Local().Format(time.DateTime))
	if a.Stale != "" {
		fmt.Fprintf(w, "STALE\tthe last reload was refused: %s\n", a.Stale)
	}
	for _, x := range a.Waiting {
		fmt.Fprintf(w, "restart\t%s has changed: it needs a restart\n", x)
	}
	for _, x := range a.Warnings {
		fmt.Fprintf(w, "warning\t%s\n", strings.Replace(x, ": warning: ", ": ", 1))
	}
	for _, l := range a.Listeners {
		fmt.Fprintf(w, "listener\t%s %s %s, %s\n", l.Name, l.Address, l.Role, count(l.Sessions, "session"))
	}
	waits := count(a.Queued, "message")
	if a.Queued > 0 {
		waits += fmt.Sprintf(", the oldest %s", time.Duration(a.Oldest*float64(time.Second)).Round(time.Second))
	}
	fmt.Fprintf(w, "queue\t%s\n", waits)
	for _, d := range a.Down {
		fmt.Fprintf(w, "DOWN\t%s %s since %s: %s\n", d.Upstream, d.Address, d.Since.Local().Format(time.TimeOnly), printable(d.Error))
	}
	if a.Aside > 0 {
		fmt.Fprintf(w, "ASIDE\t%d damaged entries of the spool, in spool/corrupt\n", a.Aside)
	}
	for _, q := range sortedKeys(a.Held) {
		fmt.Fprintf(w, "held\t%s: %d\n", q, a.Held[q])
	}
	if a.Spool > 0 {
		fmt.Fprintf(w, "disk\t%s free for the spool\n", bytesText(int64(a.Spool)))
	} else {
		fmt.Fprintf(w, "FULL\tno disk space for the spool: mail is refused with 452\n")
	}
	return w.Flush()
}

// short is the part of a hash that the mail log writes.
func short(hash string) string { return hash[:min(12, len(hash))] }

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
