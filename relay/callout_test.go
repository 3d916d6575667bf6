package relay

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestCallout(t *testing.T) {
	user := path("user@example.com")
	rcpt := "RCPT TO:<user@example.com>"
	for name, c := range map[string]struct {
		say  map[string]string
		want Existence
		err  error // nil for Unclear: any
	}{
		"exists":                   {map[string]string{"RCPT": "550 5.1.1 no", rcpt: "250 ok"}, Exists, nil},
		"absent":                   {map[string]string{"RCPT": "550 5.1.1 no"}, Absent, nil},
		"absent, no enhanced code": {map[string]string{"RCPT": "550 no such user"}, Absent, nil},
		"absent, Exchange Online":  {map[string]string{"RCPT": "550 5.4.1 access denied"}, Absent, nil},
		"absent, others are taken": {map[string]string{rcpt: "550 5.1.1 no"}, Absent, nil},
		"accepts all":              {nil, Unclear, ErrAcceptsAll},
		"does not like us":         {map[string]string{"RCPT": "550 5.7.1 blocked"}, Unclear, nil},
		"sender is wrong":          {map[string]string{"RCPT": "550 5.1.8 sender"}, Unclear, nil},
		"MAIL refused":             {map[string]string{"MAIL": "550 go away"}, Unclear, errFromRefused},
		"relaying denied":          {map[string]string{"RCPT": "554 relaying denied"}, Unclear, nil},
		"greylisted":               {map[string]string{"RCPT": "450 4.7.1 greylisted"}, Unclear, nil},
		"probe greylisted":         {map[string]string{"RCPT": "450 4.7.1 greylisted", rcpt: "250 ok"}, Exists, nil},
		"garbage":                  {map[string]string{rcpt: "what?"}, Unclear, errGarbage},
		"closes":                   {map[string]string{"MAIL": "close"}, Unclear, nil},
		"no banner":                {map[string]string{"banner": "554 no"}, Unclear, nil},
	} {
		for _, features := range [][]string{allFeatures, lockstep()} {
			f := (&fake{features: features, say: c.say}).start(t)
			client := newTestClient(t, patient)
			got, reply, err := client.Callout(context.Background(), hopTo(f), user)
			if got != c.want || (got == Unclear) != (err != nil) || c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("%s: %v, %v, %v", name, got, reply, err)
			}
			mails, lines, _ := f.got()
			if len(mails) > 0 {
				t.Errorf("%s: a callout sent mail", name)
			}
			for _, l := range lines {
				if strings.HasPrefix(l, "MAIL") && !strings.HasPrefix(l, "MAIL FROM:<>") {
					t.Errorf("%s: %s", name, l)
				}
			}
			// What is certain is not asked again.
			again, _, _ := client.Callout(context.Background(), hopTo(f), user)
			if _, more, _ := f.got(); again != c.want || (c.want != Unclear || c.err == ErrAcceptsAll) && len(more) != len(lines) {
				t.Errorf("%s: %v when asked again, %q", name, again, more[len(lines):])
			}
			if st := client.Stats(); st.Busy != 0 || st.Delivered+st.Refused+st.Deferred != 0 {
				t.Errorf("%s: %+v", name, st)
			}
		}
	}
}

func TestCalloutThenMail(t *testing.T) {
	for _, features := range [][]string{allFeatures, lockstep()} {
		f := (&fake{features: features, say: map[string]string{"RCPT": "550 5.1.1 no", "RCPT TO:<a@example.com>": "250 ok"}}).start(t)
		c := newTestClient(t, Options{})
		for range 2 {
			if e, _, err := c.Callout(context.Background(), hopTo(f), path("a@example.com")); e != Exists {
				t.Fatal(err)
			}
			if o := c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))[0]; !o.Delivered {
				t.Errorf("%+v", o)
			}
		}
		mails, lines, sessions := f.got()
		if len(mails) != 2 || sessions != 1 {
			t.Errorf("%d mails, %d sessions", len(mails), sessions)
		}
		// The callout leaves no transaction open behind it.
		for i, l := range lines {
			if strings.HasPrefix(l, "MAIL FROM:<sender") && i > 0 && strings.HasPrefix(lines[i-1], "RCPT") {
				t.Errorf("%q", lines)
			}
		}
	}
}

