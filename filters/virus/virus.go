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
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
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
func (c *Checker) Open(ctx context.Context, _ *filters.Env) error {
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

// A sample is one stream to be scanned.
type sample struct {
	part mail.PartID
	what string // for the evidence
	open func() io.Reader
}

// Check scans the message.
func (c *Checker) Check(ctx context.Context, tx *mail.Transaction, _ filters.Results) (filters.Verdict, error) {
	if len(c.Engines) != len(c.engines) {
		return filters.Verdict{}, errors.New("the antivirus engines were not opened")
	}
	samples := samplesOf(tx.Message)
	found, err := findEICAR(ctx, samples)
	hits := c.ask(ctx, samples)
	var broken error
	for _, h := range hits {
		found = append(found, h.symbols...)
		broken = errors.Join(broken, h.err)
	}
	if broken = errors.Join(err, broken); broken != nil && len(found) == 0 {
		return filters.Verdict{}, broken
	}
	if len(c.engines) == 0 {
		found = append(found, filters.Symbol{Name: "VIRUS_NOT_SCANNED", Evidence: "no antivirus engine is set up"})
	}
	return filters.Verdict{Symbols: found}, tx.Message.Err()
}

// hits is what one engine said about the samples.
type hits struct {
	symbols []filters.Symbol
	err     error
}

// ask gives the samples to all engines at the same time. The answers come in
// the order of the engines.
func (c *Checker) ask(ctx context.Context, samples []sample) []hits {
	all := make([]hits, len(c.engines))
	var wg sync.WaitGroup
	for i, e := range c.engines {
		wg.Go(func() { all[i] = askOne(ctx, e, samples) })
	}
	wg.Wait()
	return all
}

// askOne gives the samples to one engine, until the engine fails.
func askOne(ctx context.Context, e engine, samples []sample) (h hits) {
	for _, s := range samples {
		name, err := e.scan(ctx, s.open)
		if err != nil {
			h.err = fmt.Errorf("%s: %w", s.what, err)
			return h
		}
		if name != "" {
			name = clean(name)
			h.symbols = append(h.symbols, filters.Symbol{
				Name: "VIRUS_FOUND", Part: s.part, Label: name,
				Evidence: fmt.Sprintf("%s: %s in %s", e, name, s.what),
			})
		}
	}
	return h
}

// findEICAR looks for the test string in every sample.
func findEICAR(ctx context.Context, samples []sample) (found []filters.Symbol, err error) {
	needle := eicarString()
	for _, s := range samples {
		if err := ctx.Err(); err != nil {
			return found, err
		}
		hit, err := containsStream(s.open(), needle)
		if err != nil {
			return found, fmt.Errorf("%s: %w", s.what, err)
		}
		if hit {
			found = append(found, filters.Symbol{
				Name: "VIRUS_FOUND", Part: s.part, Label: eicarName,
				Evidence: fmt.Sprintf("built in: %s in %s", eicarName, s.what),
			})
		}
	}
	return found, nil
}

// samplesOf lists what is to be scanned: the raw message, and what it does not
// show as it is.
func samplesOf(m *mail.Message) []sample {
	samples := []sample{{what: "the message", open: m.Reader}}
	for _, p := range m.Parts() {
		what := describe(p)
		if !plain(p) {
			samples = append(samples, sample{part: p.ID(), what: what, open: p.Open})
		}
		for _, b := range p.Readings() {
			samples = append(samples, sample{part: p.ID(), what: what + ", read another way", open: func() io.Reader { return bytes.NewReader(b) }})
		}
		if text := odd(p); text != "" {
			samples = append(samples, sample{part: p.ID(), what: what + ", as text", open: func() io.Reader { return strings.NewReader(text) }})
		}
	}
	return samples
}

// plain reports whether the content of p stands in the raw message as it is,
// or is nothing but the contents of its children.
func plain(p *mail.Part) bool {
	if !p.IsLeaf() {
		return true
	}
	switch p.Encoding() {
	case "7bit", "8bit", "binary":
		return p.InMessage()
	}
	return false
}

// odd returns the text of a part whose character set hides ASCII.
func odd(p *mail.Part) string {
	cs := strings.ToLower(p.Charset())
	if !strings.HasPrefix(cs, "utf-16") && !strings.HasPrefix(cs, "utf-32") && !strings.HasPrefix(cs, "utf-7") &&
		!strings.HasPrefix(cs, "ucs-") && !strings.Contains(cs, "ebcdic") && !strings.HasPrefix(cs, "ibm") {
		return ""
	}
	return p.Text()
}

// describe names a part for a reviewer.
func describe(p *mail.Part) string {
	for _, n := range p.Names() {
		if n != "" {
			return fmt.Sprintf("part %s (%s)", p.ID(), clean(n))
		}
	}
	return fmt.Sprintf("part %s", p.ID())
}

// clean makes text that came from outside fit for one line of evidence.
func clean(s string) string { return filters.Clean(s, 100) }
