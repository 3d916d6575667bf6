package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	netsmtp "net/smtp"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters/dmarc/report"
	"postern/filters/standard"
	"postern/mail"
	"postern/policy"
	"postern/queue"
)

// A reportingSite is a gateway with DMARC reports, whose clock the test sets.
type reportingSite struct {
	t     *testing.T
	dir   string
	clock atomic.Pointer[time.Time]
	in    *instance
}

func (s *reportingSite) at(text string) {
	s.t.Helper()
	now, err := time.Parse(time.RFC3339, text)
	if err != nil {
		s.t.Fatal(err)
	}
	s.clock.Store(&now)
}

// start starts the gateway over the state that is there.
func (s *reportingSite) start() {
	s.t.Helper()
	in, err := start(s.t.Context(), settings{
		file: filepath.Join(s.dir, "policy.toml"), state: filepath.Join(s.dir, "state"), zone: filepath.Join(s.dir, "zone.json"),
		log: slog.New(slog.DiscardHandler), mailLog: io.Discard, now: func() time.Time { return *s.clock.Load() },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.in = in
}

func (s *reportingSite) restart() {
	s.t.Helper()
	s.in.stop(context.Background())
	s.start()
}

// send sends a message and returns what the gateway says to it.
func (s *reportingSite) send(reversePath, author string) string {
	text := "From: " + author + "\r\nTo: bob@ours.example\r\nSubject: Hello\r\nDate: " + time.Now().Format(time.RFC1123Z) + "\r\nMessage-ID: <1@asks.example>\r\n\r\nHello\r\n"
	if err := netsmtp.SendMail(s.in.addr("in"), nil, reversePath, []string{"bob@ours.example"}, []byte(text)); err != nil {
		return err.Error()[:3]
	}
	return "250"
}

// statuses writes the state of the reports as the control socket tells it.
func (s *reportingSite) statuses() string {
	s.t.Helper()
	var a reportsAnswer
	if err := dialControl(filepath.Join(s.dir, "state")).call("GET", "/dmarc/reports", nil, &a); err != nil {
		s.t.Fatal(err)
	}
	text := fmt.Sprint(a.On)
	for _, r := range a.Reports {
		text += fmt.Sprintf("; %s %s %d %s %d", r.Domain, r.State, r.Messages, strings.Join(r.To, " "), len(r.Refused))
	}
	return text
}

func newReportingSite(t *testing.T, mailbox, world string) (*reportingSite, dns.Resolver) {
	t.Helper()
	s := &reportingSite{t: t, dir: t.TempDir()}
	key, pem, err := dkim.NewKey(dkim.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	record, err := dkim.Record(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	txt := func(text string) map[string][]string { return map[string][]string{"TXT": {text}} }
	zone, err := json.Marshal(map[string]any{
		"asks.example":                  txt("v=spf1 ip4:127.0.0.1 -all"),
		"other.example":                 txt("v=spf1 -all"),
		"_dmarc.asks.example":           txt("v=DMARC1; p=quarantine; sp=reject; rua=mailto:rua@asks.example,mailto:rua@stranger.example"),
		"_dmarc.silent.example":         txt("v=DMARC1; p=reject"),
		"s2026._domainkey.ours.example": txt(record),
	})
	if err != nil {
		t.Fatal(err)
	}
	policyText := fmt.Sprintf(`version = 1
[site]
name = "Ours"
domains = ["ours.example"]
[[listener]]
name = "in"
address = "127.0.0.1:0"
tls = "off"
[[upstream]]
name = "mailbox"
to = [%q]
for = ["ours.example"]
tls = "none"
[[upstream]]
name = "world"
to = [%q]
for = ["*"]
tls = "none"
[filter.dkimsign]
selector = "s2026"
key = { file = "s2026.key" }
[filter.dmarc]
reports = "daily"
report_from = "dmarc@ours.example"
`, mailbox, world)
	for name, content := range map[string][]byte{"zone.json": zone, "s2026.key": pem, "policy.toml": []byte(strings.ReplaceAll(policyText, `"s2026.key"`, fmt.Sprintf("%q", filepath.Join(s.dir, "s2026.key"))))} {
		if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	resolver, err := dns.ParseZone(zone)
	if err != nil {
		t.Fatal(err)
	}
	s.at("2026-11-21T12:00:00Z")
	s.start()
	t.Cleanup(func() { s.in.stop(context.Background()) })
	return s, resolver
}

// TestReportsEndToEnd: what comes in one day goes out as a report the next, by
// the next hop, signed, once, to those who may have it.
func TestReportsEndToEnd(t *testing.T) {
	mailbox, world := startSink(t), loopback(unusedPort(t))
	s, resolver := newReportingSite(t, mailbox.addr, world)
	for _, c := range [][3]string{
		{"a@asks.example", "a@asks.example", "250"}, {"x@other.example", "a@asks.example", "250"}, {"x@other.example", "a@sub.asks.example", "550"},
		{"x@other.example", "a@silent.example", "550"},
	} {
		if got := s.send(c[0], c[1]); got != c[2] {
			t.Errorf("from %s by %s: %s, want %s", c[0], c[1], got, c[2])
		}
	}
	if got := s.statuses(); got != "true; asks.example collecting 3  0" {
		t.Error(got)
	}
	s.restart()
	s.at("2026-11-22T04:00:00Z")
	s.in.reports.Tick(t.Context())
	if got := s.statuses(); got != "true; asks.example sent 3 rua@asks.example 1" {
		t.Error(got)
	}
	waitFor(t, "a first try", func() bool {
		items := s.in.queue.List(queue.Filter{})
		return len(items) == 1 && items[0].Attempts > 0
	})
	s.restart() // with the report in the queue
	hop := startSinkAt(t, world)
	s.in.reports.Tick(t.Context())
	waitFor(t, "the report", func() bool {
		for _, it := range s.in.queue.List(queue.Filter{}) {
			if err := s.in.queue.Retry(it.ID); err != nil {
				t.Log(err)
			}
		}
		return len(s.in.queue.List(queue.Filter{})) == 0
	})
	hop.mu.Lock()
	defer hop.mu.Unlock()
	if len(hop.got) != 1 || hop.got[0].from != "" || strings.Join(hop.got[0].to, " ") != "rua@asks.example" {
		t.Fatalf("%d messages left: %+v", len(hop.got), hop.got)
	}
	text := []byte(hop.got[0].data)
	signatures, err := dkim.Verify(t.Context(), mail.ParseBytes(text, mail.Options{}), dkim.Options{Resolver: resolver, Now: time.Now()})
	if err != nil || len(signatures) != 1 || signatures[0].Value != dkim.Pass || signatures[0].Domain != "ours.example" {
		t.Errorf("signatures %+v, %v", signatures, err)
	}
	rep, err := report.ParseReport(text)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range rep.Records {
		lines = append(lines, fmt.Sprintf("%s %d %s %s %s %s by %s to %s: %s %s", r.Source, r.Count, r.HeaderFrom, r.Disposition, r.DKIM, r.SPF, r.EnvelopeFrom, r.EnvelopeTo, r.AuthSPF[0].Domain, r.AuthSPF[0].Result))
	}
	want := map[string]bool{
		"127.0.0.1 1 asks.example pass fail pass by asks.example to ours.example: asks.example pass":         true,
		"127.0.0.1 1 asks.example quarantine fail fail by other.example to ours.example: other.example fail": true,
		"127.0.0.1 1 sub.asks.example reject fail fail by other.example to ours.example: other.example fail": true,
	}
	for _, line := range lines {
		if !want[line] {
			t.Errorf("record %s", line)
		}
	}
	if rep.Organisation != "Ours" || rep.Email != "dmarc@ours.example" || rep.Policy.SP != "reject" || len(rep.Records) != 3 || len(rep.Problems) > 0 {
		t.Errorf("%+v", rep)
	}
}

// TestDmarcReportCommand: a report can be seen before it leaves.
func TestDmarcReportCommand(t *testing.T) {
	s, _ := newReportingSite(t, startSink(t).addr, loopback(unusedPort(t)))
	if got := s.send("a@asks.example", "a@asks.example"); got != "250" {
		t.Fatal(got)
	}
	for _, c := range []struct {
		args, out string
		code      int
	}{
		{"report Asks.Example.", "<source_ip>127.0.0.1</source_ip>", 0},
		{"report asks.example --day 2026-11-21", "<count>1</count>", 0},
		{"report asks.example --day 2026-11-20", "there are no records about this domain", 1},
		{"report asks.example --day today", "is not a day", 2},
		{"reports", "2026-11-21  asks.example  collecting  1         1        2026-11-2", 0},
		{"reports --json", `{"day":"2026-11-21","domain":"asks.example","state":"collecting","messages":1,"records":1,"due":"2026-11-22T0`, 0},
	} {
		var out bytes.Buffer
		args := append([]string{"--state", filepath.Join(s.dir, "state"), "dmarc"}, strings.Fields(c.args)...)
		if code := run(args, nil, &out, &out); code != c.code || !strings.Contains(out.String(), c.out) {
			t.Errorf("%s: %d\n%s", c.args, code, &out)
		}
	}
}

func TestReportSettingsOf(t *testing.T) {
	for text, want := range map[string]string{
		"": "false dmarc@ours.example admin", "reports = \"daily\"": "true admin", "enabled = false": "",
	} {
		p, err := policy.Load("p.toml", []byte("version = 1\n[site]\nname = \"Ours\"\ndomains = [\"ours.example\"]\nadmin = \"admin@elsewhere.example\"\n[[upstream]]\nname = \"m\"\nto = [\"127.0.0.1:1\"]\nfor = [\"*\"]\n[filter.dmarc]\n"+text+"\n"),
			policy.LoadOptions{Filters: standard.Filters})
		if err != nil {
			t.Fatal(err)
		}
		set := reportSettings(p)
		if set.On != strings.HasPrefix(want, "true") || set.From.String() != "postmaster@ours.example" || set.Organisation != "Ours" || set.Keep != 7*24*time.Hour {
			t.Errorf("%q: %+v", text, set)
		}
		if signs(p, "ours.example") {
			t.Error("signed without a key")
		}
	}
}

// importing runs postern dmarc import.
func importing(args ...string) (out, errOut string, code int) {
	var o, e bytes.Buffer
	code = run(append([]string{"dmarc", "import"}, args...), nil, &o, &e)
	return o.String(), e.String(), code
}

// reportXML is a report as somebody would send it.
func reportXML(t *testing.T, id, day string, source string, n int, pass bool) []byte {
	t.Helper()
	begin, err := time.Parse(time.DateOnly, day)
	if err != nil {
		t.Fatal(err)
	}
	rep := &report.Report{Organisation: "R", ID: id, Begin: begin, End: begin.Add(24*time.Hour - time.Second), Policy: report.Published{Domain: "ours.example", P: "none"}}
	rec := report.Record{Count: int64(n), DKIM: "fail", SPF: "fail", HeaderFrom: "ours.example", Disposition: "none"}
	if pass {
		rec.DKIM = "pass"
	}
	if err := rec.Source.UnmarshalText([]byte(source)); err != nil {
		t.Fatal(err)
	}
	rep.Records = []report.Record{rec}
	text, err := rep.XML()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestDmarcImport(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	message := func(id string) []byte {
		rep, err := report.ParseReport(reportXML(t, id, "2026-11-21", "192.0.2.9", 7, true))
		if err != nil {
			t.Fatal(err)
		}
		text, err := rep.Mail(report.Envelope{From: mail.Path{Local: "r", Domain: "r.example"}, To: mail.Path{Local: "d", Domain: "ours.example"}, Submitter: "r.example", Date: time.Unix(0, 0)})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	var packed, zipped bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(reportXML(t, "2", "2026-11-20", "192.0.2.2", 5, false))
	z.Close()
	a := zip.NewWriter(&zipped)
	f, err := a.Create("r.xml")
	if err != nil {
		t.Fatal(err)
	}
	f.Write(reportXML(t, "3", "2026-11-21", "2001:db8::1", 9, true))
	a.Close()
	other := "From: a@b.example\r\nSubject: Hello\r\n\r\nFrom here on\r\n"
	xml := write("one/1.xml", reportXML(t, "1", "2026-11-19", "192.0.2.1", 2, false))
	write("one/2.xml.gz", packed.Bytes())
	write("one/sub/3.zip", zipped.Bytes())
	eml := write("one/cur/4.eml", message("4"))
	write("one/cur/other.eml", []byte(other))
	write("one/cur/tls.eml", []byte("From: a@b.example\r\nTLS-Report-Domain: x\r\nSubject: Report Domain: x Submitter: y Report-ID: <1>\r\n\r\nx\r\n"))
	mbox := write("mbox", []byte("From a b\n"+strings.ReplaceAll(string(message("4")), "\r\n", "\n")+"\nFrom x\n"+strings.NewReplacer("\r\n", "\n", "From here", ">From here").Replace(other)+"\nFrom y\n"+string(message("5"))))
	bad := write("bad/bad.xml", []byte("<feedback>"))
	write("bad/broken.eml", []byte("From: a@b.example\r\nSubject: Report Domain: x Submitter: y\r\n\r\nnothing\r\n"))
	out, errOut, code := importing(filepath.Join(dir, "one"), mbox)
	want := `SOURCE       DOMAIN        MESSAGES  FAIL  PASS  DKIM  SPF  HELD  REFUSED  REPORTED BY
192.0.2.2    ours.example  5         5     0     0     0    0     0        R
192.0.2.1    ours.example  2         2     0     0     0    0     0        R
192.0.2.9    ours.example  14        0     14    14    0    0     0        R
2001:db8::1  ours.example  9         0     9     9     0    0     0        R
`
	if out != want || errOut != "6 reports, 1 here already, 3 other messages\n" || code != 0 {
		t.Errorf("%d\n%s%s", code, out, errOut)
	}
	out, errOut, code = importing("--json", "--since", "2026-11-20", "--until", "2026-11-21", "--domain", "OURS.example", filepath.Join(dir, "one"))
	if want := `{"source":"192.0.2.2","domain":"ours.example","messages":5,"pass":0,"fail":5,"dkim_aligned":0,"spf_aligned":0,"delivered":5,"quarantined":0,"rejected":0,"reporters":["R"],"first":"2026-11-20T00:00:00Z","last":"2026-11-20T23:59:59Z"}` + "\n"; out != want || code != 0 {
		t.Errorf("%d\n%s%s", code, out, errOut)
	}
	for _, c := range []struct {
		args []string
		out  int // lines
		code int
		say  string
	}{
		{[]string{xml, filepath.Join(dir, "bad"), filepath.Join(dir, "absent"), eml}, 3, 1, "bad.xml: not a DMARC aggregate report"},
		{[]string{bad, xml}, 2, 1, "1 file could not be read"},
		{[]string{filepath.Join(dir, "bad", "broken.eml")}, 1, 1, "broken.eml: not a DMARC aggregate report"},
		{[]string{filepath.Join(dir, "absent")}, 1, 1, "absent: no such file or directory"},
		{[]string{filepath.Join(dir, "one", "cur", "other.eml")}, 1, 1, "other.eml: not a DMARC"},
		{[]string{"--domain", "x.example", xml}, 1, 0, "1 report, 1 left out"},
		{[]string{"--since", "soon", xml}, 0, 2, `--since: "soon" is neither a day`},
		{[]string{"--until", "2026-13-01", xml}, 0, 2, "--until"},
		{nil, 0, 2, "file"},
	} {
		out, errOut, code := importing(c.args...)
		if code != c.code || strings.Count(out, "\n") != c.out || !strings.Contains(errOut, c.say) {
			t.Errorf("%q: %d\n%s%s", c.args, code, out, errOut)
		}
	}
	if _, errOut, _ := importing("-q", xml); errOut != "" {
		t.Errorf("-q says %q", errOut)
	}
}

// TestDmarcImportBounds: what is too large is refused, not read.
func TestDmarcImportBounds(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 80 {
		z.Write(make([]byte, 1<<20))
	}
	z.Close()
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"bomb.gz": bomb.Bytes(), "large.xml": append([]byte("<feedback>"), make([]byte, maxReport)...),
		"mbox": append(append([]byte("From a\nFrom: a@b.example\n\n"), bytes.Repeat([]byte("x"), maxReport+1)...), "\n\nFrom b\nFrom: a@b.example\n\n\n"...),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		_, errOut, code := importing(path)
		if code != 1 || !strings.Contains(errOut, "too large") || !strings.Contains(errOut, "1 file could") {
			t.Errorf("%s: %d %s", name, code, errOut)
		}
	}
}

// FuzzMbox: whatever a mailbox has in it, each message is one thing or another.
func FuzzMbox(f *testing.F) {
	f.Add([]byte("From a\nFrom: a@b.example\n\nx\n\nFrom b\n<feedback><record/></feedback>\n"))
	f.Add([]byte("From a\n\nFrom \n\nFrom"))
	f.Fuzz(func(t *testing.T, text []byte) {
		seen := 0
		r := reportReader{add: func(*report.Report) { seen++ }, complain: func(string, error) { seen++ }}
		r.mbox("mbox", bufio.NewReaderSize(bytes.NewReader(text), 16))
		if seen != r.reports+r.failed || r.reports+r.failed+r.others > 1+bytes.Count(text, []byte("From ")) {
			t.Errorf("%d reports, %d failed, %d others, %d told", r.reports, r.failed, r.others, seen)
		}
	})
}
