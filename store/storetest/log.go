package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/store"
)

// Log runs the suite over an implementation. open opens the log that belongs
// to the test: an empty one the first time, the same after it was closed.
func Log(t *testing.T, open func(t *testing.T) store.Log) {
	for name, test := range map[string]func(*testing.T, func() store.Log){
		"append and read": logAppend, "sections": logSections, "rewrite": logRewrite, "cut": logCut,
	} {
		t.Run(name, func(t *testing.T) { test(t, func() store.Log { return open(t) }) })
	}
}

// Lines returns all lines of a log, joined by spaces.
func Lines(t *testing.T, l store.Log) string {
	t.Helper()
	ctx := context.Background()
	sections, err := l.Sections(ctx)
	must(t, err)
	var lines []string
	for i, s := range sections {
		next := s.First
		must(t, l.Read(ctx, s.First, func(n uint64, line []byte) error {
			if n != next {
				t.Errorf("section %d: line %d comes as %d", i, next, n)
			}
			next++
			lines = append(lines, string(line))
			return nil
		}))
		if next != s.First+s.Lines {
			t.Errorf("section %+v: %d lines came", s, next-s.First)
		}
	}
	return strings.Join(lines, " ")
}

func logAppend(t *testing.T, open func() store.Log) {
	ctx := context.Background()
	l := open()
	if got := Lines(t, l); got != "" {
		t.Errorf("empty log has %q", got)
	}
	must(t, l.Append(ctx, 1, []byte("a\n")))
	must(t, l.Append(ctx, 2, []byte("b\nc\n")))
	long := strings.Repeat("x", 200000)
	must(t, l.Append(ctx, 4, []byte(long+"\nd\n")))
	for _, bad := range []struct {
		first uint64
		lines string
	}{{5, "x\n"}, {7, "x\n"}, {6, "x"}, {6, ""}} {
		if l.Append(ctx, bad.first, []byte(bad.lines)) == nil {
			t.Errorf("Append(%d, %q) succeeded", bad.first, bad.lines)
		}
	}
	wanted := "a b c " + long + " d"
	if got := Lines(t, l); got != wanted {
		t.Errorf("got %q", got)
	}
	must(t, l.Close())
	must(t, l.Close())
	want(t, l.Append(ctx, 6, []byte("e\n")), store.ErrClosed)
	l = open()
	defer l.Close()
	must(t, l.Append(ctx, 6, []byte("e\n")))
	if got := Lines(t, l); got != wanted+" e" {
		t.Errorf("after opening again: %q", got)
	}
}

func fill(t *testing.T, l store.Log) {
	t.Helper()
	ctx := context.Background()
	for i := range 3 {
		must(t, l.Append(ctx, uint64(3*i+1), fmt.Appendf(nil, "%da\n%db\n%dc\n", i, i, i)))
		must(t, l.Roll(ctx))
		must(t, l.Roll(ctx)) // an empty section is not ended
	}
}

func logSections(t *testing.T, open func() store.Log) {
	l := open()
	fill(t, l)
	for range 2 {
		sections, err := l.Sections(context.Background())
		must(t, err)
		if got := fmt.Sprint(sections); got != "[{1 3 9} {4 3 9} {7 3 9} {10 0 0}]" {
			t.Error(got)
		}
		want(t, l.Read(context.Background(), 2, nil), store.ErrNotFound)
		must(t, l.Close())
		l = open()
	}
	defer l.Close()
	stop := errors.New("stop")
	want(t, l.Read(context.Background(), 1, func(uint64, []byte) error { return stop }), stop)
}

func logRewrite(t *testing.T, open func() store.Log) {
	ctx := context.Background()
	l := open()
	fill(t, l)
	must(t, l.Append(ctx, 10, []byte("z\n")))
	must(t, l.Rewrite(ctx, 4, func(n uint64, line []byte) ([]byte, error) {
		if n == 5 {
			return []byte("erased"), nil
		}
		return nil, nil
	}))
	stop := errors.New("stop")
	want(t, l.Rewrite(ctx, 7, func(n uint64, _ []byte) ([]byte, error) { return []byte("x"), stop }), stop)
	if l.Rewrite(ctx, 7, func(n uint64, _ []byte) ([]byte, error) { return []byte("x\ny"), nil }) == nil {
		t.Error("Rewrite made two lines of one")
	}
	if l.Rewrite(ctx, 10, func(n uint64, _ []byte) ([]byte, error) { return nil, nil }) == nil {
		t.Error("Rewrite of the last section succeeded")
	}
	for range 2 {
		if got := Lines(t, l); got != "0a 0b 0c 1a erased 1c 2a 2b 2c z" {
			t.Error(got)
		}
		must(t, l.Close())
		l = open()
	}
	must(t, l.Close())
}

func logCut(t *testing.T, open func() store.Log) {
	ctx := context.Background()
	l := open()
	fill(t, l)
	want(t, l.Cut(ctx, 5), store.ErrNotFound)
	must(t, l.Cut(ctx, 1))
	must(t, l.Cut(ctx, 7))
	for range 2 {
		if got := Lines(t, l); got != "2a 2b 2c" {
			t.Error(got)
		}
		must(t, l.Close())
		l = open()
	}
	must(t, l.Cut(ctx, 10))
	must(t, l.Append(ctx, 10, []byte("z\n")))
	if got := Lines(t, l); got != "z" {
		t.Error(got)
	}
	must(t, l.Close())
}

// Counters runs the suite over an implementation. open returns an empty one
// that takes the time from now.
func Counters(t *testing.T, open func(t *testing.T, now func() time.Time) store.Counters) {
	ctx, now := context.Background(), Epoch
	c := open(t, func() time.Time { return now })
	check := func(key string, wanted int64) {
		t.Helper()
		got, err := c.Get(ctx, key)
		must(t, err)
		if got != wanted {
			t.Errorf("%s is %d, want %d", key, got, wanted)
		}
	}
	add := func(key string, n, wanted int64) {
		t.Helper()
		got, err := c.Add(ctx, key, n, time.Minute)
		must(t, err)
		if got != wanted {
			t.Errorf("Add(%s, %d) = %d, want %d", key, n, got, wanted)
		}
	}
	check("a", 0)
	add("a", 1, 1)
	now = now.Add(50 * time.Second)
	add("a", 2, 3)
	add("b", 5, 5)
	check("a", 3)
	now = now.Add(10 * time.Second)
	check("a", 0)
	check("b", 5)
	add("a", 7, 7)
	must(t, c.Put(ctx, "b", -3, time.Hour))
	now = now.Add(59 * time.Minute)
	check("b", -3)
	must(t, c.Delete(ctx, "b"))
	must(t, c.Delete(ctx, "b"))
	check("b", 0)
}
