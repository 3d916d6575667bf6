package virus

import (
	"bytes"
	"errors"
	"io"
	"slices"
)

// eicarReversed is the EICAR test string, back to front: neither this file nor
// the program contains the string itself, which would set off virus scanners.
const eicarReversed = `*H+H$!ELIF-TSET-SURIVITNA-DRADNATS-RACIE$}7)CC7)^P(45XZP\4[PA@%P!O5X`

// eicarName is what clamd calls it.
const eicarName = "Eicar-Test-Signature"

// eicarString returns the test string.
func eicarString() []byte {
	b := []byte(eicarReversed)
	slices.Reverse(b)
	return b
}

// containsStream reports whether needle occurs in what r yields.
func containsStream(r io.Reader, needle []byte) (bool, error) {
	buf := buffers.Get().(*[64 + chunk]byte)
	defer buffers.Put(buf)
	kept := 0
	for {
		n, err := io.ReadFull(r, buf[kept:])
		window := buf[:kept+n]
		if bytes.Contains(window, needle) {
			return true, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		kept = copy(buf[:], window[len(window)-len(needle)+1:])
	}
}
