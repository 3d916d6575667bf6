package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"postern/mail"
)

// written has every element that is written.
func written() *Report {
	return &Report{
		Organisation: "Example & Söhne", Email: "postmaster@rcpt.example", Contact: "https://rcpt.example/?a=1&b=<2>", ID: "2026-11-21.sender.example@rcpt.example",
		Begin: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 11, 21, 23, 59, 59, 0, time.UTC), Generator: "Postern 1",
		Policy: Published{Domain: "sender.example", P: "reject", SP: "quarantine", NP: "none", DKIM: "r", SPF: "s", FO: "0", Testing: true, Discovery: "treewalk"},
		Records: []Record{
			{
				Source: netip.MustParseAddr("192.0.2.1"), Count: 3, Disposition: "pass", DKIM: "pass", SPF: "fail", HeaderFrom: "news.sender.example",
				EnvelopeFrom: "bounce.sender.example", EnvelopeTo: "rcpt.example",
				AuthDKIM: []Auth{{Domain: "sender.example", Selector: "s1", Result: "pass"}, {Domain: "b.example", Selector: "s2", Result: "permerror", Comment: "no key"}},
				AuthSPF:  []Auth{{Domain: "bounce.sender.example", Scope: "mfrom", Result: "softfail"}},
			},
			{
				Source: netip.MustParseAddr("2001:db8::1"), Count: 1, Disposition: "none", DKIM: "fail", SPF: "fail", HeaderFrom: "sender.example",
				Reasons: []Reason{{"trusted_forwarder", "arc=pass"}, {Type: "local_policy"}},
			},
		},
		Problems: []string{"sp is no policy"},
	}
}

// An element says what RFC 9990 section 3.1.1 lets stand in an element: its
// children, each as "name?" (at most one), "name" (one), "name*" or "name+"; or
// the words that its text may be.
type element struct {
	ordered  bool
	children string
	text     string // a regular expression
}

// form is the form of a report, by the path of its elements.
var form = map[string]element{
	"feedback":                                {ordered: true, children: "version? report_metadata policy_published extension? record+"},
	"feedback/version":                        {text: `1\.0`},
	"feedback/report_metadata":                {children: "org_name email extra_contact_info? report_id date_range error? generator?"},
	"feedback/report_metadata/report_id":      {text: `<?[A-Za-z0-9._-]+(@[A-Za-z0-9._-]+)?>?`},
	"feedback/report_metadata/date_range":     {children: "begin end"},
	"feedback/report_metadata/date_range/*":   {text: `[0-9]+`},
	"feedback/report_metadata/*":              {text: `(?s).+`},
	"feedback/policy_published":               {children: "domain discovery_method? p sp? np? fo? adkim? aspf? testing?"},
	"feedback/policy_published/domain":        {text: `[a-z0-9._-]+`},
	"feedback/policy_published/p":             {text: `none|quarantine|reject`},
	"feedback/policy_published/sp":            {text: `none|quarantine|reject`},
	"feedback/policy_published/np":            {text: `none|quarantine|reject`},
	"feedback/policy_published/adkim":         {text: `[rs]`},
	"feedback/policy_published/aspf":          {text: `[rs]`},
	"feedback/policy_published/testing":       {text: `[ny]`},
	"feedback/policy_published/fo":            {text: `[01ds:]+`},
	"feedback/policy_published/*":             {text: `psl|treewalk`},
	"feedback/record":                         {ordered: true, children: "row identifiers auth_results"},
	"feedback/record/row":                     {children: "source_ip count policy_evaluated"},
	"feedback/record/row/source_ip":           {text: `[0-9a-f.:]+`},
	"feedback/record/row/count":               {text: `[0-9]+`},
	"feedback/record/row/policy_evaluated":    {ordered: true, children: "disposition dkim spf reason*"},
	"feedback/record/row/*/disposition":       {text: `none|pass|quarantine|reject`},
	"feedback/record/row/*/reason":            {children: "type comment?"},
	"feedback/record/row/*/reason/type":       {text: `local_policy|mailing_list|other|policy_test_mode|trusted_forwarder`},
	"feedback/record/row/*/reason/comment":    {text: `.+`},
	"feedback/record/row/*/*":                 {text: `pass|fail`},
	"feedback/record/identifiers":             {children: "header_from envelope_from? envelope_to?"},
	"feedback/record/identifiers/header_from": {text: `.+`},
	"feedback/record/identifiers/*":           {text: `.*`},
	"feedback/record/auth_results":            {ordered: true, children: "dkim* spf?"},
	"feedback/record/auth_results/dkim":       {children: "domain selector result human_result?"},
	"feedback/record/auth_results/spf":        {children: "domain scope? result human_result?"},
	"feedback/record/*/spf/scope":             {text: `mfrom`},
	"feedback/record/*/spf/result":            {text: `none|pass|fail|softfail|policy|neutral|temperror|permerror`},
	"feedback/record/*/dkim/result":           {text: `none|pass|fail|policy|neutral|temperror|permerror`},
	"feedback/record/*/*/*":                   {text: `.+`},
}

