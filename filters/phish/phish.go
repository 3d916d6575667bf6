// Package phish looks for authors who pretend to be somebody else. Authentication
// tells whether a message comes from the domain that it names; it does not tell
// whether people take that domain, or the name in front of it, for another.
//
// It reads the From field only. A domain that is protected is one of [site]
// domains or of the setting lookalike_of. What is of a protected domain, or comes
// from our own clients, is never reported: whether it is genuine is for DMARC to
// say. No name is looked up.
//
// # Diagnostics
//
// The evidence names the author's address, what it is taken for and in what way.
// There is no error that it can run into.
package phish

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"postern/filters"
	"postern/mail"
)

// Filter declares the phish filter.
var Filter = &filters.Filter{
	Name:    "phish",
	Doc:     "looks for authors who pretend to be somebody else",
	Stage:   filters.Data,
	Scoring: true,
	Light:   true,
	Symbols: []filters.SymbolDoc{
		{Name: "LOOKALIKE_DOMAIN", Score: 4, Doc: "The author's domain looks like a protected one, but is another.",
			DocFR: "Le domaine de l’auteur ressemble à un domaine protégé, mais en est un autre."},
		{Name: "DISPLAY_NAME_PROTECTED", Score: 3, Doc: "The author's display name shows a protected domain, but the address is of another.",
			DocFR: "Le nom affiché de l’auteur montre un domaine protégé, mais l’adresse est d’un autre."},
		{Name: "DISPLAY_NAME_EXECUTIVE", Score: 4, Doc: "The author has the name of one of your executives, but an address of another domain.",
			DocFR: "L’auteur porte le nom d’un de vos dirigeants, mais son adresse est d’un autre domaine."},
		{Name: "DISPLAY_NAME_ADDRESS", Score: 1, Doc: "The author's display name shows a mail address of another domain than the author's.",
			DocFR: "Le nom affiché de l’auteur montre une adresse d’un autre domaine que le sien."},
		{Name: "DISPLAY_NAME_HIDDEN", Score: 2, Doc: "The author's display name has invisible characters, or some that turn its letters round.",
			DocFR: "Le nom affiché de l’auteur contient des caractères invisibles ou qui en inversent les lettres."},
	},
	Keys: []filters.MatchKey{{
		Name: "impersonation", Doc: "the author pretends to be somebody else in that way", Kind: filters.KeyEnum,
		Say: [2]string{"with a suspicious author (%s)", "dont l’auteur est suspect (%s)"},
		Values: []filters.KeyValue{
			{Word: "lookalike-domain", Symbols: []string{"LOOKALIKE_DOMAIN"}},
			{Word: "protected-name", Symbols: []string{"DISPLAY_NAME_PROTECTED"}},
			{Word: "executive", Symbols: []string{"DISPLAY_NAME_EXECUTIVE"}},
			{Word: "foreign-address", Symbols: []string{"DISPLAY_NAME_ADDRESS"}},
			{Word: "hidden-characters", Symbols: []string{"DISPLAY_NAME_HIDDEN"}},
		},
	}},
	New: func() filters.Checker { return &Checker{LookalikeOf: []string{site}} },
}

// site stands for the domains of [site].
const site = "site"

// maxAuthors is how many addresses of a From field are looked at.
const maxAuthors = 10

// Checker holds the settings.
type Checker struct {
	LookalikeOf []string `toml:"lookalike_of" doc:"domains that others must not look like; \"site\" stands for those of [site]"`
	Exempt      []string `toml:"exempt" doc:"domains that look like one of them and are all right"`
	Executives  []string `toml:"executives" doc:"names of people whom others pretend to be, as in \"Jeanne Dupont\""`

	protected  []protected
	exempt     []protected
	executives map[string]string // person(name): name
}