func TestCalloutCache(t *testing.T) {
	f := (&fake{say: map[string]string{"RCPT": "550 5.1.1 no", "RCPT TO:<here@example.com>": "250 ok"}}).start(t)
	clock := &aClock{}
	c := newTestClient(t, Options{Now: clock.now})
	hop := hopTo(f)
	hop.Verify = VerifyCache{Positive: 2 * time.Hour, Negative: 10 * time.Minute}
	asked := func() int {
		n := 0
		_, lines, _ := f.got()
		for _, l := range lines {
			if strings.HasPrefix(l, "RCPT") {
				n++
			}
		}
		return n
	}
	for i, step := range []struct {
		after time.Duration
		to    string
		want  Existence
		asked int // RCPT commands so far; a probe counts
	}{
		{0, "here@example.com", Exists, 2},
		{0, "gone@example.com", Absent, 3},
		{9 * time.Minute, "gone@example.com", Absent, 3},
		{2 * time.Minute, "gone@example.com", Absent, 4},
		{0, "here@example.com", Exists, 4},
		{2 * time.Hour, "here@example.com", Exists, 6},
		{0, "x@other.example", Absent, 8},
	} {
		clock.add(step.after)
		e, _, err := c.Callout(context.Background(), hop, path(step.to))
		if e != step.want || asked() != step.asked {
			t.Errorf("step %d: %v, %v, asked %d, want %d", i, e, err, asked(), step.asked)
		}
	}
	if n := c.Stats().Callouts; n != 5 {
		t.Errorf("%d callouts", n)
	}
	// While it is down, who existed lately still exists; of others nothing is known.
	f.listener.Close()
	c.CloseIdle()
	clock.add(3 * time.Hour)
	if e, _, err := c.Callout(context.Background(), hop, path("here@example.com")); e != Exists || err != nil {
		t.Errorf("%v, %v", e, err)
	}
	if e, _, err := c.Callout(context.Background(), hop, path("gone@example.com")); e != Unclear || err == nil {
		t.Errorf("%v, %v", e, err)
	}
	clock.add(8 * 24 * time.Hour)
	if e, _, _ := c.Callout(context.Background(), hop, path("here@example.com")); e != Unclear {
		t.Errorf("%v", e)
	}
}

func TestCalloutAcceptsAllIsForgotten(t *testing.T) {
	f := (&fake{}).start(t)
	clock := &aClock{}
	c := newTestClient(t, Options{Now: clock.now})
	if _, _, err := c.Callout(context.Background(), hopTo(f), path("a@example.com")); !errors.Is(err, ErrAcceptsAll) {
		t.Error(err)
	}
	f.set("RCPT", "550 5.1.1 no")
	if _, _, err := c.Callout(context.Background(), hopTo(f), path("b@example.com")); !errors.Is(err, ErrAcceptsAll) {
		t.Error(err)
	}
	clock.add(2 * time.Hour)
	if e, _, err := c.Callout(context.Background(), hopTo(f), path("b@example.com")); e != Absent {
		t.Error(e, err)
	}
	if s := Absent.String() + Exists.String() + Unclear.String() + Existence(9).String(); s != "absentexistsunclearabsent" {
		t.Error(s)
	}
}

// TestCalloutOfAnotherHop: what one next hop has said is not the word of another
// that has got its name.
func TestCalloutOfAnotherHop(t *testing.T) {
	user := path("user@example.com")
	old := (&fake{say: map[string]string{"RCPT": "550 5.1.1 no"}}).start(t)
	now := (&fake{say: map[string]string{"RCPT": "550 5.1.1 no", "RCPT TO:<user@example.com>": "250 ok"}}).start(t)
	c := newTestClient(t, patient)
	for _, step := range []struct {
		f    *fake
		want Existence
	}{{old, Absent}, {now, Exists}, {old, Absent}} {
		hop := hopTo(step.f)
		hop.Name = "mailbox"
		if got, _, err := c.Callout(t.Context(), hop, user); got != step.want {
			t.Errorf("%v, %v; want %v", got, err, step.want)
		}
	}
	if _, lines, _ := old.got(); strings.Count(strings.Join(lines, "\n"), "RCPT TO:<user@") != 1 {
		t.Errorf("the first was asked %q", lines)
	}
	renamed := hopTo(now)
	renamed.Name = "another name"
	if _, _, err := c.Callout(t.Context(), renamed, user); err != nil {
		t.Error(err)
	}
	if _, lines, _ := now.got(); strings.Count(strings.Join(lines, "\n"), "RCPT TO:<user@") != 1 {
		t.Errorf("by another name it is asked again: %q", lines)
	}
}
