// Package arc validates the ARC chain of messages (RFC 8617), and seals those on
// the way in whose signatures a rewrite broke. The work is done in package
// crypto/dkim; this is its filter.
//
// A chain that passes says that nobody changed what the sealers wrote. It says
// nothing of whether they are honest: only the symbol ARC_TRUSTED, for chains all
// of whose sealers are in trusted_sealers, is worth an exception. A chain whose
// first sealer says itself that DMARC failed is not trusted: it vouches for
// nothing. Nor is one whose newest message signature leaves a From field unsigned:
// anybody may have added it.
//
// Sealing is a finisher: the gateway calls it after every rewrite, before any
// DKIM signature. What is sealed is the state in which the message came in.
//
// The package decides nothing. A DNS error is the verdict temperror. Mail of our
// own clients is neither checked nor sealed.
//
// # Diagnostics
//
// The evidence of a symbol names the sealers in order or says why the chain does
// not pass:
//
//	i=1 lists.example, i=2 forwarder.example
//	the message signature of i=2: the body was changed
//
// A key that cannot be read or used keeps the policy from being loaded. A seal
// that cannot be made is an error of Finish, so that the copy is held or deferred;
// a chain that must not be continued is left as it is.
package arc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters"
	"postern/mail"
	"postern/mail/authres"
)

// Filter declares the arc filter.
var Filter = &filters.Filter{
	Name:  "arc",
	Doc:   "validates ARC chains, and seals what it passes on changed",
	Stage: filters.Data,
	Light: true,
	Symbols: []filters.SymbolDoc{
		{Name: "ARC_PASS", Doc: "The servers that passed the message on say how it came to them, and nobody changed that since.",
			DocFR: "Les serveurs qui ont transmis le message disent comment ils l’ont reçu, et nul ne l’a modifié depuis."},
		{Name: "ARC_TRUSTED", Doc: "Every server that passed the message on and vouches for it is one that you trust.",
			DocFR: "Tous les serveurs qui ont transmis le message et s’en portent garants ont votre confiance."},
		{Name: "ARC_FAIL", Doc: "The message says which servers passed it on, but that was changed or forged.",
			DocFR: "Le message dit quels serveurs l’ont transmis, mais cela a été modifié ou falsifié."},
		{Name: "ARC_NONE", Doc: "No server says how it received the message before it passed it on.",
			DocFR: "Aucun serveur ne dit comment il a reçu le message avant de le transmettre."},
		{Name: "ARC_TEMPERROR", Doc: "Whether servers vouch for the message could not be found out for now.",
			DocFR: "Les garanties des serveurs qui ont transmis le message n’ont pas pu être vérifiées pour le moment."},
	},
	Keys: []filters.MatchKey{{
		Name: "arc", Doc: "the ARC chain is in that state; \"trusted\": it passes, and every sealer is one of trusted_sealers", Kind: filters.KeyEnum,
		Say: [2]string{"with the ARC result %s", "dont le résultat ARC est %s"},
		Values: []filters.KeyValue{
			{Word: dkim.Pass, Symbols: []string{"ARC_PASS"}}, {Word: dkim.Fail, Symbols: []string{"ARC_FAIL"}},
			{Word: dkim.None, Symbols: []string{"ARC_NONE"}}, {Word: "trusted", Symbols: []string{"ARC_TRUSTED"}},
			{Word: dkim.TempError, Symbols: []string{"ARC_TEMPERROR"}},
		},
	}},
	New: func() filters.Checker { return &Checker{} },
}

// maxText bounds what of a message stands in evidence and reasons.
const maxText = 200

// Checker holds the settings.
type Checker struct {
	TrustedSealers []string       `toml:"trusted_sealers" doc:"domains of sealers that are believed, with those below them"`
	Seal           bool           `toml:"seal" doc:"seal a message on the way in when a rewrite broke its signatures"`
	Domain         string         `toml:"domain" doc:"domain to seal with; empty: the first of [site] domains"`
	Selector       string         `toml:"selector" doc:"selector of the key to seal with; empty: the key of [filter.dkimsign]"`
	Key            filters.Secret `toml:"key" doc:"the key: { file = } or { credential = } with PEM, or the base64 of an Ed25519 key"`

	resolver dns.Resolver
	keys     *dkim.KeyCache
	offline  bool
	hostname string
	signer   dkim.Signer
}

