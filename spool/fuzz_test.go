package spool

import (
	"bytes"
	"testing"
)

func FuzzDecodeEntry(f *testing.F) {
	e := fullEntry()
	var w encoder
	w.entry(&e)
	f.Add(w.b)
	w.b = nil
	w.entry(&Entry{ID: "x"})
	f.Add(w.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b)
		if err != nil {
			return
		}
		// What was read can be written, and reads the same.
		var one encoder
		one.entry(&e)
		again, err := decodeEntry(one.b)
		if err != nil {
			t.Fatalf("%x: read once, not twice: %v", b, err)
		}
		var two encoder
		two.entry(&again)
		if !bytes.Equal(one.b, two.b) {
			t.Errorf("%x: written differently", b)
		}
	})
}

func FuzzDecodeCommit(f *testing.F) {
	e := fullEntry()
	var w encoder
	w.entry(&e)
	f.Add(encodeCommit([]layout{
		{size: 10, inline: 10, pieces: []piece{{-1, 0, 10}}},
		{size: 7, off: 10, inline: 3, pieces: []piece{{-1, 0, 3}, {0, 5, 4}}, files: []bodyFile{{"name", 9, 1}}},
	}, []copyMeta{{0, w.b}, {1, w.b}}), int64(13))
	f.Fuzz(func(t *testing.T, b []byte, body int64) {
		layouts, copies, err := decodeCommit(b, max(body, 0))
		if err != nil {
			return
		}
		for _, l := range layouts {
			if l.off < 0 || l.inline < 0 || l.off+l.inline > max(body, 0) {
				t.Errorf("content outside of its frame: %+v", l)
			}
			for _, f := range l.files {
				if bytes.ContainsAny([]byte(f.name), "/\x00") {
					t.Errorf("file %q", f.name)
				}
			}
		}
		for _, c := range copies {
			if c.content >= len(layouts) {
				t.Errorf("copy of content %d of %d", c.content, len(layouts))
			}
		}
	})
}

// FuzzScan gives the scanner a damaged segment: it must come to an end and
// return only frames that were written.
func FuzzScan(f *testing.F) {
	h := segmentHeader{number: 3, marker: marker{1, 2, 3, 4, 5, 6, 7, 8}, voids: []void{{2, 100}}}
	seg := h.encode()
	start := len(seg)
	for i := range 3 {
		fh := frameHeader{version: frameVersion, kind: kindRemove, epoch: uint64(i)}
		seg = fh.encode(seg, h.marker)
	}
	f.Add(seg, 60, byte(1))
	f.Add(seg[:len(seg)-3], 0, byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at int, flip byte) {
		b = bytes.Clone(b)
		if at >= 0 && at < len(b) {
			b[at] ^= flip
		}
		got, n, err := decodeSegmentHeader(b)
		if err != nil {
			n, got.marker = min(start, len(b)), h.marker
		}
		sc := &scanner{f: &memHandle{d: newMemDisk(), f: &memFile{data: b}}, marker: got.marker, end: int64(len(b))}
		frames, damaged := sc.all(int64(n))
		at64 := int64(n)
		for _, fr := range frames {
			if fr.at < at64 || fr.at+fr.size() > int64(len(b)) {
				t.Fatalf("frame at %d of %d bytes, after %d", fr.at, fr.size(), at64)
			}
			at64 = fr.at + fr.size()
		}
		for _, d := range damaged {
			if d.from < 0 || d.to <= d.from || d.to > int64(len(b)) {
				t.Fatalf("damage %+v", d)
			}
		}
	})
}
