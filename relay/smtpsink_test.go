package relay

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/mail"
)

// startSMTPSink starts Postfix's smtp-sink, which keeps messages as files in dir.
func startSMTPSink(t *testing.T, dir string, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("smtp-sink")
	if err != nil {
		program = "/usr/sbin/smtp-sink"
		if _, err = os.Stat(program); err != nil {
			if os.Getenv("POSTERN_CI") == "1" {
				t.Fatal(err)
			}
			t.Skip("smtp-sink is not installed")
		}
	}
	address := closedPort(t)
	if os.Getuid() == 0 {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-u", "nobody")
	}
	args = append(args, "-R", dir, "-d", "%M%S.")
	cmd := exec.Command(program, append(args, address, "100")...)
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	waitFor(t, func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return address
}

// TestSMTPSink delivers to Postfix's test server in its various moods.
func TestSMTPSink(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		lmtp bool
		want string
	}{
		"all it knows":      {nil, false, "250"},
		"no pipelining":     {[]string{"-p"}, false, "250"},
		"no ESMTP":          {[]string{"-e"}, false, "250"},
		"LMTP":              {[]string{"-L"}, true, "250"},
		"refuses RCPT":      {[]string{"-f", "rcpt"}, false, "500"},
		"puts off DATA":     {[]string{"-r", "data"}, false, "450"},
		"refuses the dot":   {[]string{"-f", "."}, false, "500"},
		"leaves on RCPT":    {[]string{"-q", "rcpt"}, false, "451"},
		"leaves on DATA":    {[]string{"-q", "data"}, false, "451"},
		"leaves at the dot": {[]string{"-q", "."}, false, "451"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			address := startSMTPSink(t, dir, c.args...)
			hop := &Hop{Name: "sink", To: []string{address}, LMTP: c.lmtp, TLS: TLSNone, XForward: true, Timeout: 20 * time.Second}
			client := newTestClient(t, patient)
			for range 3 {
				m := newMail(sample, "a@example.com", "b@example.com")
				m.Client = &mail.Session{Client: netip.MustParseAddrPort("192.0.2.7:1234"), Helo: "helo.example", ESMTP: true}
				for _, o := range client.Deliver(context.Background(), hop, m) {
					if !strings.HasPrefix(o.Reply.String(), c.want) || o.Delivered != (c.want == "250") {
						t.Errorf("%+v", o)
					}
				}
			}
			if c.want != "250" {
				return
			}
			var files []string
			waitFor(t, func() bool { files, _ = filepath.Glob(filepath.Join(dir, "*")); return len(files) == 3 })
			text, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.ReplaceAll(string(text), "\r\n", "\n"), strings.ReplaceAll(sample, "\r\n", "\n")) {
				t.Errorf("kept %q", text)
			}
		})
	}
}
