package standard

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"postern/filters"
)

// TestOrder checks that the list makes a chain.
func TestOrder(t *testing.T) {
	var c filters.Chain
	for _, f := range Filters {
		if err := c.Link(f, f.New(), filters.LinkSettings{}); err != nil {
			t.Error(err)
		}
	}
	for i, name := range []string{"strip", "disclaimer", "headers"} {
		if _, ok := c.Rewriter(name); !ok || i > 0 && c.Order(name) < c.Order("strip") {
			t.Errorf("%s is no rewriter, or stands before strip", name)
		}
	}
	if o := c.ParseOptions(); len(o.Unpack) == 0 {
		t.Error("nobody opens archives")
	}
}

// TestNames checks that names are unique in the program.
func TestNames(t *testing.T) {
	seen := map[string]string{}
	claim := func(what, name, filter string) {
		if other := seen[what+name]; other != "" {
			t.Errorf("%s %s: both %s and %s have it", what, name, other, filter)
		}
		seen[what+name] = filter
	}
	for _, f := range Filters {
		claim("filter", f.Name, f.Name)
		for _, s := range f.Symbols {
			claim("symbol", s.Name, f.Name)
		}
		for _, k := range f.Keys {
			claim("key", k.Name, f.Name)
		}
		for _, a := range f.Actions {
			claim("action", a.Name, f.Name)
		}
	}
}

// TestSymbols compares with the golden list: policies, logs and reports rely on
// symbols, so none is ever renamed or taken away. POSTERN_UPDATE=1 adds new
// ones.
func TestSymbols(t *testing.T) {
	const file = "testdata/symbols.txt"
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	var list []string
	for _, f := range Filters {
		for _, s := range f.Symbols {
			declared[s.Name] = true
			list = append(list, s.Name)
		}
	}
	listed := strings.Fields(string(golden))
	for _, name := range listed {
		if !declared[name] {
			t.Errorf("symbol %s was renamed or taken away", name)
		}
	}
	slices.Sort(list)
	var out bytes.Buffer
	for _, name := range list {
		fmt.Fprintln(&out, name)
	}
	if t.Failed() || bytes.Equal(out.Bytes(), golden) {
		return
	}
	if os.Getenv("POSTERN_UPDATE") == "" {
		t.Fatalf("%s lacks new symbols: POSTERN_UPDATE=1 go test . adds them", file)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
