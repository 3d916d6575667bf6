package virus

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func dial(setting string) *clamd {
	network, address, err := parseEngine(setting)
	if err != nil {
		panic(err)
	}
	return newClamd(network, address, 4)
}

func from(s string) func() io.Reader { return func() io.Reader { return strings.NewReader(s) } }

func TestClamd(t *testing.T) {
	f := &fake{reply: honest}
	c := dial(startFake(t, f))
	defer c.close()
	long := strings.Repeat("x", 3*chunk+17)
	for _, test := range []struct{ content, want string }{
		{"", ""}, {"hello", ""}, {"this is EVIL", "Test.Evil"}, {long, ""}, {long + "EVIL", "Test.Evil"},
		{strings.Repeat("y", chunk), ""}, {strings.Repeat("y", 2*chunk) + "EVIL", "Test.Evil"},
	} {
		name, err := c.scan(t.Context(), from(test.content))
		if err != nil || name != test.want {
			t.Errorf("%d bytes: %q, %v, want %q", len(test.content), name, err, test.want)
		}
	}
	if n := f.sessions.Load(); n != 1 {
		t.Errorf("%d connections for scans one after the other", n)
	}
}

// TestNeverClean lets clamd lie, stammer and stay silent: nothing of it is ever
// taken for "clean".
func TestNeverClean(t *testing.T) {
	say := func(s string) *fake { return &fake{reply: func(int, []byte) string { return s }} }
	for name, f := range map[string]*fake{
		"error":            say("1: stream: Can't allocate memory ERROR\x00"),
		"limit":            {limit: 10, reply: honest},
		"garbage":          say("\xff\xfe\x01garbage\x00"),
		"nothing":          say(""),
		"cut":              {once: true, reply: func(int, []byte) string { return "1: stream: O" }},
		"closed":           {once: true, reply: func(int, []byte) string { return "" }},
		"number of others": say("2: stream: OK\x00"),
		"no number":        say("stream: OK\x00"),
		"other file":       say("1: /etc/passwd: OK\x00"),
		"OK and more":      say("1: stream: OK, probably\x00"),
		"two replies":      say("1: stream: OK\x001: stream: Evil FOUND\x00"),
		"nameless find":    say("1: stream:  FOUND\x00"),
		"lower case":       say("1: stream: ok\x00"),
		"endless":          say(strings.Repeat("OK ", 10_000)),
		"HTTP":             say("HTTP/1.1 200 OK\r\n\r\n\x00"),
		"hanging":          {hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(startFake(t, f))
			defer c.close()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if found, err := c.scan(ctx, from(strings.Repeat("content ", 100))); err == nil || found != "" {
				t.Errorf("%q, %v: want an error", found, err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	c := dial("clamd:" + t.TempDir() + "/nobody")
	if _, err := c.scan(t.Context(), from("x")); err == nil {
		t.Error("a scan without clamd is clean")
	}
}

// TestOversize checks that the reason is told when clamd closes the connection
// in the middle of a stream.
func TestOversize(t *testing.T) {
	c := dial(startFake(t, &fake{limit: 100_000, reply: honest}))
	defer c.close()
	for range 5 {
		_, err := c.scan(t.Context(), from(strings.Repeat("x", 20<<20)))
		if err == nil {
			t.Fatal("a stream that was refused is clean")
		}
		if strings.Contains(err.Error(), "size limit exceeded") {
			return
		}
		// The kernel may throw the reply away with the connection: try again.
	}
	t.Error("never told why")
}

// TestStale checks that a session which clamd closed meanwhile is replaced.
func TestStale(t *testing.T) {
	f := &fake{once: true, reply: honest}
	c := dial(startFake(t, f))
	defer c.close()
	for i := range 3 {
		name, err := c.scan(t.Context(), from("EVIL"))
		if err != nil || name != "Test.Evil" {
			t.Fatalf("scan %d: %q, %v", i, name, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := f.sessions.Load(); n != 3 {
		t.Errorf("%d sessions", n)
	}
}

// TestIdle checks that an old session is not used again.
func TestIdle(t *testing.T) {
	f := &fake{reply: honest}
	c := dial(startFake(t, f))
	defer c.close()
	for range 2 {
		if _, err := c.scan(t.Context(), from("x")); err != nil {
			t.Fatal(err)
		}
		c.idle[0].used = time.Now().Add(-time.Minute)
	}
	if n := f.sessions.Load(); n != 2 {
		t.Errorf("%d sessions", n)
	}
}

func TestContentFails(t *testing.T) {
	c := dial(startFake(t, &fake{reply: honest}))
	defer c.close()
	bad := errors.New("disk broke")
	for _, before := range []string{"", strings.Repeat("x", 2*chunk)} {
		_, err := c.scan(t.Context(), func() io.Reader {
			return io.MultiReader(strings.NewReader(before), iotestErr{bad})
		})
		if !errors.Is(err, bad) {
			t.Errorf("after %d bytes: %v", len(before), err)
		}
	}
}

type iotestErr struct{ err error }

func (r iotestErr) Read([]byte) (int, error) { return 0, r.err }

func TestConnectionsLimited(t *testing.T) {
	f := &fake{reply: honest}
	c := newClamd("unix", strings.TrimPrefix(startFake(t, f), "clamd:"), 2)
	defer c.close()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if name, err := c.scan(t.Context(), from("EVIL")); err != nil || name == "" {
				t.Errorf("%q, %v", name, err)
			}
		})
	}
	wg.Wait()
	if n := f.sessions.Load(); n > 2 {
		t.Errorf("%d connections, allowed are 2", n)
	}
	c.slots <- struct{}{}
	c.slots <- struct{}{}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.scan(ctx, from("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestParseEngine(t *testing.T) {
	for text, want := range map[string]string{
		"clamd:/run/clamav/clamd.ctl": "unix /run/clamav/clamd.ctl",
		"clamd:127.0.0.1:3310":        "tcp 127.0.0.1:3310",
		"clamd:[::1]:3310":            "tcp [::1]:3310",
		"clamd:scanner.example:3310":  "tcp scanner.example:3310",
	} {
		network, address, err := parseEngine(text)
		if err != nil || network+" "+address != want {
			t.Errorf("%s: %s %s, %v", text, network, address, err)
		}
	}
	for _, text := range []string{"", "clamd", "clamd:", "clamd:host", "clamd::3310", "clamd:host:", "icap://x", "/run/clamav/clamd.ctl"} {
		if _, _, err := parseEngine(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func FuzzVerdict(f *testing.F) {
	for _, s := range []string{"1: stream: OK", "1: stream: X FOUND", "1: stream: X ERROR", "", "1: stream:  FOUND", "OK"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		name, err := verdict(line, 1)
		if err == nil && name == "" && line != "1: stream: OK" {
			t.Errorf("%q is clean", line)
		}
		if err != nil && name != "" {
			t.Errorf("%q: a name and an error", line)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add([]byte("1: stream: OK\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		go func() {
			theirs.Write(b)
			theirs.Close()
		}()
		line, err := (&session{conn: ours}).reply()
		ours.Close()
		if err == nil && !bytes.HasPrefix(b, []byte(line+"\x00")) {
			t.Errorf("%q was read as %q", b, line)
		}
	})
}
