// Command postern is a secure mail gateway: an SMTP relay in front of a mail
// server that runs each message through filters and lets one policy file decide.
//
// This package is wiring: each subcommand has a file of its own, and what it
// does lies in the packages beside cmd.
//
// # Diagnostics
//
// Exit codes: 0 done; 1 failed or invalid; 2 wrong usage; 3 the gateway cannot
// be reached; 4 not allowed; 75 try again. Data goes to standard output, talk
// to standard error.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	_ "time/tzdata" // [site] timezone, on machines that know no zones

	"github.com/alecthomas/kong"
)

// Exit codes of the program.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitNotAllowed  = 4
	exitTryAgain    = 75 // EX_TEMPFAIL of sysexits.h, for use behind a pipe(8) transport
)

// An exitError ends the program with a code. A nil cause has been told already.
type exitError struct {
	code  int
	cause error
}

func (e *exitError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.cause.Error()
}

func (e *exitError) Unwrap() error { return e.cause }

// globals are the flags that every command has, and where it reads and writes.
type globals struct {
	Config string `help:"Policy file; default: ${default}." short:"c" env:"POSTERN_CONFIG" default:"/etc/postern/policy.toml" placeholder:"FILE"`
	State  string `help:"State directory; overrides [storage] state." env:"POSTERN_STATE" placeholder:"DIR"`
	Quiet  bool   `help:"Say nothing but data and errors." short:"q"`

	in       io.Reader
	out, err io.Writer
}

// cli is the grammar of the command line.
type cli struct {
	globals

	Serve      serveCmd      `cmd:"" help:"Run the gateway."`
	Demo       demoCmd       `cmd:"" help:"Run a gateway and a toy mail server on loopback and send sample messages through."`
	Init       initCmd       `cmd:"" help:"Write a policy file to begin with."`
	Setup      setupCmd      `cmd:"" help:"Print what to run on the mail server's side."`
	Doctor     doctorCmd     `cmd:"" help:"Look for what goes wrong in real life: DNS, keys, certificates, next hops, disk. Changes nothing."`
	Help       helpCmd       `cmd:"" help:"Say what a setting of the policy file means."`
	Check      checkCmd      `cmd:"" help:"Check the policy file: every mistake, with its line."`
	Rules      rulesCmd      `cmd:"" help:"Print each rule of the policy as a sentence."`
	Test       testCmd       `cmd:"" help:"Run the tests that stand in the policy file."`
	Explain    explainCmd    `cmd:"" help:"Say what would happen to a message, and why."`
	Reload     reloadCmd     `cmd:"" help:"Make the running gateway read its policy file again."`
	Status     statusCmd     `cmd:"" help:"Show how the running gateway is."`
	Quarantine quarantineCmd `cmd:"" help:"List, read, release and delete held messages."`
	Queue      queueCmd      `cmd:"" help:"List and manage messages that wait for their next hop."`
	Audit      auditCmd      `cmd:"" help:"Show and verify the audit log."`
	Keys       keysCmd       `cmd:"" help:"Make keys and print their DNS records."`
	Dmarc      dmarcCmd      `cmd:"" help:"Read DMARC aggregate reports; show those that the gateway sends."`
	Account    accountCmd    `cmd:"" help:"Read a password from standard input and print its line for the accounts file of AUTH."`
	Filter     filterCmd     `cmd:"" help:"List the filters, or begin a new one."`
	Completion completionCmd `cmd:"" help:"Print a completion script for a shell."`
	Man        manCmd        `cmd:"" help:"Write the manual pages."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is main with everything it touches handed in; it returns the exit code.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	var c cli
	parser, err := newParser(&c, out, errOut)
	if err != nil {
		fmt.Fprintln(errOut, "postern:", err)
		return exitFailed
	}
	c.in, c.out, c.err = in, out, errOut
	code, done := -1, false
	parser.Exit = func(n int) { code, done = n, true }
	ctx, err := parser.Parse(args)
	if done {
		return code
	}
	if err != nil {
		text := strings.TrimSuffix(err.Error(), ` but got "EOL" (<EOL>)`) // nothing came, not a word EOL
		fmt.Fprintf(errOut, "postern: %s\nTry: %s --help\n", text, tried(err))
		return exitUsage
	}
	if err := ctx.Run(&c.globals); err != nil {
		return exitCode(err, errOut)
	}
	return 0
}

// tried is the command whose help says more about a usage error.
func tried(err error) string {
	var p *kong.ParseError
	if errors.As(err, &p) && p.Context != nil && p.Context.Selected() != nil {
		return "postern " + p.Context.Selected().Path()
	}
	return "postern"
}

// exitCode tells the error, if it has not been told, and returns its code.
func exitCode(err error, errOut io.Writer) int {
	var e *exitError
	if errors.As(err, &e) {
		if e.cause != nil {
			fmt.Fprintln(errOut, "postern:", printableLines(e.cause.Error()))
		}
		return e.code
	}
	fmt.Fprintln(errOut, "postern:", printableLines(err.Error()))
	if errors.Is(err, fs.ErrPermission) {
		return exitNotAllowed
	}
	return exitFailed
}

func newParser(c *cli, out, errOut io.Writer) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("postern"),
		kong.Description("A secure mail gateway in front of Exchange or Postfix."),
		kong.UsageOnError(),
		kong.Writers(out, errOut),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
	)
}
