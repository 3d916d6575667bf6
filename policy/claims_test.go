package policy

import (
	"strings"
	"testing"

	"postern/filters/standard"
)

// TestListClaim: that a message says of itself to be a list's never lifts a DMARC
// failure.
func TestListClaim(t *testing.T) {
	for _, c := range []struct {
		match, except string
		ok            bool
	}{
		{`dmarc = "fail"`, `{ mailing_list = true }`, false},
		{`dmarc_policy = "reject"`, `{ mailing_list = true, subject = "[list]" }`, false},
		{`dmarc = "fail"`, `[{ client = "192.0.2.1" }, { mailing_list = true, reverse_path = "@list.example" }]`, false},
		{`dmarc = "fail"`, `{ mailing_list = true, arc = "trusted" }`, true},
		{`dmarc = "fail"`, `{ mailing_list = true, client = "192.0.2.1" }`, true},
		{`dmarc = "fail"`, `{ arc = "trusted" }`, true},
		{`spf = "fail"`, `{ mailing_list = true }`, true},
		// with what a forger chooses too
		{`dmarc = "fail"`, `{ mailing_list = true, spf = "pass" }`, false},
		{`dmarc = "fail"`, `{ mailing_list = true, first_contact = true }`, false},
		{`dmarc = "fail"`, `{ mailing_list = true, from_aligned = false }`, false},
		{`dmarc = "fail"`, `{ mailing_list = true, arc = ["trusted", "pass"] }`, false},
		{`dmarc = "fail"`, `{ mailing_list = true, direction = "inbound" }`, false},
		{`dmarc = "fail"`, `{ symbol = "MAILING_LIST" }`, false},
		{`symbol = "DMARC_FAIL"`, `{ symbol = ["MAILING_LIST", "ARC_TRUSTED"] }`, false},
		{`symbol = "DMARC_FAIL"`, `{ mailing_list = true, symbol = "ARC_TRUSTED" }`, true},
		{`dmarc = "fail"`, `{ mailing_list = true, to = "lists@example.org" }`, true},
	} {
		text := fakeHead + "[[rule]]\nname = \"r\"\nmatch = { " + c.match + " }\nexcept = " + c.except + "\naction = \"reject\"\n"
		_, err := Load("p.toml", []byte(text), LoadOptions{Filters: standard.Filters})
		if (err == nil) != c.ok || err != nil && (!strings.Contains(err.Error(), "mailing_list alone, which anyone can claim") || !strings.Contains(err.Error(), "p.toml:12:")) {
			t.Errorf("%s except %s: %v", c.match, c.except, err)
		}
	}
	text := fakeHead + "[[rule]]\nname = \"r\"\nmatch = { dmarc = \"fail\", mailing_list = false }\naction = \"reject\"\n"
	if _, err := Load("p.toml", []byte(text), LoadOptions{Filters: standard.Filters}); err == nil || !strings.Contains(err.Error(), "mailing_list = false") {
		t.Errorf("%v", err)
	}
}
