package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/crypto/dkim"
)

// A clinic is where a doctor's test lives.
type clinic struct {
	t    *testing.T
	dir  string
	zone map[string]map[string]any
}

func newClinic(t *testing.T) *clinic {
	c := &clinic{t: t, dir: t.TempDir(), zone: map[string]map[string]any{"ietf.org": {"MX": []string{"10 mail.ietf.org"}, "AD": true}}}
	if err := os.Mkdir(c.path("state"), 0o700); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *clinic) path(name string) string { return filepath.Join(c.dir, name) }

func (c *clinic) write(name string, mode os.FileMode, text []byte) string {
	c.t.Helper()
	if err := os.WriteFile(c.path(name), text, mode); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Chmod(c.path(name), mode); err != nil {
		c.t.Fatal(err)
	}
	return c.path(name)
}

// txt publishes a TXT record.
func (c *clinic) txt(name string, records ...string) { c.zone[name] = map[string]any{"TXT": records} }

// examine writes a policy and runs the doctor. It returns what it found and how
// it ended.
func (c *clinic) examine(policy string, args ...string) ([]finding, int) {
	c.t.Helper()
	zone, err := json.Marshal(c.zone)
	if err != nil {
		c.t.Fatal(err)
	}
	file := c.write("policy.toml", 0o600, []byte("version = 1\n[storage]\nstate = "+fmt.Sprintf("%q", c.path("state"))+"\n"+policy))
	args = append([]string{"-c", file, "doctor", "--json", "--dns", c.write("zone.json", 0o600, zone)}, args...)
	var out, errs bytes.Buffer
	code := run(args, strings.NewReader(""), &out, &errs)
	if errs.Len() > 0 {
		c.t.Errorf("standard error: %s", errs.String())
	}
	var all []finding
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var f finding
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			c.t.Fatalf("%s: %v", lines.Text(), err)
		}
		all = append(all, f)
	}
	return all, code
}

// wants checks that there is a finding "level check subject: text; remedy" that
// contains each text; one that begins with "-" must not be there.
func (c *clinic) wants(all []finding, want ...string) {
	c.t.Helper()
	var lines []string
	for _, f := range all {
		lines = append(lines, fmt.Sprintf("%s %s %s: %s; %s", f.Level, f.Check, f.Subject, f.Text, f.Remedy))
	}
	text := strings.Join(lines, "\n")
	for _, w := range want {
		no, absent := strings.CutPrefix(w, "-")
		if strings.Contains(text, no) == absent {
			c.t.Errorf("want %q in:\n%s", w, text)
		}
	}
}

// site is the policy of most tests.
const site = `
[site]
domains = ["example.org"]
hostname = "mx.example.org"
[[listener]]
name = "out"
address = "127.0.0.1:2587"
role = "outbound"
tls = "off"
allow = ["127.0.0.1"]
`

const direct = site + `
[[upstream]]
name = "world"
to = ["mx"]
for = ["*"]
`

// healthy publishes all that a site needs but keys.
func (c *clinic) healthy() {
	c.zone["mx.example.org"] = map[string]any{"A": []string{"198.51.100.7"}}
	c.zone["7.100.51.198.in-addr.arpa"] = map[string]any{"PTR": []string{"mx.example.org"}}
	c.zone["example.org"] = map[string]any{"MX": []string{"10 mx.example.org"}, "TXT": []string{"v=spf1 mx -all"}}
	c.txt("_dmarc.example.org", "v=DMARC1; p=reject; rua=mailto:postmaster@example.org")
}

func TestDoctorHealthy(t *testing.T) {
	c := newClinic(t)
	c.healthy()
	all, code := c.examine(direct)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	c.wants(all, "-error", "ok policy", "warning gateway", "ok state", "ok resolver", "ok upstream world: delivers to the MX", "ok address 198.51.100.7",
		"ok mx example.org: its mail comes here: mx.example.org", "ok spf example.org: 198.51.100.7 may send: mx", "ok dmarc example.org: its DMARC policy is reject",
		"warning dkim example.org: its mail is not signed; run: postern keys dkim rotate example.org")
	all, _ = c.examine(direct, "--quiet")
	c.wants(all, "-ok")
}

