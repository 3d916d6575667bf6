// Package dkimsign signs the mail of our own domains with DKIM (RFC 6376). It is
// a finisher: the gateway calls it last, for every copy that leaves.
//
// Only outbound mail whose author is of one of the domains is signed, with every
// key that is for that domain: RSA and Ed25519 at once, so that each verifier
// finds one that it knows (RFC 8463 section 3). The fields that tell what a
// message is are oversigned. Keys are read when the policy is loaded; a reload
// reads them again.
//
// Keys stand in the policy, or lie in a directory, where Rotation makes and
// replaces them. Which of those sign is written in the names of their files:
// signing asks DNS nothing, so that a failure of DNS changes nothing about it.
//
// # Diagnostics
//
// A key that cannot be read or used keeps the policy from being loaded; the
// error names the selector and never the content. A signature that cannot be
// made is an error of Finish, so that the copy is held or deferred.
package dkimsign

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"postern/crypto/dkim"
	"postern/filters"
	"postern/mail"
)

// Filter declares the dkimsign filter.
var Filter = &filters.Filter{
	Name:   "dkimsign",
	Doc:    "signs the mail of our own domains with DKIM",
	Stage:  filters.Data,
	NoScan: true,
	New:    func() filters.Checker { return &Checker{} },
}

// Checker holds the settings.
type Checker struct {
	Selector  string           `toml:"selector" doc:"selector of the key: where its record lies in DNS"`
	Key       filters.Secret   `toml:"key" doc:"the key: { file = } or { credential = } with PEM, or the base64 of an Ed25519 key"`
	Domains   []string         `toml:"domains" doc:"domains to sign for, with those below them; empty: those of [site]"`
	Directory string           `toml:"directory" doc:"directory of keys that postern keys dkim rotate makes and replaces: a folder for each domain; empty: none"`
	Keys      []Key            `toml:"keys" doc:"further keys, tables with selector, key and domains; all keys of a domain sign"`
	Expire    filters.Duration `toml:"expire" doc:"after how long signatures expire; 0s: never"`

	signers []dkim.Signer // in order of the settings
}

// A Key is one more key.
type Key struct {
	Selector string         `toml:"selector" doc:"selector of the key"`
	Key      filters.Secret `toml:"key" doc:"the key"`
	Domains  []string       `toml:"domains" doc:"domains to sign for; empty: those of the filter"`
}

// all returns the keys, the one that stands alone first.
func (c *Checker) all() []Key {
	keys := slices.Clone(c.Keys)
	if c.Selector != "" || !c.Key.IsZero() {
		keys = slices.Insert(keys, 0, Key{Selector: c.Selector, Key: c.Key})
	}
	for i := range keys {
		if len(keys[i].Domains) == 0 {
			keys[i].Domains = c.Domains
		}
	}
	return keys
}

// Validate checks what can be checked without the keys.
func (c *Checker) Validate() error {
	for _, k := range c.all() {
		if k.Selector == "" {
			return &filters.SettingError{Key: "selector", Err: fmt.Errorf("a key needs a selector")}
		}
		if k.Key.IsZero() {
			return &filters.SettingError{Key: "key", Err: fmt.Errorf("there is no key for the selector %q", k.Selector)}
		}
		if !dkim.ValidName(k.Selector, 1) {
			return &filters.SettingError{Key: "selector", Err: fmt.Errorf("%q is not a selector in lower case", k.Selector)}
		}
		for _, d := range k.Domains {
			if !dkim.ValidName(d, 2) {
				return &filters.SettingError{Key: "domains", Err: fmt.Errorf("%q is not a domain in lower case", d)}
			}
		}
	}
	if c.Expire != 0 && c.Expire.Time().Hours() < 24 {
		return &filters.SettingError{Key: "expire", Err: fmt.Errorf("%s is less than a day: mail may wait that long in a queue", c.Expire)}
	}
	return nil
}

// Open reads the keys.
func (c *Checker) Open(_ context.Context, env *filters.Env) error {
	c.signers = nil
	if env.Offline {
		return nil // the tests of a policy need no key
	}
	for _, k := range c.all() {
		text, err := k.Key.Read()
		if err != nil {
			return fmt.Errorf("key of selector %s: %w", k.Selector, err)
		}
		key, err := dkim.ParsePrivateKey(text)
		if err != nil {
			return fmt.Errorf("key of selector %s: %w", k.Selector, err)
		}
		domains := k.Domains
		if len(domains) == 0 {
			domains = env.Domains
		}
		for _, d := range domains {
			s := dkim.Signer{Domain: strings.ToLower(d), Selector: k.Selector, Key: key, Expire: c.Expire.Time()}
			if err := s.Check(); err != nil {
				return fmt.Errorf("key of selector %s: %w", k.Selector, err)
			}
			c.signers = append(c.signers, s)
		}
	}
	return c.openDirectory()
}

// openDirectory reads the keys of the directory that sign.
func (c *Checker) openDirectory() error {
	if c.Directory == "" {
		return nil
	}
	found, err := ReadFolder(c.Directory)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; make it with: postern keys dkim rotate DOMAIN", err)
	}
	if err != nil {
		return err
	}
	for _, f := range found {
		if !f.State.signs() {
			continue
		}
		s := dkim.Signer{Domain: f.Domain, Selector: f.Selector, Key: f.Key, Expire: c.Expire.Time()}
		if err := s.Check(); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		c.signers = append(c.signers, s)
	}
	return nil
}

// All returns every key that signs, in order of the settings.
func (c *Checker) All() []dkim.Signer { return slices.Clone(c.signers) }

// Exposed returns an error for each file of a key that others may read.
func (c *Checker) Exposed() []error {
	var errs []error
	for _, k := range c.all() {
		if err := k.Key.Exposed(); err != nil {
			errs = append(errs, fmt.Errorf("key of selector %s: %w", k.Selector, err))
		}
	}
	return errs
}

// Check has nothing to say.
func (*Checker) Check(context.Context, *mail.Transaction, filters.Results) (filters.Verdict, error) {
	return filters.Verdict{}, nil
}

// Signers returns the keys that sign for a domain: those of the domain itself, or
// else of the nearest one above it.
func (c *Checker) Signers(domain string) []dkim.Signer {
	domain = strings.ToLower(domain)
	for domain != "" {
		var found []dkim.Signer
		for _, s := range c.signers {
			if s.Domain == domain {
				found = append(found, s)
			}
		}
		if len(found) > 0 {
			return found
		}
		_, domain, _ = strings.Cut(domain, ".")
	}
	return nil
}

// Finish signs m if it is outbound mail of one of the domains: all authors must
// be of the domain that signs, which is then that of DMARC too.
func (c *Checker) Finish(_ context.Context, tx *mail.Transaction, _ filters.Results, m *mail.Message) ([]string, error) {
	if !tx.Trusted() || len(c.signers) == 0 {
		return nil, nil
	}
	authors := m.Authors()
	if len(authors) == 0 {
		return nil, nil
	}
	signers := c.Signers(mail.NormalDomain(authors[0].Path.Domain))
	for _, a := range authors[1:] {
		other := c.Signers(mail.NormalDomain(a.Path.Domain))
		if len(signers) == 0 || len(other) == 0 || other[0].Domain != signers[0].Domain {
			return nil, nil
		}
	}
	if len(signers) == 0 {
		return nil, nil
	}
	fields, err := dkim.Sign(m, tx.At, signers...)
	if err != nil {
		return nil, fmt.Errorf("sign with DKIM: %w", err)
	}
	return fields, nil
}

var _ filters.Finisher = (*Checker)(nil)
