package store

import "context"

// Tallies counts what was seen, by day and subject, until it is told to somebody.
// It is safe for concurrent use.
type Tallies interface {
	// Tally adds counts, all in one commit. What would be more rows than limit of
	// one subject, or is of a subject that is closed, is left out; the sum of those
	// counts is returned.
	Tally(ctx context.Context, tallies []Tally, limit int) (left int64, err error)
	// Subjects returns all subjects, the oldest day first, then by name.
	Subjects(ctx context.Context) ([]Subject, error)
	// Rows returns the rows of a subject with their counts, the largest first. A
	// subject that is closed or not there has none.
	Rows(ctx context.Context, day, name string) ([]Tally, error)
	// Note keeps a state for a subject. If closed it removes its rows and what is
	// known of it, and no more are added. ErrNotFound.
	Note(ctx context.Context, day, name string, state []byte, closed bool) error
	// Expire removes the subjects of the days before a day, with their rows, and
	// returns how many there were, and how many of them were not closed.
	Expire(ctx context.Context, before string) (removed, open int, err error)
}

// A Tally is how often something was seen on a day.
type Tally struct {
	Day   string // "2026-11-21"
	Name  string // of the subject
	About []byte // what is known of the subject: what was said last holds
	Row   []byte // what was seen; not looked into
	Count int64
}

// A Subject is what was seen of something on a day, all together.
type Subject struct {
	Day, Name string
	About     []byte
	Rows      int   // kept
	Count     int64 // of all rows, those that were removed among them
	State     []byte
	Closed    bool
}
