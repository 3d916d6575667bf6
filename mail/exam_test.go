package mail

import (
	"bytes"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

func TestExamDump(t *testing.T) {
	root := os.Getenv("POSTERN_EXAM")
	if root == "" {
		t.Skip()
	}
	names, _ := filepath.Glob(filepath.Join(root, "inputs", "MIME-*.eml"))
	sort.Strings(names)
	for _, n := range names {
		b, _ := os.ReadFile(n)
		m := ParseBytes(b, Options{})
		found := ""
		var list []string
		for i, p := range m.Parts() {
			if i < 8 {
				s := string(p.ID()) + " " + strings.Join(p.MediaTypes(), "|") + " " + p.Encoding() + " " + strings.Join(p.Names(), "|")
				if p.Reading() {
					s += " R"
				}
				list = append(list, s)
			}
			if p.IsLeaf() {
				c, _ := p.Bytes()
				if bytes.Contains(c, []byte(eicar)) {
					found += " B:" + string(p.ID())
				}
				for _, r := range p.Readings() {
					if bytes.Contains(r, []byte(eicar)) {
						found += " R:" + string(p.ID())
					}
				}
			}
		}
		var fs []string
		for _, f := range m.Findings() {
			fs = append(fs, string(f.Kind))
		}
		if len(fs) > 8 {
			fs = fs[:8]
		}
		t.Logf("%s parts=%d eicar=%q\n   %v\n   %s", filepath.Base(n), len(m.Parts()), found, fs, strings.Join(list, "\n   "))
	}
}