// Validate checks the settings.
func (c *Checker) Validate() error {
	for _, d := range c.TrustedSealers {
		if !dkim.ValidName(strings.ToLower(d), 2) {
			return &filters.SettingError{Key: "trusted_sealers", Err: fmt.Errorf("%q is not a domain", d)}
		}
	}
	switch {
	case c.Domain != "" && !dkim.ValidName(c.Domain, 2):
		return &filters.SettingError{Key: "domain", Err: fmt.Errorf("%q is not a domain in lower case", c.Domain)}
	case c.Selector != "" && !dkim.ValidName(c.Selector, 1):
		return &filters.SettingError{Key: "selector", Err: fmt.Errorf("%q is not a selector in lower case", c.Selector)}
	case c.Selector == "" && !c.Key.IsZero():
		return &filters.SettingError{Key: "selector", Err: errors.New("a key needs a selector")}
	case c.Selector != "" && c.Key.IsZero():
		return &filters.SettingError{Key: "key", Err: fmt.Errorf("there is no key for the selector %q", c.Selector)}
	}
	return nil
}

// Open takes the resolver and reads the key.
func (c *Checker) Open(_ context.Context, env *filters.Env) error {
	c.resolver, c.offline, c.hostname, c.keys = env.Resolver, env.Offline, env.Hostname, dkim.NewKeyCache()
	if c.Domain == "" && len(env.Domains) > 0 {
		c.Domain = strings.ToLower(env.Domains[0])
	}
	if !c.Seal || c.Selector == "" || env.Offline {
		return nil
	}
	text, err := c.Key.Read()
	if err != nil {
		return fmt.Errorf("key to seal with: %w", err)
	}
	key, err := dkim.ParsePrivateKey(text)
	if err != nil {
		return fmt.Errorf("key to seal with: %w", err)
	}
	return c.UseSigner(dkim.Signer{Domain: c.Domain, Selector: c.Selector, Key: key})
}

// SealDomain returns the domain to seal with if the filter is to seal and has no
// key of its own: who wires the filters gives it one with UseSigner.
func (c *Checker) SealDomain() (string, bool) {
	return c.Domain, c.Seal && c.signer.Key == nil
}

// UseSigner sets the key to seal with. It comes after Open and before any Finish.
func (c *Checker) UseSigner(s dkim.Signer) error {
	s.Expire, s.Headers = 0, nil
	if err := s.Check(); err != nil {
		return fmt.Errorf("key to seal with: %w", err)
	}
	c.signer = s
	return nil
}

// options are those for the verifier.
func (c *Checker) options(tx *mail.Transaction) dkim.Options {
	return dkim.Options{Resolver: c.resolver, Keys: c.keys, Now: tx.At}
}

// Check validates the chain.
func (c *Checker) Check(ctx context.Context, tx *mail.Transaction, _ filters.Results) (filters.Verdict, error) {
	if tx.Trusted() || c.resolver == nil && c.offline {
		return filters.Verdict{}, nil
	}
	a, err := dkim.VerifyARC(ctx, tx.Message, c.options(tx))
	if err != nil {
		return filters.Verdict{}, fmt.Errorf("validate ARC chain: %w", err)
	}
	return c.verdictOf(&a), nil
}

