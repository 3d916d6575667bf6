package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// version is the release; the linker sets it: -X main.version=v1.2.3.
var version = "devel"

type versionCmd struct {
	JSON bool `help:"Print JSON." name:"json"`
}

// Run prints what was built from what.
func (v *versionCmd) Run(g *globals) error {
	b := build()
	if v.JSON {
		return printJSON(g.out, b)
	}
	words := []string{"postern", b.Version}
	if b.Revision != "" {
		words = append(words, b.Revision)
	}
	fmt.Fprintln(g.out, strings.Join(append(words, b.Go), " "))
	return nil
}

type buildFacts struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
}

func build() buildFacts {
	b := buildFacts{Version: version, Go: runtime.Version()}
	if bi, ok := debug.ReadBuildInfo(); ok {
		for _, s := range bi.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Revision = s.Value[:min(12, len(s.Value))]
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	return b
}
