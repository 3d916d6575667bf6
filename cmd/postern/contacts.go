package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"postern/filters"
	"postern/filters/contact"
	"postern/gateway"
	"postern/mail"
	"postern/policy"
	"postern/store"
	"postern/store/sqlite"
)

// Bounds of what is known of contacts without asking the database, and of what
// waits to be written to it.
const (
	contactsKnown = 20_000
	contactsWait  = 20_000
	contactsEvery = 10 * time.Second // between two writes
	contactsAgain = 24 * time.Hour   // after which a contact is noted again
	contactsSweep = time.Hour        // between two looks for those whose time is over
	contactsKept  = 2_000_000        // in the database
)

// A pair is an author and a recipient.
type pair struct{ author, to mail.Path }

// contacts remembers who has written to whom: what was noted lately in memory, the
// rest in the database. Notes are written together, some seconds later: those that
// a crash takes are first contacts once more.
type contacts struct {
	db      store.Contacts
	records store.Records // remembers whether the clock can be trusted
	log     *slog.Logger
	now     func() time.Time

	writing sync.Mutex // one at a time writes or forgets
	swept   time.Time

	mu    sync.Mutex
	known *lru.Cache[pair, time.Time] // until when it is kept
	wait  map[pair]time.Time          // the same, not yet written
}

func newContacts(db store.Contacts, records store.Records, log *slog.Logger) *contacts {
	known, err := lru.New[pair, time.Time](contactsKnown)
	if err != nil {
		known = nil // only a size below one is an error
	}
	return &contacts{db: db, records: records, log: log, now: time.Now, known: known, wait: map[pair]time.Time{}}
}

// Met implements filters.Contacts.
func (c *contacts) Met(ctx context.Context, author, to mail.Path) (bool, error) {
	if until, ok := c.known.Get(pair{author, to}); ok && c.now().Before(until) {
		return true, nil
	}
	return c.db.Met(ctx, store.Contact{Author: author.String(), Recipient: to.String(), Time: c.now()})
}

// note remembers the contacts of a message that somebody has got, or will get. It
// comes after the decision: what it notes counts for the next one.
func (c *contacts) note(tx *mail.Transaction, fates []gateway.Fate, p *policy.Policy) {
	checker, ok := p.Chain().Checker(contact.Filter.Name)
	if !ok || tx.Trusted() {
		return
	}
	remember := checker.(*contact.Checker).Remember.Time()
	author, ok := contact.Author(tx)
	if !ok || remember <= 0 {
		return
	}
	now := c.now()
	for i := range fates {
		if s := fates[i].Status; s != "sent" && s != "queued" {
			continue
		}
		of := pair{author, fates[i].Recipient}
		until := now.Add(remember)
		if old, ok := c.known.Get(of); ok && until.Sub(old) < contactsAgain && now.Before(old) {
			continue
		}
		c.known.Add(of, until)
		c.mu.Lock()
		if len(c.wait) < contactsWait {
			c.wait[of] = until
		}
		c.mu.Unlock()
	}
}

// run writes what waits, and forgets what is over, until ctx ends.
func (c *contacts) run(ctx context.Context) {
	tick := time.NewTicker(contactsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.write(context.WithoutCancel(ctx))
			return
		case <-tick.C:
		}
		c.write(ctx)
		c.sweep(ctx)
	}
}

// sweep forgets what is over, unless the clock cannot be trusted, and what is too
// much.
func (c *contacts) sweep(ctx context.Context) {
	now := c.now()
	if since := now.Sub(c.swept); since >= 0 && since < contactsSweep {
		return
	}
	c.swept = now
	steady, err := store.Steady(ctx, c.records, "contacts.clock", now, 24*time.Hour)
	if err == nil {
		if !steady {
			now = time.Time{} // nobody's time is over
		}
		err = c.db.Part(ctx, now, contactsKept)
	}
	if err != nil {
		c.log.Warn("old contacts are not forgotten", "error", err)
	}
}

// write makes what waits durable. What cannot be written waits on.
func (c *contacts) write(ctx context.Context) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.writeNow(ctx)
}

func (c *contacts) writeNow(ctx context.Context) {
	c.mu.Lock()
	wait := c.wait
	c.wait = map[pair]time.Time{}
	c.mu.Unlock()
	if len(wait) == 0 {
		return
	}
	all := make([]store.Contact, 0, len(wait))
	for of, until := range wait {
		all = append(all, store.Contact{Author: of.author.String(), Recipient: of.to.String(), Time: until})
	}
	err := c.db.Meet(ctx, all)
	if err == nil {
		return
	}
	c.log.Warn("contacts are not noted", "error", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	for of, until := range wait {
		if len(c.wait) < contactsWait {
			c.wait[of] = until
		}
	}
}

// forget erases all contacts of an address.
func (c *contacts) forget(ctx context.Context, address string) (int, error) {
	c.writing.Lock() // what is being written would come back
	defer c.writing.Unlock()
	c.writeNow(ctx)
	gone, err := c.db.Unmeet(ctx, address)
	c.known.Purge() // it is filled again from the database
	c.mu.Lock()
	defer c.mu.Unlock()
	for of := range c.wait { // what could not be written, or has come since
		if strings.EqualFold(of.author.String(), address) || strings.EqualFold(of.to.String(), address) {
			delete(c.wait, of)
			gone++
		}
	}
	return gone, err
}

// onlyRead is the memory as it is on disk, for explain, which must not change it.
type onlyRead struct{ db *sqlite.DB }

// Met implements filters.Contacts.
func (r onlyRead) Met(ctx context.Context, author, to mail.Path) (bool, error) {
	return r.db.Met(ctx, store.Contact{Author: author.String(), Recipient: to.String(), Time: time.Now()})
}

// readContacts opens the memory of a state directory. Where there is none, or none
// that may be read, nobody has written before.
func readContacts(state string) (memory filters.Contacts, done func() error, err error) {
	db, err := sqlite.ReadContacts(context.Background(), databaseOf(state))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil, func() error { return nil }, nil
	case err != nil:
		return nil, nil, err
	}
	return onlyRead{db}, db.Close, nil
}
