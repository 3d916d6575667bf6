package strip

import (
	"archive/zip"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"

	"postern/filters"
	"postern/filters/attachments"
	"postern/filters/filterstest"
	"postern/mail"
)

func TestConformance(t *testing.T) { filterstest.Run(t, Filter, filterstest.Options{}) }

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

func attachment(name, content string) string {
	return "--b\nContent-Type: application/octet-stream; name=\"" + name + "\"\nContent-Disposition: attachment; filename=\"" + name + "\"\n" +
		"Content-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte(content)) + "\n"
}

func mixed(parts ...string) string {
	return "From: a@b.example\nSubject: hello\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\nPreamble.\n" +
		"--b\nContent-Type: text/plain\n\nHello.\n" + strings.Join(parts, "") + "--b--\nEpilogue.\n"
}

// rewrite strips parts of a message that is given with LF line ends.
func rewrite(t *testing.T, m *mail.Message, language string, note string, parts ...mail.PartID) (*mail.Message, string, error) {
	t.Helper()
	c := &Checker{}
	if err := c.Open(t.Context(), &filters.Env{Language: language}); err != nil {
		t.Fatal(err)
	}
	marks := []*filters.Symbol{
		{Name: "ATTACHMENT_EXECUTABLE", Part: "2", Evidence: "setup.exe: Windows program"},
		{Name: "ATTACHMENT_SCRIPT", Part: "2", Evidence: "setup.exe: Windows program"},
		{Name: "ATTACHMENT_NAMED", Part: "2", Label: "setup.exe", Evidence: "setup.exe"},
	}
	rs := filters.Results{{Filter: "attachments", Verdict: filters.Verdict{Symbols: []filters.Symbol{
		*marks[0], *marks[1], *marks[2], {Name: "ATTACHMENT_PDF", Part: "2", Evidence: "the name ends in .pdf"},
	}}}}
	after, err := c.Rewrite(t.Context(), filters.RewriteInput{
		Tx: filterstest.Transaction(m), Message: m, Results: rs, With: &Action{Note: note}, Rule: "no-programs", Parts: parts, Marks: marks,
	})
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(after.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return after, strings.ReplaceAll(string(b), "\r\n", "\n"), nil
}

func TestStrip(t *testing.T) {
	before := filterstest.Message(mixed(attachment("setup.exe", "MZ program"), attachment("report.pdf", "%PDF-1.4")), mail.Options{})
	after, got, err := rewrite(t, before, "en", shippedNote, "2")
	if err != nil {
		t.Fatal(err)
	}
	if len(after.Parts()) != len(before.Parts()) || after.Part("3").Hash() != before.Part("3").Hash() {
		t.Errorf("other parts changed: %q", got)
	}
	notice := after.Part("2").Text()
	for _, want := range []string{"removed for safety", "Attachment: setup.exe", "Reason: setup.exe: Windows program", "Rule: no-programs", "Id: 01TEST"} {
		if !strings.Contains(notice, want) {
			t.Errorf("no %q in %q", want, notice)
		}
	}
	if strings.Count(notice, "Reason: ") != 1 {
		t.Errorf("not the rule's reason alone, or not once: %q", notice)
	}
	raw, _ := before.Bytes()
	text := strings.ReplaceAll(string(raw), "\r\n", "\n")
	first, last := text[:strings.Index(text, "--b\nContent-Type: application")], text[strings.LastIndex(text, "--b\nContent-Type: application"):]
	if !strings.HasPrefix(got, first) || !strings.HasSuffix(got, last) {
		t.Errorf("bytes changed that are no part of it:\n%s", got)
	}
}

func TestLanguagesAndNotes(t *testing.T) {
	m := filterstest.Message(mixed(attachment("a.exe", "MZ")), mail.Options{})
	for _, test := range []struct{ language, note, want string }{
		{"fr", shippedNote, "retirée par sécurité"}, {"fr", shippedNote, "Pièce jointe: a.exe"}, {"en", shippedNote, "removed"}, {"de", shippedNote, "removed"},
		{"fr", "Appelez le 1234.", "Appelez le 1234."}, {"en", "a\r\nb", "a\uFFFD\uFFFDb"},
	} {
		after, got, err := rewrite(t, m, test.language, test.note, "2")
		if err != nil || !strings.Contains(after.Part("2").Text(), test.want) {
			t.Errorf("%s %q: %v\n%s", test.language, test.note, err, got)
		}
		for _, line := range strings.Split(got, "\n") {
			if len(line) > 200 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
	}
}

func TestWhichPart(t *testing.T) {
	unpack := func(p *mail.Part) ([]mail.Member, error) {
		if len(p.Names()) == 0 || !strings.HasSuffix(p.Names()[0], ".zip") {
			return nil, nil
		}
		open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("MZ")), nil }
		return []mail.Member{{Name: "in.zip", Size: 2, Open: open}, {Name: "x.exe", Size: 2, Open: open}}, nil
	}
	once := func(p *mail.Part) ([]mail.Member, error) {
		if !p.InMessage() {
			return nil, nil
		}
		return unpack(p)
	}
	inner := "--b\nContent-Type: message/rfc822\n\nFrom: c@d.example\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=i\n\n" +
		"--i\n\nInner text.\n" + strings.ReplaceAll(attachment("in.exe", "MZ inner"), "--b\n", "--i\n") + "--i--\n\n"
	m := filterstest.Message(mixed(attachment("a.zip", "zip"), attachment("b.exe", "MZ"), inner), mail.Options{Unpack: []mail.Unpacker{once}})
	for _, test := range []struct {
		name  string
		parts []mail.PartID
		gone  []mail.PartID
	}{
		{"member", []mail.PartID{"2.2"}, []mail.PartID{"2"}},
		{"two members", []mail.PartID{"2.1", "2.2"}, []mail.PartID{"2"}},
		{"archive and member", []mail.PartID{"2.1", "2"}, []mail.PartID{"2"}},
		{"two attachments", []mail.PartID{"3", "2.2"}, []mail.PartID{"2", "3"}},
		{"attached message", []mail.PartID{"4"}, []mail.PartID{"4"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			after, got, err := rewrite(t, m, "en", shippedNote, test.parts...)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range test.gone {
				if p := after.Part(id); p == nil || p.MediaType() != "text/plain" || len(p.Children()) != 0 {
					t.Errorf("part %s is still there: %s", id, got)
				}
			}
			if n := strings.Count(got, "removed for safety"); n != len(test.gone) {
				t.Errorf("%d notices", n)
			}
		})
	}
	t.Run("in attached message", func(t *testing.T) {
		var id mail.PartID
		for _, p := range m.Parts() {
			if len(p.Names()) > 0 && p.Names()[0] == "in.exe" {
				id = p.ID()
			}
		}
		_, got, err := rewrite(t, m, "en", shippedNote, id)
		if err != nil || strings.Contains(got, base64.StdEncoding.EncodeToString([]byte("MZ inner"))) || !strings.Contains(got, "Inner text.") {
			t.Errorf("%v: %s", err, got)
		}
	})
}

