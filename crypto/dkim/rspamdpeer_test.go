package dkim

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/dns"
	"postern/dns/dnstest"
)

// rspamdConfig is Rspamd with nothing but DKIM and ARC: %[1]s is its directory,
// %[2]s its own address, %[3]s that of its resolver.
const rspamdConfig = `
options {
  pidfile = "%[1]s/pid"; rundir = "%[1]s"; dbdir = "%[1]s"; tempdir = "%[1]s"; hs_cache_dir = "%[1]s"; control_socket = "%[1]s/control";
  url_tld = "%[1]s/tlds"; filters = "dkim"; local_addrs = [];
  dns { nameserver = ["%[3]s"]; timeout = 2s; retransmits = 3; }
}
logging { type = "file"; filename = "%[1]s/log"; level = "info"; }
worker "normal" { bind_socket = "%[2]s"; count = 1; }
actions { reject = 1000; add_header = 900; greylist = 800; }
dkim { }
lua = "/usr/share/rspamd/rules/rspamd.lua";
modules { path = "/usr/share/rspamd/plugins/arc.lua"; path = "/usr/share/rspamd/plugins/dkim_signing.lua"; }
arc { allow_hdrfrom_mismatch = true; allow_username_mismatch = true; use_domain = "header"; domain { "example.org" { selector = "r1"; path = "%[1]s/r1.key"; } } }
dkim_signing {
  allow_hdrfrom_mismatch = true; allow_username_mismatch = true; use_domain = "header";
  domain { "example.org" { selectors [ { selector = "r1"; path = "%[1]s/r1.key"; }, { selector = "e1"; path = "%[1]s/e1.key"; } ] } }
}
`

// A rspamd is a running Rspamd.
type rspamd struct{ url string }

// freeAddr returns an address of loopback that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startRspamd starts one that finds the key records of a table in DNS, and that
// has the keys to sign. It ends with the test.
func startRspamd(t *testing.T, zone *table) *rspamd {
	t.Helper()
	path := peer(t, "rspamd", "--version")
	names := map[string]any{}
	for name, records := range zone.records {
		names[name] = map[string]any{"TXT": records}
	}
	text, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	z, err := dns.ParseZone(text)
	if err != nil {
		t.Fatal(err)
	}
	dir, addr := t.TempDir(), freeAddr(t)
	ed, ok := keys()["ed"].(ed25519.PrivateKey)
	if !ok {
		t.Fatal("no Ed25519 key")
	}
	for name, text := range map[string]string{
		"conf": fmt.Sprintf(rspamdConfig, dir, addr, dnstest.Start(t, z).Addr), "tlds": "org\n",
		"r1.key": privatePEM(t, "rsa"), "e1.key": base64.StdEncoding.EncodeToString(ed),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Without -u it stays who it is; --insecure lets root do that.
	c := exec.Command(path, "-f", "-c", filepath.Join(dir, "conf"), "--insecure")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		c.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			c.Process.Kill()
			<-ended
		}
	})
	r := &rspamd{url: "http://" + addr}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get(r.url + "/ping"); err == nil {
			resp.Body.Close()
			return r
		}
		if time.Now().After(deadline) {
			log, err := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("rspamd does not answer: %s, %v", log, err)
		}
	}
}

// A rspamdAnswer is what it says of a message.
type rspamdAnswer struct {
	Symbols map[string]struct{ Options []string }
	DKIM    any `json:"dkim-signature"` // one or a list
	Milter  struct {
		AddHeaders map[string]struct{ Value string } `json:"add_headers"`
	}
}

// check has a message judged as that of a client elsewhere; from loopback it is
// signed and sealed.
func (r *rspamd) check(t *testing.T, message, client string) rspamdAnswer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", r.url+"/checkv2", strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("IP", client)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a rspamdAnswer
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return a
}

// TestRspamdPeer checks that a running Rspamd verifies what is signed and sealed
// here, notices what was changed, and that what it signs and seals holds here.
func TestRspamdPeer(t *testing.T) {
	text, _, zone := ours(t)
	r := startRspamd(t, zone)
	const elsewhere = "203.0.113.9"

	a := r.check(t, text, elsewhere)
	allowed := a.Symbols["R_DKIM_ALLOW"].Options
	slices.Sort(allowed)
	if !slices.Equal(allowed, []string{"example.org:s=e1", "example.org:s=r1"}) {
		t.Errorf("Rspamd says of our signatures: %+v", a.Symbols)
	}
	if _, ok := a.Symbols["ARC_ALLOW"]; !ok {
		t.Errorf("Rspamd says of our chain: %+v", a.Symbols)
	}
	a = r.check(t, tampered(text), elsewhere)
	if _, ok := a.Symbols["R_DKIM_REJECT"]; !ok || a.Symbols["R_DKIM_ALLOW"].Options != nil {
		t.Errorf("Rspamd says of signatures over another body: %+v", a.Symbols)
	}
	if _, ok := a.Symbols["ARC_REJECT"]; !ok {
		t.Errorf("Rspamd says of a chain over another body: %+v", a.Symbols)
	}

	a = r.check(t, plainMessage, "127.0.0.1")
	theirs := ""
	list, _ := a.DKIM.([]any)
	for _, f := range list {
		theirs += fmt.Sprintf("DKIM-Signature: %s\r\n", f)
	}
	for _, name := range []string{"ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"} {
		theirs = name + ": " + a.Milter.AddHeaders[name].Value + "\r\n" + theirs
	}
	theirs += plainMessage
	checkTheirs(t, theirs, zone, 2)
	checkFails(t, tampered(theirs), zone, 2)
	for message, want := range map[string]string{theirs: Pass, tampered(theirs): Fail} {
		if chain, err := VerifyARC(t.Context(), parse(message), Options{Resolver: zone, Now: time.Now()}); err != nil || chain.Value != want {
			t.Errorf("their chain: %+v, %v, want %s", chain, err, want)
		}
	}
}
