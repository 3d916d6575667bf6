package quarantine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"postern/mail"
	"postern/store"
)

// A Query selects items. Zero fields select all.
type Query struct {
	Queue   string
	State   State
	Rule    string
	From    string    // part of the author or the reverse-path
	To      string    // part of a recipient
	Subject string    // part of it
	Text    string    // part of any field: addresses, subject, names of attachments, evidence...
	Body    bool      // Text may stand in the message itself too: slow
	Since   time.Time // held at or after
	Limit   int       // default 100, at most 1,000
}

func (q *Query) rows() store.Query {
	return store.Query{Queue: q.Queue, State: q.State, Rule: q.Rule, From: q.From, To: q.To, Subject: q.Subject, Since: q.Since, Limit: q.Limit}
}

// Search returns the items that match, newest first. Case does not matter. Of
// an item that is damaged only the row's fields are filled.
func (q *Quarantine) Search(ctx context.Context, query Query) ([]*Item, error) {
	rows := query.rows()
	limit := rows.Page()
	if query.Text != "" {
		rows.Limit = 1000
	}
	var found []*Item
	for {
		page, err := q.o.Records.Search(ctx, rows)
		if err != nil {
			return nil, fmt.Errorf("search quarantine: %w", err)
		}
		for _, h := range page {
			it, err := q.item(h)
			if err != nil {
				it = bare(h, err)
			}
			if query.Text != "" && !it.has(query.Text) && !(query.Body && q.bodyHas(ctx, h, query.Text)) {
				continue
			}
			if found = append(found, it); len(found) == limit {
				return found, nil
			}
		}
		if query.Text == "" || len(page) < rows.Limit || ctx.Err() != nil {
			return found, ctx.Err()
		}
		rows.Before = page[len(page)-1].ID
	}
}

// bare is an item of which only the row can be read.
func bare(h *store.Held, err error) *Item {
	it := &Item{ID: h.ID, Transaction: h.Transaction, At: h.At, Queue: h.Queue, State: h.State, Direction: mail.Direction(h.Direction), ReversePath: path(h.ReversePath),
		Author: path(h.Author), Subject: h.Subject, Size: h.Size, Rule: h.Rule, Score: h.Score, Why: err.Error()}
	for _, r := range h.Recipients {
		it.To = append(it.To, Recipient{Recipient: mail.Recipient{Path: path(r.Address)}, State: r.State, At: r.At})
	}
	return it
}

// has reports whether text stands in any field.
func (it *Item) has(text string) bool {
	text = strings.ToLower(text)
	in := func(fields ...string) bool {
		for _, f := range fields {
			if strings.Contains(strings.ToLower(f), text) {
				return true
			}
		}
		return false
	}
	if in(it.ID, it.Transaction, it.Queue, it.Rule, it.Why, it.Author.String(), it.AuthorName, it.ReversePath.String(), it.Subject, it.MessageID,
		it.Session.Helo, it.Session.ClientName, it.Session.User) || it.Session.Client.IsValid() && in(it.Session.Client.Addr().String()) {
		return true
	}
	for i := range it.To {
		if in(it.To[i].Path.String()) {
			return true
		}
	}
	for i := range it.Attachments {
		if in(it.Attachments[i].Name, it.Attachments[i].Kind) {
			return true
		}
	}
	for i := range it.Symbols {
		if in(it.Symbols[i].Name, it.Symbols[i].Evidence) {
			return true
		}
	}
	return false
}

// bodyHas reports whether text stands in the message as it was received.
func (q *Quarantine) bodyHas(ctx context.Context, h *store.Held, text string) bool {
	if len(h.Key) == 0 || h.Stored == 0 {
		return false
	}
	r, err := q.body(ctx, h)
	if err != nil {
		return false
	}
	defer r.Close()
	want := bytes.ToLower([]byte(text))
	buf := make([]byte, 0, 64<<10+len(want))
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if bytes.Contains(bytes.ToLower(buf), want) {
			return true
		}
		if err != nil {
			return false
		}
		keep := min(len(want)-1, len(buf))
		copy(buf, buf[len(buf)-keep:])
		buf = buf[:keep]
	}
}

// Get returns the item with that id or, if there is none, the only one whose id,
// or whose transaction's, is that or begins so; ErrNotFound, ErrAmbiguous.
func (q *Quarantine) Get(ctx context.Context, id string) (*Item, error) {
	h, err := q.get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("get held message: %w", err)
	}
	return q.item(h)
}

