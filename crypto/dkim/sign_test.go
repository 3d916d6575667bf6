package dkim

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"postern/mail"
)

// signers returns an RSA and an Ed25519 signer, and a zone with their keys.
func signers(t testing.TB) ([]Signer, *table) {
	zone := newTable()
	zone.add("r1._domainkey.example.org", record(t, "rsa"))
	zone.add("e1._domainkey.example.org", record(t, "ed"))
	return []Signer{
		{Domain: "example.org", Selector: "r1", Key: keys()["rsa"], Expire: 7 * 24 * time.Hour},
		{Domain: "example.org", Selector: "e1", Key: keys()["ed"]},
	}, zone
}

// onTop returns the text of a message with fields put on top by its editor.
func onTop(t testing.TB, m *mail.Message, fields []string) string {
	t.Helper()
	e := m.Edit()
	e.Prepend(fields...)
	out, err := e.Message()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	slices, ok := out.Slices()
	if !ok {
		t.Fatal("not in memory")
	}
	for _, s := range slices {
		b.Write(s)
	}
	return b.String()
}

func TestSign(t *testing.T) {
	both, zone := signers(t)
	for _, text := range []string{
		plainMessage,
		"From: a@example.org\r\n\r\n",
		"From: a@example.org",
		"From: a@example.org\r\nTo: b@x.example\r\nTo: c@x.example\r\nSender: a@example.org\r\nList-Id: <l.example.org>\r\n" +
			"Content-Type: text/plain; charset=utf-8\r\nMIME-Version: 1.0\r\nX-Other: 1\r\n\r\né è\r\n",
		"From: =?utf-8?q?caf=C3=A9?= <a@example.org>\r\nSubject: " + strings.Repeat("long words ", 40) + "\r\n\r\n" + strings.Repeat("x", 5000) + "\r\n\r\n\r\n",
	} {
		fields, err := Sign(parse(text), suiteTime, both...)
		if err != nil || len(fields) != 2 {
			t.Fatal(fields, err)
		}
		for _, f := range fields {
			if !strings.HasSuffix(f, "\r\n") || strings.Contains(strings.ReplaceAll(f, "\r\n ", ""), "\r\n\r\n") {
				t.Errorf("%q is not one field", f)
			}
			for line := range strings.SplitSeq(f, "\r\n") {
				if len(line) > 78 {
					t.Errorf("a line of %d characters: %q", len(line), line)
				}
			}
		}
		signed := onTop(t, parse(text), fields)
		if !strings.HasPrefix(signed, fields[0]+fields[1]) {
			t.Errorf("the editor changed the fields: %q", signed)
		}
		rs, err := Verify(t.Context(), parse(signed), Options{Resolver: zone, Now: suiteTime})
		if err != nil || len(rs) != 2 || rs[0].Value != Pass || rs[1].Value != Pass {
			t.Errorf("%.60q: %+v, %v", text, rs, err)
		}
		if !strings.Contains(text, "\r\n\r\n") {
			continue // go-msgauth reads no message without an empty line
		}
		theirs, err := msgauth.VerifyWithOptions(strings.NewReader(signed), &msgauth.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
			return zone.records[name], nil
		}})
		if err != nil || len(theirs) != 2 || theirs[0].Err != nil || theirs[1].Err != nil {
			t.Errorf("go-msgauth: %+v, %v", theirs, err)
		}
	}
}

// TestOversigned checks that a field which exists once in an honest message
// cannot be added to it, be it there or not.
func TestOversigned(t *testing.T) {
	both, zone := signers(t)
	fields, err := Sign(parse(plainMessage), suiteTime, both...)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "Content-Type", "MIME-Version", "In-Reply-To", "References", "content-transfer-encoding"} {
		for _, text := range []string{
			name + ": evil\r\n" + strings.Join(fields, "") + plainMessage,
			strings.Join(fields, "") + name + ": evil\r\n" + plainMessage,
		} {
			rs, err := Verify(t.Context(), parse(text), Options{Resolver: zone, Now: suiteTime})
			if err != nil || rs[0].Value != Fail || rs[1].Value != Fail {
				t.Errorf("%s: %v, %v", name, rs, err)
			}
		}
	}
	for _, name := range []string{"Received", "List-Id", "Sender", "X-Spam-Flag", "Authentication-Results", "Return-Path"} {
		rs, err := Verify(t.Context(), parse(name+": x\r\n"+strings.Join(fields, "")+plainMessage), Options{Resolver: zone, Now: suiteTime})
		if err != nil || rs[0].Value != Pass || rs[1].Value != Pass {
			t.Errorf("%s: %v, %v", name, rs, err)
		}
	}
}

