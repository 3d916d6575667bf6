package attachments

import (
	"slices"
	"testing"
	"unicode/utf8"
)

func TestNames(t *testing.T) {
	for _, test := range []struct {
		name  string
		kinds []kind
	}{
		{"report.pdf", []kind{pdf}},
		{"REPORT.PDF", []kind{pdf}},
		{"setup.exe", []kind{executable}},
		{"setup.exe.", []kind{executable}},
		{"setup.exe . . ", []kind{executable}},
		{"setup.exe\"", []kind{executable}},
		{"facture.pdf.exe", []kind{executable, doubleExtension}},
		{"facture.pdf .exe", []kind{executable, doubleExtension}},
		{"facture.pdf          .exe", []kind{executable, doubleExtension, disguisedName}},
		{"page.pdf.html", []kind{html, doubleExtension}},
		{"archive.tar.gz", []kind{archive}},
		{"photo.2024.jpg", []kind{image}},
		{"v1.2.exe", []kind{executable}},
		{"invoice\u202efdp.js", []kind{script, disguisedName}},
		{"invoice\uff0ejs", []kind{script, disguisedName}},
		{"invoice\u2024exe", []kind{executable, disguisedName}},
		{"invoice.ex\u200be", []kind{executable}},
		{"invoice.e\u00ade", nil},
		{"\uff53\uff45\uff54\uff55\uff50.\uff45\uff58\uff45", []kind{executable}},
		{"invoice.js\x00.pdf", []kind{pdf, script, disguisedName}},
		{"invoice%2Ejs", []kind{script}},
		{"100%.pdf", []kind{pdf}},
		{"invoice.pdf:run.js", []kind{pdf, script, disguisedName}},
		{"run.exe::$DATA", []kind{executable, disguisedName}},
		{"notes: all.txt", []kind{text}},
		{"../../etc/cron.d/x.sh", []kind{script}},
		{`..\..\x.bat`, []kind{script}},
		{"folder.{20D04FE0-3AEA-1069-A2D8-08002B30309D}", []kind{script}},
		{"data.001", []kind{archive}},
		{"data.r00", []kind{archive}},
		{"data.123", nil},
		{"noextension", nil},
		{".exe", []kind{executable}},
		{"", nil},
	} {
		n := readName(test.name)
		var got []kind
		for _, c := range n.claims() {
			if !slices.Contains(got, c.kind) {
				got = append(got, c.kind)
			}
		}
		slices.Sort(got)
		slices.Sort(test.kinds)
		if !slices.Equal(got, test.kinds) {
			t.Errorf("%q: %q, want %q", test.name, got, test.kinds)
		}
	}
}

// TestTables checks that every extension stands in one row, in lower case, and
// that every kind is documented.
func TestTables(t *testing.T) {
	documented := map[kind]bool{}
	for _, k := range kinds {
		documented[k.kind] = true
	}
	rows := map[string]kind{}
	for _, row := range extensionRows {
		if !documented[row.kind] {
			t.Errorf("kind %s is not documented", row.kind)
		}
		for e, k := range extensions {
			if k == row.kind {
				rows[e] = k
			}
		}
	}
	if len(rows) != len(extensions) {
		t.Errorf("%d extensions in rows of %d", len(rows), len(extensions))
	}
	for name, k := range mediaTypes {
		if !documented[k] {
			t.Errorf("%s: kind %s is not documented", name, k)
		}
	}
	for _, s := range signatures {
		if !documented[s.kind] || s.at+len(s.magic) > headSize {
			t.Errorf("signature of %s: kind %s, at %d", s.what, s.kind, s.at)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("invoice.pdf\u202e.exe")
	f.Add("a:b::c%zz\x00\xff")
	f.Fuzz(func(t *testing.T, s string) {
		n := readName(s)
		n.claims()
		for _, b := range n.bases {
			if b == "" || utf8.ValidString(s) && !utf8.ValidString(b) {
				t.Errorf("%q became %q", s, b)
			}
		}
	})
}
