// Package sqlite keeps store.Records, store.Tallies and store.Contacts in one
// SQLite file.
//
// One goroutine writes. It takes all writes that wait, runs each within a
// savepoint of one transaction, commits once, and only then answers them all:
// sixty-four writers cost little more than one. The file is in WAL mode with
// synchronous=FULL, so what was committed survives a power cut. Readers have
// connections of their own and never wait for the writer.
//
// secure_delete overwrites what is removed with zeroes, and Scrub empties the
// write-ahead log, so that an erased key is gone from the disk's files too.
//
// The schema is brought up to date when the file is opened: see migrate.go.
//
// # Diagnostics
//
// A file that is not a database, is damaged, or has a newer schema is a
// store.DamageError with the file's name and a remedy, and stays as it is.
// Running out of space is store.ErrFull; the write that met it and all that
// shared its commit are not there, later ones may succeed.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"postern/store"
)

// checkLimit is the size up to which a file is checked in full when it is
// opened: larger ones would delay the start by seconds.
const checkLimit = 64 << 20

// readers is the number of connections that read.
const readers = 4

// DB is a database file. It implements store.Records.
type DB struct {
	path  string
	read  *sql.DB
	write *sql.DB
	conn  *sql.Conn // the writer's; nil: it is only read

	salted atomic.Pointer[[]byte] // of contacts

	jobs   chan *job
	mu     sync.RWMutex // held for reading while sending to jobs
	closed bool
	done   chan struct{}
}

var _ store.Records = (*DB)(nil)

// Open opens the database file at path and makes it, readable for its owner
// only, if it is not there.
func Open(ctx context.Context, path string) (*DB, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	size, err := f.Seek(0, 2)
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db := &DB{path: path, jobs: make(chan *job, maxBatch), done: make(chan struct{})}
	if err := db.open(ctx, size <= checkLimit); err != nil {
		db.closeAll()
		return nil, fmt.Errorf("open database: %w", db.explain(err))
	}
	go db.writer()
	return db, nil
}

func (db *DB) open(ctx context.Context, check bool) error {
	abs, err := filepath.Abs(db.path)
	if err != nil {
		return err
	}
	if db.write, err = sql.Open("sqlite", dsn(abs, "journal_mode(wal)", "synchronous(full)", "secure_delete(on)", "foreign_keys(1)", "cache_size(-4000)")); err != nil {
		return err
	}
	db.write.SetMaxOpenConns(1)
	if db.conn, err = db.write.Conn(ctx); err != nil {
		return err
	}
	if check {
		if err := quickCheck(ctx, db.conn); err != nil {
			return err
		}
	}
	if err := migrate(ctx, db.conn, migrations); err != nil {
		return err
	}
	if db.read, err = sql.Open("sqlite", dsn(abs, "query_only(1)", "cache_size(-2000)")); err != nil {
		return err
	}
	db.read.SetMaxOpenConns(readers)
	db.read.SetMaxIdleConns(readers)
	return db.read.PingContext(ctx)
}

func dsn(path string, pragmas ...string) string {
	q := url.Values{"_pragma": append([]string{"busy_timeout(10000)"}, pragmas...)}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

func quickCheck(ctx context.Context, conn *sql.Conn) error {
	var result string
	if err := conn.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return err
	}
	if result != "ok" {
		return fmt.Errorf("%w: %s", store.ErrCorrupt, result)
	}
	return nil
}

// explain turns SQLite's result codes into the errors of package store.
func (db *DB) explain(err error) error {
	var e *sqlite.Error
	var newer *newerError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &newer):
		return &store.DamageError{Path: db.path, Kind: store.ErrNewer, Err: newer,
			Remedy: "Run the version of Postern that wrote it, or restore a backup made before the upgrade; nothing was changed."}
	case errors.Is(err, store.ErrCorrupt):
		return db.damaged(err)
	case !errors.As(err, &e):
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return db.damaged(err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}

func (db *DB) damaged(err error) error {
	return &store.DamageError{Path: db.path, Kind: store.ErrCorrupt, Err: err,
		Remedy: "Stop Postern and restore the file from a backup, or move it (with its -wal and -shm files) aside to begin with an empty one; nothing was changed."}
}

// Close answers the writes that wait and closes the file.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil
	}
	db.closed = true
	close(db.jobs)
	db.mu.Unlock()
	<-db.done
	return db.closeAll()
}

func (db *DB) closeAll() error {
	var errs []error
	if db.read != nil {
		errs = append(errs, db.read.Close())
	}
	if db.conn != nil {
		errs = append(errs, db.conn.Close())
	}
	if db.write != nil {
		errs = append(errs, db.write.Close())
	}
	return errors.Join(errs...)
}