// TestTheirSignatures checks that what go-msgauth signs holds here.
func TestTheirSignatures(t *testing.T) {
	both, zone := signers(t)
	for _, header := range []msgauth.Canonicalization{"simple", "relaxed"} {
		for _, body := range []msgauth.Canonicalization{"simple", "relaxed"} {
			for _, s := range both {
				var b strings.Builder
				err := msgauth.Sign(&b, strings.NewReader(plainMessage), &msgauth.SignOptions{
					Domain: s.Domain, Selector: s.Selector, Signer: s.Key, HeaderCanonicalization: header, BodyCanonicalization: body,
					HeaderKeys: []string{"From", "Subject", "To", "From"},
				})
				if err != nil {
					t.Fatal(err)
				}
				rs, err := Verify(t.Context(), parse(b.String()), Options{Resolver: zone, Now: time.Now()})
				if err != nil || len(rs) != 1 || rs[0].Value != Pass || rs[0].HeaderCanon != string(header) || rs[0].BodyCanon != string(body) {
					t.Errorf("%s/%s: %+v, %v", header, body, rs, err)
				}
			}
		}
	}
}

func TestSignErrors(t *testing.T) {
	short := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 900), E: 65537}}
	for _, s := range []Signer{
		{},
		{Domain: "example.org", Selector: "s"},
		{Domain: "example.org", Selector: "s", Key: short},
		{Domain: "Example.org", Selector: "s", Key: keys()["ed"]},
		{Domain: "org", Selector: "s", Key: keys()["ed"]},
		{Domain: "example.org", Selector: "s;x=1", Key: keys()["ed"]},
		{Domain: "example.org", Selector: "", Key: keys()["ed"]},
		{Domain: "example.org", Selector: "s", Key: keys()["ed"], Headers: []string{"to"}},
		{Domain: "example.org", Selector: "s", Key: keys()["ed"], Headers: []string{"from", "a:b"}},
		{Domain: "example.org", Selector: "s", Key: keys()["ed"], Headers: []string{"from", "a\r\nb"}},
	} {
		if fields, err := Sign(parse(plainMessage), suiteTime, s); !errors.Is(err, ErrKey) {
			t.Errorf("%+v: %q, %v", s, fields, err)
		}
	}
	if err := (Signer{Domain: "example.org", Selector: "s", Key: keys()["ed"]}).Check(); err != nil {
		t.Error(err)
	}
}

// chainOf seals a message n times, each time with a line added to it at a
// mailing list.
func chainOf(t testing.TB, n int, s Signer, zone *table) string {
	t.Helper()
	text := plainMessage
	for i := range n {
		a, err := VerifyARC(t.Context(), parse(text), Options{Resolver: zone, Now: suiteTime})
		if err != nil {
			t.Fatal(err)
		}
		text = strings.Replace(text, "Subject: ", fmt.Sprintf("Subject: [%d] ", i), 1)
		fields, err := SealARC(parse(text), fmt.Sprintf("mx%d.example.org;\r\n\tspf=pass smtp.mailfrom=a@b.example;\r\n\tdmarc=pass header.from=b.example", i), a, s, suiteTime)
		if err != nil {
			t.Fatal(err)
		}
		text = onTop(t, parse(text), fields)
	}
	return text
}

func TestSealARC(t *testing.T) {
	both, zone := signers(t)
	for i, s := range both {
		text := chainOf(t, 3, s, zone)
		a, err := VerifyARC(t.Context(), parse(text), Options{Resolver: zone, Now: suiteTime})
		if err != nil || a.Value != Pass || len(a.Chain) != 3 || a.Highest != 3 || a.Oldest != 3 {
			t.Fatalf("%d: %+v, %v", i, a, err)
		}
		first := a.Chain[0]
		if first.Instance != 1 || first.Domain != "example.org" || first.CV != None || first.Signer != "example.org" || !first.At.Equal(suiteTime) ||
			first.Results != "mx0.example.org;\tspf=pass smtp.mailfrom=a@b.example;\tdmarc=pass header.from=b.example" || a.Chain[2].CV != Pass || first.KeyBits == 0 {
			t.Errorf("%d: %+v", i, first)
		}
	}
}

