//go:build race

package policy

// Under the race detector the mutation test makes do with one of each word.
const (
	underRace        = true
	changesPerLetter = 1
)
