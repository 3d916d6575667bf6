package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"postern/filters"
	"postern/filters/virus"
	"postern/policy"
)

// checkState looks at the state directory: whose it is, who may read it, how
// much room there is.
func checkState(_ context.Context, x *patient, f *findings) {
	dir := x.policy.Storage.State
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		f.warn(dir, "the first start of the gateway makes it", "is not there")
		return
	}
	if err != nil {
		f.bad(dir, "", "%v", err)
		return
	}
	if err := ownState(dir); err != nil {
		f.bad(dir, "", "%v", err)
		return
	}
	switch {
	case !info.IsDir():
		f.bad(dir, "name another one with [storage] state", "is no directory")
		return
	case syscall.Access(dir, 0x7) != nil: // read, write, search
		f.bad(dir, "chmod 700 "+dir, "may not be written by its own user")
	case info.Mode().Perm()&0o077 != 0:
		f.warn(dir, "chmod 700 "+dir, "others may look into it: mode %04o", info.Mode().Perm())
	}
	for _, name := range []string{auditKey(dir), filepath.Join(dir, "quarantine.key")} {
		if err := filters.Exposed(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.bad("", "", "%v", err)
		}
	}
	checkRoom(dir, x.policy, f)
}

// checkRoom compares the free space with what is kept free.
func checkRoom(dir string, p *policy.Policy, f *findings) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		f.bad(dir, "", "%v", err)
		return
	}
	free, keep := int64(disk.Bavail)*int64(disk.Bsize), reserve(dir, int64(p.Queue.Reserve))
	switch {
	case free <= keep:
		f.bad(dir, "make room", "mail is refused with 452: %s free, and [queue] reserve keeps %s", bytesText(free), bytesText(keep))
	case free < keep+int64(p.Quarantine.MaxSize)/4:
		f.warn(dir, "make room, or lower [quarantine] max_size", "%s free beyond the reserve of %s; the quarantine may take %s",
			bytesText(free-keep), bytesText(keep), bytesText(int64(p.Quarantine.MaxSize)))
	default:
		f.ok(dir, "%s free", bytesText(free))
	}
}

// skew is how far two clocks of one machine may be apart.
const skew = 5 * time.Minute

// checkClock finds a clock that was set back, and one that nobody sets.
func checkClock(_ context.Context, x *patient, f *findings) {
	for _, name := range []string{auditHead(x.policy.Storage.State), x.file} {
		if info, err := os.Stat(name); err == nil && info.ModTime().After(x.now.Add(skew)) {
			f.bad("", "set the clock", "it says %s, but %s was written at %s: mail is kept, and certificates hold, by the clock",
				x.now.UTC().Format(time.RFC3339), name, info.ModTime().UTC().Format(time.RFC3339))
			return
		}
	}
	if synchronised, known := clockSynchronised(); known && !synchronised {
		f.warn("", "run an NTP client, such as chrony or systemd-timesyncd", "nothing keeps it synchronised")
		return
	}
	f.ok("", "%s", x.now.UTC().Format(time.RFC3339))
}

// Certificates that end so soon are told.
const (
	certificateSoon = 21 * 24 * time.Hour
	certificateNow  = 3 * 24 * time.Hour
)

// checkCertificate looks at the certificate of our own listeners.
func checkCertificate(_ context.Context, x *patient, f *findings) {
	t := &x.policy.TLS
	if t.Certificate == "" {
		for i := range x.policy.Listeners {
			if l := &x.policy.Listeners[i]; l.TLS != "off" {
				f.warn(l.Name, "name one with [tls] certificate and key", "shows a self-signed certificate: clients that verify it refuse it")
			}
		}
		return
	}
	if err := filters.Exposed(t.Key); err != nil {
		f.bad(t.Key, "", "%v", err)
	}
	pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		f.bad(t.Certificate, "", "%v", err)
		return
	}
	chain := make([]*x509.Certificate, 0, len(pair.Certificate))
	for _, raw := range pair.Certificate {
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			f.bad(t.Certificate, "", "%v", err)
			return
		}
		chain = append(chain, c)
	}
	if f.lifetime(t.Certificate, "renew it", chain[0], x.now) {
		f.trust(t.Certificate, "", chain, x.policy.Site.Hostname, nil, x.now)
	}
}

// lifetime reports on when a certificate holds; false: it does not.
func (f *findings) lifetime(subject, remedy string, c *x509.Certificate, now time.Time) bool {
	left := c.NotAfter.Sub(now)
	days := int(left / (24 * time.Hour))
	switch end := c.NotAfter.UTC().Format(time.DateOnly); {
	case now.Before(c.NotBefore):
		f.bad(subject, "look at the clock too", "the certificate holds only from %s on", c.NotBefore.UTC().Format(time.DateOnly))
		return false
	case left <= 0:
		f.bad(subject, remedy, "the certificate ended on %s", end)
		return false
	case left < certificateNow:
		f.bad(subject, remedy, "the certificate ends on %s, in %s", end, count(days, "day"))
	case left < certificateSoon:
		f.warn(subject, remedy, "the certificate ends on %s, in %s", end, count(days, "day"))
	default:
		f.ok(subject, "the certificate has %s left", count(days, "day"))
	}
	return true
}

// trust reports on whether a certificate is for a name, and who vouches for it.
func (f *findings) trust(subject, remedy string, chain []*x509.Certificate, name string, roots *x509.CertPool, now time.Time) {
	if err := chain[0].VerifyHostname(name); err != nil {
		f.warn(subject, remedy, "%v", err)
		return
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between, CurrentTime: now}); err != nil {
		f.warn(subject, remedy, "%v", err)
	}
}

// Signatures of an engine older than that are told.
const (
	signaturesOld   = 3 * 24 * time.Hour
	signaturesStale = 14 * 24 * time.Hour
)

// checkEngines asks the antivirus engines what they are.
func checkEngines(ctx context.Context, x *patient, f *findings) {
	c, ok := x.policy.Chain().Checker(virus.Filter.Name)
	if !ok {
		f.warn("", "", "[filter.virus] is switched off")
		return
	}
	engines, ok := c.(*virus.Checker)
	if !ok || len(engines.Engines) == 0 {
		return // the loader of the policy warns
	}
	ctx, cancel := context.WithTimeout(ctx, hopLimit)
	defer cancel()
	for _, e := range engines.States(ctx) {
		age := x.now.Sub(e.Signatures)
		const remedy = "look at freshclam"
		switch {
		case e.Err != nil:
			f.bad(e.Engine, "mail waits until it answers: start it, or mend [filter.virus] engines", "%v", e.Err)
		case e.Signatures.IsZero():
			f.bad(e.Engine, remedy, "%s has no signatures", e.Version)
		case age > signaturesStale:
			f.bad(e.Engine, remedy, "%s: the signatures are %s old", e.Version, count(int(age/(24*time.Hour)), "day"))
		case age > signaturesOld:
			f.warn(e.Engine, remedy, "%s: the signatures are %s old", e.Version, count(int(age/(24*time.Hour)), "day"))
		default:
			f.ok(e.Engine, "%s: the signatures are of %s", e.Version, e.Signatures.UTC().Format(time.DateOnly))
		}
	}
}
