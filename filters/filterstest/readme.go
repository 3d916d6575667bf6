package filterstest

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"postern/filters"
)

// Tables returns the parts of a filter's README that are made from its
// declaration: settings, symbols, match keys and actions.
func Tables(f *filters.Filter) string {
	var b strings.Builder
	b.WriteString("## Settings\n\n")
	writeSettings(&b, f.New(), fmt.Sprintf("None of its own in `[filter.%s]`.\n", f.Name))
	if len(f.Symbols) > 0 {
		b.WriteString("\n## Symbols\n\n| symbol | score | meaning |\n|---|---|---|\n")
		for _, s := range f.Symbols {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Name, strconv.FormatFloat(s.Score, 'g', -1, 64), s.Doc)
		}
	}
	if len(f.Keys) > 0 {
		b.WriteString("\n## Match keys\n\n| key | value | matches when |\n|---|---|---|\n")
		for _, k := range f.Keys {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.Name, values(k), k.Doc)
		}
	}
	for _, a := range f.Actions {
		fmt.Fprintf(&b, "\n## Action `%s`\n\nIt %s.\n\n", a.Name, a.Doc)
		writeSettings(&b, a.New(), "It has no keys of its own.\n")
	}
	return b.String()
}

func writeSettings(b *strings.Builder, v any, none string) {
	settings := filters.Settings(v)
	if len(settings) == 0 {
		b.WriteString(none)
		return
	}
	b.WriteString("| key | default | meaning |\n|---|---|---|\n")
	for _, s := range settings {
		if !s.Table || s.Default != "" {
			fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", s.Key, s.Default, s.Doc)
		}
	}
}

func values(k filters.MatchKey) string {
	switch k.Kind {
	case filters.KeyBool:
		return "true or false"
	case filters.KeyName:
		return "names"
	}
	words := make([]string, len(k.Values))
	for i, v := range k.Values {
		words[i] = "`" + v.Word + "`"
	}
	return strings.Join(words, " ")
}

// Readme checks the README.md of the filter in the current directory: its
// name, that it holds Tables, and that the filter's own tables in its examples
// are right. With POSTERN_UPDATE=1 the tables are written into it.
func Readme(t *testing.T, f *filters.Filter) {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "## Settings\n", "\n## Examples\n"
	from, to := bytes.Index(text, []byte(begin)), bytes.Index(text, []byte(end))
	if !bytes.HasPrefix(text, []byte("# "+f.Name+"\n")) || from < 0 || to < from {
		t.Fatalf("README.md is not: # %s, a description, ## Settings ..., ## Examples", f.Name)
	}
	if string(text[from:to]) != Tables(f) {
		if os.Getenv("POSTERN_UPDATE") == "" {
			t.Errorf("README.md is not up to date: POSTERN_UPDATE=1 go test . writes it")
		} else if err := os.WriteFile("README.md", []byte(string(text[:from])+Tables(f)+string(text[to:])), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	examples := 0
	for _, block := range strings.Split(string(text[to:]), "```toml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		checkExample(t, f, block)
		examples++
	}
	if examples == 0 {
		t.Error("README.md has no example in TOML")
	}
}

// checkExample decodes what an example says to this filter.
func checkExample(t *testing.T, f *filters.Filter, block string) {
	t.Helper()
	var policy struct {
		Filter map[string]toml.Primitive `toml:"filter"`
	}
	meta, err := toml.Decode(block, &policy)
	if err != nil {
		t.Errorf("example: %v", err)
		return
	}
	table, ok := policy.Filter[f.Name]
	if !ok {
		return
	}
	generic := struct {
		Enabled   bool             `toml:"enabled"`
		Timeout   filters.Duration `toml:"timeout"`
		OnFailure filters.Failure  `toml:"on_failure"`
	}{}
	c := f.New()
	for _, v := range []any{&generic, c} {
		if err := meta.PrimitiveDecode(table, v); err != nil {
			t.Errorf("example: %v", err)
		}
	}
	if v, ok := c.(filters.Validator); ok {
		if err := v.Validate(); err != nil {
			t.Errorf("example: %v", err)
		}
	}
	for _, key := range meta.Undecoded() {
		if len(key) > 2 && key[0] == "filter" && key[1] == f.Name {
			t.Errorf("example: unknown key %s", key)
		}
	}
}
