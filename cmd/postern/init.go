package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"postern/filters/standard"
	"postern/policy"
)

type initCmd struct {
	Domain   []string `help:"Domain that mail is accepted for; may be given again." required:"" placeholder:"DOMAIN"`
	Upstream string   `help:"The mail server behind the gateway: host (port 25), host:port or unix:/path." required:"" placeholder:"HOST"`
	Full     bool     `help:"Write the default rules out, so that they can be changed."`
	Force    bool     `help:"Replace a file that is there."`
	Stdout   bool     `help:"Print instead of writing the file."`
}

// Run writes a policy to begin with, in watch mode: the first day everything
// but malware is delivered, and the log shows what would have happened.
func (i *initCmd) Run(g *globals) error {
	text, err := i.text(g.Config)
	if err != nil {
		return err
	}
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
		fmt.Fprintf(g.err, "wrote %s\nNext: postern%[2]s check, then postern setup postfix or postern setup exchange, then postern%[2]s serve\n", g.Config, i.named(g))
	}
	return nil
}

// named is the flag that names the policy to the commands that come next, if
// they would not find it by themselves.
func (i *initCmd) named(g *globals) string {
	if g.Config == "/etc/postern/policy.toml" || g.Config == os.Getenv("POSTERN_CONFIG") {
		return ""
	}
	return " --config " + shellQuote(g.Config)
}

// text is the policy, which is loaded once to see that it is good.
func (i *initCmd) text(name string) (string, error) {
	text := policy.Init(i.Domain[0], withPort(i.Upstream), i.Full, i.Domain[1:]...)
	if _, err := policy.Load(name, []byte(text), policy.LoadOptions{Filters: standard.Filters}); err != nil {
		return "", &exitError{exitUsage, fmt.Errorf("no policy can be made of this: %s", unplaced(err))}
	}
	return text, nil
}

// unplaced says what is first wrong with the policy, without the place: it is in
// a text that nobody has seen.
func unplaced(err error) string {
	var problems policy.Problems
	if errors.As(err, &problems) {
		for _, p := range problems {
			if p.Severity == policy.Error {
				return p.Text
			}
		}
	}
	return err.Error()
}

// withPort adds SMTP's port to a host that is named without one.
func withPort(host string) string {
	if host == "mx" || strings.HasPrefix(host, "unix:") {
		return host
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(bare); err == nil {
		return net.JoinHostPort(bare, "25")
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		return net.JoinHostPort(host, "25")
	}
	return host
}
