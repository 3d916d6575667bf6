package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
)

// Kinds of keys that NewKey makes.
const (
	RSA     = "rsa"
	Ed25519 = "ed25519"
)

// rsaBits is the size of new RSA keys: longer ones do not fit into one string of
// a TXT record, and every verifier takes these.
const rsaBits = 2048

// NewKey makes a key for signing. It returns it in PEM too, as ParsePrivateKey
// reads it.
func NewKey(kind string) (crypto.Signer, []byte, error) {
	var key crypto.Signer
	var err error
	switch kind {
	case RSA:
		key, err = rsa.GenerateKey(rand.Reader, rsaBits)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("%q is neither %q nor %q", kind, RSA, Ed25519)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), nil
}

// ParsePrivateKey reads a key for signing: PEM with a PKCS #8 or PKCS #1 key, as
// OpenSSL, OpenDKIM and Rspamd write them, or the base64 of an Ed25519 key or of
// its seed. Errors wrap ErrKey and tell nothing of the content.
func ParsePrivateKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return parseSeed(text)
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		switch k := k.(type) {
		case *rsa.PrivateKey:
			return k, nil
		case ed25519.PrivateKey:
			return k, nil
		}
	}
	return nil, fmt.Errorf("%w: the PEM block %q holds no RSA or Ed25519 key that can be read", ErrKey, block.Type)
}

// parseSeed reads an Ed25519 key in base64.
func parseSeed(text []byte) (crypto.Signer, error) {
	raw, err := base64.StdEncoding.DecodeString(string(squeeze(text)))
	if err == nil {
		switch len(raw) {
		case ed25519.SeedSize:
			return ed25519.NewKeyFromSeed(raw), nil
		case ed25519.PrivateKeySize:
			if k := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize]); k.Equal(ed25519.PrivateKey(raw)) {
				return k, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: neither PEM nor the base64 of an Ed25519 key", ErrKey)
}
