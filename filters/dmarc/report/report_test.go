package report

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// new and old are reports in the forms of RFC 9990 and RFC 7489.
const newForm = `<?xml version="1.0" encoding="UTF-8"?>
<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">
  <version>1.0</version>
  <report_metadata>
    <org_name>Reporter</org_name><email>r@reporter.example</email><report_id>id-1</report_id>
    <date_range><begin> 1700000000 </begin><end>1700086399.0</end></date_range>
    <error>one host was down</error><generator>Gen 1</generator>
  </report_metadata>
  <policy_published>
    <domain>Example.org</domain><discovery_method>treewalk</discovery_method><p>reject</p><sp>none</sp><np>reject</np>
    <testing>y</testing><adkim>s</adkim><aspf>r</aspf>
  </policy_published>
  <extension><x:any xmlns:x="urn:x"><y/></x:any></extension>
  <record>
    <row><source_ip>192.0.2.1</source_ip><count>12</count>
      <policy_evaluated><disposition>pass</disposition><dkim>Pass</dkim><spf>fail</spf>
        <reason><type>local_policy</type><comment>known &amp; good</comment></reason></policy_evaluated></row>
    <identifiers><header_from>example.org.</header_from><envelope_from>bounce.example.net</envelope_from></identifiers>
    <auth_results>
      <dkim><domain>example.org</domain><selector>s1</selector><result>pass</result></dkim>
      <dkim><domain>example.net</domain><selector>s2</selector><result>fail</result><human_result>body changed</human_result></dkim>
      <spf><domain>bounce.example.net</domain><scope>mfrom</scope><result>pass</result></spf>
    </auth_results>
  </record>
  <record>
    <row><source_ip>::ffff:198.51.100.7</source_ip><count>3</count>
      <policy_evaluated><disposition>reject</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row>
    <identifiers><header_from>example.org</header_from></identifiers>
    <auth_results><spf><domain>x.example</domain><result>fail</result></spf></auth_results>
  </record>
</feedback>`

