package postern_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/filters/standard"
	"postern/policy"
)

// tomlBlock matches an example of the policy file in a document.
var tomlBlock = regexp.MustCompile("(?ms)^```toml\n(.*?)^```$")

// topTable matches a line that begins a table.
var topTable = regexp.MustCompile(`(?m)^\[+([a-z_]+)[.\]]`)

// frame holds the tables that an example may leave out: what it does not say
// itself it gets from here.
var frame = []struct{ table, text string }{
	{"site", "[site]\ndomains = [\"example.org\"]\n"},
	{"upstream", "[[upstream]]\nname = \"mail\"\nto = [\"10.0.5.10:25\"]\nfor = [\"example.org\"]\n"},
}

// framed completes an example to a policy.
func framed(example string) string {
	said := map[string]bool{}
	for _, m := range topTable.FindAllStringSubmatch(example, -1) {
		said[m[1]] = true
	}
	for _, f := range frame {
		if !said[f.table] {
			example += "\n" + f.text
		}
	}
	return example
}

func TestDocumentsHaveValidPolicies(t *testing.T) {
	names, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, name := range append(names, "README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range tomlBlock.FindAllSubmatchIndex(text, -1) {
			checked++
			line := 1 + strings.Count(string(text[:at[0]]), "\n")
			load(t, name, line, framed(string(text[at[2]:at[3]])))
		}
	}
	if checked == 0 {
		t.Error("no document has an example of a policy")
	}
}

func TestSamplePoliciesAreValid(t *testing.T) {
	names, err := filepath.Glob("testdata/*/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		load(t, name, 1, string(text))
	}
}

// load checks one policy as `postern check` does. Files that an example names
// need not exist: they hold one address.
func load(t *testing.T, name string, line int, text string) {
	t.Helper()
	_, err := policy.Load(name, []byte(text), policy.LoadOptions{
		Filters:  standard.Filters,
		ReadFile: func(string) ([]byte, error) { return []byte("somebody@example.org\n"), nil },
		Getenv:   func(string) string { return "something" },
		Hostname: "mx.example.org",
		Now:      func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		t.Errorf("the policy at %s:%d:\n%v", name, line, err)
	}
}

// link matches a link of a document to a file of the repository.
var link = regexp.MustCompile(`\]\(([^)#:]+)\)`)

func TestDocumentsLinkToFiles(t *testing.T) {
	names, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, more...) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
		}
	}
}