func TestWholeMessage(t *testing.T) {
	m := filterstest.Message("From: a@b.example\nSubject: hello\nMIME-Version: 1.0\nContent-Type: application/octet-stream; name=a.exe\n"+
		"Content-Transfer-Encoding: base64\n\nTVo=\n", mail.Options{})
	after, got, err := rewrite(t, m, "en", shippedNote, "")
	if err != nil || after.Root().MediaType() != "text/plain" || after.Subject() != "hello" || strings.Contains(got, "TVo=") {
		t.Errorf("%v: %s", err, got)
	}
}

// TestSigned checks that signed mail is stripped too: the signature does not
// hold any more, and nothing else changes.
func TestSigned(t *testing.T) {
	signature := "--s\nContent-Type: application/pgp-signature\n\n-----BEGIN PGP SIGNATURE-----\n\nx\n--s--\n"
	body := strings.SplitN(mixed(attachment("a.exe", "MZ")), "MIME-Version: 1.0\n", 2)[1]
	m := filterstest.Message("From: a@b.example\nMIME-Version: 1.0\nContent-Type: multipart/signed; boundary=s; protocol=\"application/pgp-signature\"\n\n--s\n"+body+signature, mail.Options{})
	_, got, err := rewrite(t, m, "en", shippedNote, "1.2")
	if err != nil || !strings.HasSuffix(got, signature) || !strings.Contains(got, "removed for safety") {
		t.Errorf("%v: %s", err, got)
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("disk broke") }

// TestErrors checks that what cannot be stripped is held, never sent as it is.
func TestErrors(t *testing.T) {
	good := filterstest.Message(mixed(attachment("a.exe", "MZ")), mail.Options{})
	for name, test := range map[string]struct {
		m     *mail.Message
		parts []mail.PartID
	}{
		"no part":          {good, nil},
		"unknown part":     {good, []mail.PartID{"7"}},
		"cannot be read":   {mail.Parse(broken{}, 100, mail.Options{}), []mail.PartID{""}},
		"one good one not": {good, []mail.PartID{"2", "9.9"}},
	} {
		if after, _, err := rewrite(t, test.m, "en", shippedNote, test.parts...); err == nil {
			t.Errorf("%s: %v", name, after)
		}
	}
	in := filters.RewriteInput{Tx: filterstest.Transaction(good), Message: good}
	if err := gone(t.Context(), in, good, []*mail.Part{good.Part("2")}); err == nil {
		t.Error("a part that is still there is not noticed")
	}
	if _, err := (&Checker{}).Rewrite(t.Context(), filters.RewriteInput{Message: good, With: 1}); err == nil {
		t.Error("settings of another action are taken")
	}
	for _, bad := range []*Action{{}, {Note: " "}, {Note: strings.Repeat("x", 2001)}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

// TestNoticeNeverDelimits gives an attachment a name that, folded by
// quoted-printable, would begin a line with the delimiter: the notice stays one
// part.
func TestNoticeNeverDelimits(t *testing.T) {
	for pad := 55; pad < 75; pad++ {
		name := strings.Repeat("x", pad) + "--b"
		before := filterstest.Message(mixed(attachment(name, "MZ program"), attachment("report.pdf", "%PDF-1.4")), mail.Options{})
		after, got, err := rewrite(t, before, "en", shippedNote, "2")
		if err != nil {
			t.Fatal(err)
		}
		if len(after.Parts()) != len(before.Parts()) || !strings.Contains(after.Part("2").Text(), name) {
			t.Fatalf("%d parts became %d: %s", len(before.Parts()), len(after.Parts()), got)
		}
	}
}

// TestSecondStrip lets two rules strip: what the second marked may be gone with
// what the first took out.
func TestSecondStrip(t *testing.T) {
	before := filterstest.Message(mixed(attachment("setup.exe", "MZ program"), attachment("report.pdf", "%PDF-1.4")), mail.Options{})
	archive := zipped(t, "inner.exe", "MZ inner")
	withZip := filterstest.Message(mixed(attachment("a.zip", archive), attachment("report.pdf", "%PDF-1.4")), (&attachments.Checker{Unpack: attachments.Filter.New().(*attachments.Checker).Unpack}).ParseOptions())
	for name, test := range map[string]struct {
		m             *mail.Message
		first, second mail.PartID
	}{
		"the same part":       {before, "2", "2"},
		"a member, then all":  {withZip, "2.1", "2"},
		"all, then a member":  {withZip, "2", "2.1"},
		"one, then the other": {before, "2", "3"},
	} {
		c := &Checker{}
		in := filters.RewriteInput{Tx: filterstest.Transaction(test.m), Message: test.m, With: &Action{Note: shippedNote}, Rule: "one", Parts: []mail.PartID{test.first}}
		once, err := c.Rewrite(t.Context(), in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		in.Message, in.Parts, in.Rule = once, []mail.PartID{test.second}, "two"
		twice, err := c.Rewrite(t.Context(), in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, p := range twice.Parts() {
			if p.Hash() == test.m.Part(test.first).Hash() || p.Hash() == test.m.Part(test.second).Hash() {
				t.Errorf("%s: part %s is still there", name, p.ID())
			}
		}
	}
}

// TestEqualFiles strips a file by its name: another one with the same content
// under a harmless name does not keep the message back.
func TestEqualFiles(t *testing.T) {
	before := filterstest.Message(mixed(attachment("run.js", "hello"), attachment("run.js.txt", "hello")), mail.Options{})
	after, got, err := rewrite(t, before, "en", shippedNote, "2")
	if err != nil || len(after.Parts()) != 4 || after.Part("3").Hash() != before.Part("3").Hash() {
		t.Errorf("%v: %s", err, got)
	}
}

func zipped(t *testing.T, name, content string) string {
	t.Helper()
	var b strings.Builder
	w := zip.NewWriter(&b)
	f, err := w.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestReleasedAgain: of a released message the notice names what is held.
func TestReleasedAgain(t *testing.T) {
	m := filterstest.Message(mixed(attachment("a.exe", "MZ")), mail.Options{})
	after, err := (&Checker{language: "fr"}).Rewrite(t.Context(), filters.RewriteInput{
		Tx: filterstest.Transaction(m), Message: m, With: &Action{Note: shippedNote}, Rule: "r", Parts: []mail.PartID{"2"}, Kept: "01HELD",
	})
	if err != nil || !strings.Contains(after.Part("2").Text(), "Identifiant: 01HELD\r\n") || strings.Contains(after.Part("2").Text(), "Raison") {
		t.Errorf("%v: %s", err, after.Part("2").Text())
	}
}
