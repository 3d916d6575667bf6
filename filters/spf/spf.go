// Package spf checks whether the client may use the domains that it names: that
// of the reverse-path and, unless that passes, that of HELO (RFC 7208). It
// evaluates records itself, exactly as the RFC has it; a record with an error
// anywhere is a permerror.
//
// The client is the one that the session tells, which PROXY, XCLIENT and
// XFORWARD have set already; behind a relay of trusted_relays it is the one that
// the relay's Received field names. Mail of our own clients is not checked.
//
// What a domain's record can make us ask is bounded: ten terms that look
// something up, two look-ups that find nothing, ten exchangers of one mx. Only
// letters, digits, hyphens, underscores and dots are taken for a domain: with
// anything else there is no domain to check.
//
// The package decides nothing. A DNS error is the verdict temperror.
//
// # Diagnostics
//
// The evidence of a symbol names the client, the domain, and the mechanism that
// matched or what went wrong:
//
//	203.0.113.9 for sender.example: -all; sender.example says: see https://sender.example/spf
package spf

import (
	"context"
	"fmt"
	"strings"

	"postern/dns"
	"postern/filters"
	"postern/mail"
)

// results are the values of a check with the ends of their symbols, in the order
// of the manual.
var results = []struct{ value, symbol string }{
	{Pass, "PASS"}, {Fail, "FAIL"}, {SoftFail, "SOFTFAIL"}, {Neutral, "NEUTRAL"},
	{None, "NONE"}, {TempError, "TEMPERROR"}, {PermError, "PERMERROR"},
}

// Beginnings of the symbols of the two identities.
const (
	forMail = "SPF_"
	forHelo = "SPF_HELO_"
)

// symbolOf returns the symbol of a result.
func symbolOf(prefix, value string) string { return prefix + strings.ToUpper(value) }

// keyValues are the words of a match key and their symbols.
func keyValues(prefix string) []filters.KeyValue {
	words := make([]filters.KeyValue, len(results))
	for i, r := range results {
		words[i] = filters.KeyValue{Word: r.value, Symbols: []string{prefix + r.symbol}}
	}
	return words
}

