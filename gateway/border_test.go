package gateway

import (
	"io"
	"strings"
	"testing"

	"postern/mail"
)

// relayedContent sends a message and returns what the next hop gets of it,
// without the fields that the gateway puts on top.
func relayedContent(t *testing.T, w *world, l letter) (top, rest string) {
	t.Helper()
	before := len(w.hop.got())
	s := w.send(l)
	if len(s.data) == 0 || !s.data[0].OK() || len(w.hop.got()) != before+1 {
		t.Fatalf("told %s", s.one())
	}
	all := w.hop.got()[before].content
	end := strings.Index(all, "X-Postern-Id: "+s.tx.ID+"\r\n")
	if end < 0 || !strings.Contains(all[:end], "Received: from ") {
		t.Fatalf("the fields on top are missing:\n%s", all)
	}
	end += len("X-Postern-Id: \r\n") + len(s.tx.ID)
	return all[:end], all[end:]
}

// TestBorder: on the way in, whatever only we may write is taken out, and not a
// byte besides.
func TestBorder(t *testing.T) {
	const mine = "gw.ours.example"
	w := newWorld(t, plan{})
	for _, c := range []struct {
		name, field string // with LF line ends
		kept        bool
	}{
		{"our field", "X-Postern-Id: forged\n", false},
		{"in capitals", "X-POSTERN-VERDICT: clean\n", false},
		{"space before the colon", "X-Postern-Id : forged\n", false},
		{"tab before the colon", "x-postern-id\t: forged\n", false},
		{"folded", "X-Postern-Id: forged\n more of it\n\tand more\n", false},
		{"name alone", "X-Postern: who\n", true},
		{"another name", "X-Posterns-Id: who\n", true},
		{"value only", "X-Other: X-Postern-Id: who\n", true},
		{"our results", "Authentication-Results: " + mine + "; spf=pass\n", false},
		{"our results in capitals", "AUTHENTICATION-RESULTS: GW.Ours.Example; spf=pass\n", false},
		{"with a dot", "Authentication-Results: " + mine + ".; spf=pass\n", false},
		{"with a version", "Authentication-Results: " + mine + " 1; spf=pass\n", false},
		{"without results", "Authentication-Results: " + mine + "\n", false},
		{"after a comment", "Authentication-Results: (a) " + mine + "; spf=pass\n", false},
		{"after a nested comment", "Authentication-Results: (a (b) c) (d) " + mine + "; spf=pass\n", false},
		{"after a comment with a quoted parenthesis", "Authentication-Results: (a \\) b) " + mine + "; spf=pass\n", false},
		{"before a comment", "Authentication-Results: " + mine + "(a); spf=pass\n", false},
		{"folded", "Authentication-Results:\n\t" + mine + ";\n spf=pass\n", false},
		{"quoted", "Authentication-Results: \"" + mine + "\"; spf=pass\n", false},
		{"quoted with a quoted pair", "Authentication-Results: \"gw\\.ours.example\"; spf=pass\n", false},
		{"unfinished comment", "Authentication-Results: (" + mine + "; spf=pass\n", false},
		{"empty", "Authentication-Results:\n", false},
		{"a verdict on spam", "X-Spam-Status: No, score=-99\n", false},
		{"a verdict on SPF", "Received-SPF: pass (forged)\n", false},
		{"somebody else's results", "Authentication-Results: mx.sender.example; dkim=pass header.d=" + mine + "\n", true},
		{"somebody else's with our name in a comment", "Authentication-Results: (" + mine + ") mx.sender.example; dkim=pass\n", false},
		{"a longer name", "Authentication-Results: not-" + mine + "; dkim=pass\n", true},
		{"ARC", "ARC-Authentication-Results: i=1; " + mine + "; dkim=pass\n", true},
		{"odd bytes", "X-Odd:\t caf\xe9  \n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			plain := "Return-Path: <a@b.example>\n" + text("alice@sender.example")
			for _, place := range []string{c.field + plain, strings.Replace(plain, "Subject:", c.field+"Subject:", 1), plain[:strings.Index(plain, "\n\n")+1] + c.field + plain[strings.Index(plain, "\n\n")+1:]} {
				expected := place
				if !c.kept {
					expected = plain
				}
				if _, got := relayedContent(t, w, letter{content: place}); got != crlf(expected) {
					t.Errorf("inbound: got %q\nwant %q", got, crlf(expected))
				}
				own := strings.ReplaceAll(place, "alice@sender.example", "alice@ours.example")
				if _, got := relayedContent(t, w, letter{content: own, from: "alice@ours.example", listener: "out"}); got != crlf(own) {
					t.Errorf("outbound: got %q\nwant %q", got, crlf(own))
				}
			}
		})
	}
}

