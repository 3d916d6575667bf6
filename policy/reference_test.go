package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/filters"
	"postern/filters/standard"
)

// referencePaths maps each key of the reference to its setting.
func referencePaths(t *testing.T) map[string]filters.Setting {
	t.Helper()
	all := map[string]filters.Setting{}
	names := map[string]bool{}
	for _, table := range Reference(standard.Filters) {
		if table.Doc == "" || table.Head == "" || names[table.Name] {
			t.Errorf("table %q has no doc or no head, or stands there twice", table.Name)
		}
		names[table.Name] = true
		if len(table.Settings) > 0 && table.Example == "" && table.Name != "action skip" { // no filter is scoring
			t.Errorf("table %q has no example", table.Name)
		}
		for _, s := range table.Settings {
			path := joinKey(table.Path, s.Key)
			if s.Doc == "" || s.Value == "" || strings.Contains(s.Key, "(") || strings.HasSuffix(s.Value, "a list of ") {
				t.Errorf("%s: key %s is not told of: %+v", table.Name, path, s)
			}
			all[path] = s
		}
	}
	return all
}

// TestReference: the example, which uses every key, and the reference have the
// same keys.
func TestReference(t *testing.T) {
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
	paths, used := referencePaths(t), map[string]bool{}
	var walk func(n *node, path string)
	walk = func(n *node, path string) {
		for _, e := range n.entries {
			at := path
			if e.key != "" {
				at = joinKey(path, e.key)
			}
			at = strings.Replace(at, "rule.except.", "rule.match.", 1)
			found, s := known(paths, at)
			used[found] = true
			if line, _ := c.log.src.locate(e.at); found == "" && (e.key != "" || len(e.entries) == 0) && !isTable(paths, at) {
				t.Errorf("line %d: %s is not in the reference", line, at)
			}
			if found == "" || s.Table || strings.HasPrefix(s.Value, "a table of match keys") {
				walk(e, at)
			}
		}
	}
	walk(c.root, "")
	for path := range paths {
		// skip needs a scoring filter, and none is built; the text of the disclaimer
		// comes from its file.
		rare := path == "rule.filters" || path == "filter.disclaimer.text" || path == "filter.disclaimer.html"
		if !used[path] && !rare && !strings.HasPrefix(path, "scores.") {
			t.Errorf("the reference has %s, which the example does not use", path)
		}
	}
}

// known looks a path of a file up, in which names of the author's own may stand.
func known(paths map[string]filters.Setting, at string) (string, filters.Setting) {
	parts := strings.Split(at, ".")
	for i := len(parts); i > 0; i-- {
		path := at
		if i < len(parts) {
			path = strings.Join(parts[:i], ".") + ".NAME"
			if i+1 < len(parts) {
				path += "." + strings.Join(parts[i+1:], ".")
			}
		}
		if s, ok := paths[path]; ok {
			return path, s
		}
	}
	return "", filters.Setting{}
}

// isTable reports whether keys of the reference stand below a path.
func isTable(paths map[string]filters.Setting, at string) bool {
	if i := strings.LastIndexByte(at, '.'); i >= 0 && at[:i] == "filter" || strings.HasPrefix(at, "quarantine.queue.") {
		return true
	}
	for path := range paths {
		if strings.HasPrefix(path, at+".") {
			return true
		}
	}
	return false
}

// TestReferenceHasEveryWord: every match key, action and symbol is told of.
func TestReferenceHasEveryWord(t *testing.T) {
	o := exampleOptions()
	o.Filters = standard.Filters
	c := newCompiler("empty", "", o.withDefaults())
	if !c.parse() {
		t.Fatal("parse")
	}
	c.compile()
	paths, actions := referencePaths(t), map[string]bool{}
	for _, table := range Reference(standard.Filters) {
		actions[strings.TrimPrefix(table.Name, "action ")] = true
	}
	for _, key := range c.matchWords() {
		if _, ok := paths["rule.match."+key]; !ok {
			t.Errorf("no match key %s", key)
		}
	}
	for _, name := range c.actionNames() {
		if !actions[name] {
			t.Errorf("no action %s", name)
		}
	}
	for name := range c.symbols {
		if _, ok := paths["scores."+name]; !ok {
			t.Errorf("no symbol %s", name)
		}
	}
}

func TestFindSetting(t *testing.T) {
	tables := Reference(standard.Filters)
	for question, want := range map[string]string{
		"greet_delay":                 "listener.limits.greet_delay",
		"listener.greet_delay":        "listener.limits.greet_delay",
		"listener.limits.greet_delay": "listener.limits.greet_delay",
		"size_over":                   "rule.match.size_over",
		"rule.except.size_over":       "rule.match.size_over",
		"match":                       "rule.match; match",
		"[[listener]]":                "listener",
		"listener.limits":             "listener.limits",
		"virus":                       "filter.virus; rule.match.virus",
		"filter.virus.on_failure":     "filter.NAME.on_failure",
		"quarantine.queue.spam.keep":  "quarantine.queue.NAME.keep",
		"tag":                         "action tag",
		"ATTACHMENT_MACRO":            "scores.ATTACHMENT_MACRO",
		"version":                     "version",
		"greet_dely":                  "? greet_delay",
		"listener.greet_dely":         "? greet_delay",
		"upstream.greet_delay":        "? greet_delay",
		"lisener":                     "? listener",
		"":                            "?",
		".":                           "?",
		"nothing-like-this":           "?",
	} {
		hits, near := FindSetting(tables, question)
		var got []string
		for _, h := range hits {
			if h.Setting == nil {
				got = append(got, h.Table.Name)
			} else {
				got = append(got, joinKey(h.Table.Path, h.Setting.Key))
			}
		}
		text := strings.Join(got, "; ")
		if len(hits) == 0 {
			text = strings.TrimSpace("? " + near)
		}
		if text != want {
			t.Errorf("%q finds %s, want %s", question, text, want)
		}
	}
}
