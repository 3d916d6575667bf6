package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"postern/store"
)

// Contacts runs the suite over an implementation. open returns an empty one.
func Contacts(t *testing.T, open func(t *testing.T) store.Contacts) {
	t.Run("meet and forget", func(t *testing.T) { contactsMeet(t, open(t)) })
	t.Run("expire", func(t *testing.T) { contactsExpire(t, open(t)) })
	t.Run("bound", func(t *testing.T) { contactsBound(t, open(t)) })
}

func contact(a, b string, at time.Time) store.Contact {
	return store.Contact{Author: a, Recipient: b, Time: at}
}

// met reports whether a has written to b.
func met(t *testing.T, s store.Contacts, a, b string, now time.Time) bool {
	t.Helper()
	ok, err := s.Met(context.Background(), store.Contact{Author: a, Recipient: b, Time: now})
	must(t, err)
	return ok
}

func contactsMeet(t *testing.T, s store.Contacts) {
	ctx, now, later := context.Background(), Epoch, Epoch.Add(time.Hour)
	if met(t, s, "a@x.example", "b@y.example", now) {
		t.Error("an empty one knows somebody")
	}
	must(t, s.Meet(ctx, []store.Contact{contact("a@x.example", "b@y.example", later), contact("a@x.example", "c@y.example", later), contact("b@y.example", "d@y.example", later), contact("e@x.example", "d@y.example", later)}))
	for pair, want := range map[[2]string]bool{
		{"a@x.example", "b@y.example"}: true, {"A@X.example", "B@y.EXAMPLE"}: true, {"a@x.example", "c@y.example"}: true, {"b@y.example", "a@x.example"}: false,
		{"a@x.example", "d@y.example"}: false, {"b@y.example", "d@y.example"}: true, {"", ""}: false,
	} {
		if met(t, s, pair[0], pair[1], now) != want {
			t.Errorf("%q: %v", pair, !want)
		}
	}
	for address, want := range map[string]int{"nobody@x.example": 0, "B@Y.example": 2} {
		if n, err := s.Unmeet(ctx, address); err != nil || n != want {
			t.Errorf("forgetting %s: %d, %v", address, n, err)
		}
	}
	for pair, want := range map[[2]string]bool{{"a@x.example", "b@y.example"}: false, {"b@y.example", "d@y.example"}: false, {"a@x.example", "c@y.example"}: true, {"e@x.example", "d@y.example"}: true} {
		if met(t, s, pair[0], pair[1], now) != want {
			t.Errorf("after forgetting %q: %v", pair, !want)
		}
	}
}

func contactsExpire(t *testing.T, s store.Contacts) {
	ctx := context.Background()
	var all []store.Contact
	for i := range 10 {
		all = append(all, store.Contact{Author: "a@x.example", Recipient: fmt.Sprint(i), Time: Epoch.Add(time.Duration(i) * time.Minute)})
	}
	must(t, s.Meet(ctx, all))
	must(t, s.Meet(ctx, []store.Contact{contact("a@x.example", "1", Epoch.Add(time.Hour)), contact("a@x.example", "9", Epoch)})) // a time is only put off
	now := Epoch.Add(5 * time.Minute)
	for range 2 {
		for i := range 10 {
			if got := met(t, s, "a@x.example", fmt.Sprint(i), now); got != (i > 5 || i == 1) {
				t.Errorf("%d: %v", i, got)
			}
		}
		must(t, s.Part(ctx, now, 5))
	}
	if n, err := s.Unmeet(ctx, "a@x.example"); err != nil || n != 5 {
		t.Errorf("%d are left, %v", n, err)
	}
}

// contactsBound: of too many those go that would be the first to go.
func contactsBound(t *testing.T, s store.Contacts) {
	ctx := context.Background()
	const all, most = 12_000, 500
	var many []store.Contact
	for i := range all {
		many = append(many, store.Contact{Author: "a@x.example", Recipient: fmt.Sprint(i), Time: Epoch.Add(time.Duration((i*7919)%all) * time.Second)})
	}
	must(t, s.Meet(ctx, many))
	must(t, s.Part(ctx, time.Time{}, all))
	if !met(t, s, "a@x.example", "0", Epoch.Add(-time.Second)) {
		t.Error("something is gone, although there is room and no time is over")
	}
	must(t, s.Part(ctx, time.Time{}, most))
	for _, c := range many {
		if want := c.Time.Sub(Epoch) >= (all-most)*time.Second; met(t, s, c.Author, c.Recipient, Epoch.Add(-time.Second)) != want {
			t.Fatalf("%s: %v", c.Time, !want)
		}
	}
	if n, err := s.Unmeet(ctx, "a@x.example"); err != nil || n != most {
		t.Errorf("%d are left, %v", n, err)
	}
}