// TestBorderHostname: the host name of the policy file may be written in any
// way.
func TestBorderHostname(t *testing.T) {
	w := newWorld(t, plan{replace: [2]string{`"gw.ours.example"`, `"GW.Ours.Example"`}})
	plain := text("alice@sender.example")
	if _, got := relayedContent(t, w, letter{content: "Authentication-Results: gw.ours.example; spf=pass\n" + plain}); got != crlf(plain) {
		t.Errorf("got %q", got)
	}
}

// TestBorderBeyondLimits: where fields can stand that nobody has looked at, the
// message does not pass.
func TestBorderBeyondLimits(t *testing.T) {
	for name, filler := range map[string]string{
		"fields": strings.Repeat("A:\n", 10_001), "bytes": strings.Repeat("X-Filler: "+strings.Repeat("x", 90)+"\n", 11_000),
	} {
		w := newWorld(t, plan{})
		plain := text("alice@sender.example")
		s := w.send(letter{content: strings.Replace(plain, "\n\n", "\n"+filler+"X-Postern-Verdict: clean\n\n", 1)})
		if !strings.HasPrefix(s.one(), "451 ") || len(w.relayed()) > 0 {
			t.Errorf("%s: told %s", name, s.one())
		}
		if !strings.Contains(w.log.String(), "exceeds the limits") {
			t.Errorf("%s: the log knows nothing:\n%s", name, w.log)
		}
		own := strings.Replace(text("alice@ours.example"), "\n\n", "\n"+filler+"\n", 1)
		if s := w.send(letter{content: own, from: "alice@ours.example", listener: "out"}); !s.data[0].OK() {
			t.Errorf("%s: outbound: told %s", name, s.one())
		}
	}
}

// TestOwnFieldsOfRules: what a rule writes under our prefix stays, and a forged
// field of that name goes.
func TestOwnFieldsOfRules(t *testing.T) {
	w := newWorld(t, plan{rules: `
[[rule]]
name = "mark"
match = { direction = "inbound" }
action = "add-header"
headers = { X-Postern-Spam = "no" }
`})
	plain := text("alice@sender.example")
	_, got := relayedContent(t, w, letter{content: "X-Postern-Spam: yes, forged\n" + plain})
	if got != crlf("X-Postern-Spam: no\n"+plain) {
		t.Errorf("got %q", got)
	}
}

// TestOriginalBytes: the body, however it looks, is relayed byte for byte.
func TestOriginalBytes(t *testing.T) {
	w := newWorld(t, plan{})
	for _, body := range []string{
		"", "x", ".\n", "..\n.\n", "X-Postern-Id: in the body\n", strings.Repeat("line\n", 100_000), "\n\n\n", "caf\xe9 \x01\n", "From someone\n",
	} {
		plain := "From: alice@sender.example\nSubject: =?utf-8?q?h=C3=A9?=\n\n" + body
		expected := crlf(plain)
		if !strings.HasSuffix(expected, "\r\n") {
			expected += "\r\n"
		}
		_, got := relayedContent(t, w, letter{content: expected})
		if got != expected {
			t.Errorf("%.20q: %d bytes become %d", body, len(expected), len(got))
		}
	}
}

// TestNoSmuggling: no message, however it begins, makes an end of data out of a
// line that had none. What the next hop reads as commands is ours.
func TestNoSmuggling(t *testing.T) {
	w := newWorld(t, plan{})
	evil := "MAIL FROM:<evil@x.example>\r\nRCPT TO:<victim@x.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
	for _, start := range []string{
		" .\r\n", "From x\r\n .\r\n f: x\r\n", "From x\r\n\t.\r\n f: x\r\n", " .f: x\r\n", "X-Postern-A: x\r\n .\r\n", "X-Postern-A: x\r\n\r\n", "  \r\n .\r\n f: x\r\n",
		">From x\r\n .\r\n .\r\n f: x\r\n", "f\r\n .\r\n f: x\r\n", "X-Postern-A: x\r\nf\r\n .\r\n f: x\r\n", "", ".\r\n", "..\r\n", "\r\n",
	} {
		for _, rest := range []string{"", "From: a@b.example\r\n\r\n", "\r\n"} {
			content := start + rest + evil
			before := len(w.hop.got())
			s := w.begin(letter{})
			s.tx.Recipients = []mail.Recipient{{Path: testPath(t, "bob@ours.example")}}
			body := w.spool.Buffer()
			io.WriteString(body, content)
			if !strings.HasPrefix(content, ".") && !strings.Contains(content, "\n.") {
				body.SetDotless() // as smtpd does
			}
			w.g.Data(t.Context(), s.tx, body)
			got := w.hop.got()
			if len(got) != before+1 || !strings.HasSuffix(got[len(got)-1].content, evil) {
				t.Errorf("%q: the next hop has %q", content, got[before:])
			}
		}
	}
	if bad := w.hop.commands("MAIL FROM:<evil"); len(bad) > 0 {
		t.Errorf("smuggled %d times", len(bad))
	}
}
