package dkim

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"path/filepath"
	"reflect"
	"testing"
)

func TestPrivateKeys(t *testing.T) {
	for _, kind := range []string{RSA, Ed25519} {
		k, text, err := NewKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePrivateKey(text)
		if err != nil || !reflect.DeepEqual(again.Public(), k.Public()) {
			t.Errorf("%s: %v", kind, err)
		}
		if err := (Signer{Domain: "example.org", Selector: "s", Key: again}).Check(); err != nil {
			t.Error(err)
		}
	}
	old := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(keys()["rsa"].(*rsa.PrivateKey))})
	if k, err := ParsePrivateKey(old); err != nil || !reflect.DeepEqual(k.Public(), keys()["rsa"].Public()) {
		t.Error(err)
	}
	ed := keys()["ed"].(ed25519.PrivateKey)
	for _, raw := range [][]byte{ed, ed.Seed()} {
		if k, err := ParsePrivateKey([]byte(base64.StdEncoding.EncodeToString(raw) + "\n")); err != nil || !reflect.DeepEqual(k, ed) {
			t.Error(err)
		}
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	twisted := append(append([]byte{}, ed.Seed()...), make([]byte, 32)...)
	for _, bad := range [][]byte{
		nil, []byte("hello"), []byte(base64.StdEncoding.EncodeToString(twisted)), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: other}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}),
	} {
		if k, err := ParsePrivateKey(bad); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v, %v", bad, k, err)
		}
	}
	if _, _, err := NewKey("dsa"); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
}

// TestPrivateKeyFiles reads the keys of other programs.
func TestPrivateKeyFiles(t *testing.T) {
	for _, pattern := range []string{
		"rspamd/configs/dkim*.key", "james/*.pem", "opendkim/tests/testkey.private", "perl-mail-dkim/test*.key", "kumomta/keys/*.private",
		"mailauth/dkim/ec/fixtures/*.key", "mailauth/fixtures/private-*.pem",
	} {
		for _, file := range files(t, "dkim", pattern) {
			if _, err := ParsePrivateKey([]byte(readFile(t, file))); err != nil {
				t.Errorf("%s: %v", filepath.Base(file), err)
			}
		}
	}
}
