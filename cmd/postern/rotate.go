package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"postern/audit"
	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters"
	"postern/filters/dkimsign"
	"postern/mail"
	"postern/policy"
)

type dkimRotateCmd struct {
	Domains []string         `arg:"" name:"domain" help:"Domains of the site."`
	Types   []string         `help:"Kinds of keys to make: rsa, ed25519." name:"type" enum:"rsa,ed25519" default:"rsa,ed25519"`
	Every   filters.Duration `help:"Replace keys that have signed for so long." default:"180d"`
	Overlap filters.Duration `help:"How long the old keys sign beside the new ones." default:"1d"`
	Keep    filters.Duration `help:"How long the record of a key that signs no more stays." default:"7d"`
	Now     bool             `help:"Replace the keys whatever their age."`
	DNS     string           `help:"Answer every DNS look-up from this zone file (JSON)." type:"path" placeholder:"FILE"`
	JSON    bool             `help:"Print JSON, one object a line." name:"json"`
}

// Run brings the keys of each domain as far as is safe now. What it prints to
// standard output are the records to publish, in the form of a zone file.
func (k *dkimRotateCmd) Run(g *globals) error {
	r, err := k.rotation(g)
	if err != nil {
		return err
	}
	waits := false
	for _, domain := range k.Domains {
		reports, err := r.Step(context.Background(), domain)
		if werr := k.write(g, reports); werr != nil {
			return werr
		}
		if err != nil {
			return err
		}
		// What was made now is not waited for yet.
		waits = waits || slices.ContainsFunc(reports, func(x dkimsign.KeyReport) bool { return x.Waits() && x.Done == "" })
	}
	if waits {
		return &exitError{code: exitTryAgain}
	}
	return nil
}

// rotation checks what can be checked before anything is done.
func (k *dkimRotateCmd) rotation(g *globals) (*dkimsign.Rotation, error) {
	p, err := g.load()
	if err != nil {
		return nil, err
	}
	signs, err := k.signing(g, p)
	if err != nil {
		return nil, err
	}
	for _, d := range k.Domains {
		if !dkim.ValidName(d, 2) || !slices.ContainsFunc(p.Site.Domains, func(s string) bool { return mail.Within(d, s) }) {
			return nil, &exitError{exitUsage, fmt.Errorf("%s is not among the domains of [site]: mail of its authors is not ours to sign", d)}
		}
	}
	if err := ownState(p.Storage.State); err != nil {
		return nil, err
	}
	resolver, err := openResolver(p, k.DNS)
	if err != nil {
		return nil, err
	}
	control := dialControl(p.Storage.State)
	r := &dkimsign.Rotation{
		Dir: signs.Directory, Resolver: resolver, Now: time.Now, Kinds: k.Types, Begin: k.Now,
		Every: k.Every.Time(), Overlap: k.Overlap.Time(), Keep: k.Keep.Time(),
		Note: func(domain, selector, what string) error {
			return noteKeyChange(control, p.Storage.State, fmt.Sprintf("DKIM key %s of %s: %s", selector, domain, what))
		},
		Reload: func() error { return reloadIfRunning(control) },
	}
	r.Taken = append(r.Taken, signs.Selector)
	for _, other := range signs.Keys {
		r.Taken = append(r.Taken, other.Selector)
	}
	return r, os.MkdirAll(signs.Directory, 0o700)
}

// signing returns the settings of the filter that signs.
func (k *dkimRotateCmd) signing(g *globals, p *policy.Policy) (*dkimsign.Checker, error) {
	c, ok := p.Chain().Checker(dkimsign.Filter.Name)
	if !ok {
		return nil, fmt.Errorf("%s: [filter.dkimsign] is switched off: nothing would be signed", g.Config)
	}
	signs, ok := c.(*dkimsign.Checker)
	if !ok || signs.Directory == "" {
		return nil, fmt.Errorf("%s: say where the keys lie, in a directory of the gateway's user:\n\n[filter.dkimsign]\ndirectory = %q", g.Config, p.Storage.State+"/dkim")
	}
	return signs, nil
}

// write prints the records to publish, and says how each key is.
func (k *dkimRotateCmd) write(g *globals, reports []dkimsign.KeyReport) error {
	publish := 0
	for i := range reports {
		r := &reports[i]
		if k.JSON {
			if err := printJSON(g.out, r); err != nil {
				return err
			}
			continue
		}
		if r.Waits() {
			publish++
			fmt.Fprint(g.out, dkim.ZoneLine(r.Name, r.Record))
		}
	}
	if k.JSON || g.Quiet {
		return nil
	}
	w := tabwriter.NewWriter(g.err, 0, 0, 2, ' ', 0)
	for i := range reports {
		r := &reports[i]
		text := r.Wait
		if r.Done != "" && r.Wait != "" {
			text = r.Done + "; " + r.Wait
		} else if r.Done != "" {
			text = r.Done
		}
		if text == "" {
			text = "signs"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Domain, r.Selector, cmp.Or(string(r.State), "gone"), text)
	}
	if publish > 0 {
		fmt.Fprintf(w, "Publish %s, then run this again. A resolver that has looked for a record before may not see it at once.\n",
			map[bool]string{true: "the record above", false: "the records above"}[publish == 1])
	}
	return w.Flush()
}

// ownState returns an error if the state directory is another user's: what is
// written there, and the keys, would be out of the gateway's reach.
func ownState(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the state directory: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Getuid() {
		return nil
	}
	name := strconv.Itoa(int(owner.Uid))
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return &exitError{exitNotAllowed, fmt.Errorf("the gateway's files are those of the user %s: run this as that user, with: sudo -u %s", name, name)}
}

// openResolver reads a zone file if one is named; else it asks real DNS.
func openResolver(p *policy.Policy, zone string) (dns.Resolver, error) {
	if zone == "" {
		return newResolver(p), nil
	}
	return dns.LoadZone(zone)
}

// isDown reports whether a call found no gateway.
func isDown(err error) bool {
	var e *exitError
	return errors.As(err, &e) && e.code == exitUnreachable
}

// reloadIfRunning makes a running gateway read its keys again.
func reloadIfRunning(c *controlClient) error {
	if err := c.call("POST", "/reload", nil, nil); err != nil && !isDown(err) {
		return fmt.Errorf("the running gateway has not taken the keys: %w", err)
	}
	return nil
}

// A keyNote is what is about to be done to a key.
type keyNote struct {
	Detail string `json:"detail"`
}

// noteKeyChange writes into the audit log: through the gateway if one runs,
// since it alone may write then.
func noteKeyChange(c *controlClient, state, detail string) error {
	err := c.call("POST", "/keys", keyNote{detail}, nil)
	if !isDown(err) {
		return err
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	l, err := (&places{root: state}).openAudit(nil)
	if err != nil {
		return err
	}
	return errors.Join(l.Append(context.Background(), audit.Record{Event: audit.KeyChange, Actor: processOwner(), Detail: detail}), l.Close())
}

// keyNoted answers noteKeyChange.
func (in *instance) keyNoted(r *http.Request) (any, error) {
	var note keyNote
	if err := decode(r, &note); err != nil {
		return nil, err
	}
	return struct{}{}, in.audit.Append(r.Context(), audit.Record{Event: audit.KeyChange, Actor: actor(r), Detail: note.Detail})
}
