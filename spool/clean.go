package spool

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// clean removes the oldest segments that nothing needs any more. If live
// entries hold up a log that is mostly dead, it copies some of them forward, and
// reports true if there are more to copy.
//
// Only the oldest segment is removed here: so the record that an entry is done
// outlives the record that it began. Scrub has to look closer.
func (s *Spool) clean() bool {
	w := &s.w
	if !w.hold.IsZero() && time.Now().Before(w.hold) {
		return false
	}
	for len(w.segments) > 0 && w.segments[0] != w.active {
		oldest := w.segments[0]
		s.mu.Lock()
		empty := len(oldest.live) == 0
		s.mu.Unlock()
		if !empty {
			break
		}
		if err := s.removeSegment(oldest); err != nil {
			s.holdCleaning(err)
			return false
		}
	}
	if !s.wasteful() {
		return false
	}
	if err := s.copyForward(w.segments[0]); err != nil {
		s.holdCleaning(err)
		return false
	}
	return true
}

// wasteful reports whether the log is mostly dead.
func (s *Spool) wasteful() bool {
	w := &s.w
	if len(w.segments) < 2 || w.failing || w.segments[0] == w.active {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var total, live int64
	for _, g := range w.segments {
		total += g.size
		live += g.bytes
	}
	return total > 2*live+3*s.opt.Segment
}

// copyForward copies up to a megabyte of live contents from g to the end of the
// log, with the present state of their entries. A content that is damaged or on
// a bad block is set aside; if one cannot be read for another reason, they all
// stay where they are.
func (s *Spool) copyForward(g *segment) error {
	s.mu.Lock()
	var batch []*content
	var size int64
	for c := range g.live {
		if size += c.inline; size > stagingSize && len(batch) > 0 {
			break
		}
		batch = append(batch, c)
	}
	s.mu.Unlock()
	var group []*request
	for _, c := range batch {
		inline, err := s.readInline(c)
		switch {
		case errors.Is(err, ErrCorrupt), errors.Is(err, syscall.EIO):
			s.setContentAside(c, err)
			continue
		case err != nil:
			return fmt.Errorf("copy content: %w", err)
		}
		s.mu.Lock()
		r := forward(c, inline)
		s.mu.Unlock()
		if r != nil {
			group = append(group, r)
		}
	}
	return s.writeNow(group)
}

// forward makes the frame that copies c forward; nil if nobody needs c any
// more. Spool.mu is held.
func forward(c *content, inline []byte) *request {
	if len(c.items) == 0 {
		return nil
	}
	l := c.layout
	l.off = 0
	cm := &commit{layouts: []layout{l}, bodies: [][]*body{c.bodies}, moved: c}
	for _, it := range c.items {
		cm.copies = append(cm.copies, copyMeta{0, it.entry})
		cm.ids = append(cm.ids, it.id)
	}
	r := &request{kind: kindCommit, meta: encodeCommit(cm.layouts, cm.copies), bodySize: l.inline, commit: cm, sync: true}
	if len(inline) > 0 {
		r.body = [][]byte{inline}
	}
	return r
}

// move makes the live entries of old those of its copy c. s.mu is held.
func (s *Spool) move(old, c *content, copies int) []*body {
	if len(old.items) < copies {
		c.seg.soil() // done meanwhile: the records of that come after the copy
	}
	if len(old.items) == 0 {
		return nil
	}
	c.items = old.items
	for _, it := range c.items {
		it.soil()
		it.content, it.states = c, nil
	}
	old.seg.forget(old)
	c.seg.remember(c)
	return nil
}
