package mail

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLookWhileScanning compares the findings of messages in files, whose base64
// is looked at as it passes by, with those of the same messages in memory.
func TestLookWhileScanning(t *testing.T) {
	line := strings.Repeat("QUJD", 19) + "\r\n"
	bodies := map[string]string{
		"clean":           strings.Repeat(line, 3000) + "QQ==\r\n",
		"empty":           "",
		"no line end":     strings.Repeat(line, 10) + "QUJD",
		"stray bytes":     strings.Repeat(line, 2000) + "QU*JD\r\n" + strings.Repeat(line, 10),
		"base64url":       line + "QU-_\r\n",
		"after padding":   strings.Repeat(line, 2000) + "QQ==\r\nQUJD\r\n",
		"padding in line": "QQ==QUJD\r\n",
		"endless line":    strings.Repeat("QUJD", 100_000) + "*\r\n" + line,
		"bare LF":         strings.ReplaceAll(strings.Repeat(line, 100), "\r\n", "\n"),
		"hyphens":         line + "--\r\n" + line + "--other\r\n" + line,
		"over a window":   strings.Repeat(line, 900) + "=\r\n" + strings.Repeat(line, 900),
	}
	for name, body := range bodies {
		head := "MIME-Version: 1.0\r\nContent-Type: "
		part := "application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body
		for _, text := range []string{
			head + part,
			head + "multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: " + part + "\r\n--b\r\nContent-Type: " + part + "\r\n--b--\r\n",
			head + "multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: " + part,
		} {
			inMemory, inFile := ParseBytes([]byte(text), Options{}), Parse(bytes.NewReader([]byte(text)), int64(len(text)), Options{})
			if diff := cmp.Diff(inMemory.Findings(), inFile.Findings()); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			looked := 0
			for _, p := range inFile.Parts() {
				if p.looked != nil {
					looked++
				}
			}
			if want := name != "endless line"; (looked > 0) != want {
				t.Errorf("%s: %d parts were looked at", name, looked)
			}
		}
	}
}
