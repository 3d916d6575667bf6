package gateway

import (
	"fmt"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/policy"
)

var (
	replyForeignPath = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "this listener sends only for the domains of this site"}
	replyNoUpstream  = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "no route to this domain"}
	replyRouted      = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "relaying denied: the address names another route"}
)

// A law is what no rule can change, in the words of a decision: its name stands
// where that of the rule does. The zero law refuses nothing.
type law struct {
	name, why string
	reply     mail.Reply
}

// refuse is the decision for a recipient.
func (l law) refuse(to mail.Path) policy.Decision {
	return policy.Decision{Recipient: to, Disposition: policy.Reject, Rule: l.name, Why: l.why, Reply: l.reply}
}

// refuseSender is the law at MAIL: our own side sends for our own domains. RFC
// 5321 section 4.5.5: a null reverse-path is a notification; the author is
// checked with the message.
func (st *State) refuseSender(tx *mail.Transaction) (law, bool) {
	if !tx.Trusted() || tx.ReversePath.IsNull() || st.Ours(tx.ReversePath.Domain) {
		return law{}, false
	}
	return law{"foreign-sender", fmt.Sprintf("the reverse-path <%s> is not of this site", tx.ReversePath), replyForeignPath}, true
}

// refuseRecipient are the laws at RCPT, as far as they hold without asking a
// next hop, and which next hop the recipient has.
func (st *State) refuseRecipient(tx *mail.Transaction, to mail.Path) (*policy.Upstream, law) {
	if !tx.Trusted() && !st.Ours(to.Domain) {
		return nil, law{"no-relaying", "mail from outside goes only to the domains of this site", mail.ReplyNoRelaying}
	}
	if !tx.Trusted() && tx.Role != mail.RoleFilter && routed(to) {
		return nil, law{"routed-address", "the local-part of the recipient names another route", replyRouted}
	}
	u, ok := st.Policy.UpstreamFor(tx.Listener, to)
	switch {
	case !ok:
		return nil, law{"no-route", "no upstream is for this domain", replyNoUpstream}
	case u.Recipients.Check == "file" && !u.Recipients.Lists(to) && !(strings.EqualFold(to.Local, "postmaster") && st.Ours(to.Domain)):
		// RFC 5321 section 4.5.1: mail for postmaster is taken, whatever the list says.
		return nil, law{"unknown-recipient", fmt.Sprintf("the list of recipients of upstream %q does not have it", u.Name), replyNoSuchUser}
	}
	return u, law{}
}
