package postern_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write rfc/index.txt anew: the packages of each RFC, and a line for each new one")

const rfcIndex = "rfc/index.txt"

// rfcMention matches "RFC 5321" and "RFCs 5321", "RFC5321" being how the
// words RFC5321.MailFrom and RFC5322.From are written.
var rfcMention = regexp.MustCompile(`\bRFCs?\s?(\d{2,5})\b`)

// rfcStates are the states that an RFC can have in the index.
var rfcStates = []string{"full", "partial"}

// An rfcLine is one line of the index: number, state, packages, title,
// separated by tabs.
type rfcLine struct {
	number   string
	state    string
	packages []string
	title    string
}

func (l rfcLine) String() string {
	return strings.Join([]string{l.number, l.state, strings.Join(l.packages, " "), l.title}, "\t")
}

// readIndex returns the comment at the head of the index and its lines.
func readIndex(t *testing.T) (head string, lines []rfcLine) {
	t.Helper()
	text, err := os.ReadFile(rfcIndex)
	if err != nil {
		t.Fatal(err)
	}
	for n, l := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if strings.HasPrefix(l, "#") || l == "" {
			head += l + "\n"
			continue
		}
		f := strings.Split(l, "\t")
		if len(f) != 4 {
			t.Fatalf("%s:%d: %d fields, want number, state, packages, title", rfcIndex, n+1, len(f))
		}
		lines = append(lines, rfcLine{number: f[0], state: f[1], packages: strings.Fields(f[2]), title: f[3]})
	}
	return head, lines
}

// mentions returns the packages whose comments name each RFC.
func mentions(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, s := range readSources(t) {
		if s.test {
			continue
		}
		for _, group := range s.file.Comments {
			for _, m := range rfcMention.FindAllStringSubmatch(group.Text(), -1) {
				if !slices.Contains(found[m[1]], s.dir()) {
					found[m[1]] = append(found[m[1]], s.dir())
				}
			}
		}
	}
	for _, dirs := range found {
		sort.Strings(dirs)
	}
	return found
}

func TestRFCIndex(t *testing.T) {
	found := mentions(t)
	head, lines := readIndex(t)
	if *update {
		writeIndex(t, head, lines, found)
		_, lines = readIndex(t)
	}
	previous := 0
	for _, l := range lines {
		var number int
		if _, err := fmt.Sscanf(l.number, "%d", &number); err != nil || number <= previous {
			t.Errorf("RFC %s: the lines must be in the order of their numbers, each once", l.number)
		}
		previous = number
		if !slices.Contains(rfcStates, l.state) {
			t.Errorf("RFC %s: state %q is none of %q", l.number, l.state, rfcStates)
		}
		if l.title == "" {
			t.Errorf("RFC %s has no title", l.number)
		}
		if want := found[l.number]; !slices.Equal(l.packages, want) {
			t.Errorf("RFC %s: the index says %q, comments name it in %q (go test -run TestRFCIndex . -update)", l.number, l.packages, want)
		}
		delete(found, l.number)
	}
	for number, dirs := range found {
		t.Errorf("RFC %s is named in %q and does not stand in the index (go test -run TestRFCIndex . -update)", number, dirs)
	}
}

// writeIndex writes the index with the packages found. A new RFC gets a line
// without a state and a title: somebody has to say them.
func writeIndex(t *testing.T, head string, lines []rfcLine, found map[string][]string) {
	t.Helper()
	known := map[string]bool{}
	var kept []rfcLine
	for _, l := range lines {
		known[l.number] = true
		if l.packages = found[l.number]; l.packages != nil {
			kept = append(kept, l)
		}
	}
	for number, dirs := range found {
		if !known[number] {
			kept = append(kept, rfcLine{number: number, packages: dirs})
		}
	}
	sort.Slice(kept, func(i, j int) bool {
		a, b := kept[i].number, kept[j].number
		return len(a) < len(b) || len(a) == len(b) && a < b
	})
	for _, l := range kept {
		head += l.String() + "\n"
	}
	if err := os.WriteFile(rfcIndex, []byte(head), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRFCMention(t *testing.T) {
	for text, want := range map[string]string{
		"RFC 5321 section 4.5.2: the dot": "5321",
		"RFC5322.From":                    "5322",
		"see\nRFC\n2047.":                 "2047",
		"an RFC without a number":         "",
		"xRFC 1":                          "",
	} {
		got := ""
		if m := rfcMention.FindStringSubmatch(text); m != nil {
			got = m[1]
		}
		if got != want {
			t.Errorf("%q names RFC %q, want %q", text, got, want)
		}
	}
}