func (q *Quarantine) get(ctx context.Context, id string) (*store.Held, error) {
	if id == "" {
		return nil, ErrNotFound
	}
	upper := strings.ToUpper(id)
	h, err := q.o.Records.Held(ctx, upper)
	if !errors.Is(err, store.ErrNotFound) {
		return h, err
	}
	var found []*store.Held
	for _, query := range []store.Query{{ID: upper}, {Tx: id}, {Tx: strings.ToLower(id)}} {
		query.Limit = maxNamed + 1
		more, err := q.o.Records.Search(ctx, query)
		if err != nil {
			return nil, err
		}
		for _, h := range more {
			if !slices.ContainsFunc(found, func(other *store.Held) bool { return other.ID == h.ID }) {
				found = append(found, h)
			}
		}
	}
	switch len(found) {
	case 0:
		return nil, ErrNotFound
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%w: %s", ErrAmbiguous, q.names(found))
}

// maxNamed is how many items ErrAmbiguous names.
const maxNamed = 10

// names tells items apart for people.
func (q *Quarantine) names(found []*store.Held) string {
	var b strings.Builder
	for i, h := range found {
		if i == maxNamed {
			b.WriteString("; and more")
			break
		}
		it, err := q.item(h)
		if err != nil {
			it = bare(h, err)
		}
		what := string(it.State) + " in " + it.Queue
		if it.Original {
			what = "original of what rule " + it.Rule + " changed"
		}
		var to []string
		for i := range it.To[:min(len(it.To), 3)] {
			to = append(to, it.To[i].Path.String())
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s (%s, for %s)", it.ID, what, strings.Join(to, " "))
	}
	return b.String()
}

// Read returns the message as it was received, for a person who wants to see it:
// after OnRead was told. The reader ends with ErrDamaged instead of io.EOF if the
// message is not what was stored.
func (q *Quarantine) Read(ctx context.Context, id string, by Access) (io.ReadCloser, *Item, error) {
	return q.open(ctx, id, func(it *Item) error {
		if q.o.OnRead == nil {
			return nil
		}
		return q.o.OnRead(ctx, it, by)
	})
}

// Open is Read for a release, which nobody sees and which has a record of its
// own: OnRead is not told.
func (q *Quarantine) Open(ctx context.Context, id string) (io.ReadCloser, *Item, error) {
	return q.open(ctx, id, func(*Item) error { return nil })
}

func (q *Quarantine) open(ctx context.Context, id string, before func(*Item) error) (io.ReadCloser, *Item, error) {
	h, err := q.get(ctx, id)
	if err != nil {
		return nil, nil, fmt.Errorf("read held message: %w", err)
	}
	it, err := q.item(h)
	if err != nil {
		return nil, nil, err
	}
	if !it.Body {
		return nil, nil, fmt.Errorf("read held message %s: %w", h.ID, ErrErased)
	}
	if err := before(it); err != nil {
		return nil, nil, fmt.Errorf("read held message: %w", err)
	}
	r, err := q.body(ctx, h)
	if err != nil {
		return nil, nil, fmt.Errorf("read held message %s: %w", h.ID, err)
	}
	r.sum, r.want, r.left = sha256.New(), it.SHA256, it.Size
	return r, it, nil
}

// body opens the body of a row.
func (q *Quarantine) body(ctx context.Context, h *store.Held) (*body, error) {
	key, err := q.key.unwrap(h.Key, h.ID)
	if err != nil {
		return nil, err
	}
	blob, _, err := q.o.Blobs.Open(ctx, h.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: its body is missing", ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	dec, err := unpack(blob, key, h.ID)
	if err != nil {
		blob.Close()
		return nil, err
	}
	return &body{dec: dec, blob: blob}, nil
}

// A body reads a message and, if sum is set, checks it.
type body struct {
	dec  *zstd.Decoder
	blob io.Closer
	sum  hash.Hash
	want [32]byte
	left int64
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.dec == nil {
		return 0, errors.New("read of a closed body")
	}
	n, err := b.dec.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if b.sum == nil {
		return n, err
	}
	b.left -= int64(n)
	b.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && (b.left != 0 || [32]byte(b.sum.Sum(nil)) != b.want) {
		err = fmt.Errorf("%w: it is not the message that was stored", ErrDamaged)
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	if b.dec == nil {
		return nil
	}
	dec := b.dec
	b.dec = nil
	err := b.blob.Close()
	if dec.Reset(nil) == nil {
		decoders.Put(dec)
	}
	return err
}
