package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/filters"
	"postern/mail"
	"postern/policy"
	"postern/relay"
	"postern/spool"
)

// commit makes every copy that is still to be sent durable, all or none, and
// wakes the queue. Journal copies and bounces are part of it.
func (d *delivery) commit(ctx context.Context) error {
	journal, err := d.journal()
	if err != nil {
		return err
	}
	return d.spoolCopies(ctx, d.copies(policy.Relay), journal)
}

func (d *delivery) spoolCopies(ctx context.Context, copies []*Copy, extra []spool.Draft) error {
	drafts := extra
	owners := make([][]mail.Path, len(extra)) // whose fate each draft is; nil for journal copies
	for _, c := range copies {
		if len(c.Recipients) == 0 {
			continue
		}
		hop, ok := d.b.Hop(c.Upstream)
		if !ok {
			return fmt.Errorf("no route to <%s>", c.Recipients[0])
		}
		for _, to := range destinations(hop, c.Recipients) {
			drafts = append(drafts, d.draft(c, to))
			owners = append(owners, to)
		}
	}
	if d.wantsBounce() {
		b, err := d.bounceDraft(ctx)
		if err != nil {
			return err
		}
		drafts, owners = append(drafts, b...), append(owners, make([][]mail.Path, len(b))...)
	}
	if len(drafts) == 0 {
		return nil
	}
	ids, err := d.g.o.Spool.Commit(ctx, drafts)
	if err != nil {
		return err
	}
	d.spool = append(d.spool, ids...)
	for i, id := range ids {
		d.each(owners[i], func(f *Fate) {
			f.Disposition, f.Status, f.Reply, f.Queued = policy.Relay, "queued", d.accepted(), id
		})
	}
	d.g.queue.Add(ids...)
	return nil
}

// destinations splits recipients by what they must be sent to: by domain when
// the next hop is looked up by MX, else all together.
func destinations(hop *relay.Hop, to []mail.Path) [][]mail.Path {
	if !slices.Contains(hop.To, "mx") {
		return [][]mail.Path{to}
	}
	var groups [][]mail.Path
	at := map[string]int{}
	for _, p := range to {
		i, ok := at[p.Domain]
		if !ok {
			i = len(groups)
			at[p.Domain] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], p)
	}
	return groups
}

// draft is one copy on its way into the spool.
func (d *delivery) draft(c *Copy, to []mail.Path) spool.Draft {
	e := d.entry(c.Upstream, c.Rule)
	for _, r := range d.recipients(to) {
		e.To = append(e.To, spool.Recipient{Recipient: r})
	}
	return spool.Draft{Entry: e, Content: c.Message}
}

func (d *delivery) entry(upstream, rule string) spool.Entry {
	tx := d.tx
	return spool.Entry{
		Transaction: tx.ID, From: tx.ReversePath, Options: tx.Options, Upstream: upstream,
		EightBit: needsEightBit(tx), UTF8: tx.Options.UTF8, Demands: d.demands(upstream),
		Direction: tx.Direction, Session: *tx.Session, Rule: rule, Policy: d.b.Policy.Hash,
	}
}

// needsEightBit: what the client has declared (RFC 6152) binds the next hop.
func needsEightBit(tx *mail.Transaction) bool {
	return tx.Options.Body == smtp.Body8BitMIME || tx.Options.Body == smtp.BodyBinaryMIME
}

// demands are what a copy asks of every onward connection: what the client
// demands, what an earlier passage did, and the TLS that its next hop must have
// now, whatever a later policy says.
func (d *delivery) demands(upstream string) mail.Demands {
	own := mail.Demands{RequireTLS: d.tx.Options.RequireTLS}
	if hop, ok := d.b.Hop(upstream); ok && (hop.TLS == relay.TLSRequired || hop.TLS == relay.TLSVerify) {
		own.TLS = hop.TLS
	}
	return own.Tighten(d.b.demands)
}

