package virus

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/filters/filterstest"
)

// startClamd runs the clamd of the system with a database of its own: one
// signature, in a temporary directory.
func startClamd(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("clamd")
	if err != nil {
		if os.Getenv("POSTERN_CI") == "1" {
			t.Fatal("clamd is not installed")
		}
		t.Skip("clamd is not installed")
	}
	dir, err := os.MkdirTemp("", "postern-clamd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "ctl")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("test.ndb", "Postern.Test.Evil:0:*:"+hex.EncodeToString([]byte("postern-test-signature-of-evil"))+"\n")
	write("clamd.conf", fmt.Sprintf("Foreground yes\nLocalSocket %s\nDatabaseDirectory %s\nTemporaryDirectory %s\nStreamMaxLength 1M\n"+
		"OfficialDatabaseOnly no\nSelfCheck 3600\nMaxThreads 2\nUser %s\n", socket, dir, dir, currentUser()))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config-file="+filepath.Join(dir, "clamd.conf"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); log.Close() })
	for range 300 {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return "clamd:" + socket
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	t.Fatalf("clamd does not listen: %s", text)
	return ""
}

func currentUser() string {
	if u := os.Getenv("USER"); u != "" {
		return u
	}
	out, err := exec.Command("id", "-un").Output()
	if err != nil {
		return "root"
	}
	return strings.TrimSpace(string(out))
}

func TestRealClamd(t *testing.T) {
	engine := startClamd(t)
	c := withEngines(t, engine)
	for i := range 3 { // on one session
		if v := filterstest.Check(t, c, attach("harmless")); len(v.Symbols) != 0 {
			t.Errorf("round %d: %+v", i, v.Symbols)
		}
		v := filterstest.Check(t, c, attach("this is the postern-test-signature-of-evil."))
		if len(v.Symbols) != 1 || !strings.HasPrefix(v.Symbols[0].Label, "Postern.Test.Evil") || v.Symbols[0].Part != "2" {
			t.Errorf("round %d: %+v", i, v.Symbols)
		}
	}
	// Larger than StreamMaxLength: an error, never clean.
	client := dial(engine)
	defer client.close()
	for range 5 {
		_, err := client.scan(t.Context(), func() io.Reader { return strings.NewReader(strings.Repeat("x", 8<<20)) })
		if err == nil {
			t.Fatal("a stream that is too long is clean")
		}
		if strings.Contains(err.Error(), "size limit exceeded") {
			return
		}
	}
	t.Error("clamd never told why")
}
