package attachments

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// list returns the names that readers may see.
func list(z *zipFile) (names []string) {
	for _, m := range z.members {
		names = append(names, m.name)
	}
	return names
}

// localName changes the name of a member in its local header only.
func localName(b []byte, old, new string) []byte {
	i := bytes.Index(b, []byte(old))
	return slices.Concat(b[:i], []byte(new), b[i+len(old):])
}

// centralName changes the name of a member in the central directory only.
func centralName(b []byte, old, new string) []byte {
	i := bytes.LastIndex(b, []byte(old))
	return slices.Concat(b[:i], []byte(new), b[i+len(old):])
}

// forget takes a member out of the central directory.
func forget(t *testing.T, b []byte, name string) []byte {
	t.Helper()
	end := bytes.LastIndex(b, []byte(zipEnd))
	at := bytes.LastIndex(b, []byte(name)) - directorySize
	length := directorySize + len(name) + int(binary.LittleEndian.Uint16(b[at+30:])) + int(binary.LittleEndian.Uint16(b[at+32:]))
	out := slices.Concat(b[:at], b[at+length:])
	end -= length
	binary.LittleEndian.PutUint16(out[end+8:], binary.LittleEndian.Uint16(out[end+8:])-1)
	binary.LittleEndian.PutUint16(out[end+10:], binary.LittleEndian.Uint16(out[end+10:])-1)
	binary.LittleEndian.PutUint32(out[end+12:], binary.LittleEndian.Uint32(out[end+12:])-uint32(length))
	return out
}

func TestReadZip(t *testing.T) {
	two := makeZip(t, member{"readme.txt", "hello"}, member{"invoice.js", "evil"})
	stored := bytes.NewBuffer(nil)
	stored.Write(makeZip(t, member{"x.txt", string(makeZip(t, member{"inner.js", "x"}))}))
	encrypted := bytes.Clone(two)
	encrypted[6] |= flagCrypt // in the first local header
	for _, test := range []struct {
		name    string
		b       []byte
		want    string
		odd     string
		damaged string
	}{
		{"plain", two, "readme.txt invoice.js", "", ""},
		{"zip in zip", stored.Bytes(), "x.txt", "", ""},
		{"local name harmless", localName(two, "invoice.js", "invoice.ok"), "readme.txt invoice.js invoice.ok", "also called invoice.ok", ""},
		{"central name harmless", centralName(two, "invoice.js", "invoice.ok"), "readme.txt invoice.ok invoice.js", "also called invoice.js", ""},
		{"in no directory", forget(t, two, "invoice.js"), "readme.txt invoice.js", "in no central directory", ""},
		{"glued", slices.Concat(makeZip(t, member{"a.txt", "x"}), makeZip(t, member{"b.js", "x"})), "b.js a.txt", "several central directories", ""},
		{"something before", slices.Concat([]byte(strings.Repeat("junk", 10)), two), "readme.txt invoice.js", "", ""},
		{"something after", slices.Concat(two, []byte("junk")), "readme.txt invoice.js", "", ""},
		{"no directory", two[:bytes.Index(two, []byte(zipDirectory))], "readme.txt invoice.js", "", "no central directory"},
		{"encrypted for some", encrypted, "readme.txt readme.txt invoice.js", "encrypted for some readers only", ""},
		{"backslashes", localName(makeZip(t, member{"dir/a.txt", "x"}), "dir/a.txt", `dir\a.txt`), "dir/a.txt", "", ""},
		{"empty", makeZip(t), "", "", ""},
		{"nothing", nil, "", "", "no central directory"},
		{"only an end", []byte(zipEnd), "", "", "no central directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			z := readZip(test.b, 100)
			if got := strings.Join(list(z), " "); got != test.want {
				t.Errorf("members %q, want %q", got, test.want)
			}
			for _, note := range []struct{ got, want string }{{strings.Join(z.odd, "; "), test.odd}, {strings.Join(z.damaged, "; "), test.damaged}} {
				if (note.got == "") != (note.want == "") || !strings.Contains(note.got, note.want) {
					t.Errorf("%q, want %q", note.got, note.want)
				}
			}
			if z.overlap {
				t.Error("members overlap")
			}
		})
	}
}

// TestOpenMembers checks that each way to find a member leads to its content.
func TestOpenMembers(t *testing.T) {
	content := strings.Repeat("content of the member ", 100)
	b := makeZip(t, member{"a.txt", content})
	for name, b := range map[string][]byte{
		"directory": b, "hidden": b[:bytes.Index(b, []byte(zipDirectory))], "shifted": slices.Concat([]byte("junk"), b),
	} {
		z := readZip(b, 10)
		if len(z.members) != 1 {
			t.Fatalf("%s: %q", name, list(z))
		}
		_, r, err := z.open(&z.members[0])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != content {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	stored := readZip(b, 10)
	stored.members[0].method = 14
	if _, _, err := stored.open(&stored.members[0]); err == nil {
		t.Error("an unknown method is unpacked")
	}
	stored.members[0].data = 1 << 40
	if _, _, err := stored.open(&stored.members[0]); err == nil {
		t.Error("data beyond the end is unpacked")
	}
}

// TestOverlap checks that members which share their data are noticed.
func TestOverlap(t *testing.T) {
	b := makeZip(t, member{"a", strings.Repeat("x", 5000)}, member{"b", "y"})
	first := bytes.Index(b, []byte(zipDirectory))
	binary.LittleEndian.PutUint32(b[first+20:], 1000) // the first takes the second's bytes too
	if z := readZip(b, 10); !z.overlap {
		t.Errorf("%q: no overlap", list(z))
	}
}

// TestZipTime checks that hostile archives take no more than linear time.
func TestZipTime(t *testing.T) {
	for name, unit := range map[string]string{
		"ends": zipEnd + strings.Repeat("\xff", 18), "locals": zipLocal + strings.Repeat("\x00", 26), "directories": zipDirectory + strings.Repeat("\x00", 42),
		"ends of nothing": zipEnd + strings.Repeat("\x00", 18), "signatures": "PK\x03\x04", "letters": "PK",
	} {
		b := bytes.Repeat([]byte(unit), 4<<20/len(unit))
		start := time.Now()
		readZip(b, 5000)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s: %v for 4 MB", name, took)
		}
	}
}

func FuzzZip(f *testing.F) {
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	b := makeZip(f, member{"a.txt", "hello"}, member{"b/c.js", "x"})
	f.Add(b)
	f.Add(b[:len(b)-30])
	f.Fuzz(func(t *testing.T, b []byte) {
		z := readZip(b, 50)
		for i := range z.members {
			if _, r, err := z.open(&z.members[i]); err == nil {
				io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			}
		}
		z.claims()
	})
}

func FuzzOLE(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0}, 1600))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o := readOLE(append([]byte(oleMagic), b...)); o != nil {
			o.formats()
		}
	})
}
