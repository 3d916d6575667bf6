package gateway

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/mail"
)

// inFile is a message of that size that does not lie in memory.
func inFile(size int) *mail.Message {
	return mail.Parse(bytes.NewReader(make([]byte, size)), int64(size), mail.Options{})
}

// bulky is a message that is too large to lie in memory.
func bulky() string {
	return text("alice@sender.example") + strings.Repeat(strings.Repeat("x", 70)+"\n", 5000)
}

// TestRoom: what is judged at once is bounded, in the order of arrival.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(1000)
		var mu sync.Mutex
		var order []string
		entered := func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(order)
		}
		take := func(name string, size int, keep time.Duration) {
			go func() {
				s, err := r.enter(t.Context(), inFile(size))
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				time.Sleep(keep)
				s.leave()
				s.leave()
			}()
			synctest.Wait()
		}
		take("first", 300, 10*time.Second)
		take("huge", 9000, time.Second) // alone, and before those that come later
		take("later", 10, time.Second)
		if s, err := r.enter(t.Context(), mail.ParseBytes(make([]byte, 5000), mail.Options{})); err != nil || s.n != 0 {
			t.Errorf("a small message waits: %v", err)
		}
		want(t, "at once", entered(), "first")
		time.Sleep(10*time.Second + 1)
		want(t, "after ten seconds", entered(), "first", "huge")
		time.Sleep(2 * time.Second)
		want(t, "in the end", entered(), "first", "huge", "later")
	})
}

// TestRoomIsFull: who waits too long, or goes, is told to try again.
func TestRoomIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(1000)
		s, err := r.enter(t.Context(), inFile(1000))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := r.enter(t.Context(), inFile(1)); !errors.Is(err, errNoRoom) || time.Since(start) != roomLimit {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.enter(ctx, inFile(1)); !errors.Is(err, errNoRoom) || !errors.Is(err, context.Canceled) {
			t.Errorf("gone: %v", err)
		}
		s.leave()
		if s, err := r.enter(t.Context(), inFile(500)); err != nil || s.n != 1000 {
			t.Errorf("afterwards: %v, %d taken", err, s.n)
		}
	})
}

// TestLargeMessagesWait: a large message waits for its turn, a small one does
// not, and whoever cannot wait keeps it.
func TestLargeMessagesWait(t *testing.T) {
	w := newWorld(t, plan{replace: [2]string{"[queue]", "[limits]\nmemory = \"1MB\"\n[queue]"}})
	room := w.g.State().room
	full, err := room.enter(t.Context(), inFile(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s := w.send(letter{content: bulky(), ctx: ctx, to: []string{"bob@ours.example", "erin@ours.example"}})
	if got := s.one(); !strings.HasPrefix(got, "451 4.3.2 too many large messages") {
		t.Errorf("told %s", got)
	}
	want(t, "fates", w.lastFates(), "bob@ours.example=deferred", "erin@ours.example=deferred")
	if !strings.Contains(w.mailLog.String(), "rule=busy") || !strings.Contains(w.log.String(), "[limits] memory") {
		t.Errorf("logs:\n%s%s", w.mailLog, w.log)
	}
	if got := w.send(letter{}).one(); !strings.HasPrefix(got, "250") {
		t.Errorf("a small one is told %s", got)
	}
	w.g.Swap(w.state(noRules))
	if w.g.State().room != room {
		t.Error("a reload makes more room")
	}
	full.leave()
	if got := w.send(letter{content: bulky()}).one(); !strings.HasPrefix(got, "250") {
		t.Errorf("told %s", got)
	}
	if _, err := room.enter(t.Context(), inFile(1<<20)); err != nil {
		t.Errorf("its seat was not given back: %v", err)
	}
}

// TestRoomIsLeft: a message that is held has its seat until it is, one that is
// relayed until it was judged; both are whole.
func TestRoomIsLeft(t *testing.T) {
	w := newWorld(t, plan{rules: partRules})
	content := strings.Replace(program, "--b--", "--b\nContent-Type: text/plain\n\n"+strings.Repeat(strings.Repeat("y", 70)+"\n", 5000)+"--b--", 1)
	for _, to := range []string{"bob@ours.example", "erin@ours.example", "carol@ours.example"} {
		if got := w.send(letter{to: []string{to}, content: content}).one(); !strings.HasPrefix(got, "250") {
			t.Errorf("told %s", got)
		}
	}
	if got := w.hop.got(); len(got) != 1 || !strings.HasSuffix(got[0].content, crlf(content)) {
		t.Errorf("relayed %d messages", len(got))
	}
	items := w.items()
	if len(items) != 2 || len(items[0].Attachments) != 1 || len(items[1].Attachments) != 1 {
		t.Errorf("held %+v", items)
	}
	if r := w.g.State().room; !r.taken.TryAcquire(r.size) {
		t.Error("the room is not empty")
	}
}
