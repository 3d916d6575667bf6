package quarantine

import (
	"strings"
	"testing"
)

// TestGetByTransaction: the id that people are given is the transaction's. Of
// several items of one transaction each is named.
func TestGetByTransaction(t *testing.T) {
	b := newBench(t, Settings{})
	hold := func(tx string, original bool) string {
		it := sample(0)
		it.Transaction, it.Original = tx, original
		id, err := b.Hold(ctx, it, strings.NewReader(message(0)))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	alone := hold("1kx7c0a1bqqqqqqqqq", false)
	whole, part := hold("1kx7c0a2bqqqqqqqqq", false), hold("1kx7c0a2bqqqqqqqqq", true)
	for _, given := range []string{"1kx7c0a1bqqqqqqqqq", "1KX7C0A1BQQQQQQQQQ", "1kx7c0a1", alone} {
		if it, err := b.Get(ctx, given); err != nil || it.ID != alone {
			t.Errorf("Get %s: %v", given, err)
		}
	}
	r, it, err := b.Open(ctx, "1kx7c0a1")
	if err != nil || it.ID != alone {
		t.Fatalf("Open: %v", err)
	}
	r.Close()
	for _, given := range []string{"1kx7c0a2bqqqqqqqqq", "1kx7c0a2"} {
		_, err := b.Get(ctx, given)
		want(t, err, ErrAmbiguous)
		for _, named := range []string{whole + " (held in spam, for bob@example.org ", part + " (original of what rule "} {
			if err == nil || !strings.Contains(err.Error(), named) {
				t.Errorf("no %q in %v", named, err)
			}
		}
		if err != nil && strings.Contains(err.Error(), alone) {
			t.Errorf("another one is named: %v", err)
		}
	}
	for range maxNamed {
		hold("1kx7c0a3bqqqqqqqqq", false)
	}
	_, err = b.Get(ctx, "1kx7c0a")
	want(t, err, ErrAmbiguous)
	if err == nil || strings.Count(err.Error(), " for ") != maxNamed || !strings.HasSuffix(err.Error(), "; and more") {
		t.Errorf("%v", err)
	}
	if err := b.Delete(ctx, alone); err != nil {
		t.Fatal(err)
	}
	if it, err := b.Get(ctx, "1kx7c0a1"); err != nil || it.State != Deleted {
		t.Errorf("deleted: %v", err)
	}
	_, err = b.Get(ctx, "2kx")
	want(t, err, ErrNotFound)
}
