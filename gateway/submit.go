package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"postern/filters"
	"postern/mail"
	"postern/policy"
	"postern/spool"
)

// ownListener is the name under which our own mail appears in the log.
const ownListener = "postern"

// Submit sends mail of our own: DSNs, notices. It is filtered, rewritten and
// logged like any other outbound mail, so that it is signed and encrypted as
// the policy asks; but no rule can refuse or hold it. It is durable when Submit
// returns.
func (g *Gateway) Submit(ctx context.Context, from mail.Path, to []mail.Recipient, content []byte) (id string, err error) {
	st := g.acquire()
	if st == nil {
		return "", ErrNoPolicy
	}
	d, err := g.ownDelivery(ctx, st, from, to, content)
	if err != nil {
		return "", err
	}
	defer d.b.release()
	if err := d.hold(ctx); err != nil { // the original of what a rewrite takes out
		return "", fmt.Errorf("submit: %w", err)
	}
	if err := d.commit(ctx); err != nil {
		d.unhold(ctx)
		return "", fmt.Errorf("submit: %w", err)
	}
	for i := range d.fates {
		g.log(d.tx, d.out, i, &d.fates[i])
	}
	return d.tx.ID, nil
}

// errUndecided says that nobody knows which rewrites the policy wants.
var errUndecided = errors.New("a filter broke, so that it is not known what the policy asks for")

// ownDelivery takes mail of our own as far as its rewritten copies. st, which
// was acquired for it, is released if it fails.
func (g *Gateway) ownDelivery(ctx context.Context, st *State, from mail.Path, to []mail.Recipient, content []byte) (*delivery, error) {
	tx := g.ownTransaction(st, from, to, content)
	tx.Began = &begun{State: st}
	st.address(tx)
	d, err := g.ownCopies(ctx, tx)
	if err != nil {
		st.release()
		return nil, fmt.Errorf("submit: %w", err)
	}
	return d, nil
}

func (g *Gateway) ownTransaction(st *State, from mail.Path, to []mail.Recipient, content []byte) *mail.Transaction {
	tx := &mail.Transaction{
		ID: g.o.NewID(), At: g.o.Now(),
		Session: &mail.Session{
			ID: ownListener, Listener: ownListener, Role: mail.RoleOutbound, Protocol: "SMTP", ESMTP: true,
			Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0), Helo: st.Policy.Site.Hostname, Direction: mail.Outbound,
		},
		Envelope: mail.Envelope{ReversePath: from, Recipients: to},
		Message:  mail.ParseBytes(content, st.Parse),
	}
	if bytes.ContainsFunc(content, func(r rune) bool { return r >= utf8.RuneSelf }) {
		tx.Options.Body = smtp.Body8BitMIME
	}
	return tx
}

func (g *Gateway) ownCopies(ctx context.Context, tx *mail.Transaction) (*delivery, error) {
	b := begunOf(tx)
	out := &Outcome{Results: b.check(ctx, tx)}
	out.Decisions = b.Policy.Decide(tx, out.Results)
	if undecided(out) {
		return nil, errUndecided
	}
	for i := range out.Decisions {
		d := &out.Decisions[i]
		if d.Disposition != policy.Relay {
			d.Disposition, d.Why = policy.Relay, "our own notice: "+d.Why
		}
		d.Actions = b.without(d.Actions, func(doc filters.ActionDoc) bool { return doc.SparesOwn })
		if b.upstreamName(tx, d.Recipient) == "" {
			return nil, fmt.Errorf("no route to <%s>", d.Recipient)
		}
	}
	g.copies(ctx, tx, out)
	if err := out.failure(); err != nil {
		return nil, err
	}
	return newDelivery(g, tx, out), nil
}

// undecided reports whether a recipient was put off because a filter broke:
// mail that goes out all the same must not go without what an unknown rule asks
// for.
func undecided(out *Outcome) bool {
	broken := slices.ContainsFunc(out.Results, func(r filters.Result) bool { return r.Err != nil && !r.Ignored })
	return broken && slices.ContainsFunc(out.Decisions, func(d policy.Decision) bool { return d.Disposition == policy.Defer })
}

// Begin makes a transaction that did not come by smtpd ready for Judge; Abort
// ends it. There must be a policy.
func (g *Gateway) Begin(tx *mail.Transaction) { tx.Began = &begun{State: g.acquire()} }

// bounceDraft is a DSN for the recipients that were refused after others had
// been accepted: a copy in the same commit as theirs.
func (d *delivery) bounceDraft(ctx context.Context) ([]spool.Draft, error) {
	e := d.entry("", "mixed_reject")
	e.Received = d.tx.At
	for i := range d.fates {
		if f := &d.fates[i]; f.Status == "bounced" {
			for _, r := range d.recipients([]mail.Path{f.Recipient}) {
				e.To = append(e.To, spool.Recipient{Recipient: r, State: spool.Failed, Reply: f.Refusal, Hop: f.Relay, At: d.g.o.Now()})
			}
		}
	}
	content, err := d.g.queue.Bounce(e, d.tx.Message)
	if err != nil {
		return nil, err
	}
	d.b.acquire() // it is open as long as this transaction has it
	own, err := d.g.ownDelivery(ctx, d.b.State, mail.Path{}, []mail.Recipient{{Path: d.tx.ReversePath}}, content)
	if err != nil {
		return nil, err
	}
	defer own.b.release()
	var drafts []spool.Draft
	for _, c := range own.copies(policy.Relay) {
		drafts = append(drafts, own.draft(c, c.Recipients))
	}
	return drafts, nil
}
