package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"postern/store"
)

const columns = "id, tx, queue, direction, rule, state, at, size, stored, score, author, reverse, subject, key, sealed, open"

// Insert implements store.Records.
func (db *DB) Insert(ctx context.Context, h *store.Held) error {
	return wrap("insert", db.do(ctx, func(ctx context.Context, w *session) error {
		_, err := w.exec(ctx, "INSERT INTO held ("+columns+", author_fold, reverse_fold, subject_fold) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
			append([]any{h.ID}, values(h)...)...)
		var e *sqlite.Error
		if errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY {
			return store.ErrExists
		}
		if err != nil {
			return err
		}
		return insertRecipients(ctx, w, h)
	}))
}

// values returns the columns of h after its ID.
func values(h *store.Held) []any {
	return []any{h.Transaction, h.Queue, h.Direction, h.Rule, string(h.State), micros(h.At), h.Size, h.Stored, h.Score,
		h.Author, h.ReversePath, h.Subject, h.Key, h.Sealed, h.Open, fold(h.Author), fold(h.ReversePath), fold(h.Subject)}
}

func insertRecipients(ctx context.Context, w *session, h *store.Held) error {
	for i, r := range h.Recipients {
		if _, err := w.exec(ctx, "INSERT INTO recipient (item, position, address, fold, state, at) VALUES (?,?,?,?,?,?)",
			h.ID, i, r.Address, fold(r.Address), string(r.State), micros(r.At)); err != nil {
			return err
		}
	}
	return nil
}

func fold(s string) string { return strings.ToLower(s) }

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func instant(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// A querier reads: the writer's session or the read pool.
type querier func(ctx context.Context, query string, args ...any) (*sql.Rows, error)

// Held implements store.Records.
func (db *DB) Held(ctx context.Context, id string) (*store.Held, error) {
	h, err := one(ctx, db.read.QueryContext, id)
	return h, wrap("read held message", db.explain(err))
}

func one(ctx context.Context, q querier, id string) (*store.Held, error) {
	found, err := load(ctx, q, " WHERE id = ?", id)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, store.ErrNotFound
	}
	return found[0], nil
}

