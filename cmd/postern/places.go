package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
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
}

func openPlaces(root string) (*places, error) {
	pl := &places{root: root}
	var err error
	if pl.records, err = sqlite.Open(context.Background(), filepath.Join(root, "postern.db")); err != nil {
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

// openQuarantine opens what holds messages. Nobody reads a held body before the
// audit log knows of it.
func (pl *places) openQuarantine(p *policy.Policy, records *audit.Log, log *slog.Logger) (*quarantine.Quarantine, error) {
	return quarantine.Open(context.Background(), quarantine.Options{
		Settings: heldSettings(p), Records: pl.records, Blobs: pl.blobs, Key: filepath.Join(pl.root, "quarantine.key"), Log: log,
		OnRead: func(ctx context.Context, it *quarantine.Item, by quarantine.Access) error {
			return records.Append(ctx, audit.Record{Event: audit.Read, ID: it.Transaction, Item: it.ID, Queue: it.Queue, Actor: by.Actor, Detail: by.Purpose, Reason: by.Reason})
		},
		OnSweep: func(ctx context.Context, r quarantine.SweepReport) error {
			if r.Expired == 0 {
				return nil
			}
			return records.Append(ctx, audit.Record{Event: audit.Expire, Detail: fmt.Sprintf("%d held messages removed by age", r.Expired)})
		},
	})
}

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
