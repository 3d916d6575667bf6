package attachments

import (
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
}

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
	add := func(sector uint32) {
		s := f.at(sector)
		for ; len(s) >= 4; s = s[4:] {
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
	if f.hasMacroSheet() {
		all = append(all, format{macro, "Excel 4 macro sheet"})
	}
	return all
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

// hasMacroSheet looks for a BoundSheet8 record ([MS-XLS] section 2.4.28) of a
// macro sheet in the workbook.
func (f *oleFile) hasMacroSheet() bool {
	for _, e := range f.names {
		if !strings.EqualFold(e.name, "Workbook") && !strings.EqualFold(e.name, "Book") {
			continue
		}
		for b := f.chain(e.start, min(e.size, 1<<20)); len(b) >= 4; {
			record, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
			if len(b) < 4+n {
				break
			}
			if record == 0x85 && n >= 6 && b[4+5] == 1 {
				return true
			}
			b = b[4+n:]
		}
	}
	return false
}
