package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/mail"
)

// fast are times for tests in which a next hop does not answer, patient ones for
// tests in which it does, on a machine that is busy.
var (
	fast    = Options{SetupTimeout: 300 * time.Millisecond, CommandTimeout: 300 * time.Millisecond, BlockTimeout: 300 * time.Millisecond}
	patient = Options{SetupTimeout: 20 * time.Second, CommandTimeout: 20 * time.Second, BlockTimeout: 20 * time.Second}
)

func hopTo(f ...*fake) *Hop {
	h := &Hop{Name: "fake", TLS: TLSNone, Timeout: 20 * time.Second}
	for _, f := range f {
		h.To = append(h.To, f.address)
		h.LMTP = h.LMTP || f.lmtp
	}
	return h
}

func chunking() []string { return append(slices.Clone(allFeatures), "CHUNKING") }

func lockstep() []string {
	return slices.DeleteFunc(slices.Clone(allFeatures), func(s string) bool { return s == "PIPELINING" })
}

// TestOnlyAClearYesDelivers goes through what a next hop may say at each step.
// Nothing but a 2xx after the content makes a delivery, and a connection on
// which something went wrong is not used again.
func TestOnlyAClearYesDelivers(t *testing.T) {
	garbage := []string{"what?", "25", "99 x", "600 x", "250:x", "25a x", "", "250-x\n251 y", "-250 x", "250 " + strings.Repeat("x", 5000),
		strings.Repeat("250-x\n", 200) + "250 x"}
	steps := []string{"banner", "EHLO", "MAIL", "RCPT", "DATA", "."}
	type test struct {
		verb, reply string
		code        int
	}
	var tests []test
	for _, verb := range steps {
		for _, g := range garbage {
			tests = append(tests, test{verb, g, 451})
		}
		tests = append(tests, test{verb, "hang", 451}, test{verb, "close", 451}, test{verb, "421 4.3.2 going down|close", 451},
			test{verb, "100 wait", 451})
	}
	for _, verb := range []string{"MAIL", "RCPT", "DATA", "."} {
		tests = append(tests, test{verb, "550 5.7.1 no", 550}, test{verb, "550-5.7.1 no\n550 5.7.1 never", 550}, test{verb, "554", 554},
			test{verb, "452 4.3.1 later", 452}, test{verb, "450 later|close", 450}, test{verb, "550 5.7.1 no|close", 550})
	}
	tests = append(tests,
		test{"DATA", "250 2.0.0 accepted", 451}, // before any content
		test{"DATA", "354 go\n250 2.0.0 accepted", 451},
		test{"DATA", "354-go\n354 on", 250},
		test{".", "354 more?", 451},
		test{".", "250-kept\n250-and\n250 well", 250},
		test{".", "late: 250 kept", 250},
		test{".", "250 kept|close", 250},
		test{"banner", "450 busy", 451}, test{"banner", "554 no", 451}, test{"EHLO", "450 busy", 451},
	)
	for _, features := range [][]string{allFeatures, lockstep(), chunking()} {
		for _, c := range tests {
			if features[len(features)-1] == "CHUNKING" {
				if c.verb == "DATA" {
					continue
				}
				c.verb = strings.Replace(c.verb, ".", "BDAT", 1)
			}
			name := features[0] + "/" + features[len(features)-1] + "/" + c.verb + "/" + c.reply[:min(len(c.reply), 20)]
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := (&fake{features: features, say: map[string]string{c.verb: c.reply}}).start(t)
				o, hop := patient, hopTo(f)
				if c.reply == "hang" {
					o, hop.Timeout = fast, fast.CommandTimeout
				}
				client := newTestClient(t, o)
				out := client.Deliver(context.Background(), hop, newMail(sample, "user@example.com"))[0]
				if out.Reply.Code != c.code || out.Delivered != (c.code == 250) {
					t.Errorf("got %+v", out)
				}
				if !out.Delivered && out.Err == nil {
					t.Error("no cause for the log")
				}
				if strings.ContainsAny(out.Reply.Text, "\r\x00") || len(out.Reply.Text) > 3*maxReplyText {
					t.Errorf("reply is not fit to be passed on: %q", out.Reply.Text)
				}
				if c.code == 451 && client.Stats().Idle > 0 {
					t.Error("the connection is kept")
				}
				mails, _, _ := f.got()
				if len(mails) > 1 {
					t.Errorf("content was sent %d times", len(mails))
				}
			})
		}
	}
}

