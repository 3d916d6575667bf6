package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"postern/dns"
)

// Bounds of key records.
const (
	maxRecord  = 64 << 10 // bytes
	maxRecords = 4        // at one name
	maxKeyBits = 8192     // RFC 8301 section 3.2 asks for 4096
)

// ErrKey says that a key cannot be used.
var ErrKey = errors.New("unusable DKIM key")

// errRevoked says that a record revokes its key.
var errRevoked = errors.New("the key is revoked")

// A Key is a key record (RFC 6376 section 3.6.1).
type Key struct {
	Public  crypto.PublicKey // *rsa.PublicKey or ed25519.PublicKey
	Bits    int              // of an RSA key; 256 for Ed25519
	Testing bool             // t=y: the domain is testing DKIM
	Strict  bool             // t=s: the domain of i= must be d= itself
}

// Bounds of what a KeyCache keeps.
const (
	cachedKeys   = 500
	cachedRecord = 2 << 10 // bytes; an RSA key of 8192 bits takes 1.4 KB
)

// A KeyCache keeps keys by the text of their records, so that a key which is
// asked for again is not read again: it knows nothing of who published it. It is
// bounded, and safe for concurrent use; nil keeps nothing.
type KeyCache struct{ keys *lru.Cache[string, Key] }

// NewKeyCache returns an empty KeyCache.
func NewKeyCache() *KeyCache {
	keys, err := lru.New[string, Key](cachedKeys)
	if err != nil {
		return nil // only a size below one is an error
	}
	return &KeyCache{keys}
}

// parse is ParseKey. What has an error is read each time.
func (c *KeyCache) parse(record string) (Key, error) {
	if c == nil || len(record) > cachedRecord {
		return ParseKey(record)
	}
	if k, ok := c.keys.Get(record); ok {
		return k, nil
	}
	k, err := ParseKey(record)
	if err == nil {
		c.keys.Add(record, k)
	}
	return k, err
}

// ParseKey reads a key record. Its error, which wraps ErrKey, says why nothing
// can be verified with it.
func ParseKey(record string) (Key, error) {
	if len(record) > maxRecord {
		return Key{}, fmt.Errorf("%w: the record has more than %d bytes", ErrKey, maxRecord)
	}
	tags, err := parseTags([]byte(record))
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	// RFC 6376 section 3.6.1: v= comes first if it is there, and is DKIM1.
	if v := find(tags, "v"); v != nil && (v != &tags[0] || string(v.value) != "DKIM1") {
		return Key{}, fmt.Errorf("%w: not a record of version DKIM1", ErrKey)
	}
	if h := find(tags, "h"); h != nil && !contains(h.value, "sha256") {
		return Key{}, fmt.Errorf("%w: the key is not for SHA-256", ErrKey)
	}
	if s := find(tags, "s"); s != nil && !contains(s.value, "*") && !contains(s.value, "email") {
		return Key{}, fmt.Errorf("%w: the key is not for mail", ErrKey)
	}
	var k Key
	if t := find(tags, "t"); t != nil {
		k.Testing, k.Strict = contains(t.value, "y"), contains(t.value, "s")
	}
	p := find(tags, "p")
	switch {
	case p == nil:
		return k, fmt.Errorf("%w: the record has no p=", ErrKey)
	case len(p.value) == 0:
		// RFC 6376 section 3.6.1: an empty p= means a revoked key.
		return k, fmt.Errorf("%w: %w", ErrKey, errRevoked)
	}
	raw, err := decode64(squeeze(p.value))
	if err != nil {
		return k, fmt.Errorf("%w: p= is not base64", ErrKey)
	}
	kind := []byte("rsa")
	if t := find(tags, "k"); t != nil {
		kind = t.value
	}
	return k, k.parsePublic(string(kind), raw)
}

// parsePublic reads the content of p=.
func (k *Key) parsePublic(kind string, raw []byte) error {
	switch kind {
	case "rsa":
		public, err := parseRSA(raw)
		if err != nil {
			return err
		}
		k.Public, k.Bits = public, public.N.BitLen()
		if k.Bits > maxKeyBits {
			return fmt.Errorf("%w: a key of %d bits, more than %d", ErrKey, k.Bits, maxKeyBits)
		}
	case "ed25519":
		// RFC 8463 section 4: the 32 bytes of the key, nothing around them.
		if len(raw) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: an Ed25519 key of %d bytes", ErrKey, len(raw))
		}
		k.Public, k.Bits = ed25519.PublicKey(raw), 256
	default:
		return fmt.Errorf("%w: key type %q is not known", ErrKey, brief([]byte(kind)))
	}
	return nil
}

