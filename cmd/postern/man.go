package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"
)

type manCmd struct {
	Dir string `arg:"" type:"path" help:"Directory to write the pages to."`
}

// Run writes postern.1 and one page per command, from the grammar.
func (m *manCmd) Run(g *globals, k *kong.Context) error {
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return fmt.Errorf("make the directory for the pages: %w", err)
	}
	return writeMan(m.Dir, "postern", k.Model.Node)
}

func writeMan(dir, name string, n *kong.Node) error {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1\n.SH NAME\n%s \\- %s\n", strings.ToUpper(name), name, roff(n.Help))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", strings.ReplaceAll(name, "-", " "))
	for _, p := range n.Positional {
		fmt.Fprintf(&b, "%s\n", roff(p.Summary()))
	}
	b.WriteString("[options]\n")
	if n.Detail != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", roff(n.Detail))
	}
	manArguments(&b, n)
	manCommands(&b, n)
	b.WriteString(".SH EXIT STATUS\n0 done; 1 failed or invalid; 2 wrong usage; 3 the gateway cannot be reached; 4 not allowed; 75 try again.\n")
	if err := os.WriteFile(filepath.Join(dir, name+".1"), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write manual page: %w", err)
	}
	for _, child := range n.Children {
		if child.Type == kong.CommandNode && !child.Hidden {
			if err := writeMan(dir, name+"-"+child.Name, child); err != nil {
				return err
			}
		}
	}
	return nil
}

func manArguments(b *strings.Builder, n *kong.Node) {
	if len(n.Positional) > 0 {
		b.WriteString(".SH ARGUMENTS\n")
		for _, p := range n.Positional {
			fmt.Fprintf(b, ".TP\n.I %s\n%s\n", roff(p.Name), roff(p.Help))
		}
	}
	b.WriteString(".SH OPTIONS\n")
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			fmt.Fprintf(b, ".TP\n.B \\-\\-%s\n%s", roff(f.Name), roff(f.Help))
			if len(f.Envs) > 0 {
				fmt.Fprintf(b, " Environment: %s.", roff(strings.Join(f.Envs, ", ")))
			}
			b.WriteString("\n")
		}
	}
}

func manCommands(b *strings.Builder, n *kong.Node) {
	first := true
	for _, child := range n.Children {
		if child.Type != kong.CommandNode || child.Hidden {
			continue
		}
		if first {
			b.WriteString(".SH COMMANDS\n")
			first = false
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(child.Name), roff(child.Help))
	}
}

// roff makes text safe to stand in a manual page.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