func TestNoContentWhenAllAreRefused(t *testing.T) {
	for name, features := range map[string][]string{"pipelining": allFeatures, "lockstep": lockstep()} {
		for _, data := range []string{"354 go on", "554 no recipients", "503 5.5.1 no"} {
			t.Run(name+"/"+data, func(t *testing.T) {
				f := (&fake{features: features, say: map[string]string{"RCPT": "550 5.1.1 unknown", "DATA": data}}).start(t)
				c := newTestClient(t, patient)
				for range 2 {
					for _, o := range c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com", "b@example.com")) {
						if o.Delivered || o.Reply.Code != 550 || o.Reply.Enhanced != [3]int{5, 1, 1} || o.Down {
							t.Errorf("%+v", o)
						}
					}
				}
				mails, lines, _ := f.got()
				if len(mails) != 0 {
					t.Errorf("content was sent: %q", mails)
				}
				if name == "lockstep" && slices.Contains(lines, "DATA") {
					t.Error("DATA was said without need")
				}
				for _, l := range lines {
					if strings.HasPrefix(l, "Subject") {
						t.Errorf("content was sent: %q", l)
					}
				}
				// The second transaction went over the same connection.
				if _, _, sessions := f.got(); sessions != 1 {
					t.Errorf("%d sessions", sessions)
				}
				if !slices.Contains(lines, "RSET") {
					t.Errorf("no RSET after a refusal: %q", lines)
				}
			})
		}
	}
}

func TestLoneDotIsNoDelivery(t *testing.T) {
	f := (&fake{say: map[string]string{"RCPT": "550 5.1.1 unknown", "DATA": "354 go on", ".": "250 2.0.0 kept"}}).start(t)
	c := newTestClient(t, patient)
	out := c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))[0]
	if out.Delivered || out.Reply.Code != 550 {
		t.Errorf("%+v", out)
	}
	if c.Stats().Idle != 0 {
		t.Error("a connection that accepts mail for nobody is kept")
	}
}

func TestSomeRefused(t *testing.T) {
	for name, features := range map[string][]string{"pipelining": allFeatures, "lockstep": lockstep(), "chunking": chunking()} {
		t.Run(name, func(t *testing.T) {
			f := (&fake{features: features, say: map[string]string{
				"RCPT TO:<b@example.com>": "550-5.1.1 no\n550-5.1.1 such\n550 5.1.1 user",
				"RCPT TO:<d@example.com>": "450 4.2.0 greylisted",
			}}).start(t)
			c := newTestClient(t, patient)
			out := c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com", "b@example.com", "c@example.com", "d@example.com"))
			for i, want := range []int{250, 550, 250, 450} {
				if out[i].Reply.Code != want || out[i].Delivered != (want == 250) || out[i].Down {
					t.Errorf("recipient %d: %+v", i, out[i])
				}
			}
			if out[1].Reply.Text != "no\nsuch\nuser" || out[1].Reply.Enhanced != [3]int{5, 1, 1} {
				t.Errorf("reply: %+v", out[1].Reply)
			}
			if mails, _, _ := f.got(); len(mails) != 1 || mails[0] != sample {
				t.Errorf("got %q", mails)
			}
		})
	}
}

func TestMidContent(t *testing.T) {
	large := strings.Repeat("0123456789012345678901234567890123456789012345678901234567890123456789\r\n", 100_000)
	for name, c := range map[string]struct {
		act  func(net.Conn)
		code int
	}{
		"closes":           {func(c net.Conn) { c.Close() }, 451},
		"refuses":          {func(c net.Conn) { io.WriteString(c, "552 5.3.4 too big\r\n"); io.CopyN(io.Discard, c, 3e6); c.Close() }, 552},
		"accepts too soon": {func(c net.Conn) { io.WriteString(c, "250 2.0.0 kept\r\n"); io.Copy(io.Discard, c) }, 451},
		"goes away":        {func(c net.Conn) { io.WriteString(c, "421 4.3.2 bye\r\n"); io.CopyN(io.Discard, c, 3e6); c.Close() }, 451},
		"does not read":    {func(c net.Conn) { time.Sleep(time.Second) }, 451},
	} {
		for _, features := range [][]string{allFeatures, chunking()} {
			t.Run(name+"/"+features[len(features)-1], func(t *testing.T) {
				t.Parallel()
				f := (&fake{features: features, inData: c.act}).start(t)
				o := patient
				if name == "does not read" {
					o.BlockTimeout = fast.BlockTimeout
				}
				client := newTestClient(t, o)
				out := client.Deliver(context.Background(), hopTo(f), newMail(large, "a@example.com"))[0]
				if out.Delivered || out.Reply.Code != c.code {
					t.Errorf("%+v", out)
				}
				if client.Stats().Idle != 0 {
					t.Error("the connection is kept")
				}
			})
		}
	}
}

