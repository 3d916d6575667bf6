package gateway

import (
	"postern/mail"
	"postern/policy"
)

// record writes what became of each recipient to the mail log and to the audit
// log, and counts it. Holds and releases are durable before the client hears of
// them; records of relayed mail may follow within a second.
func (g *Gateway) record(tx *mail.Transaction, out *Outcome, fates []Fate) {
	g.o.Meter.Verdict(out.Took)
	for i := range out.Results {
		r := &out.Results[i]
		g.o.Meter.Filter(r.Filter, r.Elapsed, r.Err != nil)
	}
	size := tx.Message.Size()
	for i := range fates {
		g.o.Meter.Message(tx.Direction, fates[i].Status, size)
		size = 0 // counted once
		g.log(tx, out, i, &fates[i])
	}
	g.notify(tx, out, fates)
	if g.o.Observe != nil {
		g.o.Observe(tx, out, fates)
	}
}

// recordEarly is record for a recipient that was refused at RCPT.
func (g *Gateway) recordEarly(tx *mail.Transaction, d policy.Decision) {
	status := "rejected"
	if d.Disposition == policy.Defer {
		status = "deferred"
	}
	g.o.Meter.Message(tx.Direction, status, 0)
	out := &Outcome{Results: begunOf(tx).early, Decisions: []policy.Decision{d}}
	fates := []Fate{{Recipient: d.Recipient, Disposition: d.Disposition, Status: status, Reply: d.Reply}}
	g.log(tx, out, 0, &fates[0])
	g.notify(tx, out, fates)
}
