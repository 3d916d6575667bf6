package mail

import "io"

// Pieces calls f for each piece of the splice, in order: b is the piece, or, if
// it is nil, the n bytes of r from off on. So whoever stores an edited message
// can refer to what is stored already instead of copying it.
func (sp *splice) Pieces(f func(b []byte, r io.ReaderAt, off, n int64)) {
	for _, p := range sp.pieces {
		f(p.b, p.r, p.from, p.n)
	}
}