func TestParseReport(t *testing.T) {
	r, err := ParseReport([]byte(newForm))
	if err != nil {
		t.Fatal(err)
	}
	want := &Report{
		Organisation: "Reporter", Email: "r@reporter.example", ID: "id-1", Generator: "Gen 1",
		Begin: time.Unix(1700000000, 0).UTC(), End: time.Unix(1700086399, 0).UTC(),
		Policy: Published{Domain: "example.org", P: "reject", SP: "none", NP: "reject", DKIM: "s", SPF: "r", Testing: true, Discovery: "treewalk"},
		Records: []Record{
			{
				Source: netip.MustParseAddr("192.0.2.1"), Count: 12, Disposition: "pass", DKIM: "pass", SPF: "fail",
				Reasons: []Reason{{"local_policy", "known & good"}}, HeaderFrom: "example.org", EnvelopeFrom: "bounce.example.net",
				AuthDKIM: []Auth{{Domain: "example.org", Selector: "s1", Result: "pass"}, {Domain: "example.net", Selector: "s2", Result: "fail", Comment: "body changed"}},
				AuthSPF:  []Auth{{Domain: "bounce.example.net", Scope: "mfrom", Result: "pass"}},
			},
			{
				Source: netip.MustParseAddr("198.51.100.7"), Count: 3, Disposition: "reject", DKIM: "fail", SPF: "fail", HeaderFrom: "example.org",
				AuthSPF: []Auth{{Domain: "x.example", Result: "fail"}},
			},
		},
		Problems: []string{"the reporter says: one host was down"},
	}
	if diff := cmp.Diff(want, r, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

func packGzip(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packZip(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i+1 < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func message(kind, name string, content []byte) []byte {
	text := base64.StdEncoding.EncodeToString(content)
	var lines strings.Builder
	for ; len(text) > 76; text = text[76:] {
		lines.WriteString(text[:76] + "\n")
	}
	lines.WriteString(text + "\n")
	return []byte("From: r@reporter.example\nSubject: Report Domain: example.org\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" +
		"--b\nContent-Type: text/plain\n\n<this is a report>\n--b\nContent-Type: " + kind + "; name=\"" + name + "\"\nContent-Transfer-Encoding: base64\n\n" + lines.String() + "--b--\n")
}

func TestPacked(t *testing.T) {
	plain := []byte(newForm)
	packed := packGzip(t, plain)
	latin := []byte(strings.Replace(strings.Replace(newForm, "UTF-8", "windows-1252", 1), "Reporter", "R\xe9porter", 1))
	for name, data := range map[string][]byte{
		"plain":              plain,
		"mark and blanks":    append([]byte("\xef\xbb\xbf \r\n"), plain...),
		"gzip":               packed,
		"more behind":        append(bytes.Clone(packed), "junk"...),
		"cut checksum":       packed[:len(packed)-8],
		"zip":                packZip(t, "a.xml", newForm),
		"zip with more":      packZip(t, "readme.txt", "hello", "a.xml", newForm),
		"gzip in zip":        packZip(t, "a.xml.gz", string(packed)),
		"message with gzip":  message("application/gzip", "a.xml.gz", packed),
		"message with zip":   message("application/octet-stream", "a.zip", packZip(t, "a.xml", newForm)),
		"message, odd type":  message("text/plain", "a.xml", plain),
		"forwarded":          message("message/rfc822", "x", message("application/gzip", "a.gz", packed)),
		"message is it":      []byte("Content-Type: application/xml\n\n" + newForm),
		"CRLF":               bytes.ReplaceAll(message("application/gzip", "x", packed), []byte("\n"), []byte("\r\n")),
		"another charset":    latin,
		"wrapped":            []byte("<?xml version='1.0'?><outer>" + strings.TrimPrefix(newForm, `<?xml version="1.0" encoding="UTF-8"?>`)),
		"prefix":             []byte(strings.NewReplacer("<feedback xmlns=", "<n:feedback xmlns:n=", "</feedback", "</n:feedback").Replace(newForm)),
		"breaks off":         []byte(strings.TrimSuffix(newForm, "</feedback>")),
		"breaks off earlier": []byte(newForm[:strings.LastIndex(newForm, "<auth_results>")]),
	} {
		r, err := ParseReport(data)
		if err != nil || r.Policy.Domain != "example.org" || len(r.Records) == 0 || r.Records[0].Count != 12 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if name == "another charset" && (err != nil || r.Organisation != "Réporter") {
			t.Errorf("%s: %q", name, r.Organisation)
		}
	}
}

func TestNotReports(t *testing.T) {
	deep := packGzip(t, packGzip(t, packGzip(t, packGzip(t, []byte(newForm)))))
	for name, data := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "a message": []byte("Subject: x\n\nhello\n"), "html": []byte("<html><body>feedback</body></html>"),
		"json": []byte(`{"organization-name": "x"}`), "empty": []byte("<feedback></feedback>"), "unknown": []byte("<feedback><a/></feedback>"),
		"broken": []byte("<feedback><report_metadata><email><a@b></email></report_metadata></feedback>"), "gzip of text": packGzip(t, []byte("hello")),
		"bad gzip": []byte("\x1f\x8bxxxxxxxxxxxx"), "bad zip": []byte("PK\x03\x04xxxx"), "empty zip": packZip(t), "packed too often": deep,
		"zip of text": packZip(t, "a.txt", "hello"), "charset": []byte(strings.Replace(newForm, "UTF-8", "x-none", 1)),
	} {
		if r, err := ParseReport(data); !errors.Is(err, ErrNotReport) || r != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// TestManyFiles: what is unpacked is bounded over all files and layers.
func TestManyFiles(t *testing.T) {
	text := strings.Repeat("x", 400)
	inner := packZip(t, "a", text, "b", text)
	data := packZip(t, "a", string(inner), "b", string(inner))
	for left, want := range map[int64]error{4 * 400: ErrTooLarge, 4*400 + 2*int64(len(inner)): ErrNotReport} {
		u := unpacker{left: left}
		if r, err := u.parse(data, maxLayers); !errors.Is(err, want) || r != nil {
			t.Errorf("%d bytes: %v, want %v", left, err, want)
		}
	}
}

func TestHostile(t *testing.T) {
	many := "<feedback>" + strings.Repeat("<record/>", maxRecords+1) + "</feedback>"
	for name, data := range map[string][]byte{
		"long":                   make([]byte, maxPacked+1),
		"bomb":                   packGzip(t, make([]byte, maxUnpacked+1)),
		"records":                []byte(many),
		"deep":                   []byte("<feedback>" + strings.Repeat("<a>", maxDepth+1)),
		"deep before":            []byte(strings.Repeat("<a>", maxDepth+1) + newForm),
		"attributes":             []byte("<feedback " + strings.Repeat(`a=">" `, maxTag/5) + ">" + newForm),
		"attributes behind a PI": []byte("<?x > <!-- ?><feedback " + strings.Repeat(`a=">" `, maxTag/5) + "> -->" + newForm),
		"entities":               []byte(`<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>` + strings.Replace(newForm, "Reporter", "&b;", 1)),
		"file":                   []byte(`<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>` + strings.Replace(newForm, "Reporter", "&a;", 1)),
	} {
		if r, err := ParseReport(data); !errors.Is(err, ErrTooLarge) || r != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, err := ParseReport([]byte(strings.NewReplacer("Reporter", "&unknown; \u009b2J\u202e"+strings.Repeat("x", 5000), "192.0.2.1", "x", ">12<", ">-1<", "1700000000", "now").Replace(newForm)))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Organisation) > maxText || strings.ContainsAny(r.Organisation, "\u009b\u202e") || !strings.HasPrefix(r.Organisation, "&unknown;") {
		t.Errorf("organisation %q", r.Organisation)
	}
	if len(r.Problems) != 4 || r.Records[0].Count != 0 || r.Records[0].Source.IsValid() || !r.Begin.IsZero() {
		t.Errorf("%q, %+v", r.Problems, r.Records[0])
	}
}

// corpora are the reports below POSTERN_CORPORA/dmarc that are none, with the
// reason: failure reports and TLS reports are of another kind.
var corpora = map[string]string{
	"invalid_xml.xml": "an address in angle brackets inside of an element",
	"empty.xml":       "an empty file",
}

// TestCorpora reads every report of the corpora.
func TestCorpora(t *testing.T) {
	root := os.Getenv("POSTERN_CORPORA")
	if root == "" {
		t.Skip("POSTERN_CORPORA is not set")
	}
	reports, records, refused := 0, 0, 0
	err := filepath.WalkDir(filepath.Join(root, "dmarc"), func(path string, d fs.DirEntry, err error) error {
		slashed := filepath.ToSlash(path)
		if err != nil || d.IsDir() || d.Name() == "SOURCE.txt" || !strings.Contains(slashed, "/reports-") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		other := strings.Contains(slashed, "/failure/") || strings.Contains(slashed, "tls")
		r, err := ParseReport(data)
		switch bad := other || corpora[d.Name()] != ""; {
		case bad && err == nil:
			t.Errorf("%s is a report: %+v", path, r.Policy)
		case bad:
			refused++
		case err != nil:
			t.Errorf("%s: %v", path, err)
		default:
			reports++
			records += len(r.Records)
			if r.Policy.Domain == "" || len(r.Records) == 0 || len(table(r)) == 0 {
				t.Errorf("%s: %+v", path, r.Policy)
			}
		}
		return nil
	})
	t.Logf("%d reports with %d records, %d refused", reports, records, refused)
	if err != nil || reports == 0 {
		t.Errorf("no reports: %v", err)
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(newForm))
	f.Add([]byte("<feedback><record><row><count>1</count></row></record><!-- > --><![CDATA[<a>]]></feedback>"))
	f.Add([]byte("Content-Type: text/xml\n\n<feedback><record/></feedback>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseReport(data)
		if (r == nil) == (err == nil) {
			t.Fatalf("%+v, %v", r, err)
		}
		if err != nil {
			if !errors.Is(err, ErrNotReport) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		for _, row := range table(r) {
			if row.Pass+row.Fail != row.Count || row.Count < 0 {
				t.Fatal(fmt.Sprint(row))
			}
		}
	})
}