// Filter declares the spf filter.
var Filter = &filters.Filter{
	Name:  "spf",
	Doc:   "checks whether the client may send for the domains that it names (SPF)",
	Stage: filters.Data,
	Light: true,
	Symbols: []filters.SymbolDoc{
		{Name: "SPF_PASS", Doc: "The sending server may send mail for the domain of the reverse-path.",
			DocFR: "Le serveur d’envoi est autorisé par le domaine de l’expéditeur d’enveloppe."},
		{Name: "SPF_FAIL", Score: 2, Doc: "The domain of the reverse-path says that this server may not send its mail.",
			DocFR: "Le domaine de l’expéditeur d’enveloppe interdit à ce serveur d’envoyer son courrier."},
		{Name: "SPF_SOFTFAIL", Score: 0.5, Doc: "The domain of the reverse-path says that this server probably may not send its mail.",
			DocFR: "Selon le domaine de l’expéditeur d’enveloppe, ce serveur n’est sans doute pas autorisé."},
		{Name: "SPF_NEUTRAL", Doc: "The domain of the reverse-path does not say whether this server may send its mail.",
			DocFR: "Le domaine de l’expéditeur d’enveloppe ne se prononce pas sur ce serveur."},
		{Name: "SPF_NONE", Doc: "The domain of the reverse-path does not say which servers may send its mail.",
			DocFR: "Le domaine de l’expéditeur d’enveloppe ne dit pas quels serveurs sont autorisés."},
		{Name: "SPF_TEMPERROR", Doc: "The SPF record of the reverse-path could not be looked up for now.",
			DocFR: "L’enregistrement SPF de l’expéditeur d’enveloppe n’a pas pu être consulté pour le moment."},
		{Name: "SPF_PERMERROR", Score: 0.5, Doc: "The SPF record of the reverse-path has an error.",
			DocFR: "L’enregistrement SPF de l’expéditeur d’enveloppe contient une erreur."},
		{Name: "SPF_HELO_PASS", Doc: "The sending server may use the name by which it introduces itself.",
			DocFR: "Le serveur d’envoi est autorisé à se présenter sous ce nom."},
		{Name: "SPF_HELO_FAIL", Score: 1, Doc: "The sending server introduces itself by a name that it may not use.",
			DocFR: "Le serveur d’envoi se présente sous un nom qui lui est interdit."},
		{Name: "SPF_HELO_SOFTFAIL", Doc: "The sending server introduces itself by a name that it probably may not use.",
			DocFR: "Le serveur d’envoi se présente sous un nom qui ne lui est sans doute pas permis."},
		{Name: "SPF_HELO_NEUTRAL", Doc: "The name by which the sending server introduces itself does not say who may use it.",
			DocFR: "Le nom sous lequel le serveur d’envoi se présente ne se prononce pas sur ce serveur."},
		{Name: "SPF_HELO_NONE", Doc: "The name by which the sending server introduces itself has no SPF record.",
			DocFR: "Le nom sous lequel le serveur d’envoi se présente n’a pas d’enregistrement SPF."},
		{Name: "SPF_HELO_TEMPERROR", Doc: "The SPF record of the sending server's name could not be looked up for now.",
			DocFR: "L’enregistrement SPF du nom du serveur d’envoi n’a pas pu être consulté pour le moment."},
		{Name: "SPF_HELO_PERMERROR", Doc: "The SPF record of the sending server's name has an error.",
			DocFR: "L’enregistrement SPF du nom du serveur d’envoi contient une erreur."},
	},
	Keys: []filters.MatchKey{
		{Name: "spf", Doc: "SPF has that result for the reverse-path", Kind: filters.KeyEnum, Values: keyValues(forMail),
			Say: [2]string{"with the SPF result %s", "dont le résultat SPF est %s"}},
		{Name: "spf_helo", Doc: "SPF has that result for the name in HELO", Kind: filters.KeyEnum, Values: keyValues(forHelo),
			Say: [2]string{"with the SPF result %s for HELO", "dont le résultat SPF pour HELO est %s"}},
	},
	Actions: []filters.ActionDoc{{
		Name: "received-spf",
		Doc:  "adds a Received-SPF field with the result for the reverse-path (RFC 7208 section 9.1)",
		Say:  [2]string{"add a Received-SPF field", "ajouter un champ Received-SPF"},
		New:  func() any { return &struct{}{} },
	}},
	New: func() filters.Checker { return &Checker{Helo: true, VoidLookUps: 2, Explain: true} },
}

// Checker holds the settings.
type Checker struct {
	TrustedRelays filters.Networks `toml:"trusted_relays" doc:"addresses and networks of relays whose Received field tells the client"`
	Helo          bool             `toml:"helo" doc:"check the name in HELO too where the reverse-path does not pass; where it is null that is always done"`
	VoidLookUps   int              `toml:"void_lookups" doc:"how many look-ups of a record may find nothing"`
	Explain       bool             `toml:"explain" doc:"look up what the domain has to say of a fail"`

	resolver dns.Resolver
	receiver string
	offline  bool
}

// Validate checks the settings.
func (c *Checker) Validate() error {
	if c.VoidLookUps < 0 || c.VoidLookUps > 100 {
		return &filters.SettingError{Key: "void_lookups", Err: fmt.Errorf("%d is not between 0 and 100", c.VoidLookUps)}
	}
	return nil
}

// Open takes the resolver.
func (c *Checker) Open(_ context.Context, env *filters.Env) error {
	c.resolver, c.receiver, c.offline = env.Resolver, env.Hostname, env.Offline
	return nil
}

// An outcome is the answer for one identity.
type outcome struct {
	Answer
	identity string // "mailfrom" or "helo", the property of the result
	domain   string
}

// Check checks both identities.
func (c *Checker) Check(ctx context.Context, tx *mail.Transaction, _ filters.Results) (filters.Verdict, error) {
	if tx.Trusted() || c.resolver == nil && c.offline {
		return filters.Verdict{}, nil
	}
	client, known := filters.ClientBehind(tx, c.TrustedRelays)
	q := Query{Addr: client.Addr, Helo: client.Helo, Receiver: c.receiver, At: tx.At, MaxVoid: c.VoidLookUps, Explain: c.Explain}
	ask := func(identity, local, domain string) outcome {
		q := q
		q.Local, q.Domain = local, mail.NormalDomain(domain)
		return outcome{c.answer(ctx, q, known), identity, q.Domain}
	}
	if tx.ReversePath.IsNull() {
		// RFC 7208 section 2.4: the identity of a null reverse-path is postmaster
		// at the name in HELO.
		o := ask("helo", "", client.Helo)
		return verdictOf(client, []outcome{o, o}), nil
	}
	// RFC 7208 section 2.3: where one identity is enough to know the client the
	// other is worth no look-up.
	all := []outcome{ask("mailfrom", tx.ReversePath.Local, tx.ReversePath.Domain)}
	if c.Helo && all[0].Result != Pass {
		all = append(all, ask("helo", "", client.Helo))
	}
	return verdictOf(client, all), nil
}

