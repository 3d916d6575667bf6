package gateway

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"postern/mail"
)

// numbered are rules that name themselves in the reply to carol.
func numbered(n int) string {
	return fmt.Sprintf("[[rule]]\nname = \"rule-%d\"\nmatch = { to = \"carol@ours.example\" }\naction = \"reject\"\nreply = \"550 5.7.1 by rule %d\"\n", n, n)
}

// TestSwap: a transaction keeps the policy that it began with, and its filters
// stay open until it ends.
func TestSwap(t *testing.T) {
	w := newWorld(t, plan{rules: numbered(1)})
	carol := mail.Recipient{Path: testPath(t, "carol@ours.example")}
	finish := func(s *sent) string {
		s.tx.Recipients = append(s.tx.Recipients, carol)
		return w.data(t.Context(), s.tx, probing("nothing"))[0].String()
	}
	one, aborted := w.begin(letter{}), w.begin(letter{})
	w.g.Swap(w.state(numbered(2)))
	two := w.begin(letter{})
	w.g.Swap(w.state(numbered(3)))
	if n := w.opened.Load(); n != 3 {
		t.Errorf("%d policies are open", n)
	}
	if r := w.g.Rcpt(t.Context(), one.tx, carol); !strings.Contains(r.Text, "by rule 1 ") {
		t.Errorf("told %s", r)
	}
	if said := finish(two); !strings.Contains(said, "by rule 2 ") {
		t.Errorf("told %s", said)
	}
	eventually(t, "the second is closed", func() bool { return w.opened.Load() == 2 })
	if said := finish(one); !strings.Contains(said, "by rule 1 ") {
		t.Errorf("told %s", said)
	}
	if n := w.opened.Load(); n != 2 {
		t.Errorf("%d policies are open", n)
	}
	w.g.Abort(aborted.tx)
	eventually(t, "the first is closed", func() bool { return w.opened.Load() == 1 })
	if s := w.send(letter{to: []string{"carol@ours.example"}}); !strings.Contains(s.one(), "by rule 3 ") {
		t.Errorf("told %s", s.one())
	}
}

// TestSwapUnderLoad: transactions, notices and releases while the policy changes
// all the time. None is judged by filters that are closed.
func TestSwapUnderLoad(t *testing.T) {
	w := newWorld(t, plan{rules: numbered(0) + holdRules})
	it := holdOne(t, w, letter{to: []string{"erin@ours.example"}})
	bob := testPath(t, "bob@ours.example")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var sent atomic.Int64
	until := func(do func()) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					do()
					sent.Add(1)
				}
			}
		})
	}
	for range 6 {
		until(func() {
			s := w.send(letter{content: probing("nothing")})
			if len(s.data) == 0 || !s.data[0].OK() {
				t.Errorf("told %s", s.one())
			}
		})
	}
	until(func() { w.g.Abort(w.begin(letter{}).tx) })
	until(func() {
		if _, err := w.g.Submit(t.Context(), mail.Path{}, []mail.Recipient{{Path: bob}}, []byte(crlf(probing("nothing")))); err != nil {
			t.Error(err)
		}
	})
	until(func() {
		if _, err := w.g.Release(t.Context(), Release{ID: it.ID, Copy: bob}); err != nil {
			t.Error(err)
		}
	})
	var states []*State
	for n := range 40 {
		states = append(states, w.state(numbered(n)+holdRules))
	}
	for _, st := range states {
		w.g.Swap(st)
		target := sent.Load() + 5
		eventually(t, "mail goes on", func() bool { return sent.Load() > target })
	}
	close(stop)
	wg.Wait()
	eventually(t, "only the last policy is open", func() bool { return w.opened.Load() == 1 })
}

// TestAcquire: a State that is closed cannot be used any more, one that is in
// use stays open.
func TestAcquire(t *testing.T) {
	w := newWorld(t, plan{})
	st := w.state(noRules)
	if !st.acquire() {
		t.Fatal("a new State is closed")
	}
	st.Close()
	if !st.acquire() {
		t.Error("a State that is in use is closed")
	}
	st.release()
	if n := w.opened.Load(); n != 2 {
		t.Errorf("%d are open", n)
	}
	st.release()
	if st.acquire() {
		t.Error("a closed State is used")
	}
}
