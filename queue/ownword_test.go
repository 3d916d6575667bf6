package queue

import (
	"errors"
	"strings"
	"testing"

	"postern/relay"
	"postern/spool"
)

// TestOwnWord: a report does not put our own words into the mouth of a next hop
// that has said nothing.
func TestOwnWord(t *testing.T) {
	const hop = "world[192.0.2.1]:25"
	for _, c := range []struct {
		name string
		out  relay.Outcome
		own  bool
	}{
		{"refused", relay.Outcome{Said: true, Err: errors.New("next hop refused")}, false},
		{"delivered", relay.Outcome{Delivered: true, Said: true}, false},
		{"out of reach", relay.Outcome{Down: true}, true},
		{"connection lost", relay.Outcome{Err: errors.New("lost")}, true},
	} {
		to := ownWord(spool.Recipient{State: spool.Expired, Hop: hop, Reply: reply(451, 4, 4, 1, "next hop cannot be reached; try again later")}, &c.out)
		to.Path = newReport().To[0].Path
		for _, language := range []string{"en", "fr"} {
			b, err := BuildDSN(newReport(func(r *Report) { r.To, r.Language = []spool.Recipient{to}, language }))
			if err != nil {
				t.Fatal(err)
			}
			got := readDSN(t, b)
			if says := strings.Contains(got.text, "This mail system itself reports: 451 4.4.1 next hop cannot be reached\r\n"); says != c.own {
				t.Errorf("%s: %q", c.name, got.text)
			}
			if _, there := got.rcpts[0]["Diagnostic-Code"]; there == c.own {
				t.Errorf("%s: %v", c.name, got.rcpts[0])
			}
			if _, there := got.rcpts[0]["Remote-Mta"]; there == c.own {
				t.Errorf("%s: %v", c.name, got.rcpts[0])
			}
		}
	}
}
