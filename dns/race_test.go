//go:build race

package dns_test

// raceEnabled says that the race detector is on.
const raceEnabled = true
