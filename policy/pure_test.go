package policy

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPure: only the loader may ask what time it is, and only to warn.
func TestPure(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || file == "load.go" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range []string{"time.Now", "time.Since", "rand.", "os.Getenv", "os.ReadFile"} {
			if bytes.Contains(text, []byte(call)) {
				t.Errorf("%s uses %s", file, call)
			}
		}
	}
}

// TestConcurrent: one policy serves many transactions at once, and says the
// same each time.
func TestConcurrent(t *testing.T) {
	p := load(t, decideRules)
	tx, rs := mailTo("From: a@friend.example", "bob@example.org", "carol@example.org"), ran("KIND_MACRO@2", "KIND_EXE@3", "LISTED_WELL", "DMARC_PASS")
	want := p.Decide(tx, rs)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if diff := cmp.Diff(want, p.Decide(tx, rs), cmp.AllowUnexported(Action{})); diff != "" {
					t.Error(diff)
					return
				}
			}
		})
	}
	wg.Wait()
}
