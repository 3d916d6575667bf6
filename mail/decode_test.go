package mail

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// entity makes a message of one part.
func entity(encoding, body string) *Message {
	return ParseBytes([]byte("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: "+encoding+"\r\n\r\n"+body), Options{})
}

func TestDecode(t *testing.T) {
	tests := []struct {
		encoding, body, want string
		readings             []string
	}{
		{"7bit", "a=\r\n", "a=\r\n", nil},
		{"base64", "aGVsbG8=", "hello", nil},
		{"base64", "aGVs\r\nbG8=\r\n", "hello", nil},
		{"base64", "aGVsbG8", "hello", nil},                             // no padding
		{"base64", "aG.Vs*bG8", "hello", nil},                           // stray bytes
		{"base64", "a\r\nGV\r\nsbG\r\n8=", "hello", nil},                // groups over lines
		{"base64", "aGVsbG8=aGVsbG8=", "hellohello", []string{"hello"}}, // and one that skips the padding
		{"base64", "QQ==\r\naGVsbG8=", "Ahello", []string{"A"}},
		{"base64", "-_-_", "", []string{"\xfb\xff\xbf"}},
		{"base64", "", "", nil},
		{"base64", "=", "", nil},
		{"base64", "Q", "", nil},
		{"quoted-printable", "a=3Db=3db", "a=b=b", nil},
		{"quoted-printable", "soft=\r\nbreak", "softbreak", nil},
		{"quoted-printable", "soft= \t\r\nbreak", "softbreak", nil},
		{"quoted-printable", "soft=\nbreak\n", "softbreak\n", nil},
		{"quoted-printable", "blanks  \t\r\nat end  ", "blanks\r\nat end", nil},
		{"quoted-printable", "bad =ZZ escape =", "bad =ZZ escape ", []string{"bad ZZ escape "}},
		{"quoted-printable", "=4", "=4", []string{"4"}},
		{"x-uuencode", "begin 644 a\r\n#86)C\r\n`\r\nend\r\n", "abc", nil},
		{"x-uuencode", "no file", "no file", nil},
		{"x-yenc", "=ybegin line=128 size=3 name=a\r\n\x8b\x8c\x8d\r\n=yend size=3\r\n", "abc", nil},
	}
	for _, tt := range tests {
		p := entity(tt.encoding, tt.body).Root()
		got, err := p.Bytes()
		if err != nil || string(got) != tt.want {
			t.Errorf("%s %q = %q, %v; want %q", tt.encoding, tt.body, got, err, tt.want)
		}
		streamed, err := io.ReadAll(iotest.OneByteReader(entity(tt.encoding, tt.body).Root().Open()))
		if err != nil || string(streamed) != tt.want {
			t.Errorf("%s %q streamed = %q, %v; want %q", tt.encoding, tt.body, streamed, err, tt.want)
		}
		for _, want := range tt.readings {
			found := false
			for _, r := range p.Readings() {
				found = found || string(r) == want
			}
			if !found {
				t.Errorf("%s %q: readings %q, want %q", tt.encoding, tt.body, p.Readings(), want)
			}
		}
		if tt.readings == nil && len(p.Readings()) > 0 {
			t.Errorf("%s %q: readings %q, want none", tt.encoding, tt.body, p.Readings())
		}
	}
}

// TestDecodeStream cuts input at every place: the result must not change.
func TestDecodeStream(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("stream!"), 9)) + "\r\n=QQ==.x"
	qp := "a=3D b= \r\nc  \r\n=\nd=ZZ e=4 =\t\r\n f=E9\t"
	for cut := range b64 {
		d := b64Decoder{}
		got := d.flush(d.decode(d.decode(nil, []byte(b64[:cut])), []byte(b64[cut:])))
		if want := decodeBase64([]byte(b64), b64Resume); !bytes.Equal(got, want) {
			t.Fatalf("base64 cut at %d: %q, want %q", cut, got, want)
		}
	}
	for cut := range qp {
		d := qpDecoder{}
		got := d.decode(d.decode(nil, []byte(qp[:cut]), false), []byte(qp[cut:]), true)
		if want := decodeAs(encQuoted, []byte(qp)); !bytes.Equal(got, want) {
			t.Fatalf("quoted-printable cut at %d: %q, want %q", cut, got, want)
		}
	}
}

