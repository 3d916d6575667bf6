package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
)

// A segment file begins with a segment header; frames follow it. A frame is
// one step of the log, whole or not at all: a frame header of fixed length,
// then meta, then bytes of content. All numbers are little-endian.
//
// The checksums of header and meta stand in the header, those of the content in
// the meta: so Open reads the log without reading the mail.
const (
	segmentMagic   = "PostSeg1"
	segmentVersion = 1
	frameVersion   = 1
	headerSize     = 48

	maxMeta = 64 << 20
	maxBody = math.MaxInt32
)

// A kind is what a frame does.
type kind uint8

const (
	kindCommit kind = 1 // contents, and the entries that are to be delivered: all or none
	kindState  kind = 2 // the new state of an entry
	kindRemove kind = 3 // an entry that is done
)

// A marker stands at the head of every frame of a segment. It is drawn at
// random for each segment, so that nobody can put into a mail what looks like
// a frame when a damaged segment is searched for the next whole one.
type marker [8]byte

// A void says that nothing at or after an offset of an earlier segment counts:
// a write or fsync there failed, and who waited for it was told so.
type void struct {
	segment uint64
	from    int64
}

// A segmentHeader begins a segment file.
type segmentHeader struct {
	number uint64
	marker marker
	voids  []void
}

func (h *segmentHeader) encode() []byte {
	var w encoder
	w.uint(segmentVersion)
	w.uint(h.number)
	w.b = append(w.b, h.marker[:]...)
	w.uint(uint64(len(h.voids)))
	for _, v := range h.voids {
		w.uint(v.segment)
		w.int(v.from)
	}
	return rawSegmentHeader(w.b)
}

func rawSegmentHeader(payload []byte) []byte {
	b := []byte(segmentMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

// segmentPrefix is what stands before the payload of a segment header.
const segmentPrefix = len(segmentMagic) + 8

// payloadLength returns the length of what follows the prefix of a segment
// header; zero if b is no such prefix.
func payloadLength(b []byte) int64 {
	if len(b) < segmentPrefix || string(b[:len(segmentMagic)]) != segmentMagic {
		return 0
	}
	return int64(binary.LittleEndian.Uint32(b[len(segmentMagic):]))
}

// decodeSegmentHeader reads a segment header from the first bytes of a file and
// returns its length.
func decodeSegmentHeader(b []byte) (segmentHeader, int, error) {
	var h segmentHeader
	if len(b) < segmentPrefix || string(b[:len(segmentMagic)]) != segmentMagic {
		return h, 0, fmt.Errorf("%w: no segment header", errMalformed)
	}
	n := binary.LittleEndian.Uint32(b[8:])
	sum := binary.LittleEndian.Uint32(b[12:])
	if uint64(n) > uint64(len(b)-segmentPrefix) {
		return h, 0, fmt.Errorf("%w: segment header is cut", errMalformed)
	}
	payload := b[segmentPrefix : segmentPrefix+int(n)]
	if crc32.Checksum(payload, castagnoli) != sum {
		return h, 0, fmt.Errorf("%w: checksum of segment header", errMalformed)
	}
	r := &decoder{b: payload}
	if v := r.uint(); r.err == nil && v != segmentVersion {
		return h, 0, fmt.Errorf("%w: segment version %d", errVersion, v)
	}
	h.number = r.uint()
	if len(r.b) < len(h.marker) {
		r.fail()
	} else {
		r.b = r.b[copy(h.marker[:], r.b):]
	}
	for range r.count() {
		h.voids = append(h.voids, void{r.uint(), r.int()})
	}
	return h, segmentPrefix + int(n), r.err
}

// A frameHeader begins a frame.
type frameHeader struct {
	version uint8
	kind    kind
	epoch   uint64 // number of syncs of the segment before the frame was written
	meta    int64  // length of meta
	body    int64  // length of the content bytes
	metaSum uint32
}

func (h *frameHeader) encode(b []byte, m marker) []byte {
	at := len(b)
	b = append(b, m[:]...)
	b = append(b, h.version, byte(h.kind), 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.meta))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.body))
	b = binary.LittleEndian.AppendUint64(b, h.epoch)
	b = binary.LittleEndian.AppendUint32(b, h.metaSum)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

