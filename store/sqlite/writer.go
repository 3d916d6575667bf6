package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	"postern/store"
)

// maxBatch is the number of writes that one commit takes at most.
const maxBatch = 128

// A job is one write that waits for the writer.
type job struct {
	run  func(ctx context.Context, w *session) error
	err  error
	done chan error
}

// A session is the writer's connection with its prepared statements.
type session struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func (w *session) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := w.stmts[query]; s != nil {
		return s, nil
	}
	s, err := w.conn.PrepareContext(ctx, query)
	if err == nil {
		w.stmts[query] = s
	}
	return s, err
}

func (w *session) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := w.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

func (w *session) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := w.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

// do has the writer run one write and waits until it is committed. Once it is
// in line the caller's context does not end it: the answer is always true.
func (db *DB) do(ctx context.Context, run func(context.Context, *session) error) error {
	if db.conn == nil {
		return fs.ErrPermission // it is only read
	}
	j := &job{run: run, done: make(chan error, 1)}
	db.mu.RLock()
	if db.closed {
		db.mu.RUnlock()
		return store.ErrClosed
	}
	select {
	case db.jobs <- j:
		db.mu.RUnlock()
	case <-ctx.Done():
		db.mu.RUnlock()
		return ctx.Err()
	}
	return <-j.done
}

// writer commits what waits until the database is closed.
func (db *DB) writer() {
	defer close(db.done)
	w := &session{conn: db.conn, stmts: map[string]*sql.Stmt{}}
	defer func() {
		for _, s := range w.stmts {
			s.Close()
		}
	}()
	batch := make([]*job, 0, maxBatch)
	for j := range db.jobs {
		batch = append(batch[:0], j)
		for more := true; more && len(batch) < maxBatch; {
			select {
			case j, ok := <-db.jobs:
				if more = ok; ok {
					batch = append(batch, j)
				}
			default:
				more = false
			}
		}
		err := db.explain(w.commit(context.Background(), batch))
		for _, j := range batch {
			if j.err == nil {
				j.err = err
			} else {
				j.err = db.explain(j.err)
			}
			j.done <- j.err
		}
	}
}

// commit runs the jobs in one transaction. A job that fails is undone alone;
// an error of commit itself undoes them all.
func (w *session) commit(ctx context.Context, batch []*job) error {
	if _, err := w.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for _, j := range batch {
		if err := w.one(ctx, j); err != nil {
			w.exec(ctx, "ROLLBACK") // SQLite may have rolled back already
			return err
		}
	}
	if _, err := w.exec(ctx, "COMMIT"); err != nil {
		w.exec(ctx, "ROLLBACK")
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// one runs a job within a savepoint.
func (w *session) one(ctx context.Context, j *job) error {
	if _, err := w.exec(ctx, "SAVEPOINT job"); err != nil {
		return err
	}
	if j.err = j.run(ctx, w); j.err != nil {
		if _, err := w.exec(ctx, "ROLLBACK TO job"); err != nil {
			return err
		}
	}
	_, err := w.exec(ctx, "RELEASE job")
	return err
}
