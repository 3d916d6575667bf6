package dkim

import (
	"strings"
	"testing"
)

// FuzzSignature checks that no field makes the reader fail, that what it reports
// is fit to be reported, and that b= lies within the field.
func FuzzSignature(f *testing.F) {
	f.Add("DKIM-Signature: " + goodTags + "; b=AAAA\r\n")
	f.Add("DKIM-Signature: v=1;a=rsa-sha256;d=a.b;s=c;i==40@a.b;h=from;bh=;b=\r\n =;l=1;x=2;t=1;q=dns/txt:x")
	f.Add("ARC-Seal: i=1; a=rsa-sha256; cv=none; d=a.b; s=c; t=1; b=AAAA")
	f.Fuzz(func(t *testing.T, raw string) {
		for _, k := range []kind{dkimSignature, arcMessage, arcSeal} {
			s, flaw := readSignature(k, 0, []byte(raw))
			if s.from > s.to || s.to > len(raw) {
				t.Fatalf("b= from %d to %d of %d", s.from, s.to, len(raw))
			}
			for _, name := range []string{s.domain, s.selector, s.identity} {
				if strings.ContainsAny(name, "\r\n\x00") {
					t.Errorf("%q", name)
				}
			}
			if strings.ContainsAny(s.domain+s.selector, " ;()'\"@") {
				t.Errorf("%q %q", s.domain, s.selector)
			}
			if flaw == nil && (s.domain == "" || s.selector == "" || len(s.bytes) == 0) {
				t.Errorf("%q has no flaw", raw)
			}
			simple.appendField(nil, s.raw, s.from, s.to)
			relaxed.appendField(nil, s.raw, s.from, s.to)
		}
	})
}

// FuzzKey checks that a record either gives a key or an error.
func FuzzKey(f *testing.F) {
	f.Add("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	f.Add("v=DKIM1; p=MIGJAoGBALVI635dLK4cJJAH3Lx6upo3X/Lm1tQz3mezcWTA3BUBnyIsdnRf57aD5BtNmhPrYYDlWlzw3UgnKisIxktkk5+iMQMlFtAS10JB8L3YadXNJY+JBcbeSi5TgJe4WFzNgW95FWDAuSTRXSWZfA/8xjflbTLDx0euFZOM7C4T0GwLAgMBAAE=")
	f.Add("p= ; t=y:s; h=sha256; s=email")
	f.Fuzz(func(t *testing.T, record string) {
		k, err := ParseKey(record)
		if err == nil && (k.Public == nil || k.Bits == 0) {
			t.Errorf("%q: %+v", record, k)
		}
	})
}

// FuzzVerify checks that no message makes the verifiers fail, and that none
// passes without a key.
func FuzzVerify(f *testing.F) {
	f.Add("DKIM-Signature: v=1; a=rsa-sha256; d=a.b; s=c; h=from; bh=AAAA; b=AAAA\r\nFrom: a@a.b\r\n\r\nx")
	f.Add("ARC-Seal: i=1; a=rsa-sha256; cv=none; d=a.b; s=c; b=AAAA\r\nARC-Message-Signature: i=1; a=rsa-sha256; d=a.b; s=c; h=; bh=AAAA; b=A\r\nARC-Authentication-Results: i=1; x\r\n\r\n")
	zone := newTable()
	zone.add("c._domainkey.a.b", "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	f.Fuzz(func(t *testing.T, text string) {
		rs, err := Verify(t.Context(), parse(text), Options{Resolver: zone, Now: suiteTime})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if r.Value == Pass {
				t.Errorf("%q passes", text)
			}
		}
		a, err := VerifyARC(t.Context(), parse(text), Options{Resolver: zone, Now: suiteTime})
		if err != nil || a.Value == Pass || a.Value == "" {
			t.Errorf("%q: %+v, %v", text, a, err)
		}
	})
}
