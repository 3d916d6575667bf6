// Package structure turns what the mail parser finds about a message into
// symbols: where clients read it differently, where it breaks a standard, where
// a limit was hit.
//
// # Diagnostics
//
// A message that cannot be read makes the filter broken.
package structure

import (
	"context"
	"fmt"
	"strings"

	"postern/filters"
	"postern/mail"
)

// Filter declares the structure filter.
var Filter = &filters.Filter{
	Name:    "structure",
	Doc:     "reports how a message is built where that is ambiguous, malformed or beyond the limits",
	Stage:   filters.Data,
	Light:   true,
	Symbols: symbols(),
	Keys: []filters.MatchKey{{
		Name:   "structure",
		Doc:    "the message is built in that way: a class of findings, or one kind of them",
		Say:    [2]string{"whose structure is %s", "dont la structure est : %s"},
		Kind:   filters.KeyEnum,
		Values: values(),
	}},
	New: func() filters.Checker { return &Checker{} },
}

// scores is what one finding of a class weighs. Each kind counts once.
var scores = map[mail.FindingClass]float64{mail.Ambiguous: 1.5, mail.Limit: 2, mail.Malformed: 0.1}

// symbols declares one symbol for each kind of finding.
func symbols() []filters.SymbolDoc {
	docs := make([]filters.SymbolDoc, len(mail.Findings))
	for i, f := range mail.Findings {
		docs[i] = filters.SymbolDoc{Name: Symbol(f.Kind), Score: scores[f.Class], Doc: f.Doc, DocFR: f.DocFR}
	}
	return docs
}

// values declares the words of the match key: the classes, then the kinds.
func values() []filters.KeyValue {
	var all []filters.KeyValue
	for _, class := range []mail.FindingClass{mail.Ambiguous, mail.Limit, mail.Malformed} {
		v := filters.KeyValue{Word: string(class)}
		for _, f := range mail.Findings {
			if f.Class == class {
				v.Symbols = append(v.Symbols, Symbol(f.Kind))
			}
		}
		all = append(all, v)
	}
	for _, f := range mail.Findings {
		all = append(all, filters.KeyValue{Word: string(f.Kind), Symbols: []string{Symbol(f.Kind)}})
	}
	return all
}

// Symbol returns the symbol of a kind of finding.
func Symbol(k mail.FindingKind) string {
	return "STRUCTURE_" + strings.ToUpper(strings.ReplaceAll(string(k), "-", "_"))
}

// names holds the symbol of every kind, so that Check does not build strings.
var names = func() map[mail.FindingKind]string {
	m := make(map[mail.FindingKind]string, len(mail.Findings))
	for _, f := range mail.Findings {
		m[f.Kind] = Symbol(f.Kind)
	}
	return m
}()

// Checker has no settings.
type Checker struct{}

// Check reports each kind of finding once, with where it was first seen.
func (*Checker) Check(_ context.Context, tx *mail.Transaction, _ filters.Results) (filters.Verdict, error) {
	findings := tx.Message.Findings()
	if err := tx.Message.Err(); err != nil {
		return filters.Verdict{}, fmt.Errorf("read message: %w", err)
	}
	if len(findings) == 0 {
		return filters.Verdict{}, nil
	}
	var v filters.Verdict
	count := make(map[mail.FindingKind]int, len(findings))
	first := make([]mail.Finding, 0, len(findings))
	for _, f := range findings {
		if count[f.Kind]++; count[f.Kind] == 1 {
			first = append(first, f)
		}
	}
	for _, f := range first {
		v.Symbols = append(v.Symbols, filters.Symbol{Name: names[f.Kind], Part: f.Part, Evidence: evidence(f, count[f.Kind])})
	}
	return v, nil
}

// evidence tells where a finding was seen.
func evidence(f mail.Finding, times int) string {
	var b strings.Builder
	if f.Part == "" {
		fmt.Fprintf(&b, "at byte %d", f.Offset)
	} else {
		fmt.Fprintf(&b, "part %s at byte %d", f.Part, f.Offset)
	}
	if f.Evidence != "" {
		b.WriteString(": " + filters.Clean(f.Evidence, 120))
	}
	if times > 1 {
		fmt.Fprintf(&b, " (%d times)", times)
	}
	return b.String()
}
