package relay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"postern/mail"
)

// Existence says whether a next hop knows a recipient.
type Existence uint8

// What a callout may yield.
const (
	Unclear Existence = iota // it did not say, or says yes to every address
	Exists                   // it accepts mail for the recipient
	Absent                   // it says that there is no such recipient
)

func (e Existence) String() string {
	return [...]string{"unclear", "exists", "absent"}[min(e, Absent)]
}

// VerifyCache says how long answers of Callout are kept.
type VerifyCache struct {
	Positive time.Duration // 0: 1 hour
	Negative time.Duration // 0: 5 minutes
}

// Errors of a callout that yields Unclear.
var (
	// ErrAcceptsAll says that the next hop says yes to an address that cannot
	// exist: asking it is of no use.
	ErrAcceptsAll = errors.New("next hop accepts every address")
	// errFromRefused says that a refusal was of MAIL, not of the recipient.
	errFromRefused = errors.New("next hop refused the reverse-path")
)

// Bounds of the callout cache.
const (
	calloutSize = 50_000
	// A recipient that existed not long ago is taken to exist while the next
	// hop is down.
	calloutStale = 7 * 24 * time.Hour
)

// A calloutCache keeps what callouts yielded.
type calloutCache struct {
	entries *lru.Cache[calloutKey, calloutEntry]
}

// A calloutKey is a recipient of a next hop, which is told by where it is and not
// by its name: a reload may give the name to another. One without local-part
// stands for an address that cannot exist: Exists there means that the next hop
// accepts every address of the domain.
type calloutKey struct {
	at   string // the addresses of the next hop
	lmtp bool
	user string // as whom it is asked
	to   mail.Path
}

func keyOfCallout(hop *Hop, to mail.Path) calloutKey {
	return calloutKey{strings.Join(hop.To, " "), hop.LMTP, hop.User, to}
}

type calloutEntry struct {
	existence Existence
	reply     mail.Reply
	at        time.Time
}

func newCalloutCache() *calloutCache {
	entries, err := lru.New[calloutKey, calloutEntry](calloutSize)
	if err != nil {
		entries = nil // only a size below one is an error
	}
	return &calloutCache{entries}
}

// get returns what is known and still holds.
func (c *calloutCache) get(k calloutKey, v VerifyCache, now time.Time) (calloutEntry, bool) {
	e, ok := c.entries.Get(k)
	if !ok {
		return e, false
	}
	keep := v.Positive
	setDefault(&keep, time.Hour)
	if e.existence == Absent && k.to.Local != "" {
		keep = v.Negative
		setDefault(&keep, 5*time.Minute)
	}
	return e, now.Sub(e.at) < keep
}

// Callout asks hop whether it accepts mail for a recipient: MAIL FROM:<>, RCPT
// and RSET, no message. Answers are kept as hop.Verify says. It also asks for an
// address that cannot exist; a next hop that accepts that one yields Unclear and
// ErrAcceptsAll. Unclear comes with the reason as its error. The reply is the
// next hop's, or zero.
func (c *Client) Callout(ctx context.Context, hop *Hop, to mail.Path) (Existence, mail.Reply, error) {
	now := c.o.Now()
	key, anyone := keyOfCallout(hop, to), keyOfCallout(hop, mail.Path{Domain: to.Domain})
	known, fresh := c.callout.get(key, hop.Verify, now)
	if fresh {
		return known.existence, known.reply, nil
	}
	all, probed := c.callout.get(anyone, hop.Verify, now)
	if probed && all.existence == Exists {
		return Unclear, mail.Reply{}, ErrAcceptsAll
	}
	c.stats.callouts.Add(1)
	recipients := []mail.Recipient{{Path: to}}
	if !probed && to.Domain != "" {
		recipients = append(recipients, mail.Recipient{Path: c.impossible(to.Domain)})
	}
	out := c.probe(ctx, hop, recipients)
	existence, err := judge(&out[0])
	if len(out) > 1 {
		other, _ := judge(&out[1])
		if other != Unclear {
			c.callout.entries.Add(anyone, calloutEntry{other, out[1].Reply, now})
		}
		if other == Exists && existence == Exists {
			return Unclear, mail.Reply{}, ErrAcceptsAll
		}
	}
	switch {
	case existence != Unclear:
		c.callout.entries.Add(key, calloutEntry{existence, out[0].Reply, now})
	case out[0].Down && known.existence == Exists && now.Sub(known.at) < calloutStale:
		return Exists, known.reply, nil
	}
	return existence, out[0].Reply, err
}

// impossible returns an address that nobody has.
func (c *Client) impossible(domain string) mail.Path {
	return mail.Path{Local: "postern-probe-" + strconv.FormatUint(c.o.Rand(), 36), Domain: domain}
}

// probe asks for each recipient, without a message.
func (c *Client) probe(ctx context.Context, hop *Hop, to []mail.Recipient) []Outcome {
	return c.newDelivery(hop, &Mail{To: to}, true).run(ctx)
}

// judge reads a reply to RCPT.
func judge(o *Outcome) (Existence, error) {
	switch {
	case o.Delivered:
		return Exists, nil
	case o.Reply.Permanent() && !errors.Is(o.Err, errFromRefused) && noSuchUser(o.Reply):
		return Absent, nil
	case o.Err == nil:
		return Unclear, fmt.Errorf("next hop says %s", o.Reply)
	}
	return Unclear, o.Err
}

// noSuchUser reports whether a 5xx is about the mailbox. A next hop that refuses
// us for reasons of its own says nothing about the recipient.
func noSuchUser(r mail.Reply) bool {
	e := r.Enhanced
	if e[0] == 0 {
		return r.Code == 550 || r.Code == 551 || r.Code == 553
	}
	switch [2]int{e[1], e[2]} {
	case [2]int{1, 7}, [2]int{1, 8}: // RFC 3463 section 3.2: the reverse-path
		return false
	case [2]int{2, 1}, // mailbox disabled
		[2]int{4, 1}: // what Exchange Online says where it knows the directory
		return true
	}
	return e[1] == 1
}
