// Package command lets any program judge messages.
//
// The program gets the message on its standard input and the envelope in its
// environment. It is run without a shell, so nothing of a message is ever
// parsed as a command. Exit status 0 means clean, 1 means COMMAND_HIT with the
// first line of output as evidence; everything else means that the program
// broke. It is off unless a program is set.
//
// # Diagnostics
//
// A program that cannot be started, exits with another status than 0 and 1, is
// killed, or takes too long makes the filter broken; the start of its standard
// error stands in the error. When the time is over the whole process group is
// killed.
package command

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"postern/filters"
	"postern/mail"
)

// Filter declares the command filter.
var Filter = &filters.Filter{
	Name:  "command",
	Doc:   "asks a program of yours about the message",
	Stage: filters.Data,
	Symbols: []filters.SymbolDoc{
		{
			Name:  "COMMAND_HIT",
			Score: 5,
			Doc:   "The site's own program objected to the message.",
			DocFR: "Le programme du site a signalé le message.",
		},
		{
			Name:  "COMMAND_SKIPPED",
			Doc:   "The site's own program was not run, because this is only a trial.",
			DocFR: "Le programme du site n’a pas été lancé, car ce n’est qu’un essai.",
		},
	},
	Keys: []filters.MatchKey{{
		Name:    "command",
		Doc:     "the site's own program objected to the message",
		Say:     [2]string{"to which the site's program objects: %s", "que le programme du site signale : %s"},
		Kind:    filters.KeyBool,
		Symbols: []string{"COMMAND_HIT"},
	}},
	New: func() filters.Checker { return &Checker{Concurrency: 4} },
}

// Checker holds the settings of [filter.command].
type Checker struct {
	Program     []string `toml:"program" doc:"the program, by its absolute path, and its arguments; without it the filter is off"`
	Concurrency int      `toml:"concurrency" doc:"how many may run at once"`

	slots chan struct{}
	skip  bool // a trial: do not run it
}

// Validate checks the settings.
func (c *Checker) Validate() error {
	if len(c.Program) > 0 && !filepath.IsAbs(c.Program[0]) {
		return &filters.SettingError{Key: "program", Err: fmt.Errorf("%q is not an absolute path", c.Program[0])}
	}
	if c.Concurrency < 1 || c.Concurrency > 1000 {
		return &filters.SettingError{Key: "concurrency", Err: fmt.Errorf("%d is not between 1 and 1000", c.Concurrency)}
	}
	return nil
}

// Idle reports that no program is set.
func (c *Checker) Idle() bool { return len(c.Program) == 0 }

// Open checks that the program is there, unless this is a trial that does not
// run it.
func (c *Checker) Open(_ context.Context, env *filters.Env) error {
	if len(c.Program) == 0 {
		return nil
	}
	c.slots = make(chan struct{}, c.Concurrency)
	c.skip = env.DryRun && !env.Programs
	if c.skip {
		return nil
	}
	return executable(c.Program[0])
}

// Check runs the program.
func (c *Checker) Check(ctx context.Context, tx *mail.Transaction, _ filters.Results) (filters.Verdict, error) {
	switch {
	case c.Idle():
		return filters.Verdict{}, nil
	case c.skip:
		return one("COMMAND_SKIPPED", c.Program[0]+" was not run"), nil
	case c.slots == nil:
		return filters.Verdict{}, errors.New("the program was not opened")
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return filters.Verdict{}, fmt.Errorf("wait for a free slot: %w", ctx.Err())
	}
	hit, line, err := run(ctx, c.Program, environment(tx), tx.Message.Reader())
	if err == nil {
		err = tx.Message.Err()
	}
	if err != nil || !hit {
		return filters.Verdict{}, err
	}
	if line == "" {
		line = c.Program[0] + " gave no reason"
	}
	return one("COMMAND_HIT", line), nil
}

func one(symbol, evidence string) filters.Verdict {
	return filters.Verdict{Symbols: []filters.Symbol{{Name: symbol, Evidence: evidence}}}
}