func TestDoctorDNS(t *testing.T) {
	for _, x := range []struct {
		name string
		sick func(*clinic)
		args []string
		code int
		want []string
	}{
		{"nothing at all", func(c *clinic) {
			for _, n := range []string{"example.org", "mx.example.org", "_dmarc.example.org"} {
				delete(c.zone, n)
			}
		}, nil, 1, []string{"warning address mx.example.org: has no public", "warning mx example.org: has no MX record; publish: example.org. IN MX 10 mx.example.org.", "error spf example.org: has no SPF record; publish: example.org. IN TXT", "error dmarc example.org: has no DMARC record, or two: anybody may write in its name; publish: _dmarc.example.org. IN TXT ( \"v=DMARC1; p=none; rua=mailto:postmaster@example.org\" )"}},
		{"not our address", func(c *clinic) { c.zone["example.org"]["TXT"] = []string{"v=spf1 ip4:192.0.2.1 ~all"} }, nil, 1, []string{"error spf example.org: 198.51.100.7 may not send its mail: softfail (~all); add ip4:198.51.100.7"}},
		{"said with a flag", func(c *clinic) {}, []string{"--address", "2001:db8::7"}, 1, []string{"error spf example.org: 2001:db8::7 may not send its mail: fail (-all); add ip6:2001:db8::7", "error address 2001:db8::7: has no name"}},
		{"a bad record", func(c *clinic) { c.zone["example.org"]["TXT"] = []string{"v=spf1 ipv4:192.0.2.1 -all"} }, nil, 1, []string{"error spf example.org: its SPF record has an error"}},
		{"two records", func(c *clinic) { c.zone["example.org"]["TXT"] = []string{"v=spf1 -all", "v=spf1 mx -all"} }, nil, 1, []string{"error spf example.org: its SPF record has an error"}},
		{"DNS is down", func(c *clinic) {
			for _, n := range []string{"example.org", "_dmarc.example.org", "7.100.51.198.in-addr.arpa"} {
				c.zone[n] = map[string]any{"!": "servfail"}
			}
		}, nil, 1, []string{"error resolver", "warning mx example.org", "warning spf example.org: its SPF record cannot be looked up", "warning dmarc example.org", "warning address 198.51.100.7"}},
		{"no validation", func(c *clinic) { delete(c.zone["ietf.org"], "AD") }, nil, 0, []string{"warning resolver : it answers, but does not validate"}},
		{"mail goes elsewhere", func(c *clinic) { c.zone["example.org"]["MX"] = []string{"0 mail.other.example"} }, nil, 1, []string{"warning mx example.org: its mail goes to mail.other.example, and we are mx.example.org"}},
		{"null MX", func(c *clinic) { c.zone["example.org"]["MX"] = []string{"0 ."} }, nil, 1, []string{"warning mx example.org: says that it takes no mail"}},
		{"an MX of another name", func(c *clinic) {
			c.zone["example.org"]["MX"] = []string{"0 mail.example.org"}
			c.zone["mail.example.org"] = map[string]any{"A": []string{"198.51.100.7"}}
		}, nil, 0, []string{"ok mx example.org: its mail comes here: mail.example.org"}},
		{"another name", func(c *clinic) {
			c.zone["7.100.51.198.in-addr.arpa"] = map[string]any{"PTR": []string{"host7.isp.example"}}
		}, nil, 0, []string{"warning address 198.51.100.7: is called host7.isp.example, and we say mx.example.org in EHLO; ask the owner"}},
		{"the name does not lead back", func(c *clinic) { c.zone["mx.example.org"]["A"] = []string{"198.51.100.8"} }, []string{"--address", "198.51.100.7"}, 1, []string{"error address 198.51.100.7: mx.example.org does not lead back"}},
		{"watching DMARC", func(c *clinic) {
			c.txt("_dmarc.example.org", "v=DMARC1; p=none; rua=mailto:a@reports.example")
		}, nil, 0, []string{"warning dmarc example.org: its DMARC policy is none", "warning dmarc example.org: reports.example has not agreed to take its reports: they are not sent; publish there: example.org._report._dmarc.reports.example. IN TXT"}},
		{"a broken DMARC record", func(c *clinic) { c.txt("_dmarc.example.org", "v=DMARC1; p=rejekt") }, nil, 1, []string{"error dmarc example.org: its DMARC record has a policy that is none"}},
		{"a broken DMARC record with reports", func(c *clinic) {
			c.txt("_dmarc.example.org", "v=DMARC1; p=rejekt; rua=mailto:a@example.org")
		}, nil, 1, []string{"error dmarc example.org: its DMARC record has a policy that is none"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newClinic(t)
			c.healthy()
			x.sick(c)
			all, code := c.examine(direct, x.args...)
			if code != x.code {
				t.Errorf("exit code %d, want %d", code, x.code)
			}
			c.wants(all, x.want...)
		})
	}
}

