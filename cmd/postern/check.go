package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"postern/filters/standard"
	"postern/policy"
)

// load reads the policy file that --config names. POSTERN_STATE and --state
// override its state directory.
func (g *globals) load() (*policy.Policy, error) {
	p, err := policy.LoadFile(g.Config, policy.LoadOptions{Filters: standard.Filters})
	var problems policy.Problems
	switch {
	case errors.As(err, &problems):
		fmt.Fprintln(g.err, problems.Error())
		return nil, &exitError{code: exitFailed}
	case err != nil:
		return nil, noPolicy(g.Config, err)
	}
	if g.State != "" {
		p.Storage.State = g.State
	}
	return p, nil
}

// noPolicy says what to do when the policy file cannot be read.
func noPolicy(name string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("there is no policy file %s; write one with: postern init --domain DOMAIN --upstream HOST", name)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w; run this as the gateway's user or as root", err)
	}
	return err
}

type checkCmd struct {
	Files []string `arg:"" optional:"" type:"path" help:"Policy files; default: --config."`
	JSON  bool     `help:"Print the problems as JSON, one object a line." name:"json"`
}

// Run checks policy files without opening anything that they name but lists.
func (c *checkCmd) Run(g *globals) error {
	files := c.Files
	if len(files) == 0 {
		files = []string{g.Config}
	}
	bad := false
	for _, name := range files {
		ok, err := c.file(g, name)
		if err != nil {
			return err
		}
		bad = bad || !ok
	}
	if bad {
		return &exitError{code: exitFailed}
	}
	return nil
}

func (c *checkCmd) file(g *globals, name string) (ok bool, err error) {
	p, err := policy.LoadFile(name, policy.LoadOptions{Filters: standard.Filters})
	var problems policy.Problems
	if err != nil && !errors.As(err, &problems) {
		return false, noPolicy(name, err)
	}
	if err == nil {
		problems = p.Warnings
	}
	if c.JSON {
		for _, x := range problems {
			if jerr := printJSON(g.out, x); jerr != nil {
				return false, jerr
			}
		}
		return err == nil, nil
	}
	if len(problems) > 0 {
		fmt.Fprintln(g.out, problems.Error())
	}
	mistakes, warnings := problems.Count()
	switch {
	case err != nil:
		fmt.Fprintf(g.out, "%s: %s, %s\n", name, count(mistakes, "error"), count(warnings, "warning"))
	case !g.Quiet:
		fmt.Fprintf(g.out, "%s: %s, %s, %s: good%s\n", name, count(p.Rules(), "rule"), count(len(p.Tests), "test"), count(warnings, "warning"), runTests(p))
	}
	return err == nil, nil
}

// runTests reminds that check does not run the tests of the policy.
func runTests(p *policy.Policy) string {
	if len(p.Tests) == 0 {
		return ""
	}
	return "; postern test runs the tests"
}

type rulesCmd struct {
	Lang *string `help:"en or fr; default: the policy's language." enum:"en,fr" placeholder:"LANGUAGE"`
	JSON bool    `help:"Print JSON, one object a line." name:"json"`
}

// Run prints each rule as a sentence.
func (r *rulesCmd) Run(g *globals) error {
	p, err := g.load()
	if err != nil {
		return err
	}
	lang := p.Site.Language
	if r.Lang != nil {
		lang = *r.Lang
	}
	return writeRules(g.out, p, lang, r.JSON)
}

func writeRules(w io.Writer, p *policy.Policy, lang string, asJSON bool) error {
	for _, s := range p.Sentences(lang) {
		if asJSON {
			if err := printJSON(w, s); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%2d  %s\n", s.Number, s.Text)
	}
	return nil
}
