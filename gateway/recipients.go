package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/policy"
	"postern/relay"
)

// A recipientFile lists the recipients of an upstream: an address or "@domain"
// a line, "#" begins a comment.
type recipientFile struct {
	paths   map[string]bool
	domains map[string]bool
}

func readRecipients(name string) (*recipientFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rf := &recipientFile{map[string]bool{}, map[string]bool{}}
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if d, ok := strings.CutPrefix(line, "@"); ok {
			rf.domains[mail.NormalDomain(d)] = true
			continue
		}
		p, err := mail.ParsePath(line, true)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %q is neither an address nor @domain", name, n, line)
		}
		rf.paths[foldLocal(p)] = true
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return rf, nil
}

// foldLocal is the key of a path in a recipient list: case matters to nobody's
// list of recipients.
func foldLocal(p mail.Path) string { return strings.ToLower(p.String()) }

func (rf *recipientFile) has(p mail.Path) bool {
	return rf.domains[p.Domain] || rf.paths[foldLocal(p)]
}

var (
	replyNoSuchUser = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "no such recipient here"}
	replyCannotTell = mail.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 4, 0}, Text: "cannot verify this recipient now; try again later"}
)

// verify says whether the recipient exists, as far as the upstream's settings
// let it be known. The zero Reply means: go on.
func (g *Gateway) verify(ctx context.Context, b *begun, u *policy.Upstream, to mail.Path) mail.Reply {
	switch u.Recipients.Check {
	case "file":
		// RFC 5321 section 4.5.1: mail for postmaster is taken, whatever the list says.
		if !b.files[u.Name].has(to) && !(strings.EqualFold(to.Local, "postmaster") && b.Ours(to.Domain)) {
			return replyNoSuchUser
		}
	case "rcpt":
		return g.callout(ctx, b, u, to)
	}
	return mail.Reply{}
}

// callout asks the next hop. What it cannot tell is a temporary failure, but for
// a next hop that accepts every address: then asking is of no use, and the
// message goes to it.
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
