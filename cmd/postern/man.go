package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type manCmd struct {
	Dir string `arg:"" type:"path" help:"Directory to write the pages to."`
}

// Run writes postern.1 and one page per command, from the grammar, and
// postern.toml.5.
func (m *manCmd) Run(g *globals, k *kong.Context) error {
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return fmt.Errorf("make the directory for the pages: %w", err)
	}
	if err := writeSettingsPage(m.Dir); err != nil {
		return err
	}
	return writeMan(m.Dir, "postern", k.Model.Node)
}

func writeMan(dir, name string, n *kong.Node) error {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"postern %s\"\n.SH NAME\n%s \\- %s\n", strings.ToUpper(name), build().Version, roff(name), roff(strings.TrimSuffix(n.Help, ".")))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(strings.ReplaceAll(name, "-", " ")))
	if len(n.Children) > 0 {
		b.WriteString(".I command\n")
	}
	b.WriteString("[options]\n")
	for _, p := range n.Positional {
		fmt.Fprintf(&b, "%s\n", roff(p.Summary()))
	}
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", roff(n.Help))
	if n.Detail != "" {
		fmt.Fprintf(&b, ".PP\n%s\n", roff(n.Detail))
	}
	manCommands(&b, n)
	manArguments(&b, n)
	manOptions(&b, n)
	b.WriteString(manEnd)
	manSeeAlso(&b, name, n)
	if err := os.WriteFile(filepath.Join(dir, name+".1"), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write manual page: %w", err)
	}
	for _, child := range commandsOf(n) {
		if err := writeMan(dir, name+"-"+child.Name, child); err != nil {
			return err
		}
	}
	return nil
}

// manEnd is the same on every page.
const manEnd = `.SH EXIT STATUS
.TP
0
done
.TP
1
failed or invalid
.TP
2
wrong usage
.TP
3
the gateway cannot be reached
.TP
4
not allowed
.TP
75
try again
.SH FILES
.TP
.I /etc/postern/policy.toml
The policy, unless \-\-config or POSTERN_CONFIG names another.
.TP
.I /var/lib/postern
State, unless [storage] state, POSTERN_STATE or \-\-state names another directory.
`

func commandsOf(n *kong.Node) []*kong.Node {
	return slices.DeleteFunc(slices.Clone(n.Children), func(c *kong.Node) bool { return c.Type != kong.CommandNode || c.Hidden })
}

func manSeeAlso(b *strings.Builder, name string, n *kong.Node) {
	var pages []string
	if n.Parent == nil {
		b.WriteString(".SH SEE ALSO\n.BR postern.toml (5),\n")
	} else {
		pages = append(pages, name[:strings.LastIndex(name, "-")])
	}
	for _, child := range commandsOf(n) {
		pages = append(pages, name+"-"+child.Name)
	}
	for i, p := range pages {
		if i == 0 && n.Parent != nil {
			b.WriteString(".SH SEE ALSO\n")
		}
		end := ","
		if i == len(pages)-1 {
			end = ""
		}
		fmt.Fprintf(b, ".BR %s (1)%s\n", roff(p), end)
	}
}

func manArguments(b *strings.Builder, n *kong.Node) {
	if len(n.Positional) == 0 {
		return
	}
	b.WriteString(".SH ARGUMENTS\n")
	for _, p := range n.Positional {
		fmt.Fprintf(b, ".TP\n.I %s\n%s\n", roff(p.Name), roff(p.Help))
	}
}

func manOptions(b *strings.Builder, n *kong.Node) {
	b.WriteString(".SH OPTIONS\n")
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			b.WriteString(".TP\n")
			if f.Short != 0 {
				fmt.Fprintf(b, ".BR \\-%c , \" \" \\-\\-%s", f.Short, roff(f.Name))
			} else {
				fmt.Fprintf(b, ".BR \\-\\-%s", roff(f.Name))
			}
			if !f.IsBool() {
				fmt.Fprintf(b, " = \\fI%s\\fP", roff(strings.ReplaceAll(strings.Trim(f.FormatPlaceHolder(), `"`), " ", "")))
			}
			fmt.Fprintf(b, "\n%s", roff(f.Help))
			if f.HasDefault && f.Default != "" && !strings.Contains(f.Help, "default: "+f.Default) {
				fmt.Fprintf(b, " Default: %s.", roff(f.Default))
			}
			if len(f.Envs) > 0 {
				fmt.Fprintf(b, " Environment: %s.", roff(strings.Join(f.Envs, ", ")))
			}
			b.WriteString("\n")
		}
	}
}

func manCommands(b *strings.Builder, n *kong.Node) {
	for i, child := range commandsOf(n) {
		if i == 0 {
			b.WriteString(".SH COMMANDS\n")
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
