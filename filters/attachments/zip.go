package attachments

import (
	"bytes"
	"cmp"
	"compress/bzip2"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// Signatures of the records of a ZIP file (APPNOTE.TXT section 4.3).
const (
	zipLocal     = "PK\x03\x04"
	zipDirectory = "PK\x01\x02"
	zipEnd       = "PK\x05\x06"
)

// Lengths of these records without their variable fields.
const (
	localSize     = 30
	directorySize = 46
	endSize       = 22
)

const (
	maxEnds      = 8       // end records that are followed: archives glued together
	maxTries     = 64      // places that look like an end record
	maxBefore    = 1 << 16 // bytes between an end record and what belongs to it
	maxLocals    = 100_000 // local headers that are looked at
	flagCrypt    = 1 << 0
	flagUTF8     = 1 << 11
	methodStore  = 0
	methodFlate  = 8
	methodBzip2  = 12
	methodAES    = 99
	unixSymlink  = 0xa000
	unixTypeMask = 0xf000
)

// A zipMember is one file of a ZIP archive, as one reader would see it.
type zipMember struct {
	name      string
	header    int64 // offset of the local header
	data      int64 // offset of the data
	packed    int64 // bytes of data; -1 when nobody knows
	size      int64 // as declared
	method    uint16
	encrypted bool
	symlink   bool
}

// A zipFile is what a ZIP archive holds for any reader: those that go by the
// central directory, by any of several, and those that go by local headers.
type zipFile struct {
	b       []byte
	members []zipMember
	odd     []string // in what readers differ
	damaged []string // what could not be followed
	overlap bool     // members share their data: a bomb
}

// readZip lists the archive. Directories are left out.
func readZip(b []byte, limit int) *zipFile {
	z := &zipFile{b: b}
	seen := map[int64]bool{}
	directories := 0
	for _, end := range z.ends() {
		if z.within(int64(end)) {
			continue // of an archive in the archive
		}
		if directories++; directories == 2 {
			z.note(&z.odd, "it has several central directories")
		}
		z.readDirectory(end, limit, seen)
	}
	if directories == 0 {
		z.note(&z.damaged, "it has no central directory")
	}
	z.readHidden(limit, seen)
	if len(z.members) >= limit {
		z.members = z.members[:limit]
		z.note(&z.damaged, fmt.Sprintf("it has more than %d members", limit))
	}
	z.checkOverlap()
	return z
}

func (z *zipFile) note(list *[]string, what string) {
	if len(*list) < 8 && !slices.Contains(*list, what) {
		*list = append(*list, what)
	}
}

// within reports whether off lies in the data of a member.
func (z *zipFile) within(off int64) bool {
	for i := range z.members {
		if m := &z.members[i]; m.data <= off && off < m.data+m.packed {
			return true
		}
	}
	return false
}

// ends returns the offsets of the end records, the last first. One that stands
// in the comment of another counts too: readers differ about it.
func (z *zipFile) ends() (offsets []int) {
	b := z.b
	for range maxTries {
		i := bytes.LastIndex(b, []byte(zipEnd))
		if i < 0 || len(offsets) == maxEnds {
			break
		}
		if i+endSize <= len(z.b) && z.plausibleEnd(i) {
			offsets = append(offsets, i)
		}
		b = b[:i]
	}
	return offsets
}

// plausibleEnd tells an end record from four bytes of data that look like it:
// its directory is where it says, or right before it.
func (z *zipFile) plausibleEnd(i int) bool {
	size, _, _ := z.directory(i)
	return size == 0 || z.directoryAt(i) >= 0
}

// directory reads an end record: size and offset of the central directory and
// the number of its members. Those of ZIP64 stand in a record before it.
func (z *zipFile) directory(i int) (size, offset, count int64) {
	e := z.b[i:]
	count = int64(binary.LittleEndian.Uint16(e[10:]))
	size = int64(binary.LittleEndian.Uint32(e[12:]))
	offset = int64(binary.LittleEndian.Uint32(e[16:]))
	if offset != 0xffffffff && size != 0xffffffff && count != 0xffff {
		return size, offset, count
	}
	if j := z.before(i, "PK\x06\x06"); j >= 0 && j+56 <= i {
		e = z.b[j:]
		return int64(binary.LittleEndian.Uint64(e[40:])), int64(binary.LittleEndian.Uint64(e[48:])), int64(binary.LittleEndian.Uint64(e[32:]))
	}
	return size, offset, count
}

// directoryAt returns where the directory of the end record at i begins; -1 if
// there is none. What stands before the archive shifts all offsets.
func (z *zipFile) directoryAt(i int) int {
	size, offset, _ := z.directory(i)
	for _, at := range []int64{int64(i) - size, offset} {
		if at >= 0 && at < int64(i) && bytes.HasPrefix(z.b[at:], []byte(zipDirectory)) {
			return int(at)
		}
	}
	// The directory of a ZIP64 archive does not end where this record begins.
	if size == 0xffffffff {
		return z.before(i, zipDirectory)
	}
	return -1
}

// before returns where a record stands that must be a little before i; -1 if
// there is none.
func (z *zipFile) before(i int, record string) int {
	from := max(0, i-maxBefore)
	if j := bytes.LastIndex(z.b[from:i], []byte(record)); j >= 0 {
		return from + j
	}
	return -1
}

// readDirectory lists what one central directory names.
func (z *zipFile) readDirectory(end, limit int, seen map[int64]bool) {
	at := z.directoryAt(end)
	if at < 0 {
		return
	}
	size, offset, _ := z.directory(end)
	shift := max(0, int64(end)-size-offset)
	if int64(end)-size != int64(at) {
		shift = 0
	}
	for b := z.b[at:end]; len(b) >= directorySize && bytes.HasPrefix(b, []byte(zipDirectory)); {
		n := int(binary.LittleEndian.Uint16(b[28:]))
		x := int(binary.LittleEndian.Uint16(b[30:]))
		c := int(binary.LittleEndian.Uint16(b[32:]))
		if len(b) < directorySize+n+x+c {
			z.note(&z.damaged, "its central directory is cut")
			break
		}
		z.addEntry(b[:directorySize+n+x], shift, seen)
		if len(z.members) >= limit {
			return
		}
		b = b[directorySize+n+x+c:]
	}
}

// addEntry adds the member that an entry of a central directory names, and the
// one that its local header names if that is another.
func (z *zipFile) addEntry(e []byte, shift int64, seen map[int64]bool) {
	n := int(binary.LittleEndian.Uint16(e[28:]))
	flags := binary.LittleEndian.Uint16(e[8:])
	m := zipMember{
		name:      zipName(e[directorySize:directorySize+n], flags),
		header:    int64(binary.LittleEndian.Uint32(e[42:])) + shift,
		packed:    int64(binary.LittleEndian.Uint32(e[20:])),
		size:      int64(binary.LittleEndian.Uint32(e[24:])),
		method:    binary.LittleEndian.Uint16(e[10:]),
		encrypted: flags&flagCrypt != 0,
		symlink:   binary.LittleEndian.Uint32(e[38:])>>16&unixTypeMask == unixSymlink,
	}
	m.readZip64(e[directorySize+n:])
	local, ok := z.local(m.header)
	if !ok {
		z.note(&z.damaged, fmt.Sprintf("its member %s is not where it says", m.name))
		return
	}
	seen[m.header] = true
	m.data = local.data
	if m.symlink {
		z.note(&z.odd, fmt.Sprintf("its member %s is a symbolic link", m.name))
	}
	z.add(m)
	if plainZipName(local.name) != plainZipName(m.name) {
		z.note(&z.odd, fmt.Sprintf("its member %s is also called %s", m.name, local.name))
		other := m
		other.name = local.name
		z.add(other)
	}
	if local.encrypted != m.encrypted {
		z.note(&z.odd, fmt.Sprintf("its member %s is encrypted for some readers only", m.name))
		other := m
		other.encrypted = !m.encrypted
		z.add(other)
	}
	if local.method != m.method {
		z.note(&z.odd, fmt.Sprintf("its member %s is packed in two ways", m.name))
		other := m
		other.method = local.method
		z.add(other)
	}
}

// plainZipName is a name as readers compare it.
func plainZipName(s string) string { return strings.ReplaceAll(s, `\`, "/") }

// add adds a member that is a file.
func (z *zipFile) add(m zipMember) {
	if strings.HasSuffix(m.name, "/") && m.size == 0 && m.packed <= 2 {
		return
	}
	if rest := int64(len(z.b)) - m.data; m.packed < -1 || m.packed > rest {
		z.note(&z.damaged, fmt.Sprintf("its member %s is cut", m.name))
		m.packed = rest
	}
	m.size = max(m.size, -1)
	z.members = append(z.members, m)
}

// readZip64 takes the sizes and offset that do not fit into 32 bits from the
// extra field 1 (APPNOTE.TXT section 4.5.3).
func (m *zipMember) readZip64(extra []byte) {
	for len(extra) >= 4 {
		id, n := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		if len(extra) < 4+n {
			return
		}
		if field := extra[4 : 4+n]; id == 1 {
			for _, v := range []*int64{&m.size, &m.packed, &m.header} {
				if *v == 0xffffffff && len(field) >= 8 {
					*v, field = int64(binary.LittleEndian.Uint64(field)), field[8:]
				}
			}
			return
		}
		extra = extra[4+n:]
	}
}

// local reads the local header at off.
func (z *zipFile) local(off int64) (zipMember, bool) {
	if off < 0 || off > int64(len(z.b))-localSize || !bytes.HasPrefix(z.b[off:], []byte(zipLocal)) {
		return zipMember{}, false
	}
	h := z.b[off:]
	n, x := int(binary.LittleEndian.Uint16(h[26:])), int(binary.LittleEndian.Uint16(h[28:]))
	if localSize+n+x > len(h) {
		return zipMember{}, false
	}
	flags := binary.LittleEndian.Uint16(h[6:])
	m := zipMember{
		name:      zipName(h[localSize:localSize+n], flags),
		header:    off,
		data:      off + int64(localSize+n+x),
		packed:    int64(binary.LittleEndian.Uint32(h[18:])),
		size:      int64(binary.LittleEndian.Uint32(h[22:])),
		method:    binary.LittleEndian.Uint16(h[8:]),
		encrypted: flags&flagCrypt != 0,
	}
	m.readZip64(h[localSize+n : localSize+n+x])
	if flags&8 != 0 && m.packed == 0 {
		m.packed = -1 // the sizes stand after the data
	}
	return m, true
}

// readHidden adds the members that no central directory names. A local header
// within the data of another member belongs to an archive in the archive.
func (z *zipFile) readHidden(limit int, seen map[int64]bool) {
	spans := make([]span, 0, len(z.members))
	for _, m := range z.members {
		spans = append(spans, span{m.header, m.data + max(m.packed, 0)})
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	named := len(z.members) > 0
	at := int64(0)
	for range maxLocals {
		if at >= int64(len(z.b)) || len(z.members) >= limit {
			return
		}
		i := bytes.Index(z.b[at:], []byte(zipLocal))
		if i < 0 {
			return
		}
		off := at + int64(i)
		at = off + 4
		for len(spans) > 0 && spans[0].to <= off {
			spans = spans[1:]
		}
		if seen[off] {
			continue
		}
		if len(spans) > 0 && spans[0].from < off {
			at = max(at, spans[0].to)
			continue
		}
		m, ok := z.local(off)
		if !ok {
			continue
		}
		if named {
			z.note(&z.odd, fmt.Sprintf("its member %s is in no central directory", m.name))
		}
		z.add(m)
		if m.packed > 0 && m.packed <= int64(len(z.b)) {
			at = max(at, m.data+m.packed)
		}
	}
}

// bomb returns a member that says itself that it unpacks to far more than its
// size; nil if there is none.
func (z *zipFile) bomb(ratio int) *zipMember {
	for i := range z.members {
		m := &z.members[i]
		if m.packed >= 0 && m.size > ratioFloor && m.size/int64(ratio) > m.packed {
			return m
		}
	}
	return nil
}

type span struct{ from, to int64 }

// checkOverlap finds members that share data: a small archive then unpacks to
// any size, and no honest program writes that.
func (z *zipFile) checkOverlap() {
	spans := map[int64]int64{}
	for _, m := range z.members {
		spans[m.header] = max(spans[m.header], m.data+max(m.packed, 0))
	}
	starts := make([]int64, 0, len(spans))
	for from := range spans {
		starts = append(starts, from)
	}
	slices.Sort(starts)
	for i := 1; i < len(starts); i++ {
		if spans[starts[i-1]] > starts[i] {
			z.overlap = true
			z.note(&z.odd, "its members share their data")
			return
		}
	}
}

// zipName decodes a name: UTF-8 if the flag or the bytes say so, else the code
// page of the first PCs (APPNOTE.TXT appendix D).
func zipName(b []byte, flags uint16) string {
	if flags&flagUTF8 != 0 || utf8.Valid(b) {
		return string(b)
	}
	s, err := charmap.CodePage437.NewDecoder().Bytes(b)
	if err != nil {
		return strings.ToValidUTF8(string(b), "\ufffd")
	}
	return string(s)
}

// open unpacks a member. in is what it reads from.
func (z *zipFile) open(m *zipMember) (in *bytes.Reader, out io.ReadCloser, err error) {
	if m.data < 0 || m.data > int64(len(z.b)) {
		return nil, nil, io.ErrUnexpectedEOF
	}
	data := z.b[m.data:]
	if m.packed >= 0 && m.packed < int64(len(data)) {
		data = data[:m.packed]
	}
	if m.method == methodStore && m.packed < 0 {
		data = data[:storedLength(data)]
	}
	in = bytes.NewReader(data)
	switch m.method {
	case methodStore:
		return in, io.NopCloser(in), nil
	case methodFlate:
		return in, flate.NewReader(in), nil
	case methodBzip2:
		return in, io.NopCloser(bzip2.NewReader(in)), nil
	case methodAES:
		return nil, nil, errors.New("encrypted with AES")
	}
	return nil, nil, fmt.Errorf("packed in an unknown way (method %d)", m.method)
}

// storedLength finds the end of stored data of unknown length: the next record.
func storedLength(b []byte) int {
	for i := 0; ; {
		k := bytes.Index(b[i:], []byte("PK"))
		if k < 0 {
			return len(b)
		}
		i += k
		if rest := b[i:]; len(rest) >= 4 && (string(rest[:4]) == "PK\x07\x08" || string(rest[:4]) == zipLocal || string(rest[:4]) == zipDirectory) {
			return i
		}
		i += 2
	}
}
