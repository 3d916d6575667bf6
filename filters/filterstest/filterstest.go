// Package filterstest is the suite that every filter passes: what it declares,
// its settings, and how it behaves with hostile messages, under parallel calls
// and when its time is over. A filter's test calls Run and, for its README,
// Readme.
//
// # Diagnostics
//
// Failures are reported through testing.T; nothing else is.
package filterstest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"postern/filters"
	"postern/mail"
)

// At is the time of every transaction made here.
var At = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// Options say how to try a filter.
type Options struct {
	Settings string              // the filter's table, without its header; empty: the defaults
	Env      *filters.Env        // nil: an Env without resolver
	Needs    filters.Results     // verdicts of the filters that it requires
	Bad      map[string]string   // tables that must be refused, with the key to blame
	More     []*mail.Transaction // besides the hostile ones
	Parse    mail.Options        // for the hostile messages
}

// alike says when two verdicts are the same.
var alike = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})}

// Run tries everything that holds for all filters.
func Run(t *testing.T, f *filters.Filter, o Options) {
	t.Run("declaration", func(t *testing.T) { checkDeclaration(t, f) })
	t.Run("settings", func(t *testing.T) { checkSettings(t, f, o) })
	if f.NoScan {
		return
	}
	transactions := append(hostile(o.Parse), o.More...)
	t.Run("hostile", func(t *testing.T) {
		c := New(t, f, o)
		for i, tx := range transactions {
			before := snapshot(t, tx)
			first, err := try(t.Context(), c, tx, o.Needs)
			if err != nil {
				t.Errorf("transaction %d: %v", i, err)
			}
			checkVerdict(t, f, first)
			again, _ := try(t.Context(), c, tx, o.Needs)
			if diff := cmp.Diff(first, again, alike...); diff != "" {
				t.Errorf("transaction %d: not the same verdict again: %s", i, diff)
			}
			if diff := cmp.Diff(before, snapshot(t, tx)); diff != "" {
				t.Errorf("transaction %d was changed: %s", i, diff)
			}
		}
	})
	t.Run("parallel", func(t *testing.T) { checkParallel(t, New(t, f, o), transactions, o.Needs) })
	t.Run("cancelled", func(t *testing.T) { checkCancelled(t, New(t, f, o), transactions, o.Needs) })
}

// New returns the filter with its settings, validated and opened.
func New(t testing.TB, f *filters.Filter, o Options) filters.Checker {
	t.Helper()
	c := f.New()
	if err := Decode(o.Settings, c); err != nil {
		t.Fatalf("decode settings: %v", err)
	}
	if v, ok := c.(filters.Validator); ok {
		if err := v.Validate(); err != nil {
			t.Fatalf("validate settings: %v", err)
		}
	}
	if opener, ok := c.(filters.Opener); ok {
		if err := opener.Open(t.Context(), env(o.Env)); err != nil {
			t.Fatalf("open: %v", err)
		}
	}
	return c
}

func env(e *filters.Env) *filters.Env {
	if e != nil {
		return e
	}
	return &filters.Env{
		Now: func() time.Time { return At }, Log: slog.New(slog.DiscardHandler),
		Hostname: "mx.example.org", Domains: []string{"example.org"}, Language: "en",
	}
}

// Decode decodes a TOML table over v, which holds the defaults. A key that v
// does not have is an error.
func Decode(table string, v any) error {
	meta, err := toml.Decode(table, v)
	if err != nil {
		return err
	}
	if keys := meta.Undecoded(); len(keys) > 0 {
		return fmt.Errorf("unknown key %s", keys[0])
	}
	return nil
}

// Check runs a filter on one message, given as text with LF line ends, and
// returns its verdict.
func Check(t testing.TB, c filters.Checker, tx *mail.Transaction, needs ...filters.Result) filters.Verdict {
	t.Helper()
	v, err := try(t.Context(), c, tx, needs)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return v
}

