package attachments

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

func checker() *Checker { return Filter.New().(*Checker) }

func TestConformance(t *testing.T) {
	filterstest.Run(t, Filter, filterstest.Options{
		Parse: checker().ParseOptions(),
		Bad: map[string]string{
			"unpack = { ratio = 1 }": "unpack", "unpack = { bytes = '1KB' }": "unpack", "unpack = { members = 0 }": "unpack", "unpack = { depth = -1 }": "unpack",
			"unpack = { bytes = 5 }": "bytes", "unpack = { bites = '1MB' }": "bites",
		},
	})
}

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

// attach returns a transaction with one attachment, as part 2.
func attach(name string, content []byte) *mail.Transaction { return attachAs("", name, content) }

func attachAs(mediaType, name string, content []byte) *mail.Transaction {
	if mediaType == "" {
		mediaType = "application/octet-stream"
	}
	return filterstest.Transaction(filterstest.Message("From: a@b.example\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"+
		"--b\nContent-Type: text/plain\n\nHello.\n--b\nContent-Type: "+mediaType+"\nContent-Disposition: attachment; filename=\""+name+"\"\n"+
		"Content-Transfer-Encoding: base64\n\n"+base64.StdEncoding.EncodeToString(content)+"\n--b--\n", checker().ParseOptions()))
}

// symbolsOf returns the symbols without the names, as "SYMBOL part".
func symbolsOf(t testing.TB, tx *mail.Transaction) []string {
	t.Helper()
	var out []string
	for _, s := range filterstest.Check(t, checker(), tx).Symbols {
		if s.Name != symbolNamed {
			out = append(out, strings.TrimPrefix(s.Name, "ATTACHMENT_")+" "+string(s.Part))
		}
	}
	return out
}

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// A member is a file for makeZip.
type member struct{ name, content string }

