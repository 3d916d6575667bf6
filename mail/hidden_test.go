package mail

import (
	"regexp"
	"strings"
	"testing"
)

var payloadID = regexp.MustCompile(`(?m)^X-Payload-Id: (\S+) `)

// hiddenReasons lists the messages of mime-is-broken whose file name no reading
// finds, with the reason.
var hiddenReasons = map[string]string{
	"fname-cdisp.png": "the control: the file is called file.png",
	"fname-ctype.png": "the control: the file is called file.png",
}

// TestHiddenNames looks for the file names that mime-is-broken hides: file.zip,
// written in all the ways that make clients and filters disagree. Two
// are controls whose name is harmless.
func TestHiddenNames(t *testing.T) {
	n, used := 0, map[string]bool{}
	files(t, corpora(t, "mime/mime-is-broken"), func(name string, data []byte) {
		id := payloadID.FindSubmatch(data)
		if id == nil {
			return
		}
		n++
		for _, p := range ParseBytes(data, Options{}).Parts() {
			for _, f := range p.Names() {
				if strings.HasSuffix(strings.ToLower(f), ".zip") {
					return
				}
			}
		}
		differ(t, string(id[1]), hiddenReasons, used, "no reading names a .zip")
	})
	unused(t, hiddenReasons, used)
	t.Logf("%d hidden names looked for", n)
}
