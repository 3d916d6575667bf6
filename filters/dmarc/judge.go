package dmarc

import (
	"fmt"
	"strings"

	"postern/filters"
	"postern/mail"
)

// Values of the result (RFC 8601 section 2.7, RFC 9989 section 9).
const (
	pass      = "pass"
	fail      = "fail"
	none      = "none"
	tempError = "temperror"
	permError = "permerror"
)

// An identifier is a domain that SPF or DKIM have checked.
type identifier struct {
	method string // "spf" or "dkim"
	value  string
	domain string
}

// identifiers returns what SPF and DKIM have found of a message.
func identifiers(tx *mail.Transaction, in filters.Results) []identifier {
	var all []identifier
	add := func(method, kind, name string) {
		v, _ := in.Of(method)
		for _, r := range v.Auth {
			if r.Method != method {
				continue
			}
			for _, p := range r.Properties {
				if p.Type == kind && p.Name == name && isDomain(mail.NormalDomain(p.Value)) {
					all = append(all, identifier{method, r.Value, mail.NormalDomain(p.Value)})
				}
			}
		}
	}
	// RFC 9989 section 4.4.2: only the identity of MAIL counts; of a null
	// reverse-path that is the name in HELO (RFC 7208 section 2.4).
	if tx.ReversePath.IsNull() {
		add("spf", "smtp", "helo")
	} else {
		add("spf", "smtp", "mailfrom")
	}
	add("dkim", "header", "d")
	return all
}

// A judgement is what DMARC says of one author domain.
type judgement struct {
	domain  string
	value   string
	record  *Record
	given   Policy // as the record has it
	policy  Policy // as it is to be applied; empty if there is none
	aligned *identifier
	reason  string
}

// judge judges one author domain.
func (f *finder) judge(domain string, ids []identifier) judgement {
	j := judgement{domain: domain}
	var err error
	if j.record, err = f.discover(domain); err != nil {
		return j.failed(err)
	}
	var doubt error // an identifier that might have passed
	for i := range ids {
		if ids[i].value != pass && ids[i].value != tempError {
			continue
		}
		strict := j.record != nil && (ids[i].method == "dkim" && j.record.StrictDKIM || ids[i].method == "spf" && j.record.StrictSPF)
		aligned, err := f.aligned(domain, ids[i].domain, strict)
		switch {
		case err != nil:
			doubt = err
		case aligned && ids[i].value == pass:
			j.aligned = &ids[i]
		case aligned:
			doubt = fmt.Errorf("%s for %s could not be checked for now", ids[i].method, ids[i].domain)
		}
		if j.aligned != nil {
			break
		}
	}
	switch {
	case j.record == nil:
		j.value, j.reason = none, "no DMARC record"
		return j
	case j.record.Invalid:
		j.value, j.reason = permError, "the DMARC record has an error"
		return j
	}
	if j.given, j.policy, err = f.policy(j.record, domain); err != nil {
		return j.failed(err)
	}
	switch {
	case j.aligned != nil:
		j.value = pass
	case doubt != nil:
		// RFC 9989 section 5.3.6: without all answers it is neither pass nor fail.
		// The policy is known: whoever makes look-ups fail shall not hide it.
		j.value, j.reason = tempError, doubt.Error()
	default:
		j.value, j.reason = fail, "neither SPF nor DKIM passes for an aligned domain"
	}
	return j
}

// failed is the judgement when a look-up has failed.
func (j judgement) failed(err error) judgement {
	j.value, j.policy, j.reason = tempError, "", err.Error()
	return j
}

// evidence says what was seen.
func (j *judgement) evidence(ids []identifier) string {
	var b strings.Builder
	b.WriteString(j.domain)
	if j.aligned != nil {
		fmt.Fprintf(&b, ": %s passes for %s", j.aligned.method, j.aligned.domain)
	} else {
		for i, id := range ids[:min(len(ids), maxShown)] {
			sep := ", "
			if i == 0 {
				sep = ": "
			}
			fmt.Fprintf(&b, "%s%s=%s %s", sep, id.method, id.value, id.domain)
		}
	}
	if j.reason != "" && j.value != fail {
		b.WriteString("; " + j.reason)
	}
	if j.record != nil && j.given != "" {
		fmt.Fprintf(&b, "; %s says %s", j.record.Domain, j.given)
		if j.record.Testing {
			b.WriteString(", for a test")
		}
	}
	return filters.Clean(b.String(), maxEvidence)
}

// Bounds of what is shown.
const (
	maxShown    = 5
	maxReason   = 150
	maxEvidence = 500
)

// all judges every domain that an unclear From names, and joins the judgements:
// such a message never passes, and the strictest policy holds (RFC 9989 section
// 11.5). A domain that passes by itself is left out only where the From field is
// a good one with several domains.
func (f *finder) all(a author, ids []identifier) judgement {
	joined := judgement{value: permError, reason: a.problem}
	for _, domain := range a.domains[:min(len(a.domains), maxDomains)] {
		j := f.judge(domain, ids)
		switch {
		case j.value == fail, j.value == pass && !a.several:
			if joined.value != fail || j.policy.severity() > joined.policy.severity() {
				joined = judgement{domain: domain, value: fail, record: j.record, given: j.given, policy: j.policy, reason: a.problem}
			}
		case j.value == tempError && joined.value != fail:
			joined = judgement{domain: domain, value: tempError, reason: j.reason}
		}
	}
	return joined
}