func TestStaleConnection(t *testing.T) {
	for name, features := range map[string][]string{"pipelining": allFeatures, "lockstep": lockstep(), "chunking": chunking()} {
		t.Run(name, func(t *testing.T) {
			f := (&fake{features: features}).start(t)
			c := newTestClient(t, patient)
			hop := hopTo(f)
			if out := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com")); !out[0].Delivered {
				t.Fatalf("%+v", out[0])
			}
			// The next one on this connection finds it closed as soon as it says MAIL.
			if name == "chunking" {
				idleFor(c, time.Minute)
			}
			f.set("MAIL", "once: close")
			out := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]
			mails, _, sessions := f.got()
			if !out.Delivered || len(mails) != 2 || sessions != 2 {
				t.Errorf("%+v, %d mails, %d sessions", out, len(mails), sessions)
			}
		})
	}
}

// TestUselessPooledConnection goes through what a pooled connection may say
// before it answers MAIL: the message goes over a new one.
func TestUselessPooledConnection(t *testing.T) {
	for verb, replies := range map[string][]string{
		"MAIL": {"once: close", "once: 421 4.7.0 too many messages|close", "once: what?", "once: 421 bye"},
		"RSET": {"once: close", "once: 421 bye|close", "once: 500 what?", "once: what?"},
	} {
		for _, reply := range replies {
			f := (&fake{}).start(t)
			c := newTestClient(t, patient)
			first := newMail(sample, "a@example.com")
			if verb == "RSET" {
				f.set("RCPT", "once: 550 no")
			}
			c.Deliver(context.Background(), hopTo(f), first)
			f.set(verb, reply)
			out := c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))[0]
			if _, _, sessions := f.got(); !out.Delivered || sessions != 2 {
				t.Errorf("%s %s: %+v, %d sessions", verb, reply, out, sessions)
			}
		}
	}
}

// TestStaleOnlyOnce checks that a new connection that breaks is not tried again.
func TestStaleOnlyOnce(t *testing.T) {
	f := (&fake{}).start(t)
	c := newTestClient(t, patient)
	hop := hopTo(f)
	c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))
	f.set("MAIL", "close")
	out := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]
	if _, _, sessions := f.got(); out.Delivered || !out.Down || sessions != 2 {
		t.Errorf("%+v, %d sessions", out, sessions)
	}
}

// idleFor makes the pooled connections look unused for some time.
func idleFor(c *Client, d time.Duration) {
	c.pools.mu.Lock()
	defer c.pools.mu.Unlock()
	for _, p := range c.pools.m {
		for _, cn := range p.idle {
			cn.idle = time.Now().Add(-d)
		}
	}
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

func TestNoSecondTryAfterTheContent(t *testing.T) {
	for name, features := range map[string][]string{"DATA": allFeatures, "BDAT": chunking()} {
		t.Run(name, func(t *testing.T) {
			f := (&fake{features: features}).start(t)
			other := (&fake{}).start(t)
			c := newTestClient(t, patient)
			hop := hopTo(f, other)
			if out := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com")); !out[0].Delivered {
				t.Fatalf("%+v", out[0])
			}
			f.set(".", "close")
			f.set("BDAT", "close")
			out := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]
			if out.Delivered || out.Reply.Code != 451 || out.Down {
				t.Errorf("%+v", out)
			}
			if mails, _, n := f.got(); len(mails) != 2 || n != 1 {
				t.Errorf("%d mails over %d sessions", len(mails), n)
			}
			if mails, _, _ := other.got(); len(mails) != 0 {
				t.Error("the other address got a copy")
			}
		})
	}
}

func TestServerClosedWhileIdle(t *testing.T) {
	f := (&fake{say: map[string]string{".": "250 kept|close"}}).start(t)
	c := newTestClient(t, patient)
	for i := range 5 {
		if out := c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com")); !out[0].Delivered {
			t.Fatalf("%d: %+v", i, out[0])
		}
		waitFor(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.open == 0 })
	}
}

