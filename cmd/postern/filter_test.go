package main

import (
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFilterNew begins a filter in a copy of the tree: it passes its own tests,
// and the two lines that are asked for build.
func TestFilterNew(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles packages")
	}
	tree := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "filters", "crypto", "mail", "dns"} {
		copyTree(t, filepath.Join("../..", name), filepath.Join(tree, name))
	}
	var said strings.Builder
	if code := run([]string{"filter", "new", "giftcard", "--dir", tree}, strings.NewReader(""), io.Discard, &said); code != 0 {
		t.Fatalf("exit code %d: %s", code, &said)
	}
	list := filepath.Join(tree, "filters/standard/standard.go")
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"\t\"postern/filters/giftcard\"\n", "\tgiftcard.Filter,\n"} {
		if !strings.Contains(said.String(), line) {
			t.Errorf("it does not say to add %q", line)
		}
	}
	added := strings.Replace(string(text), "import (\n", "import (\n\t\"postern/filters/giftcard\"\n", 1)
	added = strings.Replace(added, "Filters = []*filters.Filter{\n", "Filters = []*filters.Filter{\n\tgiftcard.Filter,\n", 1)
	if err := os.WriteFile(list, []byte(added), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"test", "./filters/giftcard"}, {"build", "./filters/standard"}} {
		c := exec.Command("go", append([]string{args[0], "-trimpath"}, args[1:]...)...)
		c.Dir, c.Env = tree, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// copyTree copies Go sources and what they embed; test files of others are not
// needed.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && d.Name() == "testdata":
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case strings.HasSuffix(path, "_test.go"):
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}
