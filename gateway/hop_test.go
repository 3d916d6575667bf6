package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/filters"
	"postern/mail"
	"postern/policy"
	"postern/smtpd"
)

// TestNewHop: what an [[upstream]] says reaches the relay.
func TestNewHop(t *testing.T) {
	dir := t.TempDir()
	cert, key, err := smtpd.SelfSigned(dir, "hop.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair := filepath.Join(dir, "pair.pem")
	var both []byte
	for _, name := range []string{cert, key} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, b...)
	}
	if err := os.WriteFile(pair, both, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, upstream, fails string
	}{
		{"all", fmt.Sprintf("ca = %q\nclient_cert = %q\nclient_key = %q\nprotocol = \"lmtp\"\nuser = \"u\"\npassword = { env = \"HOPPASS\" }\nclient_info = \"xforward\"\nconnections = 7\ntimeout = \"9s\"\nserver_name = \"s\"\nbalance = \"round-robin\"\nrecipients = { cache = \"2m\", negative_cache = \"3m\" }", cert, cert, key), ""},
		{"key in the certificate's file", fmt.Sprintf("client_cert = %q", pair), ""},
		{"no ca", `ca = "/nowhere/ca.pem"`, `upstream "mailbox": read ca:`},
		{"empty ca", fmt.Sprintf("ca = %q", empty), "holds no PEM certificate"},
		{"no client certificate", `client_cert = "/nowhere/cert.pem"`, `upstream "mailbox": read client_cert:`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("HOPPASS", "secret")
			w := &world{t: t, plan: plan{upstream: c.upstream}, hop: &nextHop{addr: "127.0.0.1:2600"}}
			p, err := policy.Load("policy.toml", []byte(w.policyText(noRules)), policy.LoadOptions{Filters: testFilters(nil)})
			if err != nil {
				t.Fatal(err)
			}
			st, err := NewState(p, mail.Options{}, &filters.Env{Log: slog.New(slog.DiscardHandler)})
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			h, ok := st.Hop("mailbox")
			if !ok || len(h.TLSConfig.Certificates) != 1 {
				t.Fatalf("hop %+v", h)
			}
			if c.name != "all" {
				return
			}
			if !h.LMTP || h.User != "u" || h.Password != "secret" || !h.XForward || h.Connections != 7 || h.Timeout != 9*time.Second || h.ServerName != "s" || h.Balance != "round-robin" ||
				h.Verify.Positive != 2*time.Minute || h.Verify.Negative != 3*time.Minute || h.TLSConfig.RootCAs == nil || h.To[0] != "127.0.0.1:2600" {
				t.Errorf("hop %+v", h)
			}
		})
	}
}

// TestAuth: passwords are checked against the accounts of the listener.
func TestAuth(t *testing.T) {
	w := newWorld(t, plan{wrap: func(o *Options) {
		o.Accounts = func(_ context.Context, listener, user, password string) error {
			if listener != "out" || user != "u" || password != "p" {
				return smtpd.ErrAuth
			}
			return nil
		}
	}})
	s := &mail.Session{Listener: "out"}
	if r := w.g.Connect(t.Context(), s); r.Code != 0 {
		t.Errorf("told %s", r)
	}
	if err := w.g.Auth(t.Context(), s, "u", "p"); err != nil {
		t.Error(err)
	}
	if err := w.g.Auth(t.Context(), s, "u", "q"); err != smtpd.ErrAuth {
		t.Error(err)
	}
}
