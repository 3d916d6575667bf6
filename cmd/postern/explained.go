package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"sort"
	"strings"
	"text/tabwriter"

	"github.com/gabriel-vasile/mimetype"

	"postern/gateway"
	"postern/mail"
)

// An explained is what `postern explain --json` prints for one message. Its
// fields are stable: they are added to, never renamed.
type explained struct {
	File      string              `json:"file"`
	Policy    string              `json:"policy"` // hash of the policy file
	Direction string              `json:"direction"`
	Listener  string              `json:"listener"`
	Client    string              `json:"client"`
	Helo      string              `json:"helo"`
	From      string              `json:"from"` // reverse-path
	Size      int64               `json:"size"`
	Decisions []explainedDecision `json:"decisions"`
	Symbols   []explainedSymbol   `json:"symbols"`
	Auth      []mail.AuthResult   `json:"auth"`
	Broken    []explainedBroken   `json:"broken"`
	Score     float64             `json:"score"`
	Parts     []explainedPart     `json:"parts"`
	Findings  []explainedFinding  `json:"findings"`
	Copies    []explainedCopy     `json:"copies"`
	Times     map[string]float64  `json:"times_ms"`
}

type explainedDecision struct {
	To          string          `json:"to"`
	Disposition string          `json:"disposition"`
	Rule        string          `json:"rule"`
	Why         string          `json:"why"`
	Reply       string          `json:"reply,omitempty"`
	Queue       string          `json:"queue,omitempty"`
	Actions     []string        `json:"actions,omitempty"`
	Would       string          `json:"would,omitempty"`
	WouldRule   string          `json:"would_rule,omitempty"`
	Score       float64         `json:"score"`
	Rules       []explainedRule `json:"rules"`
}

type explainedRule struct {
	Rule    string `json:"rule"`
	Line    int    `json:"line"`
	Matched string `json:"matched"` // yes, no, unknown
	Watched bool   `json:"watched,omitempty"`
	Key     string `json:"key,omitempty"` // the first key that failed, or the exception
	Want    string `json:"want,omitempty"`
	Got     string `json:"got,omitempty"`
}

type explainedSymbol struct {
	Filter   string  `json:"filter"`
	Name     string  `json:"name"`
	Score    float64 `json:"score"`
	Part     string  `json:"part,omitempty"`
	To       string  `json:"to,omitempty"`
	Label    string  `json:"label,omitempty"`
	Evidence string  `json:"evidence,omitempty"`
}

type explainedBroken struct {
	Filter string `json:"filter"`
	Error  string `json:"error"`
}

type explainedPart struct {
	Path     string   `json:"path"`
	Declared string   `json:"declared_type"`
	Real     string   `json:"real_type,omitempty"`
	Names    []string `json:"names,omitempty"`
	Kinds    []string `json:"kinds,omitempty"`
	Size     int64    `json:"size"`
	SHA256   string   `json:"sha256,omitempty"`
}

type explainedFinding struct {
	Kind     string `json:"kind"`
	Class    string `json:"class"`
	Part     string `json:"part,omitempty"`
	Offset   int64  `json:"offset"`
	Evidence string `json:"evidence,omitempty"`
}

type explainedCopy struct {
	To          []string `json:"to"`
	Disposition string   `json:"disposition"`
	Upstream    string   `json:"upstream,omitempty"`
	Actions     []string `json:"actions,omitempty"`
	Gains       []string `json:"gains,omitempty"` // header fields
	Size        int64    `json:"size"`
	Error       string   `json:"error,omitempty"`
}

// explain judges one message and tells all about it.
func explain(gw *gateway.Gateway, label string, tx *mail.Transaction) (*explained, error) {
	gw.Begin(tx)
	defer gw.Abort(tx)
	out := gw.Judge(context.Background(), tx)
	x := &explained{
		File: label, Policy: gw.State().Policy.Hash, Direction: string(tx.Direction), Listener: tx.Listener,
		Client: tx.Client.Addr().String(), Helo: tx.Helo, From: tx.ReversePath.String(), Size: tx.Message.Size(),
		Symbols: []explainedSymbol{}, Auth: []mail.AuthResult{}, Broken: []explainedBroken{}, Findings: []explainedFinding{},
		Times: map[string]float64{"judge": ms(out.Took)},
	}
	for _, r := range out.Results {
		x.Times[r.Filter] = ms(r.Elapsed)
		if r.Err != nil {
			x.Broken = append(x.Broken, explainedBroken{r.Filter, r.Err.Error()})
		}
		x.Auth = append(x.Auth, r.Verdict.Auth...)
		for _, s := range r.Verdict.Symbols {
			x.Score += s.Score
			x.Symbols = append(x.Symbols, explainedSymbol{r.Filter, s.Name, s.Score, string(s.Part), s.To.String(), s.Label, s.Evidence})
		}
	}
	for _, f := range tx.Message.Findings() {
		x.Findings = append(x.Findings, explainedFinding{string(f.Kind), fmt.Sprint(f.Kind.Class()), string(f.Part), f.Offset, f.Evidence})
	}
	for _, p := range tx.Message.Parts() {
		e := explainPart(p)
		for _, s := range x.Symbols {
			if kind, ok := strings.CutPrefix(s.Name, "ATTACHMENT_"); ok && s.Part == string(p.ID()) {
				e.Kinds = append(e.Kinds, strings.ReplaceAll(strings.ToLower(kind), "_", "-"))
			}
		}
		x.Parts = append(x.Parts, e)
	}
	x.decisions(out)
	x.copies(out)
	return x, nil
}