// parseRSA reads an RSA key: as a SubjectPublicKeyInfo, as everybody publishes
// it, or as the RSAPublicKey of RFC 6376 section 3.6.1.
func parseRSA(raw []byte) (*rsa.PublicKey, error) {
	if len(raw) > maxKeyBits/8+1024 {
		return nil, fmt.Errorf("%w: an RSA key of %d bytes is too long", ErrKey, len(raw))
	}
	if k, err := x509.ParsePKCS1PublicKey(raw); err == nil {
		return k, nil
	}
	any, err := x509.ParsePKIXPublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: p= is not an RSA key", ErrKey)
	}
	k, ok := any.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: p= holds a key of another type than k= says", ErrKey)
	}
	return k, nil
}

// Record returns the key record to publish for a public key.
func Record(public crypto.PublicKey) (string, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		raw, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrKey, err)
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(raw), nil
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(k), nil
	}
	return "", fmt.Errorf("%w: %T is neither RSA nor Ed25519", ErrKey, public)
}

// RecordName returns the name at which a key record is published.
func RecordName(selector, domain string) string { return selector + "._domainkey." + domain }

// verify reports whether sig signs the hash.
func (k *Key) verify(digest [sha256.Size]byte, sig []byte) bool {
	switch public := k.Public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig) == nil
	case ed25519.PublicKey:
		// RFC 8463 section 3: what is signed is the SHA-256 hash.
		return ed25519.Verify(public, digest[:], sig)
	}
	return false
}

// suits returns a flaw if a signature may not be verified with the key.
func (k *Key) suits(s *signature, minimum int) *flaw {
	_, isRSA := k.Public.(*rsa.PublicKey)
	switch {
	case isRSA != (s.algorithm == "rsa-sha256"):
		// RFC 6376 section 6.1.2: the key must be for the algorithm of a=.
		return flawed(PermError, "the key is not for %s", s.algorithm)
	case isRSA && k.Bits < minimum:
		// RFC 8301 section 3.2: keys of less than 1024 bits do not count.
		return flawed(Policy, "an RSA key of %d bits is too short: at least %d are needed", k.Bits, minimum)
	case k.Strict && !s.strict && s.kind == dkimSignature:
		return flawed(PermError, "the key is only for i= of the domain itself")
	}
	return nil
}

// An answer is what DNS says about one key.
type answer struct {
	keys []Key
	flaw *flaw
}

// keyName returns the name at which the key of a signature lies.
func (s *signature) keyName() string { return RecordName(s.selector, s.domain) }

// fetch looks the keys of the signatures up, each name once and all at the same
// time.
func (o *Options) fetch(ctx context.Context, sigs []*signature) map[string]*answer {
	answers := make(map[string]*answer, len(sigs))
	var wg sync.WaitGroup
	first := ""
	for _, s := range sigs {
		name := s.keyName()
		if answers[name] != nil {
			continue
		}
		a := &answer{}
		answers[name] = a
		if first == "" {
			first = name
			continue
		}
		wg.Go(func() { a.lookUp(ctx, o, name) })
	}
	if first != "" {
		answers[first].lookUp(ctx, o, first)
	}
	wg.Wait()
	return answers
}

// lookUp asks for one key.
func (a *answer) lookUp(ctx context.Context, o *Options, name string) {
	if len(name) > 253 {
		a.flaw = flawed(PermError, "the name of the key is too long for DNS")
		return
	}
	if o.Resolver == nil {
		a.flaw = flawed(TempError, "there is no DNS resolver")
		return
	}
	found, err := o.Resolver.TXT(ctx, name)
	switch {
	case errors.Is(err, dns.ErrNotFound):
		a.flaw = flawed(PermError, "there is no key at %s", name)
		return
	case err != nil:
		a.flaw = flawed(TempError, "the key at %s could not be looked up", name)
		return
	}
	// RFC 6376 section 3.6.2.2: several records at one name mean nothing
	// certain; RFC 6376 section 6.1.2 lets a verifier try one after the other.
	for _, record := range found.Records[:min(len(found.Records), maxRecords)] {
		k, err := o.Keys.parse(record)
		if err == nil {
			a.keys = append(a.keys, k)
		} else if a.flaw == nil || strings.Contains(record, "p=") {
			a.flaw = flawed(PermError, "%s", strings.TrimPrefix(err.Error(), ErrKey.Error()+": "))
		}
	}
	if len(a.keys) == 0 && a.flaw == nil {
		a.flaw = flawed(PermError, "there is no key at %s", name)
	}
}
