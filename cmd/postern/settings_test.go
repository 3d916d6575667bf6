package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/filters/standard"
	"postern/policy"
)

// settingsMarkdown is docs/settings.md.
func settingsMarkdown() string {
	var b strings.Builder
	b.WriteString(`# The settings of the policy file

Every table, key, match key and action, from the declarations in the program.
` + "`postern help KEY`" + ` prints what stands here of one key, ` + "`man postern.toml`" + ` all of it
(` + "`postern man DIR`" + ` writes the page). [The guide](policy.md) says how rules are read.

A key such as ` + "`limits.per_ip`" + ` stands in a table in the table: ` + "`limits = { per_ip = 20 }`" + `.
NAME stands for a name that you choose.
`)
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;").Replace
	for _, t := range policy.Reference(standard.Filters) {
		fmt.Fprintf(&b, "\n## `%s`\n\n%s\n", t.Head, t.Doc)
		if len(t.Settings) > 0 {
			b.WriteString("\n| key | value | default | meaning |\n|---|---|---|---|\n")
		}
		for _, s := range t.Settings {
			def := ""
			if s.Default != "" {
				def = "`" + s.Default + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Key, cell(s.Value), def, cell(s.Doc))
		}
		if t.Example != "" {
			fmt.Fprintf(&b, "\n```toml\n%s```\n", t.Example)
		}
	}
	return b.String()
}

// TestSettingsDocument: docs/settings.md says what the program knows. Its
// examples are checked with those of the other documents.
func TestSettingsDocument(t *testing.T) {
	const name = "../../docs/settings.md"
	want := settingsMarkdown()
	if *updateDocs {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the program says; make docs writes it", name)
	}
}

func TestHelpCommand(t *testing.T) {
	for _, c := range []struct {
		args      []string
		code      int
		out, talk []string
	}{
		{nil, 0, []string{"postern help KEY", "  listener ", "  tag "}, nil},
		{[]string{"listener.greet_delay"}, 0, []string{
			"listener.limits.greet_delay\n  wait before the banner", "in       [[listener]]: limits = { greet_delay = ... }", `value    a duration`, `default  "0s"`,
		}, nil},
		{[]string{"dkimsign.keys.selector"}, 0, []string{"keys = [{ selector = ... }]"}, nil},
		{[]string{"size_over"}, 0, []string{"rule.match.size_over", "matches when the message is larger", "default  none"}, nil},
		{[]string{"queue"}, 0, []string{"[queue]\n", "rule.queue", "Example:", "The command: postern queue --help"}, nil},
		{[]string{"greet_dely"}, 1, nil, []string{`there is no setting "greet_dely"; did you mean "greet_delay"?`}},
		{[]string{"serve"}, 1, nil, []string{"postern serve --help"}},
		{[]string{"quite-unknown"}, 1, nil, []string{"postern help lists the tables"}},
	} {
		var out, errOut bytes.Buffer
		code := run(append([]string{"help"}, c.args...), strings.NewReader(""), &out, &errOut)
		if code != c.code || (code == 0) != (errOut.Len() == 0) {
			t.Errorf("help %q: exit %d: %s", c.args, code, errOut.String())
		}
		for _, want := range c.out {
			if !strings.Contains(out.String(), want) {
				t.Errorf("help %q does not say %q:\n%s", c.args, want, out.String())
			}
		}
		for _, want := range c.talk {
			if !strings.Contains(errOut.String(), want) {
				t.Errorf("help %q does not say %q: %s", c.args, want, errOut.String())
			}
		}
	}
}

// manPages writes the manual pages.
func manPages(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var out, errOut bytes.Buffer
	if code := run([]string{"man", dir}, strings.NewReader(""), &out, &errOut); code != 0 {
		t.Fatalf("postern man: exit %d: %s", code, errOut.String())
	}
	return dir
}

// TestManPagesRender: groff has nothing to warn of, and the page of the policy
// file has every key.
func TestManPagesRender(t *testing.T) {
	dir := manPages(t)
	if _, err := exec.LookPath("groff"); err != nil {
		if os.Getenv("POSTERN_CI") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, name := range []string{"postern.toml.5", "postern.1", "postern-help.1"} {
		cmd := exec.Command("groff", "-man", "-Tutf8", "-ww", "-P-cbu", filepath.Join(dir, name))
		var out, warned bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &warned
		if err := cmd.Run(); err != nil || warned.Len() > 0 {
			t.Errorf("groff %s: %v\n%s", name, err, warned.String())
		}
		if name != "postern.toml.5" {
			continue
		}
		for _, table := range policy.Reference(standard.Filters) {
			for _, s := range table.Settings {
				if !strings.Contains(out.String(), s.Key) {
					t.Errorf("%s does not show %s", name, s.Key)
				}
			}
		}
	}
}

func TestManNeedsADirectory(t *testing.T) {
	if err := writeSettingsPage(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("a page was written into no directory")
	}
}
