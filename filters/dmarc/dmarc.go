// Package dmarc says whether the author domain of a message is authenticated,
// and what that domain wants done if not (RFC 9989): whether SPF or DKIM pass for
// a domain that is aligned with the one in the From field.
//
// The record that applies, and the organisational domains, are found by the DNS
// tree walk; no list of public suffixes is used. What RFC 7489 had in records is
// read without error and without effect. A domain that looks up for nothing, or
// has two records, has none.
//
// DMARC knows messages with one From field that has one domain. In any other
// message every domain that can be read in the From fields counts as claimed: it
// never passes, and the strictest policy of those domains holds. Mail of our own
// clients is not judged.
//
// The package decides nothing: it reports result and policy, and a policy rule
// says what follows. A DNS error is the verdict temperror; so is one of SPF or
// DKIM, where it is about a domain that is aligned and nothing else passes; the
// policy is reported then, too.
//
// Where aggregate reports are sent, a verdict carries what the report says of the
// message (Finding), and Destinations says who may get it (RFC 9990).
//
// # Diagnostics
//
// The evidence names the author domain, what SPF and DKIM have found, where the
// record stands and what it asks for:
//
//	news.example.org: spf=fail bounce.example.net, dkim=none; example.org says reject
package dmarc

import (
	"context"
	"strings"

	"postern/dns"
	"postern/filters"
	"postern/mail"
)

// maxLookUps bounds the DNS look-ups for one message.
const maxLookUps = 60

// Filter declares the dmarc filter.
var Filter = &filters.Filter{
	Name:     "dmarc",
	Doc:      "checks whether the author's domain is authenticated, and what it asks for if not (DMARC)",
	Stage:    filters.Data,
	Light:    true,
	Requires: []string{"spf", "dkim"},
	Symbols: []filters.SymbolDoc{
		{Name: "DMARC_PASS", Doc: "The author's domain is authenticated: the message comes from where it says.",
			DocFR: "Le domaine de l’auteur est authentifié : le message vient bien d’où il le dit."},
		{Name: "DMARC_FAIL", Score: 1, Doc: "The author's domain is not authenticated: anybody may have written the message.",
			DocFR: "Le domaine de l’auteur n’est pas authentifié : n’importe qui peut avoir écrit le message."},
		{Name: "DMARC_NONE", Doc: "The author's domain does not say how its mail can be authenticated.",
			DocFR: "Le domaine de l’auteur ne dit pas comment authentifier son courrier."},
		{Name: "DMARC_TEMPERROR", Doc: "Whether the author's domain is authenticated could not be found out for now.",
			DocFR: "L’authentification du domaine de l’auteur n’a pas pu être vérifiée pour le moment."},
		{Name: "DMARC_PERMERROR", Score: 1, Doc: "Whether the author's domain is authenticated cannot be found out: the From field or the domain's record is in error.",
			DocFR: "L’authentification du domaine de l’auteur est invérifiable : le champ From ou l’enregistrement du domaine est erroné."},
		{Name: "DMARC_POLICY_REJECT", Doc: "The author's domain asks to refuse its mail where it is not authenticated.",
			DocFR: "Le domaine de l’auteur demande de refuser son courrier s’il n’est pas authentifié."},
		{Name: "DMARC_POLICY_QUARANTINE", Doc: "The author's domain asks to treat its mail with suspicion where it is not authenticated.",
			DocFR: "Le domaine de l’auteur demande de se méfier de son courrier s’il n’est pas authentifié."},
		{Name: "DMARC_POLICY_NONE", Doc: "The author's domain asks for nothing where its mail is not authenticated.",
			DocFR: "Le domaine de l’auteur ne demande rien si son courrier n’est pas authentifié."},
		{Name: "FROM_ALIGNED", Doc: "SPF or DKIM confirm the author's domain, whether it has a DMARC record or not.",
			DocFR: "SPF ou DKIM confirment le domaine de l’auteur, qu’il ait un enregistrement DMARC ou non."},
		{Name: "FROM_INVALID", Score: 2, Doc: "The message does not name one author clearly: mail programs may show different ones.",
			DocFR: "Le message ne nomme pas clairement un seul auteur : les logiciels peuvent en montrer de différents."},
	},
	Keys: []filters.MatchKey{
		{Name: "dmarc", Doc: "DMARC has that result", Kind: filters.KeyEnum, Say: [2]string{"with the DMARC result %s", "dont le résultat DMARC est %s"},
			Values: []filters.KeyValue{
				{Word: pass, Symbols: []string{"DMARC_PASS"}}, {Word: fail, Symbols: []string{"DMARC_FAIL"}}, {Word: none, Symbols: []string{"DMARC_NONE"}},
				{Word: tempError, Symbols: []string{"DMARC_TEMPERROR"}}, {Word: permError, Symbols: []string{"DMARC_PERMERROR"}},
			}},
		{Name: "dmarc_policy", Doc: "the author's domain asks for that where DMARC fails", Kind: filters.KeyEnum,
			Say: [2]string{"whose domain has the DMARC policy %s", "dont le domaine a la politique DMARC %s"},
			Values: []filters.KeyValue{
				{Word: "none", Symbols: []string{"DMARC_POLICY_NONE"}}, {Word: "quarantine", Symbols: []string{"DMARC_POLICY_QUARANTINE"}},
				{Word: "reject", Symbols: []string{"DMARC_POLICY_REJECT"}},
			}},
		{Name: "from_aligned", Doc: "SPF or DKIM pass for a domain that is aligned with the author's", Kind: filters.KeyBool,
			Say: [2]string{"whose author domain is confirmed by SPF or DKIM: %s", "dont le domaine d’auteur est confirmé par SPF ou DKIM : %s"}, Symbols: []string{"FROM_ALIGNED"}},
		{Name: "from_invalid", Doc: "the message does not name one author clearly", Kind: filters.KeyBool,
			Say: [2]string{"without one clear author: %s", "sans auteur unique et clair : %s"}, Symbols: []string{"FROM_INVALID"}},
	},
	New: func() filters.Checker {
		return &Checker{Reports: ReportsOff, Keep: filters.Duration(DefaultKeep)}
	},
}

