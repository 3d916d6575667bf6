package main

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"postern/crypto/dkim"
	"postern/feedback"
	"postern/filters/dmarc"
	"postern/gateway"
	"postern/mail"
	"postern/policy"
	"postern/store"
)

// newReports makes what counts messages for DMARC reports, and sends these.
func (in *instance) newReports() *feedback.Reporter {
	now := in.set.now
	if now == nil {
		now = time.Now
	}
	return feedback.New(feedback.Options{
		Tallies: in.places.records, Records: in.places.records, Resolver: in.resolver, Log: in.log, Now: now, Generator: "Postern " + build().Version,
		Settings: func() feedback.Settings { return reportSettings(in.gateway.State().Policy) },
		Submit:   in.gateway.Submit,
		Signs:    func(domain string) bool { return signs(in.gateway.State().Policy, domain) },
	})
}

// observe is told of every outcome.
func (in *instance) observe(tx *mail.Transaction, out *gateway.Outcome, fates []gateway.Fate) {
	if slices.ContainsFunc(fates, func(f gateway.Fate) bool { return f.Disposition != policy.Defer }) { // else it comes again
		in.reports.Note(tx, out.Results, out.Decisions, in.gateway.State().Policy)
	}
	in.contacts.note(tx, fates, in.gateway.State().Policy)
	if in.set.observe != nil {
		in.set.observe(tx, out, fates)
	}
}

// reportSettings are those of [filter.dmarc] about reports, completed from
// [site].
func reportSettings(p *policy.Policy) feedback.Settings {
	set := feedback.Settings{Domains: p.Site.Domains, Keep: dmarc.DefaultKeep}
	from := []string{p.Site.Admin, "postmaster@" + p.Site.Domains[0]}
	if c, ok := p.Chain().Checker("dmarc"); ok {
		c := c.(*dmarc.Checker)
		set.On, set.Own, set.Keep = c.Reports == dmarc.ReportsDaily, c.Own, c.Keep.Time()
		set.Organisation, set.Contact = c.Organisation, c.Contact
		from = append([]string{c.From}, from...)
	}
	for _, text := range from {
		if path, err := mail.ParsePath(text, false); err == nil && dmarc.Within(path.Domain, p.Site.Domains) {
			set.From = path
			break
		}
	}
	for _, name := range []string{p.Site.Name, set.From.Domain} {
		if set.Organisation == "" {
			set.Organisation = name
		}
	}
	return set
}

// signs reports whether mail with an author of this domain leaves signed.
func signs(p *policy.Policy, domain string) bool {
	c, _ := p.Chain().Checker("dkimsign")
	s, ok := c.(interface {
		Signers(domain string) []dkim.Signer
	})
	return ok && len(s.Signers(domain)) > 0
}

func (in *instance) reportList(r *http.Request) (any, error) {
	all, err := in.reports.Statuses(r.Context())
	return reportsAnswer{On: reportSettings(in.gateway.State().Policy).On, Reports: all}, err
}

func (in *instance) reportShow(r *http.Request) (any, error) {
	v := r.URL.Query()
	text, err := in.reports.XML(r.Context(), v.Get("domain"), v.Get("day"))
	if errors.Is(err, store.ErrNotFound) {
		return nil, errors.New("there are no records about this domain; postern dmarc reports lists those that have some")
	}
	return reportAnswer{XML: string(text)}, err
}
