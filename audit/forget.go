package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"postern/store"
)

// An Erasure tells what Forget erased.
type Erasure struct {
	Records int `json:"records"`
	Values  int `json:"values"`
}

// Forget erases the personal values that mention address, with their salts,
// from all records so far, and appends a record of it: actor is who asked for
// it. The values of a record's client go with its reverse-path, author or
// actor. Free text (why, reply, reason) goes with any of its values: it quotes
// subjects, addresses and domains. The other party's address stays. The chain
// still verifies.
func (l *Log) Forget(ctx context.Context, address, actor string) (Erasure, error) {
	var done Erasure
	if address == "" {
		return done, errors.New("forget: no address")
	}
	if err := l.endSection(ctx); err != nil {
		return done, fmt.Errorf("forget in audit log: %w", err)
	}
	sections, err := l.o.Log.Sections(ctx)
	if err != nil {
		return done, fmt.Errorf("forget in audit log: %w", err)
	}
	for _, s := range sections[:len(sections)-1] {
		err := l.o.Log.Rewrite(ctx, s.First, func(n uint64, text []byte) ([]byte, error) {
			if !containsFold(text, address) {
				return nil, nil
			}
			replaced, values, err := erase(text, address)
			if err != nil {
				return nil, &BadRecord{n, err.Error()}
			}
			if values > 0 {
				done.Records++
				done.Values += values
			}
			return replaced, nil
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) { // not found: cut off meanwhile
			return done, fmt.Errorf("forget in audit log: %w", err)
		}
	}
	return done, l.Append(ctx, Record{Event: Forgotten, Actor: actor,
		Detail: fmt.Sprintf("%d values in %d audit records were erased", done.Values, done.Records)})
}

// endSection makes all records so far durable and lets a new section begin.
func (l *Log) endSection(ctx context.Context) error {
	now := l.o.Now().UTC().Truncate(time.Millisecond)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return store.ErrClosed
	}
	l.checkpoint(now)
	l.mu.Unlock()
	return l.flush(ctx)
}

// erase returns the line without the values that mention address, and how many
// these were; nil if none.
func erase(text []byte, address string) ([]byte, int, error) {
	l, err := parse(text)
	if err != nil {
		return nil, 0, err
	}
	r := l.record()
	var gone []string
	for i, v := range r.personal() {
		if *v != "" && mentions(*v, address) {
			gone = append(gone, personalNames[i])
		}
	}
	if len(gone) == 0 {
		return nil, 0, nil
	}
	if slices.ContainsFunc(gone, func(name string) bool { return name == "from" || name == "author" || name == "actor" }) {
		gone = append(gone, "client", "helo")
	}
	gone = append(gone, "why", "reply", "reason")
	values := 0
	out := []byte(`,"values":{`)
	sep := `"`
	for _, name := range personalNames {
		v, ok := l.Values[name]
		if !ok {
			continue
		}
		if slices.Contains(gone, name) {
			values++
			continue
		}
		out = append(append(out, sep...), name...)
		out = appendString(append(out, `":[`...), v[0])
		out = appendString(append(out, ','), v[1])
		out = append(out, ']')
		sep = `,"`
	}
	out = appendLine(nil, l.Record, l.hash, append(out, '}'))
	return out[:len(out)-1], values, nil
}

// Cut removes records from before that time, as far as whole sections reach,
// and returns how many. What is left begins with a signed checkpoint, so it
// still verifies. The caller makes sure that the clock can be trusted.
func (l *Log) Cut(ctx context.Context, before time.Time) (uint64, error) {
	sections, err := l.o.Log.Sections(ctx)
	if err != nil {
		return 0, fmt.Errorf("cut audit log: %w", err)
	}
	keep := 0
	for i := 1; i < len(sections) && sections[i].Lines > 0; i++ {
		at, err := begins(ctx, l.o.Log, sections[i])
		if err != nil {
			return 0, fmt.Errorf("cut audit log: %w", err)
		}
		if !at.IsZero() && at.Before(before) {
			keep = i
		}
	}
	if keep == 0 {
		return 0, nil
	}
	first := sections[keep].First
	removed := first - sections[0].First
	err = l.Append(ctx, Record{Event: CutOff, Detail: fmt.Sprintf("records %d to %d, from before %s, were removed",
		sections[0].First, first-1, before.UTC().Format(time.RFC3339))})
	if err != nil {
		return 0, err
	}
	if err := l.moveFirst(first); err != nil {
		return 0, fmt.Errorf("cut audit log: %w", err)
	}
	if err := l.o.Log.Cut(ctx, first); err != nil {
		return 0, fmt.Errorf("cut audit log: %w", err)
	}
	return removed, nil
}

// moveFirst notes durably, before anything is removed, that the log may begin
// with number first.
func (l *Log) moveFirst(first uint64) error {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	head, ok, err := l.head.read(l.PublicKey())
	if err != nil || !ok {
		return errors.Join(err, errors.New("the head cannot be read"))
	}
	l.first = max(l.first, first)
	head.First = l.first
	if err := l.head.write(head, l.key); err != nil {
		return err
	}
	return l.head.f.Sync()
}

// errStop ends a read early.
var errStop = errors.New("stop")

// begins returns the time of the checkpoint with which a section begins; the
// zero time if it begins with something else.
func begins(ctx context.Context, log store.Log, s store.Section) (time.Time, error) {
	var at time.Time
	err := log.Read(ctx, s.First, func(n uint64, text []byte) error {
		l, err := parse(text)
		if err != nil {
			return &BadRecord{n, err.Error()}
		}
		if l.fields.Event == Checkpoint {
			at = l.fields.At
		}
		return errStop
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return at, err
}