// TestLookAgreesWithDecode compares what is seen with and without decoding.
func TestLookAgreesWithDecode(t *testing.T) {
	for _, s := range []string{"", "QUJD", "QUJDRA==", "QUJ.DRA==", "QQ==QQ==", strings.Repeat("QUJD", 20) + "\r\n" + strings.Repeat("QUJ_", 9), "====", "QUJDQUJDQUJD=QUJDQUJD!"} {
		var a, b b64Decoder
		a.look([]byte(s))
		b.flush(b.decode(nil, []byte(s)))
		if a.junk != b.junk || a.url != b.url || a.padded != b.padded || a.after != b.after {
			t.Errorf("%q: look %+v, decode %+v", s, a, b)
		}
	}
}

func TestEmbedded(t *testing.T) {
	uu := "begin 644 a b.txt\r\n#86)C\r\n`\r\nend\r\n"
	posix := "begin-base64 644 p.txt\r\naGVsbG8=\r\n====\r\n"
	yenc := "=ybegin line=128 size=3 name=y.bin\r\n\x8b\x8c\x8d\r\n=yend size=3 crc32=352441c2\r\n"
	tests := []struct {
		text  string
		names []string
		datas []string
		ok    bool
	}{
		{"see\r\n" + uu + "bye", []string{"a b.txt"}, []string{"abc"}, true},
		{uu + posix + yenc, []string{"a b.txt", "p.txt", "y.bin"}, []string{"abc", "hello", "abc"}, true},
		{"begin 644 cut.bin\r\n#86)C\r\n", []string{"cut.bin"}, []string{"abc"}, false},
		{"=ybegin line=128 size=9 name=y.bin\r\n\x8b=\x00\r\n=yend size=9\r\n", []string{"y.bin"}, []string{"a\x96"}, false},
		{"=ybegin part=1 line=128 size=3 name=y\r\n=ypart begin=1 end=3\r\n\x8b\x8c\x8d\r\n=yend size=3 pcrc32=352441c2\r\n", []string{"y"}, []string{"abc"}, true},
		{"begin 2024 with plans\r\nand so on\r\n", nil, nil, false},
		{"begin the day\r\n", nil, nil, false},
	}
	for _, tt := range tests {
		found := findEmbedded([]byte(tt.text), 10)
		if len(found) != len(tt.names) {
			t.Errorf("%q: %d files, want %d", tt.text, len(found), len(tt.names))
			continue
		}
		for i, e := range found {
			if e.name != tt.names[i] || string(e.data) != tt.datas[i] || e.ok != tt.ok {
				t.Errorf("%q: %+v, want %s %q %v", tt.text, e, tt.names[i], tt.datas[i], tt.ok)
			}
		}
	}
}

func TestDecodeCharset(t *testing.T) {
	tests := []struct {
		charset, in, want string
		known             bool
	}{
		{"", "é", "é", true},
		{"us-ascii", "caf\xe9", "café", true},
		{"utf-8", "a\xffb ünd nöch", "a\ufffdb ünd nöch", true},
		{"utf-8", "caf\xe9", "café", true},
		{`"ISO-8859-1"`, "caf\xe9", "café", true},
		{"windows-1252", "\x80", "€", true},
		{"cp1252", "\x80", "€", true},
		{"iso-8859-15", "\xa4", "€", true},
		{"koi8-r", "\xf0", "П", true},
		{"gb2312", "\xc4\xe3", "你", true},
		{"big5", "\xa7\x41", "你", true},
		{"euc-kr", "\xb3\xca", "너", true},
		{"iso-2022-jp", "\x1b$B$\"\x1b(B", "あ", true},
		{"shift_jis", "\x82\xa0", "あ", true},
		{"utf-16", "\xfe\xff\x00a", "a", true},
		{"utf-16", "\xff\xfea\x00", "a", true},
		{"utf-16", "f\x00i\x00", "fi", true},
		{"utf-16be", "\x00f\x00i", "fi", true},
		{"utf-32", "\x00\x00\x00f", "f", true},
		{"utf-7", "+ADw-b+AD4- 1 +- 1 +2D3eAA-", "<b> 1 + 1 😀", true},
		{"utf-7", "caf\xe9 + x", "café + x", true},
		{"nonesuch", "abc", "abc", false},
		{"replacement", "abc", "abc", false},
	}
	for _, tt := range tests {
		got, known := decodeCharset([]byte(tt.in), tt.charset)
		if got != tt.want || known != tt.known {
			t.Errorf("%s %q = %q %v, want %q %v", tt.charset, tt.in, got, known, tt.want, tt.known)
		}
	}
}
