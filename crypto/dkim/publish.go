package dkim

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"

	"postern/dns"
)

// What is published of a key.
const (
	Matches   = "matches"   // verifiers find the key
	Missing   = "missing"   // there is no record
	Revoked   = "revoked"   // the record has an empty p=
	Differs   = "differs"   // the record is of another key
	Broken    = "broken"    // no verifier can be expected to read the record
	Unsettled = "unsettled" // DNS did not answer
)

// A Publication says what is published at the name of a key.
type Publication struct {
	State   string // one of those above
	Name    string // of the record
	Reason  string // a sentence, unless the state says it all
	Testing bool   // t=y: verifiers are told to treat the mail as unsigned
}

// Published looks the record of a key up and compares it.
func Published(ctx context.Context, r dns.Resolver, selector, domain string, public crypto.PublicKey) Publication {
	p := Publication{State: Unsettled, Name: RecordName(selector, domain)}
	answer, err := r.TXT(ctx, p.Name)
	switch {
	case errors.Is(err, dns.ErrNotFound) || err == nil && len(answer.Records) == 0:
		p.State, p.Reason = Missing, "there is no record"
	case err != nil:
		p.Reason = err.Error()
	default:
		p.compare(answer.Records, public)
	}
	return p
}

// compare judges the records that are there.
func (p *Publication) compare(records []string, public crypto.PublicKey) {
	if len(records) > 1 {
		// RFC 6376 section 3.6.2.2: with several records at a name it is not
		// defined which one a verifier takes.
		p.State, p.Reason = Broken, fmt.Sprintf("there are %d records at the name; one may be there", len(records))
		if k, err := ParseKey(strings.Join(records, "")); err == nil && same(k.Public, public) {
			p.Reason = fmt.Sprintf("the record is cut into %d records; its pieces must be strings of one record", len(records))
		}
		return
	}
	k, err := ParseKey(records[0])
	p.Testing = k.Testing
	switch {
	case errors.Is(err, errRevoked):
		p.State, p.Reason = Revoked, "the record revokes the key"
	case err != nil:
		p.State, p.Reason = Broken, strings.TrimPrefix(err.Error(), ErrKey.Error()+": ")
		if strings.ContainsAny(records[0], `"`) {
			p.Reason += "; quotation marks have become part of the record"
		}
	case !same(k.Public, public):
		p.State, p.Reason = Differs, "the record is of another key"
	default:
		p.State = Matches
	}
}

// same reports whether two public keys are one.
func same(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// RevokedRecord is what is published instead of a key that is no more to be
// trusted (RFC 6376 section 3.6.1).
const RevokedRecord = "v=DKIM1; p="

// ZoneLine writes a record as a zone file has it: strings of at most 255 bytes
// (RFC 1035 section 3.3).
func ZoneLine(name, record string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. IN TXT (", name)
	for len(record) > 0 {
		part := record[:min(255, len(record))]
		record = record[len(part):]
		fmt.Fprintf(&b, " %q", part)
	}
	b.WriteString(" )\n")
	return b.String()
}