func explainPart(p *mail.Part) explainedPart {
	e := explainedPart{Path: string(p.ID()), Declared: p.MediaType(), Names: p.Names(), Size: p.Length()}
	if !p.IsLeaf() && len(p.Children()) > 0 && strings.HasPrefix(p.MediaType(), "multipart/") {
		return e
	}
	if data, err := p.Bytes(); err == nil {
		e.Size = int64(len(data))
		e.Real = mimetype.Detect(data).String()
	}
	h := p.Hash()
	e.SHA256 = hex.EncodeToString(h[:])
	return e
}

func (x *explained) decisions(out *gateway.Outcome) {
	for _, d := range out.Decisions {
		e := explainedDecision{
			To: d.Recipient.String(), Disposition: d.Disposition.String(), Rule: d.Rule, Why: d.Why, Queue: d.Queue, Score: d.Score, WouldRule: d.WouldRule,
			Rules: []explainedRule{},
		}
		if d.Reply.Code != 0 {
			e.Reply = d.Reply.String()
		}
		if d.Would != nil {
			e.Would = d.Would.String()
		}
		for _, a := range d.Actions {
			e.Actions = append(e.Actions, a.Name+" ("+a.Rule+")")
		}
		for _, t := range d.Trace {
			e.Rules = append(e.Rules, explainedRule{t.Rule, t.Line, t.Matched.String(), t.Watched, t.Key, t.Want, t.Got})
		}
		x.Decisions = append(x.Decisions, e)
	}
}

func (x *explained) copies(out *gateway.Outcome) {
	for _, c := range out.Copies {
		e := explainedCopy{Disposition: c.Disposition.String(), Upstream: c.Upstream, Size: c.Message.Size()}
		for _, p := range c.Recipients {
			e.To = append(e.To, p.String())
		}
		for _, a := range c.Actions {
			e.Actions = append(e.Actions, a.Name)
		}
		for _, f := range c.Fields {
			e.Gains = append(e.Gains, strings.TrimRight(f, "\r\n"))
		}
		if c.Err != nil {
			e.Error = c.Err.Error()
		}
		x.Copies = append(x.Copies, e)
	}
}

// write prints the explanation for people.
func (x *explained) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "file\t%s: %d bytes, %s, from <%s>, client %s\n", printable(x.File), x.Size, x.Direction, printable(x.From), x.Client)
	for _, d := range x.Decisions {
		verdict := d.Disposition
		if d.Queue != "" {
			verdict += fmt.Sprintf(" in %q", d.Queue)
		}
		fmt.Fprintf(w, "verdict\t%s for <%s> by rule %s: %s\n", verdict, printable(d.To), d.Rule, printable(d.Why))
		if d.Reply != "" {
			fmt.Fprintf(w, "\t%s\n", d.Reply)
		}
		if d.Would != "" {
			fmt.Fprintf(w, "\twatch mode: would be %s by rule %s\n", d.Would, d.WouldRule)
		}
	}
	symbols := append([]explainedSymbol(nil), x.Symbols...)
	sort.SliceStable(symbols, func(i, j int) bool { return symbols[i].Score > symbols[j].Score })
	fmt.Fprintf(w, "score\t%.1f\n", x.Score)
	for _, s := range symbols {
		where := ""
		if s.Part != "" {
			where = " part " + s.Part
		}
		fmt.Fprintf(w, "\t%s %+.1f%s %s\n", s.Name, s.Score, where, printable(s.Evidence))
	}
	for _, b := range x.Broken {
		fmt.Fprintf(w, "BROKEN\t%s: %s\n", b.Filter, printable(b.Error))
	}
	for i, p := range x.Parts {
		head := ""
		if i == 0 {
			head = "parts"
		}
		fmt.Fprintf(w, "%s\t%s %s %d B %s [%s]\n", head, p.Path, printable(p.Declared), p.Size, printable(strings.Join(p.Names, ", ")), strings.Join(p.Kinds, ", "))
	}
	for i, r := range x.ruleTable() {
		head := ""
		if i == 0 {
			head = "rules"
		}
		fmt.Fprintf(w, "%s\t%s\n", head, r)
	}
	fmt.Fprintf(w, "time\t%.2f ms\n\n", x.Times["judge"])
	return w.Flush()
}

// ruleTable is the trace of the first recipient.
func (x *explained) ruleTable() []string {
	var rows []string
	if len(x.Decisions) == 0 {
		return nil
	}
	for _, r := range x.Decisions[0].Rules {
		row := fmt.Sprintf("%-24s %-7s line %d", r.Rule, r.Matched, r.Line)
		if r.Key != "" {
			row += fmt.Sprintf("  %s: want %s, got %s", r.Key, printable(r.Want), printable(r.Got))
		}
		rows = append(rows, row)
	}
	return rows
}
