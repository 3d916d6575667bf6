package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// findIn returns the files below dir that have one of words, in whatever case.
func findIn(t *testing.T, dir string, words ...string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, word := range words {
			if bytes.Contains(bytes.ToLower(b), []byte(strings.ToLower(word))) {
				found = append(found, path+": "+word)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestForgetEverywhere: no file of the state directory has anything of a person
// who was forgotten, whatever became of the mail; what waits in the queue stays,
// and is told of.
func TestForgetEverywhere(t *testing.T) {
	next := startSink(t)
	in := serveTest(t, `version = 1
site.domains = ["example.org", "later.example"]
queue.delivery = "spool"
[[upstream]]
name     = "mail"
to       = ["`+next.addr+`"]
for      = ["example.org"]
[[upstream]]
name     = "down"
to       = ["`+loopback(unusedPort(t))+`"]
for      = ["later.example"]
[[listener]]
name    = "in"
address = "127.0.0.1:0"
role    = "inbound"
[[rule]]
name  = "refuse"
match = { subject = "refuse" }
action = "reject"
[[rule]]
name  = "hold"
match = { subject = "hold" }
action = "quarantine"
`)
	send := func(from, to, subject string) {
		t.Helper()
		text := "From: <" + from + ">\r\nTo: <" + to + ">\r\nSubject: " + subject + "\r\nDate: " + time.Now().Format(time.RFC1123Z) + "\r\nMessage-ID: <1@client.example>\r\n\r\nconfidential body\r\n"
		c, err := smtp.Dial(in.addr("in"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		err = c.SendMail(from, []string{to}, strings.NewReader(text))
		if err != nil && !strings.Contains(err.Error(), "550") {
			t.Fatal(err)
		}
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		for begun := time.Now(); !ok(); time.Sleep(time.Millisecond) {
			if time.Since(begun) > 20*time.Second {
				t.Fatal(what)
			}
		}
	}
	for _, subject := range []string{"uniqsubj", "uniqsubj refuse", "uniqsubj hold"} {
		send("alice@sender.example", "bob@example.org", subject)
	}
	await("not delivered", func() bool { return next.count() == 1 && in.spool.Len() == 0 })
	words := []string{"alice@sender.example", "bob@example.org", "uniqsubj", "confidential body"}
	if found := findIn(t, in.dir, words...); len(found) < 4 {
		t.Errorf("the test finds only %q", found)
	}
	send("carol@sender.example", "bob@later.example", "stays")
	await("not queued", func() bool { return in.spool.Len() == 1 })

	forget := func(address, want string) {
		t.Helper()
		var out, problems bytes.Buffer
		if code := run([]string{"--state", in.dir, "quarantine", "forget", address, "--yes"}, nil, &out, &problems); code != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("forget %s: %d\n%s%s", address, code, &out, &problems)
		}
	}
	forget("Alice@Sender.Example", "erased: 1 held message;")
	forget("bob@example.org", "audit records")
	words = slices.DeleteFunc(words, func(w string) bool { return w == "confidential body" }) // carol's has it too
	if found := findIn(t, in.dir, words...); len(found) > 0 {
		t.Errorf("found after forget: %q", found)
	}
	forget("carol@sender.example", "1 message with the address still in the queue: these stay until they are delivered, or dropped with postern queue drop; then ask again")
	if found := findIn(t, in.dir, "carol@sender.example"); len(found) == 0 || in.spool.Len() != 1 {
		t.Error("mail that waits is gone")
	}
	if err := in.queue.Drop(in.spool.List()[0].ID, "asked"); err != nil {
		t.Fatal(err)
	}
	await("not dropped", func() bool { return in.spool.Len() == 0 })
	forget("carol@sender.example", "")
	if found := findIn(t, in.dir, "carol@sender.example", "confidential body"); len(found) > 0 {
		t.Errorf("found after the queue was emptied: %q", found)
	}
	var out bytes.Buffer
	if code := run([]string{"--state", in.dir, "audit", "verify"}, nil, &out, &out); code != 0 {
		t.Errorf("audit verify: %d\n%s", code, &out)
	}
}
