package standard

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

// active are the cases of the exam that are about what a document does when it
// is opened. The filters here tell kinds, not deeds.
var active = []string{"MIME-62", "MIME-63", "ARCH-20", "ARCH-35"}

// harmless are the symbols that no policy holds mail for.
var harmless = []string{
	"ATTACHMENT_NAMED", "ATTACHMENT_TEXT", "ATTACHMENT_PDF", "ATTACHMENT_OFFICE", "ATTACHMENT_IMAGE", "ATTACHMENT_ARCHIVE", "ATTACHMENT_MESSAGE",
	"ATTACHMENT_HTML", "ATTACHMENT_UNKNOWN", "VIRUS_NOT_SCANNED", "VIRUS_PART_SKIPPED", "FIRST_CONTACT",
}

// TestExam runs the exam's cases of attachments through all filters: where a
// message must not pass, a symbol says why; where it must, none does.
func TestExam(t *testing.T) {
	root := os.Getenv("POSTERN_EXAM")
	if root == "" {
		t.Skip("POSTERN_EXAM is not set")
	}
	chain := openAll(t)
	manifest, err := os.Open(filepath.Join(root, "manifest.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer manifest.Close()
	lines := bufio.NewScanner(manifest)
	lines.Buffer(nil, 1<<20)
	cases := 0
	for lines.Scan() {
		var c struct {
			ID, Profile, Input string
			Expect             struct{ Outcome []string }
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if c.Profile != "attach" || !strings.HasSuffix(c.Input, ".eml") || slices.Contains(active, c.ID) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(root, c.Input))
		if err != nil {
			t.Error(err)
			continue
		}
		cases++
		why := suspicious(t, chain, raw)
		may := slices.Contains(c.Expect.Outcome, "delivered")
		if len(why) == 0 && !may {
			t.Errorf("%s: nothing speaks against it", c.ID)
		}
		if len(why) > 0 && len(c.Expect.Outcome) == 1 && may {
			t.Errorf("%s: must pass, but %q", c.ID, why)
		}
	}
	if err := lines.Err(); err != nil || cases < 100 {
		t.Errorf("%d cases, %v", cases, err)
	}
	t.Logf("%d cases", cases)
}

// asking are the filters that ask the DNS: here is none, and they have suites of
// their own.
var asking = []string{"iprev", "spf", "dkim", "arc", "dmarc", "dkimsign"}

// openAll returns a chain of all filters that look at content, with their
// defaults.
func openAll(t testing.TB) *filters.Chain {
	t.Helper()
	c := &filters.Chain{}
	for _, f := range Filters {
		if slices.Contains(asking, f.Name) {
			continue
		}
		if err := c.Link(f, f.New(), filters.LinkSettings{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Open(t.Context(), &filters.Env{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// suspicious returns the symbols that a careful policy holds mail for. A
// malformed structure alone is none.
func suspicious(t *testing.T, c *filters.Chain, raw []byte) (why []string) {
	t.Helper()
	m := mail.ParseBytes(raw, c.ParseOptions())
	for _, r := range c.Check(t.Context(), filterstest.Transaction(m)) {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Filter, r.Err)
		}
		for _, s := range r.Verdict.Symbols {
			if r.Filter != "structure" && !slices.Contains(harmless, s.Name) {
				why = append(why, s.Name)
			}
		}
	}
	for _, f := range m.Findings() {
		if f.Kind.Class() != mail.Malformed {
			why = append(why, string(f.Kind))
		}
	}
	return why
}

// BenchmarkAll is what a message with an attachment costs with every filter
// and no engine.
func BenchmarkAll(b *testing.B) {
	c := openAll(b)
	raw := []byte("From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + strings.Repeat("A line of text.\r\n", 200) +
		"--b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjQK\r\n" + strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 700) + "--b--\r\n")
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		for _, r := range c.Check(b.Context(), filterstest.Transaction(mail.ParseBytes(raw, c.ParseOptions()))) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
}
