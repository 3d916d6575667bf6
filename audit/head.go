package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"postern/store"
)

// A Head is a signed note of where the chain begins and ends.
type Head struct {
	First uint64    `json:"first"` // the oldest record that must be there
	Seq   uint64    `json:"seq"`   // the newest
	Hash  string    `json:"hash"`  // of the newest
	At    time.Time `json:"at"`
	Sig   string    `json:"sig,omitempty"`
}

// signed returns the bytes that the signature covers.
func (h Head) signed() []byte {
	h.Sig = ""
	b, err := json.Marshal(h)
	if err != nil { // a Head has nothing that cannot be written
		return nil
	}
	return append([]byte("postern audit head\n"), b...)
}

// slotSize is the room for each of the two heads in the file: the older one is
// overwritten, so a write cut short leaves the other.
const slotSize = 512

// A headFile keeps the last two heads. It is not synced at each write: after a
// crash it may be older than the log, never newer.
type headFile struct {
	f    *os.File
	next int64 // offset of the slot to write
}

// openHead opens the file for reading, and for writing unless readOnly.
func openHead(path string, readOnly bool) (*headFile, error) {
	flags := os.O_RDWR | os.O_CREATE
	if readOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return &headFile{f: f}, nil
}

// read returns the newest head that key signed; ok is false if there is none.
func (hf *headFile) read(key ed25519.PublicKey) (best Head, ok bool, err error) {
	buf := make([]byte, 2*slotSize)
	n, err := hf.f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Head{}, false, err
	}
	for at := 0; at < n; at += slotSize {
		var h Head
		slot := buf[at:min(at+slotSize, n)]
		if json.Unmarshal(bytes.TrimRight(slot, "\x00 \n"), &h) != nil {
			continue
		}
		sig, err := encoding.DecodeString(h.Sig)
		if err != nil || !ed25519.Verify(key, h.signed(), sig) {
			continue
		}
		if !ok || h.Seq > best.Seq || h.Seq == best.Seq && h.First > best.First {
			best, ok = h, true
			hf.next = int64(slotSize - at)
		}
	}
	return best, ok, nil
}

// write signs h and writes it over the older head.
func (hf *headFile) write(h Head, key ed25519.PrivateKey) error {
	h.Sig = encoding.EncodeToString(ed25519.Sign(key, h.signed()))
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	slot := bytes.Repeat([]byte{' '}, slotSize)
	copy(slot, b)
	slot[slotSize-1] = '\n'
	if _, err := hf.f.WriteAt(slot, hf.next); err != nil {
		return err
	}
	hf.next = slotSize - hf.next
	return nil
}

// checkpointText is what the signature of a checkpoint covers.
func checkpointText(seq uint64, at time.Time, before Hash) []byte {
	b := strconv.AppendUint([]byte("postern audit checkpoint\n"), seq, 10)
	b = appendTime(append(b, '\n'), at)
	return append(append(b, '\n'), before[:]...)
}

// loadKey reads the signing key and, if there is none and random is not nil,
// makes one.
func loadKey(path string, random io.Reader) (ed25519.PrivateKey, error) {
	seed, err := store.KeyFile(path, ed25519.SeedSize, random)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
