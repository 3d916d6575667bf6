package policy

import (
	"slices"
	"strconv"
	"strings"

	"postern/filters"
)

// A ReferenceTable tells of one table of the policy file, of the match keys or of
// one action, from the declarations by which the loader reads them.
type ReferenceTable struct {
	Name     string // "listener", "filter.virus", "match", "action tag"
	Head     string // how it is written
	Path     string // what stands before its keys: "listener", "rule.match", "rule"
	Doc      string
	Settings []filters.Setting
	Example  string // a piece of a policy file; empty: there is none
}

// tableDoc declares a table of the policy file for the reference.
type tableDoc struct {
	path, head, doc string
	fields          func() any
	example         string
}

// Reference tells of every setting there is, in the order of the policy file.
func Reference(list []*filters.Filter) []ReferenceTable {
	var tables []ReferenceTable
	for i := range tableDocs {
		d := &tableDocs[i]
		t := ReferenceTable{Name: d.path, Head: d.head, Path: d.path, Doc: d.doc, Example: d.example}
		switch {
		case d.path == "scores":
			t.Settings = symbolSettings(list)
		case d.path == "rule.match":
			t.Name, t.Settings = "match", matchSettings(list)
		case d.path == "":
			t.Name = "top"
			t.Settings = slices.DeleteFunc(documented(d.fields()), func(s filters.Setting) bool { return strings.Contains(s.Key, ".") })
		case d.fields == nil:
			t.Settings = []filters.Setting{{
				Key: "NAME", Value: `a list of addresses, domains and patterns, or { file = "..." } with one of them a line`,
				Doc: "what is in it: bob@example.org, @example.org, @*.example.org, *.sales@example.org",
			}}
		default:
			t.Settings = documented(d.fields())
		}
		tables = append(tables, t)
		if d.path == "filter.NAME" {
			tables = append(tables, filterReference(list)...)
		}
	}
	return append(tables, actionReference(list)...)
}

// documented lists the settings that have a doc tag: tables of the file that
// have a section of their own have none. What is nothing is no default.
func documented(v any) []filters.Setting {
	all := slices.DeleteFunc(filters.Settings(v), func(s filters.Setting) bool { return s.Doc == "" })
	for i := range all {
		if d := all[i].Default; d == `""` || d == "[]" || d == "{}" {
			all[i].Default = ""
		}
	}
	return all
}

func filterReference(list []*filters.Filter) []ReferenceTable {
	tables := make([]ReferenceTable, 0, len(list))
	for _, f := range list {
		path := "filter." + f.Name
		tables = append(tables, ReferenceTable{
			Name: path, Head: "[" + path + "]", Path: path, Doc: sentence(f.Doc), Settings: documented(f.New()), Example: filterExamples[f.Name],
		})
	}
	return tables
}

func symbolSettings(list []*filters.Filter) []filters.Setting {
	var all []filters.Setting
	for _, f := range list {
		for _, s := range f.Symbols {
			all = append(all, filters.Setting{
				Key: s.Name, Value: "a number from -1000 to 1000", Default: strconv.FormatFloat(s.Score, 'g', -1, 64),
				Doc: s.Doc + " (Filter " + f.Name + ".)",
			})
		}
	}
	return all
}

func matchSettings(list []*filters.Filter) []filters.Setting {
	var all []filters.Setting
	for i := range matchKeys {
		all = append(all, filters.Setting{Key: matchKeys[i].name, Value: matchKeys[i].value, Doc: "matches when " + matchKeys[i].doc})
	}
	for _, f := range list {
		for _, k := range f.Keys {
			s := filters.Setting{Key: k.Name, Value: "true or false", Doc: "matches when " + k.Doc + " (filter " + f.Name + ")"}
			switch k.Kind {
			case filters.KeyName:
				s.Value = "a pattern, or a list of them"
			case filters.KeyEnum:
				words := make([]string, len(k.Values))
				for i, v := range k.Values {
					words[i] = strconv.Quote(v.Word)
				}
				s.Value = listWords(words, " or ") + ", or a list of them"
			}
			all = append(all, s)
		}
	}
	return all
}

