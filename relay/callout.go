package relay

import (
	"time"
)

// VerifyCache says how long answers of Callout are kept.
type VerifyCache struct {
	Positive time.Duration // 0: 1 hour
	Negative time.Duration // 0: 5 minutes
}

type calloutCache struct{}

func newCalloutCache() *calloutCache { return &calloutCache{} }