func makeZip(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		f, err := w.Create(m.name)
		if err == nil {
			_, err = io.WriteString(f, m.content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func makeGzip(t testing.TB, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name = name
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const program = "MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00"

func TestKinds(t *testing.T) {
	for _, test := range []struct {
		mediaType, name, content string
		want                     []string
	}{
		{"", "facture.pdf.exe", program, []string{"EXECUTABLE 2", "DOUBLE_EXTENSION 2"}},
		{"", "report.pdf", program, []string{"EXECUTABLE 2", "PDF 2", "MISMATCH 2"}},
		{"image/png", "photo", program, []string{"EXECUTABLE 2", "MISMATCH 2"}},
		{"", "report.pdf", "%PDF-1.4\n", []string{"PDF 2"}},
		{"", "a.js", "var x = 1;", []string{"SCRIPT 2", "TEXT 2"}},
		{"application/hta", "a.txt", "hello", []string{"SCRIPT 2", "TEXT 2"}},
		{"", "a.docm", "hello", []string{"MACRO 2", "TEXT 2"}},
		{"", "a.iso", "\x00\x01\x02", []string{"DISK_IMAGE 2"}},
		{"", "page.html", "<html><body>x</body></html>", []string{"HTML 2"}},
		{"image/svg+xml", "logo.svg", "<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", []string{"SVG 2"}},
		{"", "photo.png", "\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR", []string{"IMAGE 2"}},
		{"", "photo.jpg", "\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR", []string{"IMAGE 2"}},
		{"", "notes.txt", "hello", []string{"TEXT 2"}},
		{"", "data.bin", "\x00\x01\x02\x03", []string{"UNKNOWN 2"}},
		{"", "report.rar", "\x00\x01\x02\x03", []string{"ARCHIVE 2", "ARCHIVE_NOT_OPENED 2"}},
		{"", "a.rar", "Rar!\x1a\x07\x00xxxx", []string{"ARCHIVE 2", "ARCHIVE_NOT_OPENED 2"}},
		{"", "a.xyz", "Rar!\x1a\x07\x00xxxx", []string{"ARCHIVE 2", "ARCHIVE_NOT_OPENED 2"}},
		{"", "winmail.dat", "\x78\x9f\x3e\x22\x00\x00", []string{"ARCHIVE 2", "ARCHIVE_NOT_OPENED 2"}},
		{"", "a.reg", "\xff\xfeW\x00i\x00n\x00d\x00o\x00w\x00s\x00 \x00R\x00e\x00g\x00i\x00s\x00t\x00r\x00y\x00 \x00E\x00d\x00i\x00t\x00o\x00r\x00", []string{"REGISTRY 2"}},
		{"application/pgp-signature", "signature.asc", "-----BEGIN PGP SIGNATURE-----\n", []string{"CRYPTO 2"}},
		{"message/external-body; access-type=url", "x", "hello", []string{"EXTERNAL_BODY 2", "TEXT 2"}},
	} {
		var want []string
		for _, w := range test.want {
			want = append(want, strings.TrimPrefix(w, "ATTACHMENT_"))
		}
		expect(t, test.mediaType+" "+test.name, symbolsOf(t, attachAs(test.mediaType, test.name, []byte(test.content))), want...)
	}
}

// TestBodies checks that text which people read is no attachment, and that a
// program in its place is one.
func TestBodies(t *testing.T) {
	for message, want := range map[string][]string{
		"From: a@b.example\n\nHello.\n": nil,
		"From: a@b.example\nMIME-Version: 1.0\nContent-Type: text/html\n\n<html>Hello.</html>\n":                                   nil,
		"From: a@b.example\nMIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\nTVqQAAMAAAAEAAAA\n":  {"EXECUTABLE "},
		"From: a@b.example\nMIME-Version: 1.0\nContent-Type: text/html\nContent-Disposition: attachment\n\n<html>Hello.</html>\n":  {"HTML "},
		"From: a@b.example\nMIME-Version: 1.0\nContent-Type: message/partial; id=x; number=1; total=2\n\nFrom: c@d.example\n\nx\n": {"PARTIAL ", "TEXT "},
	} {
		expect(t, message, symbolsOf(t, filterstest.Transaction(filterstest.Message(message, checker().ParseOptions()))), want...)
	}
}

func TestEvidenceAndNames(t *testing.T) {
	v := filterstest.Check(t, checker(), attach("facture.pdf.exe", []byte(program)))
	var named []string
	for _, s := range v.Symbols {
		if s.Name == "ATTACHMENT_EXECUTABLE" && !strings.HasPrefix(s.Evidence, "facture.pdf.exe: Windows program") {
			t.Errorf("evidence %q", s.Evidence)
		}
		if s.Name == symbolNamed {
			named = append(named, s.Label)
		}
	}
	if !slices.Contains(named, "facture.pdf.exe") {
		t.Errorf("names %q", named)
	}
}

func TestArchives(t *testing.T) {
	inner := string(makeZip(t, member{"deep/run.vbs", "x"}))
	expect(t, "nested", symbolsOf(t, attach("a.zip", makeZip(t, member{"readme.txt", "hello"}, member{"inner.zip", inner}))),
		"ARCHIVE 2", "TEXT 2.1", "ARCHIVE 2.2", "SCRIPT 2.2.1", "TEXT 2.2.1")
	expect(t, "gzip", symbolsOf(t, attach("a.exe.gz", makeGzip(t, "", program))), "ARCHIVE 2", "EXECUTABLE 2.1")
	expect(t, "gzip with a name", symbolsOf(t, attach("a.gz", makeGzip(t, "run.js", "hello"))), "ARCHIVE 2", "SCRIPT 2.1", "TEXT 2.1")
	expect(t, "gzip and more", symbolsOf(t, attach("a.gz", append(makeGzip(t, "a.txt", "hello"), "trailing"...))), "ARCHIVE 2", "TEXT 2.1")
	expect(t, "as pdf", symbolsOf(t, attach("a.pdf", makeZip(t, member{"a.txt", "x"}))), "ARCHIVE 2", "PDF 2", "MISMATCH 2", "TEXT 2.1")
	expect(t, "after a picture", symbolsOf(t, attach("a.zip", append([]byte("GIF89a\x01\x00\x01\x00\x00"), makeZip(t, member{"a.exe", "x"})...))),
		"ARCHIVE 2", "IMAGE 2", "ARCHIVE_AMBIGUOUS 2", "EXECUTABLE 2.1", "TEXT 2.1")
	var many []member
	for i := range 100 {
		many = append(many, member{fmt.Sprintf("%d.exe", i), ""})
	}
	if n := len(symbolsOf(t, attach("a.zip", makeZip(t, many...)))); n > 1+2*maxOfKind {
		t.Errorf("%d symbols for 100 programs in one archive", n)
	}
	v := filterstest.Check(t, checker(), attach("a.zip", makeZip(t, many...)))
	if !slices.ContainsFunc(v.Symbols, func(s filters.Symbol) bool { return s.Label == "99.exe" }) {
		t.Error("the last name is not told")
	}
}

func TestDocuments(t *testing.T) {
	types, body := member{"[Content_Types].xml", "<Types/>"}, member{"word/document.xml", "<w:document/>"}
	expect(t, "docx", symbolsOf(t, attach("a.docx", makeZip(t, types, body, member{"word/media/image1.svg", "<svg/>"}))), "OFFICE 2")
	expect(t, "docm", symbolsOf(t, attach("a.docx", makeZip(t, types, body, member{"word/vbaProject.bin", "x"}))), "OFFICE 2", "MACRO 2")
	expect(t, "macro sheet", symbolsOf(t, attach("a.xlsx", makeZip(t, types, member{"xl/macrosheets/sheet1.xml", "x"}))), "OFFICE 2", "MACRO 2")
	expect(t, "program in it", symbolsOf(t, attach("a.docx", makeZip(t, types, body, member{"word/embeddings/a.bin", program}))), "OFFICE 2", "EXECUTABLE 2.3")
	// A document that is called an archive is opened by people, member by member.
	expect(t, "docx as zip", symbolsOf(t, attach("a.zip", makeZip(t, types, member{"a.js", "x"}))), "ARCHIVE 2", "OFFICE 2", "TEXT 2.1", "SCRIPT 2.2", "TEXT 2.2")
	expect(t, "jar", symbolsOf(t, attach("a.jar", makeZip(t, member{"META-INF/MANIFEST.MF", "x"}))), "ARCHIVE 2", "JAVA 2", "TEXT 2.1")
	expect(t, "apk", symbolsOf(t, attach("a.bin", makeZip(t, member{"AndroidManifest.xml", "x"}))), "ARCHIVE 2", "INSTALLER 2", "TEXT 2.1")
}

func TestBombs(t *testing.T) {
	bomb := makeZip(t, member{"zeros.txt", strings.Repeat("\x00", 20<<20)})
	if got := symbolsOf(t, attach("a.zip", bomb)); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "ARCHIVE_NOT_OPENED") }) {
		t.Errorf("ratio: %q", got)
	}
	deep := makeZip(t, member{"a.txt", "x"})
	for range 12 {
		deep = makeZip(t, member{"a.zip", string(deep)})
	}
	got := symbolsOf(t, attach("a.zip", deep))
	if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "ARCHIVE_NOT_OPENED") }) || slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "TEXT") }) {
		t.Errorf("depth: %q", got)
	}
	expect(t, "nine deep", symbolsOf(t, attach("a.zip", nest(t, 8))), append(repeat("ARCHIVE", 9), "TEXT 2"+strings.Repeat(".1", 9))[4:]...)
	c := checker()
	c.Unpack.Members = 10
	var many []member
	for i := range 50 {
		many = append(many, member{fmt.Sprint(i), ""})
	}
	tx := attach("a.zip", makeZip(t, many...))
	raw, _ := tx.Message.Bytes()
	tx.Message = mail.ParseBytes(raw, c.ParseOptions())
	if n := len(tx.Message.Part("2").Children()); n != 10 {
		t.Errorf("%d members of 50, allowed are 10", n)
	}
}

