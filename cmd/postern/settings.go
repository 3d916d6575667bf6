package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"

	"postern/filters"
	"postern/filters/standard"
	"postern/policy"
)

type helpCmd struct {
	Key string `arg:"" optional:"" help:"A key or a table of the policy file, a match key, an action or a symbol: listener.greet_delay, size_over, tag."`
}

// Run says what is known of one setting. It reads no policy.
func (h *helpCmd) Run(g *globals, k *kong.Context) error {
	tables := policy.Reference(standard.Filters)
	if h.Key == "" {
		return helpTables(g.out, tables)
	}
	hits, near := policy.FindSetting(tables, h.Key)
	isCommand := false
	for _, c := range commandsOf(k.Model.Node) {
		isCommand = isCommand || c.Name == h.Key
	}
	switch {
	case len(hits) > 0:
	case isCommand:
		return fmt.Errorf("the policy file has no setting %q; for the command: postern %s --help", h.Key, h.Key)
	case near != "":
		return fmt.Errorf("there is no setting %q; did you mean %q?", h.Key, near)
	default:
		return fmt.Errorf("there is no setting %q; postern help lists the tables", h.Key)
	}
	for i, hit := range hits {
		if i > 0 {
			fmt.Fprintln(g.out)
		}
		if hit.Setting != nil {
			helpSetting(g.out, hit.Table, hit.Setting)
		} else if err := helpTable(g.out, hit.Table); err != nil {
			return err
		}
	}
	if isCommand {
		fmt.Fprintf(g.out, "\nThe command: postern %s --help\n", h.Key)
	}
	return nil
}

// helpTables says how to ask, and what there is.
func helpTables(w io.Writer, tables []policy.ReferenceTable) error {
	fmt.Fprint(w, "postern help KEY says what a setting of the policy file means.\nKEY is a key, a table, a match key, an action or a symbol:\n\n"+
		"  postern help greet_delay\n  postern help listener.greet_delay\n  postern help size_over\n  postern help tag\n\nThe tables and actions:\n\n")
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range tables {
		fmt.Fprintf(tab, "  %s\t%s\n", strings.TrimPrefix(tables[i].Name, "action "), tables[i].Doc)
	}
	return tab.Flush()
}

func helpSetting(w io.Writer, t *policy.ReferenceTable, s *filters.Setting) {
	path := s.Key
	if t.Path != "" {
		path = t.Path + "." + s.Key
	}
	fmt.Fprintf(w, "%s\n  %s\n\n  in       %s: %s\n  value    %s\n  default  %s\n", path, s.Doc, t.Head, written(t, s), s.Value, noneIfEmpty(s.Default))
}

// written shows how a key stands in its table.
func written(t *policy.ReferenceTable, s *filters.Setting) string {
	lists := map[string]bool{}
	for _, other := range t.Settings {
		lists[other.Key] = other.Value == filters.ValueTables
	}
	parts := strings.Split(s.Key, ".")
	text := parts[len(parts)-1] + " = ..."
	for i := len(parts) - 2; i >= 0; i-- {
		if lists[strings.Join(parts[:i+1], ".")] {
			text = fmt.Sprintf("%s = [{ %s }]", parts[i], text)
		} else {
			text = fmt.Sprintf("%s = { %s }", parts[i], text)
		}
	}
	return text
}

func noneIfEmpty(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func helpTable(w io.Writer, t *policy.ReferenceTable) error {
	fmt.Fprintf(w, "%s\n  %s\n", t.Head, t.Doc)
	if len(t.Settings) > 0 {
		fmt.Fprintln(w)
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range t.Settings {
		fmt.Fprintf(tab, "  %s\t%s\n", t.Settings[i].Key, t.Settings[i].Doc)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	if t.Example != "" {
		fmt.Fprintf(w, "\nExample:\n\n  %s\n", strings.ReplaceAll(strings.TrimSpace(t.Example), "\n", "\n  "))
	}
	return nil
}

// writeSettingsPage writes postern.toml.5.
func writeSettingsPage(dir string) error {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH POSTERN.TOML 5 \"\" \"postern %s\"\n.SH NAME\npostern.toml \\- %s\n", build().Version, "the policy file of postern")
	b.WriteString(".SH DESCRIPTION\nOne TOML file says what the gateway listens on, where mail goes and what happens to it.\n" +
		"\\fBpostern check\\fP tells every mistake in it with its line, \\fBpostern help\\fP \\fIkey\\fP what stands here of one key.\n")
	for _, t := range policy.Reference(standard.Filters) {
		fmt.Fprintf(&b, ".SH %s\n%s\n", strings.ReplaceAll(roff(t.Head), `"`, `\(dq`), roff(t.Doc))
		for _, s := range t.Settings {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s.\n.br\nValue: %s.\n", roff(s.Key), roff(strings.TrimSuffix(s.Doc, ".")), roff(s.Value))
			if s.Default != "" {
				fmt.Fprintf(&b, "Default: %s\n", roff(s.Default))
			}
		}
		if t.Example != "" {
			b.WriteString(".PP\nExample:\n.PP\n.RS\n.nf\n")
			for line := range strings.Lines(t.Example) {
				b.WriteString(roff(line))
			}
			b.WriteString(".fi\n.RE\n")
		}
	}
	b.WriteString(".SH FILES\n.I /etc/postern/policy.toml\n.SH SEE ALSO\n.BR postern (1),\n.BR postern\\-check (1),\n.BR postern\\-help (1)\n")
	if err := os.WriteFile(filepath.Join(dir, "postern.toml.5"), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write manual page: %w", err)
	}
	return nil
}
