// Package iprev checks whether the client's address has a name that leads back
// to it: forward-confirmed reverse DNS (RFC 8601 section 3).
//
// The client is the one of the session, or the one behind the relays of
// trusted_relays. Mail of our own clients is not checked. At most ten names are
// tried, and as many look-ups as are needed until one leads back.
//
// # Diagnostics
//
// The evidence names the address and the names that were tried. A DNS error is
// the verdict temperror, unless another name leads back.
package iprev

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"postern/dns"
	"postern/filters"
	"postern/mail"
)

// maxNames bounds the names of an address that are tried (RFC 8601 section 3
// takes the limit of RFC 7208 section 4.6.4 for an example).
const maxNames = 10

// Filter declares the iprev filter.
var Filter = &filters.Filter{
	Name:  "iprev",
	Doc:   "checks whether the client's address has a name that leads back to it",
	Stage: filters.Data,
	Light: true,
	Symbols: []filters.SymbolDoc{
		{Name: "IPREV_PASS", Doc: "The address of the sending server has a name that leads back to it.",
			DocFR: "L’adresse du serveur d’envoi a un nom qui y ramène."},
		{Name: "IPREV_FAIL", Score: 0.5, Doc: "The address of the sending server has names, but none leads back to it.",
			DocFR: "L’adresse du serveur d’envoi a des noms, mais aucun n’y ramène."},
		{Name: "IPREV_TEMPERROR", Doc: "The name of the sending server could not be looked up for now.",
			DocFR: "Le nom du serveur d’envoi n’a pas pu être consulté pour le moment."},
		{Name: "IPREV_NONE", Score: 0.5, Doc: "The address of the sending server has no name.",
			DocFR: "L’adresse du serveur d’envoi n’a pas de nom."},
	},
	Keys: []filters.MatchKey{{
		Name: "iprev", Doc: "the check of the client's name has that result", Kind: filters.KeyEnum,
		Say: [2]string{"with the iprev result %s", "dont le résultat iprev est %s"},
		Values: []filters.KeyValue{
			{Word: "pass", Symbols: []string{"IPREV_PASS"}}, {Word: "fail", Symbols: []string{"IPREV_FAIL"}},
			{Word: "temperror", Symbols: []string{"IPREV_TEMPERROR"}}, {Word: "none", Symbols: []string{"IPREV_NONE"}},
		},
	}},
	New: func() filters.Checker { return &Checker{} },
}

// Checker holds the settings.
type Checker struct {
	TrustedRelays filters.Networks `toml:"trusted_relays" doc:"addresses and networks of relays whose Received field tells the client"`

	resolver dns.Resolver
	offline  bool
}

// Open takes the resolver.
func (c *Checker) Open(_ context.Context, env *filters.Env) error {
	c.resolver, c.offline = env.Resolver, env.Offline
	return nil
}

// Check looks the client's names up.
func (c *Checker) Check(ctx context.Context, tx *mail.Transaction, _ filters.Results) (filters.Verdict, error) {
	if tx.Trusted() || c.resolver == nil && c.offline {
		return filters.Verdict{}, nil
	}
	client, known := filters.ClientBehind(tx, c.TrustedRelays)
	if !known {
		return filters.Verdict{}, nil // RFC 8601 section 3: there is no address to check
	}
	symbol, evidence := "IPREV_TEMPERROR", "there is no DNS resolver"
	if c.resolver != nil {
		symbol, evidence = confirm(ctx, c.resolver, client.Addr)
	}
	value := strings.ToLower(strings.TrimPrefix(symbol, "IPREV_"))
	if value == "none" {
		value = "permerror" // RFC 8601 section 2.7.3: no PTR records
	}
	return filters.Verdict{
		Symbols: []filters.Symbol{{Name: symbol, Evidence: client.Addr.String() + ": " + filters.Clean(evidence, maxEvidence)}},
		Auth:    []mail.AuthResult{{Method: "iprev", Value: value, Properties: []mail.Property{{Type: "policy", Name: "iprev", Value: client.Addr.String()}}}},
	}, nil
}

// confirm returns the symbol for an address and what was seen.
func confirm(ctx context.Context, r dns.Resolver, addr netip.Addr) (symbol, evidence string) {
	answer, err := r.PTR(ctx, addr)
	switch {
	case errors.Is(err, dns.ErrNotFound) || err == nil && len(answer.Records) == 0:
		return "IPREV_NONE", "it has no name"
	case err != nil:
		return "IPREV_TEMPERROR", err.Error()
	}
	forward := r.AAAA
	if addr.Is4() {
		forward = r.A
	}
	names := answer.Records[:min(len(answer.Records), maxNames)]
	var failed error
	for _, name := range names {
		addrs, err := forward(ctx, name)
		switch {
		case err == nil && slices.Contains(addrs.Records, addr):
			return "IPREV_PASS", name
		case err != nil && !errors.Is(err, dns.ErrNotFound):
			failed = err
		}
	}
	if failed != nil {
		return "IPREV_TEMPERROR", failed.Error()
	}
	return "IPREV_FAIL", "no way back from " + strings.Join(names, ", ")
}

// maxEvidence bounds what is shown of the names.
const maxEvidence = 253
