package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"
)

// A block is the lines under one word at the left margin.
type block struct {
	word string
	rows [][]string // cells, aligned among the rows of the block
}

// write prints the explanation for people.
func (x *explained) write(out io.Writer) error {
	blocks := []block{x.head(), x.verdicts()}
	for _, b := range []block{x.auth(), x.scores(), x.broken(), x.content(), x.oddities()} {
		if len(b.rows) > 0 {
			blocks = append(blocks, b)
		}
	}
	blocks = append(blocks, x.outgoing())
	if len(x.Notify) > 0 {
		blocks = append(blocks, x.notices())
	}
	blocks = append(blocks, x.rules()...)
	blocks = append(blocks, x.time())
	for _, b := range blocks {
		if err := b.write(out); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(out)
	return err
}

// write prints a block: its word, then its rows with their cells aligned.
func (b *block) write(out io.Writer) error {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, cells := range b.rows {
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	word := b.word
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintf(out, "%-9s %s\n", word, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
		word = ""
	}
	return nil
}

func (x *explained) head() block {
	from := "<" + printable(x.From) + ">"
	if x.FromNote != "" {
		from += " (" + x.FromNote + ")"
	}
	return block{"message", [][]string{{fmt.Sprintf("%s, %s, %s by listener %q, from %s, client %s (%s)",
		printable(x.File), bytesText(x.Size), x.Direction, x.Listener, from, x.Client, printable(x.Helo))}}}
}

func (x *explained) verdicts() block {
	b := block{word: "verdict"}
	for _, d := range x.Decisions {
		fate := d.Disposition
		if d.Queue != "" {
			fate += fmt.Sprintf(" in %q", d.Queue)
		}
		rule := "by rule " + d.Rule
		if d.Line > 0 {
			rule += fmt.Sprintf(" (%s:%d)", filepath.Base(x.Name), d.Line)
		}
		b.rows = append(b.rows, []string{"<" + printable(d.To) + ">", fate, rule, printable(d.Why)})
		if d.Reply != "" {
			b.rows = append(b.rows, []string{"", printable(d.Reply)})
		}
		if d.Callout != "" {
			b.rows = append(b.rows, []string{"", "if upstream " + d.Callout + " knows the recipient: it is asked at RCPT, not here"})
		}
		if d.Would != "" {
			b.rows = append(b.rows, []string{"", "watch mode: would be " + d.Would, "by rule " + d.WouldRule})
		}
		for _, a := range d.Actions {
			b.rows = append(b.rows, []string{"", "action " + a})
		}
	}
	return b
}

func (x *explained) auth() block {
	var results []string
	for _, a := range x.Auth {
		text := fmt.Sprintf("%s %s", a.Method, a.Result)
		if a.Reason != "" {
			text += " (" + printable(a.Reason) + ")"
		}
		results = append(results, text)
	}
	if len(results) == 0 {
		return block{}
	}
	return block{"auth", [][]string{{strings.Join(results, " · ")}}}
}

func (x *explained) scores() block {
	b := block{word: "score", rows: [][]string{{fmt.Sprintf("%.1f", x.Score)}}}
	symbols := slices.Clone(x.Symbols)
	sort.SliceStable(symbols, func(i, j int) bool { return symbols[i].Score > symbols[j].Score })
	for _, s := range symbols {
		where := ""
		if s.Part != "" {
			where = "part " + s.Part + ": "
		}
		b.rows = append(b.rows, []string{fmt.Sprintf("%+.1f", s.Score), s.Name, where + printable(s.Evidence)})
	}
	return b
}

func (x *explained) broken() block {
	b := block{word: "BROKEN"}
	for _, f := range x.Broken {
		b.rows = append(b.rows, []string{f.Filter, printable(f.Error)})
	}
	return b
}

func (x *explained) content() block {
	b := block{word: "parts"}
	for _, p := range x.Parts {
		kind := printable(p.Declared)
		if p.differs() {
			kind += " (really " + p.Real + ")"
		}
		path := p.Path
		if path == "" {
			path = "-" // the message itself
		}
		b.rows = append(b.rows, []string{path, kind, bytesText(p.Size), printable(strings.Join(p.Names, ", ")), strings.Join(p.Kinds, ", ")})
	}
	return b
}

// differs reports whether the content is of another type than is declared, as
// far as that is worth a word: text is whatever it says.
func (p *explainedPart) differs() bool {
	media, _, _ := strings.Cut(p.Real, ";")
	return media != "" && media != p.Declared && !strings.HasPrefix(media, "text/") && media != "application/octet-stream"
}

func (x *explained) oddities() block {
	b := block{word: "findings"}
	for _, f := range x.Findings {
		where := "at byte " + fmt.Sprint(f.Offset)
		if f.Part != "" {
			where = "part " + f.Part + ", " + where
		}
		b.rows = append(b.rows, []string{f.Kind, f.Class, where, printable(f.Evidence)})
	}
	return b
}

// outgoing says what leaves: to whom, by which next hop, with which header
// fields more and less.
func (x *explained) outgoing() block {
	b := block{word: "copies"}
	for _, c := range x.Copies {
		text := c.Disposition
		if c.Original {
			text += " of the original"
		}
		if c.Queue != "" {
			text += fmt.Sprintf(" in %q", c.Queue)
		}
		if c.Upstream != "" {
			text += " by upstream " + c.Upstream
		}
		if len(c.Actions) > 0 {
			text += " after " + strings.Join(c.Actions, ", ")
		}
		if len(c.Gains) > 0 {
			text += "; gains " + fieldNames(c.Gains)
		}
		if len(c.Loses) > 0 {
			text += "; loses " + fieldNames(c.Loses)
		}
		if c.Error != "" {
			text = "FAILS: " + printable(c.Error)
		}
		b.rows = append(b.rows, []string{"<" + printable(strings.Join(c.To, "> <")) + ">", text})
	}
	return b
}

// notices say whom the rules tell.
func (x *explained) notices() block {
	b := block{word: "notify"}
	for _, n := range x.Notify {
		b.rows = append(b.rows, []string{"<" + printable(n.To) + ">", "by rule " + n.Rule})
	}
	return b
}

func fieldNames(fields []string) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		name, _, _ := strings.Cut(f, ":")
		names[i] = printable(name)
	}
	return strings.Join(names, ", ")
}

