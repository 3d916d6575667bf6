package audit

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wrecked is a log of 30 records whose head names the tenth, as after a power
// failure that came before the newer heads were on disk; spoil changes the text
// of its last section, whose first line is the checkpoint.
func wrecked(t *testing.T, spoil func(text []byte, lines [][]byte) []byte) *place {
	p := newPlace(t)
	l := p.open(t)
	fillLog(t, l, 0, 10)
	if err := l.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	head, err := os.ReadFile(filepath.Join(p.root, "head"))
	if err != nil {
		t.Fatal(err)
	}
	fillLog(t, l, 10, 30)
	l.Close()
	f := p.files(t)[0]
	text, err := os.ReadFile(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(p.root, "head"), head, 0o600), os.WriteFile(f, spoil(text, bytes.SplitAfter(bytes.Clone(text), []byte{'\n'})), 0o600)); err != nil {
		t.Fatal(err)
	}
	return p
}

// zeros overwrites from the middle of line i for n bytes.
func zeros(lines [][]byte, i, n int) []byte {
	text := bytes.Join(lines, nil)
	at := len(bytes.Join(lines[:i], nil)) + len(lines[i])/2
	copy(text[at:], make([]byte, n))
	return text
}

// TestRepair: what a power failure has left of writes that were not durable is set
// aside; the log says so, opens and verifies. What was durable is missed.
func TestRepair(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(text []byte, lines [][]byte) []byte
		kept  uint64 // records before the repair, checkpoints among them
		bad   string // what Verify says; empty: nothing
	}{
		"zeros at the end":        {func(text []byte, _ [][]byte) []byte { return append(text, make([]byte, 200_000)...) }, 31, ""},
		"half a line":             {func(text []byte, lines [][]byte) []byte { return text[:len(text)-40] }, 30, ""},
		"half a line, then zeros": {func(text []byte, lines [][]byte) []byte { return zeros(lines, 29, 1<<20) }, 29, ""},
		"zeros between lines":     {func(text []byte, lines [][]byte) []byte { return zeros(lines, 20, 1000) }, 20, ""},
		"zeros for whole lines":   {func(text []byte, lines [][]byte) []byte { return zeros(lines, 20, 4096) }, 20, ""},
		"zeros in what was durable": {func(text []byte, lines [][]byte) []byte { return zeros(lines, 5, 100) }, 5,
			"records 6 to 11 are missing at the end; "},
	} {
		t.Run(name, func(t *testing.T) {
			p := wrecked(t, c.spoil)
			said := &bytes.Buffer{}
			p.report = slog.New(slog.NewTextHandler(said, nil))
			l := p.open(t)
			fillLog(t, l, 30, 35)
			_, err := l.Verify(ctx)
			if c.bad == "" && err != nil || c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad)) {
				t.Errorf("Verify = %v", err)
			}
			rs, err := l.List(ctx, Query{Events: []Event{Repair, Damage}})
			if err != nil || len(rs) != 1 || rs[0].Seq != c.kept+2 || !strings.Contains(rs[0].Detail, "set aside in 00000000000000000001.torn") {
				t.Errorf("records %+v, %v", rs, err)
			}
			l.Close()
			if !strings.Contains(said.String(), "set aside") {
				t.Errorf("the log says %q", said)
			}
			if info, err := os.Stat(filepath.Join(p.logDir(), "00000000000000000001.torn")); err != nil || info.Size() < 30 {
				t.Errorf("what was cut off is gone: %v", err)
			}
			again := p.open(t)
			if rs, err := again.List(ctx, Query{Events: []Event{Repair, Damage}}); err != nil || len(rs) != 1 {
				t.Errorf("opened again: %+v, %v", rs, err)
			}
		})
	}
}

// TestTamperingNamedAtOpen: a record in the middle that somebody has changed is
// no power failure: it is named at the start, and Verify stops there.
func TestTamperingNamedAtOpen(t *testing.T) {
	p := wrecked(t, func(text []byte, lines [][]byte) []byte {
		lines[20] = bytes.Replace(lines[20], []byte(`"relay"`), []byte(`"reject"`), 1)
		return bytes.Join(lines, nil)
	})
	said := &bytes.Buffer{}
	p.report = slog.New(slog.NewTextHandler(said, nil))
	l := p.open(t)
	l.checking.Wait()
	if !strings.Contains(said.String(), "record=21 ") {
		t.Errorf("the log says %q", said)
	}
	fillLog(t, l, 30, 35)
	var bad *BadRecord
	if _, err := l.Verify(ctx); !errors.As(err, &bad) || bad.Seq != 21 {
		t.Errorf("Verify = %v", err)
	}
}
