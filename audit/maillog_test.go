package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"postern/store/storetest"
)

var (
	alice = "alice@partner.example"
	bob   = "bob@example.org"
)

func verdictEvent() MailEvent {
	return MailEvent{At: storetest.Epoch, Msg: MsgVerdict, ID: "01J8ZK4Q", Direction: "inbound", Client: "203.0.113.9", Helo: "mail.spam.example",
		From: "billing@microsoft-security-alerts.com", Rcpts: 1, Size: 2412, Score: 11.4, Rule: "lookalike-domains",
		Action: "quarantine", Queue: "spam", Symbols: []string{"SPF_FAIL", "DMARC_FAIL"}, SPF: "fail", DKIM: "none", DMARC: "fail", Policy: "5f3a09",
		Took: 48 * time.Millisecond, Subject: "Action required"}
}

func deliveredEvent() MailEvent {
	return MailEvent{At: storetest.Epoch.Add(1508 * time.Millisecond), Msg: MsgDelivered, ID: "01J8ZK4R", From: alice, To: bob, Relay: "exchange[10.0.5.10]:25",
		TLS: "1.3", ClientTLS: "TLS1.2/C", ClientCert: "CN=printer,O=A B", Delay: 412 * time.Millisecond, DSN: "2.0.0", Status: "sent", Reply: `250 2.6.0 <x@y> "Queued"`}
}

func write(e MailEvent, o MailLogOptions) string {
	var b bytes.Buffer
	NewMailLog(&b, o).Write(e)
	return b.String()
}

func TestMailLog(t *testing.T) {
	null := MailEvent{At: storetest.Epoch, Level: slog.LevelWarn, Msg: MsgBounced, To: "postmaster", Scored: true, Took: 1500 * time.Microsecond,
		Would: "reject", By: "marie", Reason: "no such user", Held: "h1"}
	quoted := MailEvent{At: storetest.Epoch, Msg: MsgHeld, ID: "x", From: `"a b"@c.example`, To: "zoë@xn--a.example", Symbols: []string{"A b", "C"}}
	for _, c := range []struct {
		e    MailEvent
		o    MailLogOptions
		want string
	}{
		{verdictEvent(), MailLogOptions{}, `2026-11-21T09:41:07.512Z level=info id=01J8ZK4Q msg=verdict dir=inbound client=203.0.113.9 helo=mail.spam.example from=<billing@microsoft-security-alerts.com> rcpts=1 size=2412 score=11.4 rule=lookalike-domains action=quarantine queue=spam symbols=SPF_FAIL,DMARC_FAIL spf=fail dkim=none dmarc=fail policy=5f3a09 took=48ms`},
		{deliveredEvent(), MailLogOptions{}, `2026-11-21T09:41:09.020Z level=info id=01J8ZK4R msg=delivered from=<alice@partner.example> to=<bob@example.org> relay=exchange[10.0.5.10]:25 tls=1.3 delay=0.41 dsn=2.0.0 status=sent reply="250 2.6.0 <x@y> \"Queued\"" client_tls=TLS1.2/C client_cert="CN=printer,O=A B"`},
		{null, MailLogOptions{}, `2026-11-21T09:41:07.512Z level=warn id="" msg=bounced held=h1 from=<> to=<postmaster> score=0 would=reject took=1.5ms by=marie reason="no such user"`},
		{quoted, MailLogOptions{}, `2026-11-21T09:41:07.512Z level=info id=x msg=held from="<\"a b\"@c.example>" to=<zoë@xn--a.example> symbols="A b,C"`},
		{verdictEvent(), MailLogOptions{JSON: true, Subjects: true}, `{"time":"2026-11-21T09:41:07.512Z","level":"info","id":"01J8ZK4Q","msg":"verdict","dir":"inbound","client":"203.0.113.9","helo":"mail.spam.example","from":"billing@microsoft-security-alerts.com","rcpts":1,"size":2412,"subject":"Action required","score":11.4,"rule":"lookalike-domains","action":"quarantine","queue":"spam","symbols":["SPF_FAIL","DMARC_FAIL"],"spf":"fail","dkim":"none","dmarc":"fail","policy":"5f3a09","took":0.048000}`},
	} {
		got := write(c.e, c.o)
		if got != c.want+"\n" {
			t.Errorf("got  %swant %s", got, c.want)
		}
		if c.o.JSON && !json.Valid([]byte(got)) {
			t.Errorf("not JSON: %s", got)
		}
	}
	if got := write(MailEvent{}, MailLogOptions{Now: func() time.Time { return storetest.Epoch }}); !strings.HasPrefix(got, "2026-11-21T09:41:07.512Z ") {
		t.Errorf("the clock was not used: %s", got)
	}
}

// split takes a logfmt line apart as a strict reader does.
func split(t *testing.T, text string) map[string]string {
	t.Helper()
	if !strings.HasSuffix(text, "\n") || strings.Count(text, "\n") != 1 {
		t.Fatalf("not one line: %q", text)
	}
	_, rest, _ := strings.Cut(strings.TrimSuffix(text, "\n"), " ")
	found := map[string]string{}
	for rest != "" {
		key, after, ok := strings.Cut(rest, "=")
		if !ok || strings.ContainsAny(key, " \"") {
			t.Fatalf("bad key in %q", rest)
		}
		var value string
		if strings.HasPrefix(after, `"`) {
			d := json.NewDecoder(strings.NewReader(after))
			if err := d.Decode(&value); err != nil {
				t.Fatalf("bad value in %q: %v", after, err)
			}
			rest = after[d.InputOffset():]
		} else {
			value, _, _ = strings.Cut(after, " ")
			rest = after[len(value):]
		}
		if rest != "" && rest[0] != ' ' {
			t.Fatalf("no space after %s in %q", key, text)
		}
		rest = strings.TrimPrefix(rest, " ")
		if _, twice := found[key]; twice {
			t.Fatalf("%s twice in %q", key, text)
		}
		found[key] = value
	}
	return found
}

