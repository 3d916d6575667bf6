package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"postern/crypto/dkim"
)

type keysCmd struct {
	Dkim dkimKeysCmd `cmd:"" help:"Keys to sign mail with (DKIM)."`
}

type dkimKeysCmd struct {
	Rotate dkimRotateCmd `cmd:"" help:"Make the keys of domains and replace them in time, one safe step at each call."`
	New    dkimNewCmd    `cmd:"" help:"Make a key and print the DNS record to publish."`
	DNS    dkimDNSCmd    `cmd:"" help:"Print the DNS record of a key."`
}

// dkimName is where a key is published.
type dkimName struct {
	Domain   string `required:"" help:"Domain to sign for."`
	Selector string `required:"" help:"Selector: a name for this key, as in postern2026."`
}

func (n dkimName) check() error {
	if !dkim.ValidName(n.Domain, 2) {
		return &exitError{exitUsage, fmt.Errorf("--domain %s is not a domain in lower case", n.Domain)}
	}
	if !dkim.ValidName(n.Selector, 1) {
		return &exitError{exitUsage, fmt.Errorf("--selector %s is not a selector: use letters, digits and hyphens", n.Selector)}
	}
	return nil
}

// print writes the record as a zone file wants it.
func (n dkimName) print(w io.Writer, record string) {
	fmt.Fprint(w, dkim.ZoneLine(dkim.RecordName(n.Selector, n.Domain), record))
}

type dkimNewCmd struct {
	dkimName
	Type string `help:"rsa or ed25519." enum:"rsa,ed25519" default:"rsa"`
	Out  string `required:"" type:"path" help:"File for the key; one that is there is not replaced." placeholder:"FILE"`
}

// Run makes a key that only its owner can read, and prints its record.
func (k *dkimNewCmd) Run(g *globals) error {
	if err := k.check(); err != nil {
		return err
	}
	key, pem, err := dkim.NewKey(k.Type)
	if err != nil {
		return err
	}
	record, err := dkim.Record(key.Public())
	if err != nil {
		return err
	}
	f, err := os.OpenFile(k.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: choose another name, so that the old key goes on signing while the new record spreads", k.Out)
	}
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	_, err = f.Write(pem)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	k.print(g.out, record)
	if !g.Quiet {
		fmt.Fprintf(g.err, "wrote %s\nPublish the record above, then add to the policy:\n\n[filter.dkimsign]\nselector = %q\nkey      = { file = %q }\ndomains  = [%q]\n", k.Out, k.Selector, k.Out, k.Domain)
	}
	return nil
}

type dkimDNSCmd struct {
	dkimName
	Key string `required:"" type:"existingfile" help:"The key." placeholder:"FILE"`
}

// Run prints the record of a key that is there.
func (k *dkimDNSCmd) Run(g *globals) error {
	if err := k.check(); err != nil {
		return err
	}
	text, err := os.ReadFile(k.Key)
	if err != nil {
		return fmt.Errorf("read the key: %w", err)
	}
	key, err := dkim.ParsePrivateKey([]byte(strings.TrimSpace(string(text))))
	if err != nil {
		return fmt.Errorf("%s: %w", k.Key, err)
	}
	record, err := dkim.Record(key.Public())
	if err != nil {
		return err
	}
	k.print(g.out, record)
	return nil
}
