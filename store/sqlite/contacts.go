package sqlite

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern/store"
)

var _ store.Contacts = (*DB)(nil)

// saltSetting is what the hashes of addresses are salted with.
const saltSetting = "contacts.salt"

// hashLen is the length of a hash: two addresses of a billion are taken for one
// with a chance of one in ten million million.
const hashLen = 12

// salt returns the salt, which is made when it is first asked for.
func (db *DB) salt(ctx context.Context) ([]byte, error) {
	if s := db.salted.Load(); s != nil {
		return *s, nil
	}
	text, err := db.Setting(ctx, saltSetting)
	if err == nil && text == "" {
		if text = rand.Text(); db.conn == nil {
			return []byte(text), nil // it is only read: nobody was met yet
		}
		err = db.do(ctx, func(ctx context.Context, w *session) error {
			if _, err := w.exec(ctx, "INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", saltSetting, text); err != nil {
				return err
			}
			rows, err := w.query(ctx, "SELECT value FROM setting WHERE name = ?", saltSetting)
			if err != nil {
				return err
			}
			return each(rows, func() error { return rows.Scan(&text) })
		})
	}
	if err != nil {
		return nil, err
	}
	salt := []byte(text)
	db.salted.Store(&salt)
	return salt, nil
}

// hashed is what is kept of an address.
func hashed(salt []byte, address string) []byte {
	h := hmac.New(sha256.New, salt)
	h.Write([]byte(strings.ToLower(address)))
	return h.Sum(nil)[:hashLen]
}

// Met implements store.Contacts.
func (db *DB) Met(ctx context.Context, c store.Contact) (bool, error) {
	salt, err := db.salt(ctx)
	if err != nil {
		return false, wrap("look for a contact", err)
	}
	var n int
	err = db.read.QueryRowContext(ctx, "SELECT 1 FROM contact WHERE author = ? AND recipient = ? AND until > ?",
		hashed(salt, c.Author), hashed(salt, c.Recipient), c.Time.Unix()).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return n > 0, wrap("look for a contact", db.explain(err))
}

// Meet implements store.Contacts.
func (db *DB) Meet(ctx context.Context, contacts []store.Contact) error {
	salt, err := db.salt(ctx)
	if err != nil {
		return wrap("note contacts", err)
	}
	return wrap("note contacts", db.do(ctx, func(ctx context.Context, w *session) error {
		for _, c := range contacts {
			_, err := w.exec(ctx, "INSERT INTO contact (author, recipient, until) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET until = max(until, excluded.until)",
				hashed(salt, c.Author), hashed(salt, c.Recipient), c.Time.Unix())
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// Unmeet implements store.Contacts.
func (db *DB) Unmeet(ctx context.Context, address string) (int, error) {
	salt, err := db.salt(ctx)
	if err != nil {
		return 0, wrap("forget contacts", err)
	}
	hash, gone := hashed(salt, address), int64(0)
	err = db.do(ctx, func(ctx context.Context, w *session) error {
		result, err := w.exec(ctx, "DELETE FROM contact WHERE author = ? OR recipient = ?", hash, hash)
		if err == nil {
			gone, err = result.RowsAffected()
		}
		return err
	})
	return int(gone), wrap("forget contacts", err)
}

// partAtOnce is how many contacts one commit removes: other writes wait for it.
const partAtOnce = 5_000

// Part implements store.Contacts.
func (db *DB) Part(ctx context.Context, now time.Time, most int) error {
	over, first := now.Unix(), int64(0)
	err := db.read.QueryRowContext(ctx, "SELECT until FROM contact ORDER BY until DESC LIMIT 1 OFFSET ?", most).Scan(&first)
	switch {
	case err == nil:
		over = max(over, first)
	case !errors.Is(err, sql.ErrNoRows):
		return wrap("expire contacts", db.explain(err))
	}
	for gone := int64(partAtOnce); gone == partAtOnce; {
		err := db.do(ctx, func(ctx context.Context, w *session) error {
			result, err := w.exec(ctx, "DELETE FROM contact WHERE (author, recipient) IN (SELECT author, recipient FROM contact WHERE until <= ? ORDER BY until LIMIT ?)", over, partAtOnce)
			if err == nil {
				gone, err = result.RowsAffected()
			}
			return err
		})
		if err != nil {
			return wrap("expire contacts", err)
		}
	}
	return nil
}

// ReadContacts opens the database file at path for reading only, whoever else has
// it. If nobody was met there yet, the error is fs.ErrNotExist.
func ReadContacts(ctx context.Context, path string) (*DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("read database: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("read database: %w", err)
	}
	db := &DB{path: path, jobs: make(chan *job), done: make(chan struct{})}
	close(db.done)
	if db.read, err = sql.Open("sqlite", dsn(abs, "query_only(1)")); err != nil {
		return nil, fmt.Errorf("read database: %w", err)
	}
	var there int
	err = db.read.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name = 'contact'").Scan(&there)
	if err == nil && there == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read database: %w", db.explain(err)), db.Close())
	}
	return db, nil
}