// formOf finds the form of an element: that of its own path, else the one with
// the fewest stars.
func formOf(path string) (element, bool) {
	if e, ok := form[path]; ok {
		return e, true
	}
	best, found := "", false
	for pattern := range form {
		re := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, "[^/]+") + "$")
		if re.MatchString(path) && (!found || strings.Count(pattern, "*") < strings.Count(best, "*")) {
			best, found = pattern, true
		}
	}
	return form[best], found
}

// conforms checks a document against the form.
func conforms(content []byte) error {
	type open struct {
		path     string
		children []string
		text     strings.Builder
	}
	stack := []*open{{}}
	d := xml.NewDecoder(bytes.NewReader(content))
	for {
		token, err := d.Token()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		top := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Space != nameSpace {
				return fmt.Errorf("%s is in the name space %q", t.Name.Local, t.Name.Space)
			}
			top.children = append(top.children, t.Name.Local)
			stack = append(stack, &open{path: strings.TrimPrefix(top.path+"/"+t.Name.Local, "/")})
		case xml.CharData:
			top.text.Write(t)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
			e, ok := formOf(top.path)
			if !ok {
				return fmt.Errorf("%s is unknown", top.path)
			}
			if err := e.allows(top.children, top.text.String()); err != nil {
				return fmt.Errorf("%s: %w", top.path, err)
			}
		}
	}
}

// allows checks the content of one element.
func (e element) allows(children []string, text string) error {
	if e.children == "" {
		if len(children) > 0 || !regexp.MustCompile("^(?:"+e.text+")$").MatchString(text) {
			return fmt.Errorf("%q %q is not %s", children, text, e.text)
		}
		return nil
	}
	left := slices.Clone(children)
	var sorted []string
	for _, word := range strings.Fields(e.children) {
		name, many := strings.TrimRight(word, "?*+"), word[len(word)-1]
		n := 0
		for _, c := range children {
			if c == name {
				n++
				sorted = append(sorted, c)
			}
		}
		if n == 0 && many != '?' && many != '*' || n > 1 && many != '*' && many != '+' {
			return fmt.Errorf("%d elements %s", n, name)
		}
		left = slices.DeleteFunc(left, func(c string) bool { return c == name })
	}
	if len(left) > 0 || e.ordered && !slices.Equal(sorted, children) {
		return fmt.Errorf("children %q, want %s", children, e.children)
	}
	return nil
}

