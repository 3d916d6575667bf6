package phish

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

const settings = `
lookalike_of = ["site", "partner.example", "ab.example", "société.example"]
exempt       = ["portner.example"]
executives   = ["Jeanne Dupont"]
`

func options() filterstest.Options {
	return filterstest.Options{
		Env: &filters.Env{Domains: []string{"victim.example"}}, Settings: settings,
		Bad: map[string]string{
			`lookalike_of = ["list:partners"]`: "lookalike_of",
			`lookalike_of = ["victim"]`:        "lookalike_of",
			`exempt = ["a b.example"]`:         "exempt",
			`executives = ["Jeanne"]`:          "executives",
		},
	}
}

func TestConformance(t *testing.T) { filterstest.Run(t, Filter, options()) }

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

func TestAuthors(t *testing.T) {
	puny := func(domain string) string {
		a, err := idna.Punycode.ToASCII(domain)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, c := range []struct{ from, symbols, evidence string }{
		// nobody pretends
		{"Bob <bob@victim.example>", "", ""},
		{`"ceo@victim.example" <bob@mail.victim.example>`, "", ""},
		{"Bob <bob@other.example>", "", ""},
		{"Bob <bob@portner.example>", "", ""},
		{`"bob@other.example" <bob@other.example>`, "", ""},
		{`"bob@mail.other.example" <bob@other.example>`, "", ""},
		{`"bob@other.example" <bob@bounce.other.example>`, "", ""},
		{"Victim <bob@vic.example>", "", ""},
		{"Sales @ Work <sales@other.example>", "", ""},
		{`"notvictim.example" <x@other.example>`, "", ""},
		{`"victim.example.other" <x@other.example>`, "", ""},
		{"Jeanne Martin <j@other.example>", "", ""},
		{"Jeanne Dupont <j@victim.example>", "", ""},
		{"Jeanne Dupont <j@partner.example>", "", ""},
		{"x@ob.example", "", ""}, // ab.example is too short to be one letter off
		{"=?utf-8?b?2KPYrdmF2K8g2YXbjOKAjNix2YjYrw==?= <x@other.example>", "", ""},
		{"=?utf-8?b?8J+RqeKAjfCfkrs=?= <x@other.example>", "", ""},
		{"undisclosed:;", "", ""},
		// domains
		{"x@" + puny("vіctim.example"), "LOOKALIKE_DOMAIN", "letters that look the same"},
		{"x@mail." + puny("victím.example"), "LOOKALIKE_DOMAIN", "letters that look the same"},
		{"x@" + puny("аb.example"), "LOOKALIKE_DOMAIN", "ab.example"},
		{"x@societe.example", "LOOKALIKE_DOMAIN", "société.example"},
		{"x@" + puny("sociéte.example"), "LOOKALIKE_DOMAIN", "société.example"},
		{"x@vlctim.example", "LOOKALIKE_DOMAIN", "x@vlctim.example: vlctim.example looks like victim.example: letters easily misread"},
		{"x@vict1m.example", "LOOKALIKE_DOMAIN", "easily misread"},
		{"x@vic-tim.example", "LOOKALIKE_DOMAIN", "easily misread"},
		{"x@partmer.example", "LOOKALIKE_DOMAIN", "one letter differs"},
		{"x@partne.example", "LOOKALIKE_DOMAIN", "one letter differs"},
		{"x@partnner.example", "LOOKALIKE_DOMAIN", "one letter differs"},
		{"x@partenr.example", "LOOKALIKE_DOMAIN", "one letter differs"},
		{"x@parner.example, y@vlctim.example", "LOOKALIKE_DOMAIN", "partner.example"},
		{"x@victim.example.attack.test", "LOOKALIKE_DOMAIN", "it begins with it"},
		{"x@www.victim.example.attack.test", "LOOKALIKE_DOMAIN", "it begins with it"},
		{"\"“bob@other.example”\" <bob@other.example>", "", ""},
		{"\"辻\U000E0100 葛\U000E0101城\" <x@other.example>", "", ""},
		{"\"Bob 🏴\U000E0067\U000E0062\U000E0073\U000E0063\U000E0074\U000E007F\" <x@other.example>", "", ""},
		// names
		{"\"“victim.example”\" <x@attack.test>", "DISPLAY_NAME_PROTECTED", ""},
		{"\"🔒victim.example✓\" <x@attack.test>", "DISPLAY_NAME_PROTECTED", ""},
		{"\"“ceo@victim.example”\" <x@attack.test>", "DISPLAY_NAME_PROTECTED DISPLAY_NAME_ADDRESS", ""},
		{"\"évictim.example\" <x@attack.test>", "", ""},
		{"\"“Jeanne Dupont” ✓\" <x@attack.test>", "DISPLAY_NAME_EXECUTIVE", ""},
		{"\"pay\U000E0067pal\" <x@attack.test>", "DISPLAY_NAME_HIDDEN", "U+E0067"},
		{"\"pay\U000E0100pal\" <x@attack.test>", "DISPLAY_NAME_HIDDEN", "U+E0100"},
		{`"ceo@victim.example" <x@attack.test>`, "DISPLAY_NAME_PROTECTED DISPLAY_NAME_ADDRESS", "shows victim.example"},
		{`"Victim CEO via VICTIM.example" <x@attack.test>`, "DISPLAY_NAME_PROTECTED", "shows victim.example"},
		{"=?utf-8?b?Y2VvQHZpY3RpbS5leGFtcGxl?= <x@attack.test>", "DISPLAY_NAME_PROTECTED DISPLAY_NAME_ADDRESS", ""},
		{"\"ceo@vіctіm.example\" <x@attack.test>", "DISPLAY_NAME_PROTECTED DISPLAY_NAME_ADDRESS", ""},
		{"\"ceo\u200b@\u200bvictim.example\" <x@attack.test>", "DISPLAY_NAME_HIDDEN DISPLAY_NAME_PROTECTED DISPLAY_NAME_ADDRESS", "U+200B"},
		{"\"\u202eelpmaxe.mitciv@oec\" <x@attack.test>", "DISPLAY_NAME_HIDDEN DISPLAY_NAME_PROTECTED DISPLAY_NAME_ADDRESS", "U+202E"},
		{"\"pay\u200cpal\" <x@attack.test>", "DISPLAY_NAME_HIDDEN", "U+200C"},
		{`"bob@other.example" <x@attack.test>`, "DISPLAY_NAME_ADDRESS", "an address of other.example"},
		{`"DUPONT, Jeanne" <x@attack.test>`, "DISPLAY_NAME_EXECUTIVE", "that of Jeanne Dupont"},
		{"\"Jеannе Dupont\" <x@attack.test>", "DISPLAY_NAME_EXECUTIVE", ""},
		{"Jeanne Dupont <j@vlctim.example>", "LOOKALIKE_DOMAIN DISPLAY_NAME_EXECUTIVE", ""},
	} {
		checker := filterstest.New(t, Filter, options())
		tx := filterstest.Transaction(filterstest.Message("From: "+c.from+"\n\nx\n", mail.Options{}))
		v := filterstest.Check(t, checker, tx)
		if got := strings.Join(filterstest.Names(v), " "); got != c.symbols {
			t.Errorf("%s: %q, want %q", c.from, got, c.symbols)
			continue
		}
		if c.evidence != "" && !strings.Contains(v.Symbols[0].Evidence, c.evidence) {
			t.Errorf("%s: evidence %q", c.from, v.Symbols[0].Evidence)
		}
		tx.Session.Direction = mail.Outbound
		if v := filterstest.Check(t, checker, tx); len(v.Symbols) > 0 {
			t.Errorf("%s: our own client is looked at", c.from)
		}
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"abcde", "abcde", false}, {"abcde", "abcd", true}, {"abcde", "xabcde", true}, {"abcde", "abxde", true}, {"abcde", "abdce", true},
		{"abcde", "abedc", false}, {"abcde", "abc", false}, {"abcde", "bacdx", false}, {"", "", false}, {"", "a", true}, {"ab", "ba", true},
	} {
		if near(c.a, c.b) != c.want || near(c.b, c.a) != c.want {
			t.Errorf("near(%q, %q) is not %t", c.a, c.b, c.want)
		}
	}
}

