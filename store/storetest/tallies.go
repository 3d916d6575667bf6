package storetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"postern/store"
)

// Tallies runs the suite over an implementation. open returns an empty one.
func Tallies(t *testing.T, open func(t *testing.T) store.Tallies) {
	for name, test := range map[string]func(*testing.T, store.Tallies){
		"add and read": talliesAdd, "limit": talliesLimit, "note": talliesNote, "expire": talliesExpire, "concurrent": talliesConcurrent,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// tally is a count of a row.
func tally(day, name, row string, count int64) store.Tally {
	return store.Tally{Day: day, Name: name, About: []byte("about " + row), Row: []byte(row), Count: count}
}

// shown writes all that is kept on one line.
func shown(t *testing.T, s store.Tallies) string {
	t.Helper()
	subjects, err := s.Subjects(context.Background())
	must(t, err)
	var parts []string
	for _, sub := range subjects {
		text := fmt.Sprintf("%s %s (%s) %d rows %d %s", sub.Day, sub.Name, sub.About, sub.Rows, sub.Count, sub.State)
		if sub.Closed {
			text += " closed"
		}
		rows, err := s.Rows(context.Background(), sub.Day, sub.Name)
		must(t, err)
		for _, r := range rows {
			text += fmt.Sprintf(" %s=%d", r.Row, r.Count)
		}
		parts = append(parts, strings.Join(strings.Fields(text), " "))
	}
	return strings.Join(parts, "; ")
}

func expect(t *testing.T, s store.Tallies, want string) {
	t.Helper()
	if got := shown(t, s); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func talliesAdd(t *testing.T, s store.Tallies) {
	ctx := context.Background()
	expect(t, s, "")
	for range 2 {
		left, err := s.Tally(ctx, []store.Tally{tally("2026-11-22", "b", "x", 1), tally("2026-11-21", "b", "y", 2), tally("2026-11-22", "a", "x", 3), tally("2026-11-22", "b", "z", 4)}, 10)
		must(t, err)
		if left != 0 {
			t.Errorf("%d left out", left)
		}
	}
	expect(t, s, "2026-11-21 b (about y) 1 rows 4 y=4; 2026-11-22 a (about x) 1 rows 6 x=6; 2026-11-22 b (about z) 2 rows 10 z=8 x=2")
	if rows, err := s.Rows(ctx, "2026-11-21", "nobody"); err != nil || len(rows) != 0 {
		t.Errorf("%v, %v", rows, err)
	}
}

func talliesLimit(t *testing.T, s store.Tallies) {
	for range 2 {
		left, err := s.Tally(context.Background(), []store.Tally{tally("d", "a", "1", 1), tally("d", "a", "2", 1), tally("d", "a", "3", 5), tally("d", "b", "3", 1)}, 2)
		must(t, err)
		if left != 5 {
			t.Errorf("%d left out, want 5", left)
		}
	}
	expect(t, s, "d a (about 2) 2 rows 4 1=2 2=2; d b (about 3) 1 rows 2 3=2")
	left, err := s.Tally(context.Background(), []store.Tally{tally("d", "a", "1", 1), tally("d", "c", "1", 1)}, 0)
	must(t, err)
	if left != 1 {
		t.Errorf("%d left out without room for any, want 1", left)
	}
	expect(t, s, "d a (about 1) 2 rows 5 1=3 2=2; d b (about 3) 1 rows 2 3=2")
}

func talliesNote(t *testing.T, s store.Tallies) {
	ctx := context.Background()
	want(t, s.Note(ctx, "d", "a", nil, true), store.ErrNotFound)
	add := func() int64 {
		left, err := s.Tally(ctx, []store.Tally{tally("d", "a", "1", 2), tally("d", "b", "1", 1)}, 9)
		must(t, err)
		return left
	}
	add()
	must(t, s.Note(ctx, "d", "a", []byte("tried"), false))
	expect(t, s, "d a (about 1) 1 rows 2 tried 1=2; d b (about 1) 1 rows 1 1=1")
	must(t, s.Note(ctx, "d", "a", []byte("sent"), true))
	if left := add(); left != 2 {
		t.Errorf("%d left out of what is closed, want 2", left)
	}
	expect(t, s, "d a () 0 rows 2 sent closed; d b (about 1) 1 rows 2 1=2")
}

func talliesExpire(t *testing.T, s store.Tallies) {
	ctx := context.Background()
	_, err := s.Tally(ctx, []store.Tally{tally("2026-11-20", "a", "1", 1), tally("2026-11-20", "b", "1", 1), tally("2026-11-21", "a", "1", 1)}, 9)
	must(t, err)
	must(t, s.Note(ctx, "2026-11-20", "b", nil, true))
	for _, want := range [][2]int{{2, 1}, {0, 0}} {
		removed, open, err := s.Expire(ctx, "2026-11-21")
		must(t, err)
		if removed != want[0] || open != want[1] {
			t.Errorf("%d removed, %d open, want %d", removed, open, want)
		}
	}
	expect(t, s, "2026-11-21 a (about 1) 1 rows 1 1=1")
}

func talliesConcurrent(t *testing.T, s store.Tallies) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := range 20 {
				if _, err := s.Tally(context.Background(), []store.Tally{tally("d", "a", fmt.Sprint((g+n)%4), 1)}, 9); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	expect(t, s, "d a ("+string(aboutOf(t, s))+") 4 rows 160 0=40 1=40 2=40 3=40")
}

// aboutOf is what the only subject says: whichever came last.
func aboutOf(t *testing.T, s store.Tallies) []byte {
	t.Helper()
	subjects, err := s.Subjects(context.Background())
	must(t, err)
	if len(subjects) != 1 {
		t.Fatalf("%d subjects", len(subjects))
	}
	return subjects[0].About
}

// FaultyTallies fails where the plan says so: "tally", "subjects", "rows",
// "note", "expire".
type FaultyTallies struct {
	store.Tallies
	*Plan
}

// Tally implements store.Tallies.
func (f FaultyTallies) Tally(ctx context.Context, tallies []store.Tally, limit int) (int64, error) {
	if err := f.step("tally"); err != nil {
		return 0, err
	}
	return f.Tallies.Tally(ctx, tallies, limit)
}

// Subjects implements store.Tallies.
func (f FaultyTallies) Subjects(ctx context.Context) ([]store.Subject, error) {
	if err := f.step("subjects"); err != nil {
		return nil, err
	}
	return f.Tallies.Subjects(ctx)
}

// Rows implements store.Tallies.
func (f FaultyTallies) Rows(ctx context.Context, day, name string) ([]store.Tally, error) {
	if err := f.step("rows"); err != nil {
		return nil, err
	}
	return f.Tallies.Rows(ctx, day, name)
}

// Note implements store.Tallies.
func (f FaultyTallies) Note(ctx context.Context, day, name string, state []byte, closed bool) error {
	if err := f.step("note"); err != nil {
		return err
	}
	return f.Tallies.Note(ctx, day, name, state, closed)
}

// Expire implements store.Tallies.
func (f FaultyTallies) Expire(ctx context.Context, before string) (int, int, error) {
	if err := f.step("expire"); err != nil {
		return 0, 0, err
	}
	return f.Tallies.Expire(ctx, before)
}
