package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"postern": func() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		"sink":    sinkMain,
		"send":    sendMain,
		"get":     getMain,
		"until":   untilMain,
		"held":    heldMain,
		"queued":  queuedMain,
		"zone":    zoneMain,
	})
}

// TestScripts runs the dialogs of testdata/scripts: the program as its user
// meets it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/scripts",
		Setup: func(e *testscript.Env) error {
			e.Setenv("POSTERN_CONFIG", "policy.toml")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"ports": portsCmd, "expand": expandCmd, "hup": hupCmd, "mode": modeCmd},
	})
}

// portsCmd sets each variable to a port of loopback that is free.
func portsCmd(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		ts.Check(err)
		ts.Setenv(name, port)
	}
}

// expandCmd puts variables into a file: expand FILE...
func expandCmd(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		text := ts.ReadFile(name)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(os.Expand(text, ts.Getenv)), 0o644))
	}
}

// hupCmd sends SIGHUP to what runs in the background.
func hupCmd(ts *testscript.TestScript, _ bool, _ []string) {
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(syscall.SIGHUP))
	}
}

// modeCmd checks the permissions of files: mode 0600 FILE...
func modeCmd(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", name, got, args[0])
		}
	}
}

// A scriptSink is a mail server that writes each message to a file: 1.eml, 2.eml...
// It says "later" to temp@ and "nobody" to nobody@.
type scriptSink struct {
	dir string
	n   *atomic.Int64
}

// sinkMain is the program: sink PORT DIR.
func sinkMain() {
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &scriptSink{dir: os.Args[2], n: &sinkCount}, nil
	}))
	s.Addr, s.Domain = "127.0.0.1:"+os.Args[1], "sink.example"
	if err := errors.Join(os.MkdirAll(os.Args[2], 0o755), s.ListenAndServe()); err != nil {
		fmt.Fprintln(os.Stderr, "sink:", err)
		os.Exit(1)
	}
}

var sinkCount atomic.Int64

func (s *scriptSink) Mail(string, *smtp.MailOptions) error { return nil }
func (s *scriptSink) Reset()                               {}
func (s *scriptSink) Logout() error                        { return nil }

func (s *scriptSink) Rcpt(to string, _ *smtp.RcptOptions) error {
	switch local, _, _ := strings.Cut(to, "@"); local {
	case "temp":
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 2, 1}, Message: "later"}
	case "nobody":
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody of that name"}
	}
	return nil
}

func (s *scriptSink) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	n := s.n.Add(1)
	tmp := filepath.Join(s.dir, fmt.Sprintf(".%d", n))
	if err := os.WriteFile(tmp, text, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(s.dir, fmt.Sprintf("%d.eml", n)))
}

// sendMain is the program: send [-from A] [-to B,C] PORT FILE. It waits for the
// port, sends the file as one message and prints what the server says.
func sendMain() {
	from := flag.String("from", "alice@partner.example", "")
	to := flag.String("to", "bob@example.org", "")
	flag.Parse()
	if err := send(flag.Arg(0), flag.Arg(1), *from, strings.Split(*to, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "send:", err)
		os.Exit(1)
	}
}

func send(port, file, from string, to []string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	var c net.Conn
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err = net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			break
		} else if time.Now().After(deadline) {
			return err
		}
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	p := textproto.NewConn(c)
	say := func(line string) error {
		if line != "" {
			if err := p.PrintfLine("%s", line); err != nil {
				return err
			}
		}
		code, msg, err := p.ReadResponse(0)
		var e *textproto.Error
		if err != nil && !errors.As(err, &e) {
			return err
		}
		fmt.Printf("%d %s\n", code, strings.ReplaceAll(msg, "\n", "/"))
		return nil
	}
	lines := []string{"", "EHLO client.example", "MAIL FROM:<" + from + ">"}
	for _, rcpt := range to {
		lines = append(lines, "RCPT TO:<"+rcpt+">")
	}
	lines = append(lines, "DATA", strings.TrimSuffix(string(text), "\r\n")+"\r\n.", "QUIT")
	for _, line := range lines {
		if err := say(line); err != nil {
			return err
		}
	}
	return nil
}

// getMain is the program: get URL. It prints the status and the body.
func getMain() {
	resp, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "get:", err)
		os.Exit(1)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	io.Copy(os.Stdout, resp.Body)
}

// untilMain is the program: until REGEXP COMMAND... It runs the command again
// and again until what it prints matches, and prints that.
func untilMain() {
	want := regexp.MustCompile("(?m)" + os.Args[1])
	var out []byte
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out, _ = exec.Command(os.Args[2], os.Args[3:]...).CombinedOutput()
		if want.Match(out) {
			w := bufio.NewWriter(os.Stdout)
			w.Write(out)
			w.Flush()
			return
		}
	}
	fmt.Fprintf(os.Stderr, "until: never %s; the last was:\n%s", want, out)
	os.Exit(1)
}

// heldMain is the program: held VERB QUEUE FLAGS... It is postern quarantine
// VERB for the one message of a queue.
func heldMain() {
	withID([]string{"quarantine", "list", "--all", "--json", "--queue", os.Args[2]}, "quarantine")
}

// queuedMain is the program: queued VERB FROM FLAGS... It is postern queue VERB
// for the one message with that reverse-path.
func queuedMain() { withID([]string{"queue", "list", "--json", "--from", os.Args[2]}, "queue") }

func withID(list []string, noun string) {
	var out bytes.Buffer
	if code := run(list, os.Stdin, &out, os.Stderr); code != 0 {
		os.Exit(code)
	}
	var row struct{ ID string }
	if err := json.Unmarshal(out.Bytes(), &row); err != nil {
		fmt.Fprintf(os.Stderr, "%s %s: want one message, got %q\n", noun, os.Args[2], &out)
		os.Exit(1)
	}
	os.Exit(run(append([]string{noun, os.Args[1], row.ID}, os.Args[3:]...), os.Stdin, os.Stdout, os.Stderr))
}

// zoneMain is the program: zone [FILE]. It adds the records of postern keys dkim
// rotate --json to a zone, and prints it.
func zoneMain() {
	zone := map[string]map[string][]string{}
	if len(os.Args) > 1 {
		text, err := os.ReadFile(os.Args[1])
		if err == nil {
			err = json.Unmarshal(text, &zone)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "zone:", err)
			os.Exit(1)
		}
	}
	for d := json.NewDecoder(os.Stdin); ; {
		var r struct{ Name, Record string }
		if err := d.Decode(&r); err != nil {
			break
		}
		if r.Name != "" {
			zone[r.Name] = map[string][]string{"TXT": {r.Record}}
		}
	}
	json.NewEncoder(os.Stdout).Encode(zone)
}
