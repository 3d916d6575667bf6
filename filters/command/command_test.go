package command

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shell returns a filter that runs a shell script.
func shell(t *testing.T, script string) filters.Checker {
	t.Helper()
	return filterstest.New(t, Filter, filterstest.Options{Settings: settings(t, script)})
}

func settings(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	return `program = ["/bin/sh", "` + path + `"]`
}

func TestConformance(t *testing.T) {
	bad := map[string]string{`program = ["sh"]`: "program", `concurrency = 0`: "concurrency"}
	t.Run("off", func(t *testing.T) { filterstest.Run(t, Filter, filterstest.Options{Bad: bad}) })
	t.Run("on", func(t *testing.T) {
		filterstest.Run(t, Filter, filterstest.Options{Settings: settings(t, "printf 'bad\\001 \\033[31mline\\377\\n'; exit 1")})
	})
}

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

func simple() *mail.Transaction {
	return filterstest.Transaction(filterstest.Message("From: a@b.example\nSubject: hello\n\nThe body.\n", mail.Options{}))
}

func TestExitStatus(t *testing.T) {
	for _, test := range []struct {
		script, symbol, evidence string
		broken                   string
	}{
		{"cat >/dev/null; exit 0", "", "", ""},
		{"exit 0", "", "", ""}, // does not read its input
		{"echo noise; exit 0", "", "", ""},
		{"echo; echo '  the reason  '; echo more; exit 1", "COMMAND_HIT", "the reason", ""},
		{"exit 1", "COMMAND_HIT", "/bin/sh gave no reason", ""},
		{"yes long | head -c 100000 | tr -d '\\n'; exit 1", "COMMAND_HIT", "", ""},
		{"echo why >&2; exit 2", "", "", "exit status 2: why"},
		{"exit 75", "", "", "exit status 75"},
		{"kill -9 $$", "", "", "killed"},
	} {
		v, err := shell(t, test.script).Check(t.Context(), simple(), nil)
		switch {
		case test.broken != "":
			if err == nil || !strings.Contains(err.Error(), test.broken) {
				t.Errorf("%s: %v, want %s", test.script, err, test.broken)
			}
		case err != nil:
			t.Errorf("%s: %v", test.script, err)
		case test.symbol == "" && len(v.Symbols) != 0,
			test.symbol != "" && (len(v.Symbols) != 1 || v.Symbols[0].Name != test.symbol || len(v.Symbols[0].Evidence) > maxLine+3),
			test.evidence != "" && v.Symbols[0].Evidence != test.evidence:
			t.Errorf("%s: %+v", test.script, v.Symbols)
		}
	}
}

// TestInput checks what the program gets, and that it gets nothing else.
func TestInput(t *testing.T) {
	t.Setenv("SECRET", "of ours")
	out := filepath.Join(t.TempDir(), "out")
	tx := simple()
	tx.Helo = "evil\x00; rm -rf /\n"
	tx.Recipients = append(tx.Recipients, mail.Recipient{Path: mail.Path{Local: `"a b"`, Domain: "example.org"}})
	c := shell(t, "env | sort > "+out+"; echo ---- >> "+out+"; cat >> "+out)
	filterstest.Check(t, c, tx)
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	env, message, _ := strings.Cut(string(got), "----\n")
	raw, _ := tx.Message.Bytes()
	if diff := cmp.Diff(string(raw), message); diff != "" {
		t.Error(diff)
	}
	for _, line := range []string{
		"POSTERN_ID=01TEST", "POSTERN_FROM=alice@sender.example", "POSTERN_TO=bob@example.org", "\"a b\"@example.org",
		"POSTERN_CLIENT=192.0.2.7", "POSTERN_HELO=evil?; rm -rf /?", "POSTERN_DIRECTION=inbound", "POSTERN_LISTENER=internet",
	} {
		if !strings.Contains(env, line+"\n") {
			t.Errorf("no %s in\n%s", line, env)
		}
	}
	if strings.Contains(env, "SECRET") || strings.Contains(env, "HOME") {
		t.Errorf("our own environment is told:\n%s", env)
	}
}

// TestTimeKillsAll checks that the program's children die with it.
func TestTimeKillsAll(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	c := shell(t, "sleep 60 & echo $! > "+pid+"; wait")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	start, child := time.Now(), 0
	done := make(chan struct{})
	go func() { // time is up once the child runs, however loaded the machine is
		defer close(done)
		for ; child == 0 && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
			text, _ := os.ReadFile(pid)
			child, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		cancel()
	}()
	if _, err := c.Check(ctx, simple(), nil); err == nil {
		t.Error("a program that was killed found the message clean")
	}
	if <-done; child == 0 {
		t.Fatal("the program did not start its child")
	}
	if took := time.Since(start); took > 40*time.Second {
		t.Errorf("it took %v: the program was waited for", took)
	}
	for range 100 {
		if syscall.Kill(child, 0) != nil || zombie(child) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("a child of the program still runs")
}

func zombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(b), ") Z ")
}

// TestOrphans checks that a child which holds the output open does not hold up
// the mail, and is no verdict.
func TestOrphans(t *testing.T) {
	c := shell(t, "sleep 30 & exit 0")
	start := time.Now()
	if _, err := c.Check(t.Context(), simple(), nil); err == nil {
		t.Error("a program that left children behind found the message clean")
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestConcurrency(t *testing.T) {
	dir := t.TempDir()
	c := filterstest.New(t, Filter, filterstest.Options{Settings: settings(t,
		"mkdir "+dir+"/$$; ls "+dir+" | wc -l; sleep 0.05; rmdir "+dir+"/$$; exit 1") + "\nconcurrency = 2"})
	var most atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			v := filterstest.Check(t, c, simple())
			n, _ := strconv.Atoi(strings.TrimSpace(v.Symbols[0].Evidence))
			for old := most.Load(); int32(n) > old && !most.CompareAndSwap(old, int32(n)); old = most.Load() {
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n < 1 || n > 2 {
		t.Errorf("%d at once", n)
	}
}

func TestDryRun(t *testing.T) {
	for _, programs := range []bool{false, true} {
		c := Filter.New().(*Checker)
		c.Program = []string{"/bin/sh", "-c", "exit 1"}
		if !programs {
			c.Program[0] = "/not/on/this/machine"
		}
		if err := c.Open(t.Context(), &filters.Env{DryRun: true, Programs: programs}); err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{false: "COMMAND_SKIPPED", true: "COMMAND_HIT"}[programs]
		if v := filterstest.Check(t, c, simple()); len(v.Symbols) != 1 || v.Symbols[0].Name != want {
			t.Errorf("programs %v: %+v", programs, v.Symbols)
		}
	}
}

func TestOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/not/there", t.TempDir(), file} {
		c := Filter.New().(*Checker)
		c.Program = []string{path}
		if err := c.Open(t.Context(), &filters.Env{}); err == nil {
			t.Errorf("%s was opened", path)
		}
		if _, err := c.Check(t.Context(), simple(), nil); err == nil {
			t.Errorf("%s: clean, though it cannot run", path)
		}
	}
}
