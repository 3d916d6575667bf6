package dkim

import (
	"bytes"
	"fmt"
	"io"

	"postern/mail"
)

// Survive reports whether what the signatures of before sign is the same in
// after: the body, and the fields that each DKIM-Signature and each
// ARC-Message-Signature names. It verifies nothing: a signature that held then
// holds now. The error is that of a message that cannot be read.
func Survive(before, after *mail.Message) (bool, error) {
	if before == after {
		return true, nil
	}
	same, err := sameBody(before, after)
	if !same || err != nil {
		return false, err
	}
	a, b := contentOf(before).index, contentOf(after).index
	for name, k := range map[string]kind{"dkim-signature": dkimSignature, "arc-message-signature": arcMessage} {
		places := a.all(name)
		for _, place := range places[:min(len(places), maxSets)] {
			s, flaw := readSignature(k, place, a.fields[place].Raw())
			if flaw == nil && !sameFields(a, b, name, s) {
				return false, nil
			}
		}
	}
	return true, nil
}

// sameFields reports whether a signature signs the same fields in both headers.
func sameFields(a, b *index, name string, s *signature) bool {
	own := -1
	for _, place := range b.all(name) {
		if bytes.Equal(b.fields[place].Raw(), s.raw) {
			own = place
		}
	}
	if own < 0 {
		return false
	}
	var signed [][]byte
	a.pick(s.names, s.field, func(raw []byte) { signed = append(signed, raw) })
	same := true
	b.pick(s.names, own, func(raw []byte) {
		if same = same && len(signed) > 0 && bytes.Equal(signed[0], raw); same {
			signed = signed[1:]
		}
	})
	return same && len(signed) == 0
}

// sameBody compares the bodies byte by byte.
func sameBody(a, b *mail.Message) (bool, error) {
	size := a.Size() - a.BodyOffset()
	if size != b.Size()-b.BodyOffset() {
		return false, nil
	}
	one := io.NewSectionReader(a.ReaderAt(), a.BodyOffset(), size)
	two := io.NewSectionReader(b.ReaderAt(), b.BodyOffset(), size)
	p, q := make([]byte, min(chunk, size)), make([]byte, min(chunk, size))
	for left := size; left > 0; left -= int64(len(p)) {
		p, q = p[:min(int64(len(p)), left)], q[:min(int64(len(q)), left)]
		_, err := io.ReadFull(one, p)
		if err == nil {
			_, err = io.ReadFull(two, q)
		}
		if err != nil {
			return false, fmt.Errorf("compare bodies: %w", err)
		}
		if !bytes.Equal(p, q) {
			return false, nil
		}
	}
	return true, nil
}
