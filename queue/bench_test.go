package queue

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"postern/mail"
	"postern/relay"
	"postern/spool"
)

// BenchmarkQueue takes 20 KB messages from Commit to done, with a next hop that
// costs nothing.
func BenchmarkQueue(b *testing.B) {
	for _, writers := range []int{1, 10, 64} {
		b.Run(fmt.Sprint(writers, "-writers"), func(b *testing.B) {
			s, err := spool.Open(b.TempDir(), spool.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			var done sync.WaitGroup
			q := New(Options{Spool: s,
				Deliver: func(context.Context, spool.Entry, io.ReaderAt, int64) []relay.Outcome {
					return []relay.Outcome{accepted}
				},
				Events: func(Event) { done.Done() },
			})
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() { q.Run(ctx); close(ended) }()
			content := mail.ParseBytes([]byte("Subject: x\r\n\r\n"+strings.Repeat("A line of an ordinary message.\r\n", 640)), mail.Options{})
			to := []spool.Recipient{{Recipient: mail.Recipient{Path: mail.Path{Local: "bob", Domain: "partner.example"}}}}
			turns := make(chan int, writers)
			done.Add(b.N)
			b.ReportAllocs()
			b.ResetTimer()
			var working sync.WaitGroup
			for range writers {
				working.Go(func() {
					for range turns {
						ids, err := s.Commit(ctx, []spool.Draft{{Entry: spool.Entry{To: to, Upstream: "exchange"}, Content: content}})
						if err != nil {
							b.Error(err)
							done.Done()
							continue
						}
						q.Add(ids...)
					}
				})
			}
			for i := range b.N {
				turns <- i
			}
			close(turns)
			working.Wait()
			done.Wait()
			b.StopTimer()
			cancel()
			<-ended
		})
	}
}
