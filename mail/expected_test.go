package mail

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// differ reports a difference from an expected part list unless it is listed
// with a reason.
func differ(t *testing.T, name string, reasons map[string]string, used map[string]bool, format string, args ...any) {
	t.Helper()
	if _, ok := reasons[name]; ok {
		used[name] = true
		return
	}
	t.Errorf("%s: %s", name, fmt.Sprintf(format, args...))
}

// unused reports reasons that no difference needs any more.
func unused(t *testing.T, reasons map[string]string, used map[string]bool) {
	t.Helper()
	for name, why := range reasons {
		if !used[name] {
			t.Errorf("%s: no difference, but the list says: %s", name, why)
		} else {
			t.Logf("%s differs: %s", name, why)
		}
	}
}

// shape writes the tree of a part, other readings and files in text left out.
func shape(p *Part) string {
	var kids []string
	for _, c := range p.children {
		if !c.reading && c.member == nil {
			kids = append(kids, shape(c))
		}
	}
	word := "multipart"
	switch {
	case len(kids) == 0:
		return "leaf" // a multipart without parts is one
	case p.boundary == nil:
		word = "message"
	}
	return word + "(" + strings.Join(kids, " ") + ")"
}

var mime4jReasons = map[string]string{
	"testmsgs/ending-boundaries.msg":       "delimiters with text after them are another reading here",
	"testmsgs/very-long-boundary.msg":      "blanks at the end of a boundary are cut, as RFC 2046 section 5.1.1 forbids them",
	"testmsgs/very-very-long-boundary.msg": "the same",
	"testmsgs/weird-boundary.msg":          "the same",
}

// TestMime4jTrees compares with the trees that mime4j expects.
func TestMime4jTrees(t *testing.T) {
	root := corpora(t, "mime/mime4j/core")
	n, used := 0, map[string]bool{}
	files(t, root, func(name string, data []byte) {
		want, err := os.ReadFile(strings.TrimSuffix(name, ".msg") + ".xml")
		if !strings.HasSuffix(name, ".msg") || err != nil {
			return
		}
		n++
		rel, _ := filepath.Rel(root, name)
		expected, err := mime4jShape(want)
		if err != nil {
			t.Errorf("%s: %v", rel, err)
			return
		}
		m := ParseBytes(data, Options{})
		m.Parts()
		if got := shape(m.Root()); got != expected {
			differ(t, rel, mime4jReasons, used, "got %s, want %s", got, expected)
		}
	})
	unused(t, mime4jReasons, used)
	t.Logf("%d trees compared", n)
}

// mime4jShape reads mime4j's XML description of a message.
func mime4jShape(b []byte) (string, error) {
	d := xml.NewDecoder(strings.NewReader(strings.ToValidUTF8(string(b), "?")))
	d.Strict = false
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	var out strings.Builder
	depth := 0
	open := func(s string) {
		if n := out.Len(); n > 0 && out.String()[n-1] != '(' {
			out.WriteByte(' ')
		}
		out.WriteString(s)
	}
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return strings.ReplaceAll(out.String(), "multipart()", "leaf"), nil
		}
		if err != nil {
			return "", err
		}
		switch e := tok.(type) {
		case xml.StartElement:
			switch e.Name.Local {
			case "message":
				if depth++; depth > 1 {
					open("message(")
				}
			case "multipart":
				open("multipart(")
			case "body":
				open("leaf")
			}
		case xml.EndElement:
			switch e.Name.Local {
			case "message":
				if depth--; depth > 0 {
					out.WriteByte(')')
				}
			case "multipart":
				out.WriteByte(')')
			}
		}
	}
}

var stalwartReasons = map[string]string{
	"malformed/000":  "parts whose header has no empty line are parts here",
	"malformed/001":  "an empty header whose line is a delimiter prefix belongs to the part here",
	"malformed/004":  "delimiter prefixes are another reading here",
	"malformed/007":  "an inner multipart that begins in its own header is read here",
	"malformed/008":  "an inner delimiter that is a prefix of the outer one is another reading here",
	"malformed/009":  "an outer delimiter ends an inner multipart that has no end here",
	"malformed/011":  "the same",
	"malformed/012":  "the same",
	"malformed/013":  "an empty part at the end is a part here",
	"malformed/014":  "the same",
	"malformed/016":  "outer delimiters end inner multiparts here",
	"malformed/019":  "a part that begins with a line that is no field has no header here; with it is another reading",
	"malformed/020":  "a header that runs into the next one declares two types: the first counts here",
	"malformed/021":  "the same",
	"thirdparty/015": "attached messages without an empty line are parts here",
}

