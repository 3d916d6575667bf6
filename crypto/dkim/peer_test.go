package dkim

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// peer returns the path of another program, or skips. try, if it is not empty,
// are arguments with which it must end well: a library may be missing.
func peer(t *testing.T, name string, try ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil && len(try) > 0 {
		err = exec.Command(path, try...).Run()
	}
	if err != nil {
		if os.Getenv("POSTERN_CI") == "1" {
			t.Fatalf("%s %v: %v", name, try, err)
		}
		t.Skipf("%s %v: %v", name, try, err)
	}
	return path
}

// run runs a peer with input and returns what it prints.
func run(t *testing.T, input string, path string, args ...string) string {
	t.Helper()
	c := exec.Command(path, args...)
	c.Stdin = strings.NewReader(input)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v: %s", filepath.Base(path), err, errs.String())
	}
	return out.String()
}

// pythonVerify prints what dkimpy makes of each signature and of the chain.
const pythonVerify = `
import sys, json, dkim
q = json.load(sys.stdin)
def txt(name, timeout=5):
    r = q["zone"].get(name.decode().rstrip("."))
    return r.encode() if r else None
m = q["message"].encode()
for i in range(q["signatures"]):
    try:
        print(dkim.DKIM(m).verify(idx=i, dnsfunc=txt))
    except dkim.ValidationError as e:
        print("False" if "body hash" in str(e) else e)
if q["arc"]:
    print(dkim.arc_verify(m, dnsfunc=txt)[0].decode())
`

// pythonSign signs with dkimpy, and seals.
const pythonSign = `
import sys, json, dkim
q = json.load(sys.stdin)
m, out = q["message"].encode(), b""
for c in (b"relaxed", b"simple"):
    for s, k, a in ((b"r1", q["rsa"].encode(), b"rsa-sha256"), (b"e1", q["ed"].encode(), b"ed25519-sha256")):
        out += dkim.sign(m, s, b"example.org", k, canonicalize=(c, c), signature_algorithm=a)
m = b"Authentication-Results: mx.example.org; arc=none; dmarc=pass\r\n" + out + m
sys.stdout.buffer.write(b"".join(dkim.arc_sign(m, b"r1", b"example.org", q["rsa"].encode(), b"mx.example.org")) + m)
`

// rsaPEM returns the RSA key as older programs read it.
func rsaPEM(t *testing.T) string {
	t.Helper()
	k, ok := keys()["rsa"].(*rsa.PrivateKey)
	if !ok {
		t.Fatal("no RSA key")
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}))
}

