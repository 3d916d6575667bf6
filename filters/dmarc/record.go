package dmarc

import (
	"regexp"
	"strings"
)

// A Policy is what a domain wants done with mail that fails.
type Policy string

// The policies, from the mildest.
const (
	PolicyNone       Policy = "none"
	PolicyQuarantine Policy = "quarantine"
	PolicyReject     Policy = "reject"
)

// severity orders the policies.
func (p Policy) severity() int {
	switch p {
	case PolicyReject:
		return 3
	case PolicyQuarantine:
		return 2
	case PolicyNone:
		return 1
	}
	return 0
}

// milder is the policy one step below: what t=y asks for.
func (p Policy) milder() Policy {
	if p == PolicyReject {
		return PolicyQuarantine
	}
	return PolicyNone
}

// A Record is a DMARC policy record (RFC 9989 section 4.7).
type Record struct {
	Domain     string // where it was found, without the label _dmarc
	P          Policy
	SP, NP     Policy // for subdomains, and for those that do not exist; empty if not given
	StrictDKIM bool
	StrictSPF  bool
	PSD        byte // 'y', 'n' or 'u'
	Testing    bool // t=y
	RUA        []URI
	FO         string
	Invalid    bool // a policy is no policy, and nobody is to be told: the record does not count
	Misread    bool // a policy is no policy, and the record counts as p=none
}

// version matches the beginning of every DMARC record (RFC 9989 section 4.8):
// the tag is first, its value in upper case.
var version = regexp.MustCompile(`^[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|$)`)

// ParseRecord reads a TXT record. false: it is no DMARC record. Unknown tags, and
// those that RFC 7489 had (pct, rf, ri), are ignored; what cannot be read of the
// others is taken for not given (RFC 9989 section 4.8). Of a tag that is given
// twice the first counts.
func ParseRecord(txt string) (*Record, bool) {
	if !version.MatchString(txt) {
		return nil, false
	}
	r := &Record{P: PolicyNone, PSD: 'u'}
	seen := map[string]bool{}
	bad := false
	for _, tag := range strings.Split(txt, ";")[1:] {
		name, value, ok := strings.Cut(tag, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if !ok || seen[name] {
			continue
		}
		seen[name] = true
		if !r.set(name, value) {
			bad = true
		}
	}
	if bad {
		// RFC 9989 section 4.10.1: a bad policy is "none" if reports are asked for,
		// else there is no DMARC for the message.
		r.P, r.SP, r.NP = PolicyNone, "", ""
		r.Invalid = len(r.RUA) == 0
		r.Misread = !r.Invalid
	}
	return r, true
}

// set takes a tag in; false if it is a policy that is none.
func (r *Record) set(name, value string) bool {
	lower := strings.ToLower(value)
	switch name {
	case "p":
		return r.P.set(lower)
	case "sp":
		return r.SP.set(lower)
	case "np":
		return r.NP.set(lower)
	case "adkim":
		r.StrictDKIM = lower == "s"
	case "aspf":
		r.StrictSPF = lower == "s"
	case "psd":
		if lower == "y" || lower == "n" {
			r.PSD = lower[0]
		}
	case "t":
		r.Testing = lower == "y"
	case "rua":
		r.RUA = uris(value)
	case "fo":
		r.FO = lower
	}
	return true
}

// set takes the word of a policy.
func (p *Policy) set(word string) bool {
	switch v := Policy(word); v {
	case PolicyNone, PolicyQuarantine, PolicyReject:
		*p = v
		return true
	}
	return false
}
