package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"postern/audit"
	"postern/policy"
	"postern/smtpd"
)

// listen opens every listener's socket.
func (in *instance) listen(p *policy.Policy) error {
	for i := range p.Listeners {
		if err := in.listenOn(p, &p.Listeners[i]); err != nil {
			return err
		}
	}
	return nil
}

func (in *instance) listenOn(p *policy.Policy, l *policy.Listener) error {
	cfg, err := in.listenerConfig(p, l)
	if err != nil {
		return fmt.Errorf("listener %q: %w", l.Name, err)
	}
	socket, err := openSocket(l)
	if err != nil {
		return err
	}
	in.listeners[l.Name] = &listening{server: smtpd.NewServer(cfg, in.gateway), socket: socket, role: l.Role}
	return nil
}

// openSocket opens a listener's socket.
func openSocket(l *policy.Listener) (net.Listener, error) {
	socket, err := net.Listen("tcp", l.Address)
	switch {
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("listener %q: %w; a port below 1024 needs root or CAP_NET_BIND_SERVICE", l.Name, err)
	case err != nil:
		return nil, fmt.Errorf("listener %q: %w", l.Name, err)
	}
	return socket, nil
}

// serveOn begins to serve a socket that a reload has opened.
func (in *instance) serveOn(cfg smtpd.Config, l *listening) {
	l.server = smtpd.NewServer(cfg, in.gateway)
	in.listeners[cfg.Name] = l
	in.serveListener(cfg.Name, l)
}

func (in *instance) serveListener(name string, l *listening) {
	in.done.Go(func() {
		if err := l.server.Serve(l.socket); err != nil && !errors.Is(err, net.ErrClosed) {
			in.log.Error("listener ended", "listener", name, "error", err)
		}
	})
}

// listenerConfig turns a [[listener]] into what smtpd needs.
func (in *instance) listenerConfig(p *policy.Policy, l *policy.Listener) (smtpd.Config, error) {
	tlsConfig, err := in.tlsConfig(p, l)
	if err != nil {
		return smtpd.Config{}, err
	}
	return smtpd.Config{
		Name: l.Name, Hostname: p.Site.Hostname, Role: l.Role, LMTP: l.Protocol == "lmtp",
		Allow: l.Allow, Outbound: l.Outbound, TrustXForward: l.Trust.XForward, TrustXClient: l.Trust.XClient, TrustProxy: l.Trust.Proxy,
		TLS: l.TLS, TLSConfig: tlsConfig, RequireTLS: l.RequireTLS,
		Auth: l.Auth.Backend != "", MaxFailures: l.Auth.MaxFailures, Ban: time.Duration(l.Auth.Ban),
		Limits: smtpd.Limits{
			Connections: l.Limits.Connections, PerAddress: l.Limits.PerIP, Recipients: l.Limits.Rcpts, Errors: l.Limits.Errors,
			Junk: l.Limits.Junk, Messages: l.Limits.Messages, Message: int64(l.Limits.Message), Rate: smtpd.Rate{Messages: l.Limits.Rate.Count, Per: l.Limits.Rate.Per}, Command: time.Duration(l.Limits.Command),
			Data: time.Duration(l.Limits.Data), MinRate: int64(l.Limits.MinRate), GreetDelay: time.Duration(l.Limits.GreetDelay),
		},
		BareNewline: l.BareNewline, Spool: in.spool, Log: in.log,
		Hooks: in.meter.hooks(l.Name),
	}, nil
}

// tlsConfig is the listener's: the certificate of [tls], or a self-signed one
// made on the first start, so that STARTTLS works at once. A pair that is in use
// is kept: it watches its files by itself.
func (in *instance) tlsConfig(p *policy.Policy, l *policy.Listener) (*tls.Config, error) {
	if l.TLS == "off" {
		return nil, nil
	}
	files := [2]string{p.TLS.Certificate, p.TLS.Key}
	if files[0] == "" {
		dir := filepath.Join(in.dir, "tls")
		if err := noteKey(in.audit, dir, "a self-signed certificate is made"); err != nil {
			return nil, err
		}
		var err error
		if files[0], files[1], err = smtpd.SelfSigned(dir, p.Site.Hostname, time.Now()); err != nil {
			return nil, err
		}
	}
	if in.certs == nil || in.certFiles != files {
		certs, err := smtpd.LoadCertificates(files[0], files[1], in.log)
		if err != nil {
			return nil, err
		}
		if in.certs != nil {
			in.noteCertificate(files[0])
		}
		certs.OnReload(func() { in.noteCertificate(files[0]) })
		in.certs, in.certFiles = certs, files
	}
	return in.certs.Config(p.TLS.Minimum, p.TLS.ClientCA)
}

// noteCertificate writes down that another certificate is in use. It is called
// in the middle of handshakes: the record is made durable later.
func (in *instance) noteCertificate(file string) {
	in.log.Info("another certificate is in use", "file", file)
	if err := in.audit.AppendLater(audit.Record{Event: audit.KeyChange, Detail: "another certificate is in use: " + file}); err != nil {
		in.log.Error("write audit record", "event", string(audit.KeyChange), "error", err)
	}
}

// accountFiles are the accounts of each listener that offers AUTH.
type accountFiles struct {
	byListener atomic.Pointer[map[string]*smtpd.Accounts]
}

// read loads every accounts file anew; an error leaves the old ones in force.
func (a *accountFiles) read(p *policy.Policy, log *slog.Logger) error {
	m := map[string]*smtpd.Accounts{}
	for i := range p.Listeners {
		l := &p.Listeners[i]
		if l.Auth.Backend == "" {
			continue
		}
		acc, err := smtpd.OpenAccounts(l.Auth.File, log)
		if err != nil {
			return fmt.Errorf("listener %q: %w", l.Name, err)
		}
		m[l.Name] = acc
	}
	a.byListener.Store(&m)
	return nil
}

var errNoAccounts = errors.New("this listener has no accounts")

func (a *accountFiles) check(ctx context.Context, listener, user, password string) error {
	acc, ok := (*a.byListener.Load())[listener]
	if !ok {
		return errNoAccounts
	}
	return acc.Verify(ctx, user, password)
}
