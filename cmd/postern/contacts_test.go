package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/filters/standard"
	"postern/gateway"
	"postern/mail"
	"postern/policy"
	"postern/store"
	"postern/store/sqlite"
)

// A brokenContacts cannot write when it is told so.
type brokenContacts struct {
	store.Contacts
	fails bool
}

func (b *brokenContacts) Meet(ctx context.Context, cs []store.Contact) error {
	if b.fails {
		return errors.New("the disk is gone")
	}
	return b.Contacts.Meet(ctx, cs)
}

// TestContacts: who has got a message knows its author from then on, and after a
// restart, until it is forgotten or its time is over.
func TestContacts(t *testing.T) {
	ctx := t.Context()
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	load := func(settings string) *policy.Policy {
		text := "version = 1\nsite = { domains = [\"example.org\"] }\n[[upstream]]\nname = \"m\"\nto = [\"h:25\"]\nfor = [\"*\"]\n[filter.contact]\n" + settings
		p, err := policy.Load("p.toml", []byte(text), policy.LoadOptions{Filters: standard.Filters})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	address := func(s string) mail.Path {
		p, err := mail.ParsePath(s, true)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var log strings.Builder
	place, now := &brokenContacts{Contacts: db}, time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	open := func() *contacts {
		c := newContacts(place, slog.New(slog.NewTextHandler(&log, nil)))
		c.now = func() time.Time { return now }
		return c
	}
	c := open()
	tx := &mail.Transaction{Session: &mail.Session{Direction: mail.Inbound}, Message: mail.ParseBytes([]byte("From: alice@sender.example\r\n\r\n"), mail.Options{})}
	fates := []gateway.Fate{
		{Recipient: address("sent@example.org"), Status: "sent"}, {Recipient: address("queued@example.org"), Status: "queued"},
		{Recipient: address("held@example.org"), Status: "held"}, {Recipient: address("refused@example.org"), Status: "rejected"},
		{Recipient: address("deferred@example.org"), Status: "deferred"},
	}
	known := func(what, want string) {
		t.Helper()
		var got []string
		for _, f := range fates {
			ok, err := c.Met(ctx, address("alice@sender.example"), f.Recipient)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				got = append(got, f.Recipient.Local)
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: known to %q, want %q", what, s, want)
		}
	}
	c.note(tx, fates, load("enabled = false\n"))
	c.note(tx, fates, load("remember = \"0s\"\n"))
	out := *tx
	out.Session = &mail.Session{Direction: mail.Outbound}
	c.note(&out, fates, load(""))
	known("nothing is to be noted", "")
	c.note(tx, fates, load("remember = \"30d\"\n"))
	known("noted", "sent queued")
	place.fails = true
	c.write(ctx)
	if !strings.Contains(log.String(), "the disk is gone") || len(c.wait) != 2 {
		t.Errorf("a failed write: %d wait, log %s", len(c.wait), &log)
	}
	place.fails = false
	c.write(ctx)
	c = open()
	known("after a restart", "sent queued")
	now = now.Add(29 * 24 * time.Hour)
	c.note(tx, fates[:1], load("remember = \"30d\"\n"))
	now = now.Add(2 * 24 * time.Hour)
	known("one has not had mail for a month", "sent")
	if n, err := c.forget(ctx, "SENT@example.org"); n != 1 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	known("forgotten", "")
	c.note(tx, fates[1:2], load(""))
	place.fails = true
	if n, err := c.forget(ctx, "alice@sender.example"); n != 2 || err != nil { // an expired one too
		t.Errorf("forgot %d, %v", n, err)
	}
	known("forgotten before it was written", "")
	place.fails = false
	c.write(ctx)
	known("and after", "")
}

// TestExplainWritesNothing: explain reads who has written before, and changes not
// a byte of the state.
func TestExplainWritesNothing(t *testing.T) {
	toy, err := startToy()
	if err != nil {
		t.Fatal(err)
	}
	defer toy.close()
	dir := t.TempDir()
	state, file := filepath.Join(dir, "state"), filepath.Join(dir, "policy.toml")
	text := strings.Replace(strings.NewReplacer("%[1]d", "1", "%[2]s", toy.addr).Replace(reloadedPolicy), "[queue]", "[dns]\nservers = [\"127.0.0.1:1\"]\n[queue]", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	explainOnce := func() string {
		var out strings.Builder
		g := &globals{Config: file, State: state, out: &out, in: strings.NewReader("From: alice@sender.example\r\nSubject: x\r\n\r\nHello.\r\n")}
		zone := filepath.Join(dir, "zone.json")
		if err := os.WriteFile(zone, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := (&explainCmd{To: []string{"bob@example.org"}, Client: "127.0.0.1", Helo: "h", DNS: zone, JSON: true}).Run(g); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if !strings.Contains(explainOnce(), "FIRST_CONTACT") {
		t.Error("without a state, somebody is known")
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("explain made the state directory")
	}
	in, err := start(t.Context(), settings{file: file, state: state, log: slog.New(slog.DiscardHandler), mailLog: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if !strings.Contains(explainOnce(), "FIRST_CONTACT") {
			t.Error("explain has noted a contact")
		}
	}
	b, err := dialBusy(in.addr("in"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.send(); err != nil {
		t.Fatal(err)
	}
	b.c.Close()
	in.contacts.write(t.Context())
	if strings.Contains(explainOnce(), "FIRST_CONTACT") {
		t.Error("explain does not know who has written")
	}
	in.stop(t.Context())
	before := stateFiles(t, state)
	if strings.Contains(explainOnce(), "FIRST_CONTACT") {
		t.Error("explain does not know who has written before the gateway ended")
	}
	if after := stateFiles(t, state); after != before {
		t.Errorf("explain has changed the state:\n%s\nbefore:\n%s", after, before)
	}
}

// stateFiles lists the files with their content.
func stateFiles(t *testing.T, dir string) string {
	t.Helper()
	var s strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&s, "%s %x\n", path, sha256.Sum256(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.String()
}
