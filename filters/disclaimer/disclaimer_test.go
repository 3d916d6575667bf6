package disclaimer

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

func TestConformance(t *testing.T) {
	filterstest.Run(t, Filter, filterstest.Options{Bad: map[string]string{
		"text = 'a'\ntext_file = 'b'": "text_file", "html = 'a'\nhtml_file = 'b'": "html_file",
		"text = '" + strings.Repeat("x", maxText+1) + "'": "text", "html = '" + strings.Repeat("x", maxText+1) + "'": "html",
	}})
}

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

func rewrite(t *testing.T, c *Checker, message string, with *Action) (*mail.Message, string) {
	t.Helper()
	tx := filterstest.Transaction(filterstest.Message(message, mail.Options{}))
	m, err := c.Rewrite(t.Context(), filters.RewriteInput{Tx: tx, Message: tx.Message, With: with})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(m.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return m, strings.ReplaceAll(string(b), "\r\n", "\n")
}

const both = "From: a@b.example\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n" +
	"--b\nContent-Type: text/plain; charset=utf-8\n\nHello.\n--b\nContent-Type: text/html; charset=utf-8\n\n<html><body><p>Hello.</p></body></html>\n--b--\n"

func TestPositions(t *testing.T) {
	_, got := rewrite(t, &Checker{}, both, &Action{Text: "Private & secret.", Position: Bottom})
	for _, order := range [][2]string{{"Hello.", "Private & secret."}, {"<p>Hello.</p>", "<p>Private &amp; secret.</p>"}, {"<p>Private &amp; secret.</p>", "</body>"}} {
		if i, k := strings.Index(got, order[0]), strings.Index(got, order[1]); i < 0 || k < i {
			t.Errorf("%q does not stand before %q in %q", order[0], order[1], got)
		}
	}
	_, got = rewrite(t, &Checker{}, both, &Action{Text: "Beware.", HTML: "<b>Beware.</b>", Position: Top})
	for _, order := range [][2]string{{"Beware.", "Hello."}, {"<body>", "<b>Beware.</b>"}, {"<b>Beware.</b>", "<p>Hello."}} {
		if i, k := strings.Index(got, order[0]), strings.Index(got, order[1]); i < 0 || k < i {
			t.Errorf("%q does not stand before %q in %q", order[0], order[1], got)
		}
	}
}

func TestNotTwice(t *testing.T) {
	with := &Action{Text: "This mail\nis private.", Position: Bottom}
	m, once := rewrite(t, &Checker{}, both, with)
	if !strings.Contains(m.Text(), "is private.") {
		t.Fatalf("%q", once)
	}
	if _, twice := rewrite(t, &Checker{}, once, with); twice != once {
		t.Errorf("%q", twice)
	}
}

// TestUntouchable checks that the bodies of signed and encrypted mail stay as
// they are, and that the field tells.
func TestUntouchable(t *testing.T) {
	for name, message := range map[string]string{
		"signed":     "From: a@b.example\nMIME-Version: 1.0\nContent-Type: multipart/signed; boundary=b; protocol=\"application/pgp-signature\"\n\n--b\n\nHello.\n--b\nContent-Type: application/pgp-signature\n\nx\n--b--\n",
		"encrypted":  "From: a@b.example\nMIME-Version: 1.0\nContent-Type: multipart/encrypted; boundary=b\n\n--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--b\n\nx\n--b--\n",
		"S/MIME":     "From: a@b.example\nMIME-Version: 1.0\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\nContent-Transfer-Encoding: base64\n\nAAAA\n",
		"inline PGP": "From: a@b.example\n\n-----BEGIN PGP SIGNED MESSAGE-----\n\nHello.\n",
		"no text":    "From: a@b.example\nMIME-Version: 1.0\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAAA\n",
	} {
		_, got := rewrite(t, &Checker{}, message, &Action{Text: "Private.", Position: Bottom})
		if !strings.HasPrefix(got, Field+": not added; ") || !strings.HasSuffix(got, message) {
			t.Errorf("%s: %q", name, got)
		}
		if _, again := rewrite(t, &Checker{}, got, &Action{Text: "Private.", Position: Bottom}); strings.Count(again, Field) != 1 {
			t.Errorf("%s: %q", name, again)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	text, page, long := filepath.Join(dir, "text"), filepath.Join(dir, "page"), filepath.Join(dir, "long")
	for file, content := range map[string]string{text: "From the file.\n", page: "<i>From the page.</i>", long: strings.Repeat("x", maxText+1)} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &Checker{TextFile: text, HTMLFile: page}
	if err := c.Open(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, got := rewrite(t, c, both, &Action{Position: Bottom}); !strings.Contains(got, "From the file.") || !strings.Contains(got, "From the page.") {
		t.Errorf("%q", got)
	}
	if _, got := rewrite(t, c, both, &Action{Text: "Of the rule.", Position: Bottom}); strings.Contains(got, "From the") || strings.Count(got, "Of the rule.") != 2 {
		t.Errorf("%q", got)
	}
	for _, bad := range []*Checker{{TextFile: dir + "/absent"}, {HTMLFile: long}} {
		if bad.Open(t.Context(), nil) == nil {
			t.Errorf("%+v was opened", bad)
		}
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("disk broke") }

// TestErrors checks that what cannot be read is held, not sent without the
// text.
func TestErrors(t *testing.T) {
	tx := filterstest.Transaction(filterstest.Message(both, mail.Options{}))
	for name, in := range map[string]filters.RewriteInput{
		"no text":        {Message: tx.Message, With: &Action{}},
		"other settings": {Message: tx.Message, With: 1},
		"unreadable":     {Message: mail.Parse(broken{}, 100, mail.Options{}), With: &Action{Text: "x"}},
	} {
		if m, err := (&Checker{}).Rewrite(t.Context(), in); err == nil {
			t.Errorf("%s: %v", name, m)
		}
	}
}

func TestPosition(t *testing.T) {
	var p Position
	if p.UnmarshalText([]byte("top")) != nil || p != Top || p.UnmarshalText([]byte("middle")) == nil {
		t.Error(p)
	}
}
