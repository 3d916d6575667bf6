package mail

import (
	"sync"
	"testing"
)

func TestMemo(t *testing.T) {
	type mine struct{}
	type other struct{}
	m := ParseBytes([]byte("From: a@b.example\r\n\r\nx"), Options{})
	var mu sync.Mutex
	built := 0
	build := func() any {
		mu.Lock()
		defer mu.Unlock()
		built++
		return built
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if v := m.Memo(mine{}, build); v != 1 {
				t.Errorf("%v", v)
			}
		})
	}
	wg.Wait()
	if v := m.Memo(other{}, build); v != 2 {
		t.Errorf("another key: %v", v)
	}
	if v := ParseBytes(nil, Options{}).Memo(mine{}, build); v != 3 {
		t.Errorf("another message: %v", v)
	}
}
