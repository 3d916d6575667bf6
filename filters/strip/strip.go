// Package strip takes attachments out of messages and leaves a notice in the
// place of each.
//
// Only the parts that the rule's match marked are taken out. A file in an
// archive takes the whole attachment with it that it came in. Everything else
// stays as it is, byte for byte; a signature over the message does not hold any
// more. The gateway keeps the original in quarantine.
//
// # Diagnostics
//
// A rule that marks no part, a part that cannot be found, and a part that is
// still there afterwards are errors, so that the copy is held or deferred and
// the original is never sent instead.
package strip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/filters"
	"postern/mail"
)

// Filter declares the strip filter.
var Filter = &filters.Filter{
	Name:   "strip",
	Doc:    "takes attachments out of messages and leaves a notice",
	Stage:  filters.Data,
	NoScan: true,
	Actions: []filters.ActionDoc{{
		Name:          "strip",
		Doc:           "takes out the attachments that the rule's match is about and leaves a notice; the original is kept in quarantine",
		Say:           [2]string{"take out these attachments", "retirer ces pièces jointes"},
		KeepsOriginal: true,
		New:           func() any { return &Action{Note: shippedNote} },
	}},
	New: func() filters.Checker { return &Checker{} },
}

// shippedNote names the sentence that is shipped, in both languages.
const shippedNote = "attachment-removed"

// Action holds the keys of the action strip.
type Action struct {
	Note string `toml:"note" doc:"what the notice tells people; \"attachment-removed\" is the sentence that is shipped"`
}

// Validate checks the keys.
func (a *Action) Validate() error {
	if strings.TrimSpace(a.Note) == "" || len(a.Note) > 2000 {
		return &filters.SettingError{Key: "note", Err: errors.New("a note is 1 to 2000 bytes long")}
	}
	return nil
}

// Checker has no settings.
type Checker struct{ language string }

// Open learns the language of notices.
func (c *Checker) Open(_ context.Context, env *filters.Env) error {
	c.language = env.Language
	return nil
}

// Check has nothing to say.
func (*Checker) Check(context.Context, *mail.Transaction, filters.Results) (filters.Verdict, error) {
	return filters.Verdict{}, nil
}

// Rewrite takes the marked parts out.
func (c *Checker) Rewrite(ctx context.Context, in filters.RewriteInput) (*mail.Message, error) {
	with, ok := in.With.(*Action)
	if !ok {
		return nil, fmt.Errorf("%T are not settings of the action %s", in.With, in.Action)
	}
	victims, lost, err := choose(in)
	if err != nil {
		return nil, err
	}
	e := in.Message.Edit()
	for _, v := range victims {
		e.ReplacePart(v.part.ID(), c.notice(with, in, v))
	}
	m, err := e.Message()
	if err != nil {
		return nil, err
	}
	out := lost
	for _, v := range victims {
		out = append(out, v.part)
	}
	return m, gone(ctx, in, m, out)
}

// A victim is an attachment that is taken out, and what was said about it.
type victim struct {
	part *mail.Part
	why  []string
}

// choose finds the attachments that hold the marked parts. One that lies in
// another one that is taken out goes with it. lost are marked parts that are not
// there any more: another rule took out what they lay in.
func choose(in filters.RewriteInput) (victims []*victim, lost []*mail.Part, err error) {
	if len(in.Parts) == 0 {
		return nil, nil, errors.New("the rule marked no part")
	}
	of := map[*mail.Part]*victim{}
	for _, id := range in.Parts {
		p := in.Message.Part(id)
		if p == nil {
			was := in.Tx.Message.Part(id)
			if was == nil {
				return nil, nil, fmt.Errorf("part %s is not there", id)
			}
			lost = append(lost, was)
			continue
		}
		p = p.Entity()
		v := of[p]
		if v == nil {
			v = &victim{part: p}
			of[p] = v
			victims = append(victims, v)
		}
		for _, s := range in.Marks {
			if s.Part == id && s.Evidence != "" && s.Label != s.Evidence && len(v.why) < maxReasons && !slices.Contains(v.why, s.Evidence) {
				v.why = append(v.why, s.Evidence)
			}
		}
	}
	return slices.DeleteFunc(victims, func(v *victim) bool {
		for q := v.part.Parent(); q != nil; q = q.Parent() {
			if of[q] != nil {
				return true
			}
		}
		return false
	}), lost, nil
}

// maxReasons is how many reasons a notice gives.
const maxReasons = 3

// gone checks that nothing that was taken out is still there: in a message that
// reads in several ways the same bytes may belong to several parts. An equal
// file that was attached besides is another matter: it was judged by itself.
func gone(ctx context.Context, in filters.RewriteInput, after *mail.Message, out []*mail.Part) error {
	removed := map[[32]byte]bool{}
	for _, p := range out {
		if p.Parent() != nil && p.Length() > 0 {
			removed[p.Hash()] = true
		}
	}
	for _, p := range after.Parts() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.Length() > 0 && removed[p.Hash()] && !besides(in.Tx.Message, p, out) {
			return fmt.Errorf("part %s is still there after it was taken out", p.ID())
		}
	}
	return errors.Join(in.Tx.Message.Err(), in.Message.Err(), after.Err())
}

// besides reports whether p stood in the message as it was received, in bytes
// that it shares with nothing that was taken out.
func besides(received *mail.Message, p *mail.Part, out []*mail.Part) bool {
	q := received.Part(p.ID())
	if q == nil || q.Hash() != p.Hash() {
		return false
	}
	from, to := extent(q)
	return !slices.ContainsFunc(out, func(o *mail.Part) bool {
		o = received.Part(o.ID())
		if o == nil {
			return true
		}
		start, end := extent(o)
		return from < end && start < to
	})
}

// extent returns where the attachment that p came in lies.
func extent(p *mail.Part) (from, to int64) {
	p = p.Entity()
	return p.Offset(), p.Offset() + p.Length()
}
