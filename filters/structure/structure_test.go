package structure_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/filters"
	"postern/filters/filterstest"
	"postern/filters/structure"
	"postern/mail"
)

func TestConformance(t *testing.T) { filterstest.Run(t, structure.Filter, filterstest.Options{}) }

func TestReadme(t *testing.T) { filterstest.Readme(t, structure.Filter) }

// TestEveryKind checks that no finding of the parser goes unreported.
func TestEveryKind(t *testing.T) {
	declared := map[string]bool{}
	for _, s := range structure.Filter.Symbols {
		declared[s.Name] = true
	}
	for _, f := range mail.Findings {
		if !declared[structure.Symbol(f.Kind)] {
			t.Errorf("%s has no symbol", f.Kind)
		}
	}
	if words := len(structure.Filter.Keys[0].Values); words != len(mail.Findings)+3 {
		t.Errorf("the match key has %d words for %d kinds and 3 classes", words, len(mail.Findings))
	}
}

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		name, message string
		want          []string
	}{
		{"plain", "From: a@b.example\nSubject: hello\n\nHello.\n", nil},
		{"two types", "From: a@b.example\nMIME-Version: 1.0\nContent-Type: text/plain\nContent-Type: text/html\n\nx\n", []string{"STRUCTURE_DUPLICATE_CONTENT_TYPE"}},
		{"two authors", "From: a@b.example\nFrom: c@d.example\n\nx\n", []string{"STRUCTURE_DUPLICATE_FROM"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tx := filterstest.Transaction(filterstest.Message(test.message, mail.Options{}))
			v := filterstest.Check(t, filterstest.New(t, structure.Filter, filterstest.Options{}), tx)
			if diff := cmp.Diff(test.want, filterstest.Names(v)); diff != "" && len(test.want)+len(v.Symbols) > 0 {
				t.Error(diff)
			}
		})
	}
}

// TestOncePerKind checks that a thousand equal faults weigh no more than one.
func TestOncePerKind(t *testing.T) {
	message := "From: a@b.example\n" + strings.Repeat("no colon here\n", 1000) + "\nx\n"
	tx := filterstest.Transaction(filterstest.Message(message, mail.Options{}))
	v := filterstest.Check(t, filterstest.New(t, structure.Filter, filterstest.Options{}), tx)
	seen := map[string]bool{}
	for _, s := range v.Symbols {
		if seen[s.Name] {
			t.Errorf("%s twice", s.Name)
		}
		seen[s.Name] = true
	}
	if len(v.Symbols) == 0 || !strings.Contains(v.Symbols[0].Evidence, "times)") {
		t.Errorf("%+v", v.Symbols)
	}
}

// BenchmarkRelay is what a message costs when only the structure is looked at.
func BenchmarkRelay(b *testing.B) {
	var c filters.Chain
	if err := c.Link(structure.Filter, structure.Filter.New(), filters.LinkSettings{}); err != nil {
		b.Fatal(err)
	}
	raw := []byte(strings.ReplaceAll("From: a@b.example\nTo: c@d.example\nSubject: hello\n\n"+strings.Repeat("A line of text that says nothing at all.\n", 500), "\n", "\r\n"))
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		c.Check(b.Context(), filterstest.Transaction(mail.ParseBytes(raw, mail.Options{})))
	}
}
