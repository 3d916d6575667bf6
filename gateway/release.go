package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

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
	Whole   bool // nothing is taken out of it
}

// A Released tells what a release did.
type Released struct {
	Item  string
	To    []mail.Path
	Queue []string // ids in the spool
	Taken []Taken  // what rewrites took out
}

// A Taken is an attachment that was taken out of a released message; several
// without a name are one.
type Taken struct{ Name, Rule string }

// Release re-enters a held message at the rewrites: it is filtered again, so
// that signatures of today find what those of yesterday did not, rewritten as
// the policy in force asks, and put into the queue with its original envelope.
// The audit record is durable before the message is.
func (g *Gateway) Release(ctx context.Context, req Release) (*Released, error) {
	it, done, err := g.claim(ctx, req.ID)
	if err != nil {
		return nil, err
	}
	defer done()
	to, err := releaseTo(it, req)
	if err != nil {
		return nil, err
	}
	st := g.acquire()
	if st == nil {
		return nil, ErrNoPolicy
	}
	b := &begun{State: st, demands: it.Demands, kept: it.ID}
	defer b.release()
	body, err := g.heldBody(ctx, it.ID)
	if err != nil {
		return nil, err
	}
	defer b.discard(body)
	d, err := g.releaseDelivery(ctx, it, to, b, body, req)
	if err != nil {
		return nil, fmt.Errorf("release %s: %w", it.ID, err)
	}
	if err := g.letGo(ctx, d, it, to, req); err != nil {
		return nil, fmt.Errorf("release %s: %w", it.ID, err)
	}
	return &Released{Item: it.ID, To: to, Queue: d.spool, Taken: d.taken()}, nil
}

// letGo writes the record of the release, puts the message into the queue and
// marks it in the quarantine. A release that fails after its record has another.
func (g *Gateway) letGo(ctx context.Context, d *delivery, it *quarantine.Item, to []mail.Path, req Release) error {
	record := audit.Record{Event: audit.Release, ID: it.Transaction, Item: it.ID, Queue: it.Queue, Policy: d.b.Policy.Hash, Rule: it.Rule,
		Actor: req.Actor, Reason: req.Reason, From: it.ReversePath.String(), To: joinPaths(to)}
	switch taken := d.taken(); {
	case req.Whole:
		record.Detail = "whole: nothing was taken out"
	case len(taken) > 0:
		var rules []string
		for _, t := range taken {
			rules = append(rules, t.Rule)
		}
		record.Detail = "attachments were taken out by " + strings.Join(slices.Compact(rules), ", ") // their names are personal
	}
	if err := g.auditNow(ctx, record); err != nil {
		return err
	}
	if err := d.commit(ctx); err != nil {
		record.Detail = "failed: it stays held"
		return errors.Join(err, g.auditNow(ctx, record))
	}
	for i := range d.fates {
		ev := g.event(d.tx, d.out, &d.out.Decisions[i], &d.fates[i])
		ev.Msg, ev.Held, ev.By, ev.Reason = audit.MsgReleased, it.ID, req.Actor, req.Reason
		g.o.MailLog.Write(ev)
	}
	if !req.Copy.IsNull() {
		return nil
	}
	if err := g.o.Quarantine.MarkReleased(ctx, it.ID, to...); err != nil {
		return fmt.Errorf("it is in the queue, but: %w", err)
	}
	return nil
}

