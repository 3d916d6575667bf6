package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"postern/audit"
	"postern/policy"
	"postern/quarantine"
	"postern/store/dir"
	"postern/store/sqlite"
)

// places are the stores of a state directory. This is the only file that says
// which implementations of package store are used.
type places struct {
	root    string
	records *sqlite.DB
	blobs   *dir.Blobs
	closers []io.Closer
	keep    atomic.Int64 // of [audit], in nanoseconds; 0: for ever
}

func openPlaces(root string) (*places, error) {
	pl := &places{root: root}
	var err error
	if pl.records, err = sqlite.Open(context.Background(), databaseOf(root)); err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	pl.closers = append(pl.closers, pl.records)
	if pl.blobs, err = dir.OpenBlobs(filepath.Join(root, "quarantine"), dir.BlobOptions{}); err != nil {
		pl.close()
		return nil, fmt.Errorf("open the quarantine's directory: %w", err)
	}
	return pl, nil
}

func (pl *places) close() error {
	var errs []error
	for i := len(pl.closers) - 1; i >= 0; i-- {
		errs = append(errs, pl.closers[i].Close())
	}
	return errors.Join(errs...)
}

// databaseOf is the database of a state directory.
func databaseOf(root string) string { return filepath.Join(root, "postern.db") }

// Where the audit log of a state directory lies.
func auditDir(root string) string  { return filepath.Join(root, "audit") }
func auditHead(root string) string { return filepath.Join(root, "audit.head") }
func auditKey(root string) string  { return filepath.Join(root, "audit.key") }

func (pl *places) openAudit(log *slog.Logger) (*audit.Log, error) {
	lines, err := dir.OpenLog(auditDir(pl.root))
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	return audit.Open(context.Background(), audit.Options{Log: lines, Head: auditHead(pl.root), Key: auditKey(pl.root), Report: log})
}

// keepAudit says how long records of the audit log are kept.
func (pl *places) keepAudit(p *policy.Policy) { pl.keep.Store(int64(p.Audit.Keep)) }

// swept cuts the audit log by age and writes down what a sweep removed. While
// the clock cannot be trusted nothing goes by age.
func (pl *places) swept(ctx context.Context, records *audit.Log, r quarantine.SweepReport) error {
	if keep := time.Duration(pl.keep.Load()); r.Steady && keep > 0 {
		if _, err := records.Cut(ctx, time.Now().Add(-keep)); err != nil {
			return fmt.Errorf("cut the audit log: %w", err)
		}
	}
	if r.Expired == 0 {
		return nil
	}
	return records.Append(ctx, audit.Record{Event: audit.Expire, Detail: fmt.Sprintf("%d held messages removed by age", r.Expired)})
}

// openQuarantine opens what holds messages. Nobody reads a held body before the
// audit log knows of it, and of the key that it is encrypted under.
func (pl *places) openQuarantine(p *policy.Policy, records *audit.Log, log *slog.Logger) (*quarantine.Quarantine, error) {
	key := filepath.Join(pl.root, "quarantine.key")
	if err := noteKey(records, key, "the quarantine's key is made"); err != nil {
		return nil, err
	}
	return quarantine.Open(context.Background(), quarantine.Options{
		Settings: heldSettings(p), Records: pl.records, Blobs: pl.blobs, Key: key, Log: log,
		OnRead: func(ctx context.Context, it *quarantine.Item, by quarantine.Access) error {
			return records.Append(ctx, audit.Record{Event: audit.Read, ID: it.Transaction, Item: it.ID, Queue: it.Queue, Actor: by.Actor, Detail: by.Purpose, Reason: by.Reason})
		},
		OnSweep: func(ctx context.Context, r quarantine.SweepReport) error { return pl.swept(ctx, records, r) },
	})
}

// noteKey writes down that a key is about to be made, if its file is not there.
func noteKey(records *audit.Log, file, what string) error {
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return records.Append(context.Background(), audit.Record{Event: audit.KeyChange, Actor: processOwner(), Detail: what + ": " + filepath.Base(file)})
}

// processOwner names the Unix user as whom this process runs.
func processOwner() string { return userName(uint32(os.Getuid())) }

// heldSettings are those of [quarantine].
func heldSettings(p *policy.Policy) quarantine.Settings {
	s := quarantine.Settings{
		Keep: time.Duration(p.Quarantine.Keep), MaxSize: int64(p.Quarantine.MaxSize), Plain: !p.Quarantine.Encrypt, KeepQueue: map[string]time.Duration{},
	}
	for name, q := range p.Quarantine.Queue {
		if q.Keep > 0 {
			s.KeepQueue[name] = time.Duration(q.Keep)
		}
	}
	return s
}
