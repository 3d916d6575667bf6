package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"postern/store"
)

// A Query selects records. Zero fields select all.
type Query struct {
	Events  []Event
	ID      string // of the transaction or the held message
	Rule    string
	Actor   string
	Address string    // in any personal field, whatever the case
	Since   time.Time // at or after
	Limit   int       // the last so many; 0 is 100
}

// matches reports whether r is selected.
func (q *Query) matches(r *Record) bool {
	switch {
	case len(q.Events) > 0 && !slices.Contains(q.Events, r.Event),
		q.ID != "" && r.ID != q.ID && r.Item != q.ID,
		q.Rule != "" && r.Rule != q.Rule,
		q.Actor != "" && r.Actor != q.Actor,
		!q.Since.IsZero() && r.At.Before(q.Since):
		return false
	}
	if q.Address == "" {
		return true
	}
	for _, v := range r.personal() {
		if mentions(*v, q.Address) {
			return true
		}
	}
	return false
}

// mayMatch reports, without taking the line apart, whether it can be selected.
func (q *Query) mayMatch(text []byte) bool {
	for _, want := range []string{q.ID, q.Rule, q.Actor} {
		if want != "" && !bytes.Contains(text, appendString(nil, want)) {
			return false
		}
	}
	return q.Address == "" || containsFold(text, q.Address)
}

// containsFold reports whether text has s in it, whatever the case.
func containsFold(text []byte, s string) bool {
	quoted := appendString(nil, strings.ToLower(s))
	return bytes.Contains(bytes.ToLower(text), quoted[1:len(quoted)-1])
}

// List returns the last records that match, oldest first.
func (l *Log) List(ctx context.Context, q Query) ([]Record, error) {
	if err := l.Sync(ctx); err != nil {
		return nil, err
	}
	return List(ctx, l.o.Log, q)
}

// List returns the last records of a log that match, oldest first.
func List(ctx context.Context, log store.Log, q Query) ([]Record, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	sections, err := log.Sections(ctx)
	if err != nil {
		return nil, fmt.Errorf("list audit records: %w", err)
	}
	var found []Record
	for i := len(sections) - 1; i >= 0 && len(found) < q.Limit; i-- {
		var here []Record
		err := scan(ctx, log, sections[i], &q, func(r Record, _ []byte) error {
			here = append(here, r)
			if len(here) > 2*q.Limit {
				here = append(here[:0], here[len(here)-q.Limit:]...)
			}
			return nil
		})
		if errors.Is(err, store.ErrNotFound) {
			break // cut off meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list audit records: %w", err)
		}
		found = append(here, found...)
	}
	if len(found) > q.Limit {
		found = found[len(found)-q.Limit:]
	}
	return found, nil
}

// scan visits the records of a section that match.
func scan(ctx context.Context, log store.Log, s store.Section, q *Query, visit func(r Record, text []byte) error) error {
	return log.Read(ctx, s.First, func(n uint64, text []byte) error {
		if !q.mayMatch(text) {
			return nil
		}
		l, err := parse(text)
		if err != nil {
			return &BadRecord{n, err.Error()}
		}
		if r := l.record(); q.matches(&r) {
			return visit(r, text)
		}
		return nil
	})
}

// Export writes the records of a log that match as JSON lines, oldest first, in
// the form in which they are stored: the chain of an export without gaps can be
// verified. It takes no notice of Limit.
func Export(ctx context.Context, log store.Log, w io.Writer, q Query) error {
	sections, err := log.Sections(ctx)
	if err != nil {
		return fmt.Errorf("export audit records: %w", err)
	}
	out := bufio.NewWriterSize(w, 1<<16)
	for _, s := range sections {
		err := scan(ctx, log, s, &q, func(_ Record, text []byte) error {
			out.Write(text) // errors stick
			return out.WriteByte('\n')
		})
		if err != nil {
			return fmt.Errorf("export audit records: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("export audit records: %w", err)
	}
	return nil
}
