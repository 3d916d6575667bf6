package dmarc

import (
	"net/netip"
	"slices"

	"postern/filters"
	"postern/filters/dmarc/report"
	"postern/mail"
)

// A Finding is what an aggregate report says of one message, but for what became
// of it.
type Finding struct {
	Policy  report.Published // of the record that was found
	RUA     []URI
	Misread bool          // the record has an error
	Record  report.Record // Count and Disposition are zero
	Pass    bool
	Given   Policy // as published for this author
	Asked   Policy // as it is to be applied: milder with t=y
	Carrier bool   // the message is one that carries a report
}

// maxDomain bounds the text of a domain in a report.
const maxDomain = 255

// finding returns what a report says of a message; nil if nobody wants to hear of
// it, or it is neither pass nor fail.
func (f *finder) finding(tx *mail.Transaction, in filters.Results, j *judgement) *Finding {
	if j.record == nil || len(j.record.RUA) == 0 || j.value != pass && j.value != fail {
		return nil
	}
	source := source(tx, in)
	if !source.IsValid() {
		return nil
	}
	r := j.record
	found := &Finding{
		Policy: published(r), RUA: useful(r.RUA), Misread: r.Misread, Pass: j.value == pass, Given: j.given, Asked: j.policy,
		Record: report.Record{
			Source: source, DKIM: fail, SPF: fail, HeaderFrom: clip(j.domain), EnvelopeFrom: clip(tx.ReversePath.Domain), EnvelopeTo: clip(recipientDomain(tx)),
		},
	}
	found.Carrier = found.Pass && report.IsSubject(tx.Message.Subject())
	f.results(tx, in, j, &found.Record)
	return found
}

// maxURI is the longest URI that is kept: no address is longer.
const maxURI = 512

// useful returns those of the URIs that Destinations looks at, and one more if
// there are more: they are kept for each domain and day.
func useful(rua []URI) []URI {
	var all []URI
	for _, u := range rua {
		if len(u.Text) <= maxURI && len(all) <= maxDestinations {
			all = append(all, u)
		}
	}
	return all
}

// published is the record as a report shows it (RFC 9990 section 3.1.1.5: with
// defaults for what is not given).
func published(r *Record) report.Published {
	p := report.Published{
		Domain: r.Domain, P: string(r.P), SP: string(r.SP), NP: string(r.NP), DKIM: "r", SPF: "r", FO: clip(r.FO), Testing: r.Testing, Discovery: "treewalk",
	}
	if p.SP == "" {
		p.SP = p.P
	}
	if p.NP == "" {
		p.NP = p.SP
	}
	if p.FO == "" {
		p.FO = "0"
	}
	if r.StrictDKIM {
		p.DKIM = "s"
	}
	if r.StrictSPF {
		p.SPF = "s"
	}
	return p
}

// source is the host that SPF has checked, which is not the client where that is
// a trusted relay.
func source(tx *mail.Transaction, in filters.Results) netip.Addr {
	if v, ok := in.Of("spf"); ok {
		if c, ok := v.Details.(filters.Client); ok {
			return c.Addr
		}
	}
	return tx.Client.Addr().Unmap().WithZone("")
}

// recipientDomain is the domain of all recipients, empty if they have several.
func recipientDomain(tx *mail.Transaction) string {
	domain := ""
	for i := range tx.Recipients {
		if d := tx.Recipients[i].Path.Domain; i > 0 && d != domain {
			return ""
		} else {
			domain = d
		}
	}
	return domain
}

// results takes over what SPF and DKIM have found, and which of it is aligned. Of
// a From field that names several authors nothing is.
func (f *finder) results(tx *mail.Transaction, in filters.Results, j *judgement, rec *report.Record) {
	aligned := func(domain string, strict bool) bool {
		ok, err := f.aligned(j.domain, domain, strict)
		return ok && err == nil
	}
	property := "mailfrom"
	if tx.ReversePath.IsNull() {
		property = "helo" // RFC 7208 section 2.4: it stands for the identity of MAIL
	}
	spf, _ := in.Of("spf")
	for _, a := range spf.Auth {
		domain := mail.NormalDomain(valueOf(a, "smtp", property))
		if domain == "" || len(rec.AuthSPF) > 0 {
			continue
		}
		rec.AuthSPF = []report.Auth{{Domain: clip(domain), Scope: "mfrom", Result: a.Value}}
		if j.value == pass && a.Value == pass && aligned(domain, j.record.StrictSPF) {
			rec.SPF = pass
		}
	}
	var ranks [4][]report.Auth // RFC 9990 section 3.1.3: which signatures come first
	dkim, _ := in.Of("dkim")
	for _, a := range dkim.Auth {
		domain, selector := mail.NormalDomain(valueOf(a, "header", "d")), valueOf(a, "header", "s")
		if domain == "" || selector == "" {
			continue
		}
		rank := 3
		switch {
		case a.Value != pass:
		case domain == j.domain:
			rank = 0
		case aligned(domain, false):
			rank = 1
		default:
			rank = 2
		}
		if j.value == pass && (rank == 0 || rank == 1 && !j.record.StrictDKIM) {
			rec.DKIM = pass
		}
		ranks[rank] = append(ranks[rank], report.Auth{Domain: clip(domain), Selector: clip(selector), Result: a.Value})
	}
	rec.AuthDKIM = slices.Concat(ranks[:]...)
}

// valueOf returns a property of an authentication result.
func valueOf(a mail.AuthResult, kind, name string) string {
	for _, p := range a.Properties {
		if p.Type == kind && p.Name == name {
			return p.Value
		}
	}
	return ""
}

// clip bounds a text from a message and keeps it on one line.
func clip(s string) string { return filters.Clean(s, maxDomain) }
