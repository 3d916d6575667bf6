//go:build !race

package dkim

// raceEnabled says that the race detector is on.
const raceEnabled = false
