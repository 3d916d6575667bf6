package quarantine

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"io"

	"postern/store"
)

const (
	keySize   = 32
	nonceSize = 12

	wrapPlain = 0 // first byte of a wrapped key: nothing is encrypted
	wrapGCM   = 1 // key id, nonce, AES-256-GCM of the data key
)

// keyIDSize is the length of the note which key wrapped a data key.
const keyIDSize = 4

// A keyring wraps and unwraps data keys.
type keyring struct {
	id   [keyIDSize]byte
	aead cipher.AEAD
}

func loadKey(path string, random io.Reader) (*keyring, error) {
	key, err := store.KeyFile(path, keySize, random)
	if err != nil {
		return nil, err
	}
	k := &keyring{}
	sum := sha256.Sum256(append([]byte("postern quarantine key id\n"), key...))
	copy(k.id[:], sum[:])
	k.aead, err = newAEAD(key)
	return k, err
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// A bodyKey is the data key of one item; nil: the item is not encrypted.
type bodyKey []byte

// wrap encrypts a data key. It belongs to the item: in the row of another one it
// does not open.
func (k *keyring) wrap(key bodyKey, item string, random io.Reader) ([]byte, error) {
	if key == nil {
		return []byte{wrapPlain}, nil
	}
	out := append([]byte{wrapGCM}, k.id[:]...)
	out, err := appendNonce(out, random)
	if err != nil {
		return nil, err
	}
	return k.aead.Seal(out, out[1+keyIDSize:], key, []byte("postern body key\n"+item)), nil
}

func appendNonce(b []byte, random io.Reader) ([]byte, error) {
	var nonce [nonceSize]byte
	if _, err := io.ReadFull(random, nonce[:]); err != nil {
		return nil, fmt.Errorf("make nonce: %w", err)
	}
	return append(b, nonce[:]...), nil
}

func (k *keyring) unwrap(wrapped []byte, item string) (bodyKey, error) {
	const head = 1 + keyIDSize + nonceSize
	switch {
	case len(wrapped) == 0:
		return nil, ErrErased
	case len(wrapped) == 1 && wrapped[0] == wrapPlain:
		return nil, nil
	case len(wrapped) < head || wrapped[0] != wrapGCM:
		return nil, fmt.Errorf("%w: unknown form of key", ErrDamaged)
	case [keyIDSize]byte(wrapped[1:1+keyIDSize]) != k.id:
		return nil, fmt.Errorf("%w: it was encrypted with another key file", ErrDamaged)
	}
	key, err := k.aead.Open(nil, wrapped[1+keyIDSize:head], wrapped[head:], []byte("postern body key\n"+item))
	if err != nil || len(key) != keySize {
		return nil, fmt.Errorf("%w: its key does not open", ErrDamaged)
	}
	return key, nil
}

// aead returns the cipher for one purpose, "body" or "details": each has a key
// of its own, so that their nonces cannot meet.
func (key bodyKey) aead(purpose string) (cipher.AEAD, error) {
	sub, err := hkdf.Key(sha256.New, key, nil, "postern quarantine "+purpose, keySize)
	if err != nil {
		return nil, err
	}
	return newAEAD(sub)
}

// sealDetails encrypts the details of an item.
func (key bodyKey) sealDetails(text []byte, item string, random io.Reader) ([]byte, error) {
	if key == nil {
		return text, nil
	}
	aead, err := key.aead("details")
	if err != nil {
		return nil, err
	}
	out, err := appendNonce(nil, random)
	if err != nil {
		return nil, err
	}
	return aead.Seal(out, out, text, []byte(item)), nil
}

func (key bodyKey) openDetails(sealed []byte, item string) ([]byte, error) {
	if key == nil {
		return sealed, nil
	}
	aead, err := key.aead("details")
	if err != nil {
		return nil, err
	}
	if len(sealed) < nonceSize {
		return nil, fmt.Errorf("%w: its details are cut short", ErrDamaged)
	}
	text, err := aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], []byte(item))
	if err != nil {
		return nil, fmt.Errorf("%w: its details were changed", ErrDamaged)
	}
	return text, nil
}
