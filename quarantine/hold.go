package quarantine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"postern/store"
)

// Hold stores a message and returns the id of its item. When it returns without
// an error both are durable: the body first, then the row. ErrFull means that
// there is no room.
func (q *Quarantine) Hold(ctx context.Context, it Item, content io.Reader) (string, error) {
	s := q.settings.Load()
	if err := it.check(); err != nil {
		return "", fmt.Errorf("hold message: %w", err)
	}
	it.At = q.stamp()
	id, err := newID(it.At, q.o.Rand)
	if err != nil {
		return "", fmt.Errorf("hold message: %w", err)
	}
	it.ID, it.State = id, Held
	if it.Received.IsZero() {
		it.Received = it.At
	}
	it.To = append([]Recipient(nil), it.To...)
	for i := range it.To {
		if it.To[i].State == "" {
			it.To[i].State = Held
		}
	}
	q.setPending(id, true)
	defer q.setPending(id, false)
	if err := q.hold(ctx, &it, s, content); err != nil {
		if errors.Is(err, store.ErrFull) && !errors.Is(err, ErrFull) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
		return "", fmt.Errorf("hold message: %w", err)
	}
	return id, nil
}

// check refuses what could not be released later.
func (it *Item) check() error {
	switch {
	case it.Queue == "":
		return errors.New("no queue")
	case len(it.To) == 0:
		return errors.New("no recipients")
	}
	return nil
}

func (q *Quarantine) setPending(id string, on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if on {
		q.pending[id] = true
	} else {
		delete(q.pending, id)
	}
}

func (q *Quarantine) hold(ctx context.Context, it *Item, s *Settings, content io.Reader) error {
	var key bodyKey
	if !s.Plain {
		key = make(bodyKey, keySize)
		if _, err := io.ReadFull(q.o.Rand, key); err != nil {
			return fmt.Errorf("make key: %w", err)
		}
	}
	m := &meter{r: content, sum: sha256.New()}
	p, err := newPacker(m, key, it.ID)
	if err != nil {
		return err
	}
	defer p.free()
	room := &quota{r: p, used: &q.used, max: s.MaxSize}
	defer func() { room.settle(err == nil) }()
	stored, err := q.o.Blobs.Put(ctx, it.ID, room)
	if err != nil {
		return err
	}
	it.Size = m.n
	m.sum.Sum(it.SHA256[:0])
	h, err := q.row(it, key)
	if err != nil {
		return err
	}
	h.Stored = stored
	// If this fails the blob stays: whether the row is there is not known. If it
	// is not, a sweep finds the blob.
	err = q.o.Records.Insert(ctx, h)
	return err
}

// A meter counts and hashes what is read.
type meter struct {
	r   io.Reader
	n   int64
	sum hash.Hash
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.n += int64(n)
	m.sum.Write(b[:n])
	return n, err
}

// A quota counts what is read against the quarantine's size while it is read, so
// that many messages at once cannot exceed it together.
type quota struct {
	r    io.Reader
	used interface{ Add(int64) int64 }
	max  int64
	n    int64
}

func (u *quota) Read(b []byte) (int, error) {
	n, err := u.r.Read(b)
	u.n += int64(n)
	if used := u.used.Add(int64(n)); u.max > 0 && used > u.max {
		return 0, fmt.Errorf("%w: max_size is %d bytes", ErrFull, u.max)
	}
	return n, err
}

// settle gives back what was counted if nothing was stored.
func (u *quota) settle(stored bool) {
	if !stored {
		u.used.Add(-u.n)
	}
}

// newID returns an id that sorts by time: 48 bits of milliseconds and 80 random
// bits in Crockford's base 32.
func newID(at time.Time, random io.Reader) (string, error) {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var raw [16]byte
	ms := uint64(max(at.UnixMilli(), 0))
	for i := range 6 {
		raw[i] = byte(ms >> (40 - 8*i))
	}
	if _, err := io.ReadFull(random, raw[6:]); err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	var text [26]byte
	var acc uint64
	bits, at32 := 2, 0 // 130 bits hold 128: the first digit has three of them
	for _, b := range raw {
		acc = acc<<8 | uint64(b)
		bits += 8
		for bits >= 5 {
			bits -= 5
			text[at32] = digits[acc>>bits&31]
			at32++
		}
	}
	return string(text[:]), nil
}

// Withdraw removes an item altogether: what Hold did, undone when the message
// was not accepted after all.
func (q *Quarantine) Withdraw(ctx context.Context, id string) error {
	h, err := q.o.Records.Held(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = q.o.Records.Remove(ctx, id)
	}
	if err == nil {
		err = q.dropBody(ctx, h)
	}
	if err != nil {
		return fmt.Errorf("withdraw held message: %w", err)
	}
	return nil
}

// dropBody deletes the blob of a row that was removed.
func (q *Quarantine) dropBody(ctx context.Context, h *store.Held) error {
	if err := q.o.Blobs.Delete(ctx, h.ID); err != nil {
		return err
	}
	q.used.Add(-h.Stored)
	return nil
}