// claim finds the item and makes sure that nobody else releases it. Only what is
// read after that says who still waits.
func (g *Gateway) claim(ctx context.Context, id string) (*quarantine.Item, func(), error) {
	it, err := g.o.Quarantine.Get(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	done, err := g.o.Quarantine.Claim(it.ID)
	if err != nil {
		return nil, nil, err
	}
	if it, err = g.o.Quarantine.Get(ctx, it.ID); err != nil {
		done()
		return nil, nil, err
	}
	return it, done, nil
}

// releaseTo are the recipients of a release.
func releaseTo(it *quarantine.Item, req Release) ([]mail.Path, error) {
	if !req.Copy.IsNull() {
		return []mail.Path{req.Copy}, nil
	}
	var to []mail.Path
	for _, r := range it.To {
		if r.State == quarantine.Held && !slices.Contains(to, r.Path) && (len(req.To) == 0 || slices.Contains(req.To, r.Path)) {
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
// Nobody sees it: the record of the release is enough.
func (g *Gateway) heldBody(ctx context.Context, id string) (*spool.Buffer, error) {
	r, _, err := g.o.Quarantine.Open(ctx, id)
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
func (g *Gateway) releaseDelivery(ctx context.Context, it *quarantine.Item, to []mail.Path, b *begun, body *spool.Buffer, req Release) (*delivery, error) {
	session := it.Session
	tx := &mail.Transaction{
		ID: g.o.NewID(), At: g.o.Now(), Session: &session, Envelope: mail.Envelope{ReversePath: it.ReversePath, Options: it.Options},
		Message: parse(body, wholeHeader(b.Parse, body.Size())), Began: b,
	}
	seat, err := b.room.enter(ctx, tx.Message)
	if err != nil {
		return nil, err
	}
	defer seat.leave()
	for _, p := range to {
		r := mail.Recipient{Path: p}
		for _, known := range it.To {
			if known.Path == p {
				r = known.Recipient
			}
		}
		if b.upstreamName(tx, p) == "" {
			return nil, fmt.Errorf("no route to <%s>", p)
		}
		tx.Recipients = append(tx.Recipients, r)
	}
	out := &Outcome{Results: b.check(ctx, tx)}
	if err := b.stillMalware(out); err != nil && !req.Malware {
		return nil, err
	}
	for i := range out.Results { // whoever takes malware takes it unseen too
		if r := &out.Results[i]; r.Filter == "virus" && r.Err != nil {
			r.Ignored = true
		}
	}
	if out.Decisions, err = b.released(tx, out, it.Original || req.Whole); err != nil {
		return nil, err
	}
	g.copies(ctx, tx, out)
	if err := errors.Join(tx.Message.Err(), out.failure()); err != nil {
		return nil, err
	}
	return newDelivery(g, tx, out), nil
}

// taken are the attachments that rewrites take out, each once.
func (d *delivery) taken() []Taken {
	var all []Taken
	for i := range d.out.Copies {
		for _, a := range d.out.Copies[i].Actions {
			if !d.b.keepsOriginal([]policy.Action{a}) {
				continue
			}
			for _, id := range a.Parts {
				t := Taken{Rule: a.Rule}
				if p := d.tx.Message.Part(id); p != nil {
					if names := p.Entity().Names(); len(names) > 0 {
						t.Name = names[0]
					}
				}
				if !slices.Contains(all, t) {
					all = append(all, t)
				}
			}
		}
	}
	return all
}

// wholeHeader lets a header be read to its end, however long it is: a person has
// decided about the message, and of a header that is cut nobody could take out
// what only we may write.
func wholeHeader(o mail.Options, size int64) mail.Options {
	usual := mail.DefaultLimits() // room for what we put on top, or it could not be signed
	o.Limits.HeaderBytes, o.Limits.Fields = size+usual.HeaderBytes, int(size)+usual.Fields
	return o
}

// stillMalware is why the message must not be released without a word of the
// reviewer: a scanner finds something, or could not look.
func (b *begun) stillMalware(out *Outcome) error {
	v, ok := out.Results.Of("virus")
	for _, s := range v.Symbols {
		if s.Name == "VIRUS_FOUND" {
			return fmt.Errorf("%w: %s", ErrMalware, s.Evidence)
		}
	}
	if !ok && b.Policy.Chain().Order("virus") >= 0 {
		return ErrCannotSee
	}
	return nil
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