func TestDoctorDKIM(t *testing.T) {
	c := newClinic(t)
	c.healthy()
	keys := "[filter.dkimsign]\n"
	for _, kind := range []string{dkim.RSA, dkim.Ed25519} {
		key, text, err := dkim.NewKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		record, err := dkim.Record(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		file := c.write(kind+".key", 0o644, text)
		for name, records := range map[string][]string{
			"good": {record}, "test": {record + "; t=y"}, "gone": nil, "revoked": {dkim.RevokedRecord}, "cut": {record[:30], record[30:]}, "bad": {"v=DKIM2"}, "other": {"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
		} {
			keys += fmt.Sprintf("[[filter.dkimsign.keys]]\nselector = \"%s-%s\"\nkey = { file = %q }\n", kind, name, file)
			if records != nil {
				c.txt(kind+"-"+name+"._domainkey.example.org", records...)
			}
		}
	}
	all, code := c.examine(direct + keys)
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	for _, kind := range []string{dkim.RSA, dkim.Ed25519} {
		of := func(name string) string { return kind + "-" + name + " of example.org: " }
		c.wants(all, "ok dkim "+of("good")+"the record matches", "warning dkim "+of("test")+"the record says that signatures are only a test",
			"error dkim "+of("gone")+"mail is signed, but cannot be verified: there is no record; publish: "+kind+"-gone._domainkey.example.org. IN TXT ( \"v=DKIM1; k="+kind,
			"error dkim "+of("revoked")+"mail is signed with a key that is revoked; run: postern keys dkim rotate --now example.org",
			"error dkim "+of("cut")+"mail is signed, but cannot be verified: the record is cut into 2 records",
			"error dkim "+of("bad")+"mail is signed, but cannot be verified: not a record of version DKIM1",
			"error dkim "+of("other")+"mail is signed, but cannot be verified: the record is of another key",
			"error dkim : key of selector "+kind+"-good: "+c.path(kind+".key")+" has mode 0644")
	}
	c.wants(all, "-its mail is not signed", "-Ed25519 alone")
	c.wants(first(c.examine(direct+"[filter.dkimsign]\nselector = \"ed25519-good\"\nkey = { file = \""+c.path("ed25519.key")+"\" }\n")), "warning dkim example.org: its mail is signed with Ed25519 alone")
	c.wants(first(c.examine(direct+"[filter.dkimsign]\nenabled = false\n")), "warning dkim : [filter.dkimsign] is switched off")
}

func first(all []finding, _ int) []finding { return all }

// certificate makes a self-signed certificate for a name in PEM, with its key.
func certificate(t *testing.T, name string, from, to time.Time) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

const aDay = 24 * time.Hour

func TestDoctorCertificate(t *testing.T) {
	now := time.Now()
	for _, x := range []struct {
		name, host string
		from, to   time.Duration
		mode       os.FileMode
		want       string
	}{
		{"good but unknown", "mx.example.org", -aDay, 90 * aDay, 0o600, "certificate signed by unknown authority"},
		{"for another host", "other.example", -aDay, 90 * aDay, 0o600, "not mx.example.org"},
		{"over", "mx.example.org", -9 * aDay, -aDay, 0o600, "error tls"},
		{"not yet", "mx.example.org", aDay, 9 * aDay, 0o600, "holds only from"},
		{"soon over", "mx.example.org", -aDay, 10*aDay + time.Hour, 0o600, "warning tls"},
		{"very soon over", "mx.example.org", -aDay, 2*aDay + time.Hour, 0o600, "in 2 days; renew it"},
		{"open key", "mx.example.org", -aDay, 90 * aDay, 0o644, "chmod 600"},
	} {
		c := newClinic(t)
		cert, key := certificate(t, x.host, now.Add(x.from), now.Add(x.to))
		all, _ := c.examine(direct + fmt.Sprintf("[tls]\ncertificate = %q\nkey = %q\n", c.write("cert.pem", 0o644, cert), c.write("key.pem", x.mode, key)))
		c.wants(all, x.want)
	}
	c := newClinic(t)
	all, _ := c.examine(strings.Replace(direct, `tls = "off"`, "", 1) + fmt.Sprintf("[tls]\ncertificate = %q\nkey = %q\n", c.write("cert.pem", 0o644, []byte("x")), c.write("key.pem", 0o600, []byte("x"))))
	c.wants(all, "error tls "+c.path("cert.pem"))
	c.wants(first(c.examine(strings.Replace(direct, `tls = "off"`, "", 1))), "warning tls out: shows a self-signed certificate")
}

// A fakeHop is a next hop that says what a test wants.
type fakeHop struct {
	greeting string
	offers   []string
	tls      *tls.Config
	replies  map[string]string // by the first word of a command
}

// start serves until the test ends.
func (h fakeHop) start(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { c.Close() })
			go h.talk(c)
		}
	}()
	return l.Addr().String()
}

