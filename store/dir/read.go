package dir

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"postern/store"
)

// section returns the section that begins with number first, and whether it is
// the last one.
func (l *Log) section(first uint64) (store.Section, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, err := l.find(first)
	if err != nil {
		return store.Section{}, false, err
	}
	return l.sections[i], i == len(l.sections)-1, nil
}

// Read implements store.Log.
func (l *Log) Read(ctx context.Context, first uint64, visit func(uint64, []byte) error) error {
	s, _, err := l.section(first)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	return l.scan(ctx, s, visit)
}

// scan visits the lines of a section. What stands in the file after the last
// line that counts is not read.
func (l *Log) scan(ctx context.Context, s store.Section, visit func(uint64, []byte) error) error {
	f, err := os.Open(l.path(s.First))
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<16)
	var long []byte
	for n := s.First; n < s.First+s.Lines; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := r.ReadSlice('\n')
		for long = long[:0]; errors.Is(err, bufio.ErrBufferFull); {
			long = append(long, line...)
			line, err = r.ReadSlice('\n')
		}
		if len(long) > 0 {
			line = append(long, line...)
			long = line
		}
		if errors.Is(err, io.EOF) {
			return &store.DamageError{Path: l.path(s.First), Kind: store.ErrCorrupt, Err: fmt.Errorf("line %d is missing", n),
				Remedy: "Restore the file from a backup; nothing was changed."}
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if err := visit(n, line[:len(line)-1]); err != nil {
			return err
		}
	}
	return nil
}

// Rewrite implements store.Log: the section is copied, synced and renamed over
// itself.
func (l *Log) Rewrite(ctx context.Context, first uint64, change func(uint64, []byte) ([]byte, error)) error {
	s, last, err := l.section(first)
	if err != nil {
		return fmt.Errorf("rewrite log: %w", err)
	}
	if last || l.readOnly {
		return errors.New("rewrite log: the section is being written to, or the log is read only")
	}
	f, err := os.CreateTemp(l.root, "rewrite-*")
	if err != nil {
		return fmt.Errorf("rewrite log: %w", full(err))
	}
	defer os.Remove(f.Name())
	defer f.Close()
	size, changed, err := l.copySection(ctx, f, s, change)
	if err != nil {
		return fmt.Errorf("rewrite log: %w", full(err))
	}
	if !changed {
		return nil
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("rewrite log: %w", full(err))
	}
	if err := os.Rename(f.Name(), l.path(first)); err != nil {
		return fmt.Errorf("rewrite log: %w", err)
	}
	l.mu.Lock()
	if i, err := l.find(first); err == nil {
		l.sections[i].Size = size
	}
	l.mu.Unlock()
	return syncFolder(filepath.Clean(l.root))
}

func (l *Log) copySection(ctx context.Context, to io.Writer, s store.Section, change func(uint64, []byte) ([]byte, error)) (size int64, changed bool, err error) {
	w := bufio.NewWriterSize(to, 1<<16)
	err = l.scan(ctx, s, func(n uint64, line []byte) error {
		replaced, err := change(n, line)
		if err != nil {
			return err
		}
		if replaced != nil {
			if bytes.IndexByte(replaced, '\n') >= 0 {
				return fmt.Errorf("line %d would become several", n)
			}
			line, changed = replaced, true
		}
		size += int64(len(line)) + 1
		w.Write(line) // errors stick until Flush
		return w.WriteByte('\n')
	})
	if err != nil {
		return 0, false, err
	}
	return size, changed, w.Flush()
}
