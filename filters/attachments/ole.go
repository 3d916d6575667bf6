package attachments

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// maxEntries bounds the directory of an OLE file.
const maxEntries = 10_000

// An oleFile is the directory of a compound file ([MS-CFB]), read from bytes in
// memory. A damaged file yields what can be read of it.
type oleFile struct {
	b      []byte
	sector int      // size of a sector
	fat    []uint32 // the sector that follows each sector
	names  []oleEntry
}

type oleEntry struct {
	name  string
	start uint32
	size  int
	root  bool
}

// miniCutoff is the size from which on a stream has sectors of its own.
const miniCutoff = 4096

// readOLE reads the directory.
func readOLE(b []byte) *oleFile {
	if len(b) < 512 || string(b[:8]) != oleMagic {
		return nil
	}
	shift := binary.LittleEndian.Uint16(b[30:])
	if shift != 9 && shift != 12 {
		shift = 9
	}
	f := &oleFile{b: b, sector: 1 << shift}
	f.readFAT()
	dir := f.chain(binary.LittleEndian.Uint32(b[48:]), maxEntries*128)
	for len(dir) >= 128 && len(f.names) < maxEntries {
		f.addEntry(dir[:128])
		dir = dir[128:]
	}
	return f
}

// at returns a sector; nil if it lies outside.
func (f *oleFile) at(n uint32) []byte {
	from := (int64(n) + 1) * int64(f.sector)
	if from >= int64(len(f.b)) {
		return nil
	}
	return f.b[from:min(from+int64(f.sector), int64(len(f.b)))]
}

// readFAT reads the allocation table: 109 of its sectors stand in the header,
// the others in sectors chained from there ([MS-CFB] section 2.5).
func (f *oleFile) readFAT() {
	most := len(f.b)/f.sector + f.sector // a hostile file repeats its table
	add := func(sector uint32) {
		for s := f.at(sector); len(s) >= 4 && len(f.fat) < most; s = s[4:] {
			f.fat = append(f.fat, binary.LittleEndian.Uint32(s))
		}
	}
	for i := range 109 {
		add(binary.LittleEndian.Uint32(f.b[76+4*i:]))
	}
	next := binary.LittleEndian.Uint32(f.b[68:])
	for range len(f.b)/f.sector + 1 {
		s := f.at(next)
		if len(s) < f.sector {
			return
		}
		for i := 0; i < f.sector-4; i += 4 {
			add(binary.LittleEndian.Uint32(s[i:]))
		}
		next = binary.LittleEndian.Uint32(s[f.sector-4:])
	}
}

// chain returns up to max bytes of the sectors that follow start.
func (f *oleFile) chain(start uint32, max int) []byte {
	var out []byte
	for range len(f.fat) + 1 {
		s := f.at(start)
		if s == nil || len(out) >= max {
			break
		}
		out = append(out, s...)
		if int64(start) >= int64(len(f.fat)) {
			break
		}
		start = f.fat[start]
	}
	return out[:min(len(out), max)]
}

// addEntry reads one directory entry ([MS-CFB] section 2.6.1).
func (f *oleFile) addEntry(e []byte) {
	n := int(binary.LittleEndian.Uint16(e[64:]))
	if e[66] == 0 || n < 2 || n > 64 {
		return
	}
	units := make([]uint16, n/2-1)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(e[2*i:])
	}
	f.names = append(f.names, oleEntry{
		name:  string(utf16.Decode(units)),
		start: binary.LittleEndian.Uint32(e[116:]),
		size:  int(binary.LittleEndian.Uint32(e[120:]) & 0x7fffffff),
		root:  e[66] == 5,
	})
}

// has reports whether a stream or storage has one of the names.
func (f *oleFile) has(names ...string) bool {
	for _, e := range f.names {
		for _, n := range names {
			if strings.EqualFold(e.name, n) {
				return true
			}
		}
	}
	return false
}