func (h fakeHop) talk(c net.Conn) {
	defer c.Close()
	if h.greeting == "" {
		h.greeting = "220 hop.example ESMTP"
	}
	if h.greeting == "silence" {
		c.Read(make([]byte, 1))
		return
	}
	fmt.Fprintf(c, "%s\r\n", h.greeting)
	for in := bufio.NewReader(c); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		word, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		reply := h.replies[word]
		switch {
		case reply != "":
		case word == "EHLO" || word == "LHLO":
			reply = "250-hop.example"
			for i, o := range h.offers {
				reply += "\r\n250" + map[bool]string{true: " ", false: "-"}[i == len(h.offers)-1] + o
			}
		case word == "STARTTLS":
			fmt.Fprint(c, "220 go\r\n")
			t := tls.Server(c, h.tls)
			if t.Handshake() != nil {
				return
			}
			c, in = t, bufio.NewReader(t)
			continue
		default:
			reply = "250 ok"
		}
		fmt.Fprintf(c, "%s\r\n", reply)
	}
}

func TestDoctorUpstream(t *testing.T) {
	now := time.Now()
	pair := func(name string, to time.Duration) (*tls.Config, []byte) {
		cert, key := certificate(t, name, now.Add(-aDay), now.Add(to))
		p, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{p}}, cert
	}
	good, goodPEM := pair("hop.example", 90*aDay)
	over, overPEM := pair("hop.example", -time.Hour)
	full := []string{"PIPELINING", "8BITMIME", "SIZE 104857600", "STARTTLS"}
	for _, x := range []struct {
		name     string
		hop      fakeHop
		settings string
		ca       []byte
		code     int
		want     []string
	}{
		{"verified", fakeHop{offers: full, tls: good}, "tls = \"verify\"\nserver_name = \"hop.example\"", goodPEM, 0, []string{"ok upstream world 127.0.0.1", "answers", "-warning upstream"}},
		{"of another name", fakeHop{offers: full, tls: good}, "tls = \"verify\"\nserver_name = \"other.example\"", goodPEM, 1, []string{"error upstream", "not other.example: mail waits, since tls = \"verify\""}},
		{"unknown authority", fakeHop{offers: full, tls: good}, "tls = \"verify\"\nserver_name = \"hop.example\"", nil, 1, []string{"unknown authority: mail waits"}},
		{"over", fakeHop{offers: full, tls: over}, "tls = \"verify\"\nserver_name = \"hop.example\"", overPEM, 1, []string{"the certificate ended on", "mail waits"}},
		{"over, but any will do", fakeHop{offers: full, tls: over}, "tls = \"required\"", nil, 0, []string{"warning upstream", "the certificate ended on", "-mail waits"}},
		{"no STARTTLS where it must be", fakeHop{offers: full[:3]}, "tls = \"required\"", nil, 1, []string{"error upstream", "does not offer STARTTLS, and tls = \"required\" demands it"}},
		{"no STARTTLS", fakeHop{offers: full[:3]}, "", nil, 0, []string{"warning upstream", "mail goes to it in clear"}},
		{"STARTTLS refused", fakeHop{offers: full, replies: map[string]string{"STARTTLS": "454 not now"}}, "", nil, 1, []string{"refuses STARTTLS: 454 \"not now\""}},
		{"TLS broken", fakeHop{offers: full, tls: &tls.Config{}}, "", nil, 1, []string{"TLS fails"}},
		{"small", fakeHop{offers: []string{"SIZE 1000", "PIPELINING"}}, "tls = \"none\"", nil, 0, []string{"takes messages up to 1000 B, and we up to 50 MB", "does not offer 8BITMIME"}},
		{"no SIZE", fakeHop{offers: []string{"8BITMIME"}}, "tls = \"none\"", nil, 0, []string{"does not offer SIZE", "does not offer PIPELINING"}},
		{"no XFORWARD", fakeHop{offers: full[:3]}, "tls = \"none\"\nclient_info = \"xforward\"", nil, 1, []string{"does not offer XFORWARD"}},
		{"no AUTH", fakeHop{offers: full[:3]}, "tls = \"none\"\nuser = \"u\"\npassword = { env = \"DOCTOR_PASSWORD\" }", nil, 1, []string{"offers no AUTH"}},
		{"AUTH", fakeHop{offers: append([]string{"AUTH LOGIN"}, full[:3]...)}, "tls = \"none\"\nuser = \"u\"\npassword = { env = \"DOCTOR_PASSWORD\" }", nil, 0, []string{"-offers no AUTH", "answers"}},
		{"knows everybody", fakeHop{offers: full[:3]}, "tls = \"none\"\nrecipients = { check = \"rcpt\" }", nil, 1, []string{"accepts recipients of example.org that do not exist"}},
		{"knows nobody", fakeHop{offers: full[:3], replies: map[string]string{"RCPT": "550 5.1.1 nobody"}}, "tls = \"none\"\nrecipients = { check = \"rcpt\" }", nil, 0, []string{"-that do not exist", "answers"}},
		{"no bounces", fakeHop{offers: full[:3], replies: map[string]string{"MAIL": "550 no"}}, "tls = \"none\"\nrecipients = { check = \"rcpt\" }", nil, 1, []string{"refuses the null reverse-path"}},
		{"closed", fakeHop{greeting: "554 go away"}, "", nil, 1, []string{"does not greet as a mail server: 554 \"go away\""}},
		{"EHLO refused", fakeHop{replies: map[string]string{"EHLO": "502 what"}}, "", nil, 1, []string{"refuses our EHLO: 502 \"what\""}},
		{"silent", fakeHop{greeting: "silence"}, "", nil, 1, []string{"does not greet as a mail server"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Setenv("DOCTOR_PASSWORD", "secret")
			c := newClinic(t)
			c.healthy()
			settings := x.settings
			if x.ca != nil {
				settings += fmt.Sprintf("\nca = %q", c.write("ca.pem", 0o644, x.ca))
			}
			args := []string{}
			if x.name == "silent" {
				args = append(args, "--limit", "300ms")
			}
			all, code := c.examine(site+fmt.Sprintf("[[upstream]]\nname = \"world\"\nto = [%q]\nfor = [\"*\"]\n%s\n", x.hop.start(t), settings), args...)
			if code != x.code {
				t.Errorf("exit code %d, want %d", code, x.code)
			}
			c.wants(all, x.want...)
		})
	}
}

