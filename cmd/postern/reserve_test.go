package main

import (
	"math"
	"path/filepath"
	"testing"
)

func TestReserve(t *testing.T) {
	dir := t.TempDir()
	if got := reserve(dir, 1); got != 1 {
		t.Errorf("reserve of 1 byte = %d", got)
	}
	if got := reserve(dir, math.MaxInt64); got <= 0 || got == math.MaxInt64 {
		t.Errorf("reserve is not limited by the disk: %d", got)
	}
	if got := reserve(filepath.Join(dir, "missing"), 5); got != 5 {
		t.Errorf("reserve of a folder that is not there = %d, want 5", got)
	}
}
