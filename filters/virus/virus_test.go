package virus

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	bad := map[string]string{
		`engines = ["icap://x"]`: "engines", `engines = ["clamd:host"]`: "engines", `connections = 0`: "connections",
	}
	t.Run("no engine", func(t *testing.T) { filterstest.Run(t, Filter, filterstest.Options{Bad: bad}) })
	engine := startFake(t, &fake{reply: honest})
	t.Run("engine", func(t *testing.T) {
		filterstest.Run(t, Filter, filterstest.Options{Settings: `engines = ["` + engine + `"]`})
	})
}

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

// withEngines returns the filter with these engines.
func withEngines(t *testing.T, engines ...string) filters.Checker {
	return filterstest.New(t, Filter, filterstest.Options{Settings: `engines = ["` + strings.Join(engines, `", "`) + `"]`})
}

// attach returns a message with an attachment in base64.
func attach(content string) *mail.Transaction {
	return filterstest.Transaction(filterstest.Message("From: a@b.example\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"+
		"--b\nContent-Type: text/plain\n\nHello.\n--b\nContent-Type: application/octet-stream; name=\"file.bin\"\n"+
		"Content-Transfer-Encoding: base64\n\n"+base64.StdEncoding.EncodeToString([]byte(content))+"\n--b--\n", mail.Options{}))
}

// TestOffline: the tests of a policy pass while the daemon is still starting.
func TestOffline(t *testing.T) {
	c := Filter.New().(*Checker)
	c.Engines = []string{"clamd:/nowhere/clamd.ctl"}
	if err := c.Open(t.Context(), &filters.Env{Offline: true}); err != nil {
		t.Fatal(err)
	}
	if names := filterstest.Names(filterstest.Check(t, c, attach("x"))); len(names) > 0 {
		t.Errorf("a clean message has %q", names)
	}
	v := filterstest.Check(t, c, attach(string(eicarString())))
	if diff := cmp.Diff([]string{"VIRUS_FOUND"}, filterstest.Names(v)); diff != "" {
		t.Error(diff)
	}
}

func TestNoEngine(t *testing.T) {
	c := Filter.New()
	if w := c.(*Checker).Warnings(); len(w) != 1 {
		t.Errorf("warnings: %q", w)
	}
	v := filterstest.Check(t, c, attach("x"))
	if diff := cmp.Diff([]string{"VIRUS_NOT_SCANNED"}, filterstest.Names(v)); diff != "" {
		t.Error(diff)
	}
	v = filterstest.Check(t, c, attach("before "+string(eicarString())+" after"))
	if diff := cmp.Diff([]string{"VIRUS_FOUND", "VIRUS_NOT_SCANNED"}, filterstest.Names(v)); diff != "" {
		t.Error(diff)
	}
	if s := v.Symbols[0]; s.Part != "2" || s.Label != eicarName || !strings.Contains(s.Evidence, "file.bin") {
		t.Errorf("%+v", s)
	}
}

func TestEngines(t *testing.T) {
	good := startFake(t, &fake{reply: honest})
	blind := startFake(t, &fake{reply: func(n int, _ []byte) string { return honest(n, nil) }})
	broken := startFake(t, &fake{reply: func(int, []byte) string { return "garbage\x00" }})
	for _, test := range []struct {
		name    string
		engines []string
		content string
		found   bool
		broken  bool
	}{
		{"clean", []string{good}, "x", false, false},
		{"found", []string{good}, "EVIL", true, false},
		{"found by the second", []string{blind, good}, "EVIL", true, false},
		{"found by the first", []string{good, blind}, "EVIL", true, false},
		{"found beside a broken one", []string{broken, good}, "EVIL", true, false},
		{"clean beside a broken one", []string{good, broken}, "x", false, true},
		{"broken", []string{broken}, "EVIL", false, true},
		{"test string beside a broken one", []string{broken}, string(eicarString()), true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			v, err := withEngines(t, test.engines...).Check(t.Context(), attach(test.content), nil)
			found := len(v.Symbols) > 0 && v.Symbols[0].Name == "VIRUS_FOUND"
			if found != test.found || (err != nil) != test.broken {
				t.Errorf("%+v, %v", v.Symbols, err)
			}
			if found && v.Symbols[0].Part != "2" {
				t.Errorf("part %q", v.Symbols[0].Part)
			}
		})
	}
}

func TestNotOpened(t *testing.T) {
	c := Filter.New().(*Checker)
	c.Engines = []string{"clamd:/nowhere"}
	if _, err := c.Check(t.Context(), attach("x"), nil); err == nil {
		t.Error("a filter that was not opened says that a message is clean")
	}
}

// broken is a message that cannot be read.
type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("disk broke") }

func TestUnreadable(t *testing.T) {
	engine := startFake(t, &fake{reply: honest})
	for name, c := range map[string]filters.Checker{"engine": withEngines(t, engine), "none": Filter.New()} {
		if v, err := c.Check(t.Context(), filterstest.Transaction(mail.Parse(broken{}, 100, mail.Options{})), nil); err == nil {
			t.Errorf("%s: %+v, want an error", name, v)
		}
	}
}