// rules are the traces; recipients for whom the rules came out alike share one.
func (x *explained) rules() []block {
	var blocks []block
	var people []string // of each block
	seen := map[string]int{}
	for _, d := range x.Decisions {
		if len(d.Rules) == 0 {
			continue // refused by none
		}
		b := block{word: "rules"}
		for i, r := range d.Rules {
			b.rows = append(b.rows, []string{fmt.Sprintf("%2d %s", i+1, r.Rule), r.answer(), r.reason()})
		}
		to := "<" + printable(d.To) + ">"
		if i, ok := seen[fmt.Sprint(b.rows)]; ok {
			people[i] += " " + to
			continue
		}
		seen[fmt.Sprint(b.rows)] = len(blocks)
		blocks, people = append(blocks, b), append(people, to)
	}
	for i := range blocks {
		if len(blocks) > 1 {
			blocks[i].rows = append([][]string{{"for " + people[i]}}, blocks[i].rows...)
		}
	}
	return blocks
}

func (r *explainedRule) answer() string {
	text := r.Matched
	if text == "yes" {
		text = "YES"
	}
	if r.Watched {
		text += " (watched)"
	}
	return text
}

// nothingFound is what the policy says of a message in which no filter found
// what a key asks for.
const nothingFound = "nothing of the kind"

// comparisons say how a key that compares two numbers fails.
var comparisons = []struct{ suffix, failed string }{
	{"_at_least", "less than"}, {"_over", "not more than"}, {"_up_to", "more than"},
}

// reason is the first key that failed, with both values.
func (r *explainedRule) reason() string {
	got := printable(r.Got)
	if got == "" {
		got = "empty"
	}
	key, excepted := strings.CutPrefix(r.Key, "except.")
	switch {
	case r.Key == "":
		return ""
	case r.Matched == "unknown":
		return fmt.Sprintf("cannot be told: %s: %s", r.Key, got)
	case excepted:
		return fmt.Sprintf("excepted: %s = %s: %s", key, printable(r.Want), got)
	}
	want := cut(printable(r.Want), 60)
	if got == nothingFound {
		return fmt.Sprintf("nothing is found for %s = %s", r.Key, want)
	}
	for _, c := range comparisons {
		if what, ok := strings.CutSuffix(r.Key, c.suffix); ok {
			return fmt.Sprintf("%s is %s, %s %s", what, got, c.failed, want)
		}
	}
	return fmt.Sprintf("%s is %s, not %s", r.Key, got, want)
}

func (x *explained) time() block {
	parts := []string{}
	for _, name := range sortedKeys(x.Times) {
		if name != "judge" {
			parts = append(parts, fmt.Sprintf("%s %.2f", name, x.Times[name]))
		}
	}
	text := fmt.Sprintf("%.2f ms", x.Times["judge"])
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	return block{"time", [][]string{{text}}}
}
