package smtpd

import (
	"crypto/rand"
	"io"
	"time"
)

// idAlphabet is in the order of ASCII, so that identifiers sort by time, and
// lacks i, l, o and u, which are read wrongly.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// NewID returns an identifier for what does not come by SMTP.
func NewID() string { return newID(time.Now(), rand.Reader) }

// newID returns an identifier of 18 characters: nine for the time in
// milliseconds, nine at random. They sort by time as strings.
func newID(now time.Time, random io.Reader) string {
	var r [9]byte
	if _, err := io.ReadFull(random, r[:]); err != nil {
		// crypto/rand does not fail; whatever was injected in its place may.
		_, _ = rand.Read(r[:])
	}
	var id [18]byte
	ms := uint64(now.UnixMilli())
	for i := 8; i >= 0; i-- {
		id[i] = idAlphabet[ms&31]
		ms >>= 5
		id[9+i] = idAlphabet[r[i]&31]
	}
	return string(id[:])
}
