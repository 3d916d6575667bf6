package gateway

import (
	"context"
	"fmt"
	"net/netip"

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
	st := g.State()
	if st == nil {
		return "", ErrNoPolicy
	}
	d, err := g.ownDelivery(ctx, st, from, to, content)
	if err != nil {
		return "", err
	}
	defer d.b.release()
	if err := d.commit(ctx); err != nil {
		return "", fmt.Errorf("submit: %w", err)
	}
	for i := range d.fates {
		g.log(d.tx, d.out, i, &d.fates[i])
	}
	return d.tx.ID, nil
}

// ownDelivery takes mail of our own as far as its rewritten copies.
func (g *Gateway) ownDelivery(ctx context.Context, st *State, from mail.Path, to []mail.Recipient, content []byte) (*delivery, error) {
	tx := &mail.Transaction{
		ID: g.o.NewID(), At: g.o.Now(),
		Session: &mail.Session{
			ID: ownListener, Listener: ownListener, Role: mail.RoleOutbound, Protocol: "SMTP", ESMTP: true,
			Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0), Helo: st.Policy.Site.Hostname, Direction: mail.Outbound,
		},
		Envelope: mail.Envelope{ReversePath: from, Recipients: to},
		Message:  mail.ParseBytes(content, st.Parse),
	}
	g.begin(tx, st)
	b := begunOf(tx)
	out := &Outcome{Results: st.Policy.Chain().Check(ctx, tx)}
	out.Decisions = st.Policy.Decide(tx, out.Results)
	for i := range out.Decisions {
		d := &out.Decisions[i]
		if d.Disposition != policy.Relay {
			d.Disposition, d.Why = policy.Relay, "our own notice: "+d.Why
		}
		if _, ok := st.Policy.UpstreamFor(tx.Listener, b.routable(d.Recipient)); !ok {
			b.release()
			return nil, fmt.Errorf("submit: no route to <%s>", d.Recipient)
		}
	}
	for _, c := range policy.Bifurcate(out.Decisions, func(p mail.Path) string { return b.upstreamName(tx, p) }) {
		rewritten := g.rewrite(ctx, tx, out.Results, c)
		if rewritten.Err != nil {
			b.release()
			return nil, fmt.Errorf("submit: %w", rewritten.Err)
		}
		out.Copies = append(out.Copies, rewritten)
	}
	return newDelivery(g, tx, out), nil
}

// begin attaches the State to a transaction that did not come by smtpd.
func (g *Gateway) begin(tx *mail.Transaction, st *State) {
	st.acquire()
	tx.Began = &begun{State: st}
}

// Begin makes a transaction ready for Judge; Abort ends it.
func (g *Gateway) Begin(tx *mail.Transaction) { g.begin(tx, g.State()) }

// bounce tells the author's side at once that some recipients were refused.
func (d *delivery) bounce(ctx context.Context) error {
	drafts, err := d.bounceDraft(ctx)
	if err != nil {
		return err
	}
	ids, err := d.g.o.Spool.Commit(ctx, drafts)
	if err == nil {
		d.g.queue.Add(ids...)
	}
	return err
}

// bounceDraft is a DSN for the recipients that were refused after others had
// been accepted: a copy in the same commit as theirs.
func (d *delivery) bounceDraft(ctx context.Context) ([]spool.Draft, error) {
	e := d.entry("", "mixed_reject")
	for i := range d.fates {
		if f := &d.fates[i]; f.Status == "bounced" {
			for _, r := range d.recipients([]mail.Path{f.Recipient}) {
				e.To = append(e.To, spool.Recipient{Recipient: r, State: spool.Failed, Reply: d.out.Decisions[i].Reply, Hop: f.Relay, At: d.g.o.Now()})
			}
		}
	}
	content, err := d.g.queue.Bounce(e, d.tx.Message)
	if err != nil {
		return nil, err
	}
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
