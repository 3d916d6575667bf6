// Package store says what Postern asks of the places where it keeps things,
// so that one machine can do with a directory and SQLite, and many machines
// can share PostgreSQL, S3 and Redis.
//
// There are six kinds of places:
//
//   - Records: the index of the quarantine, and settings that must survive a
//     restart. store/sqlite implements it.
//   - Tallies: counts of what was seen in a day, until they are reported.
//     store/sqlite implements it.
//   - Contacts: who has written to whom, until it is forgotten. store/sqlite
//     implements it.
//   - Blobs: held bodies, each under a name. store/dir implements it.
//   - Log: lines in the order in which they came: the audit log. store/dir
//     implements it.
//   - Counters: numbers that go away by themselves. store/memory implements it.
//
// The interfaces speak of what is done, not of how: no SQL, no paths and no
// keys of a cache cross them. Whoever implements one runs the suite of
// store/storetest over it. Only cmd chooses the implementations.
//
// What a method wrote is durable when it returns nil, for Records, Tallies,
// Contacts, Blobs and Log. After an error the caller must suppose either outcome. No implementation
// ever deletes or replaces what it cannot read: it refuses to open.
//
// # Diagnostics
//
// ErrNotFound and ErrExists are answers. ErrFull is a disk, a quota or a
// bucket without room: the caller defers. A DamageError names the file that
// cannot be read and what to do about it; it matches ErrCorrupt, or ErrNewer
// when the file was written by a later version. All other errors are failures
// of the place itself.
package store

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	ErrFull     = errors.New("no space left")
	ErrCorrupt  = errors.New("damaged")
	ErrNewer    = errors.New("written by a newer version")
	ErrLocked   = errors.New("in use by another process")
	ErrClosed   = errors.New("closed")
)

// A DamageError is a file that cannot be used as it is. Nothing was changed.
type DamageError struct {
	Path   string // the file
	Remedy string // what the administrator can do, one sentence
	Kind   error  // ErrCorrupt or ErrNewer
	Err    error  // what was found; may be nil
}

func (e *DamageError) Error() string {
	s := e.Path + ": " + e.Kind.Error()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + ". " + e.Remedy
}

// Unwrap makes the error match its kind and its cause.
func (e *DamageError) Unwrap() []error { return []error{e.Kind, e.Err} }

// Records keeps the quarantine's index and small settings. It is safe for
// concurrent use; writers that wait at the same time share one commit.
type Records interface {
	// Insert adds a row; ErrExists if there is one with its ID.
	Insert(ctx context.Context, h *Held) error
	// Held returns one row; ErrNotFound.
	Held(ctx context.Context, id string) (*Held, error)
	// Update reads a row, lets change work on it and writes it back, all in one
	// transaction; ErrNotFound. If change returns an error nothing is written
	// and that error is returned. change must not block or call the store, and
	// may run more than once. It cannot change the ID.
	Update(ctx context.Context, id string, change func(h *Held) error) error
	// Remove deletes rows; those that are not there are no error.
	Remove(ctx context.Context, ids ...string) error
	// Search returns the rows that match, newest first.
	Search(ctx context.Context, q Query) ([]*Held, error)
	// Totals counts the rows, by queue and state.
	Totals(ctx context.Context) ([]Total, error)
	// Setting returns the value set for name; empty if there is none.
	Setting(ctx context.Context, name string) (string, error)
	// Set sets the value for name.
	Set(ctx context.Context, name, value string) error
	// Scrub makes sure that what was removed or overwritten before is no
	// longer in the files either, as far as the place can.
	Scrub(ctx context.Context) error
	// Close ends it. Writes that wait are answered first.
	Close() error
}

// A State is what became of a held message, or of one of its recipients.
type State string

// The states. Only what is held waits for anybody.
const (
	StateHeld     State = "held"
	StateReleased State = "released"
	StateDeleted  State = "deleted" // by a reviewer: the body is gone
	StateErased   State = "erased"  // by a request to forget: the personal fields too
)

// A Held is one row of the quarantine's index. The columns are what can be
// searched; Open and Sealed hold the rest, which the store does not look into.
type Held struct {
	ID          string // sorts by time
	Transaction string
	Queue       string
	Direction   string
	Rule        string
	State       State
	At          time.Time // to the microsecond
	Size        int64     // of the message
	Stored      int64     // of the blob; 0 when there is none any more
	Score       float64

	Author      string // personal from here
	ReversePath string
	Subject     string
	Recipients  []HeldRecipient

	Key    []byte // the body's data key, wrapped; nil: the body cannot be read any more
	Sealed []byte // personal details, encrypted
	Open   []byte // other details
}

