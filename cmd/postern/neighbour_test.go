package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// This file has the mail servers that Postern is tried with: Debian's Postfix
// and Dovecot, each started from a configuration of its own on loopback ports,
// and a next hop that keeps what it gets. No system service is touched.

// needRoot skips the test when it cannot start a mail server here. Where the
// tests must be complete (POSTERN_CI=1) it fails instead.
func needRoot(t *testing.T, programs ...string) {
	t.Helper()
	missing := ""
	if os.Getuid() != 0 {
		missing = "root"
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing = p
		}
	}
	switch {
	case missing == "":
	case os.Getenv("POSTERN_CI") == "1":
		t.Fatalf("needs %s", missing)
	default:
		t.Skipf("needs %s", missing)
	}
}

// openDir makes a temporary folder that other users may enter, as a mail server
// does when it gives up root. Its path is short: it holds sockets.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "postern")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// unusedPort returns a port of 127.0.0.1 that nobody listens on.
func unusedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// waitFor tries until ok or until a generous time is over.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// greets reports whether an SMTP server says 220 at addr.
func greets(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return false
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "220") {
		return false
	}
	_, err = io.WriteString(c, "QUIT\r\n")
	return err == nil
}

// command runs a program and fails the test when that fails.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// A delivery is one message that the last next hop got.
type delivery struct {
	from string
	to   []string
	data string
}

// A sink is the last next hop: it keeps every message.
type sink struct {
	addr string
	mu   sync.Mutex
	got  []delivery
}

func startSink(t *testing.T) *sink { return startSinkAt(t, "127.0.0.1:0") }

func startSinkAt(t *testing.T, addr string) *sink {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{addr: l.Addr().String()}
	server := smtp.NewServer(s)
	server.Domain = "sink.example.org"
	server.EnableSMTPUTF8 = true
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return s
}

func (s *sink) port() string {
	_, port, _ := strings.Cut(s.addr, ":")
	return port
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// with returns the messages that contain text.
func (s *sink) with(text string) []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []delivery
	for _, d := range s.got {
		if strings.Contains(d.data, text) {
			found = append(found, d)
		}
	}
	return found
}

// NewSession implements smtp.Backend.
func (s *sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }

type sinkSession struct {
	sink *sink
	now  delivery
}

func (s *sinkSession) Reset()        { s.now = delivery{} }
func (s *sinkSession) Logout() error { return nil }

func (s *sinkSession) Mail(from string, _ *smtp.MailOptions) error {
	s.now = delivery{from: from}
	return nil
}

func (s *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.now.to = append(s.now.to, to)
	return nil
}

func (s *sinkSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.now.data = string(b)
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.sink.got = append(s.sink.got, s.now)
	return nil
}

// A postfix is a running Postfix of the test's own.
type postfix struct {
	dir  string
	port int // where strangers speak to it
}

const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = front.example.org
mydestination =
relay_domains = example.org
mynetworks = 127.0.0.1/32
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_tls_security_level = none
alias_maps =
alias_database =
relayhost = [127.0.0.1]:%[2]s
minimal_backoff_time = 2s
queue_run_delay = 2s
`

const masterCF = `%s inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// startPostfix starts a Postfix that relays example.org to next, and ends it
// with the test.
func startPostfix(t *testing.T, next *sink) *postfix {
	t.Helper()
	p := &postfix{dir: openDir(t), port: unusedPort(t)}
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	for _, d := range []string{"queue", "data"} {
		if err := os.Mkdir(filepath.Join(p.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(filepath.Join(p.dir, "data"), uid, gid); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.dir, "main.cf"), fmt.Sprintf(mainCF, p.dir, next.port()))
	write(t, filepath.Join(p.dir, "master.cf"), fmt.Sprintf(masterCF, p.addr()))
	command(t, "postfix", "-c", p.dir, "start")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Postfix's log:\n%s", p.log(t))
		}
		command(t, "postfix", "-c", p.dir, "stop")
	})
	waitFor(t, "Postfix", func() bool { return greets(p.addr()) })
	return p
}

func (p *postfix) addr() string { return loopback(p.port) }

func (p *postfix) log(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A gatewayProcess is a running `postern serve`.
type gatewayProcess struct {
	binary, policy string
	env            []string
	log            *bytes.Buffer
}

// startPostern runs `postern serve` with this policy and waits for it to greet
// at addr. It ends with the test.
func startPostern(t *testing.T, policy, addr string) *gatewayProcess {
	t.Helper()
	dir := openDir(t)
	g := &gatewayProcess{
		binary: filepath.Join(dir, "postern"),
		policy: filepath.Join(dir, "policy.toml"),
		env:    append(os.Environ(), "POSTERN_STATE="+filepath.Join(dir, "state")),
		log:    new(bytes.Buffer),
	}
	write(t, g.policy, policy)
	command(t, "go", "build", "-o", g.binary, ".")
	cmd := exec.Command(g.binary, "serve", "--config", g.policy)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = g.env, dir, g.log, g.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended by itself
		if err := <-ended; err != nil {
			t.Errorf("postern serve: %v", err)
		}
		if t.Failed() {
			t.Logf("Postern's log:\n%s", g.log)
		}
	})
	waitFor(t, "Postern", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("postern serve ended: %v", err)
		default:
		}
		return greets(addr)
	})
	return g
}

// run runs another command of the same program with the same policy.
func (g *gatewayProcess) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(g.binary, append(args, "--config", g.policy)...)
	cmd.Env = g.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("postern %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// swaks sends one message as a client would and returns its transcript and
// whether it was accepted.
func swaks(t *testing.T, server, client string, args ...string) (string, bool) {
	t.Helper()
	args = append([]string{"--server", server, "--local-interface", client, "--helo", "client.example.net",
		"--from", "alice@example.net", "--to", "bob@example.org", "--timeout", "30s"}, args...)
	out, err := exec.Command("swaks", args...).CombinedOutput()
	return string(out), err == nil
}

// smtpSource sends count messages with Postfix's load generator.
func smtpSource(t *testing.T, server string, sessions, count int) {
	t.Helper()
	command(t, "smtp-source", "-s", strconv.Itoa(sessions), "-m", strconv.Itoa(count), "-l", "4096",
		"-f", "alice@example.net", "-t", "bob@example.org", "-S", "load", server)
}