func TestBrokenChains(t *testing.T) {
	both, zone := signers(t)
	text := chainOf(t, 2, both[0], zone)
	fields := parse(text).Header().All("ARC-Seal")
	first := string(parse(text).Header().All("ARC-Message-Signature")[1].Raw())
	for _, c := range []struct {
		name, text, value, reason string
		highest                   int
	}{
		{"good", text, Pass, "", 2},
		{"body", text + "more\r\n", Fail, "the body was changed", 2},
		{"subject", strings.Replace(text, "Subject: [1]", "Subject: [2]", 1), Fail, "the message signature of i=2", 2},
		{"a seal gone", strings.Replace(text, string(fields[1].Raw()), "", 1), Fail, "i=1 has no field ARC-Seal", 2},
		{"a seal twice", string(fields[0].Raw()) + text, Fail, "i=2 has two fields ARC-Seal", 2},
		{"results changed", strings.Replace(text, "mx0.example.org;", "mx9.example.org;", 1), Fail, "the seal of i=2", 2},
		{"old message signature changed", strings.Replace(text, first, strings.Replace(first, "bh=", "bh=A", 1), 1), Fail, "", 2},
		{"a gap", strings.ReplaceAll(text, "i=2", "i=4"), Fail, "i=2 has no field", 4},
		{"out of range", strings.ReplaceAll(text, "i=2", "i=51"), Fail, "", 1},
		{"cv", strings.Replace(text, "cv=pass", "cv=none", 1), Fail, "says cv=none", 2},
		{"failed", strings.Replace(text, "cv=pass", "cv=fail", 1), Fail, "i=2 says that the chain had failed", 2},
		{"h= in a seal", strings.Replace(text, "cv=pass", "h=from; cv=pass", 1), Fail, "a seal has no h=", 2},
	} {
		a, err := VerifyARC(t.Context(), parse(c.text), Options{Resolver: zone, Now: suiteTime})
		if err != nil || a.Value != c.value || !strings.Contains(a.Reason, c.reason) || a.Highest != c.highest {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
	}
	broken := newTable()
	broken.add("r1._domainkey.example.org", "TEMPERROR")
	a, err := VerifyARC(t.Context(), parse(text), Options{Resolver: broken, Now: suiteTime})
	if err != nil || a.Value != TempError {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := SealARC(parse(text), "mx.example.org; none", a, both[0], suiteTime); !errors.Is(err, ErrChain) {
		t.Errorf("a chain that could not be judged is sealed: %v", err)
	}
	var b strings.Builder
	for i := range 60 {
		fmt.Fprintf(&b, "ARC-Seal: i=%d\r\nARC-Message-Signature: i=%d\r\nARC-Authentication-Results: i=%d; x\r\n", i, i, i)
	}
	before := zone.asked.Load()
	a, err = VerifyARC(t.Context(), parse(b.String()+plainMessage), Options{Resolver: zone})
	if err != nil || a.Value != Fail || zone.asked.Load() != before {
		t.Errorf("60 sets: %+v, %v", a, err)
	}
}

// TestSealFailed checks that a chain that fails is sealed once with cv=fail.
func TestSealFailed(t *testing.T) {
	both, zone := signers(t)
	m := parse(chainOf(t, 2, both[1], zone) + "more\r\n")
	a, err := VerifyARC(t.Context(), m, Options{Resolver: zone, Now: suiteTime})
	if err != nil || a.Value != Fail {
		t.Fatalf("%+v, %v", a, err)
	}
	fields, err := SealARC(m, "mx.example.org; arc=fail", a, both[1], suiteTime)
	if err != nil || !strings.Contains(fields[0], "cv=fail") || !strings.Contains(fields[0], "i=3") {
		t.Fatalf("%q, %v", fields, err)
	}
	m = parse(onTop(t, m, fields))
	if a, err = VerifyARC(t.Context(), m, Options{Resolver: zone, Now: suiteTime}); err != nil || a.Value != Fail || a.Highest != 3 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := SealARC(m, "mx.example.org; arc=fail", a, both[1], suiteTime); !errors.Is(err, ErrChain) {
		t.Errorf("sealed again: %v", err)
	}
	good := parse(chainOf(t, 1, both[1], zone))
	if _, err := SealARC(good, "x", ARC{Value: Pass, Highest: 2}, both[1], suiteTime); !errors.Is(err, ErrChain) {
		t.Errorf("a chain that lost a set is sealed: %v", err)
	}
	if _, err := SealARC(good, "x", ARC{Value: Pass, Highest: maxSets}, both[1], suiteTime); !errors.Is(err, ErrChain) {
		t.Errorf("a full chain is sealed: %v", err)
	}
	if _, err := SealARC(good, "x", ARC{}, both[1], suiteTime); !errors.Is(err, ErrChain) {
		t.Errorf("a chain without a state is sealed: %v", err)
	}
}

func TestResultsInjection(t *testing.T) {
	got := foldResults("i=1", "mx.example.org; dkim=fail reason=\"x\r\nBcc: eve@evil.example\r\n\r\nbody\x00\"")
	for line := range strings.SplitSeq(strings.TrimSuffix(got, "\r\n"), "\r\n") {
		if line == "" || line[0] != '\t' && !strings.HasPrefix(line, "ARC-Authentication-Results: i=1;") {
			t.Errorf("%q", got)
		}
	}
}

func TestDefaultNames(t *testing.T) {
	names := defaultNames(contentOf(parse("From: a@b.example\r\nTo: x\r\nto: y\r\nList-Id: z\r\nReceived: r\r\n\r\n")).index)
	for name, want := range map[string]int{"from": 2, "to": 3, "subject": 1, "list-id": 1, "received": 0, "sender": 0} {
		n := 0
		for _, other := range names {
			if other == name {
				n++
			}
		}
		if n != want {
			t.Errorf("%s stands there %d times, not %d", name, n, want)
		}
	}
	if !slices.Contains(names, "reply-to") {
		t.Error(names)
	}
}
