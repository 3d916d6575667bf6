package mail

import (
	"bytes"
	"io"
	"testing"
)

// FuzzStream compares what a part decodes to as a stream out of a file with what
// it decodes to in memory, in lines and without: the virus engines see the one,
// other filters the other.
func FuzzStream(f *testing.F) {
	for _, text := range []string{"=3D=\r\n abc =4 \t=\r\nxx", "=41", "=41=41 ", "= = ", "= =4 =41", " ", "=", "=4 ", "x=20 =\t", "=0000000000000 "} {
		f.Add([]byte(text), false)
	}
	for _, text := range []string{"AAAA=BBB-=_", "QUJD\r\n", "QQ==", "Q-_Q"} {
		f.Add([]byte(text), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, b64 bool) {
		encoding := "quoted-printable"
		if b64 {
			encoding = "base64"
		}
		raw := []byte("From: a@b.example\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n")
		raw = append(raw, bytes.Repeat(text, 1+70_000/(len(text)+1))...)
		streamed, err := io.ReadAll(Parse(bytes.NewReader(raw), int64(len(raw)), Options{}).Root().Open())
		if err != nil {
			t.Fatal(err)
		}
		whole, err := ParseBytes(raw, Options{}).Root().Bytes()
		if err != nil || !bytes.Equal(streamed, whole) {
			t.Fatalf("%s: %d bytes as a stream, %d in memory, %v", encoding, len(streamed), len(whole), err)
		}
	})
}
