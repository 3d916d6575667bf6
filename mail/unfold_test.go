package mail

import (
	"encoding/base64"
	"runtime"
	"strings"
	"testing"
)

// folded is a message in an encoded message in an encoded message, so written
// that each can be split at any of several boundaries: every reading finds the
// next one in another part.
func folded(depth, boundaries, size int) string {
	if depth == 0 {
		return "\r\nFrom: a@b.example\r\nSubject: x\r\n\r\n" + strings.Repeat("lorem ipsum\r\n", size/13)
	}
	field, body := "Content-Type: multipart/mixed", ""
	for i := range boundaries {
		b := strings.Repeat(string(rune('A'+i)), 8)
		header := "--" + b + "\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\nX-"
		digits := 0
		for _, c := range []byte(header) {
			if b64Value[c] < 64 {
				digits++
			}
		}
		field += "; boundary=" + b
		body += header + strings.Repeat("A", 8-digits%4) + ":\r\n\r\n" // whole groups of base64
	}
	return "\r\nFrom: a@b.example\r\nMIME-Version: 1.0\r\n" + field + "\r\n\r\n" + body + wrapped(folded(depth-1, boundaries, size))
}

// wrapped is text in lines of base64.
func wrapped(text string) string {
	var b strings.Builder
	for text = base64.StdEncoding.EncodeToString([]byte(text)); text != ""; {
		n := min(len(text), 76)
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	return b.String()
}

// TestFoldedMemory checks that what is read in many ways at many levels does not
// grow with each.
func TestFoldedMemory(t *testing.T) {
	for depth := 1; depth <= 5; depth++ {
		raw := strings.TrimPrefix(folded(depth, 5, 40_000), "\r\n")
		before := inUse()
		m := ParseBytes([]byte(raw), Options{})
		parts := len(m.Parts())
		kept := inUse() - before
		t.Logf("depth %d: %d bytes, %d parts, %d KB kept, %v", depth, len(raw), parts, kept>>10, m.notes.count[LimitDecoded])
		if most := 6*int64(len(raw)) + 4<<20; kept > most {
			t.Errorf("depth %d: %d bytes keep %d, more than %d", depth, len(raw), kept, most)
		}
		runtime.KeepAlive(m)
	}
}

func inUse() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// TestFoldedHonest checks that encoded messages in encoded messages are read to
// the innermost as long as there is one way to read them.
func TestFoldedHonest(t *testing.T) {
	raw := "From: a@b.example\r\n\r\n" + strings.Repeat("lorem ipsum\r\n", 10_000)
	for range 8 {
		raw = "From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped(raw)
	}
	m := ParseBytes([]byte(raw), Options{})
	deepest := 0
	for _, p := range m.Parts() {
		deepest = max(deepest, int(p.depth))
	}
	for _, f := range m.Findings() {
		if f.Kind.Class() == Limit {
			t.Error(f)
		}
	}
	if deepest < 8 {
		t.Errorf("only %d levels were read", deepest)
	}
}