// formats tells what an OLE file is: more than one kind when it is a document
// with macros.
func (f *oleFile) formats() []format {
	var all []format
	switch {
	case f.has("EncryptedPackage", "EncryptionInfo"):
		all = append(all, format{encryptedFile, "Office document with a password"})
	case f.has("__properties_version1.0", "__nameid_version1.0"):
		return []format{{message, "Outlook message"}}
	case f.isInstaller():
		return []format{{installer, "Windows Installer package"}}
	case f.has("WordDocument"):
		all = append(all, format{office, "Word document"})
	case f.has("Workbook", "Book"):
		all = append(all, format{office, "Excel workbook"})
	case f.has("PowerPoint Document"):
		all = append(all, format{office, "PowerPoint presentation"})
	default:
		all = append(all, format{office, "OLE document"})
	}
	if f.has("VBA", "Macros", "_VBA_PROJECT", "_VBA_PROJECT_CUR", "_VBA_PROJECT_CUR_1") {
		all = append(all, format{macro, "VBA macros"})
	}
	if f.hasSheet(recordBoundSheet, func(record []byte) bool { return len(record) >= 6 && record[5] == 1 }) {
		all = append(all, format{macro, "Excel 4 macro sheet"})
	}
	if bytes.Contains(f.stream("PowerPoint Document"), vbaInfo) {
		all = append(all, format{macro, "VBA macros"})
	}
	if f.encrypted() {
		all = append(all, format{encryptedFile, "Office document with a password"})
	}
	return all
}

// vbaInfo is the beginning of a VBAInfoAtom ([MS-PPT] section 2.4.11).
var vbaInfo = []byte("\x02\x00\x00\x04\x0c\x00\x00\x00")

// Records of a workbook ([MS-XLS] section 2.3).
const (
	recordBoundSheet = 0x85
	recordFilePass   = 0x2f
)

// maxStream is how much of a stream is looked at.
const maxStream = 4 << 20

// stream returns the beginning of the named stream.
func (f *oleFile) stream(names ...string) []byte {
	for _, e := range f.names {
		for _, n := range names {
			if strings.EqualFold(e.name, n) {
				return f.read(e)
			}
		}
	}
	return nil
}

// read returns the beginning of a stream. A small one lies in the mini stream,
// in sectors of 64 bytes that have an allocation table of their own ([MS-CFB]
// section 2.4).
func (f *oleFile) read(e oleEntry) []byte {
	if e.size >= miniCutoff {
		return f.chain(e.start, min(e.size, maxStream))
	}
	for _, root := range f.names {
		if !root.root {
			continue
		}
		mini := &oleFile{b: f.chain(root.start, maxStream), sector: 64}
		// A sector of the mini stream begins at its number, not after a header.
		mini.b = append(make([]byte, 64), mini.b...)
		for table := f.chain(binary.LittleEndian.Uint32(f.b[60:]), maxStream); len(table) >= 4; table = table[4:] {
			mini.fat = append(mini.fat, binary.LittleEndian.Uint32(table))
		}
		return mini.chain(e.start, e.size)
	}
	return nil
}

// encrypted reports whether a document of the binary formats is encrypted: by
// the FIB of Word ([MS-DOC] section 2.5.2), the FilePass record of Excel, or the
// token of PowerPoint's current user ([MS-PPT] section 2.3.2).
func (f *oleFile) encrypted() bool {
	if fib := f.stream("WordDocument"); len(fib) > 12 && fib[11]&1 != 0 {
		return true
	}
	if user := f.stream("Current User"); len(user) > 16 && binary.LittleEndian.Uint32(user[12:]) == 0xf3d1c4df {
		return true
	}
	return f.hasSheet(recordFilePass, func([]byte) bool { return true })
}

// isInstaller recognises the stream names of Windows Installer, which are
// packed into a block of CJK characters.
func (f *oleFile) isInstaller() bool {
	for _, e := range f.names {
		if strings.HasPrefix(e.name, "\u4840") {
			return true
		}
	}
	return false
}

// hasSheet looks through the records of the workbook.
func (f *oleFile) hasSheet(record uint16, fits func([]byte) bool) bool {
	for b := f.stream("Workbook", "Book"); len(b) >= 4; {
		n := int(binary.LittleEndian.Uint16(b[2:]))
		if len(b) < 4+n {
			break
		}
		if binary.LittleEndian.Uint16(b) == record && fits(b[4:4+n]) {
			return true
		}
		b = b[4+n:]
	}
	return false
}
