package spool

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/mail"
)

const benchSize = 20 << 10

func benchContent() []byte {
	return bytes.Repeat([]byte("A line of an ordinary message, as long as they are.\r\n"), benchSize/53)
}

// BenchmarkCommit is Buffer, Commit and Remove of a 20 KB message.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 10, 64} {
		b.Run(fmt.Sprint(writers, "-writers"), func(b *testing.B) {
			s, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			text := benchContent()
			b.SetBytes(int64(len(text)))
			parallel(b, writers, func() error {
				buf := s.Buffer()
				defer buf.Discard()
				buf.Write(text)
				ids, err := s.Commit(context.Background(), []Draft{{Entry{
					Transaction: s.nextName(), From: mail.Path{Local: "alice", Domain: "example.org"}, Upstream: "exchange",
					To: []Recipient{{Recipient: mail.Recipient{Path: mail.Path{Local: "bob", Domain: "partner.example"}}}},
				}, buf}})
				if err != nil {
					return err
				}
				return s.Remove(ids[0])
			})
		})
	}
}

// BenchmarkFilePerMessage is what Commit replaces: a file and a sync for each.
func BenchmarkFilePerMessage(b *testing.B) {
	for _, writers := range []int{1, 10, 64} {
		b.Run(fmt.Sprint(writers, "-writers"), func(b *testing.B) {
			dir := b.TempDir()
			text := benchContent()
			b.SetBytes(int64(len(text)))
			var n atomic.Int64
			parallel(b, writers, func() error {
				name := filepath.Join(dir, fmt.Sprint(n.Add(1)))
				f, err := os.Create(name)
				if err != nil {
					return err
				}
				defer f.Close()
				if _, err := f.Write(text); err != nil {
					return err
				}
				if err := f.Sync(); err != nil {
					return err
				}
				if err := (osDisk{}).SyncDir(dir); err != nil {
					return err
				}
				return os.Remove(name)
			})
		})
	}
}

// parallel runs f b.N times in so many goroutines.
func parallel(b *testing.B, writers int, f func() error) {
	b.Helper()
	turns := make(chan struct{}, writers)
	errs := make(chan error, writers)
	for range writers {
		go func() {
			var err error
			for range turns {
				if err == nil {
					err = f()
				}
			}
			errs <- err
		}()
	}
	b.ReportAllocs()
	b.ResetTimer()
	began := time.Now()
	for range b.N {
		turns <- struct{}{}
	}
	close(turns)
	for range writers {
		if err := <-errs; err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "commits/s")
}

// BenchmarkContent opens and closes a 20 KB content, with its checksum.
func BenchmarkContent(b *testing.B) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	buf := s.Buffer()
	buf.Write(benchContent())
	ids, err := s.Commit(context.Background(), []Draft{{Entry{}, buf}})
	if err != nil {
		b.Fatal(err)
	}
	buf.Discard()
	b.ReportAllocs()
	for b.Loop() {
		r, err := s.Content(ids[0])
		if err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

// A restart with a hundred thousand entries takes no more than two seconds. In
// tests it is a tenth of that, and the bound is lax for a busy machine.
func TestOpenManyEntries(t *testing.T) {
	const entries = 10_000
	d := newMemDisk()
	s := openMem(t, d, Options{})
	fill(t, s, entries)
	s.Close()
	d = d.afterKill()
	began := time.Now()
	s = openMem(t, d, Options{})
	took := time.Since(began)
	if s.Len() != entries {
		t.Errorf("%d entries", s.Len())
	}
	if took > 2*time.Second {
		t.Errorf("%d entries took %v", entries, took)
	}
	t.Logf("%d entries in %v", entries, took)
}

func fill(tb testing.TB, s *Spool, entries int) {
	text := benchContent()[:2000]
	for range entries / 100 {
		var drafts []Draft
		for range 100 {
			c := content0(string(text))
			drafts = append(drafts, draft(s.nextName(), c, "bob"))
		}
		if _, err := s.Commit(context.Background(), drafts); err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a spool of 100,000 entries, each with a commit of its own.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	text := content0(string(benchContent()[:2000]))
	var writers sync.WaitGroup
	for range 100 {
		writers.Go(func() {
			for range 1000 {
				if _, err := s.Commit(context.Background(), []Draft{draft(s.nextName(), text, "bob")}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	writers.Wait()
	s.Close()
	b.ResetTimer()
	for range b.N {
		s, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if s.Len() != 100_000 {
			b.Fatal(s.Len())
		}
		s.Close()
	}
}
