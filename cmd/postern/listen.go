package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"postern/policy"
	"postern/smtpd"
)

// listen opens every listener's socket.
func (in *instance) listen(p *policy.Policy) error {
	var err error
	in.certs, err = smtpd.OpenCertificates(smtpd.CertificateOptions{
		Certificate: p.TLS.Certificate, Key: p.TLS.Key, Minimum: p.TLS.Minimum, ClientCA: p.TLS.ClientCA,
		Dir: filepath.Join(in.dir, "tls"), Hostname: p.Site.Hostname, Log: in.log,
	})
	if err != nil {
		return err
	}
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
	socket, err := net.Listen("tcp", l.Address)
	if err != nil {
		return fmt.Errorf("listener %q: %w", l.Name, err)
	}
	in.listeners[l.Name] = &listening{server: smtpd.NewServer(cfg, in.gateway), socket: socket, role: l.Role}
	return nil
}

// listenerConfig turns a [[listener]] into what smtpd needs.
func (in *instance) listenerConfig(p *policy.Policy, l *policy.Listener) (smtpd.Config, error) {
	rate, err := smtpd.ParseRate(l.Limits.Rate)
	if err != nil {
		return smtpd.Config{}, err
	}
	var tlsConfig *tls.Config
	if l.TLS != "off" {
		tlsConfig = in.certs.Config()
	}
	return smtpd.Config{
		Name: l.Name, Hostname: p.Site.Hostname, Role: l.Role, LMTP: l.Protocol == "lmtp",
		Allow: l.Allow, Outbound: l.Outbound, TrustXForward: l.Trust.XForward, TrustXClient: l.Trust.XClient, TrustProxy: l.Trust.Proxy,
		TLS: l.TLS, TLSConfig: tlsConfig, RequireTLS: l.RequireTLS,
		Auth: l.Auth.Backend != "", MaxFailures: l.Auth.MaxFailures, Ban: time.Duration(l.Auth.Ban),
		Limits: smtpd.Limits{
			Connections: l.Limits.Connections, PerAddress: l.Limits.PerIP, Recipients: l.Limits.Rcpts, Errors: l.Limits.Errors,
			Messages: l.Limits.Messages, Message: int64(l.Limits.Message), Rate: rate, Command: time.Duration(l.Limits.Command),
			Data: time.Duration(l.Limits.Data), MinRate: int64(l.Limits.MinRate), GreetDelay: time.Duration(l.Limits.GreetDelay),
		},
		BareNewline: l.BareNewline, Spool: in.spool, Log: in.log,
		Hooks: smtpd.Hooks{Reply: in.meter.reply, AuthFailure: in.meter.authFails.Inc, TLS: in.meter.tlsSession},
	}, nil
}

// accountFiles are the accounts of each listener that offers AUTH.
type accountFiles struct {
	byListener atomic.Pointer[map[string]*smtpd.Accounts]
}

// read loads every accounts file anew; an error leaves the old ones in force.
func (a *accountFiles) read(p *policy.Policy) error {
	m := map[string]*smtpd.Accounts{}
	for i := range p.Listeners {
		l := &p.Listeners[i]
		if l.Auth.Backend == "" {
			continue
		}
		acc, err := smtpd.LoadAccounts(l.Auth.File)
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