func nest(t *testing.T, times int) []byte {
	b := makeZip(t, member{"a.txt", "x"})
	for range times {
		b = makeZip(t, member{"a.zip", string(b)})
	}
	return b
}

// repeat returns the symbols of nested archives, the outermost last.
func repeat(symbol string, n int) (all []string) {
	for i := n - 1; i >= 0; i-- {
		all = append(all, symbol+" 2"+strings.Repeat(".1", i))
	}
	return all
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("disk broke") }

func TestUnreadable(t *testing.T) {
	if v, err := checker().Check(t.Context(), filterstest.Transaction(mail.Parse(broken{}, 100, checker().ParseOptions())), nil); err == nil {
		t.Errorf("%+v: want an error", v)
	}
}

// TestNoUnpackers checks that an archive which nobody opened is not taken for
// an empty one.
func TestNoUnpackers(t *testing.T) {
	tx := attach("a.zip", makeZip(t, member{"a.exe", program}))
	raw, _ := tx.Message.Bytes()
	tx.Message = mail.ParseBytes(raw, mail.Options{})
	expect(t, "not opened", symbolsOf(t, tx), "ARCHIVE 2", "ARCHIVE_NOT_OPENED 2")
}

// TestCorpus attaches every file of the corpus: nothing breaks, and the files
// whose directory tells what they are get that kind.
func TestCorpus(t *testing.T) {
	root := os.Getenv("POSTERN_CORPORA")
	if root == "" {
		t.Skip("POSTERN_CORPORA is not set")
	}
	wants := []struct{ pattern, symbol string }{
		{"eicar/*.docm", "MACRO 2"}, {"eicar/*.xlsm", "MACRO 2"}, {"eicar/*macro*.doc", "MACRO 2"}, {"eicar/*macro*.xls", "MACRO 2"},
		{"eicar/*.zip", "ARCHIVE 2"}, {"eicar/*.pdf", "PDF 2"}, {"lnk-ez/Lnk.Test/TestFiles/*/*.lnk", "SHORTCUT 2"},
		{"lnk-ez/Lnk.Test/TestFiles/*/*.test", "SHORTCUT 2"}, {"clamav-other/other_scanfiles/*.iso", "DISK_IMAGE 2"},
		{"clamav-other/other_scanfiles/ole2_encryption/*", "ENCRYPTED_DOCUMENT 2"}, {"oletools/encrypted/*crypt*", "ENCRYPTED_DOCUMENT 2"},
		{"msoffcrypto/inputs/*password*", "ENCRYPTED_DOCUMENT 2"}, {"corkami-archives/zip/zipcrypto.zip", "ENCRYPTED_ARCHIVE 2"},
		{"corkami-archives/rar/*", "ARCHIVE_NOT_OPENED 2"}, {"oletools/excel4-macros/*.xls", "MACRO 2"},
	}
	met := make([]int, len(wants))
	files := 0
	root = filepath.Join(root, "attachments")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err != nil || info.Size() > 4<<20 {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		name, _ := filepath.Rel(root, path)
		got := symbolsOf(t, attach(strings.ReplaceAll(filepath.Base(path), `"`, ""), content))
		for i, w := range wants {
			if ok, _ := filepath.Match(w.pattern, name); ok {
				met[i]++
				if !slices.Contains(got, w.symbol) {
					t.Errorf("%s: %q, want %s", name, got, w.symbol)
				}
			}
		}
		return nil
	})
	if err != nil || files < 100 {
		t.Errorf("%d files, %v", files, err)
	}
	for i, n := range met {
		if n == 0 {
			t.Errorf("no file is like %s", wants[i].pattern)
		}
	}
	t.Logf("%d files", files)
}

func BenchmarkAttachment(b *testing.B) {
	tx := attach("photo.bin", bytes.Repeat([]byte{0xff, 0xd8, 1, 2}, 1<<18))
	raw, _ := tx.Message.Bytes()
	c := checker()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		tx.Message = mail.ParseBytes(raw, c.ParseOptions())
		if _, err := c.Check(b.Context(), tx, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// TestSettingsKeepDefaults checks that a key of unpack leaves the others alone.
func TestSettingsKeepDefaults(t *testing.T) {
	c := filterstest.New(t, Filter, filterstest.Options{Settings: "unpack = { depth = 3 }"}).(*Checker)
	want := defaultUnpack
	want.Depth = 3
	if c.Unpack != want {
		t.Errorf("%+v", c.Unpack)
	}
}
