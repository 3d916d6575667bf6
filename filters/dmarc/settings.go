package dmarc

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"postern/filters"
	"postern/mail"
)

// Reports says when aggregate reports are sent.
type Reports string

// The words of the setting reports.
const (
	ReportsOff   Reports = "off"
	ReportsDaily Reports = "daily"
)

// UnmarshalText reads the word.
func (r *Reports) UnmarshalText(b []byte) error {
	switch v := Reports(b); v {
	case ReportsOff, ReportsDaily:
		*r = v
		return nil
	}
	return fmt.Errorf("%q is not %q or %q", b, ReportsOff, ReportsDaily)
}

// DefaultKeep is how long things are kept if nothing is said.
const DefaultKeep = 7 * 24 * time.Hour

// Bounds of the settings.
const (
	minKeep   = 2 * 24 * time.Hour
	maxKeep   = 90 * 24 * time.Hour
	maxInText = 200
)

// Validate checks the settings of reports.
func (c *Checker) Validate() error {
	if c.From != "" {
		if p, err := mail.ParsePath(c.From, false); err != nil || p.Domain == "" {
			return &filters.SettingError{Key: "report_from", Err: fmt.Errorf("%q is not a mail address", c.From)}
		}
	}
	for key, text := range map[string]string{"report_org": c.Organisation, "report_contact": c.Contact} {
		if len(text) > maxInText || strings.ContainsFunc(text, unicode.IsControl) {
			return &filters.SettingError{Key: key, Err: fmt.Errorf("it must be one line of at most %d bytes", maxInText)}
		}
	}
	if c.Keep.Time() < minKeep || c.Keep.Time() > maxKeep {
		return &filters.SettingError{Key: "report_keep", Err: fmt.Errorf("%s is not from 2d to 90d", c.Keep)}
	}
	return nil
}

// ValidateSite checks that reports come from one of our own domains: no other
// could be signed (RFC 9990 section 3.5.2).
func (c *Checker) ValidateSite(domains []string) error {
	p, err := mail.ParsePath(c.From, false)
	if c.From == "" || err != nil || Within(p.Domain, domains) {
		return nil
	}
	return &filters.SettingError{Key: "report_from", Err: fmt.Errorf("%s is not one of the domains of [site]", p.Domain)}
}

// Within reports whether a domain is one of domains or below one of them.
func Within(domain string, domains []string) bool {
	return slices.ContainsFunc(domains, func(d string) bool { return mail.Within(domain, d) })
}