// TestStalwartParts compares where parts lie and what they decode to.
func TestStalwartParts(t *testing.T) {
	root := corpora(t, "mime/stalwart-mail-parser")
	n, used := 0, map[string]bool{}
	files(t, root, func(name string, data []byte) {
		if !strings.HasSuffix(name, ".json") {
			return
		}
		var want struct {
			Parts []struct {
				Body   json.RawMessage `json:"body"`
				Header int64           `json:"offset_header"`
				Start  int64           `json:"offset_body"`
				End    int64           `json:"offset_end"`
			} `json:"parts"`
		}
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		rel, _ := filepath.Rel(root, name)
		base := strings.TrimSuffix(name, ".json")
		crlf := strings.HasSuffix(base, ".crlf")
		raw, err := os.ReadFile(strings.TrimSuffix(base, ".crlf") + ".eml")
		if err != nil {
			t.Fatal(err)
		}
		raw = bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
		if crlf {
			raw = bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))
		}
		n++
		m := ParseBytes(raw, Options{})
		var got, expected []string
		for _, p := range m.Parts() {
			if p.reading || !p.InMessage() || p.parent != nil && inMessagePart(p) {
				continue
			}
			got = append(got, fmt.Sprintf("%d-%d", p.start, p.body))
		}
		for _, p := range want.Parts {
			expected = append(expected, fmt.Sprintf("%d-%d", p.Header, p.Start))
		}
		if g, w := strings.Join(got, " "), strings.Join(expected, " "); g != w {
			differ(t, strings.TrimSuffix(strings.TrimSuffix(rel, ".json"), ".crlf"), stalwartReasons, used, "got %s\n want %s", g, w)
		}
	})
	unused(t, stalwartReasons, used)
	t.Logf("%d part lists compared", n)
}

var perlReasons = map[string]string{
	"multi-digest.ref": "a media type without a slash is text/plain here",
	"uu-junk.ref":      "files in text are parts here; that list was made without",
	"uu-zeegee.ref":    "files in text are parts of the text here, beside it there",
}

var perlPart = regexp.MustCompile(`(?s)"Part_([0-9_]+)" => \{(.*?)\}`)
var perlType = regexp.MustCompile(`"Type" => "([^"]*)"`)
var perlFile = regexp.MustCompile(`"Filename" => "([^"]*)"`)

// TestPerlParts compares with the part lists of MIME-tools.
func TestPerlParts(t *testing.T) {
	root := corpora(t, "mime/perl-mime-tools/testmsgs")
	n, used := 0, map[string]bool{}
	files(t, root, func(name string, ref []byte) {
		raw, err := os.ReadFile(strings.TrimSuffix(name, ".ref") + ".msg")
		if !strings.HasSuffix(name, ".ref") || err != nil {
			return
		}
		n++
		rel, _ := filepath.Rel(root, name)
		m := ParseBytes(raw, Options{})
		count := 0
		for _, match := range perlPart.FindAllSubmatch(ref, -1) {
			count++
			id := strings.ReplaceAll(string(match[1]), "_", ".")
			p := m.Part(PartID(id))
			if p == nil {
				differ(t, rel, perlReasons, used, "no part %s", id)
				continue
			}
			if ty := perlType.FindSubmatch(match[2]); ty != nil && !strings.EqualFold(string(ty[1]), p.MediaType()) {
				differ(t, rel, perlReasons, used, "part %s: type %s, want %s", id, p.MediaType(), ty[1])
			}
			if f := perlFile.FindSubmatch(match[2]); f != nil && !hasName(p, string(f[1])) {
				differ(t, rel, perlReasons, used, "part %s: names %q, want %s", id, p.Names(), f[1])
			}
		}
		have := 0
		for _, p := range m.Parts()[1:] {
			if !p.reading {
				have++
			}
		}
		if have != count {
			differ(t, rel, perlReasons, used, "%d parts, want %d", have, count)
		}
	})
	unused(t, perlReasons, used)
	t.Logf("%d part lists compared", n)
}

func hasName(p *Part, name string) bool {
	for _, n := range p.Names() {
		if n == name {
			return true
		}
	}
	return false
}
