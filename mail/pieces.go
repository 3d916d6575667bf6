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

// Pieces is the same for a whole message, wherever it lies.
func (m *Message) Pieces(f func(b []byte, r io.ReaderAt, off, n int64)) {
	if m.src.inMemory() {
		f(m.src.b, nil, 0, m.src.size)
	} else if sp, ok := m.src.r.(*splice); ok {
		sp.Pieces(f)
	} else {
		f(nil, m.src.r, 0, m.src.size)
	}
}
