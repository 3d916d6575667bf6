package quarantine

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/audit"
	"postern/store"
	"postern/store/dir"
	"postern/store/sqlite"
)

// killEnv tells the test program to be the process that is killed.
const killEnv = "POSTERN_TEST_HOLD_IN"

// openAll opens a quarantine and an audit log below root.
func openAll(t *testing.T, root string) (*Quarantine, *audit.Log, func()) {
	t.Helper()
	records, err := sqlite.Open(ctx, filepath.Join(root, "postern.db"))
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := dir.OpenBlobs(filepath.Join(root, "bodies"), dir.BlobOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lines, err := dir.OpenLog(filepath.Join(root, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(ctx, audit.Options{Log: lines, Head: filepath.Join(root, "audit.head"), Key: filepath.Join(root, "audit.key")})
	if err != nil {
		t.Fatal(err)
	}
	q, err := Open(ctx, Options{Records: records, Blobs: blobs, Key: filepath.Join(root, "quarantine.key")})
	if err != nil {
		t.Fatal(err)
	}
	return q, log, func() { log.Close(); records.Close() }
}

// TestHoldUntilKilled is the process that TestKilled kills.
func TestHoldUntilKilled(t *testing.T) {
	root := os.Getenv(killEnv)
	if root == "" {
		t.Skip("run by TestKilled")
	}
	q, log, _ := openAll(t, root)
	for g := range 4 {
		go func() {
			for n := g; ; n += 4 {
				id, err := q.Hold(ctx, sample(n), strings.NewReader(message(n)))
				if err == nil {
					err = log.Append(ctx, audit.Record{Event: audit.Verdict, Item: id, To: bob.String()})
				}
				if err != nil {
					fmt.Println("error", err)
					return
				}
				fmt.Println("held", id, n)
			}
		}()
	}
	select {}
}

// Whatever was said to be held is there, whole, after the process was killed at
// any moment, and the audit log verifies.
func TestKilled(t *testing.T) {
	root := t.TempDir()
	held := map[string]int{}
	for round := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHoldUntilKilled$")
		cmd.Env = append(os.Environ(), killEnv+"="+root)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for count := 0; lines.Scan(); count++ {
			var id string
			var n int
			if _, err := fmt.Sscanf(lines.Text(), "held %s %d", &id, &n); err != nil {
				t.Errorf("the process said %q", lines.Text())
			}
			held[id] = n
			if count == 10+7*round {
				cmd.Process.Kill()
			}
		}
		cmd.Wait() // it was killed
	}
	q, log, done := openAll(t, root)
	defer done()
	b := &bench{Quarantine: q}
	for id, n := range held {
		if text, err := b.readAll(id); err != nil || text != message(n) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if report, err := log.Verify(ctx); err != nil || report.Records < uint64(len(held)) {
		t.Errorf("%+v, %v", report, err)
	}
	if totals, err := q.Totals(ctx); err != nil || len(totals) != 1 || totals[0].State != store.StateHeld || totals[0].Messages < len(held) {
		t.Errorf("%+v, %v; %d were said to be held", totals, err, len(held))
	}
}
