// Package contact tells mail of lists, and mail of authors who have not written
// to a recipient before.
//
// A list is what says of itself that it is one, in a field of RFC 2369 or RFC 2919
// or by "Precedence: list". Anyone can write that.
//
// A first contact is one of author and recipient. Who has written to whom is
// noted when mail has been taken over for the recipient, and forgotten after
// `remember`; of the addresses only salted hashes are kept. Mail of our own clients
// is neither.
//
// # Diagnostics
//
// The evidence names the field, or the author. A memory that cannot be read makes
// the filter broken. Where there is none, as in the tests of a policy, nobody has
// written before.
package contact

import (
	"context"
	"strings"
	"time"

	"postern/filters"
	"postern/mail"
)

// maxEvidence bounds what is shown of a field.
const maxEvidence = 120

// remember is how long contacts are remembered: long enough for who writes
// once in a quarter.
const remember = filters.Duration(100 * 24 * time.Hour)

// Filter declares the contact filter.
var Filter = &filters.Filter{
	Name:  "contact",
	Doc:   "tells mail of lists, and mail of authors who write to a recipient for the first time",
	Stage: filters.Data,
	Light: true,
	Symbols: []filters.SymbolDoc{
		{Name: "MAILING_LIST", Doc: "The message says that it comes from a mailing list.",
			DocFR: "Le message dit provenir d’une liste de diffusion."},
		{Name: "FIRST_CONTACT", Doc: "The author has not written to this recipient before.",
			DocFR: "L’auteur n’a encore jamais écrit à ce destinataire."},
	},
	Keys: []filters.MatchKey{
		{
			Name: "mailing_list", Doc: "the message says that it comes from a mailing list", Kind: filters.KeyBool,
			Say: [2]string{"from a mailing list: %s", "d’une liste de diffusion : %s"}, Symbols: []string{"MAILING_LIST"},
		},
		{
			Name: "first_contact", Doc: "the author writes to the recipient for the first time", Kind: filters.KeyBool,
			Say: [2]string{"from an author who writes for the first time: %s", "d’un auteur qui écrit pour la première fois : %s"}, Symbols: []string{"FIRST_CONTACT"},
		},
	},
	New: func() filters.Checker { return &Checker{Remember: remember} },
}

// Checker holds the settings.
type Checker struct {
	Remember filters.Duration `toml:"remember" doc:"how long it is known that an author has written to a recipient; \"0s\" notes nothing: then every contact is the first"`

	contacts filters.Contacts
}

// Open takes the memory.
func (c *Checker) Open(_ context.Context, env *filters.Env) error {
	c.contacts = env.Contacts
	return nil
}

// Check looks at the header, and for the author in the memory of each recipient.
func (c *Checker) Check(ctx context.Context, tx *mail.Transaction, _ filters.Results) (v filters.Verdict, err error) {
	if tx.Trusted() {
		return v, nil
	}
	if field := list(tx.Message.Header()); field != "" {
		v.Symbols = append(v.Symbols, filters.Symbol{Name: "MAILING_LIST", Evidence: filters.Clean(field, maxEvidence)})
	}
	author, ok := Author(tx)
	if !ok {
		return v, nil // structure tells of messages without an author
	}
	first, err := c.first(ctx, author, tx)
	if err != nil {
		return filters.Verdict{}, err
	}
	if len(first) == len(tx.Recipients) && len(first) > 0 {
		first = []mail.Path{{}} // all of them
	}
	for _, to := range first {
		v.Symbols = append(v.Symbols, filters.Symbol{Name: "FIRST_CONTACT", To: to, Evidence: filters.Clean(author.String(), maxEvidence)})
	}
	return v, nil
}

// first are the recipients to whom the author has not written before.
func (c *Checker) first(ctx context.Context, author mail.Path, tx *mail.Transaction) ([]mail.Path, error) {
	var first []mail.Path
	for i := range tx.Recipients {
		to, met := tx.Recipients[i].Path, false
		if c.contacts != nil && c.Remember > 0 {
			var err error
			if met, err = c.contacts.Met(ctx, author, to); err != nil {
				return nil, err
			}
		}
		if !met {
			first = append(first, to)
		}
	}
	return first, nil
}

// Author is who counts as the author of a message: the first one of its From.
func Author(tx *mail.Transaction) (mail.Path, bool) {
	authors := tx.Message.Authors()
	if len(authors) == 0 || authors[0].Path.Domain == "" {
		return mail.Path{}, false
	}
	return authors[0].Path, true
}

// list returns the field that says that a message comes from a list: List-Id (RFC
// 2919), those that a list alone has (RFC 2369 section 3), or Precedence. A
// List-Unsubscribe by itself is what every newsletter has.
func list(h *mail.Header) string {
	for f := range h.Each() {
		switch {
		case f.Is("List-Id"), f.Is("List-Post"), f.Is("List-Help"), f.Is("List-Subscribe"), f.Is("List-Owner"), f.Is("List-Archive"),
			f.Is("Precedence") && strings.EqualFold(strings.TrimSpace(f.Value()), "list"):
			return f.Name() + ": " + strings.TrimSpace(f.Value())
		}
	}
	return ""
}
