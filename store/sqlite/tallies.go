package sqlite

import (
	"cmp"
	"context"

	"postern/store"
)

var _ store.Tallies = (*DB)(nil)

// Tally implements store.Tallies.
func (db *DB) Tally(ctx context.Context, tallies []store.Tally, limit int) (left int64, err error) {
	err = db.do(ctx, func(ctx context.Context, w *session) error {
		left = 0
		for i := range tallies {
			kept, err := w.tally(ctx, &tallies[i], limit)
			if err != nil {
				return err
			}
			if !kept {
				left += tallies[i].Count
			}
		}
		return nil
	})
	return left, wrap("tally", err)
}

// tally adds one count; false if it is left out.
func (w *session) tally(ctx context.Context, t *store.Tally, limit int) (bool, error) {
	if limit > 0 {
		if _, err := w.exec(ctx, "INSERT INTO subject (day, name, rows, count, closed) VALUES (?, ?, 0, 0, 0) ON CONFLICT DO NOTHING", t.Day, t.Name); err != nil {
			return false, err
		}
	}
	result, err := w.exec(ctx, "UPDATE tally SET count = count + ? WHERE day = ? AND name = ? AND row = ?", t.Count, t.Day, t.Name, t.Row)
	if err != nil {
		return false, err
	}
	there, err := result.RowsAffected()
	if err != nil {
		return false, err
	}
	added := 0
	if there == 0 {
		result, err = w.exec(ctx, "INSERT INTO tally (day, name, row, count) SELECT day, name, ?, ? FROM subject WHERE day = ? AND name = ? AND NOT closed AND rows < ?",
			t.Row, t.Count, t.Day, t.Name, limit)
		if err != nil {
			return false, err
		}
		n, err := result.RowsAffected()
		if err != nil || n == 0 {
			return false, err
		}
		added = 1
	}
	_, err = w.exec(ctx, "UPDATE subject SET about = ?, rows = rows + ?, count = count + ? WHERE day = ? AND name = ?", t.About, added, t.Count, t.Day, t.Name)
	return true, err
}

// Subjects implements store.Tallies.
func (db *DB) Subjects(ctx context.Context) ([]store.Subject, error) {
	rows, err := db.read.QueryContext(ctx, "SELECT day, name, about, rows, count, state, closed FROM subject ORDER BY day, name")
	if err != nil {
		return nil, wrap("list subjects", db.explain(err))
	}
	var all []store.Subject
	err = each(rows, func() error {
		var s store.Subject
		err := rows.Scan(&s.Day, &s.Name, &s.About, &s.Rows, &s.Count, &s.State, &s.Closed)
		all = append(all, s)
		return err
	})
	return all, wrap("list subjects", db.explain(err))
}

// Rows implements store.Tallies.
func (db *DB) Rows(ctx context.Context, day, name string) ([]store.Tally, error) {
	rows, err := db.read.QueryContext(ctx, "SELECT row, count FROM tally WHERE day = ? AND name = ? ORDER BY count DESC, row", day, name)
	if err != nil {
		return nil, wrap("read tallies", db.explain(err))
	}
	var all []store.Tally
	err = each(rows, func() error {
		t := store.Tally{Day: day, Name: name}
		err := rows.Scan(&t.Row, &t.Count)
		all = append(all, t)
		return err
	})
	return all, wrap("read tallies", db.explain(err))
}

// Note implements store.Tallies.
func (db *DB) Note(ctx context.Context, day, name string, state []byte, closed bool) error {
	return wrap("note", db.do(ctx, func(ctx context.Context, w *session) error {
		result, err := w.exec(ctx, "UPDATE subject SET state = ?, closed = ? WHERE day = ? AND name = ?", state, closed, day, name)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return cmp.Or(err, store.ErrNotFound)
		}
		if !closed {
			return nil
		}
		if _, err := w.exec(ctx, "DELETE FROM tally WHERE day = ? AND name = ?", day, name); err != nil {
			return err
		}
		_, err = w.exec(ctx, "UPDATE subject SET rows = 0, about = NULL WHERE day = ? AND name = ?", day, name)
		return err
	}))
}

// Expire implements store.Tallies.
func (db *DB) Expire(ctx context.Context, before string) (removed, open int, err error) {
	err = db.do(ctx, func(ctx context.Context, w *session) error {
		rows, err := w.query(ctx, "SELECT count(*), count(*) FILTER (WHERE NOT closed) FROM subject WHERE day < ?", before)
		if err != nil {
			return err
		}
		if err := each(rows, func() error { return rows.Scan(&removed, &open) }); err != nil || removed == 0 {
			return err
		}
		_, err = w.exec(ctx, "DELETE FROM subject WHERE day < ?", before)
		return err
	})
	return removed, open, wrap("expire tallies", err)
}
