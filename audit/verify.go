package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"

	"postern/store"
)

// A Report is what Verify found in a chain that is whole.
type Report struct {
	First   uint64 `json:"first"`   // number of the oldest record
	Last    uint64 `json:"last"`    // number of the newest
	Records uint64 `json:"records"` // 0: the log is empty
	Erased  int    `json:"erased"`  // personal values that were erased
	Hash    string `json:"hash"`    // of the newest record
	Key     string `json:"key"`     // public key of the checkpoints and the head
}

// Verify walks the chain as it is now. The error is a *BadRecord if the chain
// is not whole.
func (l *Log) Verify(ctx context.Context) (Report, error) {
	if err := l.Sync(ctx); err != nil {
		return Report{}, err
	}
	l.writeMu.Lock()
	head, ok, err := l.head.read(l.PublicKey())
	l.writeMu.Unlock()
	if err != nil {
		return Report{}, fmt.Errorf("verify audit log: %w", err)
	}
	return verify(ctx, l.o.Log, l.PublicKey(), head, ok)
}

// Verify walks the chain of a log that need not be open, even while a gateway
// writes it. The error is a *BadRecord if the chain is not whole.
func Verify(ctx context.Context, log func() (store.Log, error), headPath, keyPath string) (Report, error) {
	key, err := loadKey(keyPath, nil)
	if err != nil {
		return Report{}, fmt.Errorf("verify audit log: %w", err)
	}
	public := key.Public().(ed25519.PublicKey)
	head, ok, err := readHead(headPath, public) // before the log: it is never ahead of it
	if err != nil {
		return Report{}, fmt.Errorf("verify audit log: %w", err)
	}
	l, err := log()
	if err != nil {
		return Report{}, fmt.Errorf("verify audit log: %w", err)
	}
	defer l.Close()
	return verify(ctx, l, public, head, ok)
}

func readHead(path string, key ed25519.PublicKey) (Head, bool, error) {
	hf, err := openHead(path, true)
	if errors.Is(err, os.ErrNotExist) {
		return Head{}, false, nil
	}
	if err != nil {
		return Head{}, false, err
	}
	defer hf.f.Close()
	return hf.read(key)
}

// A walk is one passage over the chain.
type walk struct {
	key    ed25519.PublicKey
	head   Head
	hash   Hash
	report Report
}

func verify(ctx context.Context, log store.Log, key ed25519.PublicKey, head Head, ok bool) (Report, error) {
	w := &walk{key: key, head: head}
	w.report.Key = encoding.EncodeToString(key)
	sections, err := log.Sections(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("verify audit log: %w", err)
	}
	for _, s := range sections {
		if next := w.report.Last + 1; w.report.Records > 0 && s.First != next {
			return w.report, &BadRecord{next, "it is missing"}
		}
		err := log.Read(ctx, s.First, w.step)
		if damage := (*store.DamageError)(nil); errors.As(err, &damage) {
			return w.report, &BadRecord{w.report.Last + 1, "it is missing: " + damage.Path + " is too short"}
		}
		if err != nil {
			return w.report, err
		}
	}
	switch {
	case ok && w.report.Last < head.Seq:
		return w.report, &BadRecord{w.report.Last + 1, fmt.Sprintf("it is missing: the log was cut off, its head names record %d", head.Seq)}
	case !ok && w.report.Records > 0:
		return w.report, &BadRecord{w.report.Last, "the head is missing or not signed with this key: records after this one may be missing"}
	}
	w.report.Hash = w.hash.String()
	return w.report, nil
}

// step checks one line against the chain so far.
func (w *walk) step(n uint64, text []byte) error {
	bad := func(why string) error { return &BadRecord{n, why} }
	l, err := parse(text)
	if err != nil {
		return bad(err.Error())
	}
	f := &l.fields
	if f.Seq != n {
		return bad(fmt.Sprintf("record %d stands in its place: records were removed or reordered", f.Seq))
	}
	if w.report.Records == 0 {
		if err := w.begin(n, l); err != nil {
			return err
		}
	}
	if link(w.hash, l.Record) != l.hash {
		return bad("its hash does not fit: it, or the record before, was changed")
	}
	if f.Event == Checkpoint && !w.signed(l) {
		return bad("the checkpoint's signature does not fit")
	}
	if f.Event == Damage {
		return bad("damage was found when the log was opened at " + f.At.Format("2006-01-02 15:04:05") + ": " + f.Detail)
	}
	if why := l.checkValues(); why != "" {
		return bad(why)
	}
	if n == w.head.Seq && l.hash.String() != w.head.Hash {
		return bad("it is not the record that the head names")
	}
	w.hash = l.hash
	w.report.Last = n
	w.report.Records++
	w.report.Erased += len(f.Personal) - len(l.Values)
	return nil
}

// begin accepts the first line: the first of all, or a signed checkpoint that
// is not later than what was cut off lawfully.
func (w *walk) begin(n uint64, l *line) error {
	if first := max(w.head.First, 1); n > first {
		return &BadRecord{first, fmt.Sprintf("it is missing: the log begins with record %d", n)}
	}
	w.report.First = n
	if n == 1 {
		return nil
	}
	before, err := encoding.DecodeString(l.fields.Before)
	if err != nil || len(before) != len(w.hash) || l.fields.Event != Checkpoint {
		return &BadRecord{n, "the log begins with it, but it is not a checkpoint"}
	}
	w.hash = Hash(before)
	return nil
}

func (w *walk) signed(l *line) bool {
	sig, err := encoding.DecodeString(l.fields.Signature)
	return err == nil && l.fields.Before == w.hash.String() &&
		ed25519.Verify(w.key, checkpointText(l.fields.Seq, l.fields.At, w.hash), sig)
}
