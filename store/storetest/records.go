package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/store"
)

// Epoch is the time at which the suites begin.
var Epoch = time.Date(2026, 11, 21, 9, 41, 7, 512000000, time.UTC)

// Row returns a row with all its columns filled.
func Row(n int) *store.Held {
	return &store.Held{
		ID: fmt.Sprintf("01J%05d", n), Transaction: fmt.Sprintf("tx-%d", n), Queue: "spam", Direction: "inbound",
		Rule: "by-score", State: store.StateHeld, At: Epoch.Add(time.Duration(n) * time.Minute), Size: 1000 + int64(n), Stored: 400, Score: 11.5,
		Author: "Alice@partner.example", ReversePath: fmt.Sprintf("bounce+%d@lists.example", n), Subject: "Été: votre FACTURE n° " + fmt.Sprint(n),
		Recipients: []store.HeldRecipient{{Address: "bob@example.org", State: store.StateHeld},
			{Address: "Zoë@example.org", State: store.StateReleased, At: Epoch}},
		Key: []byte{1, 2, 3}, Sealed: []byte("sealed"), Open: []byte(`{"a":1}`),
	}
}

// Records runs the suite over an implementation. open returns an empty one; the
// suite closes it.
func Records(t *testing.T, open func(t *testing.T) store.Records) {
	for name, test := range map[string]func(*testing.T, store.Records){
		"insert and read": recordsInsert, "update": recordsUpdate, "search": recordsSearch, "pages": recordsPages,
		"totals": recordsTotals, "settings": recordsSettings, "concurrent": recordsConcurrent, "closed": recordsClosed,
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t)
			defer r.Close()
			test(t, r)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func recordsInsert(t *testing.T, r store.Records) {
	ctx := context.Background()
	full, bare := Row(1), &store.Held{ID: "bare"}
	must(t, r.Insert(ctx, full))
	must(t, r.Insert(ctx, bare))
	for _, h := range []*store.Held{full, bare} {
		got, err := r.Held(ctx, h.ID)
		must(t, err)
		if d := cmp.Diff(h, got); d != "" {
			t.Errorf("row changed on its way (-want +got):\n%s", d)
		}
	}
	want(t, r.Insert(ctx, full), store.ErrExists)
	_, err := r.Held(ctx, "nobody")
	want(t, err, store.ErrNotFound)
	must(t, r.Remove(ctx, full.ID, "nobody"))
	_, err = r.Held(ctx, full.ID)
	want(t, err, store.ErrNotFound)
	must(t, r.Insert(ctx, full))
	must(t, r.Scrub(ctx))
}

func recordsUpdate(t *testing.T, r store.Records) {
	ctx := context.Background()
	must(t, r.Insert(ctx, Row(1)))
	must(t, r.Update(ctx, Row(1).ID, func(h *store.Held) error {
		h.State, h.Key, h.Sealed, h.Subject, h.ID = store.StateDeleted, nil, nil, "", "other"
		h.Recipients = h.Recipients[:1]
		h.Recipients[0].Address = ""
		return nil
	}))
	got, err := r.Held(ctx, Row(1).ID)
	must(t, err)
	wanted := Row(1)
	wanted.State, wanted.Key, wanted.Sealed, wanted.Subject = store.StateDeleted, nil, nil, ""
	wanted.Recipients = []store.HeldRecipient{{State: store.StateHeld}}
	if d := cmp.Diff(wanted, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	stop := errors.New("stop")
	want(t, r.Update(ctx, Row(1).ID, func(h *store.Held) error { h.Queue = "x"; return stop }), stop)
	if got, _ := r.Held(ctx, Row(1).ID); got.Queue != "spam" {
		t.Error("an update that failed was written")
	}
	want(t, r.Update(ctx, "nobody", func(*store.Held) error { return nil }), store.ErrNotFound)
}

func recordsSearch(t *testing.T, r store.Records) {
	ctx := context.Background()
	for n := range 4 {
		must(t, r.Insert(ctx, Row(n)))
	}
	other := Row(4)
	other.Queue, other.State, other.Rule, other.Direction = "malware", store.StateDeleted, "virus", "outbound"
	other.Author, other.Subject, other.Key = "x@evil.example", "100% off_now", nil
	other.Recipients = []store.HeldRecipient{{Address: "carol@example.org"}}
	must(t, r.Insert(ctx, other))
	for _, c := range []struct {
		q    store.Query
		want string
	}{
		{store.Query{}, "43210"},
		{store.Query{Limit: 2}, "43"},
		{store.Query{ID: "01J0000"}, "43210"},
		{store.Query{ID: "01J00003"}, "3"},
		{store.Query{ID: "%"}, ""},
		{store.Query{Tx: "tx-"}, "43210"},
		{store.Query{Tx: "tx-2"}, "2"},
		{store.Query{Tx: "%"}, ""},
		{store.Query{Queue: "malware"}, "4"},
		{store.Query{State: store.StateHeld}, "3210"},
		{store.Query{Rule: "virus"}, "4"},
		{store.Query{From: "ALICE@"}, "3210"},
		{store.Query{From: "bounce+4"}, "4"},
		{store.Query{To: "zOË"}, "3210"},
		{store.Query{To: "example.org"}, "43210"},
		{store.Query{Subject: "éTé"}, "3210"},
		{store.Query{Subject: "%"}, "4"},
		{store.Query{Subject: "_"}, "4"},
		{store.Query{Subject: "'; DROP TABLE held; --"}, ""},
		{store.Query{Address: "alice@PARTNER.example"}, "3210"},
		{store.Query{Address: "carol@example.org"}, "4"},
		{store.Query{Address: "bounce+1@lists.example"}, "1"},
		{store.Query{Address: "arol@example.org"}, ""},
		{store.Query{Since: Epoch.Add(2 * time.Minute)}, "432"},
		{store.Query{Until: Epoch.Add(2 * time.Minute)}, "10"},
		{store.Query{NoBody: true}, "4"},
		{store.Query{Before: "01J00002"}, "10"},
		{store.Query{Queue: "spam", To: "bob", Since: Epoch.Add(time.Minute), Before: "01J00003"}, "21"},
	} {
		found, err := r.Search(ctx, c.q)
		must(t, err)
		got := ""
		for _, h := range found {
			got += h.ID[len(h.ID)-1:]
		}
		if got != c.want {
			t.Errorf("Search(%+v) = %q, want %q", c.q, got, c.want)
		}
	}
}

func recordsPages(t *testing.T, r store.Records) {
	ctx := context.Background()
	for n := range 25 {
		must(t, r.Insert(ctx, Row(n)))
	}
	var got []string
	for q := (store.Query{Limit: 10}); ; {
		page, err := r.Search(ctx, q)
		must(t, err)
		for _, h := range page {
			got = append(got, h.ID)
		}
		if len(page) < q.Limit {
			break
		}
		q.Before = page[len(page)-1].ID
	}
	if len(got) != 25 || got[0] != Row(24).ID || got[24] != Row(0).ID {
		t.Errorf("pages gave %d rows: %v", len(got), got)
	}
}

func recordsTotals(t *testing.T, r store.Records) {
	ctx := context.Background()
	none, err := r.Totals(ctx)
	must(t, err)
	if len(none) != 0 {
		t.Errorf("empty: %v", none)
	}
	for n := range 3 {
		must(t, r.Insert(ctx, Row(n)))
	}
	other := Row(3)
	other.Queue, other.State = "malware", store.StateReleased
	must(t, r.Insert(ctx, other))
	got, err := r.Totals(ctx)
	must(t, err)
	wanted := []store.Total{
		{Queue: "malware", State: store.StateReleased, Messages: 1, Size: 1003, Stored: 400, Oldest: Epoch.Add(3 * time.Minute)},
		{Queue: "spam", State: store.StateHeld, Messages: 3, Size: 3003, Stored: 1200, Oldest: Epoch},
	}
	if d := cmp.Diff(wanted, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func recordsSettings(t *testing.T, r store.Records) {
	ctx := context.Background()
	for _, value := range []string{"", "one", "two\nlines", ""} {
		if value != "" {
			must(t, r.Set(ctx, "a.b", value))
		}
		got, err := r.Setting(ctx, "a.b")
		must(t, err)
		if value == "" {
			continue
		}
		if got != value {
			t.Errorf("Setting = %q, want %q", got, value)
		}
	}
	if got, err := r.Setting(ctx, "other"); got != "" || err != nil {
		t.Errorf("Setting of a name never set = %q, %v", got, err)
	}
}

func recordsConcurrent(t *testing.T, r store.Records) {
	ctx := context.Background()
	must(t, r.Insert(ctx, Row(0)))
	var wg sync.WaitGroup
	errs := make(chan error, 400)
	for g := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range 8 {
				errs <- r.Insert(ctx, Row(1+g*8+n))
				errs <- r.Update(ctx, Row(0).ID, func(h *store.Held) error { h.Size++; return nil })
				_, err := r.Search(ctx, store.Query{To: "bob", Limit: 3})
				errs <- err
			}
		}()
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		must(t, err)
	}
	got, err := r.Held(ctx, Row(0).ID)
	must(t, err)
	if got.Size != 1000+128 {
		t.Errorf("updates were lost: size %d, want %d", got.Size, 1128)
	}
	all, err := r.Search(ctx, store.Query{Limit: 1000})
	must(t, err)
	if len(all) != 129 {
		t.Errorf("%d rows, want 129", len(all))
	}
}

func recordsClosed(t *testing.T, r store.Records) {
	ctx := context.Background()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := r.Search(ended, store.Query{}); err == nil {
		t.Error("Search went on after its context ended")
	}
	must(t, r.Close())
	must(t, r.Close())
	want(t, r.Insert(ctx, Row(1)), store.ErrClosed)
}