// Checker holds the settings. All but Reports matter only where reports are
// sent; package feedback does that.
type Checker struct {
	Reports      Reports          `toml:"reports" doc:"\"daily\" sends aggregate reports to the domains that ask for them"`
	From         string           `toml:"report_from" doc:"author of the reports, of one of the domains of [site]; empty: the administrator of [site]"`
	Organisation string           `toml:"report_org" doc:"name of the organisation that reports; empty: the name of [site], or the domain of report_from"`
	Contact      string           `toml:"report_contact" doc:"how else to reach whoever sends the reports, as an address of a web page"`
	Own          bool             `toml:"report_own" doc:"report to the domains of [site] too"`
	Keep         filters.Duration `toml:"report_keep" doc:"how long is kept what could not be reported, and to whom reports were sent"`

	resolver dns.Resolver
	offline  bool
}

// Open takes the resolver.
func (c *Checker) Open(_ context.Context, env *filters.Env) error {
	c.resolver, c.offline = env.Resolver, env.Offline
	return nil
}

// Check judges the author domain. The details of its verdict are a *Finding,
// where one is wanted.
func (c *Checker) Check(ctx context.Context, tx *mail.Transaction, in filters.Results) (filters.Verdict, error) {
	if tx.Trusted() || c.resolver == nil && c.offline {
		return filters.Verdict{}, nil
	}
	a := authorOf(tx.Message)
	if err := tx.Message.Err(); err != nil {
		return filters.Verdict{}, err
	}
	ids := identifiers(tx, in)
	j := judgement{value: tempError, reason: "there is no DNS resolver"}
	f := &finder{ctx: dns.Apart(ctx), known: map[string]found{}} // its questions are about the author, not about who sent it
	switch {
	case c.resolver == nil:
	case a.problem != "":
		f.resolver = dns.WithBudget(c.resolver, maxLookUps)
		j = f.all(a, ids)
	default:
		f.resolver = dns.WithBudget(c.resolver, maxLookUps)
		j = f.judge(a.domains[0], ids)
	}
	v := verdictOf(a, j, ids)
	if c.Reports == ReportsDaily {
		if found := f.finding(tx, in, &j); found != nil {
			v.Details = found
		}
	}
	return v, nil
}

// verdictOf makes the verdict of a judgement.
func verdictOf(a author, j judgement, ids []identifier) filters.Verdict {
	evidence := j.evidence(ids)
	v := filters.Verdict{Symbols: []filters.Symbol{{Name: "DMARC_" + strings.ToUpper(j.value), Evidence: evidence}}}
	if j.policy != "" {
		v.Symbols = append(v.Symbols, filters.Symbol{Name: "DMARC_POLICY_" + strings.ToUpper(string(j.policy)), Evidence: evidence})
	}
	if j.aligned != nil {
		v.Symbols = append(v.Symbols, filters.Symbol{Name: "FROM_ALIGNED", Evidence: evidence})
	}
	r := mail.AuthResult{Method: "dmarc", Value: j.value, Reason: filters.Clean(dns.Told(j.reason), maxReason)}
	if a.problem != "" {
		v.Symbols = append(v.Symbols, filters.Symbol{Name: "FROM_INVALID", Evidence: a.problem})
	} else {
		r.Properties = append(r.Properties, mail.Property{Type: "header", Name: "from", Value: a.domains[0]})
	}
	if j.policy != "" {
		r.Properties = append(r.Properties, mail.Property{Type: "policy", Name: "dmarc", Value: string(j.policy)})
	}
	v.Auth = []mail.AuthResult{r}
	return v
}
