package mail

import (
	"strings"
	"testing"
)

// TestTextNeverDelimits checks that text which is encoded anew never becomes a
// delimiter: what was text for every filter must not be a part afterwards.
func TestTextNeverDelimits(t *testing.T) {
	const evil = "--B\r\nContent-Type: application/x-msdownload; name=a.exe\r\nContent-Transfer-Encoding: base64\r\n\r\nTVqQAAMAAAAEAAAA\r\n"
	wrap := func(header, body string) string {
		return "From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\n" + header + "\r\n" + body + "\r\n--B--\r\n"
	}
	plain, page := "Content-Type: text/plain\r\n", "Content-Type: text/html\r\n"
	qp := "Content-Transfer-Encoding: quoted-printable\r\n"
	escaped := strings.Replace(strings.ReplaceAll(evil, "=", "=3D"), "--B", "=2D-B", 1)
	for name, raw := range map[string]string{
		"quoted-printable":      wrap(plain+qp, "Hello\r\n"+escaped),
		"quoted-printable html": wrap(page+qp, "<p>Hello\r\n"+escaped),
		"long line":             wrap(plain, strings.Repeat("x", 75*14)+evil),
		"after the body tag":    wrap(page, "<html><body>"+evil+"</body></html>"),
		"closing":               wrap(plain+qp, "Hello\r\n=2D-B--\r\n"),
		"padded":                wrap(plain+qp, "Hello\r\n =2D-B\r\nContent-Type: text/html\r\n\r\nx\r\n"),
	} {
		for _, where := range []string{"top", "bottom"} {
			m := ParseBytes([]byte(raw), Options{})
			e := m.Edit()
			if where == "top" {
				e.PrefixText("Notice\n\n", "<p>Notice</p>\n")
			} else {
				e.AppendText("\nNotice\n", "<p>Notice</p>\n")
			}
			after, err := e.Message()
			if err != nil {
				t.Errorf("%s, %s: %v", name, where, err)
				continue
			}
			var was, is []string
			for _, p := range m.Parts() {
				was = append(was, p.MediaType())
			}
			for _, p := range after.Parts() {
				is = append(is, p.MediaType())
			}
			if strings.Join(was, " ") != strings.Join(is, " ") {
				b := &strings.Builder{}
				for _, s := range func() [][]byte { s, _ := after.Slices(); return s }() {
					b.Write(s)
				}
				t.Errorf("%s, %s: parts %v became %v:\n%s", name, where, was, is, b)
			}
			if len(m.Findings()) < len(after.Findings()) {
				t.Errorf("%s, %s: findings %v became %v", name, where, m.Findings(), after.Findings())
			}
		}
	}
}
