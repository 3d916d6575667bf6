package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const dovecotConf = `protocols = lmtp
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
mail_location = maildir:~/
first_valid_uid = 1
ssl = no
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = PORT
  }
}
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=DIR/mail/%u allow_all_users=yes
}
`

// startDovecot starts a Dovecot that takes mail for everybody by LMTP and puts
// it below dir/mail, and ends it with the test.
func startDovecot(t *testing.T, dir string, port int) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, "mail"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "mail"), 0o777); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "dovecot.conf")
	write(t, conf, strings.NewReplacer("DIR", dir, "PORT", strconv.Itoa(port)).Replace(dovecotConf))
	cmd := exec.Command("dovecot", "-F", "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
		if log, err := os.ReadFile(filepath.Join(dir, "log")); err == nil && t.Failed() {
			t.Logf("Dovecot's log:\n%s", log)
		}
	})
	waitFor(t, "Dovecot", func() bool { return greets(loopback(port)) })
}

func TestDovecotNextHop(t *testing.T) {
	needRoot(t, "dovecot", "swaks")
	dir := openDir(t)
	lmtp, listen := unusedPort(t), loopback(unusedPort(t))
	startDovecot(t, dir, lmtp)
	startPostern(t, strings.NewReplacer("LISTEN", listen, "NEXT", loopback(lmtp), "PROTOCOL", "lmtp").Replace(nextHopPolicy), listen)

	if out, ok := swaks(t, listen, stranger, "--to", "bob@example.org,carol@example.org", "--header", "Subject: to two"); !ok {
		t.Fatalf("refused:\n%s", out)
	}
	for _, who := range []string{"bob@example.org", "carol@example.org"} {
		var files []os.DirEntry
		waitFor(t, "the message of "+who, func() bool {
			files, _ = os.ReadDir(dir + "/mail/" + who + "/new")
			return len(files) == 1
		})
		b, err := os.ReadFile(dir + "/mail/" + who + "/new/" + files[0].Name())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "Subject: to two") {
			t.Errorf("%s got\n%s", who, b)
		}
	}
}
