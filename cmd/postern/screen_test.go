package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// TestScreen: what a stranger wrote does not steer a terminal, whichever way it
// comes there.
func TestScreen(t *testing.T) {
	const hostile = "a\x1b[2J\u009b31m\u202eb\x7f\r\nc\td\rx \xff é\U000E0001\n"
	var out bytes.Buffer
	if err := toScreen(&out, iotest.OneByteReader(strings.NewReader(hostile))); err != nil || out.String() != "a?[2J?31m?b?\nc\td?x ? é?\n" {
		t.Errorf("%q, %v", &out, err)
	}
	if err := toScreen(&out, iotest.ErrReader(errors.ErrUnsupported)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	out.Reset()
	code := exitCode(&exitError{exitUsage, fmt.Errorf("one\x1b[2J\n\ttwo\u009b")}, &out)
	if code != exitUsage || out.String() != "postern: one?[2J\n\ttwo?\n" {
		t.Errorf("%d, %q", code, &out)
	}
	out.Reset()
	if code := exitCode(fmt.Errorf("one\x1b"), &out); code != exitFailed || out.String() != "postern: one?\n" {
		t.Errorf("%d, %q", code, &out)
	}
	out.Reset()
	text := strings.ToValidUTF8(hostile, "")
	if err := printJSON(&out, text); err != nil || strings.IndexFunc(strings.TrimSuffix(out.String(), "\n"), steers) >= 0 {
		t.Errorf("%q, %v", &out, err)
	}
	var back string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != text {
		t.Errorf("%q, %v", back, err)
	}
}

func TestIsScreen(t *testing.T) {
	for name, want := range map[string]bool{os.DevNull: true, filepath.Join(t.TempDir(), "file"): false} {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if isScreen(f) != want {
			t.Errorf("%s: not %v", name, want)
		}
		f.Close()
		if isScreen(f) {
			t.Errorf("%s: closed, and still a screen", name)
		}
	}
	if isScreen(&bytes.Buffer{}) {
		t.Error("a buffer is a screen")
	}
}
