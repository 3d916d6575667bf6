package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
	slow  func() // before a write
}

func (b *brokenContacts) Meet(ctx context.Context, cs []store.Contact) error {
	if b.slow != nil {
		b.slow()
	}
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
		c := newContacts(place, db, slog.New(slog.NewTextHandler(&log, nil)))
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

// TestContactsSweep: contacts end with their time, but not with a clock that is
// wrong, and go on being swept when it has been put back.
func TestContactsSweep(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "db")
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var log strings.Builder
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	c := newContacts(db, db, slog.New(slog.NewTextHandler(&log, nil)))
	c.now = func() time.Time { return now }
	of := store.Contact{Author: "a@sender.example", Recipient: "b@example.org", Time: now.Add(10 * 24 * time.Hour)}
	if err := db.Meet(ctx, []store.Contact{of}); err != nil {
		t.Fatal(err)
	}
	kept := func(what string, want bool) {
		t.Helper()
		c.sweep(ctx)
		if ok, err := db.Met(ctx, store.Contact{Author: of.Author, Recipient: of.Recipient}); err != nil || ok != want {
			t.Errorf("%s: kept is %v, %v", what, ok, err)
		}
	}
	start := now
	kept("at first", true)
	now = start.AddDate(1, 0, 0)
	kept("a jump of a year", true)
	now = start.Add(time.Hour)
	kept("put back", true)
	for now.Before(of.Time) {
		kept("in its time", true)
		now = now.Add(12 * time.Hour)
	}
	kept("its time is over", false)
	db.Close()
	now = now.Add(time.Hour)
	c.sweep(ctx)
	if !strings.Contains(log.String(), "old contacts are not forgotten") {
		t.Error(&log)
	}
}

// TestContactsForgotten: what is being written while somebody is forgotten does
// not come back.
func TestContactsForgotten(t *testing.T) {
	ctx := t.Context()
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	begun, goOn := make(chan struct{}), make(chan struct{})
	place := &brokenContacts{Contacts: db, slow: func() { close(begun); <-goOn }}
	c := newContacts(place, db, slog.New(slog.DiscardHandler))
	of := pair{mail.Path{Local: "a", Domain: "sender.example"}, mail.Path{Local: "b", Domain: "example.org"}}
	c.wait[of] = time.Now().Add(time.Hour)
	var wg sync.WaitGroup
	wg.Go(func() { c.write(ctx) })
	<-begun
	wg.Go(func() {
		if n, err := c.forget(ctx, of.author.String()); n != 1 || err != nil {
			t.Errorf("forgot %d, %v", n, err)
		}
	})
	time.Sleep(10 * time.Millisecond) // it would be done by then, if it did not wait
	close(goOn)
	wg.Wait()
	if ok, err := c.Met(ctx, of.author, of.to); ok || err != nil {
		t.Errorf("known %v, %v", ok, err)
	}
}

// TestContactsLocked: another program that writes to the database keeps nobody
// from being known, and what is to be noted waits.
func TestContactsLocked(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "db")
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	author, known, other := mail.Path{Local: "a", Domain: "sender.example"}, mail.Path{Local: "b", Domain: "example.org"}, mail.Path{Local: "c", Domain: "example.org"}
	if err := db.Meet(ctx, []store.Contact{{Author: author.String(), Recipient: known.String(), Time: time.Now().Add(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	lock, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	conn, err := lock.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	c := newContacts(db, db, slog.New(slog.DiscardHandler))
	c.wait[pair{author, other}] = time.Now().Add(time.Hour)
	var wg sync.WaitGroup
	wg.Go(func() { c.write(ctx) })
	for to, want := range map[mail.Path]bool{known: true, other: false} {
		quick, cancel := context.WithTimeout(ctx, 5*time.Second)
		if ok, err := c.Met(quick, author, to); ok != want || err != nil {
			t.Errorf("%s: %v, %v", to, ok, err)
		}
		cancel()
	}
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if ok, err := c.Met(ctx, author, other); !ok || err != nil {
		t.Errorf("after the lock: %v, %v", ok, err)
	}
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
