package spool

import "slices"

// clean removes the oldest segments that nothing needs any more. If live
// entries hold up a log that is mostly dead, it copies some of them forward, and
// reports true if there are more to copy.
//
// Only the oldest segment is ever removed: so the record that an entry is done
// outlives the record that it began.
func (s *Spool) clean() bool {
	w := &s.w
	for len(w.segments) > 0 && w.segments[0] != w.active {
		oldest := w.segments[0]
		s.mu.Lock()
		empty := len(oldest.live) == 0
		s.mu.Unlock()
		if !empty {
			break
		}
		s.removeQuietly(oldest.name)
		s.mu.Lock()
		w.segments = w.segments[1:]
		s.mu.Unlock()
		w.voids = slices.DeleteFunc(w.voids, func(v void) bool { return v.segment <= oldest.number })
	}
	if !s.wasteful() {
		return false
	}
	return s.copyForward(w.segments[0])
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
// log, with the present state of their entries. A content that cannot be read
// is set aside.
func (s *Spool) copyForward(g *segment) bool {
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
		if err != nil {
			s.setContentAside(c, err)
			continue
		}
		s.mu.Lock()
		r := forward(c, inline)
		s.mu.Unlock()
		if r != nil {
			group = append(group, r)
		}
	}
	if len(group) == 0 {
		return len(batch) > 0
	}
	if err := s.writeGroup(group); err != nil {
		s.giveUp(group, err)
		return false
	}
	s.w.unsynced = append(s.w.unsynced, group...)
	if err := s.syncLog(); err != nil {
		s.giveUp(nil, err)
		return false
	}
	return true
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
func (s *Spool) move(old, c *content) []*body {
	if len(old.items) == 0 {
		return nil // all done meanwhile: the records of that come after the copy
	}
	c.items = old.items
	for _, it := range c.items {
		it.content = c
	}
	old.seg.forget(old)
	c.seg.remember(c)
	return nil
}
