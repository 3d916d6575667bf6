package gateway

import (
	"context"
	"fmt"
	"slices"

	"postern/filters"
	"postern/mail"
	"postern/policy"
)

// rewrite makes one copy: the actions in the chain's order, then the trace
// fields on top. A rewrite that fails defers the copy; the original is never
// sent instead. A copy that is not relayed stays as it was received: its
// actions are performed when it is released.
func (g *Gateway) rewrite(ctx context.Context, tx *mail.Transaction, rs filters.Results, pc policy.Copy) Copy {
	c := Copy{Copy: pc, Message: tx.Message}
	if pc.Disposition != policy.Relay {
		return c
	}
	m, err := g.perform(ctx, tx, rs, pc)
	if err == nil {
		c.Fields = begunOf(tx).traceFields(tx, pc)
		m, err = finish(m, tx, begunOf(tx), c.Fields)
	}
	if err != nil {
		c.Disposition, c.Reply, c.Err = policy.Defer, mail.ReplyTryAgain, err
		c.Why = "a rewrite failed: " + err.Error()
		return c
	}
	c.Message = m
	return c
}

// perform runs the actions of one copy in the order of the filters.
func (g *Gateway) perform(ctx context.Context, tx *mail.Transaction, rs filters.Results, pc policy.Copy) (*mail.Message, error) {
	chain := begunOf(tx).Policy.Chain()
	actions := slices.Clone(pc.Actions)
	slices.SortStableFunc(actions, func(a, b policy.Action) int { return chain.Order(a.Filter) - chain.Order(b.Filter) })
	m := tx.Message
	for _, a := range actions {
		next, err := chain.Rewrite(ctx, a.Filter, filters.RewriteInput{
			Tx: tx, Results: rs, Action: a.Name, With: a.With, Rule: a.Rule, Parts: a.Parts, To: pc.Recipients, Message: m,
		})
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", a.Rule, err)
		}
		m = next
	}
	return m, nil
}

// finish puts the trace fields on top and, on the way in, takes out what only
// we may write.
func finish(m *mail.Message, tx *mail.Transaction, b *begun, fields []string) (*mail.Message, error) {
	e := m.Edit()
	if tx.Direction == mail.Inbound {
		for _, f := range m.Header().Fields() {
			if b.forged(f) {
				e.Remove(f)
			}
		}
	}
	e.Prepend(fields...)
	return e.Message()
}
