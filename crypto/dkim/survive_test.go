package dkim

import (
	"strings"
	"testing"

	"postern/mail"
)

func TestSurvive(t *testing.T) {
	both, zone := signers(t)
	text := chainOf(t, 2, both[0], zone)
	fields, err := Sign(parse(text), suiteTime, both[1])
	if err != nil {
		t.Fatal(err)
	}
	text = fields[0] + text
	before := parse(text)
	for _, c := range []struct {
		name, text string
		same       bool
	}{
		{"nothing", text, true},
		{"trace field", "Received: x\r\n" + text, true},
		{"body", strings.Replace(text, "\r\n\r\nHi", "\r\n\r\nHo", 1), false},
		{"longer body", text + "x", false},
		{"subject", strings.Replace(text, "Subject: ", "Subject: [X] ", 1), false},
		{"a second From", "From: x@y.example\r\n" + text, false},
		{"the signature is gone", strings.Replace(text, fields[0], "", 1), false},
		{"a signature on top", fields[0] + text, true},
	} {
		same, err := Survive(before, parse(c.text))
		if err != nil || same != c.same {
			t.Errorf("%s: %v, %v", c.name, same, err)
		}
	}
	if same, err := Survive(before, before); !same || err != nil {
		t.Error(same, err)
	}
	long := text + strings.Repeat("more lines\r\n", 20_000)
	broken := mail.Parse(failing{long, 100_000}, int64(len(long)), mail.Options{})
	if same, err := Survive(parse(long), broken); same || err == nil {
		t.Errorf("a message that cannot be read is the same: %v, %v", same, err)
	}
}
