package gateway

import (
	"context"
	"time"

	"postern/audit"
	"postern/mail"
	"postern/policy"
)

// log writes the line of the mail log and the audit record for recipient i. A
// record that cannot be written is an error in the log: the mail has had its
// fate. As long as the audit log takes no more, Mail refuses new transactions.
func (g *Gateway) log(tx *mail.Transaction, out *Outcome, i int, f *Fate) {
	dec := &out.Decisions[i]
	ev := g.event(tx, out, dec, f)
	g.o.MailLog.Write(ev)
	if f.Err != nil {
		g.o.Log.Warn("not delivered", "id", tx.ID, "to", f.Recipient.String(), "error", f.Err)
	}
	for j := range out.Results {
		if r := &out.Results[j]; r.Err != nil && i == 0 {
			g.o.Log.Warn("filter broke", "id", tx.ID, "filter", r.Filter, "error", r.Err)
		}
	}
	if f.Status == "held" {
		return // its record is durable already
	}
	if err := g.audit(verdict(tx, dec, f, &ev)); err != nil {
		g.o.Log.Error("write audit record", "id", tx.ID, "error", err)
	}
}

// verdict is the audit record of what became of one recipient, made of the texts
// of its line in the mail log.
func verdict(tx *mail.Transaction, dec *policy.Decision, f *Fate, ev *audit.MailEvent) audit.Record {
	return audit.Record{
		At: ev.At, Event: audit.Verdict, ID: tx.ID, Item: f.Held, Direction: string(tx.Direction), Disposition: f.Disposition.String(), Queue: dec.Queue,
		Rule: dec.Rule, Policy: begunOf(tx).Policy.Hash, Status: ev.DSN, Relay: f.Relay, Score: dec.Score, Symbols: ev.Symbols, Size: ev.Size,
		From: ev.From, To: ev.To, Client: ev.Client, Helo: tx.Helo, Why: dec.Why, Reply: ev.Reply,
	}
}

// audit adds a record that becomes durable within a second.
func (g *Gateway) audit(r audit.Record) error {
	err := g.o.Audit.AppendLater(r)
	if err != nil {
		g.unaudited.Store(true)
	}
	return err
}

// canAudit reports whether the audit log takes records, after it has refused
// one whether it does again.
func (g *Gateway) canAudit(ctx context.Context) bool {
	if g.unaudited.Load() && g.o.Audit.Sync(ctx) == nil {
		g.unaudited.Store(false)
	}
	return !g.unaudited.Load()
}

// lineOf maps a recipient's status to what its line of the mail log is about.
var lineOf = map[string]string{
	"sent": audit.MsgDelivered, "queued": audit.MsgAccepted, "held": audit.MsgHeld, "rejected": audit.MsgRejected,
	"deferred": audit.MsgDeferred, "discarded": audit.MsgDiscarded, "bounced": audit.MsgBounced,
}

// event is one line of the mail log.
func (g *Gateway) event(tx *mail.Transaction, out *Outcome, dec *policy.Decision, f *Fate) audit.MailEvent {
	now := g.o.Now()
	ev := audit.MailEvent{
		At: now, Msg: lineOf[f.Status], ID: tx.ID, Held: f.Held, Queued: f.Queued, Direction: string(tx.Direction), Client: tx.Client.Addr().String(),
		Helo: tx.Helo, From: tx.ReversePath.String(), To: f.Recipient.String(), Rcpts: len(tx.Recipients), Relay: f.Relay, TLS: f.TLS,
		Delay: now.Sub(tx.At), DSN: f.Reply.Status(), Status: f.Status, Reply: f.Reply.String(), Scored: true, Score: dec.Score, Rule: dec.Rule,
		Action: f.Disposition.String(), Queue: dec.Queue, Symbols: symbolNames(out, f.Recipient), Policy: begunOf(tx).Policy.ShortHash(), Took: out.Took,
		ClientTLS: clientTLS(tx), ClientCert: tx.TLS.ClientCert,
	}
	ev.SPF, ev.DKIM, ev.DMARC = result(out, "spf"), result(out, "dkim"), result(out, "dmarc")
	if dec.Would != nil {
		ev.Would = dec.Would.String() + " " + dec.WouldRule
	}
	if tx.Message != nil {
		ev.Size = tx.Message.Size()
		if begunOf(tx).Policy.Log.Subjects {
			ev.Subject = tx.Message.Subject()
		}
	}
	return ev
}

// clientTLS is how the client's session is protected, in the form in which
// onward connections are told.
func clientTLS(tx *mail.Transaction) string {
	if tx.TLS.Version == "" {
		return ""
	}
	return tx.TLS.Version + "/" + tx.TLS.Cipher
}

// result is what a method of authentication came to: of several results, as of
// several signatures, the first that passes, else the first.
func result(out *Outcome, method string) string {
	first := ""
	for i := range out.Results {
		for _, a := range out.Results[i].Verdict.Auth {
			switch {
			case a.Method != method:
			case a.Value == "pass":
				return "pass"
			case first == "":
				first = a.Value
			}
		}
	}
	return first
}

// symbolNames are those that speak of this recipient, in chain order, once each.
func symbolNames(out *Outcome, to mail.Path) []string {
	var names []string
	for i := range out.Results {
	next:
		for _, s := range out.Results[i].Verdict.Symbols {
			if s.To != (mail.Path{}) && s.To != to {
				continue
			}
			for _, n := range names {
				if n == s.Name {
					continue next
				}
			}
			names = append(names, s.Name)
		}
	}
	return names
}

// auditNow writes a record of what a person did; it is durable when it returns.
func (g *Gateway) auditNow(ctx context.Context, r audit.Record) error {
	if r.At.IsZero() {
		r.At = g.o.Now()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return g.o.Audit.Append(ctx, r)
}
