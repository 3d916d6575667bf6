package gateway

import (
	"context"
	"errors"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/policy"
	"postern/relay"
)

var (
	replyNoSuchUser = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "no such recipient here"}
	replyCannotTell = mail.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 4, 0}, Text: "cannot verify this recipient now; try again later"}
)

// callout asks the next hop whether the recipient exists. The zero Reply means:
// go on. What it cannot tell is a temporary failure, but for a next hop that
// accepts every address: then asking is of no use, and the message goes to it.
func (g *Gateway) callout(ctx context.Context, b *begun, u *policy.Upstream, to mail.Path) mail.Reply {
	exists, _, err := g.o.Relay.Callout(ctx, b.hops[u.Name], to)
	switch {
	case exists == relay.Absent:
		return replyNoSuchUser
	case exists == relay.Exists, errors.Is(err, relay.ErrAcceptsAll):
		return mail.Reply{}
	case b.Policy.Queue.WhenDown == "queue":
		return mail.Reply{} // the next hop is down and the policy takes its mail all the same
	}
	g.o.Log.Warn("recipient not verified", "upstream", u.Name, "error", err)
	return replyCannotTell
}
