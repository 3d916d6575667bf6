package main

import (
	"bytes"
	"embed"
	"fmt"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"text/template"

	"postern/filters/standard"
)

type filterCmd struct {
	List filterListCmd `cmd:"" help:"List the filters and their symbols."`
	New  filterNewCmd  `cmd:"" help:"Begin a new filter in a checkout of Postern."`
}

type filterListCmd struct {
	JSON bool `help:"Print JSON, one object a line." name:"json"`
}

// Run lists the built-in filters.
func (f *filterListCmd) Run(g *globals) error {
	w := tabwriter.NewWriter(g.out, 0, 0, 2, ' ', 0)
	for _, x := range standard.Filters {
		if f.JSON {
			row := struct {
				Name    string            `json:"name"`
				Doc     string            `json:"doc"`
				Symbols map[string]string `json:"symbols"`
			}{x.Name, x.Doc, map[string]string{}}
			for _, s := range x.Symbols {
				row.Symbols[s.Name] = s.Doc
			}
			if err := printJSON(g.out, row); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\n", x.Name, x.Doc)
		for _, s := range x.Symbols {
			fmt.Fprintf(w, "\t%s\t%+.1f\t%s\n", s.Name, s.Score, s.Doc)
		}
	}
	return w.Flush()
}

//go:embed scaffold
var scaffold embed.FS

type filterNewCmd struct {
	Name string `arg:"" help:"Name of the filter: lower-case letters."`
	Dir  string `help:"The checkout." default:"." type:"path"`
}

// scaffoldFiles are the files of a new filter, by template.
var scaffoldFiles = []struct{ template, name string }{
	{"filter.go", "%s.go"},
	{"filter_test.go", "%s_test.go"},
	{"README.md", "README.md"},
	{"hit.eml", "testdata/hit.eml"},
	{"clean.eml", "testdata/clean.eml"},
}

// Run writes a folder with a filter, its test, its README and two sample
// messages, and says which two lines to add.
func (f *filterNewCmd) Run(g *globals) error {
	if !token.IsIdentifier(f.Name) || strings.ToLower(f.Name) != f.Name || strings.Contains(f.Name, "_") {
		return &exitError{exitUsage, fmt.Errorf("%q cannot be a filter's name: use lower-case letters", f.Name)}
	}
	if _, err := os.Stat(filepath.Join(f.Dir, "filters", "filter.go")); err != nil {
		return fmt.Errorf("%s is not a checkout of Postern: it has no filters/filter.go; name one with --dir", f.Dir)
	}
	dir := filepath.Join(f.Dir, "filters", f.Name)
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%s is there already; choose another name", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, "testdata"), 0o755); err != nil {
		return fmt.Errorf("make the filter's folder: %w", err)
	}
	values := map[string]string{"Name": f.Name, "SYMBOL": strings.ToUpper(f.Name) + "_HIT", "Tick": "`"}
	for _, file := range scaffoldFiles {
		name := strings.ReplaceAll(file.name, "%s", f.Name)
		if err := writeScaffold(file.template, filepath.Join(dir, filepath.FromSlash(name)), values); err != nil {
			return err
		}
	}
	if !g.Quiet {
		fmt.Fprintf(g.err, "wrote %s\nAdd to filters/standard/standard.go:\n\t\"postern/filters/%s\"\n\t%s.Filter,\nThen: go test ./filters/%s\n", dir, f.Name, f.Name, f.Name)
	}
	return nil
}

func writeScaffold(name, to string, values map[string]string) error {
	t, err := template.ParseFS(scaffold, "scaffold/"+name+".tmpl")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, values); err != nil {
		return err
	}
	if err := os.WriteFile(to, text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the filter: %w", err)
	}
	return nil
}
