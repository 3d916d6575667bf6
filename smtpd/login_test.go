package smtpd

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var testHost = netip.MustParseAddr("192.0.2.1")

func TestFailures(t *testing.T) {
	now := time.Unix(1000, 0)
	c := (Config{MaxFailures: 3, Ban: time.Minute, AuthDelay: time.Second, Now: func() time.Time { return now }}).withDefaults()
	f := newFailures()
	other := netip.MustParseAddr("192.0.2.2")
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		if f.banned(testHost, "Alice", c) {
			t.Fatalf("banned after %d", i)
		}
		if got := f.add(testHost, "alice", c); got != want {
			t.Errorf("delay %v, want %v", got, want)
		}
	}
	if !f.banned(testHost, "ALICE", c) {
		t.Error("not banned")
	}
	// Nobody else is.
	if f.banned(other, "alice", c) || f.banned(testHost, "bob", c) || f.bannedHost(testHost, c) {
		t.Error("others are banned")
	}
	// Who tries one account after the other is banned as an address.
	for i := range addressFactor*c.MaxFailures - 3 {
		if d := f.add(testHost, "user"+strings.Repeat("x", i), c); d < 4*time.Second || d > maxAuthDelay {
			t.Errorf("delay %v", d)
		}
	}
	if !f.bannedHost(testHost, c) || !f.banned(testHost, "bob", c) || f.bannedHost(other, c) {
		t.Error("the address is not banned, or another is")
	}
	now = now.Add(c.Ban)
	if f.banned(testHost, "alice", c) || f.bannedHost(testHost, c) {
		t.Error("banned for ever")
	}
	if got := f.add(testHost, "alice", c); got != time.Second {
		t.Errorf("delay after the ban %v", got)
	}
	f.add(testHost, "alice", c)
	f.forget(testHost, "alice")
	if f.add(testHost, "alice", c); f.banned(testHost, "alice", c) {
		t.Error("success was not counted")
	}
}

func TestBanLastsOverSessions(t *testing.T) {
	g := start(t, Config{TLS: "implicit", Auth: true, MaxFailures: 2}, &backend{})
	try := func(want, user, password string) *client {
		c := g.dial(t)
		c.upgrade()
		c.expect("220")
		c.cmd("250", "EHLO c")
		c.cmd(want, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
		return c
	}
	try("535", "alice", "wrong").cmd("250", "NOOP")
	try("535", "alice", "wrong")
	asked := g.auths
	c := try("421 4.7.0", "alice", "secret")
	c.closed()
	if g.auths != asked {
		t.Error("a banned login was verified")
	}
	for i := range 6 {
		try("535", "user"+string(rune('a'+i)), "wrong")
	}
	d := g.dial(t)
	d.upgrade()
	d.expect("421 4.7.0")
	d.closed()
}

// Guesses that are verified side by side are no more than others: when enough of
// them were wrong the right one does not win either.
func TestGuessesSideBySide(t *testing.T) {
	arrived, verify := make(chan struct{}), make(chan struct{})
	g := start(t, Config{TLS: "implicit", Auth: true, MaxFailures: 2, AuthDelay: time.Millisecond}, &backend{onAuth: func(password string) {
		if password == "secret" {
			close(arrived)
			<-verify
		}
	}})
	login := func(password string) *client {
		c := g.dial(t)
		c.upgrade()
		c.expect("220")
		c.cmd("250", "EHLO c")
		c.send("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00alice\x00"+password)) + "\r\n")
		return c
	}
	right := login("secret")
	<-arrived
	for range 2 {
		login("wrong").expect("535")
	}
	close(verify)
	right.expect("421 4.7.0")
	right.closed()
}

func TestLoginNotVerified(t *testing.T) {
	g := start(t, Config{TLS: "implicit", Auth: true, MaxFailures: 1}, &backend{authErr: errors.New("directory down")})
	c := g.dial(t)
	c.upgrade()
	c.expect("220")
	c.cmd("250", "EHLO c")
	for range 3 { // not the user's fault
		c.cmd("454 4.7.0", "AUTH PLAIN AGFsaWNlAHNlY3JldA==")
	}
}

func TestLoginSentAhead(t *testing.T) {
	g := start(t, Config{TLS: "implicit", Auth: true}, &backend{})
	c := g.dial(t)
	c.upgrade()
	c.expect("220")
	c.cmd("250", "EHLO c")
	c.cmd("334", "AUTH LOGIN")
	c.send("YWxpY2U=\r\nc2VjcmV0\r\n")
	c.expect("554 5.5.0")
	c.end()
}

