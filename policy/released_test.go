package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReleased: what a release does is what the rewrites of all rules ask for,
// wherever they stand; no fate and no notice.
func TestReleased(t *testing.T) {
	p := load(t, `
[[rule]]
name = "tag-all"
match = { direction = "inbound" }
action = "tag"
subject = "x"
notify = "admin"
[[rule]]
name = "watched"
mode = "watch"
match = { to = "a@example.org" }
action = "tag"
subject = "never"
[[rule]]
name = "over"
expires = "2020-01-01"
match = { to = "a@example.org" }
action = "tag"
subject = "never"
[[rule]]
name = "virus"
match = { virus = true }
action = "quarantine"
[[rule]]
name = "refuse-a"
match = { to = "a@example.org" }
action = "reject"
[[rule]]
name = "accept-b"
match = { to = "b@example.org" }
action = "accept"
[[rule]]
name = "strip"
match = { attachment = "executable" }
action = "strip"
[[rule]]
name = "journal"
match = { to = "c@example.org" }
action = "journal"
copy_to = "j@archive.example"
`)
	tx := mailTo("", "a@example.org", "b@example.org", "c@example.org")
	for _, c := range []struct {
		name, seen string
		want       []string
	}{
		{"refused today", "KIND_EXE@2", []string{"relay release tag strip@2", "relay release tag", "relay release tag strip@2"}},
		{"malware today", "VIRUS_FOUND KIND_EXE@3", []string{"relay release tag strip@3", "relay release tag", "relay release tag strip@3"}},
		{"a fate that is unknown does not count", "!virus", []string{"relay release tag", "relay release tag", "relay release tag"}},
		{"a rewrite that is unknown does", "!kinds", []string{"defer strip", "relay release tag", "defer strip"}},
	} {
		var got []string
		for _, d := range p.Released(tx, ran(strings.Fields(c.seen)...)) {
			got = append(got, fate(d))
			if len(d.Notify) != 0 || d.Why == "" || len(d.Journal) != 0 != (d.Disposition == Relay && d.Recipient.Local == "c") {
				t.Errorf("%s: %+v", c.name, d)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}
