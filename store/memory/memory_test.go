package memory

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"postern/store"
	"postern/store/storetest"
)

func TestCounters(t *testing.T) {
	storetest.Counters(t, func(_ *testing.T, now func() time.Time) store.Counters { return NewCounters(now, 0) })
}

func TestBounded(t *testing.T) {
	ctx, now := context.Background(), storetest.Epoch
	c := NewCounters(func() time.Time { return now }, 1600)
	for i := range 10000 {
		c.Add(ctx, fmt.Sprint(i), 1, time.Duration(i%3)*time.Minute)
	}
	n := 0
	for i := range c.part {
		n += len(c.part[i].m)
	}
	if n > 1600 || n < 1200 {
		t.Errorf("%d counters kept, want at most 1600 and not many less", n)
	}
}

func TestConcurrent(t *testing.T) {
	ctx := context.Background()
	c := NewCounters(time.Now, 0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 1000 {
				c.Add(ctx, "one", 1, time.Hour)
			}
		}()
	}
	wg.Wait()
	if n, _ := c.Get(ctx, "one"); n != 8000 {
		t.Errorf("%d, want 8000", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	c := NewCounters(time.Now, 0)
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprint("192.0.2.", i)
	}
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			c.Add(context.Background(), keys[i%1000], 1, time.Hour)
		}
	})
}
