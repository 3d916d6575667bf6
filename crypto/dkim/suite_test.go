package dkim

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"postern/dns"
	"postern/mail"
)

// corpora returns a folder of the corpora that others made; without corpora it
// skips.
func corpora(t testing.TB, folder string) string {
	t.Helper()
	root := os.Getenv("POSTERN_CORPORA")
	if root == "" {
		t.Skip("POSTERN_CORPORA is not set")
	}
	dir := filepath.Join(root, filepath.FromSlash(folder))
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// readFile reads a file of the corpora.
func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// crlfLines ends every line of a text with CRLF, as SMTP does.
func crlfLines(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

// parse returns a message.
func parse(s string) *mail.Message { return mail.ParseBytes([]byte(s), mail.Options{}) }

// A table answers TXT look-ups: a name in lower case to its records; a record
// that is TEMPERROR or PERMERROR is that error. It counts what it is asked.
type table struct {
	records map[string][]string
	asked   atomic.Int64
}

func newTable() *table { return &table{records: map[string][]string{}} }

func (z *table) add(name, record string) {
	name = strings.ToLower(strings.TrimSpace(name))
	z.records[name] = append(z.records[name], record)
}

func (z *table) TXT(ctx context.Context, name string) (dns.Answer[string], error) {
	z.asked.Add(1)
	if ctx.Err() != nil {
		return dns.Answer[string]{}, dns.ErrTemporary
	}
	found := z.records[strings.ToLower(name)]
	switch {
	case len(found) == 0 || found[0] == "PERMERROR":
		return dns.Answer[string]{}, dns.ErrNotFound
	case found[0] == "TEMPERROR":
		return dns.Answer[string]{}, dns.ErrTemporary
	}
	return dns.Answer[string]{Records: found}, nil
}

func (*table) Addrs(context.Context, string) (a dns.Answer[netip.Addr], err error) {
	return a, dns.ErrNotFound
}

func (*table) A(context.Context, string) (a dns.Answer[netip.Addr], err error) {
	return a, dns.ErrNotFound
}

func (*table) AAAA(context.Context, string) (a dns.Answer[netip.Addr], err error) {
	return a, dns.ErrNotFound
}

func (*table) MX(context.Context, string) (a dns.Answer[dns.MX], err error) {
	return a, dns.ErrNotFound
}

func (*table) PTR(context.Context, netip.Addr) (a dns.Answer[string], err error) {
	return a, dns.ErrNotFound
}

// A yamlReader reads the little of YAML that the suites are written in: maps by
// indentation, plain and quoted scalars, literal (|) and folded (>-) blocks.
type yamlReader struct{ lines []string }

// readSuite reads the scenarios of a YAML or JSON file.
func readSuite(t testing.TB, path string) []map[string]any {
	t.Helper()
	var docs []map[string]any
	if strings.HasSuffix(path, ".json") {
		if err := json.Unmarshal([]byte(readFile(t, path)), &docs); err != nil {
			t.Fatal(err)
		}
		return docs
	}
	text := strings.ReplaceAll(readFile(t, path), "\r\n", "\n")
	for doc := range strings.SplitSeq("\n"+text, "\n---") {
		r := &yamlReader{lines: strings.Split(doc, "\n")}
		if m := r.mapping(0); len(m) > 0 {
			docs = append(docs, m)
		}
	}
	return docs
}

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// skip drops blank lines and comments.
func (r *yamlReader) skip() {
	for len(r.lines) > 0 {
		if l := strings.TrimSpace(r.lines[0]); l != "" && l[0] != '#' {
			return
		}
		r.lines = r.lines[1:]
	}
}

// mapping reads keys that are indented by at least depth.
func (r *yamlReader) mapping(depth int) map[string]any {
	m := map[string]any{}
	for at := -1; ; {
		r.skip()
		if len(r.lines) == 0 {
			return m
		}
		line := r.lines[0]
		n := indent(line)
		if at < 0 {
			at = n
		}
		key, value, ok := strings.Cut(line[n:], ":")
		if n < depth || n != at || !ok {
			return m
		}
		r.lines = r.lines[1:]
		key = strings.Trim(key, `"'`)
		switch value = strings.TrimSpace(value); value {
		case "":
			m[key] = r.mapping(n + 1)
		case "|", "|-", ">", ">-":
			m[key] = r.block(n, value)
		default:
			m[key] = r.scalar(value, n)
		}
	}
}

// scalar reads a plain or quoted scalar and its further lines.
func (r *yamlReader) scalar(value string, depth int) string {
	for len(r.lines) > 0 && strings.TrimSpace(r.lines[0]) != "" && indent(r.lines[0]) > depth {
		value += " " + strings.TrimSpace(r.lines[0])
		r.lines = r.lines[1:]
	}
	if n := len(value); n > 1 && value[0] == value[n-1] && (value[0] == '"' || value[0] == '\'') {
		value = value[1 : n-1]
	}
	return value
}

// block reads a literal or folded block.
func (r *yamlReader) block(depth int, kind string) string {
	var lines []string
	strip := -1
	for len(r.lines) > 0 {
		l := r.lines[0]
		if strings.TrimSpace(l) != "" {
			if indent(l) <= depth {
				break
			}
			if strip < 0 {
				strip = indent(l)
			}
		}
		lines = append(lines, l)
		r.lines = r.lines[1:]
	}
	// An empty line before the first text, such as one that ends an empty
	// header, may be indented as the block is.
	for i, l := range lines {
		lines[i] = l[min(max(strip, 0), indent(l)):]
	}
	text := strings.TrimRight(strings.Join(lines, "\n"), "\n")
	if kind[0] == '>' {
		return strings.Join(strings.Fields(text), " ")
	}
	if kind == "|" {
		text += "\n"
	}
	return text
}

// sub returns a map within a map, str a text.
func sub(m map[string]any, key string) map[string]any { v, _ := m[key].(map[string]any); return v }

func str(m map[string]any, key string) string {
	switch v := m[key].(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}
