package mail

import "sync"

// memos holds what other packages computed of a message.
type memos struct{ byKey sync.Map }

// Memo returns what build makes, and keeps it with the message: later calls with
// the same key return the same value. So what derives from the message alone is
// computed once, whoever asks. The key is of a type of the caller's own, and
// what build returns is safe for concurrent use.
func (m *Message) Memo(key any, build func() any) any {
	kept, ok := m.memos.byKey.Load(key)
	if !ok {
		kept, _ = m.memos.byKey.LoadOrStore(key, &lazy[any]{})
	}
	l, ok := kept.(*lazy[any])
	if !ok {
		return build()
	}
	return l.get(build)
}
