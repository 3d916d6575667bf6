package attachments

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"runtime"
	"strings"
	"testing"

	"postern/mail"
)

// zipped packs n files with the same content.
func zipped(t *testing.T, n int, name string, content []byte) []byte {
	t.Helper()
	var data, b bytes.Buffer
	packer, err := flate.NewWriter(&data, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	packer.Write(content) // a Buffer takes everything
	packer.Close()
	w := zip.NewWriter(&b)
	for i := range n {
		f, err := w.CreateRaw(&zip.FileHeader{Name: fmt.Sprintf(name, i), Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(content),
			CompressedSize64: uint64(data.Len()), UncompressedSize64: uint64(len(content))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// loose is content that packs well, yet within the ratio.
func loose(n int) []byte {
	b := make([]byte, n)
	seed := uint32(1)
	for i := 0; i+200 < n; i += 200 {
		seed = seed*1664525 + 1013904223
		copy(b[i:], fmt.Sprintf("%08x%08x", seed, seed*7))
	}
	return b
}

// TestMemoryIsBounded unpacks archives that hold almost as much as one message
// may unpack to: what stays in memory while the message waits for its next hop is
// a fraction of that.
func TestMemoryIsBounded(t *testing.T) {
	inner := zipped(t, 1, "f%d", []byte("hello"))
	for _, test := range []struct {
		name    string
		archive []byte
		most    int64
	}{
		{"named archives", zipped(t, 20, "a%d.zip", loose(4<<20-100)), 50 << 20},
		{"real archives", zipped(t, 6, "a%d.zip", append(loose(20<<20), inner...)), 90 << 20},
	} {
		archive := test.archive
		t.Run(test.name, func(t *testing.T) {
			var raw strings.Builder
			raw.WriteString("From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: application/zip; name=x.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n")
			for text := base64.StdEncoding.EncodeToString(archive); text != ""; {
				n := min(len(text), 76)
				raw.WriteString(text[:n] + "\r\n")
				text = text[n:]
			}
			c := &Checker{Unpack: defaultUnpack}
			c.Unpack.Time *= 10 // a race run is slow
			m := mail.ParseBytes([]byte(raw.String()), c.ParseOptions())
			before := heap()
			parts := len(m.Parts())
			if _, err := c.Check(t.Context(), &mail.Transaction{Message: m, Session: &mail.Session{}}, nil); err != nil {
				t.Fatal(err)
			}
			kept := heap() - before
			t.Logf("%d bytes packed, %d parts, %d MB kept", len(archive), parts, kept>>20)
			if kept > test.most {
				t.Errorf("%d MB stay in memory", kept>>20)
			}
			runtime.KeepAlive(m)
		})
	}
}

// heap returns how much is in use.
func heap() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