// TestString checks the test string by its published hash.
func TestString(t *testing.T) {
	const published = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"
	if sum := sha256.Sum256(eicarString()); hex.EncodeToString(sum[:]) != published {
		t.Errorf("%x", sum)
	}
}

// TestWindows looks for the test string across the windows in which streams
// are read.
func TestWindows(t *testing.T) {
	needle := eicarString()
	for before := chunk - 80; before < chunk+80; before++ {
		text := strings.Repeat("x", before) + string(needle)
		if found, err := containsStream(strings.NewReader(text), needle); !found || err != nil {
			t.Errorf("after %d bytes: %v, %v", before, found, err)
		}
		if found, _ := containsStream(strings.NewReader(text[:len(text)-1]), needle); found {
			t.Errorf("after %d bytes: found where it is not", before)
		}
	}
}

// TestWhere checks that a hit is put down to the part that it lies in.
func TestWhere(t *testing.T) {
	eicar := string(eicarString())
	for _, test := range []struct {
		name, message string
		want          []mail.PartID
	}{
		{"raw part", "From: a@b.example\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\n\n" + eicar + "\n--b--\n", []mail.PartID{"2"}},
		{"whole message", "From: a@b.example\n\n" + eicar + "\n", []mail.PartID{""}},
		{"header", "From: a@b.example\nX-Field: " + eicar + "\n\nx\n", []mail.PartID{""}},
		{"encoded message", "From: a@b.example\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte(eicar)) + "\n", []mail.PartID{""}},
		{"UTF-16", "From: a@b.example\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-16le\nContent-Transfer-Encoding: base64\n\n" +
			base64.StdEncoding.EncodeToString([]byte(strings.Join(strings.Split(eicar, ""), "\x00")+"\x00")) + "\n", []mail.PartID{""}},
		{"nowhere", "From: a@b.example\n\n" + eicar[1:] + "\n", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := filterstest.Check(t, Filter.New(), filterstest.Transaction(filterstest.Message(test.message, mail.Options{})))
			var got []mail.PartID
			for _, s := range v.Symbols {
				if s.Name == "VIRUS_FOUND" {
					got = append(got, s.Part)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestUnpacked checks members of archives: what can be read of them is
// scanned, and what cannot is told.
func TestUnpacked(t *testing.T) {
	member := func(name string, size int64, locked bool, open func() (io.ReadCloser, error)) mail.Member {
		return mail.Member{Name: name, Size: size, Encrypted: locked, Open: open}
	}
	of := func(r io.Reader) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return io.NopCloser(r), nil }
	}
	unpack := func(p *mail.Part) ([]mail.Member, error) {
		if !slices.Contains(p.Names(), "file.bin") {
			return nil, nil
		}
		return []mail.Member{
			member("good", 68, false, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(eicarString())), nil }),
			member("locked", 10, true, nil),
			member("damaged", 100, false, func() (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader("EVIL"), iotestErr{errors.New("bad sector")})), nil
			}),
			member("empty", 0, false, of(strings.NewReader(""))),
		}, nil
	}
	tx := attach("archive")
	raw, _ := tx.Message.Bytes()
	tx.Message = mail.ParseBytes(raw, mail.Options{Unpack: []mail.Unpacker{unpack}})
	v := filterstest.Check(t, withEngines(t, startFake(t, &fake{reply: honest})), tx)
	var got []string
	for _, s := range v.Symbols {
		got = append(got, s.Name+" "+string(s.Part)+" "+s.Label)
	}
	want := []string{"VIRUS_FOUND 2.1 " + eicarName, "VIRUS_FOUND 2.3 Test.Evil", "VIRUS_PART_SKIPPED 2.2 ", "VIRUS_PART_SKIPPED 2.3 "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestBrokenAfterFind checks that a find does not hide that the rest was not
// scanned: a rule may take just this find for harmless.
func TestBrokenAfterFind(t *testing.T) {
	c := withEngines(t, startFake(t, &fake{reply: honest}), startFake(t, &fake{limit: 10, reply: honest}))
	v := filterstest.Check(t, c, attach("this is EVIL"))
	if diff := cmp.Diff([]string{"VIRUS_FOUND", "VIRUS_PART_SKIPPED"}, filterstest.Names(v)); diff != "" {
		t.Error(diff)
	}
}

// TestLimits checks that what lies beyond a limit is not passed over in silence.
func TestLimits(t *testing.T) {
	m := filterstest.Message("From: a@b.example\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"+
		strings.Repeat("--b\nContent-Type: text/plain\n\nHello.\n", 5)+"--b--\n", mail.Options{Limits: mail.Limits{Parts: 3}})
	v := filterstest.Check(t, withEngines(t, startFake(t, &fake{reply: honest})), filterstest.Transaction(m))
	if diff := cmp.Diff([]string{"VIRUS_PART_SKIPPED"}, filterstest.Names(v)); diff != "" {
		t.Error(diff)
	}
}