func TestXML(t *testing.T) {
	r := written()
	content, err := r.XML()
	if err != nil {
		t.Fatal(err)
	}
	if err := conforms(content); err != nil {
		t.Errorf("%v:\n%s", err, content)
	}
	back, err := ParseReport(content)
	if err != nil {
		t.Fatal(err)
	}
	r.Problems = []string{"the reporter says: sp is no policy"}
	if diff := cmp.Diff(r, back, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	if file := os.Getenv("POSTERN_DMARC_XML"); file != "" {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	many := written()
	for range 150 {
		many.Records[0].AuthDKIM = append(many.Records[0].AuthDKIM, Auth{Domain: "d.example", Selector: "s", Result: "fail"})
		many.Records[0].AuthSPF = append(many.Records[0].AuthSPF, Auth{Domain: "d.example", Result: "fail"})
	}
	if content, err = many.XML(); err != nil || bytes.Count(content, []byte("<dkim>\n")) != 100 || bytes.Count(content, []byte("<spf>\n")) != 1 {
		t.Errorf("too many results were written: %v", err)
	}
	if _, err := (&Report{}).XML(); !errors.Is(err, errEmpty) {
		t.Errorf("a report without records: %v", err)
	}
	if _, err := (&Report{}).Mail(Envelope{}); !errors.Is(err, errEmpty) {
		t.Errorf("a message without records: %v", err)
	}
}

// TestForm: the check of the form finds what is wrong.
func TestForm(t *testing.T) {
	content, err := written().XML()
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		nameSpace: "urn:x", "<version>1.0": "<version>2.0", "<p>reject": "<p>maybe", "<email>postmaster@rcpt.example</email>": "",
		"<testing>": "<testing>n</testing><testing>", "<row>": "<x></x><row>", "<scope>mfrom": "<scope>helo", "trusted_forwarder": "forwarded",
		"<selector>s1</selector>": "", "<count>3": "<count>many", "<disposition>pass</disposition>": "", "<policy_published>": "<record></record><policy_published>",
	} {
		wrong := strings.Replace(string(content), from, to, 1)
		if wrong == string(content) || conforms([]byte(wrong)) == nil {
			t.Errorf("%q instead of %q is not found", to, from)
		}
	}
}

// TestOtherParser: a parser that is not ours reads the same.
func TestOtherParser(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("POSTERN_CI") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	content, err := written().XML()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", `
import sys, xml.etree.ElementTree as e
n = "{urn:ietf:params:xml:ns:dmarc-2.0}"
f = e.fromstring(sys.stdin.buffer.read())
print(f.findtext(n+"report_metadata/"+n+"org_name"), f.findtext(n+"policy_published/"+n+"sp"))
for r in f.findall(n+"record"):
    print(r.findtext(n+"row/"+n+"source_ip"), r.findtext(n+"row/"+n+"count"), repr(r.findtext(n+"identifiers/"+n+"envelope_from")))
`)
	cmd.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8")
	cmd.Stdin = bytes.NewReader(content)
	out, err := cmd.CombinedOutput()
	if want := "Example & Söhne quarantine\n192.0.2.1 3 'bounce.sender.example'\n2001:db8::1 1 ''\n"; err != nil || string(out) != want {
		t.Errorf("%v: %s", err, out)
	}
}

func TestMail(t *testing.T) {
	r := written()
	e := Envelope{
		From: mail.Path{Local: "dmarc", Domain: "rcpt.example"}, To: mail.Path{Local: "rua", Domain: "sender.example"}, Submitter: "rcpt.example",
		Date: time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC),
	}
	text, err := r.Mail(e)
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.Mail(e)
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("the same report is another message: %v", err)
	}
	m := mail.ParseBytes(text, mail.Options{})
	subject := m.Subject()
	if want := "Report Domain: sender.example Submitter: rcpt.example Report-ID: <2026-11-21.sender.example@rcpt.example>"; subject != want {
		t.Errorf("subject %q, want %q", subject, want)
	}
	for _, line := range bytes.Split(text, []byte("\r\n")) {
		if len(line) > 200 || bytes.ContainsAny(line, "\r\n") {
			t.Errorf("line %q", line)
		}
	}
	leaf := m.Parts()[len(m.Parts())-1]
	name := "rcpt.example!sender.example!1795219200!1795305599.xml.gz"
	if leaf.MediaType() != "application/gzip" || !slices.Equal(leaf.Names(), []string{name}) {
		t.Errorf("%s %q", leaf.MediaType(), leaf.Names())
	}
	if found := m.Findings(); len(found) > 0 {
		t.Errorf("the message is not clean: %v", found)
	}
	back, err := ParseReport(text)
	if err != nil || len(back.Records) != 2 {
		t.Errorf("%+v, %v", back, err)
	}
	for s, want := range map[string]bool{subject: true, "Report domain: x Submitter: y": true, "Report Domain:": false, "": false, "Re: Report Domain: x Submitter: y": false} {
		if IsSubject(s) != want {
			t.Errorf("%q", s)
		}
	}
}