// A HeldRecipient is one recipient of a held message.
type HeldRecipient struct {
	Address string // empty when erased
	State   State
	At      time.Time // of the last change of State; zero: none
}

// A Query selects rows. Zero fields select all.
type Query struct {
	ID      string // prefix
	Tx      string // prefix of the transaction
	Queue   string
	State   State
	Rule    string
	From    string    // part of the author or the reverse-path, whatever the case
	To      string    // part of a recipient, whatever the case
	Subject string    // part of the subject, whatever the case
	Address string    // an author, reverse-path or recipient in full, whatever the case
	Since   time.Time // at or after
	Until   time.Time // before
	NoBody  bool      // only those whose key is gone but whose blob is not
	Before  string    // only IDs before this one: the last one of the page before
	Limit   int       // rows; 0 is 100, more than 1,000 is 1,000
}

// Page returns the number of rows that q asks for.
func (q Query) Page() int {
	switch {
	case q.Limit <= 0:
		return 100
	case q.Limit > 1000:
		return 1000
	}
	return q.Limit
}

// A Total counts rows.
type Total struct {
	Queue    string
	State    State
	Messages int
	Size     int64 // of the messages
	Stored   int64 // of the blobs
	Oldest   time.Time
}

// Blobs keeps byte strings under names. Names are letters, digits, "-", "_".
type Blobs interface {
	// Put stores what r gives until EOF and returns its size. If r fails, its
	// error is returned and nothing remains. ErrExists; ErrFull.
	Put(ctx context.Context, name string, r io.Reader) (int64, error)
	// Open returns the blob and its size; ErrNotFound.
	Open(ctx context.Context, name string) (io.ReadCloser, int64, error)
	// Delete removes the blob; one that is not there is no error.
	Delete(ctx context.Context, name string) error
	// List calls visit for each blob, in no order, until it returns an error.
	List(ctx context.Context, visit func(Blob) error) error
}

// A Blob is what List tells of a blob.
type Blob struct {
	Name     string
	Size     int64
	Modified time.Time
}

// A Log keeps lines in the order in which they came. Lines are numbered; the
// first is 1. They hold no zero byte. A Log has one writer.
type Log interface {
	// Repaired says what was set aside at the end when the log was opened, after
	// a crash in the middle of a write; empty if nothing was.
	Repaired() string
	// Append adds lines, each ending with "\n", the first with number first,
	// which must be the one after the last. They are durable when it returns
	// nil. After an error none of them counts, and Append may be called again
	// with the same lines. ErrFull.
	Append(ctx context.Context, first uint64, lines []byte) error
	// Roll ends a section: Cut can cut before what is appended next.
	Roll(ctx context.Context) error
	// Sections lists the sections, oldest first; the last may be empty.
	Sections(ctx context.Context) ([]Section, error)
	// Read calls visit for each line of the section that begins with number
	// first, without its "\n", until visit returns an error. The line is valid
	// during the call only. ErrNotFound.
	Read(ctx context.Context, first uint64, visit func(n uint64, line []byte) error) error
	// Rewrite replaces lines of a section that is not the last. change returns
	// the new line, or nil to keep it.
	Rewrite(ctx context.Context, first uint64, change func(n uint64, line []byte) ([]byte, error)) error
	// Cut removes the sections before the one that begins with number first.
	Cut(ctx context.Context, first uint64) error
	// Close ends it.
	Close() error
}

// A Section is a stretch of a Log.
type Section struct {
	First uint64 // number of its first line
	Lines uint64
	Size  int64
}

// Counters keeps numbers, each for a time. They need not survive a restart.
type Counters interface {
	// Add adds n to the counter and returns the sum. A counter that is not
	// there, or whose time is over, begins at 0 and lasts for ttl; adding to
	// one does not make it last longer.
	Add(ctx context.Context, key string, n int64, ttl time.Duration) (int64, error)
	// Get returns the counter; 0 if it is not there.
	Get(ctx context.Context, key string) (int64, error)
	// Put sets the counter and lets it last for ttl from now.
	Put(ctx context.Context, key string, n int64, ttl time.Duration) error
	// Delete removes the counter.
	Delete(ctx context.Context, key string) error
}
