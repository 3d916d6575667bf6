package gateway

import (
	"context"
	"fmt"
	"mime/quotedprintable"
	"strings"
	"time"

	"postern/mail"
	"postern/policy"
)

// A notice is what somebody is told at most once in a transaction.
type notice struct {
	to   mail.Path
	rule string
}

// notify sends what rules ask for with notify: one notice per person and rule.
// A notice that cannot be sent is an error in the log; the mail itself has had
// its fate already. Of mail that the client will bring again, nobody is told
// unless a rule has put it off.
func (g *Gateway) notify(tx *mail.Transaction, out *Outcome, fates []Fate) {
	for _, n := range begunOf(tx).notices(tx, out, fates) {
		if err := g.sendNotice(tx, out, fates, n); err != nil {
			g.o.Log.Error("send notice", "id", tx.ID, "rule", n.rule, "error", err)
		}
	}
}

// notices are those that are due and were not before.
func (b *begun) notices(tx *mail.Transaction, out *Outcome, fates []Fate) []notice {
	var due []notice
	for i := range out.Decisions {
		if fates[i].Disposition == policy.Defer && out.Decisions[i].Disposition != policy.Defer {
			continue
		}
		for _, n := range out.Decisions[i].Notify {
			if to, ok := noticeTo(tx, b.Policy, n.To); ok && b.tells(notice{to, n.Rule}) {
				due = append(due, notice{to, n.Rule})
			}
		}
	}
	return due
}

// tells reports whether the notice was not sent before, and notes it.
func (b *begun) tells(n notice) bool {
	if b.told[n] {
		return false
	}
	if b.told == nil {
		b.told = map[notice]bool{}
	}
	b.told[n] = true
	return true
}

// noticeTo is the address of whom a rule wants to be told. Strangers are never
// told: the reverse-path of inbound mail may be forged.
func noticeTo(tx *mail.Transaction, p *policy.Policy, who string) (mail.Path, bool) {
	switch who {
	case "sender":
		return tx.ReversePath, tx.Trusted() && !tx.ReversePath.IsNull()
	case "admin", "officer":
		who = p.Site.Admin
	}
	path, err := mail.ParsePath(who, true)
	return path, err == nil
}

func (g *Gateway) sendNotice(tx *mail.Transaction, out *Outcome, fates []Fate, n notice) error {
	p := begunOf(tx).Policy
	french := p.Site.Language == "fr"
	var b strings.Builder
	b.WriteString(mail.FoldField("From", "Postern <"+p.Site.Admin+">"))
	b.WriteString(mail.FoldField("To", "<"+n.to.String()+">"))
	subject := "Rule " + n.rule + " acted on a message"
	if french {
		subject = "La règle " + n.rule + " a agi sur un message"
	}
	b.WriteString(mail.FoldField("Subject", subject))
	b.WriteString("Date: " + g.o.Now().Format(time.RFC1123Z) + "\r\n")
	fmt.Fprintf(&b, "Message-ID: <%s@%s>\r\n", g.o.NewID(), p.Site.Hostname)
	b.WriteString("Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	q := quotedprintable.NewWriter(&b)
	label := map[bool][]string{
		false: {"Message", "From", "Subject", "To", "Rule"},
		true:  {"Message", "De", "Objet", "À", "Règle"},
	}[french]
	fmt.Fprintf(q, "%s: %s\r\n%s: <%s>\r\n", label[0], tx.ID, label[1], tx.ReversePath)
	if tx.Message != nil { // else it was refused at RCPT
		fmt.Fprintf(q, "%s: %s\r\n", label[2], oneLine(tx.Message.Subject()))
	}
	if said := sentence(p, n.rule); said != "" { // why this notice is sent, whatever decided the fates
		fmt.Fprintf(q, "%s: %s: %s\r\n", label[4], n.rule, oneLine(said))
	}
	for i := range fates {
		status, why := fates[i].Status, oneLine(out.Decisions[i].Why)
		if french {
			status, why = inFrench(status), inFrench(why)
		}
		fmt.Fprintf(q, "%s: <%s>: %s (%s)\r\n", label[3], fates[i].Recipient, status, why)
	}
	q.Close() // a Builder takes everything
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := g.Submit(ctx, mail.Path{}, []mail.Recipient{{Path: n.to}}, []byte(b.String()))
	return err
}

// oneLine keeps text from a message on one line of ours.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