// TestUnicode folds every small letter that a domain may have and that UTS #39
// takes for a letter or digit of ASCII.
func TestUnicode(t *testing.T) {
	corpora := os.Getenv("POSTERN_CORPORA")
	if corpora == "" {
		t.Skip("POSTERN_CORPORA is not set")
	}
	data, err := os.ReadFile(filepath.Join(corpora, "url", "unicode-security", "confusables.txt"))
	if err != nil {
		t.Fatal(err)
	}
	tried, missed := 0, []string{}
	for line := range strings.Lines(string(data)) {
		from, rest, ok := strings.Cut(line, ";")
		to, _, _ := strings.Cut(rest, ";")
		a, errA := strconv.ParseUint(strings.TrimSpace(from), 16, 32)
		b, errB := strconv.ParseUint(strings.TrimSpace(to), 16, 32)
		if !ok || errA != nil || errB != nil || a < 0x80 || a > 0x24F && a < 0x370 || a > 0x52F || !isLetter(rune(b)) {
			continue // Latin, Greek and Cyrillic: the scripts that domains are forged with
		}
		label := "a" + string(rune(a))
		if ascii, err := idna.Lookup.ToASCII(label); err != nil || !strings.HasPrefix(ascii, "xn--") {
			continue
		}
		tried++
		want := strings.ToLower(string(rune(b)))
		if got := fold(string(rune(a))); got != want && blur(got) != blur(want) {
			missed = append(missed, string(rune(a))+" for "+want+" is "+got)
		}
	}
	t.Logf("%d letters, %d read otherwise: %s", tried, len(missed), strings.Join(missed, "; "))
	if tried < 80 || len(missed) > 0 {
		t.Errorf("%d of %d letters are read otherwise", len(missed), tried)
	}
}

func isLetter(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

func TestTable(t *testing.T) {
	seen := map[rune]rune{}
	for to, from := range alike {
		for _, r := range from {
			if other, ok := seen[r]; ok {
				t.Errorf("%q stands for %q and %q", r, other, to)
			}
			seen[r] = to
		}
	}
	if !slices.Equal([]string{fold("Ｖíctıм"), fold("ΡаyРаl")}, []string{"victim", "paypal"}) {
		t.Error(fold("Ｖíctıм"), fold("ΡаyРаl"))
	}
}

func FuzzFold(f *testing.F) {
	f.Add("ceo@vіctim.example")
	f.Add("\u202etset.mitciv")
	f.Fuzz(func(t *testing.T, s string) {
		folded := fold(s)
		if again := fold(folded); utf8.ValidString(s) && again != folded {
			t.Errorf("%q: %q, then %q", s, folded, again)
		}
		for _, text := range shown(s) {
			domainsIn(text)
			hasWord(text, "victim.example")
		}
		person(s)
		p := protect("victim.example")
		p.resembled(folded)
	})
}

func BenchmarkCheck(b *testing.B) {
	checker := filterstest.New(b, Filter, options())
	tx := filterstest.Transaction(filterstest.Message("From: Bob Miller <bob@other.example>\n\nx\n", mail.Options{}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := checker.Check(b.Context(), tx, nil); err != nil {
			b.Fatal(err)
		}
	}
}
