package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

var (
	errCannotWrite = errors.New("the spool cannot write")
	errUnsaved     = errors.New("a damaged part could not be kept in the corrupt directory: what it is in stays")
)

// Scrub takes what is left of finished entries out of the log at once, instead
// of after Options.Linger: their contents and envelopes cannot be read any more
// when it returns without an error. Entries that wait stay, and so does what
// lies in the corrupt directory.
func (s *Spool) Scrub(ctx context.Context) error {
	done := make(chan error, 1)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.scrubs = append(s.scrubs, done)
	s.signal()
	s.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("scrub spool: %w", ctx.Err())
	}
}

// soil notes that something in the segment is finished. Spool.mu is held.
func (g *segment) soil() {
	if g.soiled.IsZero() {
		g.soiled = time.Now()
	}
}

// note remembers that the newest state of an item is in g. Spool.mu is held.
func (it *item) note(g *segment) {
	if n := len(it.states); n == 0 || it.states[n-1] != g {
		it.states = append(it.states, g)
	}
}

// soil notes that what the log has of the item so far is finished. Spool.mu is
// held.
func (it *item) soil() {
	it.content.seg.soil()
	for _, g := range it.states {
		g.soil()
	}
}

// noteStates remembers where the state frames of a group were written.
func (s *Spool) noteStates(group []*request) {
	if !slices.ContainsFunc(group, func(r *request) bool { return r.item != nil }) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range group {
		switch {
		case r.item == nil:
		case s.items[r.item.id] == r.item:
			r.item.note(r.seg)
		default: // done meanwhile
			r.seg.soil()
		}
	}
}

// untilScrub returns when the log is to be scrubbed; false: there is nothing
// to do.
func (s *Spool) untilScrub() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first time.Time
	for _, g := range s.w.segments {
		if !g.soiled.IsZero() && (first.IsZero() || g.soiled.Before(first)) {
			first = g.soiled
		}
	}
	if first.IsZero() {
		return 0, false
	}
	return max(time.Until(first.Add(s.opt.Linger)), time.Until(s.w.hold), 0), true
}

// scrubDue scrubs the log if somebody asked for it or if it is time.
func (s *Spool) scrubDue() {
	s.mu.Lock()
	asked := s.scrubs
	s.scrubs = nil
	s.mu.Unlock()
	if len(asked) == 0 {
		if wait, ok := s.untilScrub(); !ok || wait > 0 {
			return
		}
	}
	err := s.scrub()
	if err != nil {
		s.holdCleaning(err)
		err = fmt.Errorf("scrub spool: %w", err)
	}
	for _, done := range asked {
		done <- err
	}
}

// holdCleaning says why the log cannot be cleaned; it is tried again later.
func (s *Spool) holdCleaning(why error) {
	s.w.hold = time.Now().Add(s.opt.Linger)
	if !errors.Is(why, ErrClosed) && !errors.Is(why, errCannotWrite) { // said already
		s.log.Warn("cannot take finished mail out of the spool's log yet", "err", why)
	}
}

// scrub removes every segment that has something of a finished entry. What
// lives there is copied to the end of the log first.
//
// The segments go from the oldest on, each durably before the next. One whose
// entries all live may stay between them: none of these entries has a remove
// frame that could go. Their newest states are written again if they would.
func (s *Spool) scrub() error {
	w := &s.w
	s.flush(true)
	if w.failing {
		return errCannotWrite
	}
	s.mu.Lock()
	dirty := slices.ContainsFunc(w.segments, func(g *segment) bool { return !g.soiled.IsZero() })
	turn := w.active == nil || !w.active.soiled.IsZero()
	s.mu.Unlock()
	if !dirty {
		return nil
	}
	if turn { // the header of the new one also has all voids
		if err := s.nextSegment(); err != nil {
			s.giveUp(nil, err)
			return err
		}
	}
	s.mu.Lock()
	var old []*segment
	for _, g := range w.segments {
		if g != w.active && (!g.soiled.IsZero() || len(g.live) == 0) {
			old = append(old, g)
		}
	}
	s.mu.Unlock()
	for _, g := range old {
		if err := s.scrubSegment(g); err != nil {
			return err
		}
	}
	return nil
}

// scrubSegment copies what lives in g to the end of the log and removes g. What
// else waits to be written is written in between.
func (s *Spool) scrubSegment(g *segment) error {
	if g.unsaved {
		return errUnsaved
	}
	for {
		s.mu.Lock()
		live := len(g.live)
		s.mu.Unlock()
		if live == 0 {
			break
		}
		select {
		case <-s.closing:
			return ErrClosed
		default:
		}
		if err := s.copyForward(g); err != nil {
			return err
		}
		s.flush(false)
		if s.w.failing {
			return errCannotWrite
		}
	}
	if g != s.w.segments[0] {
		if err := s.restate(g); err != nil {
			return err
		}
	}
	return s.removeSegment(g)
}

// restate writes the states again whose newest frame is in g: the entries are
// in older segments, which stay.
func (s *Spool) restate(g *segment) error {
	s.mu.Lock()
	var group []*request
	for _, it := range s.items {
		it.states = slices.DeleteFunc(it.states, func(g *segment) bool { return g.gone })
		if n := len(it.states); n > 0 && it.states[n-1] == g {
			group = append(group, &request{kind: kindState, meta: it.entry, item: it, sync: true})
		}
	}
	s.mu.Unlock()
	return s.writeNow(group)
}

// writeNow writes and syncs a group.
func (s *Spool) writeNow(group []*request) error {
	if len(group) == 0 {
		return nil
	}
	if err := s.writeGroup(group); err != nil {
		s.giveUp(group, err)
		return err
	}
	s.w.unsynced = append(s.w.unsynced, group...)
	if err := s.syncLog(); err != nil {
		s.giveUp(nil, err)
		return err
	}
	return nil
}

// removeSegment removes a segment that nothing needs any more. When it returns
// without an error not even a power failure brings it back: a later segment may
// have the remove frames of its entries.
func (s *Spool) removeSegment(g *segment) error {
	w := &s.w
	if err := s.disk.Remove(g.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove segment: %w", err)
	}
	if err := s.disk.SyncDir(s.logDir()); err != nil {
		return fmt.Errorf("remove segment: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.gone = true
	w.segments = slices.DeleteFunc(slices.Clone(w.segments), func(other *segment) bool { return other == g })
	w.voids = slices.DeleteFunc(slices.Clone(w.voids), func(v void) bool { return v.segment == g.number })
	return nil
}