// Names returns the names of the verdict's symbols.
func Names(v filters.Verdict) []string {
	names := make([]string, len(v.Symbols))
	for i, s := range v.Symbols {
		names[i] = s.Name
	}
	return names
}

// try runs a filter and turns a panic into an error.
func try(ctx context.Context, c filters.Checker, tx *mail.Transaction, needs filters.Results) (v filters.Verdict, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return c.Check(ctx, tx, needs)
}

// checkVerdict checks that only declared symbols come, with one line of clean
// evidence each.
func checkVerdict(t *testing.T, f *filters.Filter, v filters.Verdict) {
	t.Helper()
	declared := map[string]bool{}
	for _, s := range f.Symbols {
		declared[s.Name] = true
	}
	for _, s := range v.Symbols {
		if !declared[s.Name] {
			t.Errorf("symbol %s is not declared", s.Name)
		}
		for _, text := range []string{s.Evidence, s.Label} {
			if filters.Clean(text, len(text)) != text {
				t.Errorf("%s: %q is not fit for a line of evidence", s.Name, text)
			}
		}
	}
}

// checkParallel runs the filter on all transactions at the same time, several
// times each, and compares with what it says to one alone.
func checkParallel(t *testing.T, c filters.Checker, transactions []*mail.Transaction, needs filters.Results) {
	const times = 4
	want := make([]filters.Verdict, len(transactions))
	for i, tx := range transactions {
		want[i], _ = try(t.Context(), c, tx, needs)
	}
	got := make([]filters.Verdict, len(transactions)*times)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i], _ = try(t.Context(), c, transactions[i%len(transactions)], needs) })
	}
	wg.Wait()
	for i := range got {
		if diff := cmp.Diff(want[i%len(transactions)], got[i], alike...); diff != "" {
			t.Errorf("transaction %d: another verdict in parallel: %s", i%len(transactions), diff)
		}
	}
}

// checkCancelled checks that a filter whose time is over returns.
func checkCancelled(t *testing.T, c filters.Checker, transactions []*mail.Transaction, needs filters.Results) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, tx := range transactions {
			if _, err := try(ctx, c, tx, needs); err != nil && strings.HasPrefix(err.Error(), "panic: ") {
				t.Error(err)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("the filter does not return when its context is cancelled")
	}
}

// snapshot copies what a filter may not change.
func snapshot(t *testing.T, tx *mail.Transaction) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{
		"id": tx.ID, "session": tx.Session, "from": tx.ReversePath, "to": tx.Recipients, "at": tx.At, "size": tx.Message.Size(),
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := tx.Message.Bytes()
	return string(b) + "\n" + string(raw)
}

// checkSettings checks that the settings decode over their defaults, that
// unknown keys and wrong values are refused, and that each key is documented.
func checkSettings(t *testing.T, f *filters.Filter, o Options) {
	if v := reflect.ValueOf(f.New()); v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		t.Fatalf("New returns a %T, not a pointer to a struct that settings can be decoded over", f.New())
	}
	if v, ok := f.New().(filters.Validator); ok {
		if err := v.Validate(); err != nil {
			t.Errorf("the default settings are wrong: %v", err)
		}
	}
	if f.New() == f.New() && reflect.TypeOf(f.New()).Elem().Size() > 0 {
		t.Error("New returns the same Checker twice")
	}
	if err := Decode("no_such_key = 1", f.New()); err == nil {
		t.Error("an unknown key is accepted")
	}
	for table, key := range o.Bad {
		c := f.New()
		err := Decode(table, c)
		if v, ok := c.(filters.Validator); ok && err == nil {
			err = v.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v, want an error that blames %s", table, err, key)
		}
	}
	keys := map[string]bool{}
	for _, s := range filters.Settings(f.New()) {
		keys[s.Key] = true
		if s.Doc == "" {
			t.Errorf("setting %s has no doc tag", s.Key)
		}
	}
	for _, reserved := range []string{"enabled", "timeout", "on_failure"} {
		if keys[reserved] {
			t.Errorf("setting %s is one that every filter has", reserved)
		}
	}
}
