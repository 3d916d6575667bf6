package queue

import (
	"context"
	"errors"
	"io"
	"testing"

	"postern/mail"
	"postern/relay"
	"postern/spool"
)

// TestPanics lets the functions that a queue is given panic: the entry stays, and
// so does the program.
func TestPanics(t *testing.T) {
	refused := same(relay.Outcome{Reply: reply(550, 5, 1, 1, "no such user")})
	for name, change := range map[string]func(*Options){
		"Deliver": func(o *Options) {
			o.Deliver = func(context.Context, spool.Entry, io.ReaderAt, int64) []relay.Outcome { panic("deliver") }
		},
		"Submit": func(o *Options) {
			o.Submit = func(context.Context, mail.Path, []mail.Recipient, []byte) (string, error) { panic("submit") }
		},
		"Keep": func(o *Options) {
			o.Keep = func(context.Context, spool.Entry, io.ReaderAt, int64) error { panic("keep") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, change)
			b.hop = refused
			id := b.add(func(e *spool.Entry) {
				if e.Direction = mail.Outbound; name == "Keep" {
					e.Direction = mail.Inbound
				}
			}, "bob")
			b.settle()
			wantKinds(t, b, string(EventDeferred)+" bob")
			if e, err := b.s.Get(id); err != nil || len(e.Pending()) != 1 {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

// TestSuspendThatFails checks that an entry whose suspension is not recorded goes
// on as before.
func TestSuspendThatFails(t *testing.T) {
	b := newBench(t)
	id := b.add(nil, "bob")
	if err := b.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.q.Suspend(id); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("suspend: %v", err)
	}
	if b.q.jobs[id].suspended {
		t.Error("suspended all the same")
	}
}
