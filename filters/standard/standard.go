// Package standard lists the filters built into the gateway.
//
// # Diagnostics
//
// None of its own.
package standard

import (
	"postern/filters"
)

// Filters is every filter, in chain order. A filter stands after those that it
// requires; rewrites are applied in this order too.
var Filters = []*filters.Filter{}