// wordSettings are the keys of the policy's own actions.
var wordSettings = map[string]filters.Setting{
	"reply":   {Value: `a reply, as in "550 5.7.1 text"`, Doc: "code, enhanced status code and text for the client; {" + strings.Join(placeholders, "}, {") + "} stand for what they name"},
	"queue":   {Value: `"` + strings.Join(Queues, `", "`) + `"`, Default: `"policy"`, Doc: "queue of the quarantine; a rule about malware has \"malware\" for its default"},
	"filters": {Value: "a list of texts", Doc: "scoring filters to lift"},
	"copy_to": {Value: "an address, or a list of them", Doc: "addresses of the archive"},
}

func actionReference(list []*filters.Filter) []ReferenceTable {
	var tables []ReferenceTable
	add := func(name, doc string, settings []filters.Setting) {
		tables = append(tables, ReferenceTable{
			Name: "action " + name, Head: "[[rule]] action = " + strconv.Quote(name), Path: "rule", Doc: "The action " + doc + ".",
			Settings: settings, Example: actionExamples[name],
		})
	}
	for i := range actionWords {
		w := &actionWords[i]
		var settings []filters.Setting
		for _, key := range w.keys {
			s := wordSettings[key]
			s.Key = key
			if key == "reply" {
				s.Default = strconv.Quote(ownReplies[w.name])
			}
			settings = append(settings, s)
		}
		add(w.name, w.doc, settings)
	}
	for _, f := range list {
		for i := range f.Actions {
			a := &f.Actions[i]
			add(a.Name, a.Doc+" (filter "+f.Name+")", documented(a.New()))
		}
	}
	return tables
}

// A ReferenceHit is what a question to the reference found: a setting of a
// table, or, without one, the table.
type ReferenceHit struct {
	Table   *ReferenceTable
	Setting *filters.Setting
}

// FindSetting looks for tables and settings by name: greet_delay,
// listener.greet_delay, listener.limits.greet_delay, listener, tag. It finds
// nothing and suggests near, if anything, for a word that is not there. In
// brackets only tables are looked for.
func FindSetting(tables []ReferenceTable, question string) (hits []ReferenceHit, near string) {
	inBrackets := strings.HasPrefix(question, "[")
	question = strings.Trim(question, "[] ")
	if strings.HasPrefix(question, "rule.except.") || strings.HasPrefix(question, "except.") {
		question = strings.Replace(question, "except", "match", 1)
	}
	want := strings.Split(question, ".")
	var known []string
	for i := range tables {
		t := &tables[i]
		short := strings.TrimPrefix(strings.TrimPrefix(t.Name, "action "), "filter.")
		if question == t.Name || question == short || question == t.Path && t.Name == "match" {
			hits = append(hits, ReferenceHit{Table: t})
		}
		known = append(known, t.Name, short)
		for k := range t.Settings {
			s := &t.Settings[k]
			path := strings.Split(joinKey(t.Path, s.Key), ".")
			if !inBrackets && names(want, path) {
				hits = append(hits, ReferenceHit{t, s})
			}
			known = append(known, strings.Join(path, "."), path[len(path)-1])
		}
	}
	if len(hits) > 0 {
		return hits, ""
	}
	if near = nearest(question, known); near == "" {
		near = nearest(want[len(want)-1], known)
	}
	return nil, near
}

// names reports whether the words end a path and stand in it in their order:
// listener.greet_delay names listener.limits.greet_delay. NAME is any word but
// not the last one.
func names(words, path []string) bool {
	last := len(words) - 1
	if words[last] != path[len(path)-1] {
		return false
	}
	words, path = words[:last], path[:len(path)-1]
	for _, p := range path {
		if len(words) > 0 && (p == words[0] || p == "NAME") {
			words = words[1:]
		}
	}
	return len(words) == 0
}

// sentence makes a sentence of a phrase.
func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." }
