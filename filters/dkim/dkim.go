// Package dkim verifies the DKIM signatures of messages (RFC 6376). The work is
// done in package crypto/dkim; this is its filter.
//
// Each signature, up to ten, is one authentication result. A signature that does
// not hold means no more than none (RFC 6376 section 6.1): as soon as one holds,
// symbols tell of the good ones only, and so they do when the domain says that it
// is only testing. Mail of our own clients is not checked.
//
// The package decides nothing. A DNS error is the verdict temperror.
//
// # Diagnostics
//
// The evidence of a symbol names the domain, the selector, the algorithm and,
// unless the signature holds, why:
//
//	d=news.example s=s2026 a=rsa-sha256: the body was changed
package dkim

import (
	"context"
	"fmt"
	"strings"

	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters"
	"postern/mail"
)

// Filter declares the dkim filter.
var Filter = &filters.Filter{
	Name:  "dkim",
	Doc:   "verifies DKIM signatures",
	Stage: filters.Data,
	Light: true,
	Symbols: []filters.SymbolDoc{
		{Name: "DKIM_PASS", Doc: "A domain has signed the message, and nothing signed was changed.",
			DocFR: "Un domaine a signé le message, et rien de ce qui est signé n’a été modifié."},
		{Name: "DKIM_FAIL", Score: 0.5, Doc: "The message was changed after it was signed, or the signature is forged.",
			DocFR: "Le message a été modifié après sa signature, ou la signature est fausse."},
		{Name: "DKIM_NONE", Doc: "No domain has signed the message.",
			DocFR: "Aucun domaine n’a signé le message."},
		{Name: "DKIM_NEUTRAL", Score: 0.5, Doc: "A signature is there, but cannot be read.",
			DocFR: "Une signature est présente, mais illisible."},
		{Name: "DKIM_POLICY", Score: 0.5, Doc: "A signature may hold, but is too weak to count: a short key, or a part of the message that is not signed.",
			DocFR: "Une signature est peut-être valable, mais trop faible pour compter : clé courte, ou partie du message non signée."},
		{Name: "DKIM_TEMPERROR", Doc: "The key of a signature could not be looked up for now.",
			DocFR: "La clé d’une signature n’a pas pu être consultée pour le moment."},
		{Name: "DKIM_PERMERROR", Score: 0.5, Doc: "A signature cannot be verified: its key is missing or revoked, or it has expired.",
			DocFR: "Une signature est invérifiable : sa clé manque ou est révoquée, ou elle a expiré."},
		{Name: "DKIM_TESTING", Doc: "The signing domain says that it is only testing DKIM: its signature that does not hold counts as none.",
			DocFR: "Le domaine signataire dit qu’il teste seulement DKIM : sa signature non valable compte pour aucune."},
		{Name: "DKIM_BODY_LIMITED", Score: 1, Doc: "A signature covers the beginning of the message only: what follows may be anybody's.",
			DocFR: "Une signature ne couvre que le début du message : la suite peut être de n’importe qui."},
		{Name: "DKIM_WEAK_KEY", Doc: "A signature was made with an RSA key of less than 2048 bits.",
			DocFR: "Une signature a été faite avec une clé RSA de moins de 2048 bits."},
		{Name: "DKIM_MANY", Score: 1, Doc: "The message has more signatures than are judged.",
			DocFR: "Le message porte plus de signatures qu’il n’en est vérifié."},
	},
	Keys: []filters.MatchKey{{
		Name: "dkim", Doc: "DKIM has that result", Kind: filters.KeyEnum,
		Say: [2]string{"with the DKIM result %s", "dont le résultat DKIM est %s"},
		Values: []filters.KeyValue{
			{Word: dkim.Pass, Symbols: []string{"DKIM_PASS"}}, {Word: dkim.Fail, Symbols: []string{"DKIM_FAIL"}},
			{Word: dkim.None, Symbols: []string{"DKIM_NONE"}}, {Word: dkim.Neutral, Symbols: []string{"DKIM_NEUTRAL"}},
			{Word: dkim.Policy, Symbols: []string{"DKIM_POLICY"}}, {Word: dkim.TempError, Symbols: []string{"DKIM_TEMPERROR"}},
			{Word: dkim.PermError, Symbols: []string{"DKIM_PERMERROR"}},
		},
	}},
	New: func() filters.Checker { return &Checker{MinimumKey: 1024, BodyLength: dkim.BodyFail} },
}

// symbols are those of the results of a signature.
var symbols = map[string]string{
	dkim.Pass: "DKIM_PASS", dkim.Fail: "DKIM_FAIL", dkim.Neutral: "DKIM_NEUTRAL", dkim.Policy: "DKIM_POLICY",
	dkim.TempError: "DKIM_TEMPERROR", dkim.PermError: "DKIM_PERMERROR",
}

// weakKey is the least bits of an RSA key that nobody worries about (RFC 8301
// section 3.2).
const weakKey = 2048

// maxText bounds what of a message stands in evidence and reasons.
const maxText = 200

// Checker holds the settings.
type Checker struct {
	MinimumKey int    `toml:"minimum_key" doc:"bits of an RSA key below which a signature does not count; at least 1024"`
	BodyLength string `toml:"body_length" doc:"what of a signature that leaves a part of the body unsigned (l=): \"fail\" or \"partial\", which lets it pass"`

	resolver dns.Resolver
	keys     *dkim.KeyCache
	offline  bool
}

