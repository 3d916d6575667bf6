package policy

import (
	"testing"
)

func TestDecideCore(t *testing.T) {
	p := load(t, `
[[rule]]
name = "virus"
match = { virus = true }
action = "quarantine"
[[rule]]
name = "spam"
match = { score_at_least = 8.0 }
action = "reject"
`)
	for _, c := range []struct {
		name    string
		symbols []string
		want    Disposition
		rule    string
	}{
		{"clean", nil, Relay, "default"},
		{"virus", []string{"VIRUS_FOUND"}, Quarantine, "virus"},
		{"score", []string{"SPAMMY", "LISTED"}, Reject, "spam"},
		{"virus broke", []string{"!virus"}, Defer, "virus"},
		{"virus broke but ignored", []string{"?virus"}, Relay, "default"},
		{"spam broke", []string{"!spam"}, Defer, "spam"},
		{"spam broke, virus there", []string{"!spam", "VIRUS_FOUND"}, Quarantine, "virus"},
		{"a filter that did not run", []string{"-virus"}, Defer, "virus"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := p.Decide(mailTo("", "bob@example.org"), ran(c.symbols...))[0]
			if d.Disposition != c.want || d.Rule != c.rule || d.Why == "" {
				t.Errorf("got %s by %s (%s), want %s by %s", d.Disposition, d.Rule, d.Why, c.want, c.rule)
			}
		})
	}
}
