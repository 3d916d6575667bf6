package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"postern/audit"
	"postern/mail"
	"postern/policy"
	"postern/quarantine"
	"postern/spool"
)

// Errors of a release that callers tell apart.
var (
	ErrMalware   = errors.New("the message holds malware")
	ErrCannotSee = errors.New("the message could not be scanned for malware")
	ErrNobody    = errors.New("nobody waits for this message")
)

// A Release asks for a held message to be delivered after all.
type Release struct {
	ID      string
	To      []mail.Path // only these of its recipients; empty: all that wait
	Copy    mail.Path   // to this address instead; the recipients go on waiting
	Actor   string
	Reason  string
	Malware bool // although a scanner still finds malware in it
}

// A Released tells what a release did.
type Released struct {
	Item  string
	To    []mail.Path
	Queue []string // ids in the spool
}

// Release re-enters a held message at the rewrites: it is filtered again, so
// that signatures of today find what those of yesterday did not, rewritten as
// the policy in force asks, and put into the queue with its original envelope.
// The audit record is durable before the message is.
func (g *Gateway) Release(ctx context.Context, req Release) (*Released, error) {
	it, err := g.o.Quarantine.Get(ctx, req.ID)
	if err != nil {
		return nil, err
	}
	done, err := g.o.Quarantine.Claim(it.ID)
	if err != nil {
		return nil, err
	}
	defer done()
	to, err := releaseTo(it, req)
	if err != nil {
		return nil, err
	}
	body, err := g.heldBody(ctx, it.ID, req)
	if err != nil {
		return nil, err
	}
	defer body.Discard()
	d, err := g.releaseDelivery(ctx, it, to, body, req.Malware)
	if err != nil {
		return nil, err
	}
	defer d.b.release()
	record := audit.Record{Event: audit.Release, ID: it.Transaction, Item: it.ID, Queue: it.Queue, Policy: d.b.Policy.Hash, Rule: it.Rule,
		Actor: req.Actor, Reason: req.Reason, From: it.ReversePath.String(), To: joinPaths(to)}
	if err := g.auditNow(ctx, record); err != nil {
		return nil, fmt.Errorf("release %s: %w", it.ID, err)
	}
	if err := d.commit(ctx); err != nil {
		return nil, fmt.Errorf("release %s: %w", it.ID, err)
	}
	if req.Copy.IsNull() {
		if err := g.o.Quarantine.MarkReleased(ctx, it.ID, to...); err != nil {
			return nil, fmt.Errorf("release %s: it is in the queue, but: %w", it.ID, err)
		}
	}
	for i := range d.fates {
		ev := g.event(d.tx, d.out, &d.out.Decisions[i], &d.fates[i], symbolNames(d.out, d.fates[i].Recipient))
		ev.Msg, ev.Held, ev.By, ev.Reason = audit.MsgReleased, it.ID, req.Actor, req.Reason
		g.o.MailLog.Write(ev)
	}
	return &Released{Item: it.ID, To: to, Queue: d.spool}, nil
}

// releaseTo are the recipients of a release.
func releaseTo(it *quarantine.Item, req Release) ([]mail.Path, error) {
	if !req.Copy.IsNull() {
		return []mail.Path{req.Copy}, nil
	}
	var to []mail.Path
	for _, r := range it.To {
		if r.State == quarantine.Held && (len(req.To) == 0 || slices.Contains(req.To, r.Path)) {
			to = append(to, r.Path)
		}
	}
	for _, p := range req.To {
		if !slices.Contains(to, p) {
			return nil, fmt.Errorf("release %s to <%s>: %w", it.ID, p, ErrNobody)
		}
	}
	if len(to) == 0 {
		return nil, fmt.Errorf("release %s: %w", it.ID, ErrNobody)
	}
	return to, nil
}

// heldBody decrypts the body into a buffer of the spool, checked to its end.
func (g *Gateway) heldBody(ctx context.Context, id string, req Release) (*spool.Buffer, error) {
	r, _, err := g.o.Quarantine.Read(ctx, id, quarantine.Access{Actor: req.Actor, Purpose: "release", Reason: req.Reason})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	body := g.o.Spool.Buffer()
	if _, err := io.Copy(body, r); err != nil {
		body.Discard()
		return nil, fmt.Errorf("read held message %s: %w", id, err)
	}
	return body, nil
}

// releaseDelivery judges the message again as far as a release needs.
func (g *Gateway) releaseDelivery(ctx context.Context, it *quarantine.Item, to []mail.Path, body *spool.Buffer, malware bool) (*delivery, error) {
	st := g.State()
	session := it.Session
	tx := &mail.Transaction{ID: g.o.NewID(), At: g.o.Now(), Session: &session, Envelope: mail.Envelope{ReversePath: it.ReversePath, Options: it.Options}}
	for _, p := range to {
		r := mail.Recipient{Path: p}
		for _, known := range it.To {
			if known.Path == p {
				r = known.Recipient
			}
		}
		if _, ok := st.Policy.UpstreamFor(tx.Listener, st.routable(p)); !ok {
			return nil, fmt.Errorf("release %s: no route to <%s>", it.ID, p)
		}
		tx.Recipients = append(tx.Recipients, r)
	}
	tx.Message = parse(body, st)
	g.begin(tx, st)
	d, err := g.rewriteForRelease(ctx, tx, malware)
	if err != nil {
		begunOf(tx).release()
		return nil, fmt.Errorf("release %s: %w", it.ID, err)
	}
	return d, nil
}

func (g *Gateway) rewriteForRelease(ctx context.Context, tx *mail.Transaction, malware bool) (*delivery, error) {
	b := begunOf(tx)
	out := &Outcome{Results: b.Policy.Chain().Check(ctx, tx)}
	if v, ok := out.Results.Of("virus"); !malware {
		for _, s := range v.Symbols {
			if s.Name == "VIRUS_FOUND" {
				return nil, fmt.Errorf("%w: %s", ErrMalware, s.Evidence)
			}
		}
		if !ok && b.Policy.Chain().Order("virus") >= 0 {
			return nil, ErrCannotSee
		}
	}
	out.Decisions = decisionsFor(b.Policy.Decide(tx, out.Results))
	for _, c := range policy.Bifurcate(out.Decisions, func(p mail.Path) string { return b.upstreamName(tx, p) }) {
		rewritten := g.rewrite(ctx, tx, out.Results, c)
		if rewritten.Err != nil {
			return nil, rewritten.Err
		}
		out.Copies = append(out.Copies, rewritten)
	}
	return newDelivery(g, tx, out), nil
}

func joinPaths(ps []mail.Path) string {
	s := ""
	for i, p := range ps {
		if i > 0 {
			s += " "
		}
		s += p.String()
	}
	return s
}