func hostile(t *testing.T, s string) {
	e := MailEvent{ID: s, Msg: MsgRejected, Held: s, Queued: s, Client: s, Helo: s, From: s, To: s, Subject: s, Relay: s, TLS: s,
		DSN: s, Status: s, Reply: s, Rule: s, Action: s, Queue: s, Symbols: []string{s, "X"}, SPF: s, DKIM: s, DMARC: s, Policy: s, Would: s, By: s, Reason: s, Direction: s}
	text := write(e, MailLogOptions{Subjects: true})
	clean := strings.ToValidUTF8(s, "")
	for _, r := range text[:len(text)-1] {
		if r < ' ' || r == 0x7f || unsafeRune(r) {
			t.Fatalf("%q stands in the line %q", r, text)
		}
	}
	found := split(t, text)
	if utf8.ValidString(s) && (found["helo"] != clean || found["reason"] != clean) {
		t.Errorf("helo %q, reason %q, want %q", found["helo"], found["reason"], clean)
	}
	if found["msg"] != MsgRejected {
		t.Errorf("msg was changed by %q", s)
	}
	text = write(e, MailLogOptions{JSON: true, Subjects: true})
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil || strings.Count(text, "\n") != 1 || object["msg"] != MsgRejected {
		t.Errorf("JSON of %q: %v: %s", s, err, text)
	}
}

var hostiles = []string{"a\nlevel=info id=forged", "a\r\nb", "a msg=delivered", `a" msg="delivered`, `\`, `\"`, "\x00\x1b[2J", "\u2028\u2029\u0085", "\u202eevil",
	"\xff\xfe", "é\xc3", "=", "", " ", "\"", "\ufffd", "\ufeff", "日本", "a=b", "\x7f"}

func TestLogInjection(t *testing.T) {
	for _, s := range hostiles {
		hostile(t, s)
	}
}

func FuzzMailLog(f *testing.F) {
	for _, s := range hostiles {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if s != "" {
			hostile(t, s)
		}
	})
}

type secret struct{}

func (secret) String() string { return "<secret>" }

func TestLogfmtHandler(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(NewLogfmt(&out, nil))
	check := func(want string) {
		t.Helper()
		got := out.String()
		out.Reset()
		if len(got) < 25 || got[25:] != want+"\n" {
			t.Errorf("got  %swant %s", got, want)
		}
		split(t, got)
	}
	log.Debug("hidden")
	log.Info("policy loaded", "rules", 12, "size", uint64(3), "score", 1.5, "ok", true, "took", time.Second, "at", storetest.Epoch)
	check(`level=info msg="policy loaded" rules=12 size=3 score=1.5 ok=true took=1s at=2026-11-21T09:41:07.512Z`)
	log.Error("failed", "err", errors.New("line\nbreak"), "key", secret{}, "nil", nil, "empty", "")
	check(`level=error msg=failed err="line\nbreak" key=<secret> nil=<nil> empty=""`)
	log.With("a", 1).WithGroup("g").With("b", "x y").WithGroup("").Warn("m", "c", 2, slog.Group("h", "d", 3), slog.Group("", "e", 4), slog.Attr{})
	check(`level=warn msg=m a=1 g.b="x y" g.c=2 g.h.d=3 g.e=4`)
	log.Log(ctx, slog.LevelInfo+2, "m", "bad key=\"x\n", 1)
	check(`level=info+2 msg=m bad_key__x_=1`)

	slog.New(NewJSON(&out, slog.LevelDebug)).WithGroup("g").Debug("m\n", "level", "x")
	var object map[string]any
	if err := json.Unmarshal(out.Bytes(), &object); err != nil || object["level"] != "debug" || object["msg"] != "m\n" {
		t.Errorf("%v: %s", err, out.Bytes())
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestLineWriter(t *testing.T) {
	for _, every := range []time.Duration{0, time.Hour, time.Millisecond} {
		var out bytes.Buffer
		w := NewLineWriter(&out, every)
		var wg sync.WaitGroup
		for range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				l := NewMailLog(w, MailLogOptions{})
				for range 200 {
					l.Write(deliveredEvent())
				}
			}()
		}
		wg.Wait()
		w.Close()
		w.Close()
		w.Write([]byte("after\n"))
		want := strings.Repeat(write(deliveredEvent(), MailLogOptions{}), 1600) + "after\n"
		if out.String() != want {
			t.Errorf("every %v: %d bytes, want %d, or lines are mixed", every, out.Len(), len(want))
		}
	}
	for _, every := range []time.Duration{0, time.Hour} {
		w := NewLineWriter(brokenWriter{}, every)
		w.Write([]byte("12345\n"))
		w.Close()
		if w.Lost() != 6 {
			t.Errorf("lost %d bytes, want 6", w.Lost())
		}
	}
}

func BenchmarkMailLog(b *testing.B) {
	for name, every := range map[string]time.Duration{"direct": 0, "gathered": time.Second} {
		b.Run(name, func(b *testing.B) {
			w := NewLineWriter(discard{}, every)
			defer w.Close()
			l := NewMailLog(w, MailLogOptions{})
			e := deliveredEvent()
			b.ReportAllocs()
			for b.Loop() {
				l.Write(e)
			}
		})
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