// verdictOf makes the verdict of a chain.
func (c *Checker) verdictOf(a *dkim.ARC) filters.Verdict {
	var v filters.Verdict
	note := func(symbol, evidence string) {
		v.Symbols = append(v.Symbols, filters.Symbol{Name: symbol, Evidence: filters.Clean(evidence, maxText)})
	}
	r := mail.AuthResult{Method: "arc", Value: a.Value, Reason: filters.Clean(dns.Told(a.Reason), maxText)}
	switch a.Value {
	case dkim.Pass:
		// RFC 8617 section 10.2 registers header.oldest-pass; 0 means all.
		oldest := a.Oldest
		if oldest == 1 {
			oldest = 0
		}
		r.Properties = []mail.Property{{Type: "header", Name: "oldest-pass", Value: fmt.Sprint(oldest)}}
		names := sealers(a)
		switch untrusted := c.untrusted(a); {
		case untrusted == "":
			note("ARC_PASS", names)
			note("ARC_TRUSTED", names)
		case len(c.TrustedSealers) > 0:
			note("ARC_PASS", names+"; not trusted: "+untrusted)
		default:
			note("ARC_PASS", names)
		}
	case dkim.Fail:
		note("ARC_FAIL", a.Reason)
	case dkim.TempError:
		// RFC 8617 section 5.2 knows no other state than none, pass and fail;
		// that DNS failed is worth knowing all the same.
		note("ARC_TEMPERROR", a.Reason)
	default:
		note("ARC_NONE", "")
	}
	v.Auth = []mail.AuthResult{r}
	return v
}

// sealers lists who sealed, in order.
func sealers(a *dkim.ARC) string {
	var b strings.Builder
	for i, s := range a.Chain {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "i=%d %s", s.Instance, s.Domain)
	}
	return b.String()
}

// untrusted says why a chain that passes is not trusted; "" if it is.
func (c *Checker) untrusted(a *dkim.ARC) string {
	if !a.Authors {
		return "a From field that its newest message signature does not sign"
	}
	for _, s := range a.Chain {
		if !slices.ContainsFunc(c.TrustedSealers, func(d string) bool { return mail.Within(s.Domain, strings.ToLower(d)) }) {
			return s.Domain
		}
	}
	if dmarcFailed(a.Chain[0].Results) {
		return a.Chain[0].Domain + " says that DMARC had failed"
	}
	return ""
}

// dmarcFailed reports whether the results of a sealer say so. What cannot be read
// as results is searched as text: to trust less is safe.
func dmarcFailed(results string) bool {
	_, all, err := authres.Read(results)
	if err != nil {
		return strings.Contains(strings.ToLower(strings.Join(strings.Fields(results), "")), "dmarc=fail")
	}
	return slices.ContainsFunc(all, func(r mail.AuthResult) bool { return r.Method == "dmarc" && r.Value == dkim.Fail })
}

// Finish seals m if a rewrite broke what held when it came in: a DKIM signature
// or the newest message signature of its chain.
func (c *Checker) Finish(ctx context.Context, tx *mail.Transaction, results filters.Results, m *mail.Message) ([]string, error) {
	if !c.Seal || c.signer.Key == nil || tx.Trusted() || !vouched(results) {
		return nil, nil
	}
	same, err := dkim.Survive(tx.Message, m)
	if err != nil {
		return nil, fmt.Errorf("seal with ARC: %w", err)
	}
	if same {
		return nil, nil
	}
	return c.SealNow(ctx, tx, results, m)
}

// vouched reports whether anything held when the message came in.
func vouched(results filters.Results) bool {
	for _, r := range results {
		for _, a := range r.Verdict.Auth {
			if (a.Method == "dkim" || a.Method == "arc") && a.Value == dkim.Pass {
				return true
			}
		}
	}
	return false
}

// SealNow seals m whatever was changed: results, those of all filters, are what
// the seal vouches for, and the state of the chain is that of the message as it
// came. No fields: the chain must not be continued.
func (c *Checker) SealNow(ctx context.Context, tx *mail.Transaction, results filters.Results, m *mail.Message) ([]string, error) {
	previous, err := dkim.VerifyARC(ctx, tx.Message, c.options(tx))
	if err != nil {
		return nil, fmt.Errorf("seal with ARC: %w", err)
	}
	var all []mail.AuthResult
	for _, r := range results {
		all = append(all, r.Verdict.Auth...)
	}
	fields, err := dkim.SealARC(m, authres.Format(c.hostname, all), previous, c.signer, tx.At)
	if errors.Is(err, dkim.ErrChain) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("seal with ARC: %w", err)
	}
	return fields, nil
}

var _ filters.Finisher = (*Checker)(nil)
