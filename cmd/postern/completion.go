package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints a script to be sourced by the shell. It is made from the grammar,
// so that it cannot fall behind it.
func (c *completionCmd) Run(g *globals, k *kong.Context) error {
	rows := completions(k.Model.Node, nil)
	switch c.Shell {
	case "fish":
		fishCompletion(g.out, rows)
	case "zsh":
		fmt.Fprintln(g.out, "#compdef postern\nautoload -U +X bashcompinit && bashcompinit")
		bashCompletion(g.out, rows)
	default:
		bashCompletion(g.out, rows)
	}
	return nil
}

// A completionRow is what may follow a path of commands.
type completionRow struct {
	path  string // "quarantine list"
	words []completionWord
}

type completionWord struct{ word, help string }

func completions(n *kong.Node, path []string) []completionRow {
	row := completionRow{path: strings.Join(path, " ")}
	var below []completionRow
	for _, child := range n.Children {
		if child.Type != kong.CommandNode || child.Hidden {
			continue
		}
		row.words = append(row.words, completionWord{child.Name, child.Help})
		below = append(below, completions(child, append(path[:len(path):len(path)], child.Name))...)
	}
	for _, flags := range n.AllFlags(true) {
		for _, f := range flags {
			row.words = append(row.words, completionWord{"--" + f.Name, f.Help})
		}
	}
	return append([]completionRow{row}, below...)
}

func bashCompletion(w io.Writer, rows []completionRow) {
	fmt.Fprint(w, `_postern() {
  local cur=${COMP_WORDS[COMP_CWORD]} path="" i words
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in -*) ;; *) path="${path:+$path }${COMP_WORDS[i]}";; esac
  done
  case $path in
`)
	for _, r := range rows {
		words := make([]string, len(r.words))
		for i, x := range r.words {
			words[i] = x.word
		}
		fmt.Fprintf(w, "    %q) words=%q;;\n", r.path, strings.Join(words, " "))
	}
	fmt.Fprint(w, `    *) COMPREPLY=($(compgen -f -- "$cur")); return;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ ${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _postern postern
`)
}

func fishCompletion(w io.Writer, rows []completionRow) {
	for _, r := range rows {
		cond := "__fish_use_subcommand"
		if r.path != "" {
			cond = "__fish_seen_subcommand_from " + r.path
		}
		for _, x := range r.words {
			if flag, ok := strings.CutPrefix(x.word, "--"); ok {
				fmt.Fprintf(w, "complete -c postern -n '%s' -l %s -d '%s'\n", cond, flag, strings.ReplaceAll(x.help, "'", ""))
				continue
			}
			fmt.Fprintf(w, "complete -c postern -f -n '%s' -a %s -d '%s'\n", cond, x.word, strings.ReplaceAll(x.help, "'", ""))
		}
	}
}
