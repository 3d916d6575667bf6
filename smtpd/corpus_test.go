package smtpd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func insecure() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "gw.test"}
}

// corpusEnds reads the sequences of eod_sequences.json, whose values are lists
// or maps of strings, or remarks.
func corpusEnds(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var groups map[string]any
	if err := json.Unmarshal(text, &groups); err != nil {
		t.Fatal(err)
	}
	var ends []string
	for _, g := range groups {
		switch g := g.(type) {
		case map[string]any:
			for _, v := range g {
				ends = append(ends, v.(string))
			}
		case []any:
			for _, v := range g {
				ends = append(ends, v.(string))
			}
		}
	}
	return ends
}

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// clientAuthority makes an authority, in a PEM file, and a client's pair by it.
func clientAuthority(t *testing.T, dir string) (file string, pair tls.Certificate) {
	t.Helper()
	certText, keyText, err := makePair("authority", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
			NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	}
	root := template("authority")
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, ca.PrivateKey.(*ecdsa.PrivateKey).Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template("printer"), root, key.Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
