package gateway

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters"
	"postern/mail"
	"postern/policy"
	"postern/relay"
)

// A State is all that one policy file stands for: its rules, the open filters
// and the next hops. It does not change; Reload makes a new one.
type State struct {
	Policy *policy.Policy
	Parse  mail.Options          // limits and unpackers for received messages
	hops   map[string]*relay.Hop // by name of the upstream
	ours   map[string]bool       // site.domains
	room   *room                 // for the large messages that are judged

	mu      sync.Mutex
	using   int
	retired bool
	cancel  context.CancelFunc
}

// NewState opens the filters of p and prepares its next hops. Its errors name
// the file or the filter to blame.
func NewState(p *policy.Policy, parse mail.Options, env *filters.Env) (*State, error) {
	st := &State{Policy: p, Parse: parse, hops: map[string]*relay.Hop{}, ours: map[string]bool{}, room: newRoom(int64(p.Limits.Memory))}
	for _, d := range p.Site.Domains {
		st.ours[d] = true
	}
	for i := range p.Upstreams {
		u := &p.Upstreams[i]
		hop, err := newHop(u)
		if err != nil {
			return nil, fmt.Errorf("upstream %q: %w", u.Name, err)
		}
		st.hops[u.Name] = hop
	}
	ctx, cancel := context.WithCancel(context.Background())
	st.cancel = cancel
	if err := p.Chain().Open(ctx, metered(env)); err != nil {
		cancel()
		return nil, err
	}
	if err := lendKey(p.Chain()); err != nil {
		cancel()
		return nil, err
	}
	return st, nil
}

// metered holds what filters look up for a message to its budget.
func metered(env *filters.Env) *filters.Env {
	if env == nil || env.Resolver == nil {
		return env
	}
	own := *env
	own.Resolver = dns.Metered(env.Resolver)
	return &own
}

// Hop returns the next hop of the upstream with that name.
func (st *State) Hop(name string) (*relay.Hop, bool) {
	h, ok := st.hops[name]
	return h, ok
}

// Ours reports whether d, in its normal form, is one of site.domains.
func (st *State) Ours(d string) bool { return st.ours[d] }

// acquire keeps the filters open until release. It is false if they are closed
// already.
func (st *State) acquire() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.retired && st.using == 0 {
		return false
	}
	st.using++
	return true
}

func (st *State) release() {
	st.mu.Lock()
	st.using--
	done := st.retired && st.using == 0
	st.mu.Unlock()
	if done {
		st.cancel()
	}
}

// Close closes the filters as soon as no transaction uses them any more.
func (st *State) Close() {
	st.mu.Lock()
	st.retired = true
	done := st.using == 0
	st.mu.Unlock()
	if done {
		st.cancel()
	}
}

// newHop turns an [[upstream]] into what relay needs.
func newHop(u *policy.Upstream) (*relay.Hop, error) {
	h := &relay.Hop{
		Name: u.Name, To: u.To, Balance: u.Balance, LMTP: u.Protocol == "lmtp",
		TLS: u.TLS, ServerName: u.ServerName,
		User: u.User, Password: u.Password.Reveal(), XForward: u.ClientInfo == "xforward",
		Verify:      relay.VerifyCache{Positive: time.Duration(u.Recipients.Cache), Negative: time.Duration(u.Recipients.NegativeCache)},
		Connections: u.Connections, Timeout: time.Duration(u.Timeout),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if u.CA != "" {
		pem, err := os.ReadFile(u.CA)
		if err != nil {
			return nil, fmt.Errorf("read ca: %w", err)
		}
		h.TLSConfig.RootCAs = x509.NewCertPool()
		if !h.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read ca: %s holds no PEM certificate", u.CA)
		}
	}
	if u.ClientCert != "" {
		key := u.ClientKey
		if key == "" {
			key = u.ClientCert
		}
		cert, err := tls.LoadX509KeyPair(u.ClientCert, key)
		if err != nil {
			return nil, fmt.Errorf("read client_cert: %w", err)
		}
		h.TLSConfig.Certificates = []tls.Certificate{cert}
	}
	return h, nil
}

type sealer interface {
	SealDomain() (string, bool)
	UseSigner(dkim.Signer) error
}

type signer interface {
	Signers(domain string) []dkim.Signer
}

// lendKey gives a filter that seals, but has no key of its own, the key with
// which the domain's mail is signed: RSA if there is one. RFC 8301 section 3.1:
// every verifier knows that, and of seals, unlike signatures, there is only one.
func lendKey(chain *filters.Chain) error {
	var seals sealer
	var signs signer
	for _, f := range chain.Filters() {
		c, _ := chain.Checker(f.Name)
		if s, ok := c.(sealer); ok {
			seals = s
		}
		if s, ok := c.(signer); ok {
			signs = s
		}
	}
	if seals == nil || signs == nil {
		return nil
	}
	domain, wants := seals.SealDomain()
	keys := signs.Signers(domain)
	if !wants || len(keys) == 0 {
		return nil
	}
	isRSA := func(s dkim.Signer) bool { _, is := s.Key.Public().(*rsa.PublicKey); return is }
	return seals.UseSigner(keys[max(slices.IndexFunc(keys, isRSA), 0)])
}
