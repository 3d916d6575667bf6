package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish,powershell" help:"bash, zsh, fish or powershell."`
}

// Run prints a script to be sourced by the shell. It is made from the grammar,
// so that it cannot fall behind it.
func (c *completionCmd) Run(g *globals, k *kong.Context) error {
	s := newShellWords(k.Model.Node)
	switch c.Shell {
	case "fish":
		s.fish(g.out)
	case "zsh":
		fmt.Fprintln(g.out, "#compdef postern\nautoload -U +X bashcompinit && bashcompinit")
		s.bash(g.out)
	case "powershell":
		s.powershell(g.out)
	default:
		s.bash(g.out)
	}
	return nil
}

// shellWords are what can be typed.
type shellWords struct {
	rows   []completionRow
	values []string            // flags that take a value, "-c" too
	enums  map[string][]string // the values of a flag that has only these
}

// A completionRow is what may follow a path of commands.
type completionRow struct {
	path  string // "quarantine list"
	words []completionWord
}

type completionWord struct{ word, help string }

func newShellWords(root *kong.Node) *shellWords {
	s := &shellWords{enums: map[string][]string{}}
	s.add(root, nil)
	slices.Sort(s.values)
	s.values = slices.Compact(s.values)
	return s
}

func (s *shellWords) add(n *kong.Node, path []string) {
	row := completionRow{path: strings.Join(path, " ")}
	at := len(s.rows)
	s.rows = append(s.rows, row)
	for _, child := range n.Children {
		if child.Type != kong.CommandNode || child.Hidden {
			continue
		}
		row.words = append(row.words, completionWord{child.Name, child.Help})
		s.add(child, append(path[:len(path):len(path)], child.Name))
	}
	for _, p := range n.Positional {
		for _, v := range enumOf(p) {
			row.words = append(row.words, completionWord{v, ""})
		}
	}
	for _, flags := range n.AllFlags(true) {
		for _, f := range flags {
			row.words = append(row.words, completionWord{"--" + f.Name, f.Help})
			if f.IsBool() {
				continue
			}
			s.values = append(s.values, "--"+f.Name)
			if f.Short != 0 {
				s.values = append(s.values, "-"+string(f.Short))
			}
			if words := enumOf(f.Value); len(words) > 0 {
				s.enums["--"+f.Name] = words
			}
		}
	}
	s.rows[at] = row
}

// enumOf are the only values that a flag or an argument takes, if it says so.
func enumOf(v *kong.Value) []string {
	return slices.DeleteFunc(strings.Split(v.Enum, ","), func(w string) bool { return w == "" })
}

// paths are the commands, quoted, with sep between them.
func (s *shellWords) paths(quote, sep string) string {
	var all []string
	for _, r := range s.rows[1:] {
		all = append(all, quote+r.path+quote)
	}
	return strings.Join(all, sep)
}

func (r *completionRow) text(quote, sep string) string {
	words := make([]string, len(r.words))
	for i, w := range r.words {
		words[i] = quote + w.word + quote
	}
	return strings.Join(words, sep)
}

// bash: the words before the cursor are followed as far as they are commands;
// values of flags are stepped over.
func (s *shellWords) bash(w io.Writer) {
	fmt.Fprintf(w, `_postern() {
  local cur=${COMP_WORDS[COMP_CWORD]} path="" words="" before="" flag="" word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    [ "$word" = = ] && continue
    flag=$before before=""
    [ -n "$flag" ] && continue
    case $word in
      %s) before=$word; continue;;
      -*) continue;;
    esac
    case "${path:+$path }$word" in
      %s) path="${path:+$path }$word";;
    esac
  done
  [ "$cur" = = ] && cur=""
  if [ -n "$before" ]; then
    case $before in
`, strings.Join(s.values, "|"), s.paths(`"`, "|"))
	for _, flag := range sortedKeys(s.enums) {
		fmt.Fprintf(w, "      %s) words=%q;;\n", flag, strings.Join(s.enums[flag], " "))
	}
	fmt.Fprint(w, "    esac\n  else\n    case $path in\n")
	for _, r := range s.rows {
		fmt.Fprintf(w, "      %q) words=%q;;\n", r.path, r.text("", " "))
	}
	fmt.Fprint(w, `    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ ${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- "$cur"))
  return 0
}
complete -o filenames -F _postern postern
`)
}

func (s *shellWords) fish(w io.Writer) {
	fmt.Fprintf(w, `function __postern_path
    set -l path ""
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case '--*=*'
            case %s
                set skip 1
            case '-*'
            case '*'
                set -l next (string trim -- "$path $word")
                if contains -- $next %s
                    set path $next
                end
        end
    end
    echo "/$path"
end
`, strings.Join(s.values, " "), s.paths(`"`, " "))
	for _, r := range s.rows {
		for _, x := range r.words {
			help := strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(x.help)
			what := "-f -a '" + x.word + "'"
			if flag, ok := strings.CutPrefix(x.word, "--"); ok {
				what = "-l " + flag
				if slices.Contains(s.values, x.word) {
					what += " -r"
				}
				if words := s.enums[x.word]; len(words) > 0 {
					what += " -f -a '" + strings.Join(words, " ") + "'"
				}
			}
			fmt.Fprintf(w, "complete -c postern -n 'test (__postern_path) = \"/%s\"' %s -d '%s'\n", r.path, what, help)
		}
	}
}

func (s *shellWords) powershell(w io.Writer) {
	fmt.Fprint(w, "Register-ArgumentCompleter -Native -CommandName postern -ScriptBlock {\n  param($word, $ast, $cursor)\n  $words = @{\n")
	for _, r := range s.rows {
		fmt.Fprintf(w, "    '%s' = @(%s)\n", r.path, r.text("'", ", "))
	}
	fmt.Fprintf(w, `  }
  $values = @('%s')
  $path = ''
  $skip = $false
  foreach ($e in $ast.CommandElements | Select-Object -Skip 1) {
    if ($e.Extent.EndOffset -ge $cursor) { break }
    $t = $e.ToString()
    if ($skip) { $skip = $false; continue }
    if ($values -ccontains $t) { $skip = $true; continue }
    if ($t.StartsWith('-')) { continue }
    $next = "$path $t".Trim()
    if ($words.ContainsKey($next)) { $path = $next }
  }
  $words[$path] | Where-Object { $_ -like "$word*" } | ForEach-Object {
    [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
  }
}
`, strings.Join(s.values, "', '"))
}
