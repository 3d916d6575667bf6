package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Severity says whether a problem refuses the policy.
type Severity uint8

const (
	Error   Severity = iota // the policy is refused
	Warning                 // the policy can run
)

// A Problem is one thing that is wrong with a policy file, and where.
type Problem struct {
	File       string   `json:"file"`
	Line       int      `json:"line"`   // from 1; 0: it stands nowhere in the file
	Column     int      `json:"column"` // in characters, from 1
	Severity   Severity `json:"severity"`
	Text       string   `json:"text"`
	Source     string   `json:"source"`               // the line
	Width      int      `json:"width"`                // of the caret mark, in characters
	Suggestion string   `json:"suggestion,omitempty"` // the word that was meant, perhaps
}

// String returns "file:line:column: text", without the source line; of what stands
// nowhere in the file "file: text".
func (p Problem) String() string {
	kind := ""
	if p.Severity == Warning {
		kind = "warning: "
	}
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s%s", p.File, kind, p.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s%s", p.File, p.Line, p.Column, kind, p.Text)
}

// Format returns the problem with its source line, the caret under the place
// and the suggestion, if there is one.
func (p Problem) Format() string {
	var b strings.Builder
	b.WriteString(p.String())
	b.WriteByte('\n')
	if p.Line == 0 {
		return b.String()
	}
	number := fmt.Sprintf("%5d", p.Line)
	fmt.Fprintf(&b, "%s | %s\n", number, strings.ReplaceAll(p.Source, "\t", " "))
	fmt.Fprintf(&b, "%s | %s%s", strings.Repeat(" ", len(number)), strings.Repeat(" ", max(p.Column-1, 0)), strings.Repeat("^", max(p.Width, 1)))
	if p.Suggestion != "" {
		fmt.Fprintf(&b, " did you mean %q?", p.Suggestion)
	}
	b.WriteByte('\n')
	return b.String()
}

// MarshalText writes the severity's word.
func (s Severity) MarshalText() ([]byte, error) {
	if s == Warning {
		return []byte("warning"), nil
	}
	return []byte("error"), nil
}

// Problems is everything that is wrong with a policy: the error of Load.
type Problems []Problem

// Error returns all problems, each with its source line.
func (ps Problems) Error() string {
	var b strings.Builder
	for _, p := range ps {
		b.WriteString(p.Format())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Count returns how many errors and how many warnings there are.
func (ps Problems) Count() (errors, warnings int) {
	for _, p := range ps {
		if p.Severity == Error {
			errors++
		} else {
			warnings++
		}
	}
	return errors, warnings
}

// A source is a text that problems point into.
type source struct {
	name  string
	text  string
	lines []int // offset of each line, made when first needed
}

// locate returns the line and the column of an offset.
func (s *source) locate(at int) (line, column int) {
	if s.lines == nil {
		s.lines = []int{0}
		for i := range len(s.text) {
			if s.text[i] == '\n' {
				s.lines = append(s.lines, i+1)
			}
		}
	}
	at = min(max(at, 0), len(s.text))
	i, found := slices.BinarySearch(s.lines, at)
	if !found {
		i--
	}
	return i + 1, utf8.RuneCountInString(s.text[s.lines[i]:at]) + 1
}

// line returns the text of a line, from 1.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	text, _, _ := strings.Cut(s.text[s.lines[n-1]:], "\n")
	return strings.TrimSuffix(text, "\r")
}

// problem makes a problem about the text between two offsets.
func (s *source) problem(severity Severity, at, end int, text string) Problem {
	at = min(max(at, 0), len(s.text)) // BurntSushi/toml blames byte -1 for some control characters
	line, column := s.locate(at)
	p := Problem{File: s.name, Line: line, Column: column, Severity: severity, Text: text, Source: s.line(line), Width: 1}
	if end > at && end <= len(s.text) {
		first, _, _ := strings.Cut(s.text[at:end], "\n")
		p.Width = max(utf8.RuneCountInString(first), 1)
	}
	return p
}

// A log of problems. Each place is blamed once for the same thing.
type problemLog struct {
	src  *source
	list Problems
	errs int // how many of them are errors
	seen map[string]bool
}

func (l *problemLog) add(p Problem) {
	if l.seen == nil {
		l.seen = map[string]bool{}
	}
	if key := p.String(); !l.seen[key] {
		l.seen[key] = true
		l.list = append(l.list, p)
		if p.Severity == Error {
			l.errs++
		}
	}
}

// failed reports whether there is an error.
func (l *problemLog) failed() bool { return l.errs > 0 }

// value blames the value of n.
func (l *problemLog) value(n *node, format string, args ...any) {
	l.at(Error, n, false, "", fmt.Sprintf(format, args...))
}

// key blames the key of n.
func (l *problemLog) key(n *node, format string, args ...any) {
	l.at(Error, n, true, "", fmt.Sprintf(format, args...))
}

// warn warns about the key of n.
func (l *problemLog) warn(n *node, format string, args ...any) {
	l.at(Warning, n, true, "", fmt.Sprintf(format, args...))
}

// maxKnown is how many known words a problem lists at most.
const maxKnown = 40

// word blames an unknown word in the value of n, or in its key, and suggests
// the known one that is nearest.
func (l *problemLog) word(n *node, key bool, word, text string, known []string) {
	near := nearest(word, known)
	if near == "" && len(known) > 0 && len(known) <= maxKnown {
		text += "; known: " + strings.Join(known, ", ")
	}
	l.at(Error, n, key, near, text)
}

// at blames the key or the value of n; without one, what stands nowhere in the
// file.
func (l *problemLog) at(severity Severity, n *node, key bool, near, text string) {
	if n == nil {
		l.add(Problem{File: l.src.name, Severity: severity, Text: text})
		return
	}
	at, end := n.at, n.end
	if key {
		at, end = n.keyAt, n.keyEnd
	}
	p := l.src.problem(severity, at, end, text)
	p.Suggestion = near
	l.add(p)
}

// sort brings the problems into the order of the file.
func (l *problemLog) sort() {
	slices.SortStableFunc(l.list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// nearest returns the known word that is one edit away, or two if the word is
// longer than four letters; empty if there is none.
func nearest(word string, known []string) string {
	limit := 1
	if len(word) > 4 {
		limit = 2
	}
	best, found := limit+1, ""
	for _, k := range known {
		if d := editDistance(word, k, limit); d < best {
			best, found = d, k
		}
	}
	return found
}

// editDistance counts insertions, deletions, changes and swaps of neighbours
// that make b of a; more than limit is limit+1.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit+1)
}
