// Package storetest is the suite that every implementation of the interfaces
// of package store passes, and wrappers that fail on purpose.
//
// # Diagnostics
//
// What an implementation gets wrong fails the test that runs the suite. ErrFault
// is the default error of the wrappers.
package storetest

import (
	"context"
	"errors"
	"io"
	"sync"

	"postern/store"
)

// ErrFault is what a wrapper fails with when the plan names no other error.
var ErrFault = errors.New("storetest: fault")

// A Plan says which operations fail. It is safe for concurrent use.
type Plan struct {
	mu    sync.Mutex
	steps map[string][]error
	seen  []string
}

// Fail makes the next call of op, such as "put" or "insert", return err, or
// ErrFault if err is nil. Several calls of Fail line up.
func (p *Plan) Fail(op string, err error) {
	if err == nil {
		err = ErrFault
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.steps == nil {
		p.steps = map[string][]error{}
	}
	p.steps[op] = append(p.steps[op], err)
}

// Seen returns the operations so far, in order.
func (p *Plan) Seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.seen...)
}

func (p *Plan) step(op string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, op)
	if left := p.steps[op]; len(left) > 0 {
		p.steps[op] = left[1:]
		return left[0]
	}
	return nil
}

// FaultyRecords fails where the plan says so: "insert", "held", "update",
// "remove", "search", "set", "scrub".
type FaultyRecords struct {
	store.Records
	*Plan
}

// Insert implements store.Records.
func (f FaultyRecords) Insert(ctx context.Context, h *store.Held) error {
	if err := f.step("insert"); err != nil {
		return err
	}
	return f.Records.Insert(ctx, h)
}

// Held implements store.Records.
func (f FaultyRecords) Held(ctx context.Context, id string) (*store.Held, error) {
	if err := f.step("held"); err != nil {
		return nil, err
	}
	return f.Records.Held(ctx, id)
}

// Update implements store.Records.
func (f FaultyRecords) Update(ctx context.Context, id string, change func(*store.Held) error) error {
	if err := f.step("update"); err != nil {
		return err
	}
	return f.Records.Update(ctx, id, change)
}

// Remove implements store.Records.
func (f FaultyRecords) Remove(ctx context.Context, ids ...string) error {
	if err := f.step("remove"); err != nil {
		return err
	}
	return f.Records.Remove(ctx, ids...)
}

// Search implements store.Records.
func (f FaultyRecords) Search(ctx context.Context, q store.Query) ([]*store.Held, error) {
	if err := f.step("search"); err != nil {
		return nil, err
	}
	return f.Records.Search(ctx, q)
}

// Set implements store.Records.
func (f FaultyRecords) Set(ctx context.Context, name, value string) error {
	if err := f.step("set"); err != nil {
		return err
	}
	return f.Records.Set(ctx, name, value)
}

// Scrub implements store.Records.
func (f FaultyRecords) Scrub(ctx context.Context) error {
	if err := f.step("scrub"); err != nil {
		return err
	}
	return f.Records.Scrub(ctx)
}

// FaultyBlobs fails where the plan says so: "put" before anything is stored,
// "stored" after the blob is there, "open", "delete", "list".
type FaultyBlobs struct {
	store.Blobs
	*Plan
}

// Put implements store.Blobs.
func (f FaultyBlobs) Put(ctx context.Context, name string, r io.Reader) (int64, error) {
	if err := f.step("put"); err != nil {
		return 0, err
	}
	n, err := f.Blobs.Put(ctx, name, r)
	if err == nil {
		err = f.step("stored")
	}
	return n, err
}

// Open implements store.Blobs.
func (f FaultyBlobs) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if err := f.step("open"); err != nil {
		return nil, 0, err
	}
	return f.Blobs.Open(ctx, name)
}

// Delete implements store.Blobs.
func (f FaultyBlobs) Delete(ctx context.Context, name string) error {
	if err := f.step("delete"); err != nil {
		return err
	}
	return f.Blobs.Delete(ctx, name)
}

// List implements store.Blobs.
func (f FaultyBlobs) List(ctx context.Context, visit func(store.Blob) error) error {
	if err := f.step("list"); err != nil {
		return err
	}
	return f.Blobs.List(ctx, visit)
}

// FaultyLog fails where the plan says so: "append", "roll", "rewrite", "cut".
type FaultyLog struct {
	store.Log
	*Plan
}

// Append implements store.Log.
func (f FaultyLog) Append(ctx context.Context, first uint64, lines []byte) error {
	if err := f.step("append"); err != nil {
		return err
	}
	return f.Log.Append(ctx, first, lines)
}

// Roll implements store.Log.
func (f FaultyLog) Roll(ctx context.Context) error {
	if err := f.step("roll"); err != nil {
		return err
	}
	return f.Log.Roll(ctx)
}

// Rewrite implements store.Log.
func (f FaultyLog) Rewrite(ctx context.Context, first uint64, change func(uint64, []byte) ([]byte, error)) error {
	if err := f.step("rewrite"); err != nil {
		return err
	}
	return f.Log.Rewrite(ctx, first, change)
}

// Cut implements store.Log.
func (f FaultyLog) Cut(ctx context.Context, first uint64) error {
	if err := f.step("cut"); err != nil {
		return err
	}
	return f.Log.Cut(ctx, first)
}
