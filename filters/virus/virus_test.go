package virus

import (
	"encoding/base64"
	"errors"
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
