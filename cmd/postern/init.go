package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"postern/policy"
)

type initCmd struct {
	Domain   string `help:"Domain that mail is accepted for." required:"" placeholder:"DOMAIN"`
	Upstream string `help:"The mail server behind the gateway: host or host:port." required:"" placeholder:"HOST"`
	Full     bool   `help:"Write the default rules out, so that they can be changed."`
	Force    bool   `help:"Replace a file that is there."`
	Stdout   bool   `help:"Print instead of writing the file."`
}

// Run writes a policy to begin with, in watch mode: the first day everything
// but malware is delivered, and the log shows what would have happened.
func (i *initCmd) Run(g *globals) error {
	text := policy.Init(i.Domain, i.Upstream, i.Full)
	if i.Stdout {
		fmt.Fprint(g.out, text)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(g.Config), 0o755); err != nil {
		return fmt.Errorf("make the directory of the policy: %w", err)
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if i.Force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(g.Config, flags, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; say --force to replace it", g.Config)
	}
	if err != nil {
		return fmt.Errorf("write the policy: %w", err)
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return fmt.Errorf("write the policy: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write the policy: %w", err)
	}
	if !g.Quiet {
		fmt.Fprintf(g.err, "wrote %s\nNext: postern check, then postern setup postfix or postern setup exchange, then postern serve\n", g.Config)
	}
	return nil
}
