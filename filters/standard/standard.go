// Package standard lists the filters built into the gateway.
//
// # Diagnostics
//
// None of its own.
package standard

import (
	"postern/filters"
	"postern/filters/arc"
	"postern/filters/attachments"
	"postern/filters/command"
	"postern/filters/contact"
	"postern/filters/disclaimer"
	"postern/filters/dkim"
	"postern/filters/dkimsign"
	"postern/filters/dmarc"
	"postern/filters/headers"
	"postern/filters/iprev"
	"postern/filters/phish"
	"postern/filters/spf"
	"postern/filters/strip"
	"postern/filters/structure"
	"postern/filters/virus"
)

// Filters is every filter, in chain order. A filter stands after those that it
// requires; rewrites are applied in this order too.
var Filters = []*filters.Filter{
	structure.Filter,
	iprev.Filter,
	spf.Filter,
	dkim.Filter,
	arc.Filter,
	dmarc.Filter,
	phish.Filter,
	contact.Filter,
	attachments.Filter,
	virus.Filter,
	command.Filter,
	strip.Filter,
	disclaimer.Filter,
	headers.Filter,
	dkimsign.Filter,
}