// Validate checks the settings.
func (c *Checker) Validate() error {
	if c.MinimumKey < 1024 || c.MinimumKey > 8192 {
		// RFC 8301 section 3.2: verifiers must not take keys of less than 1024 bits.
		return &filters.SettingError{Key: "minimum_key", Err: fmt.Errorf("%d is not between 1024 and 8192", c.MinimumKey)}
	}
	if c.BodyLength != dkim.BodyFail && c.BodyLength != dkim.BodyPartial {
		return &filters.SettingError{Key: "body_length", Err: fmt.Errorf("%q is not %q or %q", c.BodyLength, dkim.BodyFail, dkim.BodyPartial)}
	}
	return nil
}

// Open takes the resolver.
func (c *Checker) Open(_ context.Context, env *filters.Env) error {
	c.resolver, c.offline, c.keys = env.Resolver, env.Offline, dkim.NewKeyCache()
	return nil
}

// Check verifies the signatures.
func (c *Checker) Check(ctx context.Context, tx *mail.Transaction, _ filters.Results) (filters.Verdict, error) {
	if tx.Trusted() || c.resolver == nil && c.offline {
		return filters.Verdict{}, nil
	}
	results, err := dkim.Verify(ctx, tx.Message, dkim.Options{
		Resolver: c.resolver, Keys: c.keys, Now: tx.At, MinimumKey: c.MinimumKey, BodyLength: c.BodyLength,
	})
	if err != nil {
		return filters.Verdict{}, fmt.Errorf("verify signatures: %w", err)
	}
	return verdictOf(results), nil
}

// verdictOf makes the verdict of the results.
func verdictOf(results []dkim.Result) filters.Verdict {
	var v filters.Verdict
	if len(results) == 0 {
		v.Auth = []mail.AuthResult{{Method: "dkim", Value: dkim.None}}
		v.Symbols = []filters.Symbol{{Name: "DKIM_NONE"}}
		return v
	}
	passed := false
	for i := range results {
		passed = passed || results[i].Value == dkim.Pass
		v.Auth = append(v.Auth, AuthResult(&results[i]))
	}
	for i := range results {
		r := &results[i]
		note := func(symbol string) {
			v.Symbols = append(v.Symbols, filters.Symbol{Name: symbol, Evidence: evidence(r)})
		}
		switch {
		case r.SigPrefix == "" && r.Domain == "" && r.Value == dkim.Policy:
			note("DKIM_MANY")
			continue
		case r.Value == dkim.Pass:
			note("DKIM_PASS")
		case passed:
			continue
		case r.Testing:
			// RFC 6376 section 3.6.1: t=y means that a signature which does not
			// hold is no worse than none.
			note("DKIM_TESTING")
		default:
			note(symbols[r.Value])
		}
		if r.Unsigned > 0 {
			note("DKIM_BODY_LIMITED")
		}
		if r.Value == dkim.Pass && strings.HasPrefix(r.Algorithm, "rsa-") && r.KeyBits < weakKey {
			note("DKIM_WEAK_KEY")
		}
	}
	if len(v.Symbols) == 0 || !passed && onlyTesting(v.Symbols) {
		v.Symbols = append(v.Symbols, filters.Symbol{Name: "DKIM_NONE"})
	}
	return v
}

// onlyTesting reports whether no signature counts.
func onlyTesting(all []filters.Symbol) bool {
	for _, s := range all {
		if s.Name != "DKIM_TESTING" && s.Name != "DKIM_BODY_LIMITED" {
			return false
		}
	}
	return true
}

// evidence says what was seen.
func evidence(r *dkim.Result) string {
	var parts []string
	for _, p := range [][2]string{{"d=", r.Domain}, {"s=", r.Selector}, {"a=", r.Algorithm}} {
		if p[1] != "" {
			parts = append(parts, p[0]+p[1])
		}
	}
	if strings.HasPrefix(r.Algorithm, "rsa-") && r.KeyBits > 0 {
		parts = append(parts, fmt.Sprintf("%d bits", r.KeyBits))
	}
	text := strings.Join(parts, " ")
	if r.Reason != "" && text != "" {
		text += ": "
	}
	return filters.Clean(text+r.Reason, maxText)
}

// AuthResult returns a result as it stands in an Authentication-Results field
// (RFC 8601 section 2.7.1; header.b and header.s are of RFC 6008 and RFC 7489).
func AuthResult(r *dkim.Result) mail.AuthResult {
	a := mail.AuthResult{Method: "dkim", Value: r.Value, Reason: filters.Clean(dns.Told(r.Reason), maxText)}
	for _, p := range []mail.Property{
		{Type: "header", Name: "d", Value: r.Domain},
		{Type: "header", Name: "i", Value: r.Identity},
		{Type: "header", Name: "s", Value: r.Selector},
		{Type: "header", Name: "a", Value: r.Algorithm},
		{Type: "header", Name: "b", Value: r.SigPrefix},
	} {
		if p.Value == "" || p.Name == "i" && p.Value == "@"+r.Domain {
			continue
		}
		p.Value = filters.Clean(p.Value, maxText)
		a.Properties = append(a.Properties, p)
	}
	return a
}
