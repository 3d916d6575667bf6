package mail

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// corpora returns the folder of the message corpora, or skips.
func corpora(t testing.TB, sub string) string {
	root := os.Getenv("POSTERN_CORPORA")
	if root == "" {
		t.Skip("POSTERN_CORPORA is not set")
	}
	return filepath.Join(root, sub)
}

// files calls f with every file below root.
func files(t *testing.T, root string, f func(name string, data []byte)) {
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f(name, data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// use calls everything that derives from a message.
func use(m *Message) {
	for _, p := range m.Parts() {
		_, _ = p.Bytes()
		_, _ = io.Copy(io.Discard, p.Open())
		_, _, _ = p.Names(), p.Readings(), p.PlainText()
		_, _, _ = p.Encrypted(), p.Params(), p.Hash()
		if m.Part(p.ID()) != p {
			panic("Part(" + string(p.ID()) + ") is another part")
		}
	}
	_, _, _, _ = m.Findings(), m.Text(), m.Links(), m.Attachments()
	_, _, _, _ = m.Authors(), m.Subject(), m.MessageID(), m.Hops()
}

// TestCorpusParses reads every file of the MIME corpora, whatever it is.
func TestCorpusParses(t *testing.T) {
	n := 0
	files(t, corpora(t, "mime"), func(name string, data []byte) {
		n++
		defer func() {
			if r := recover(); r != nil {
				t.Errorf("%s: %v", name, r)
				panic(r)
			}
		}()
		m := ParseBytes(data, Options{})
		use(m)
		f := Parse(bytes.NewReader(data), int64(len(data)), Options{})
		use(f)
		sameTree(t, name, m, f)
	})
	t.Logf("%d messages read", n)
}

// sameTree compares what is read from memory and from a file.
func sameTree(t *testing.T, name string, a, b *Message) {
	pa, pb := a.Parts(), b.Parts()
	if len(pa) != len(pb) {
		t.Errorf("%s: %d parts in memory, %d from a file", name, len(pa), len(pb))
		return
	}
	for i := range pa {
		if pa[i].Hash() != pb[i].Hash() || pa[i].ID() != pb[i].ID() || pa[i].start != pb[i].start {
			t.Errorf("%s: part %s differs between memory and file", name, pa[i].ID())
		}
	}
	fa, fb := a.Findings(), b.Findings()
	if len(fa) != len(fb) {
		t.Errorf("%s: findings differ: %v | %v", name, fa, fb)
	}
}
