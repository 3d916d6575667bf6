package spf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"postern/dns"
)

// A scenario is one document of a suite in the format of openspf.org.
type scenario struct {
	Description string
	Tests       map[string]scenarioTest
	ZoneData    yaml.Node `yaml:"zonedata"` // a mapping, of which some suites have keys twice
}

// A scenarioTest is one test of a scenario.
type scenarioTest struct {
	Helo, Host  string
	MailFrom    string `yaml:"mailfrom"`
	Result      oneOrMore
	Explanation string
}

// oneOrMore is a list that may be written as its only element.
type oneOrMore []string

// UnmarshalYAML reads either form.
func (l *oneOrMore) UnmarshalYAML(n *yaml.Node) error {
	var list []string
	if n.Decode(&list) == nil {
		*l = list
		return nil
	}
	var one string
	err := n.Decode(&one)
	*l = oneOrMore{one}
	return err
}

// A suiteZone answers from the zone data of a scenario.
type suiteZone map[string]*suiteName

// A suiteName is what a suiteZone knows of one name.
type suiteName struct {
	a, aaaa, ptr []string
	mx           []dns.MX
	txt, spf     []string
	cname        string
	fails        bool // look-ups of what is not listed time out
}

var errSuite = errors.New("the zone says so")

// newSuiteZone reads zone data.
func newSuiteZone(data yaml.Node) (suiteZone, error) {
	z := suiteZone{}
	for i := 0; i+1 < len(data.Content); i += 2 {
		name := key(data.Content[i].Value)
		if z[name] == nil {
			z[name] = &suiteName{}
		}
		for _, r := range data.Content[i+1].Content {
			if err := z[name].add(r); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	for _, n := range z {
		if len(n.txt) == 0 {
			n.txt = n.spf
		}
		n.txt = slices.DeleteFunc(n.txt, func(s string) bool { return s == "NONE" })
	}
	return z, nil
}

// key returns a name as the zone knows it.
func key(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// add takes one record in. The word TIMEOUT alone says that look-ups of what is
// not listed time out.
func (n *suiteName) add(r *yaml.Node) error {
	if r.Kind == yaml.ScalarNode {
		n.fails = n.fails || r.Value == "TIMEOUT"
		return nil
	}
	var m map[string]yaml.Node
	if err := r.Decode(&m); err != nil {
		return err
	}
	for kind, v := range m {
		var list oneOrMore
		if kind != "MX" {
			if err := v.Decode(&list); err != nil {
				return err
			}
		}
		switch kind {
		case "A":
			n.a = append(n.a, list...)
		case "AAAA":
			n.aaaa = append(n.aaaa, list...)
		case "PTR":
			n.ptr = append(n.ptr, list...)
		case "TXT":
			n.txt = append(n.txt, strings.Join(list, ""))
		case "SPF":
			n.spf = append(n.spf, strings.Join(list, ""))
		case "CNAME":
			n.cname = list[0]
		case "TIMEOUT", "SERVFAIL", "CNAMELOOP":
			n.fails = true
		case "MX":
			var pair []string
			if err := v.Decode(&pair); err != nil {
				return err
			}
			n.mx = append(n.mx, dns.MX{Host: pair[1]})
		default:
			return fmt.Errorf("record type %s", kind)
		}
	}
	return nil
}

// find returns the entry of a name, following aliases.
func (z suiteZone) find(name string) (*suiteName, error) {
	for range 10 {
		n := z[key(name)]
		if n == nil {
			return nil, fmt.Errorf("%w: %s", dns.ErrNotFound, name)
		}
		if n.cname == "" {
			return n, nil
		}
		name = n.cname
	}
	return nil, fmt.Errorf("%w: %s: aliases", dns.ErrTemporary, name)
}

// pick returns records of a name, or why there are none.
func pick[T any](z suiteZone, name string, of func(*suiteName) []T) (dns.Answer[T], error) {
	n, err := z.find(name)
	if err != nil {
		return dns.Answer[T]{}, err
	}
	records := of(n)
	if len(records) == 0 && n.fails {
		return dns.Answer[T]{}, fmt.Errorf("%w: %s: %w", dns.ErrTemporary, name, errSuite)
	}
	if len(records) == 0 {
		return dns.Answer[T]{}, fmt.Errorf("%w: %s", dns.ErrNotFound, name)
	}
	return dns.Answer[T]{Records: records}, nil
}

func (z suiteZone) TXT(_ context.Context, name string) (dns.Answer[string], error) {
	return pick(z, name, func(n *suiteName) []string { return n.txt })
}

func (z suiteZone) MX(_ context.Context, name string) (dns.Answer[dns.MX], error) {
	return pick(z, name, func(n *suiteName) []dns.MX { return n.mx })
}

func addresses(list []string) []netip.Addr {
	var all []netip.Addr
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func (z suiteZone) A(_ context.Context, name string) (dns.Answer[netip.Addr], error) {
	return pick(z, name, func(n *suiteName) []netip.Addr { return addresses(n.a) })
}

func (z suiteZone) AAAA(_ context.Context, name string) (dns.Answer[netip.Addr], error) {
	return pick(z, name, func(n *suiteName) []netip.Addr { return addresses(n.aaaa) })
}

func (z suiteZone) Addrs(_ context.Context, name string) (dns.Answer[netip.Addr], error) {
	return pick(z, name, func(n *suiteName) []netip.Addr { return addresses(append(slices.Clone(n.a), n.aaaa...)) })
}

func (z suiteZone) PTR(_ context.Context, addr netip.Addr) (dns.Answer[string], error) {
	return pick(z, reverse(addr), func(n *suiteName) []string { return n.ptr })
}

// reverse returns the name of an address's PTR records.
func reverse(addr netip.Addr) string {
	b := addr.AsSlice()
	slices.Reverse(b)
	var parts []string
	for _, c := range b {
		if addr.Is4() {
			parts = append(parts, fmt.Sprint(c))
		} else {
			parts = append(parts, fmt.Sprintf("%x.%x", c&15, c>>4))
		}
	}
	if addr.Is4() {
		return strings.Join(parts, ".") + ".in-addr.arpa"
	}
	return strings.Join(parts, ".") + ".ip6.arpa"
}

// readSuite reads the scenarios of a file.
func readSuite(t *testing.T, path string) []scenario {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []scenario
	for d := yaml.NewDecoder(f); ; {
		var s scenario
		switch err := d.Decode(&s); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, s)
	}
}

// suiteFiles lists the suites below POSTERN_CORPORA/spf.
func suiteFiles(t *testing.T) []string {
	t.Helper()
	root := os.Getenv("POSTERN_CORPORA")
	if root == "" {
		t.Skip("POSTERN_CORPORA is not set")
	}
	var files []string
	err := filepath.WalkDir(filepath.Join(root, "spf"), func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".yml") || strings.HasSuffix(path, ".yaml") {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("no suite found: %v", err)
	}
	return files
}

// A dispute is about tests whose answer is not ours.
type dispute struct {
	file, test string // test is empty: all of the file that say why
	says       string // what is wrong with our answer
	count      int
	why        string
}

const (
	mxLimit   = "more than 10 exchangers"
	voidLimit = "look-ups of the record find nothing"
	newRule   = "RFC 7208 section 4.6.4 made a permerror of it; the test is of RFC 4408"
	oldDraft  = "default= is of a draft before RFC 4408: an unknown modifier is ignored (RFC 7208 section 6)"
)

// disputed are the tests of the suites that we do not follow.
var disputed = []dispute{
	{file: "tester/mailzone-tests.yml", says: mxLimit, count: 17, why: newRule},
	{file: "tester/rfc4408-tests.yml", says: mxLimit, count: 1, why: newRule},
	{file: "tester/rfc4408-tests.yml", says: voidLimit, count: 2, why: newRule},
	{file: "tester/rfc4408-tests-2009.10.yml", says: mxLimit, count: 1, why: newRule},
	{file: "tester/rfc4408-tests-2009.10.yml", says: voidLimit, count: 2, why: newRule},
	{file: "tester/tests.yml", test: "test-#malformedip", count: 1, why: "a client without address cannot be checked: that is no error of the record"},
	{file: "blitiri/pyspf-tests.yml", test: "default-modifier", count: 1, why: oldDraft},
	{file: "blitiri/pyspf-tests.yml", test: "default-modifier-harsh", count: 1, why: oldDraft},
	{file: "openspf/test.yml", test: "default-modifier", count: 1, why: oldDraft},
	{file: "openspf/test.yml", test: "default-modifier-harsh", count: 1, why: oldDraft},
}

// TestSuites runs every suite below POSTERN_CORPORA/spf.
func TestSuites(t *testing.T) {
	total, right, met := 0, 0, make([]int, len(disputed))
	for _, path := range suiteFiles(t) {
		file := filepath.ToSlash(filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path)))
		n, good := 0, 0
		for _, s := range readSuite(t, path) {
			z, err := newSuiteZone(s.ZoneData)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			for name, test := range s.Tests {
				n++
				wrong := tryScenario(t.Context(), z, test)
				if wrong == "" {
					good++
					continue
				}
				i := slices.IndexFunc(disputed, func(d dispute) bool {
					return d.file == file && (d.test == "" || d.test == name) && strings.Contains(wrong, d.says)
				})
				if i < 0 {
					t.Errorf("%s %s: %s", file, name, wrong)
					continue
				}
				met[i]++
				// Another implementation reads the RFC as we do.
				if a, theirs := checkScenario(t.Context(), z, test), otherCheck(z, test); a.Result != theirs && test.Host != "192.0.2." {
					t.Errorf("%s %s: we say %s, blitiri.com.ar/go/spf says %s", file, name, a.Result, theirs)
				}
			}
		}
		t.Logf("%s: %d of %d", file, good, n)
		total, right = total+n, right+good
	}
	t.Logf("%d of %d tests", right, total)
	for i, d := range disputed {
		if met[i] != d.count {
			t.Errorf("%s %s: %d answers are disputed, not %d", d.file, d.test, met[i], d.count)
		}
	}
}

// checkScenario returns our answer to a test.
func checkScenario(ctx context.Context, z suiteZone, test scenarioTest) Answer {
	addr, _ := netip.ParseAddr(test.Host) // some suites try addresses that are none
	q := Query{Addr: addr, Helo: test.Helo, Domain: test.Helo, Receiver: "localdomain.foo.bar", MaxVoid: 2, Explain: true}
	if at := strings.LastIndexByte(test.MailFrom, '@'); at >= 0 {
		q.Local, q.Domain = test.MailFrom[:at], test.MailFrom[at+1:]
	} else if test.MailFrom != "" {
		q.Domain = test.MailFrom
	}
	return Check(ctx, z, q)
}

// tryScenario returns what is wrong with our answer to a test.
func tryScenario(ctx context.Context, z suiteZone, test scenarioTest) string {
	a := checkScenario(ctx, z, test)
	if !slices.Contains(test.Result, a.Result) {
		return fmt.Sprintf("%s (%s), want %s", a.Result, a.Reason, test.Result)
	}
	want := test.Explanation
	if want == "DEFAULT" || strings.HasPrefix(want, "http://www.openspf.org/why.html?") { // what jSPF says without exp=
		want = ""
	}
	if test.Explanation != "" && !strings.EqualFold(a.Explanation, want) { // hexadecimal digits in either case
		return fmt.Sprintf("explanation %q, want %q", a.Explanation, want)
	}
	return ""
}