// answer checks one identity.
func (c *Checker) answer(ctx context.Context, q Query, known bool) Answer {
	switch {
	case !known:
		return Answer{Result: None, Reason: "it is not known which host sent the message"}
	case !isSafe(q.Domain):
		return Answer{Result: None, Reason: "there is no domain to check"}
	case c.resolver == nil:
		return Answer{Result: TempError, Reason: "there is no DNS resolver"}
	}
	return Check(ctx, c.resolver, q)
}

// isSafe reports whether a domain has only characters that mean the same to
// everybody who reads it.
func isSafe(domain string) bool {
	for i := 0; i < len(domain); i++ {
		switch c := domain[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return domain != ""
}

// verdictOf makes the verdict of the outcomes: the first is that of the
// reverse-path, the second that of HELO. One that stands for both is one
// authentication result. Its details are the filters.Client that was checked.
func verdictOf(client filters.Client, outcomes []outcome) filters.Verdict {
	v := filters.Verdict{Details: client}
	for i, o := range outcomes {
		prefix := forMail
		if i > 0 {
			prefix = forHelo
		}
		v.Symbols = append(v.Symbols, filters.Symbol{Name: symbolOf(prefix, o.Result), Evidence: o.evidence(client)})
		if i > 0 && o == outcomes[0] {
			continue
		}
		r := mail.AuthResult{Method: "spf", Value: o.Result, Properties: []mail.Property{{Type: "smtp", Name: o.identity, Value: o.domain}}}
		if o.Result != Pass {
			r.Reason = filters.Clean(dns.Told(o.Reason), maxReason)
		}
		v.Auth = append(v.Auth, r)
	}
	return v
}

// Bounds of what is shown.
const (
	maxReason      = 150
	maxExplanation = 300
)

// evidence says what was seen.
func (o *outcome) evidence(client filters.Client) string {
	text := fmt.Sprintf("%s for %s: %s", client.Addr, filters.Clean(o.domain, maxReason), filters.Clean(o.Reason, maxReason))
	if client.Hops > 0 {
		text += fmt.Sprintf(" (behind %d trusted relays)", client.Hops)
	}
	if o.Explanation != "" {
		text += "; " + o.domain + " says: " + filters.Clean(o.Explanation, maxExplanation)
	}
	return text
}

// Rewrite adds a Received-SPF field.
func (c *Checker) Rewrite(_ context.Context, in filters.RewriteInput) (*mail.Message, error) {
	v, ok := in.Results.Of("spf")
	if !ok || len(v.Auth) == 0 {
		return in.Message, nil // our own client, or the filter is broken: there is nothing to say
	}
	client, _ := filters.ClientBehind(in.Tx, c.TrustedRelays)
	e := in.Message.Edit()
	e.Prepend(receivedSPF(c.receiver, client, in.Tx.ReversePath, &v.Auth[0]))
	return e.Message()
}

// receivedSPF writes the field (RFC 7208 section 9.1).
func receivedSPF(receiver string, client filters.Client, from mail.Path, r *mail.AuthResult) string {
	identity := "mailfrom"
	if from.IsNull() {
		identity = "helo"
	}
	pairs := []string{
		"identity=" + identity, "client-ip=" + client.Addr.String(), "helo=" + quote(client.Helo),
		"envelope-from=" + quote(from.String()), "receiver=" + quote(receiver),
	}
	return mail.FoldField("Received-SPF", r.Value+" "+strings.Join(pairs, "; ")+";")
}

// quote writes a quoted string of printable ASCII.
func quote(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r > '~':
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
		if b.Len() > maxExplanation {
			break
		}
	}
	return `"` + b.String() + `"`
}