// journal are the copies for archives of what is relayed: one per address, the
// message as it was received.
func (d *delivery) journal() ([]spool.Draft, error) {
	archives := d.archives()
	if len(archives) == 0 {
		return nil, nil
	}
	report, err := d.journalReport()
	if err != nil {
		return nil, fmt.Errorf("write journal report: %w", err)
	}
	var drafts []spool.Draft
	for _, to := range archives {
		e := d.entry(d.b.upstreamName(d.tx, to), "journal")
		if e.Upstream == "" { // the archive must not miss the mail
			return nil, fmt.Errorf("no route to the archive <%s>", to)
		}
		o := d.tx.Options
		e.From, e.Options = mail.Path{}, smtp.MailOptions{Body: o.Body, UTF8: o.UTF8, RequireTLS: o.RequireTLS}
		e.To = []spool.Recipient{{Recipient: mail.Recipient{Path: to, Options: smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifyNever}}}}}
		drafts = append(drafts, spool.Draft{Entry: e, Content: report})
	}
	return drafts, nil
}

// archives are the addresses that get a journal copy.
func (d *delivery) archives() []mail.Path {
	var to []mail.Path
	for _, c := range d.copies(policy.Relay) {
		to = append(to, c.Journal...)
	}
	return unique(to)
}

// journalReport is the envelope, which the header does not tell, above the
// message as it was received: every recipient, blind copies among them.
func (d *delivery) journalReport() (*mail.Message, error) {
	var to []string
	for i := range d.tx.Recipients {
		to = append(to, "<"+d.tx.Recipients[i].Path.String()+">")
	}
	m, err := d.b.clean(d.tx) // so that the envelope that it tells is ours
	if err != nil {
		return nil, err
	}
	e := m.Edit()
	e.Prepend(
		mail.FoldField("X-Postern-Journal", d.tx.ID+"; "+d.tx.At.UTC().Format(time.RFC3339)),
		mail.FoldField("X-Postern-Envelope-From", "<"+d.tx.ReversePath.String()+">"),
		mail.FoldField("X-Postern-Envelope-To", strings.Join(to, ", ")),
	)
	return e.Message()
}

// keepsOriginal reports whether one of the actions removes content, so that the
// message as received is kept in the quarantine.
func (b *begun) keepsOriginal(actions []policy.Action) bool {
	for _, a := range actions {
		if doc, ok := actionDoc(b.Policy.Chain(), a); ok && doc.KeepsOriginal {
			return true
		}
	}
	return false
}

func actionDoc(chain *filters.Chain, a policy.Action) (filters.ActionDoc, bool) {
	for _, f := range chain.Filters() {
		if f.Name != a.Filter {
			continue
		}
		for _, doc := range f.Actions {
			if doc.Name == a.Name {
				return doc, true
			}
		}
	}
	return filters.ActionDoc{}, false
}

// relayMail is the copy as relay wants it.
func (d *delivery) relayMail(c *Copy) *relay.Mail {
	m := &relay.Mail{
		ID: d.tx.ID, From: d.tx.ReversePath, Options: d.tx.Options, To: d.recipients(c.Recipients), Size: c.Message.Size(),
		EightBit: needsEightBit(d.tx), UTF8: d.tx.Options.UTF8, Demands: d.demands(c.Upstream), Client: d.tx.Session,
	}
	if pieces, ok := c.Message.Slices(); ok {
		m.Bytes = pieces
	} else {
		m.Content, m.Pieces = c.Message.Reader, c.Message.Pieces
	}
	m.Dotless = d.dotless(c)
	return m
}

// dotless reports whether no line of the copy begins with a dot: the message had
// none, nothing but whole header fields was put on top or taken out, and none
// begins where what is on top ends. There, white space before the first field
// goes: what stood behind it begins a line now.
func (d *delivery) dotless(c *Copy) bool {
	if !d.b.dotless || len(c.Actions) > 0 {
		return false
	}
	top := 0
	for _, f := range c.Fields {
		if !strings.HasSuffix(f, "\r\n") {
			return false // it has got one: where it ends is not known here
		}
		top += len(f)
	}
	var next [1]byte
	n, _ := c.Message.ReaderAt().ReadAt(next[:], int64(top)) // what cannot be read is no promise
	return n == 1 && next[0] != '.'
}