// privatePEM returns a key as OpenSSL writes it.
func privatePEM(t *testing.T, name string) string {
	t.Helper()
	raw, err := x509.MarshalPKCS8PrivateKey(keys()[name])
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// ours returns a message that we signed and sealed twice, with its zone.
func ours(t *testing.T) (string, map[string]string, *table) {
	t.Helper()
	both, zone := signers(t)
	fields, err := Sign(parse(plainMessage), suiteTime, Signer{Domain: "example.org", Selector: "r1", Key: keys()["rsa"]}, both[1])
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(fields, "") + plainMessage
	for range 2 {
		a, err := VerifyARC(t.Context(), parse(text), Options{Resolver: zone, Now: suiteTime})
		if err != nil {
			t.Fatal(err)
		}
		set, err := SealARC(parse(text), "mx.example.org; dkim=pass header.d=example.org", a, both[0], suiteTime)
		if err != nil {
			t.Fatal(err)
		}
		text = strings.Join(set, "") + text
	}
	flat := map[string]string{}
	for name, records := range zone.records {
		flat[name] = records[0]
	}
	return text, flat, zone
}

// ask makes the input of a peer's script.
func ask(t *testing.T, of map[string]any) string {
	t.Helper()
	b, err := json.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDkimpy checks that dkimpy verifies what is signed and sealed here, and that
// what it signs and seals holds here.
func TestDkimpy(t *testing.T) {
	python := peer(t, "/usr/bin/python3", "-c", "import dkim, nacl, authres")
	text, flat, zone := ours(t)
	got := run(t, ask(t, map[string]any{"message": text, "zone": flat, "signatures": 2, "arc": true}), python, "-c", pythonVerify)
	if got != "True\nTrue\npass\n" {
		t.Errorf("dkimpy says of our signatures and chain: %q", got)
	}
	got = run(t, ask(t, map[string]any{"message": tampered(text), "zone": flat, "signatures": 2, "arc": true}), python, "-c", pythonVerify)
	if got != "False\nFalse\nfail\n" {
		t.Errorf("dkimpy says of a message that was changed: %q", got)
	}
	ed, ok := keys()["ed"].(ed25519.PrivateKey)
	if !ok {
		t.Fatal("no Ed25519 key")
	}
	theirs := run(t, ask(t, map[string]any{"message": plainMessage, "rsa": rsaPEM(t), "ed": base64.StdEncoding.EncodeToString(ed.Seed())}), python, "-c", pythonSign)
	checkTheirs(t, theirs, zone, 4)
	checkFails(t, tampered(theirs), zone, 4)
	a, err := VerifyARC(t.Context(), parse(theirs), Options{Resolver: zone, Now: time.Now()})
	if err != nil || a.Value != Pass {
		t.Errorf("their chain: %+v, %v", a, err)
	}
}

// checkTheirs checks that n signatures hold.
func checkTheirs(t *testing.T, text string, zone *table, n int) {
	t.Helper()
	rs, err := Verify(t.Context(), parse(text), Options{Resolver: zone, Now: time.Now()})
	if err != nil || len(rs) != n {
		t.Fatalf("%d results, not %d: %v", len(rs), n, err)
	}
	for _, r := range rs {
		if r.Value != Pass {
			t.Errorf("%+v", r)
		}
	}
}

// perlVerify prints what Mail::DKIM makes of each signature and of the chain.
const perlVerify = `
use strict; use JSON::PP; use Net::DNS; use Mail::DKIM::Verifier; use Mail::DKIM::ARC::Verifier;
local $/; my $q = decode_json(<STDIN>);
no warnings 'redefine';
*Mail::DKIM::DNS::query = sub {
  my ($name, $type) = @_; my $r = $q->{zone}{$name};
  return $r ? Net::DNS::RR->new(name => $name, type => 'TXT', txtdata => [unpack '(A250)*', $r]) : ();
};
my $v = Mail::DKIM::Verifier->new(); $v->PRINT($q->{message}); $v->CLOSE;
print $_->algorithm, ' ', $_->result, "\n" for $v->signatures;
my $arc = Mail::DKIM::ARC::Verifier->new(); $arc->PRINT($q->{message}); $arc->CLOSE;
print 'arc ', $arc->result, "\n";
`

// perlSign signs with Mail::DKIM in each canonicalisation, and seals.
const perlSign = `
use strict; use JSON::PP; use Mail::DKIM::Signer; use Mail::DKIM::ARC::Signer; use Mail::DKIM::PrivateKey; use Mail::DKIM::TextWrap;
local $/; my $q = decode_json(<STDIN>);
my $der = join '', grep { !/-----/ } split /\n/, $q->{key};
my $key = sub { Mail::DKIM::PrivateKey->load(Data => $der) };
my $m = $q->{message}; my $out = '';
for my $c (qw(relaxed/relaxed relaxed/simple simple/relaxed simple/simple)) {
  my $s = Mail::DKIM::Signer->new(Algorithm => 'rsa-sha256', Method => $c, Domain => 'example.org', Selector => 'r1', Key => $key->());
  $s->PRINT($m); $s->CLOSE; $out .= $s->signature->as_string . "\r\n";
}
$m = "Authentication-Results: mx.example.org; arc=none; dkim=pass\r\n" . $out . $m;
my $arc = Mail::DKIM::ARC::Signer->new(Algorithm => 'rsa-sha256', Domain => 'example.org', Selector => 'r1', Key => $key->(), SrvId => 'mx.example.org', Chain => 'none');
$arc->PRINT($m); $arc->CLOSE; die $arc->{details} unless $arc->result eq 'sealed';
print join("\r\n", $arc->as_strings), "\r\n", $m;
`

// TestMailDKIM checks that Mail::DKIM verifies what is signed and sealed here, and
// that what it signs and seals holds here. Debian's knows no Ed25519.
func TestMailDKIM(t *testing.T) {
	perl := peer(t, "perl", "-MMail::DKIM::ARC::Verifier", "-MNet::DNS", "-e", "1")
	text, flat, zone := ours(t)
	got := run(t, ask(t, map[string]any{"message": text, "zone": flat}), perl, "-e", perlVerify)
	if !strings.Contains(got, "rsa-sha256 pass\n") || !strings.HasSuffix(got, "arc pass\n") {
		t.Errorf("Mail::DKIM says of our signatures and chain: %q", got)
	}
	got = run(t, ask(t, map[string]any{"message": tampered(text), "zone": flat}), perl, "-e", perlVerify)
	if strings.Contains(got, "pass") || !strings.Contains(got, "rsa-sha256 fail\n") {
		t.Errorf("Mail::DKIM says of a message that was changed: %q", got)
	}
	theirs := run(t, ask(t, map[string]any{"message": plainMessage, "key": rsaPEM(t)}), perl, "-e", perlSign)
	checkTheirs(t, theirs, zone, 4)
	checkFails(t, tampered(theirs), zone, 4)
	if a, err := VerifyARC(t.Context(), parse(theirs), Options{Resolver: zone, Now: time.Now()}); err != nil || a.Value != Pass {
		t.Errorf("their chain: %+v, %v", a, err)
	}
}
