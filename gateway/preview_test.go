package gateway

import (
	"testing"

	"postern/mail"
	"postern/policy"
)

// TestPreviewLostArchive: where the archive has no route, live mail is put off
// and the preview says so.
func TestPreviewLostArchive(t *testing.T) {
	rules := "[[rule]]\nname = \"archive\"\nmatch = { subject = \"x\" }\naction = \"journal\"\ncopy_to = \"archive@second.example\"\n"
	w := newWorld(t, plan{rules: rules})
	s := w.begin(letter{})
	defer w.g.Abort(s.tx)
	p := w.g.State().Policy
	for i := range p.Upstreams {
		p.Upstreams[i].For = []string{"ours.example"}
	}
	s.tx.Recipients = []mail.Recipient{{Path: testPath(t, "bob@ours.example")}}
	s.tx.Message = mail.ParseBytes([]byte("From: a@b.example\r\nSubject: x\r\n\r\nx\r\n"), w.g.State().Parse)
	pv := w.g.Preview(t.Context(), s.tx, nil)
	if len(pv.Decisions) != 1 || pv.Decisions[0].Disposition != policy.Relay {
		t.Fatalf("decisions %+v", pv.Decisions)
	}
	if len(pv.Asides) != 1 || pv.Asides[0].Err == nil || pv.Asides[0].To[0] != testPath(t, "archive@second.example") {
		t.Errorf("asides %+v", pv.Asides)
	}
}