func TestHashPassword(t *testing.T) {
	a, err := HashPassword("secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := HashPassword("secret", nil)
	if a == b || !strings.HasPrefix(a, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("%s, %s", a, b)
	}
	if _, err := HashPassword("", nil); err == nil {
		t.Error("empty password was hashed")
	}
	if _, err := HashPassword("x", strings.NewReader("short")); err == nil {
		t.Error("hashed without salt")
	}
}

// cheap makes a hash for a test.
func cheap(t *testing.T, password string) string {
	t.Helper()
	h, err := HashPassword(password, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAccounts(t *testing.T) {
	name := filepath.Join(t.TempDir(), "accounts")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# users\n\nAlice: " + cheap(t, "secret") + "\n")
	a, err := OpenAccounts(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := a.Verify(ctx, "alice", "secret"); err != nil {
		t.Errorf("right: %v", err)
	}
	if err := a.Verify(ctx, "ALICE", "Secret"); !errors.Is(err, ErrAuth) {
		t.Errorf("wrong: %v", err)
	}
	if err := a.Verify(ctx, "bob", "secret"); !errors.Is(err, ErrAuth) {
		t.Errorf("unknown: %v", err)
	}
	// A change is seen; a bad file is not taken.
	write("bob:" + cheap(t, "other") + "\n#" + strings.Repeat("x", 100) + "\n")
	a.next = time.Time{}
	if err := a.Verify(ctx, "bob", "other"); err != nil {
		t.Errorf("after the change: %v", err)
	}
	write("bob\n")
	a.next = time.Time{}
	if err := a.Verify(ctx, "bob", "other"); err != nil {
		t.Errorf("after a bad change: %v", err)
	}
	// All are busy, and the client goes.
	for range cap(a.work) {
		a.work <- struct{}{}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := a.Verify(gone, "bob", "other"); err == nil || errors.Is(err, ErrAuth) {
		t.Errorf("busy: %v", err)
	}
}

func TestAccountsThatDoNotLoad(t *testing.T) {
	good := cheap(t, "x")
	for text, want := range map[string]string{
		"alice":                            ":1: want user:hash",
		"\n:" + good:                       ":2: want user:hash",
		"a:" + good + "\nA:" + good:        ":2: user a stands here twice",
		"a:$2y$10$abc":                     "not an argon2id hash",
		"a:$argon2id$v=19$m=x$c2FsdA$a2V5": "parameters",
		"a:$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5": "out of bounds",
		"a:$argon2id$v=19$m=19456,t=2,p=1$!!!$a2V5a2V5a2V5a2V5a2V5":           "damaged",
		"a:$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$a2V5":                        "damaged",
	} {
		name := filepath.Join(t.TempDir(), "accounts")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenAccounts(name, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := OpenAccounts(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := network(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("network(%s) = %s, want %s", in, got, want)
		}
	}
	if network(netip.Addr{}).IsValid() {
		t.Error("no address became one")
	}
}

func TestAddresses(t *testing.T) {
	a := newAddresses()
	for n, want := range []bool{true, true, false} {
		if a.enter(testHost, 2) != want {
			t.Errorf("connection %d: want %v", n, want)
		}
	}
	a.leave(testHost)
	if !a.enter(testHost, 2) {
		t.Error("leave was not counted")
	}
	a.leave(testHost)
	a.leave(testHost)
	if len(a.known) != 0 {
		t.Errorf("%d are remembered", len(a.known))
	}
	now := time.Unix(1000, 0)
	r := Rate{2, time.Minute}
	for n, want := range []bool{true, true, false} {
		if a.allow(testHost, r, now) != want {
			t.Errorf("message %d: want %v", n, want)
		}
	}
	if !a.allow(testHost, r, now.Add(30*time.Second)) {
		t.Error("rate never recovers")
	}
	// The table does not grow for ever.
	at := netip.MustParseAddr("10.0.0.0")
	for range 5000 {
		at = at.Next()
		now = now.Add(time.Second)
		a.allow(at, r, now)
	}
	if len(a.known) > 2500 {
		t.Errorf("%d are remembered", len(a.known))
	}
}

// TestDelayByAccount: guesses at one account from many addresses wait longer and
// longer, but nobody is locked out by them.
func TestDelayByAccount(t *testing.T) {
	c := (Config{MaxFailures: 3, AuthDelay: 250 * time.Millisecond}).withDefaults()
	f := newFailures()
	var last time.Duration
	for i := range 10 {
		host := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		delay := f.add(host, "Anna", c)
		if delay < last || i == 5 && delay != maxAuthDelay {
			t.Errorf("guess %d waits %v after %v", i, delay, last)
		}
		last = delay
		if f.banned(host, "anna", c) {
			t.Errorf("guess %d: banned", i)
		}
	}
	if d := f.add(netip.MustParseAddr("198.51.100.1"), "other", c); d != c.AuthDelay {
		t.Errorf("another account waits %v", d)
	}
	for range 5 {
		if d := f.add(netip.MustParseAddr("2001:db8::1"), "", c); d > maxAuthDelay {
			t.Errorf("no account: %v", d)
		}
	}
	if f.accounts.Len() != 2 {
		t.Errorf("%d accounts are remembered", f.accounts.Len())
	}
}