// Validate checks the settings.
func (c *Checker) Validate() error {
	var errs []error
	wrong := func(key, format string, args ...any) {
		errs = append(errs, &filters.SettingError{Key: key, Err: fmt.Errorf(format, args...)})
	}
	for _, d := range c.LookalikeOf {
		if d != site && !isDomain(d) {
			wrong("lookalike_of", "%q is not a domain, nor \"site\"", d)
		}
	}
	for _, d := range c.Exempt {
		if !isDomain(d) {
			wrong("exempt", "%q is not a domain", d)
		}
	}
	for _, name := range c.Executives {
		if len(strings.Fields(person(name))) < 2 {
			wrong("executives", "%q is not a full name: one word alone is the name of too many", name)
		}
	}
	return errors.Join(errs...)
}

func isDomain(s string) bool {
	s = mail.NormalDomain(s)
	p, err := mail.ParsePath("x@"+s, false)
	return err == nil && p.Domain == s && strings.Contains(s, ".")
}

// Open takes in the domains of the site.
func (c *Checker) Open(_ context.Context, env *filters.Env) error {
	c.protected, c.exempt, c.executives = nil, nil, map[string]string{}
	for _, d := range c.LookalikeOf {
		if d != site {
			c.protected = append(c.protected, protect(mail.NormalDomain(d)))
			continue
		}
		for _, own := range env.Domains {
			c.protected = append(c.protected, protect(mail.NormalDomain(own)))
		}
	}
	for _, d := range c.Exempt {
		c.exempt = append(c.exempt, protect(mail.NormalDomain(d)))
	}
	for _, name := range c.Executives {
		c.executives[person(name)] = name
	}
	return nil
}

// Check looks at the authors.
func (c *Checker) Check(_ context.Context, tx *mail.Transaction, _ filters.Results) (filters.Verdict, error) {
	var v filters.Verdict
	if tx.Message == nil || tx.Session.Trusted() {
		return v, nil
	}
	authors := tx.Message.Authors()
	for i := range authors[:min(len(authors), maxAuthors)] {
		c.author(&v, &authors[i])
	}
	return v, nil
}

// author looks at one author.
func (c *Checker) author(v *filters.Verdict, a *mail.Address) {
	domain := mail.NormalDomain(a.Path.Domain)
	report := func(symbol, label, format string, args ...any) {
		for _, s := range v.Symbols {
			if s.Name == symbol {
				return
			}
		}
		evidence := filters.Clean(fmt.Sprintf("%s: ", a.Path)+fmt.Sprintf(format, args...), maxEvidence)
		v.Symbols = append(v.Symbols, filters.Symbol{Name: symbol, Label: label, Evidence: evidence})
	}
	if r, ok := hidden(a.Name); ok {
		report("DISPLAY_NAME_HIDDEN", "", "the display name has the character U+%04X", r)
	}
	if domain == "" || covered(c.protected, domain) || covered(c.exempt, domain) {
		return
	}
	folded := fold(readable(domain))
	for i := range c.protected {
		if way := c.protected[i].resembled(folded); way != "" {
			report("LOOKALIKE_DOMAIN", c.protected[i].name, "%s looks like %s: %s", readable(domain), c.protected[i].text, way)
			break
		}
	}
	if a.Name == "" {
		return
	}
	if name, ok := c.executives[person(a.Name)]; ok {
		report("DISPLAY_NAME_EXECUTIVE", name, "the display name is that of %s", name)
	}
	for _, text := range shown(a.Name) {
		for i := range c.protected {
			if hasWord(text, c.protected[i].folded) {
				report("DISPLAY_NAME_PROTECTED", c.protected[i].name, "the display name %q shows %s", text, c.protected[i].text)
			}
		}
		for _, d := range domainsIn(text) {
			if !mail.Within(d, folded) && !mail.Within(folded, d) {
				report("DISPLAY_NAME_ADDRESS", d, "the display name shows an address of %s", d)
			}
		}
	}
}

// maxEvidence bounds an evidence.
const maxEvidence = 300

// covered reports whether a domain is one of a list or lies below one.
func covered(list []protected, domain string) bool {
	for i := range list {
		if list[i].covers(domain) {
			return true
		}
	}
	return false
}
