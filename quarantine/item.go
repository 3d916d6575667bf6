package quarantine

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/filters"
	"postern/mail"
	"postern/store"
)

// form is the version of the two JSON texts in a row.
const form = 1

// open is what stands in a row in clear: nothing personal.
type open struct {
	Form     int          `json:"form"`
	Received time.Time    `json:"received"`
	Original bool         `json:"original,omitempty"`
	Policy   string       `json:"policy,omitempty"`
	Upstream string       `json:"upstream,omitempty"`
	Demands  mail.Demands `json:"demands"`
	EightBit bool         `json:"8bitmime,omitempty"`
	UTF8     bool         `json:"smtputf8,omitempty"`
	Symbols  []string     `json:"symbols,omitempty"` // names
}

// details is what stands in a row encrypted.
type details struct {
	Session     mail.Session       `json:"session"`
	Options     smtp.MailOptions   `json:"options"`
	Rcpt        []smtp.RcptOptions `json:"rcpt"` // in the order of the row's recipients
	AuthorName  string             `json:"author_name,omitempty"`
	MessageID   string             `json:"message_id,omitempty"`
	SHA256      [32]byte           `json:"sha256"`
	Attachments []Attachment       `json:"attachments,omitempty"`
	Why         string             `json:"why"`
	Symbols     []filters.Symbol   `json:"symbols,omitempty"`
	Auth        []mail.AuthResult  `json:"auth,omitempty"`
	Findings    []mail.Finding     `json:"findings,omitempty"`
}

// row returns the index row of an item.
func (q *Quarantine) row(it *Item, key bodyKey) (*store.Held, error) {
	h := &store.Held{ID: it.ID, Transaction: it.Transaction, Queue: it.Queue, Direction: string(it.Direction), Rule: it.Rule, State: it.State,
		At: it.At, Size: it.Size, Score: it.Score, Author: it.Author.String(), ReversePath: it.ReversePath.String(), Subject: it.Subject}
	d := details{Session: it.Session, Options: it.Options, AuthorName: it.AuthorName, MessageID: it.MessageID, SHA256: it.SHA256,
		Attachments: it.Attachments, Why: it.Why, Symbols: it.Symbols, Auth: it.Auth, Findings: it.Findings}
	o := open{Form: form, Received: it.Received, Original: it.Original, Policy: it.Policy, Upstream: it.Upstream, Demands: it.Demands,
		EightBit: it.EightBit, UTF8: it.UTF8}
	for _, r := range it.To {
		h.Recipients = append(h.Recipients, store.HeldRecipient{Address: r.Path.String(), State: r.State, At: r.At})
		d.Rcpt = append(d.Rcpt, r.Options)
	}
	for _, s := range it.Symbols {
		o.Symbols = append(o.Symbols, s.Name)
	}
	var err error
	if h.Open, err = json.Marshal(o); err != nil {
		return nil, err
	}
	if h.Key, err = q.key.wrap(key, it.ID, q.o.Rand); err != nil {
		return nil, err
	}
	h.Sealed, err = seal(&d, key, it.ID, q.o.Rand)
	return h, err
}

func seal(d *details, key bodyKey, id string, random io.Reader) ([]byte, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return key.sealDetails(text, id, random)
}

// details decrypts the details of a row; ErrErased if they are gone.
func (q *Quarantine) details(h *store.Held) (*details, bodyKey, error) {
	key, err := q.key.unwrap(h.Key, h.ID)
	if err != nil {
		return nil, nil, err
	}
	text, err := key.openDetails(h.Sealed, h.ID)
	if err != nil {
		return nil, nil, err
	}
	d := &details{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, nil, fmt.Errorf("%w: its details: %w", ErrDamaged, err)
	}
	return d, key, nil
}

// item returns the item of a row. Of one whose key is gone, the symbols have
// only names.
func (q *Quarantine) item(h *store.Held) (*Item, error) {
	var o open
	if err := json.Unmarshal(h.Open, &o); err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", h.ID, ErrDamaged, err)
	}
	if o.Form > form {
		return nil, fmt.Errorf("read %s: %w", h.ID, store.ErrNewer)
	}
	it := &Item{ID: h.ID, Transaction: h.Transaction, At: h.At, Received: o.Received, Queue: h.Queue, State: h.State, Original: o.Original,
		Direction: mail.Direction(h.Direction), ReversePath: path(h.ReversePath), Author: path(h.Author), Subject: h.Subject, Size: h.Size,
		Upstream: o.Upstream, Demands: o.Demands, EightBit: o.EightBit, UTF8: o.UTF8, Rule: h.Rule, Policy: o.Policy, Score: h.Score,
		Body: len(h.Key) > 0 && h.Stored > 0}
	d := &details{}
	if len(h.Key) > 0 {
		var err error
		if d, _, err = q.details(h); err != nil {
			return nil, fmt.Errorf("read %s: %w", h.ID, err)
		}
	} else {
		for _, name := range o.Symbols {
			d.Symbols = append(d.Symbols, filters.Symbol{Name: name})
		}
	}
	it.Session, it.Options, it.AuthorName, it.MessageID, it.SHA256 = d.Session, d.Options, d.AuthorName, d.MessageID, d.SHA256
	it.Attachments, it.Why, it.Symbols, it.Auth, it.Findings = d.Attachments, d.Why, d.Symbols, d.Auth, d.Findings
	for i, r := range h.Recipients {
		to := Recipient{Recipient: mail.Recipient{Path: path(r.Address)}, State: r.State, At: r.At}
		if i < len(d.Rcpt) {
			to.Options = d.Rcpt[i]
		}
		it.To = append(it.To, to)
	}
	return it, nil
}

// path reads back what Path.String wrote. It is no parser: a stored path must
// come back as it was.
func path(s string) mail.Path {
	i := strings.LastIndexByte(s, '@')
	if i < 0 || strings.HasSuffix(s, `"`) {
		return mail.Path{Local: s}
	}
	return mail.Path{Local: s[:i], Domain: s[i+1:]}
}