// load reads the rows selected by the SQL that follows FROM held, and their
// recipients.
func load(ctx context.Context, q querier, where string, args ...any) ([]*store.Held, error) {
	rows, err := q(ctx, "SELECT "+columns+" FROM held"+where, args...)
	if err != nil {
		return nil, err
	}
	var found []*store.Held
	err = each(rows, func() error {
		h, at := &store.Held{}, int64(0)
		err := rows.Scan(&h.ID, &h.Transaction, &h.Queue, &h.Direction, &h.Rule, &h.State, &at, &h.Size, &h.Stored, &h.Score,
			&h.Author, &h.ReversePath, &h.Subject, &h.Key, &h.Sealed, &h.Open)
		h.At = instant(at)
		found = append(found, h)
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, loadRecipients(ctx, q, found)
}

// loadRecipients reads the recipients of all rows at once.
func loadRecipients(ctx context.Context, q querier, found []*store.Held) error {
	if len(found) == 0 {
		return nil
	}
	byID := make(map[string]*store.Held, len(found))
	ids := make([]string, 0, len(found))
	for _, h := range found {
		byID[h.ID] = h
		ids = append(ids, h.ID)
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	rows, err := q(ctx, "SELECT item, address, state, at FROM recipient WHERE item IN (SELECT value FROM json_each(?)) ORDER BY item, position", string(list))
	if err != nil {
		return err
	}
	return each(rows, func() error {
		var r store.HeldRecipient
		var id string
		var at int64
		err := rows.Scan(&id, &r.Address, &r.State, &at)
		r.At = instant(at)
		if h := byID[id]; h != nil {
			h.Recipients = append(h.Recipients, r)
		}
		return err
	})
}

// each calls scan for each row and closes rows.
func each(rows *sql.Rows, scan func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := scan(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Update implements store.Records.
func (db *DB) Update(ctx context.Context, id string, change func(*store.Held) error) error {
	return wrap("update", db.do(ctx, func(ctx context.Context, w *session) error {
		h, err := one(ctx, w.query, id)
		if err != nil {
			return err
		}
		if err := change(h); err != nil {
			return err
		}
		h.ID = id
		_, err = w.exec(ctx, `UPDATE held SET tx=?, queue=?, direction=?, rule=?, state=?, at=?, size=?, stored=?, score=?,
			author=?, reverse=?, subject=?, key=?, sealed=?, open=?, author_fold=?, reverse_fold=?, subject_fold=? WHERE id=?`,
			append(values(h), id)...)
		if err != nil {
			return err
		}
		if _, err := w.exec(ctx, "DELETE FROM recipient WHERE item = ?", id); err != nil {
			return err
		}
		return insertRecipients(ctx, w, h)
	}))
}

// Remove implements store.Records.
func (db *DB) Remove(ctx context.Context, ids ...string) error {
	return wrap("remove", db.do(ctx, func(ctx context.Context, w *session) error {
		for _, id := range ids {
			if _, err := w.exec(ctx, "DELETE FROM held WHERE id = ?", id); err != nil {
				return err
			}
		}
		return nil
	}))
}

// Search implements store.Records.
func (db *DB) Search(ctx context.Context, q store.Query) ([]*store.Held, error) {
	where, args := condition(q)
	found, err := load(ctx, db.read.QueryContext, where+" ORDER BY id DESC LIMIT ?", append(args, q.Page())...)
	return found, wrap("search", db.explain(err))
}

// condition returns the WHERE clause for q and its arguments.
func condition(q store.Query) (string, []any) {
	var terms []string
	var args []any
	add := func(on bool, term string, values ...any) {
		if on {
			terms, args = append(terms, term), append(args, values...)
		}
	}
	add(q.ID != "", "id >= ? AND id < ?", q.ID, q.ID+"\U0010FFFF")
	add(q.Tx != "", "tx >= ? AND tx < ?", q.Tx, q.Tx+"\U0010FFFF")
	add(q.Before != "", "id < ?", q.Before)
	add(q.Queue != "", "queue = ?", q.Queue)
	add(q.State != "", "state = ?", string(q.State))
	add(q.Rule != "", "rule = ?", q.Rule)
	add(!q.Since.IsZero(), "at >= ?", micros(q.Since))
	add(!q.Until.IsZero(), "at < ?", micros(q.Until))
	add(q.NoBody, "key IS NULL AND stored > 0")
	from, to, subject, address := fold(q.From), fold(q.To), fold(q.Subject), fold(q.Address)
	add(from != "", "(instr(author_fold, ?) > 0 OR instr(reverse_fold, ?) > 0)", from, from)
	add(subject != "", "instr(subject_fold, ?) > 0", subject)
	add(to != "", "EXISTS (SELECT 1 FROM recipient r WHERE r.item = held.id AND instr(r.fold, ?) > 0)", to)
	add(address != "", `id IN (SELECT id FROM held WHERE author_fold = ? UNION SELECT id FROM held WHERE reverse_fold = ?
		UNION SELECT item FROM recipient WHERE fold = ?)`, address, address, address)
	if len(terms) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(terms, " AND "), args
}

// Totals implements store.Records.
func (db *DB) Totals(ctx context.Context) ([]store.Total, error) {
	rows, err := db.read.QueryContext(ctx, "SELECT queue, state, count(*), sum(size), sum(stored), min(at) FROM held GROUP BY queue, state ORDER BY queue, state")
	if err != nil {
		return nil, wrap("count", db.explain(err))
	}
	var totals []store.Total
	err = each(rows, func() error {
		var t store.Total
		var at int64
		err := rows.Scan(&t.Queue, &t.State, &t.Messages, &t.Size, &t.Stored, &at)
		t.Oldest = instant(at)
		totals = append(totals, t)
		return err
	})
	return totals, wrap("count", db.explain(err))
}

// Setting implements store.Records.
func (db *DB) Setting(ctx context.Context, name string) (string, error) {
	var value string
	err := db.read.QueryRowContext(ctx, "SELECT value FROM setting WHERE name = ?", name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, wrap("read setting "+name, db.explain(err))
}

// Set implements store.Records.
func (db *DB) Set(ctx context.Context, name, value string) error {
	return wrap("set "+name, db.do(ctx, func(ctx context.Context, w *session) error {
		_, err := w.exec(ctx, "INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)
		return err
	}))
}

// Scrub implements store.Records: it writes the log back into the file, where
// secure_delete has put zeroes, and empties it. Readers that are busy keep it
// from doing so; then it fails.
func (db *DB) Scrub(ctx context.Context) error {
	var busy, log, done int
	var result error
	for try := 0; try < 50; try++ {
		// A checkpoint cannot run within a transaction: so not as a job, but on a
		// connection of the read pool, which may do this all the same.
		err := db.read.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &done)
		if err != nil {
			return wrap("scrub", db.explain(err))
		}
		if busy == 0 {
			return nil
		}
		result = errors.New("scrub: the database is busy")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return result
}
