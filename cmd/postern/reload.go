package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

type reloadCmd struct{}

// Run asks the running gateway to read its policy again. A bad policy is
// refused, with every mistake in it, and the old one keeps running.
func (*reloadCmd) Run(g *globals) error {
	c, err := g.control()
	if err != nil {
		return err
	}
	var s statusAnswer
	if err := c.call("POST", "/reload", nil, &s); err != nil {
		return err
	}
	if !g.Quiet {
		fmt.Fprintf(g.err, "policy %s is in force\n", s.Policy)
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
	Policy    string           `json:"policy"` // short hash
	Loaded    time.Time        `json:"policy_loaded"`
	Stale     string           `json:"policy_error,omitempty"` // why the last reload was refused
	Warnings  []string         `json:"warnings,omitempty"`
	Listeners []listenerStatus `json:"listeners"`
	Queued    int              `json:"queue_messages"`
	Oldest    float64          `json:"queue_oldest_age_seconds"`
	Held      map[string]int   `json:"quarantine_messages"`
	Spool     uint64           `json:"spool_free_bytes"`
}

type listenerStatus struct {
	Name     string `json:"name"`
	Address  string `json:"address"`
	Role     string `json:"role"`
	Sessions int    `json:"sessions"`
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
	w := tabwriter.NewWriter(g.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "running\tpid %d since %s, version %s\n", a.PID, a.Since.Local().Format(time.DateTime), a.Version)
	fmt.Fprintf(w, "policy\t%s %s, loaded %s\n", a.File, a.Policy, a.Loaded.Local().Format(time.DateTime))
	if a.Stale != "" {
		fmt.Fprintf(w, "STALE\tthe last reload was refused: %s\n", firstLine(a.Stale))
	}
	for _, x := range a.Warnings {
		fmt.Fprintf(w, "warning\t%s\n", x)
	}
	for _, l := range a.Listeners {
		fmt.Fprintf(w, "listener\t%s %s %s, %d sessions\n", l.Name, l.Address, l.Role, l.Sessions)
	}
	fmt.Fprintf(w, "queue\t%d messages, the oldest %s\n", a.Queued, time.Duration(a.Oldest*float64(time.Second)).Round(time.Second))
	for _, q := range sortedKeys(a.Held) {
		fmt.Fprintf(w, "held\t%s: %d\n", q, a.Held[q])
	}
	return w.Flush()
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
