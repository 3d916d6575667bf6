package quarantine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"postern/mail"
	"postern/store"
)

// MarkReleased notes that the message was delivered to these recipients after
// all; no recipients means all. It is durable when it returns, and may be said
// twice. Recipients that are not the item's are left out: a release to another
// address leaves the item as it is.
func (q *Quarantine) MarkReleased(ctx context.Context, id string, to ...mail.Path) error {
	at := q.o.Now().UTC()
	err := q.o.Records.Update(ctx, id, func(h *store.Held) error {
		for i := range h.Recipients {
			r := &h.Recipients[i]
			if r.State == Held && (len(to) == 0 || slices.Contains(to, path(r.Address))) {
				r.State, r.At = Released, at
			}
		}
		settle(h)
		return nil
	})
	return changed("mark held message as released", err)
}

func changed(what string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// settle makes an item follow its recipients: it is held while one of them
// waits, and released if one of them got it.
func settle(h *store.Held) {
	released := false
	for _, r := range h.Recipients {
		if r.State == Held {
			h.State = Held
			return
		}
		released = released || r.State == Released
	}
	if released {
		h.State = Released
	}
}

// Delete erases the body and the details of an item for ever. The row stays, with
// addresses and subject, until the item's time is over. Deleting twice is no
// error.
func (q *Quarantine) Delete(ctx context.Context, id string) error {
	at := q.o.Now().UTC()
	err := q.erase(ctx, id, func(h *store.Held) {
		if h.State == Held {
			h.State = Deleted
		}
		for i := range h.Recipients {
			if r := &h.Recipients[i]; r.State == Held {
				r.State, r.At = Deleted, at
			}
		}
	})
	return changed("delete held message", err)
}

// erase removes the key of an item, and with it the body and the details. Only
// when that is durable does the blob go.
func (q *Quarantine) erase(ctx context.Context, id string, change func(h *store.Held)) error {
	var before store.Held
	err := q.o.Records.Update(ctx, id, func(h *store.Held) error {
		before = *h
		h.Key, h.Sealed = nil, nil
		change(h)
		return nil
	})
	if err != nil || before.Stored == 0 {
		return err
	}
	return q.finish(ctx, &before)
}

// finish deletes the blob of a row without a key and notes it.
func (q *Quarantine) finish(ctx context.Context, h *store.Held) error {
	if err := q.o.Blobs.Delete(ctx, h.ID); err != nil {
		return err
	}
	var stored int64
	err := q.o.Records.Update(ctx, h.ID, func(h *store.Held) error {
		stored, h.Stored = h.Stored, 0
		return nil
	})
	if err == nil {
		q.used.Add(-stored)
	}
	return err
}
