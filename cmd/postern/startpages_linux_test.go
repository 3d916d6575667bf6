package main

import (
	"os"
	"strings"
	"testing"
)

// TestDropStartPages: the program goes on, with fewer of its own pages in memory.
func TestDropStartPages(t *testing.T) {
	code := func() (kb int) {
		smaps, err := os.ReadFile("/proc/self/smaps")
		if err != nil {
			t.Skip(err)
		}
		program, err := os.Readlink("/proc/self/exe")
		if err != nil {
			t.Skip(err)
		}
		own := false
		for line := range strings.Lines(string(smaps)) {
			f := strings.Fields(line)
			switch {
			case strings.Contains(f[0], "-"):
				own = f[len(f)-1] == program
			case own && f[0] == "Rss:":
				n := 0
				for _, c := range f[1] {
					n = 10*n + int(c-'0')
				}
				kb += n
			}
		}
		return kb
	}
	before := code()
	dropStartPages()
	if after := code(); after >= before {
		t.Errorf("%d KB of the program in memory before, %d after", before, after)
	}
}