func TestDoctorUnreachable(t *testing.T) {
	c := newClinic(t)
	all, code := c.examine(site + "[[upstream]]\nname = \"world\"\nto = [\"127.0.0.1:1\", \"unix:" + c.path("none.sock") + "\", \"nowhere.example:25\"]\nfor = [\"*\"]\n")
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	c.wants(all, "error upstream world 127.0.0.1:1: cannot be reached", "error upstream world unix:", "error upstream world nowhere.example:25: cannot be reached")
}

// TestDoctorLimit checks that a check that does not end is told, and left.
func TestDoctorLimit(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	all := (&patient{}).examine(ctx, []check{
		{"first", func(_ context.Context, _ *patient, f *findings) { f.ok("", "quick") }},
		{"second", func(context.Context, *patient, *findings) { <-hang }},
		{"third", func(ctx context.Context, _ *patient, f *findings) { <-ctx.Done(); f.bad("", "", "cut off") }},
	})
	newClinic(t).wants(all, "ok first : quick", "error second : the check did not end in time; try again with a longer --limit", "error third : cut off")
}

func TestDoctorState(t *testing.T) {
	c := newClinic(t)
	if err := os.Chmod(c.path("state"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.write("state/audit.key", 0o644, []byte("x"))
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(c.write("state/audit.head", 0o600, nil), future, future); err != nil {
		t.Fatal(err)
	}
	all, _ := c.examine(direct)
	c.wants(all, "warning state "+c.path("state")+": others may look into it: mode 0755; chmod 700", "error state : "+c.path("state/audit.key")+" has mode 0644", "error clock : it says")
	all, _ = c.examine(direct + "[quarantine]\nmax_size = \"900000GB\"\n")
	c.wants(all, "the quarantine may take 879 TB; make room, or lower [quarantine] max_size")
	if err := os.RemoveAll(c.path("state")); err != nil {
		t.Fatal(err)
	}
	c.wants(first(c.examine(direct)), "warning state "+c.path("state")+": is not there")
	c.write("state", 0o600, nil)
	c.wants(first(c.examine(direct)), "is no directory")
}

func TestDoctorPolicy(t *testing.T) {
	c := newClinic(t)
	all, code := c.examine("[site]\ndomain = []\n")
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	c.wants(all, "error policy "+c.path("policy.toml")+":5")
	all, _ = c.examine(direct + "[[test]]\nname = \"wrong\"\nmail = { from = \"a@b.example\", to = [\"x@example.org\"] }\nexpect = { disposition = \"reject\" }\n")
	c.wants(all, "test \"wrong\" fails; run: postern test")
	all, _ = c.examine(direct + "[filter.dkimsign]\nselector = \"s\"\nkey = { file = \"/nowhere\" }\n")
	c.wants(all, "the gateway cannot start with it: ", "/nowhere")
	var out, errs bytes.Buffer
	if code := run([]string{"-c", c.path("absent.toml"), "doctor"}, strings.NewReader(""), &out, &errs); code != exitFailed || !strings.Contains(errs.String(), "postern init") {
		t.Errorf("%d %s", code, errs.String())
	}
}

func TestDoctorEngines(t *testing.T) {
	now := time.Now()
	for _, x := range []struct{ answer, want string }{
		{"ClamAV 1.4.1/27400/" + now.Format(time.ANSIC), "ok antivirus"},
		{"ClamAV 1.4.1/27400/" + now.Add(-5*aDay).Format(time.ANSIC), "warning antivirus"},
		{"ClamAV 1.4.1/27400/" + now.Add(-50*aDay).Format(time.ANSIC), "error antivirus"},
		{"ClamAV 1.4.1", "has no signatures; look at freshclam"},
		{"what", "mail waits until it answers"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			c.Read(make([]byte, 64))
			c.Write([]byte(x.answer + "\x00"))
		}()
		c := newClinic(t)
		all, _ := c.examine(direct + fmt.Sprintf("[filter.virus]\nengines = [\"clamd:%s\"]\n", l.Addr()))
		c.wants(all, x.want)
		l.Close()
	}
}
