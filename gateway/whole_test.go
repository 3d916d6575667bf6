package gateway

import (
	"strings"
	"testing"

	"postern/audit"
	"postern/mail"
)

// stripAll holds what is for erin, and takes programs out of everything.
const stripAll = `
[[rule]]
name = "no-programs"
match = { attachment = "executable" }
action = "strip"
[[rule]]
name = "hold-erin"
match = { to = "erin@ours.example" }
action = "quarantine"
`

// TestReleaseTakesOut: what a rule takes out of a released message is told, and
// the notice names the message that is still held; to deliver it whole needs a
// word of the reviewer, which is recorded.
func TestReleaseTakesOut(t *testing.T) {
	w := newWorld(t, plan{rules: stripAll})
	it := holdOne(t, w, letter{to: []string{"erin@ours.example"}, content: program})
	copyTo := testPath(t, "bob@ours.example")
	for _, req := range []Release{{}, {Copy: copyTo}, {Copy: copyTo, Malware: true}, {Copy: copyTo, Whole: true}} {
		before := len(w.queued())
		req.ID, req.Actor = it.Transaction, "admin"
		done, err := w.g.Release(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		got, rs := w.spooled(before), w.records(audit.Release)
		detail := rs[len(rs)-1].Detail
		if req.Whole {
			if !strings.HasSuffix(got, crlf(program)) || len(done.Taken) > 0 || detail != "whole: nothing was taken out" {
				t.Errorf("%+v, record %q, sent\n%s", done, detail, got)
			}
			continue
		}
		if strings.Contains(got, "TVqQ") || !strings.Contains(got, "Id: "+it.ID) {
			t.Errorf("sent\n%s", got)
		}
		if len(done.Taken) != 1 || done.Taken[0] != (Taken{"tool.exe", "no-programs"}) || detail != "attachments were taken out by no-programs" {
			t.Errorf("%+v, record %q", done, detail)
		}
		if found, err := w.quarantine.Get(t.Context(), it.ID); err != nil || !found.Body {
			t.Errorf("the message is gone: %v", err)
		}
	}
}

// TestStripReason: the notice gives the reason of its rule, once.
func TestStripReason(t *testing.T) {
	w := newWorld(t, plan{rules: partRules})
	w.send(letter{to: []string{"carol@ours.example"}, content: program})
	if got := w.spooled(0); strings.Count(got, "Reason: ") != 1 {
		t.Errorf("sent\n%s", got)
	}
}

// TestOwnMailHasNoDisclaimer: what Postern writes itself is no letter of the
// site.
func TestOwnMailHasNoDisclaimer(t *testing.T) {
	rules := "[[rule]]\nname = \"footer\"\nmatch = { from = \"*@ours.example\" }\naction = \"disclaimer\"\ntext = \"Confidential.\"\n"
	w := newWorld(t, plan{rules: rules})
	if _, err := w.g.Submit(t.Context(), mail.Path{}, []mail.Recipient{{Path: testPath(t, "bob@ours.example")}}, []byte(crlf(text("admin@ours.example")))); err != nil {
		t.Fatal(err)
	}
	w.send(letter{listener: "out", from: "ann@ours.example", to: []string{"x@elsewhere.example"}, content: text("ann@ours.example"), unasked: true})
	if own := w.spooled(0); strings.Contains(own, "Confidential.") {
		t.Errorf("sent\n%s", own)
	}
	if theirs := w.hop.got(); len(theirs) != 1 || !strings.Contains(theirs[0].content, "Confidential.") {
		t.Errorf("relayed %+v", theirs)
	}
}
