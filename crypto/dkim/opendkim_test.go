package dkim

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tampered returns a signed message whose body was changed on the way.
func tampered(text string) string {
	head, body, _ := strings.Cut(text, "\r\n\r\n")
	return head + "\r\n\r\nNot what was signed.\r\n" + body
}

// An openDKIM runs the test mode of OpenDKIM's filter, which reads key records
// from a file.
type openDKIM struct {
	path, dir string
}

func newOpenDKIM(t *testing.T) *openDKIM {
	o := &openDKIM{path: peer(t, "opendkim", "-V"), dir: t.TempDir()}
	o.write(t, "records", "r1._domainkey.example.org "+record(t, "rsa")+"\ne1._domainkey.example.org "+record(t, "ed")+"\n")
	o.write(t, "r1.key", privatePEM(t, "rsa"))
	o.write(t, "e1.key", privatePEM(t, "ed"))
	return o
}

func (o *openDKIM) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs it over a message with further settings. Data and talk come together.
func (o *openDKIM) run(t *testing.T, mode, settings, message string) string {
	t.Helper()
	conf := o.write(t, "conf", fmt.Sprintf("TestDNSData file:%s/records\nTemporaryDirectory %s\nRequireSafeKeys no\n%s", o.dir, o.dir, settings))
	c := exec.Command(o.path, "-x", conf, "-b", mode, "-t", o.write(t, "message", message))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	// Its exit code does not tell a signature that fails from one that holds.
	if err := c.Run(); err != nil {
		t.Logf("opendkim: %v", err)
	}
	return out.String()
}

// TestOpenDKIM checks that OpenDKIM verifies what is signed here, notices what was
// changed, and that what it signs holds here: both kinds of keys and all four
// canonicalisations.
func TestOpenDKIM(t *testing.T) {
	o := newOpenDKIM(t)
	both, zone := signers(t)
	for _, s := range both {
		fields, err := Sign(parse(plainMessage), time.Now(), s)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(fields, "") + plainMessage
		if got := o.run(t, "v", "", text); !strings.Contains(got, "verification (s="+s.Selector+", d=example.org") || !strings.Contains(got, ") succeeded") {
			t.Errorf("%s: OpenDKIM says of our signature: %s", s.Selector, got)
		}
		if got := o.run(t, "v", "", tampered(text)); !strings.Contains(got, " failed: ") {
			t.Errorf("%s: OpenDKIM says of a message that was changed: %s", s.Selector, got)
		}
		algorithm := map[string]string{"r1": "rsa-sha256", "e1": "ed25519-sha256"}[s.Selector]
		for _, c := range []string{"relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"} {
			got := o.run(t, "s", fmt.Sprintf("Domain example.org\nSubDomains yes\nSelector %[1]s\nKeyFile %[2]s/%[1]s.key\nSignatureAlgorithm %[3]s\nCanonicalization %[4]s\n", s.Selector, o.dir, algorithm, c), plainMessage)
			_, field, ok := strings.Cut(got, "DKIM-Signature:")
			if !ok || !strings.Contains(field, "a="+algorithm) || !strings.Contains(field, "c="+c) {
				t.Fatalf("%s %s: OpenDKIM does not sign: %s", s.Selector, c, got)
			}
			theirs := "DKIM-Signature:" + crlfLines(strings.TrimRight(field, "\n")+"\n") + plainMessage
			if own := o.run(t, "v", "", theirs); s.Selector == "e1" && strings.HasPrefix(c, "simple/") && strings.Contains(own, " failed: ") {
				// Its Ed25519 signatures with simple header do not hold for itself
				// either, nor for dkimpy.
				checkFails(t, theirs, zone, 1)
				continue
			}
			checkTheirs(t, theirs, zone, 1)
			checkFails(t, tampered(theirs), zone, 1)
		}
	}
}

// checkFails checks that none of n signatures holds.
func checkFails(t *testing.T, text string, zone *table, n int) {
	t.Helper()
	rs, err := Verify(t.Context(), parse(text), Options{Resolver: zone, Now: time.Now()})
	if err != nil || len(rs) != n {
		t.Fatalf("%d results, not %d: %v", len(rs), n, err)
	}
	for _, r := range rs {
		if r.Value != Fail {
			t.Errorf("what was changed: %+v", r)
		}
	}
}