func TestUnaskedReplyEndsTheConnection(t *testing.T) {
	f := (&fake{say: map[string]string{".": "250 kept\n250 and more"}}).start(t)
	c := newTestClient(t, patient)
	for i := range 3 {
		out := c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))[0]
		if !out.Delivered || out.Reply.Text != "kept" {
			t.Errorf("%d: %+v", i, out)
		}
	}
	if _, _, n := f.got(); n != 3 {
		t.Errorf("%d sessions", n)
	}
}

func TestDeliverEndsWithContext(t *testing.T) {
	for _, verb := range []string{"banner", "MAIL", "DATA", "."} {
		f := (&fake{say: map[string]string{verb: "hang"}}).start(t)
		c := newTestClient(t, Options{})
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		hop := hopTo(f)
		hop.Timeout = time.Minute
		start := time.Now()
		out := c.Deliver(ctx, hop, newMail(sample, "a@example.com"))[0]
		cancel()
		if out.Delivered || !out.Reply.Temporary() {
			t.Errorf("%s: %+v", verb, out)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s: took %v", verb, d)
		}
		if st := c.Stats(); st.Busy != 0 {
			t.Errorf("%s: %+v", verb, st)
		}
	}
}

func TestLMTPUnclearMiddle(t *testing.T) {
	f := (&fake{lmtp: true, say: map[string]string{".2": "what?"}}).start(t)
	c := newTestClient(t, patient)
	out := c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com", "b@example.com", "c@example.com"))
	for i, want := range []int{250, 451, 451} {
		if out[i].Reply.Code != want || out[i].Delivered != (i == 0) {
			t.Errorf("recipient %d: %+v", i, out[i])
		}
	}
}

func TestContentThatLies(t *testing.T) {
	for name, m := range map[string]*Mail{
		"shorter":  {Size: 100, Bytes: [][]byte{[]byte("short\r\n")}},
		"longer":   {Size: 3, Bytes: [][]byte{[]byte("longer\r\n")}},
		"bare LF":  {Size: 9, Bytes: [][]byte{[]byte("a\r\nb\n.\r\n")}},
		"unopened": {Size: 9, Content: func() io.Reader { return io.MultiReader(strings.NewReader("a\r\n"), broken{}) }},
	} {
		for _, features := range [][]string{allFeatures, chunking()} {
			if name == "bare LF" && len(features) > len(allFeatures) {
				continue // a chunk may hold anything
			}
			f, other := (&fake{features: features}).start(t), (&fake{}).start(t)
			c := newTestClient(t, patient)
			m.From, m.To = path("a@example.org"), []mail.Recipient{{Path: path("b@example.com")}}
			out := c.Deliver(context.Background(), hopTo(f, other), m)[0]
			if out.Delivered || out.Down || out.Reply.OK() || name == "bare LF" && out.Reply.Code != 554 {
				t.Errorf("%s: %+v", name, out)
			}
			mails, _, _ := f.got()
			if others, _, _ := other.got(); len(mails)+len(others) != 0 {
				t.Errorf("%s: delivered %q", name, mails)
			}
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestStrayReply: what a next hop says unasked between two messages is no answer
// to the second.
func TestStrayReply(t *testing.T) {
	for _, stray := range []string{"500 5.5.2 bad syntax", "550 what", "250 again", "421 bye"} {
		for name, features := range map[string][]string{"pipelining": allFeatures, "lockstep": lockstep()} {
			t.Run(stray+"/"+name, func(t *testing.T) {
				f := (&fake{features: features, say: map[string]string{".": "once: 250 kept|" + stray, "RCPT TO:<b@example.com>": "550 5.1.1 no"}}).start(t)
				c := newTestClient(t, patient)
				if out := c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))[0]; !out.Delivered {
					t.Fatalf("%+v", out)
				}
				time.Sleep(5 * time.Millisecond)
				out := c.Deliver(context.Background(), hopTo(f), newMail(sample, "b@example.com", "c@example.com"))
				if out[0].Reply.Code != 550 || !out[1].Delivered {
					t.Errorf("%+v", out)
				}
			})
		}
	}
}

// slowReader is content that takes a while to be read.
type slowReader struct{ io.Reader }

func (s slowReader) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	return s.Reader.Read(p)
}

