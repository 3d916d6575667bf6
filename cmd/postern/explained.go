package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/gabriel-vasile/mimetype"

	"postern/gateway"
	"postern/mail"
)

// An explained is what `postern explain --json` prints for one message. Its
// fields are stable: they are added to, never renamed.
type explained struct {
	File      string              `json:"file"`
	Policy    string              `json:"policy"` // hash of the policy file
	Name      string              `json:"policy_file"`
	Direction string              `json:"direction"`
	Listener  string              `json:"listener"`
	Client    string              `json:"client"`
	Helo      string              `json:"helo"`
	From      string              `json:"from"`                // reverse-path
	FromNote  string              `json:"from_note,omitempty"` // why it is the null one
	Size      int64               `json:"size"`
	Decisions []explainedDecision `json:"decisions"`
	Symbols   []explainedSymbol   `json:"symbols"`
	Auth      []explainedAuth     `json:"auth"`
	Broken    []explainedBroken   `json:"broken"`
	Score     float64             `json:"score"`
	Parts     []explainedPart     `json:"parts"`
	Findings  []explainedFinding  `json:"findings"`
	Copies    []explainedCopy     `json:"copies"`
	Notify    []explainedNotice   `json:"notify"`
	Times     map[string]float64  `json:"times_ms"`
}

type explainedDecision struct {
	To          string          `json:"to"`
	Disposition string          `json:"disposition"`
	Rule        string          `json:"rule"`
	Line        int             `json:"line,omitempty"` // of the rule in the policy file
	Why         string          `json:"why"`
	Reply       string          `json:"reply,omitempty"`
	Queue       string          `json:"queue,omitempty"`
	Actions     []string        `json:"actions,omitempty"`
	Would       string          `json:"would,omitempty"`
	WouldRule   string          `json:"would_rule,omitempty"`
	Callout     string          `json:"callout,omitempty"` // the upstream that is asked whether the recipient exists
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

// An explainedAuth is one authentication result.
type explainedAuth struct {
	Method     string            `json:"method"`
	Result     string            `json:"result"`
	Reason     string            `json:"reason,omitempty"`
	Properties map[string]string `json:"properties,omitempty"` // "smtp.mailfrom": "example.org"
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
	Queue       string   `json:"queue,omitempty"`
	Original    bool     `json:"original,omitempty"` // held beside the copy that a rewrite took something out of
	Actions     []string `json:"actions,omitempty"`
	Gains       []string `json:"gains,omitempty"` // header fields that the original does not have
	Loses       []string `json:"loses,omitempty"` // header fields that only the original has
	Size        int64    `json:"size"`
	Error       string   `json:"error,omitempty"`
}

// An explainedNotice is one message of notify.
type explainedNotice struct {
	To   string `json:"to"`
	Rule string `json:"rule"`
}

// explain takes one message the way of live mail and tells all about it.
func (e *explainCmd) explain(gw *gateway.Gateway, label string, v *envelope, data []byte) *explained {
	tx, unfit, note := e.received(v, data, gw.State().Parse)
	gw.Begin(tx)
	defer gw.Abort(tx)
	out := gw.Preview(context.Background(), tx, unfit)
	x := &explained{
		File: label, Policy: gw.State().Policy.Hash, Name: gw.State().Policy.Name, Direction: string(tx.Direction), Listener: tx.Listener,
		Client: tx.Client.Addr().String(), Helo: tx.Helo, From: tx.ReversePath.String(), FromNote: note, Size: tx.Message.Size(),
		Symbols: []explainedSymbol{}, Auth: []explainedAuth{}, Broken: []explainedBroken{}, Findings: []explainedFinding{}, Notify: []explainedNotice{},
		Times: map[string]float64{"judge": ms(out.Took)},
	}
	for _, r := range out.Results {
		x.Times[r.Filter] = ms(r.Elapsed)
		if r.Err != nil {
			x.Broken = append(x.Broken, explainedBroken{r.Filter, r.Err.Error()})
		}
		for _, a := range r.Verdict.Auth {
			x.Auth = append(x.Auth, explainAuth(a))
		}
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
	x.copies(out, tx.Message)
	x.asides(out)
	for _, n := range out.Notices {
		x.Notify = append(x.Notify, explainedNotice(n))
	}
	return x
}

func explainAuth(a mail.AuthResult) explainedAuth {
	e := explainedAuth{Method: a.Method, Result: a.Value, Reason: a.Reason}
	for _, p := range a.Properties {
		if e.Properties == nil {
			e.Properties = map[string]string{}
		}
		e.Properties[p.Type+"."+p.Name] = p.Value
	}
	return e
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

func (x *explained) decisions(out *gateway.Preview) {
	for _, d := range out.Decisions {
		e := explainedDecision{
			To: d.Recipient.String(), Disposition: d.Disposition.String(), Rule: d.Rule, Why: d.Why, Queue: d.Queue, Score: d.Score, WouldRule: d.WouldRule,
			Callout: out.Asked[d.Recipient],
			Rules:   []explainedRule{},
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
			if t.Rule == d.Rule {
				e.Line = t.Line
			}
			e.Rules = append(e.Rules, explainedRule{t.Rule, t.Line, t.Matched.String(), t.Watched, t.Key, t.Want, t.Got})
		}
		x.Decisions = append(x.Decisions, e)
	}
}

// without returns the header fields of m that other does not have, byte for
// byte.
func without(m, other *mail.Message) []string {
	has := map[string]int{}
	for _, f := range other.Header().Fields() {
		has[string(f.Raw())]++
	}
	var fields []string
	for _, f := range m.Header().Fields() {
		raw := string(f.Raw())
		if has[raw]--; has[raw] < 0 {
			fields = append(fields, strings.TrimRight(raw, "\r\n"))
		}
	}
	return fields
}

func (x *explained) copies(out *gateway.Preview, original *mail.Message) {
	for _, c := range out.Copies {
		e := explainedCopy{Disposition: c.Disposition.String(), Upstream: c.Upstream, Queue: c.Queue, Size: c.Message.Size()}
		for _, p := range c.Recipients {
			e.To = append(e.To, p.String())
		}
		for _, a := range c.Actions {
			e.Actions = append(e.Actions, a.Name)
		}
		e.Gains, e.Loses = without(c.Message, original), without(original, c.Message)
		if c.Err != nil {
			e.Error = c.Err.Error()
		}
		x.Copies = append(x.Copies, e)
	}
}

func (x *explained) asides(out *gateway.Preview) {
	for _, a := range out.Asides {
		e := explainedCopy{Disposition: a.Disposition, Upstream: a.Upstream, Queue: a.Queue, Original: a.Disposition == "quarantine", Size: a.Size}
		for _, p := range a.To {
			e.To = append(e.To, p.String())
		}
		if a.Err != nil {
			e.Error = a.Err.Error()
		}
		x.Copies = append(x.Copies, e)
	}
}
