package quarantine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/audit"
	"postern/store"
)

// An Erasure tells what Forget did.
type Erasure struct {
	Erased []string `json:"erased"` // items that are gone: body, details, addresses, subject
	Shared []string `json:"shared"` // items that others wait for: only this person's address is gone
}

// erasedWord stands where an address was.
const erasedWord = "<erased>"

// Forget erases what is kept of a person. Items that he wrote, that nobody else
// waits for, or that are settled lose their body, their details, their addresses
// and their subject; what remains is that a message of such a size was held by
// such a rule at that time. Of an item that other recipients still wait for only
// his address goes, or all of it if all is set. Bodies of other messages that
// mention him are not searched: they end with their time.
func (q *Quarantine) Forget(ctx context.Context, address string, all bool) (Erasure, error) {
	done := Erasure{Erased: []string{}, Shared: []string{}}
	if address == "" {
		return done, errors.New("forget: no address")
	}
	err := q.each(ctx, store.Query{Address: address}, func(h *store.Held) error {
		if !all && waits(h, address) {
			done.Shared = append(done.Shared, h.ID)
			return q.erasePerson(ctx, h.ID, address)
		}
		done.Erased = append(done.Erased, h.ID)
		return q.erase(ctx, h.ID, blank)
	})
	if err == nil { // those whose evidence alone mentions him
		err = q.each(ctx, store.Query{}, func(h *store.Held) error {
			if d, _, err := q.details(h); err != nil || !d.mentions(address) {
				return nil // what cannot be read mentions nobody
			}
			done.Shared = append(done.Shared, h.ID)
			return q.erasePerson(ctx, h.ID, address)
		})
	}
	if err == nil {
		err = q.o.Records.Scrub(ctx)
	}
	slices.Sort(done.Shared)
	done.Shared = slices.Compact(done.Shared)
	if err != nil {
		return done, fmt.Errorf("forget in quarantine: %w", err)
	}
	return done, nil
}

// each visits all rows that match.
func (q *Quarantine) each(ctx context.Context, query store.Query, visit func(*store.Held) error) error {
	query.Limit = 500
	for {
		page, err := q.o.Records.Search(ctx, query)
		if err != nil {
			return err
		}
		for _, h := range page {
			if err := visit(h); err != nil {
				return err
			}
		}
		if len(page) < query.Limit {
			return nil
		}
		query.Before = page[len(page)-1].ID
	}
}

// waits reports whether somebody other than address, who did not write the
// message, still waits for it.
func waits(h *store.Held, address string) bool {
	if strings.EqualFold(h.Author, address) || strings.EqualFold(h.ReversePath, address) {
		return false
	}
	return slices.ContainsFunc(h.Recipients, func(r store.HeldRecipient) bool {
		return r.State == Held && !strings.EqualFold(r.Address, address)
	})
}

// blank erases the personal columns of a row.
func blank(h *store.Held) {
	h.State, h.Author, h.ReversePath, h.Subject = Erased, "", "", ""
	for i := range h.Recipients {
		h.Recipients[i].Address, h.Recipients[i].State = "", Erased
	}
}

// erasePerson erases one person from an item that stays.
func (q *Quarantine) erasePerson(ctx context.Context, id, address string) error {
	return q.o.Records.Update(ctx, id, func(h *store.Held) error {
		d, key, err := q.details(h)
		if err != nil {
			return err
		}
		for i := range h.Recipients {
			if r := &h.Recipients[i]; strings.EqualFold(r.Address, address) {
				r.Address, r.State = "", Erased
				if i < len(d.Rcpt) {
					d.Rcpt[i].OriginalRecipient = ""
				}
			}
		}
		h.Subject, _ = audit.Erase(h.Subject, address, erasedWord)
		if d, _, err = d.without(address); err != nil {
			return err
		}
		settle(h)
		h.Sealed, err = seal(d, key, id, q.o.Rand)
		return err
	})
}

// mentions reports whether an address stands in the details.
func (d *details) mentions(address string) bool {
	_, found, err := d.without(address)
	return err == nil && found
}

// without returns the details with erasedWord wherever address stood, and
// whether it stood anywhere.
func (d *details) without(address string) (*details, bool, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, false, err
	}
	quoted, err := json.Marshal(address)
	if err != nil {
		return nil, false, err
	}
	if !bytes.Contains(bytes.ToLower(text), bytes.ToLower(quoted[1:len(quoted)-1])) {
		return d, false, nil // the common case
	}
	numbers := json.NewDecoder(bytes.NewReader(text))
	numbers.UseNumber()
	var tree any
	if err := numbers.Decode(&tree); err != nil {
		return nil, false, err
	}
	tree, found := eraseIn(tree, address)
	if text, err = json.Marshal(tree); err != nil {
		return nil, false, err
	}
	clean := &details{}
	return clean, found, json.Unmarshal(text, clean)
}

// eraseIn erases an address from all strings of a decoded JSON value.
func eraseIn(v any, address string) (any, bool) {
	found := false
	switch v := v.(type) {
	case string:
		return audit.Erase(v, address, erasedWord)
	case []any:
		for i := range v {
			here := false
			v[i], here = eraseIn(v[i], address)
			found = found || here
		}
	case map[string]any:
		for k := range v {
			here := false
			v[k], here = eraseIn(v[k], address)
			found = found || here
		}
	}
	return v, found
}