// TestEarlyYes: a yes that came while the content was still being read is none.
func TestEarlyYes(t *testing.T) {
	f := (&fake{say: map[string]string{"DATA": "354 go|250 taken"}}).start(t)
	c := newTestClient(t, patient)
	m := newMail(sample, "a@example.com")
	m.Bytes, m.Content = nil, func() io.Reader { return slowReader{strings.NewReader(sample)} }
	if out := c.Deliver(context.Background(), hopTo(f), m)[0]; out.Delivered || !out.Reply.Temporary() {
		t.Errorf("%+v", out)
	}
}

// TestClosesAfterEach: a next hop that ends the session after each message loses
// none.
func TestClosesAfterEach(t *testing.T) {
	for _, said := range []string{"250 kept|close", "250 kept\n421 that is all|close", "250 kept\n421 that is all"} {
		for name, features := range map[string][]string{"pipelining": allFeatures, "lockstep": lockstep(), "chunking": chunking()} {
			t.Run(said+"/"+name, func(t *testing.T) {
				end := "."
				if name == "chunking" {
					end = "BDAT"
				}
				f := (&fake{features: features, say: map[string]string{end: said}}).start(t)
				c := newTestClient(t, patient)
				const n = 20
				for range n {
					if out := c.Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))[0]; !out.Delivered {
						t.Fatalf("%+v", out)
					}
				}
				if mails, _, _ := f.got(); len(mails) != n {
					t.Errorf("%d messages, not %d", len(mails), n)
				}
			})
		}
	}
}

// TestSlowLastReply: the reply to the content has a limit of its own, which may
// be longer or shorter than that of commands, message after message.
func TestSlowLastReply(t *testing.T) {
	f := (&fake{say: map[string]string{".": "late: 250 kept"}}).start(t)
	c := newTestClient(t, Options{CommandTimeout: lateBy / 2})
	hop := hopTo(f)
	for _, tt := range []struct {
		limit     time.Duration
		delivered bool
	}{{20 * lateBy, true}, {20 * lateBy, true}, {lateBy / 4, false}, {20 * lateBy, true}} {
		hop.Timeout = tt.limit
		began := time.Now()
		out := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]
		if out.Delivered != tt.delivered || !tt.delivered && !errors.Is(out.Err, os.ErrDeadlineExceeded) {
			t.Errorf("limit %v: %+v", tt.limit, out)
		}
		if took := time.Since(began); took > 10*lateBy {
			t.Errorf("limit %v: took %v", tt.limit, took)
		}
	}
}

// TestSaid: whose word a reply is, so that nobody is told that a next hop said
// what it did not.
func TestSaid(t *testing.T) {
	for name, c := range map[string]struct {
		say      map[string]string
		features []string
		want     bool
	}{
		"delivered":          {nil, allFeatures, true},
		"refused at MAIL":    {map[string]string{"MAIL": "550 5.1.0 no"}, allFeatures, true},
		"refused at RCPT":    {map[string]string{"RCPT": "550 5.1.1 no"}, allFeatures, true},
		"put off at RCPT":    {map[string]string{"RCPT": "450 4.2.0 later"}, lockstep(), true},
		"refused at DATA":    {map[string]string{"DATA": "554 5.0.0 no"}, allFeatures, true},
		"refused at the end": {map[string]string{".": "552 5.3.4 too big"}, allFeatures, true},
		"goes away":          {map[string]string{"MAIL": "421 4.3.2 bye|close"}, allFeatures, true},
		"closes":             {map[string]string{".": "close"}, allFeatures, false},
		"garbage":            {map[string]string{".": "hello"}, allFeatures, false},
		"cannot greet":       {map[string]string{"banner": "450 busy"}, allFeatures, false},
		"too old":            {nil, []string{"SIZE 3"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := (&fake{say: c.say, features: c.features}).start(t)
			out := newTestClient(t, patient).Deliver(context.Background(), hopTo(f), newMail(sample, "a@example.com"))[0]
			if out.Said != c.want {
				t.Errorf("%+v", out)
			}
		})
	}
	hop := &Hop{Name: "nobody", To: []string{closedPort(t)}, TLS: TLSNone}
	if out := newTestClient(t, patient).Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]; out.Said || !out.Down {
		t.Errorf("nobody there: %+v", out)
	}
}
