//go:build !race

package mail

// racing reports that the race detector is on: times mean nothing.
const racing = false
