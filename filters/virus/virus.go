// Package virus asks antivirus engines about a message.
//
// The engines get the raw message, then the decoded content of every part that
// is not plain in it, then every other reading that a mail client might have of
// an ambiguous part: what one parser misses another finds. One hit of one
// engine is a find. The EICAR test string is looked for without any engine, so
// that a new installation can be tried out.
//
// # Diagnostics
//
// An engine that cannot be reached, is too slow, refuses a stream for its size
// or answers anything but a clear verdict makes the filter broken, unless
// something was found by another engine or in another part. Without engines
// every message has the symbol VIRUS_NOT_SCANNED.
package virus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"postern/filters"
	"postern/mail"
)

// Filter declares the virus filter.
var Filter = &filters.Filter{
	Name:  "virus",
	Doc:   "asks antivirus engines about the message and each of its parts",
	Stage: filters.Data,
	Symbols: []filters.SymbolDoc{
		{
			Name:  "VIRUS_FOUND",
			Score: 20,
			Doc:   "An antivirus engine recognised malware.",
			DocFR: "Un antivirus a reconnu un programme malveillant.",
		},
		{
			Name:  "VIRUS_NOT_SCANNED",
			Doc:   "No antivirus engine is set up: nobody looked for viruses.",
			DocFR: "Aucun antivirus n’est configuré : personne n’a cherché de virus.",
		},
		{
			Name:  "VIRUS_PART_SKIPPED",
			Doc:   "The antivirus engines did not see everything: a file in an archive could not be unpacked, or a limit was hit.",
			DocFR: "Les antivirus n’ont pas tout vu : un fichier d’une archive n’a pas pu être décompressé, ou une limite a été atteinte.",
		},
	},
	Keys: []filters.MatchKey{
		{
			Name:    "virus",
			Doc:     "an antivirus engine recognised malware in the message",
			Say:     [2]string{"with a virus: %s", "avec un virus : %s"},
			Kind:    filters.KeyBool,
			Symbols: []string{"VIRUS_FOUND"},
		},
		{
			Name:    "virus_name",
			Doc:     "an antivirus engine gave the malware that name",
			Say:     [2]string{"with the virus %s", "avec le virus %s"},
			Kind:    filters.KeyName,
			Symbols: []string{"VIRUS_FOUND"},
		},
	},
	New: func() filters.Checker { return &Checker{Connections: 8} },
}

// Checker holds the settings of [filter.virus].
type Checker struct {
	Engines     []string `toml:"engines" doc:"engines to ask: \"clamd:/path/of/socket\" or \"clamd:host:port\""`
	Connections int      `toml:"connections" doc:"connections at once to each engine"`

	engines []engine
	offline bool // no engine is asked
}

// An engine says what is in a stream: the name of the malware, or "".
type engine interface {
	scan(ctx context.Context, open func() io.Reader) (string, error)
	String() string
}

// Validate checks the settings.
func (c *Checker) Validate() error {
	if c.Connections < 1 || c.Connections > 1000 {
		return &filters.SettingError{Key: "connections", Err: fmt.Errorf("%d is not between 1 and 1000", c.Connections)}
	}
	for _, text := range c.Engines {
		if _, _, err := parseEngine(text); err != nil {
			return &filters.SettingError{Key: "engines", Err: err}
		}
	}
	return nil
}

// Warnings tells that nobody looks for viruses.
func (c *Checker) Warnings() []string {
	if len(c.Engines) > 0 {
		return nil
	}
	return []string{`no antivirus engine is set up: only the EICAR test file is recognised; write engines = ["clamd:/run/clamav/clamd.ctl"]`}
}

// Open makes the engines ready. They are first called for the first message.
// The tests of a policy do without: they must not fail because a daemon starts
// later than we do.
func (c *Checker) Open(ctx context.Context, env *filters.Env) error {
	if c.offline = env.Offline; c.offline {
		return nil
	}
	for _, text := range c.Engines {
		network, address, err := parseEngine(text)
		if err != nil {
			return err
		}
		client := newClamd(network, address, c.Connections)
		context.AfterFunc(ctx, client.close)
		c.engines = append(c.engines, client)
	}
	return nil
}

// Check scans the message.
func (c *Checker) Check(ctx context.Context, tx *mail.Transaction, _ filters.Results) (filters.Verdict, error) {
	if len(c.Engines) != len(c.engines) && !c.offline {
		return filters.Verdict{}, errors.New("the antivirus engines were not opened")
	}
	set := samplesOf(tx.Message)
	builtIn := set.scan("built in", func(s sample) (string, error) { return set.findEICAR(ctx, s) })
	answers := append([]answer{builtIn}, c.ask(ctx, set)...)
	var found []filters.Symbol
	broken := tx.Message.Err()
	for _, a := range answers {
		found = append(found, a.found...)
		broken = errors.Join(broken, a.err)
	}
	if broken != nil && len(found) == 0 {
		return filters.Verdict{}, broken
	}
	if len(c.Engines) == 0 {
		found = append(found, filters.Symbol{Name: "VIRUS_NOT_SCANNED", Evidence: "no antivirus engine is set up"})
	}
	if broken != nil { // the find settles it, unless a rule takes just this one for harmless
		set.skip("", "not scanned to the end: "+broken.Error())
	}
	return filters.Verdict{Symbols: append(found, set.skipped...)}, nil
}

// ask gives the samples to all engines at the same time. The answers come in
// the order of the engines.
func (c *Checker) ask(ctx context.Context, set *samples) []answer {
	all := make([]answer, len(c.engines))
	var wg sync.WaitGroup
	for i, e := range c.engines {
		wg.Go(func() {
			all[i] = set.scan(e.String(), func(s sample) (string, error) { return e.scan(ctx, s.lenient) })
		})
	}
	wg.Wait()
	return all
}
