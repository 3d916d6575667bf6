package dns

import (
	"testing"
	"time"
)

// A LookUp is one question and what is to be answered.
type LookUp struct{ Kind, Name, Want string }

// What the tests of package dns_test share with those in here.
var LookUps = func() (all []LookUp) {
	for _, l := range lookUps {
		all = append(all, LookUp{l.kind, l.name, l.want})
	}
	return all
}()

// Say puts a question.
func Say(r Resolver, kind, name string) string { return say(r, kind, name) }

// ServerListOf returns what lists the servers of a resolv.conf.
func ServerListOf(file string, now func() time.Time) func() []server {
	return newServerList(ClientOptions{ResolvConf: file, Now: now}).list
}

// SampleZone is the zone that LookUps are about.
func SampleZone(t testing.TB) *Zone { return zone(t) }
