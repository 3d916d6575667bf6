// Package attachments says what is attached to a message: by the bytes of each
// file and by every name that some system may give it.
//
// ZIP and gzip archives are opened while the message is parsed (Unpackers), so
// that their members are parts of the content tree and are judged like any
// attachment. Every reading counts: a file is a program if one name, one
// declared type or one way to decode it says so.
//
// # Diagnostics
//
// An archive that cannot be opened, or only in part, has the symbol
// ARCHIVE_NOT_OPENED with the reason as evidence. A message that cannot be read
// makes the filter broken.
package attachments

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"postern/filters"
	"postern/mail"
)

// Filter declares the attachments filter.
var Filter = &filters.Filter{
	Name:    "attachments",
	Doc:     "says what kinds of files are attached, in archives too",
	Stage:   filters.Data,
	Symbols: symbols(),
	Keys: []filters.MatchKey{
		{
			Name:   "attachment",
			Doc:    "a file of that kind is attached, or lies in an attached archive",
			Say:    [2]string{"with an attachment of kind %s", "avec une pièce jointe de type %s"},
			Kind:   filters.KeyEnum,
			Values: values(),
		},
		{
			Name:    "attachment_name",
			Doc:     "a file of that name is attached, or lies in an attached archive",
			Say:     [2]string{"with an attachment named %s", "avec une pièce jointe nommée %s"},
			Kind:    filters.KeyName,
			Symbols: []string{symbolNamed},
		},
	},
	New: func() filters.Checker { return &Checker{Unpack: defaultUnpack} },
}

// Checker holds the settings of [filter.attachments].
type Checker struct {
	Unpack Unpack `toml:"unpack" doc:"bounds of opening archives"`
}

// Validate checks the settings.
func (c *Checker) Validate() error {
	u := c.Unpack
	if u.Depth < 0 || u.Depth > 50 || u.Members < 1 || u.Members > 100_000 || u.Bytes < 1<<20 || u.Ratio < 2 || u.Time <= 0 {
		return &filters.SettingError{Key: "unpack", Err: fmt.Errorf(
			"depth is 0 to 50, members 1 to 100000, bytes at least 1MB, ratio at least 2, time more than 0s")}
	}
	return nil
}

// Check says what is attached.
func (c *Checker) Check(ctx context.Context, tx *mail.Transaction, _ filters.Results) (filters.Verdict, error) {
	var v filters.Verdict
	e := &examiner{unpack: c.Unpack, why: unopened(tx.Message), inside: map[*mail.Part]bool{}}
	r := &reporter{count: map[tally]int{}}
	for _, p := range tx.Message.Parts() {
		if err := ctx.Err(); err != nil {
			return filters.Verdict{}, err
		}
		r.report(p, e.examine(p), e.inDocument(p))
	}
	v.Symbols = r.symbols
	if err := tx.Message.Err(); err != nil {
		return filters.Verdict{}, fmt.Errorf("read message: %w", err)
	}
	return v, nil
}

// unopened collects why parts could not be opened.
func unopened(m *mail.Message) map[mail.PartID]string {
	why := map[mail.PartID]string{}
	for _, f := range m.Findings() {
		switch f.Kind {
		case mail.UnpackFailed, mail.LimitDecoded, mail.LimitDepth, mail.LimitParts, mail.LimitTime:
			if _, ok := why[f.Part]; !ok {
				why[f.Part] = f.Evidence
			}
		}
	}
	return why
}

// maxOfKind is how many files of one kind in one attachment are reported: an
// archive may hold thousands.
const maxOfKind = 5

// A reporter makes symbols of claims.
type reporter struct {
	symbols []filters.Symbol
	count   map[tally]int
}

// A tally counts the files of a kind in one attachment.
type tally struct {
	entity *mail.Part
	kind   kind
}

// report makes one symbol for each kind of p, with all reasons, and one for
// each name.
func (r *reporter) report(p *mail.Part, claims []claim, inDocument bool) {
	names := labels(p)
	who := "unnamed part " + string(p.ID())
	if len(names) > 0 {
		who = names[0]
	}
	for _, k := range kinds {
		var reasons []string
		for _, c := range claims {
			if c.kind == k.kind {
				reasons = append(reasons, c.reason)
			}
		}
		t := tally{p.Entity(), k.kind}
		if len(reasons) == 0 || r.count[t] == maxOfKind {
			continue
		}
		r.count[t]++
		evidence := filters.Clean(who+": "+strings.Join(reasons, ", "), 300)
		r.symbols = append(r.symbols, filters.Symbol{Name: k.symbol, Part: p.ID(), Evidence: evidence})
	}
	if inDocument {
		return
	}
	for _, n := range names {
		r.symbols = append(r.symbols, filters.Symbol{Name: symbolNamed, Part: p.ID(), Label: n, Evidence: n})
	}
}

// labels returns the names of p, fit to be shown and compared.
func labels(p *mail.Part) (all []string) {
	for _, n := range p.Names() {
		if n = filters.Clean(n, 255); !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all
}
