package spool

import (
	"bytes"
	"hash/crc32"
)

// An extent is a damaged stretch of a segment.
type extent struct {
	from, to int64
	why      error
}

// A scanner finds the frames of a segment.
type scanner struct {
	f      file
	marker marker
	end    int64
	buf    []byte // window
	start  int64  // offset of buf
	failed error  // of the last read of the window
}

// readBlock is how much of a segment is given up where it cannot be read.
const readBlock = 4 << 10

// peek returns n bytes from off on, fewer at the end. They are valid until the
// next call. What cannot be read is zeros, so that it is no frame.
func (sc *scanner) peek(off int64, n int) []byte {
	n = int(min(int64(n), sc.end-off))
	if off >= sc.start && off+int64(n) <= sc.start+int64(len(sc.buf)) {
		return sc.buf[off-sc.start:][:n]
	}
	size := int(min(int64(max(n, readBlock)), sc.end-off))
	if cap(sc.buf) < size {
		sc.buf = make([]byte, size)
	}
	sc.buf, sc.start, sc.failed = sc.buf[:size], off, nil
	if got, err := sc.f.ReadAt(sc.buf, off); got < size {
		clear(sc.buf[got:])
		sc.failed = err
		for at := 0; at < size; at += readBlock {
			block := sc.buf[at:min(at+readBlock, size)]
			if got, _ := sc.f.ReadAt(block, off+int64(at)); got < len(block) {
				clear(block)
			}
		}
	}
	return sc.buf[:n]
}

// all returns the whole frames from off on, and the stretches that are none.
func (sc *scanner) all(off int64) (frames []frame, damaged []extent) {
	for off < sc.end {
		if fr, ok := sc.frame(off); ok {
			frames = append(frames, fr)
			off += fr.size()
			continue
		}
		d := extent{off, sc.search(off + 1), errMalformed}
		empty := true // blocks that the file system gave the file and nobody wrote
		for at := d.from; at < d.to; {
			b := sc.peek(at, int(min(d.to-at, 64<<10)))
			if sc.failed != nil {
				d.why = sc.failed
			}
			empty = empty && sc.failed == nil && len(bytes.Trim(b, "\x00")) == 0
			at += int64(len(b))
		}
		if !empty {
			damaged = append(damaged, d)
		}
		off = d.to
	}
	return frames, damaged
}

// frame reads the frame at off; false if there is no whole one.
func (sc *scanner) frame(off int64) (frame, bool) {
	h, ok := decodeFrameHeader(sc.peek(off, headerSize), sc.marker)
	if !ok || h.size() > sc.end-off {
		return frame{}, false
	}
	b := sc.peek(off+headerSize, int(h.meta))
	if crc32.Checksum(b, castagnoli) != h.metaSum {
		return frame{}, false
	}
	return frame{frameHeader: h, at: off, data: bytes.Clone(b)}, true
}

// search returns the offset of the next whole frame from off on; the end if
// there is none.
func (sc *scanner) search(off int64) int64 {
	for off < sc.end {
		b := sc.peek(off, 256<<10)
		i := bytes.Index(b, sc.marker[:])
		switch {
		case i < 0 && off+int64(len(b)) >= sc.end:
			return sc.end
		case i < 0:
			off += int64(len(b) - len(sc.marker) + 1)
			continue
		}
		off += int64(i)
		if _, ok := sc.frame(off); ok {
			return off
		}
		off++
	}
	return sc.end
}
