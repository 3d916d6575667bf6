package policy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/filters/standard"
)

// exampleOptions can read the files that testdata/language.toml names.
func exampleOptions() LoadOptions {
	o := fakeOptions()
	o.ReadFile = func(name string) ([]byte, error) {
		switch filepath.Base(name) {
		case "recipients":
			return []byte("# who is there\nBob@example.fr\n@list.example.fr\n"), nil
		case "newsletters.txt", "interns.txt":
			return []byte("# entries\nnews@letter.example\n\n@digest.example # a domain\n"), nil
		}
		return nil, errors.New("no such file")
	}
	o.Getenv = func(name string) string { return map[string]string{"UPSTREAM_PASSWORD": "secret"}[name] }
	return o
}

// freeKeys hold text that a letter more or less cannot make wrong.
var freeKeys = map[string]bool{
	"name": true, "why": true, "hostname": true, "domains": true, "admin": true, "address": true, "file": true, "env": true,
	"certificate": true, "key": true, "client_ca": true, "ca": true, "client_cert": true, "client_key": true, "server_name": true,
	"user": true, "for": true, "state": true, "reply": true, "copy_to": true, "zone": true, "engines": true, "trusted_sealers": true, "lookalike_of": true, "exempt": true, "selector": true, "domain": true,
	"program": true, "text": true, "text_file": true, "html_file": true, "virus_name": true, "subject": true, "headers": true, "header": true, "helo": true, "note": true, "attachment_name": true, "from": true, "to": true,
	"reverse_path": true, "client": true, "body": true, "html": true, "attach": true, "content": true, "type": true, "partners": true, "marketing": true,
	"journal": true,
}

// namesUnder are tables whose keys are names of the author's own.
var namesUnder = map[string]bool{"list": true, "group": true, "header": true, "headers": true}

type mutation struct {
	at   int
	what string // the whole word
}

// words finds every schema key and every word of a closed set in the tree.
func words(n *node, text string, parent string, out []mutation) []mutation {
	for _, e := range n.entries {
		inherit := e.key
		if inherit == "" {
			inherit = parent
		} else if !namesUnder[parent] && e.keyEnd > e.keyAt {
			out = append(out, mutation{at: e.keyAt, what: text[e.keyAt:e.keyEnd]})
		}
		if s, ok := e.value.(string); ok && e.kind == scalarNode && s != "" {
			isRef := strings.HasPrefix(s, "list:") || strings.HasPrefix(s, "group:")
			if isRef || !freeKeys[inherit] && !namesUnder[parent] && !strings.ContainsAny(s, "/@ :") && strings.Trim(s, "0123456789.") != "" {
				out = append(out, mutation{at: e.at + 1, what: s})
			}
		}
		out = words(e, text, inherit, out)
	}
	return out
}

// changes returns the text with one letter of the word changed, for each letter.
func (m mutation) changes(text string) []string {
	var all []string
	for i := range len(m.what) {
		c := m.what[i]
		if !isLetter(c) {
			continue
		}
		for _, to := range []byte{'q', c ^ 0x20}[:changesPerLetter] {
			if to != c && isLetter(to) {
				all = append(all, text[:m.at+i]+string(to)+text[m.at+i+1:])
			}
		}
	}
	return all
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// checkMutations changes every letter of every key and word of a policy and
// wants an error on that line, with the right word as its suggestion.
func checkMutations(t *testing.T, text string, o LoadOptions) {
	t.Helper()
	if _, err := Load("example.toml", []byte(text), o); err != nil {
		t.Fatalf("the example itself:\n%v", err)
	}
	c := newCompiler("example.toml", text, o.withDefaults())
	if !c.parse() {
		t.Fatal("parse")
	}
	count, hints := 0, 0
	seen := map[string]bool{}
	for _, m := range words(c.root, text, "", nil) {
		if underRace && seen[m.what] {
			continue // the race detector makes it fifteen times slower, and there is no concurrency here
		}
		seen[m.what] = true
		line, _ := c.log.src.locate(m.at)
		for _, changed := range m.changes(text) {
			count++
			word := changed[m.at : m.at+len(m.what)]
			if _, err := Load("example.toml", []byte(changed), o); err == nil {
				t.Errorf("line %d: %s changed to %s is accepted", line, m.what, word)
			} else if hint, ok := blamed(err, line); !ok {
				t.Errorf("line %d: %s changed to %s is an error elsewhere:\n%v", line, m.what, word, err)
			} else if hint {
				hints++
			} else if m.what[0] > '9' {
				t.Errorf("line %d: %s changed to %s has no suggestion:\n%v", line, m.what, word, err)
			}
		}
	}
	t.Logf("%d mutations refused on their line, %d of them with a suggestion", count, hints)
	if count < 500 && !underRace {
		t.Errorf("only %d mutations", count)
	}
}

// blamed reports whether an error stands on the line, and has a suggestion.
func blamed(err error, line int) (hint, ok bool) {
	var ps Problems
	if !errors.As(err, &ps) {
		return false, false
	}
	for _, p := range ps {
		if p.Line == line && p.Severity == Error {
			ok = true
			hint = hint || p.Suggestion != ""
		}
	}
	return hint, ok
}

// TestMutations runs over a policy that uses everything that is built.
func TestMutations(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "example.toml"))
	if err != nil {
		t.Fatal(err)
	}
	o := exampleOptions()
	o.Filters = standard.Filters
	checkMutations(t, string(text), o)
}

// TestExampleUsesEverything: a key, a table, a filter or an action that is
// built and does not occur in the example is not proven.
func TestExampleUsesEverything(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "example.toml"))
	if err != nil {
		t.Fatal(err)
	}
	o := exampleOptions()
	o.Filters = standard.Filters
	c := newCompiler("example.toml", string(text), o.withDefaults())
	if !c.parse() {
		t.Fatal("parse")
	}
	c.compile()
	used := map[string]bool{}
	var walk func(n *node)
	walk = func(n *node) {
		used[n.key] = true
		if s, ok := n.value.(string); ok {
			used[s] = true
		}
		for _, e := range n.entries {
			walk(e)
		}
	}
	walk(c.root)
	want := append(c.matchWords(), c.actionNames()...)
	want = append(want, Queues...)
	want = append(want, noticeWords...)
	for ty := range c.dec.shapes {
		want = append(want, c.dec.shapes[ty].names...)
	}
	for _, word := range want {
		// skip needs a scoring filter, and none is built; a secret comes from one
		// place; the text of the disclaimer comes from its file.
		if !used[word] && word != "skip" && word != "credential" {
			t.Errorf("the example does not use %q", word)
		}
	}
}

func ExampleProblem_Format() {
	_, err := Load("policy.toml", []byte("version = 1\n[site]\ndomains = [\"example.org\"]\nlanguge = \"fr\"\n[[upstream]]\nname = \"m\"\nto = [\"10.0.0.1:25\"]\nfor = [\"example.org\"]\n"), fakeOptions())
	var ps Problems
	errors.As(err, &ps)
	fmt.Print(ps[len(ps)-1].Format())
	// Output:
	// policy.toml:4:1: unknown key "languge" in site
	//     4 | languge = "fr"
	//       | ^^^^^^^ did you mean "language"?
}
