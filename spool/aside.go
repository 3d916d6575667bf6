package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// SetAside takes an entry whose content is damaged out of the spool, keeps what
// is left of it in the corrupt directory and raises the alarm. The entries
// that share its content go with it.
func (s *Spool) SetAside(id string, why error) error {
	s.mu.Lock()
	it := s.items[id]
	s.mu.Unlock()
	if it == nil {
		return ErrNotFound
	}
	s.setContentAside(it.content, why)
	return nil
}

// setContentAside takes all entries of a content out and keeps what can be
// read. It waits for nothing: the writer calls it too.
func (s *Spool) setContentAside(c *content, why error) {
	s.mu.Lock()
	items := append([]*item(nil), c.items...)
	var bodies []*body
	for _, it := range items {
		var w encoder
		w.string(it.id)
		bodies = append(bodies, s.drop(it)...)
		s.waiting = append(s.waiting, &request{kind: kindRemove, meta: w.b})
		s.aside++
	}
	s.signal()
	s.mu.Unlock()
	for _, it := range items {
		s.log.Error("an entry of the spool is damaged: it was set aside", "id", it.id, "dir", s.corruptDir(), "err", why)
		name := filepath.Join(s.corruptDir(), safeName(it.id))
		if err := s.save(name+".entry", it.entry); err != nil {
			s.log.Error("cannot save the envelope of a damaged entry", "id", it.id, "err", err)
		}
	}
	for _, b := range bodies {
		if err := s.disk.Rename(filepath.Join(s.bodyDir(), b.name), filepath.Join(s.corruptDir(), b.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Error("cannot set a body aside", "file", b.name, "err", err)
		}
	}
	if c.inline == 0 || len(items) == 0 {
		return
	}
	raw, err := s.readRaw(c.seg.name, c.at, c.inline)
	if err == nil {
		err = s.save(filepath.Join(s.corruptDir(), safeName(items[0].id)+".content"), raw)
	}
	if err != nil {
		s.log.Error("cannot save the content of a damaged entry", "id", items[0].id, "err", err)
	}
}

// readRaw reads what there is of [at, at+n) of a segment, right or wrong. What
// cannot be read is zeros.
func (s *Spool) readRaw(name string, at, n int64) ([]byte, error) {
	f, err := s.disk.Open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sc := &scanner{f: f, end: at + n}
	return sc.peek(at, int(n)), nil
}

// save writes a file into the corrupt directory and syncs it.
func (s *Spool) save(name string, b []byte) error {
	f, err := s.disk.Open(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// saveDamage keeps a damaged stretch of a segment. One that an earlier Open has
// kept is not reported again. A failure to keep it must not keep the gateway
// from starting: it stays in the segment for a while. It reports whether it was
// kept.
func (s *Spool) saveDamage(g *segment, d extent) bool {
	name := filepath.Join(s.corruptDir(), fmt.Sprintf("%016x-%d.frames", g.number, d.from))
	if _, err := s.disk.Size(name); err == nil {
		return true
	}
	s.aside++
	b, err := s.readRaw(g.name, d.from, d.to-d.from)
	if err == nil {
		err = s.save(name, b)
	}
	s.log.Error("part of the spool's log is damaged or was never finished: it was set aside",
		"file", g.name, "from", d.from, "to", d.to, "why", d.why, "kept", name, "err", err)
	return err == nil
}

// moveAside moves a whole segment to the corrupt directory.
func (s *Spool) moveAside(name string, why error) {
	to := filepath.Join(s.corruptDir(), filepath.Base(name))
	s.aside++
	err := s.disk.Rename(name, to)
	s.log.Error("a segment of the spool cannot be read: the mail in it was set aside", "file", name, "why", why, "kept", to, "err", err)
}

// safeName makes a file name of an id.
func safeName(id string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}, id)
	return "entry-" + name[:min(len(name), 100)]
}
