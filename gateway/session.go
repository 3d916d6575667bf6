package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/emersion/go-smtp"

	"postern/dns"
	"postern/filters"
	"postern/mail"
	"postern/policy"
	"postern/spool"
)

// begun is what a transaction began with, and what has come to light since.
type begun struct {
	*State                  // in force at MAIL
	early   filters.Results // what the filters of the early stages have seen
	demands mail.Demands    // of an earlier passage: this one can only tighten them
	kept    string          // of a release: id of the held message
	told    map[notice]bool // notices that were sent
	dotless bool            // no line of the message begins with a dot
	asked   *dns.Budget     // for what is looked up
	lingers bool            // a filter ran out of time and may still be reading the message
}

// asking is the context of filters: what they look up counts for one budget.
func (b *begun) asking(ctx context.Context) context.Context {
	if b.asked == nil {
		limits := b.Policy.DNS.Budget
		b.asked = dns.NewBudget(limits.LookUps, time.Duration(limits.Time))
	}
	return b.asked.Context(ctx)
}

func begunOf(tx *mail.Transaction) *begun { return tx.Began.(*begun) }

// Connect has nothing to ask for yet: who may connect is the listener's matter.
func (g *Gateway) Connect(ctx context.Context, s *mail.Session) mail.Reply { return mail.Reply{} }

// Auth checks a password against the accounts of the session's listener.
func (g *Gateway) Auth(ctx context.Context, s *mail.Session, user, password string) error {
	return g.o.Accounts(ctx, s.Listener, user, password)
}

var (
	replySenderOK    = mail.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 1, 0}, Text: "OK"}
	replyRecipientOK = mail.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 1, 5}, Text: "OK"}
)

// Mail begins a transaction.
func (g *Gateway) Mail(ctx context.Context, tx *mail.Transaction) mail.Reply {
	if !g.canAudit(ctx) {
		return mail.ReplyTryAgain
	}
	st := g.acquire()
	if st == nil {
		return mail.ReplyTryAgain
	}
	r := replySenderOK
	if l, no := st.refuseSender(tx); no {
		r = l.reply
	} else if !g.o.Spool.Room(tx.Options.Size) {
		r = mail.ReplyNoSpace
	}
	if !r.OK() {
		st.release()
		return r
	}
	tx.Began = &begun{State: st}
	return r
}

// Rcpt says whether the transaction may have this recipient.
func (g *Gateway) Rcpt(ctx context.Context, tx *mail.Transaction, to mail.Recipient) mail.Reply {
	b := begunOf(tx)
	p := b.routable(to.Path)
	u, l := b.refuseRecipient(tx, p)
	if l.reply.Code != 0 {
		return l.reply
	}
	if u.Recipients.Check == "rcpt" {
		if r := g.callout(ctx, b, u, p); r.Code != 0 {
			return r
		}
	}
	d, no := b.refuseEarly(ctx, tx, p)
	if !no {
		return replyRecipientOK
	}
	g.recordEarly(tx, d)
	return withID(d.Reply, tx.ID)
}

// routable gives <postmaster> the domain of the site. RFC 5321 section 4.5.1:
// without a domain it is ours.
func (st *State) routable(p mail.Path) mail.Path {
	if p.Domain == "" && !p.IsNull() && len(st.Policy.Site.Domains) > 0 {
		p.Domain = st.Policy.Site.Domains[0]
	}
	return p
}

// address makes every recipient routable, so that rules about a domain hold for
// its <postmaster> too.
func (st *State) address(tx *mail.Transaction) {
	tx.Recipients = slices.Clone(tx.Recipients)
	for i := range tx.Recipients {
		tx.Recipients[i].Path = st.routable(tx.Recipients[i].Path)
	}
}

// refuseEarly refuses a recipient whose fate is certain before the message is
// here. Behind smtpd_proxy_filter with speed_adjust no recipient may be refused
// apart from the others.
func (b *begun) refuseEarly(ctx context.Context, tx *mail.Transaction, p mail.Path) (policy.Decision, bool) {
	if tx.Role == mail.RoleFilter {
		return policy.Decision{}, false
	}
	if chain := b.Policy.Chain(); chain.Runs(filters.Mail) {
		seen := *tx // a filter that runs out of time may look at it when tx has gone on
		b.early = chain.CheckStage(b.asking(ctx), filters.Mail, &seen, b.early)
	}
	d, certain := b.Policy.Early(filters.Rcpt, tx, p, b.early)
	return d, certain && (d.Disposition == policy.Reject || d.Disposition == policy.Defer)
}

// withID ends the reply's text with the id under which the log tells the story.
func withID(r mail.Reply, id string) mail.Reply {
	r.Text += " [" + id + "]"
	return r
}

// Data judges and delivers a message that has arrived whole. It returns one
// reply, or for LMTP one per recipient.
func (g *Gateway) Data(ctx context.Context, tx *mail.Transaction, body *spool.Buffer) []mail.Reply {
	b := begunOf(tx)
	defer b.release()
	defer b.discard(body)
	ctx = g.terms.of(ctx)
	b.address(tx)
	tx.Message, b.dotless = parse(body, b.Parse), body.Dotless()
	replies := g.Process(ctx, tx)
	if tx.Protocol == "LMTP" {
		return replies
	}
	return []mail.Reply{one(replies)}
}

// discard ends the use of a body. Its memory goes to other mail, unless a
// filter may still be reading it: then it is left to the garbage collector.
func (b *begun) discard(body *spool.Buffer) {
	if _, inMemory := body.Bytes(); !inMemory || !b.lingers {
		body.Discard()
	}
}

// parse makes a message of what was received, in memory or in a file.
func parse(body *spool.Buffer, o mail.Options) *mail.Message {
	if data, ok := body.Bytes(); ok {
		return mail.ParseBytes(data, o)
	}
	return mail.Parse(body.ReaderAt(), body.Size(), o)
}

// Abort ends a transaction that has no message.
func (g *Gateway) Abort(tx *mail.Transaction) {
	if b, ok := tx.Began.(*begun); ok {
		b.release()
	}
}
