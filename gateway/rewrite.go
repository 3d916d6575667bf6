package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"postern/filters"
	"postern/mail"
	"postern/policy"
)

// copies makes the fewest copies that treat everybody as it was decided. Who
// stands in the envelope twice gets one.
func (g *Gateway) copies(ctx context.Context, tx *mail.Transaction, out *Outcome) {
	b := begunOf(tx)
	for _, c := range policy.Bifurcate(out.Decisions, func(p mail.Path) string { return b.upstreamName(tx, p) }) {
		c.Recipients = unique(c.Recipients)
		out.Copies = append(out.Copies, g.rewrite(ctx, tx, out.Results, c))
	}
}

func unique(to []mail.Path) []mail.Path {
	if len(to) == 1 {
		return to
	}
	met := make(map[mail.Path]bool, len(to))
	return slices.DeleteFunc(to, func(p mail.Path) bool {
		again := met[p]
		met[p] = true
		return again
	})
}

// failure is the first reason why a copy could not be made.
func (out *Outcome) failure() error {
	for i := range out.Copies {
		if err := out.Copies[i].Err; err != nil {
			return err
		}
	}
	return nil
}

// rewrite makes one copy: what only we may write is taken out, then come the
// actions in the chain's order, then the trace fields on top. A rewrite that
// fails defers the copy; the original is never sent instead. A copy that is not
// relayed stays as it was received: its actions are performed when it is
// released.
func (g *Gateway) rewrite(ctx context.Context, tx *mail.Transaction, rs filters.Results, pc policy.Copy) Copy {
	c := Copy{Copy: pc, Message: tx.Message}
	if pc.Disposition != policy.Relay {
		return c
	}
	b := begunOf(tx)
	m, err := b.clean(tx)
	if err == nil {
		m, err = g.perform(ctx, tx, m, rs, pc)
	}
	if err == nil {
		c.Fields = b.traceFields(tx, rs, pc)
		m, err = onTop(m, c.Fields)
	}
	if err == nil {
		m, err = b.finish(ctx, tx, rs, &c, m)
	}
	if err != nil {
		c.Disposition, c.Reply, c.Err = policy.Defer, mail.ReplyTryAgain, err
		c.Why = "a rewrite failed: " + err.Error()
		return c
	}
	c.Message = m
	return c
}

// onTop returns m with header fields above all others.
func onTop(m *mail.Message, fields []string) (*mail.Message, error) {
	e := m.Edit()
	e.Prepend(fields...)
	return e.Message()
}

// finish lets signatures and seals be put on top, last of all: they hold only as
// long as nothing else is changed.
func (b *begun) finish(ctx context.Context, tx *mail.Transaction, rs filters.Results, c *Copy, m *mail.Message) (*mail.Message, error) {
	chain := b.Policy.Chain()
	for _, f := range chain.Finishers() {
		fields, err := chain.Finish(ctx, f, tx, rs, m)
		if err != nil {
			return nil, err
		}
		if len(fields) == 0 {
			continue
		}
		if m, err = onTop(m, fields); err != nil {
			return nil, err
		}
		c.Fields = append(fields[:len(fields):len(fields)], c.Fields...)
	}
	return m, nil
}

// clean takes out of a message on the way in what only we may write.
func (b *begun) clean(tx *mail.Transaction) (*mail.Message, error) {
	m := tx.Message
	if tx.Direction != mail.Inbound {
		return m, nil
	}
	if m.Header().Cut() {
		return nil, errLongHeader
	}
	var e *mail.Editor
	for f := range m.Header().Each() {
		if b.forged(f) {
			if e == nil {
				e = m.Edit()
			}
			e.Remove(f)
		}
	}
	if e == nil {
		return m, nil
	}
	return e.Message()
}

var errLongHeader = errors.New("the header exceeds the limits: fields that only this gateway may write could stand where nobody looks")

// perform runs the actions of one copy in the order of the filters.
func (g *Gateway) perform(ctx context.Context, tx *mail.Transaction, m *mail.Message, rs filters.Results, pc policy.Copy) (*mail.Message, error) {
	chain := begunOf(tx).Policy.Chain()
	actions := slices.Clone(pc.Actions)
	slices.SortStableFunc(actions, func(a, b policy.Action) int { return chain.Order(a.Filter) - chain.Order(b.Filter) })
	for _, a := range actions {
		next, err := chain.Rewrite(ctx, a.Filter, filters.RewriteInput{
			Tx: tx, Results: rs, Action: a.Name, With: a.With, Rule: a.Rule, Parts: a.Parts, Marks: a.Marks,
			Kept: begunOf(tx).kept, To: pc.Recipients, Message: m,
		})
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", a.Rule, err)
		}
		m = next
	}
	return m, nil
}
