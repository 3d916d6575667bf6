package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/audit"
)

// reloadedPolicy takes a number, by which the policies are told apart, and the
// address of the next hop.
const reloadedPolicy = `version = 1
site = { domains = ["example.org"], hostname = "gw.example.org" }
[[upstream]]
name = "mail"
to   = ["%[2]s"]
tls  = "none"
for  = ["example.org"]
[[listener]]
name    = "in"
address = "127.0.0.1:0"
tls     = "off"
limits  = { per_ip = 400, connections = 500, messages = 1000000, errors = 1000000 }
[queue]
reserve = "1MB"
[[rule]]
name   = "which"
match  = { to = "which@example.org" }
action = "reject"
reply  = "550 5.7.1 policy %[1]d"
[[test]]
name   = "which"
mail   = { to = "which@example.org" }
expect = { disposition = "reject", rule = "which" }
`

// badPolicies are ways to spoil a policy, each refused at another place.
var badPolicies = []struct{ name, old, new string }{
	{"no TOML", "version = 1", "version = ["},
	{"unknown key", "action = \"reject\"", "acton = \"reject\""},
	{"failing test", "disposition = \"reject\"", "disposition = \"quarantine\""},
	{"no such CA", "tls  = \"none\"", "tls  = \"verify\"\nca = \"/nowhere/ca.pem\""},
	{"no such recipients", "tls  = \"none\"", "tls  = \"none\"\nrecipients = { check = \"file\", file = \"/nowhere/list\" }"},
	{"address in use", "[queue]", "[[listener]]\nname = \"second\"\naddress = \"TAKEN\"\ntls = \"off\"\n[queue]"},
	{"no such accounts", "tls     = \"off\"", "tls     = \"optional\"\nauth    = { backend = \"file\", file = \"/nowhere/accounts\" }"},
	{"no such certificate", "tls     = \"off\"", "tls     = \"optional\"\n[tls]\ncertificate = \"/nowhere/cert\"\nkey = \"/nowhere/key\""},
}

// A busyClient sends mail in one session for as long as it may.
type busyClient struct {
	c net.Conn
	r *bufio.Reader
}

func dialBusy(addr string) (*busyClient, error) {
	c, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err != nil {
		return nil, err
	}
	b := &busyClient{c, bufio.NewReader(c)}
	if err := b.expect("220"); err != nil {
		return nil, err
	}
	return b, b.say("EHLO client.example\r\n", "250")
}

// say writes text and reads one reply for each of the codes.
func (b *busyClient) say(text string, codes ...string) error {
	b.c.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.WriteString(b.c, text); err != nil {
		return err
	}
	return b.expect(codes...)
}

func (b *busyClient) expect(codes ...string) error {
	for _, code := range codes {
		for {
			line, err := b.r.ReadString('\n')
			if err != nil {
				return err
			}
			if !strings.HasPrefix(line, code) {
				return fmt.Errorf("expected %s, told %q", code, line)
			}
			if line[3] != '-' {
				break
			}
		}
	}
	return nil
}

// send sends one message.
func (b *busyClient) send() error {
	if err := b.say("MAIL FROM:<alice@sender.example>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n", "250", "250", "354"); err != nil {
		return err
	}
	return b.say("From: alice@sender.example\r\nSubject: x\r\n\r\nHello.\r\n.\r\n", "250")
}

// TestReloadUnderLoad: while 200 sessions are busy the policy is read fifty
// times, and every other time it is bad. No session ends, no message is refused
// or lost, and the old policy stays in force when the new one is bad.
func TestReloadUnderLoad(t *testing.T) {
	const sessions, reloads = 200, 50
	toy, err := startToy()
	if err != nil {
		t.Fatal(err)
	}
	defer toy.close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.toml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "TAKEN", taken.Addr().String())), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := func(n int) string { return fmt.Sprintf(reloadedPolicy, n, toy.addr) }
	write(good(0))
	in, err := start(t.Context(), settings{file: file, state: filepath.Join(dir, "state"), log: slog.New(slog.DiscardHandler), mailLog: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer in.stop(context.Background())

	var sent atomic.Int64
	var busy sync.WaitGroup
	stop := make(chan struct{})
	for range sessions {
		b, err := dialBusy(in.addr("in"))
		if err != nil {
			t.Fatal(err)
		}
		defer b.c.Close()
		busy.Go(func() {
			for {
				select {
				case <-stop:
					if err := b.say("QUIT\r\n", "221"); err != nil {
						t.Errorf("the session is gone: %v", err)
					}
					return
				case <-time.After(50 * time.Millisecond): // so that the processor has time for reloads too
				}
				if err := b.send(); err != nil {
					t.Errorf("a message is lost: %v", err)
					return
				}
				sent.Add(1)
			}
		})
	}
	which, err := dialBusy(in.addr("in"))
	if err != nil {
		t.Fatal(err)
	}
	defer which.c.Close()
	inForce := 0
	for n := 1; n <= reloads && !t.Failed(); n++ {
		hash := in.gateway.State().Policy.Hash
		if n%2 == 0 {
			write(good(n))
			if err := in.reload(t.Context(), "test"); err != nil || in.gateway.State().Policy.Hash == hash {
				t.Fatalf("reload %d: %v", n, err)
			}
			inForce = n
		} else {
			bad := badPolicies[n/2%len(badPolicies)]
			text := strings.Replace(good(n), bad.old, bad.new, 1)
			if text == good(n) {
				t.Fatalf("%s spoils nothing", bad.name)
			}
			write(text)
			if err := in.reload(t.Context(), "test"); err == nil || in.gateway.State().Policy.Hash != hash || in.stale == "" {
				t.Fatalf("%s: %v, state %q", bad.name, err, in.stale)
			}
		}
		if err := which.say("MAIL FROM:<a@sender.example>\r\nRCPT TO:<which@example.org>\r\nRSET\r\n", "250", fmt.Sprintf("550 5.7.1 policy %d ", inForce), "250"); err != nil {
			t.Errorf("after reload %d: %v", n, err)
		}
		for target := sent.Load() + 20; sent.Load() < target && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	close(stop)
	busy.Wait()
	checkReloads(t, in, sent.Load(), reloads)
}

// checkReloads looks whether everything is accounted for.
func checkReloads(t *testing.T, in *instance, sent int64, reloads int) {
	t.Helper()
	if got := in.relay.Stats().Delivered; got != sent {
		t.Errorf("%d messages accepted, %d delivered", sent, got)
	}
	if n := in.spool.Len(); n != 0 {
		t.Errorf("%d in the queue", n)
	}
	records, err := in.audit.List(context.Background(), audit.Query{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	done, refused := 0, 0
	for _, r := range records {
		switch {
		case r.Event == audit.Reload && strings.HasPrefix(r.Detail, "refused"):
			refused++
		case r.Event == audit.Reload:
			done++
		}
	}
	if done != reloads/2 || refused != reloads/2 {
		t.Errorf("the audit log knows of %d reloads and %d refused ones", done, refused)
	}
	t.Logf("%d messages", sent)
}
