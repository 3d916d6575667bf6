package gateway

import (
	"fmt"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/policy"
)

// ownPasses is how many Received fields of our own a message may have: in as
// mail from outside, out as a forward, and once more by a filter listener.
const ownPasses = 4

// refuseLoop stops a message that goes round (RFC 5321 section 6.3): too many
// Received fields, or too many of our own.
func (b *begun) refuseLoop(tx *mail.Transaction) ([]policy.Decision, bool) {
	hops := tx.Message.Hops()
	limit := b.hopLimit(tx.Listener)
	why := ""
	if hops > limit {
		why = fmt.Sprintf("%d Received fields: more than %d means a loop", hops, limit)
	} else if hops > ownPasses {
		own := 0
		by := " by " + b.Policy.Site.Hostname + " (Postern)"
		for _, f := range tx.Message.Header().All("Received") {
			if strings.Contains(strings.Join(strings.Fields(f.Value()), " "), by) {
				own++
			}
		}
		if own > ownPasses {
			why = fmt.Sprintf("the message has been here %d times: a loop", own)
		}
	}
	if why == "" {
		return nil, false
	}
	return b.refuseAll(tx, "loop", why, mail.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 4, 6}, Text: "routing loop detected"}), true
}

func (b *begun) hopLimit(listener string) int {
	for i := range b.Policy.Listeners {
		if l := &b.Policy.Listeners[i]; l.Name == listener && l.Limits.Hops > 0 {
			return l.Limits.Hops
		}
	}
	return 50
}

// routed reports whether a local-part is an address or a route itself: RFC 5321
// appendix F.2. The next hop trusts us and may send mail for <x%else@ours> or
// <"x@else"@ours> on to else. A server in front of us that we filter for has
// decided that by itself.
func routed(p mail.Path) bool { return strings.ContainsAny(p.Local, "@%!") }

// refuseAll is a decision for every recipient that no rule can change.
func (b *begun) refuseAll(tx *mail.Transaction, rule, why string, r mail.Reply) []policy.Decision {
	ds := make([]policy.Decision, len(tx.Recipients))
	for i := range tx.Recipients {
		ds[i] = policy.Decision{Recipient: tx.Recipients[i].Path, Disposition: policy.Reject, Reply: r, Rule: rule, Why: why}
	}
	return ds
}

// refuseForeignAuthor holds outbound mail to its promise: every author is of
// this site. Mail of our own servers with a null reverse-path, a notification,
// is held to it as well.
func (b *begun) refuseForeignAuthor(tx *mail.Transaction, ds []policy.Decision) {
	if !tx.Trusted() {
		return
	}
	why := b.foreignAuthor(tx.Message)
	if why == "" {
		return
	}
	for i := range ds {
		ds[i].Disposition, ds[i].Rule, ds[i].Why, ds[i].Queue, ds[i].Actions, ds[i].Journal = policy.Reject, "foreign-author", why, "", nil, nil
		ds[i].Reply = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "this listener sends only for authors of this site"}
	}
}

// foreignAuthor says why somebody else may be the author of a message: empty if
// every From field names authors of this site only.
func (b *begun) foreignAuthor(m *mail.Message) string {
	fields := m.Header().All("From")
	if len(fields) == 0 {
		return "the message has no From field"
	}
	for _, f := range fields {
		authors, err := mail.ParseAddresses(f.Value())
		if len(authors) == 0 {
			return "a From field of the message names no author"
		}
		if err != nil && (b.foreignIn(f.Value()) || b.foreignIn(f.Decoded())) {
			return "a From field of the message is not a list of addresses, and names another site"
		}
		for _, a := range authors {
			if !b.Ours(a.Path.Domain) {
				return fmt.Sprintf("the author %s is not of this site", a.Path)
			}
		}
	}
	return ""
}

// foreignIn reports whether an address of another site may stand in a text that
// is no list of addresses: mail programs find what they can.
func (b *begun) foreignIn(text string) bool {
	for i, rest := range strings.Split(text, "@") {
		end := strings.IndexFunc(rest, func(r rune) bool { return r < 0x80 && r != '_' && !plainAtom(string(r)) })
		if end < 0 {
			end = len(rest)
		}
		if i > 0 && !b.Ours(mail.NormalDomain(rest[:end])) {
			return true
		}
	}
	return false
}

// upstreamName is the name of the next hop's [[upstream]]; RCPT has made sure
// that there is one.
func (b *begun) upstreamName(tx *mail.Transaction, p mail.Path) string {
	if u, ok := b.Policy.UpstreamFor(tx.Listener, p); ok {
		return u.Name
	}
	return ""
}

// deferAll makes every decision a Defer because the message could not be read.
func (out *Outcome) deferAll(tx *mail.Transaction, err error) {
	for i := range out.Decisions {
		d := &out.Decisions[i]
		d.Disposition, d.Rule, d.Why, d.Reply = policy.Defer, "unreadable", "the received message could not be read back: "+err.Error(), mail.ReplyTryAgain
	}
	out.Copies = nil
	for _, c := range policy.Bifurcate(out.Decisions, func(mail.Path) string { return "" }) {
		out.Copies = append(out.Copies, Copy{Copy: c, Message: tx.Message, Err: err})
	}
}