// decodeFrameHeader reads a frame header; false if b does not begin with a whole
// one of this segment.
func decodeFrameHeader(b []byte, m marker) (frameHeader, bool) {
	if len(b) < headerSize || !bytes.Equal(b[:8], m[:]) {
		return frameHeader{}, false
	}
	b = b[:headerSize]
	if crc32.Checksum(b[:headerSize-4], castagnoli) != binary.LittleEndian.Uint32(b[headerSize-4:]) {
		return frameHeader{}, false
	}
	h := frameHeader{
		version: b[8],
		kind:    kind(b[9]),
		meta:    int64(binary.LittleEndian.Uint32(b[12:])),
		body:    int64(binary.LittleEndian.Uint64(b[16:])),
		epoch:   binary.LittleEndian.Uint64(b[24:]),
		metaSum: binary.LittleEndian.Uint32(b[32:]),
	}
	return h, h.meta <= maxMeta && h.body >= 0 && h.body <= maxBody
}

// size returns the length of the whole frame.
func (h *frameHeader) size() int64 { return headerSize + h.meta + h.body }

// A piece is a run of bytes of a content: from the frame's body or from a file
// in the body directory.
type piece struct {
	file int // index into layout.files; -1: the frame's body
	off  int64
	n    int64
}

// A bodyFile is a file in the body directory as the log knows it.
type bodyFile struct {
	name string
	size int64
	sum  uint32
}

// A layout says where the bytes of one content lie.
type layout struct {
	size   int64 // of the content
	off    int64 // of its inline bytes in the frame's body
	inline int64 // number of inline bytes
	sum    uint32
	pieces []piece
	files  []bodyFile
}

func (w *encoder) layout(l *layout) {
	w.int(l.size)
	w.int(l.off)
	w.int(l.inline)
	w.uint(uint64(l.sum))
	w.uint(uint64(len(l.files)))
	for _, f := range l.files {
		w.string(f.name)
		w.int(f.size)
		w.uint(uint64(f.sum))
	}
	w.uint(uint64(len(l.pieces)))
	for _, p := range l.pieces {
		w.int(int64(p.file))
		w.int(p.off)
		w.int(p.n)
	}
}

// layout reads a layout and checks that its pieces lie within what they are
// pieces of, and that a content that lies in the log alone is one piece.
func (r *decoder) layout(body int64) layout {
	l := layout{size: r.int(), off: r.int(), inline: r.int(), sum: uint32(r.uint())}
	if l.off < 0 || l.inline < 0 || l.off > body || l.inline > body-l.off {
		r.fail()
	}
	for range r.count() {
		f := bodyFile{name: r.string(), size: r.int(), sum: uint32(r.uint())}
		if f.name == "" || f.name[0] == '.' || strings.ContainsAny(f.name, "/\\\x00") || f.size < 0 {
			r.fail()
		}
		l.files = append(l.files, f)
	}
	var sum int64
	for range r.count() {
		p := piece{file: int(r.int()), off: r.int(), n: r.int()}
		whole := l.inline
		if p.file >= len(l.files) || p.file < -1 {
			r.fail()
		} else if p.file >= 0 {
			whole = l.files[p.file].size
		}
		if p.off < 0 || p.n < 0 || p.off > whole || p.n > whole-p.off || sum > math.MaxInt64-p.n {
			r.fail()
		}
		if r.err != nil {
			return layout{}
		}
		sum += p.n
		l.pieces = append(l.pieces, p)
	}
	if sum != l.size || len(l.files) == 0 && (len(l.pieces) > 1 || sum != l.inline) {
		r.fail()
	}
	return l
}

// A copyMeta is one entry of a commit frame: its content and itself, encoded.
type copyMeta struct {
	content int
	entry   []byte
}

// encodeCommit makes the meta of a commit frame.
func encodeCommit(layouts []layout, copies []copyMeta) []byte {
	var w encoder
	n := 16
	for _, c := range copies {
		n += len(c.entry) + 8
	}
	w.b = make([]byte, 0, n+64*len(layouts))
	w.uint(uint64(len(layouts)))
	for i := range layouts {
		w.layout(&layouts[i])
	}
	w.uint(uint64(len(copies)))
	for _, c := range copies {
		w.uint(uint64(c.content))
		w.bytes(c.entry)
	}
	return w.b
}

// decodeCommit reads the meta of a commit frame whose body has so many bytes.
// The entries stay encoded; their bytes are b's.
func decodeCommit(b []byte, body int64) ([]layout, []copyMeta, error) {
	r := &decoder{b: b}
	var layouts []layout
	for range r.count() {
		layouts = append(layouts, r.layout(body))
		if r.err != nil {
			return nil, nil, r.err
		}
	}
	var copies []copyMeta
	for range r.count() {
		n := r.uint()
		if n >= uint64(len(layouts)) {
			r.fail()
		}
		copies = append(copies, copyMeta{int(n), r.bytes()})
		if r.err != nil {
			return nil, nil, r.err
		}
	}
	if len(r.b) > 0 {
		r.fail()
	}
	return layouts, copies, r.err
}
