package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/mail"
)

// keys are made once: RSA keys take their time.
var keys = sync.OnceValue(func() map[string]crypto.Signer {
	out := map[string]crypto.Signer{}
	for name, bits := range map[string]int{"rsa": 2048, "other": 2048, "small": 1024} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		out[name] = k
	}
	_, out["ed"], _ = ed25519.GenerateKey(rand.Reader)
	return out
})

// record returns the key record of a key.
func record(t testing.TB, name string) string {
	t.Helper()
	r, err := Record(keys()[name].Public())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const plainMessage = "From: Ann <ann@news.example.org>\r\nTo: bob@example.net\r\nSubject: hello\r\n  there\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\n\r\nHi  Bob,\r\n\r\nbye \r\n\r\n"

// craft signs a message with any tags: "bh=?" is filled in, b= appended.
func craft(t testing.TB, key, tags, message string) string {
	t.Helper()
	m := parse(message)
	c := contentOf(m)
	field := "DKIM-Signature: " + tags + "; b=AAAA\r\n"
	s, _ := readSignature(dkimSignature, -1, []byte(field))
	if strings.Contains(field, "bh=?") {
		k := bodyKey{s.body, s.limit}
		sums, err := c.bodies.sum(m, []bodyKey{k})
		if err != nil {
			t.Fatal(err)
		}
		sum := sums[k].sum
		field = strings.Replace(field, "bh=?", "bh="+base64.StdEncoding.EncodeToString(sum[:]), 1)
		s, _ = readSignature(dkimSignature, -1, []byte(field))
	}
	h := sha256.New()
	c.index.hashHeader(h, s, nil)
	var o crypto.SignerOpts = crypto.SHA256
	if key == "ed" {
		o = crypto.Hash(0)
	}
	b, err := keys()[key].Sign(rand.Reader, h.Sum(nil), o)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(field, "b=AAAA", "b="+base64.StdEncoding.EncodeToString(b), 1)
}

// goodTags are the tags of a signature that holds.
const goodTags = "v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=sel; t=1795000000; h=from:to:subject:date:from; bh=?"

func TestVerify(t *testing.T) {
	with := func(old, replacement string) string { return strings.Replace(goodTags, old, replacement, 1) }
	for _, c := range []struct {
		name   string
		tags   string
		key    string // of keys; "" is rsa
		record string // "" is that of the key
		change string // "old=>new" in the signed message
		value  string
		reason string
	}{
		{name: "good", value: Pass},
		{name: "ed25519", key: "ed", tags: with("rsa-", "ed25519-"), value: Pass},
		{name: "simple", tags: with("relaxed/relaxed", "simple/simple"), value: Pass},
		{name: "no c=", tags: with("c=relaxed/relaxed; ", ""), value: Pass},
		{name: "one word in c=", tags: with("relaxed/relaxed", "relaxed"), value: Pass},
		{name: "unknown tags", tags: goodTags + "; zz=1; r=y", value: Pass},
		{name: "white space in tags", tags: strings.NewReplacer("; ", " ;\r\n\t ", "h=from:to", "h =\r\n from :\t to").Replace(goodTags), value: Pass},
		{name: "body changed", change: "Hi  Bob=>Hi Rob", value: Fail, reason: "the body was changed"},
		{name: "white space changed", change: "Hi  Bob=>Hi Bob", value: Pass},
		{name: "white space changed, simple", tags: with("relaxed/relaxed", "relaxed/simple"), change: "Hi  Bob=>Hi Bob", value: Fail},
		{name: "header changed", change: "Subject: hello=>Subject: hullo", value: Fail, reason: "does not match"},
		{name: "header refolded", change: "hello\r\n  there=>hello there", value: Pass},
		{name: "header refolded, simple", tags: with("relaxed/relaxed", "simple/relaxed"), change: "hello\r\n  there=>hello there", value: Fail},
		{name: "second From, oversigned", change: "To: bob=>From: eve@evil.example\r\nTo: bob", value: Fail},
		{name: "second Subject on top, not oversigned", change: "From: Ann=>Subject: evil\r\nFrom: Ann", value: Pass},
		{name: "signature changed", change: "t=1795000000=>t=1795000001", value: Fail},
		{name: "no v=", tags: with("v=1; ", ""), value: Neutral, reason: "v= is missing"},
		{name: "v=2", tags: with("v=1", "v=2"), value: Neutral, reason: "version"},
		{name: "twice", tags: goodTags + "; d=example.org", value: Neutral, reason: "twice"},
		{name: "no =", tags: goodTags + "; nonsense", value: Neutral},
		{name: "empty tag", tags: with("; d=", ";; d="), value: Neutral},
		{name: "sha1", tags: with("rsa-sha256", "rsa-sha1"), value: PermError, reason: "rsa-sha1"},
		{name: "unknown algorithm", tags: with("rsa-sha256", "rsa-md5"), value: Neutral, reason: "algorithm"},
		{name: "algorithm in capitals", tags: with("rsa-sha256", "RSA-SHA256"), value: Neutral, reason: "algorithm"},
		{name: "unknown c=", tags: with("relaxed/relaxed", "relaxed/nofws"), value: Neutral, reason: "canonicalisation"},
		{name: "empty c=", tags: with("relaxed/relaxed", ""), value: Neutral, reason: "canonicalisation"},
		{name: "From not signed", tags: with("h=from:to:subject:date:from", "h=to:subject"), value: PermError, reason: "From is not signed"},
		{name: "h= in capitals", tags: with("h=from", "h=FROM"), value: Pass},
		{name: "empty h=", tags: with("h=from:to:subject:date:from", "h="), value: Neutral},
		{name: "bh= not base64", tags: with("bh=?", "bh=***"), value: Neutral},
		{name: "bh= short", tags: with("bh=?", "bh=AAAA"), value: Neutral},
		{name: "q=", tags: goodTags + "; q=dns/txt", value: Pass},
		{name: "q= of several", tags: goodTags + "; q=http : dns/txt", value: Pass},
		{name: "other q=", tags: goodTags + "; q=http", value: Neutral},
		{name: "expired", tags: goodTags + "; x=1795000001", value: PermError, reason: "expired"},
		{name: "not yet expired", tags: goodTags + "; x=1999999999", value: Pass},
		{name: "expires before it was made", tags: goodTags + "; x=1794999999", value: Neutral},
		{name: "expires in the very far future", tags: goodTags + "; x=99999999999999", value: Pass},
		{name: "x= no number", tags: goodTags + "; x=soon", value: Neutral},
		{name: "t= no number", tags: with("t=1795000000", "t=-1"), value: Neutral},
		{name: "i= below", tags: goodTags + "; i=ann@NEWS.Example.ORG", value: Pass},
		{name: "i= quoted-printable", tags: goodTags + "; i=a=6E=\r\n n=3B@example.org", value: Neutral},
		{name: "i= quoted-printable, folded", tags: goodTags + "; i=a=6E\r\n n=3B@example.org", value: Pass},
		{name: "i= elsewhere", tags: goodTags + "; i=ann@example.com", value: Neutral, reason: "is not of the domain"},
		{name: "i= looks like it", tags: goodTags + "; i=ann@badexample.org", value: Neutral},
		{name: "i= without @", tags: goodTags + "; i=example.org", value: Neutral},
		{name: "i= with a control character", tags: goodTags + "; i=a=0D=0Ab@example.org", value: Neutral},
		{name: "d= in capitals", tags: with("d=example.org", "d=EXAMPLE.org"), value: Pass},
		{name: "d= with a quote", tags: with("d=example.org", "d=legit.test'a.example.org"), value: Neutral, reason: "not a domain"},
		{name: "d= with a parenthesis", tags: with("d=example.org", "d=legit.test(.example.org"), value: Neutral, reason: "not a domain"},
		{name: "d= of one label", tags: with("d=example.org", "d=org"), value: Neutral},
		{name: "s= with NUL", tags: with("s=sel", "s=sel\x00x"), value: Neutral, reason: "control character"},
		{name: "s= with dots at the end", tags: with("s=sel", "s=sel."), value: Neutral},
		{name: "another selector", tags: with("s=sel", "s=other"), value: PermError, reason: "there is no key at other._domainkey.example.org"},
		{name: "l= of all", tags: goodTags + "; l=16", value: Pass},
		{name: "l= short", tags: goodTags + "; l=4", value: Policy, reason: "l= leaves 12 bytes of the body unsigned"},
		{name: "l= and more appended", tags: goodTags + "; l=16", change: "bye =>bye\r\nand a phish", value: Policy},
		{name: "l= too long", tags: goodTags + "; l=17", value: PermError, reason: "l= is more"},
		{name: "l= no number", tags: goodTags + "; l=all", value: Neutral},
		{name: "temporary", record: "TEMPERROR", value: TempError},
		{name: "no record", record: "PERMERROR", value: PermError},
		{name: "revoked", record: "v=DKIM1; p=", value: PermError, reason: "revoked"},
		{name: "no p=", record: "v=DKIM1; k=rsa", value: PermError, reason: "no p="},
		{name: "not a key", record: "v=spf1 -all", value: PermError},
		{name: "wrong version", record: "v=DKIM2; p=AAAA", value: PermError, reason: "version"},
		{name: "v= not first", record: "k=rsa; v=DKIM1; p=AAAA", value: PermError, reason: "version"},
		{name: "other type", record: "v=DKIM1; k=dsa; p=AAAA", value: PermError, reason: "key type"},
		{name: "broken key", record: "v=DKIM1; p=AAAA", value: PermError},
		{name: "key not base64", record: "v=DKIM1; p=A", value: PermError},
		{name: "record in form", record: "$;", value: Pass},
		{name: "record with tabs and folds", record: "folded", value: Pass},
		{name: "unknown tags in the record", record: "$; zz=1; n=note; g=*", value: Pass},
		{name: "for SHA-1 only", record: "$; h=sha1", value: PermError, reason: "SHA-256"},
		{name: "for both hashes", record: "$; h=sha1 : sha256", value: Pass},
		{name: "for other services", record: "$; s=tlsrpt", value: PermError, reason: "not for mail"},
		{name: "for mail", record: "$; s=tlsrpt:email", value: Pass},
		{name: "strict", record: "$; t=s", tags: goodTags + "; i=@example.org", value: Pass},
		{name: "strict without i=", record: "$; t=y:s", value: Pass},
		{name: "strict, below", record: "$; t=s", tags: goodTags + "; i=@news.example.org", value: PermError, reason: "only for i="},
		{name: "key of the other type", record: "ed", value: PermError, reason: "not for rsa-sha256"},
		{name: "another key", record: "other", value: Fail},
		{name: "small key", key: "small", value: Policy, reason: "too short"},
	} {
		key, tags, rec := c.key, c.tags, c.record
		if key == "" {
			key = "rsa"
		}
		if tags == "" {
			tags = goodTags
		}
		switch own := record(t, key); {
		case rec == "":
			rec = own
		case rec == "folded":
			rec = strings.NewReplacer("; ", " ;\t", "p=", "p=\r\n\t ").Replace(own)
			rec = rec[:100] + "\t\r\n " + rec[100:]
		case keys()[rec] != nil:
			rec = record(t, rec)
		default:
			rec = strings.Replace(rec, "$", own, 1)
		}
		zone := newTable()
		zone.add("sel._domainkey.example.org", rec)
		text := craft(t, key, tags, plainMessage) + plainMessage
		if old, replacement, ok := strings.Cut(c.change, "=>"); ok {
			if !strings.Contains(text, old) {
				t.Fatalf("%s: nothing to change", c.name)
			}
			text = strings.Replace(text, old, replacement, 1)
		}
		o := Options{Resolver: zone, Now: time.Unix(1796000000, 0), MinimumKey: 1536}
		rs, err := Verify(t.Context(), parse(text), o)
		if err != nil || len(rs) != 1 {
			t.Errorf("%s: %v, %v", c.name, rs, err)
			continue
		}
		if r := rs[0]; r.Value != c.value || !strings.Contains(r.Reason, c.reason) {
			t.Errorf("%s: %s (%s), want %s (%s)", c.name, r.Value, r.Reason, c.value, c.reason)
		}
	}
}

func TestResult(t *testing.T) {
	zone := newTable()
	zone.add("sel._domainkey.example.org", record(t, "rsa")+"; t=y")
	tags := strings.Replace(goodTags, "d=example.org", "d=Example.ORG; i=ann=2Bx@News.Example.org; x=1799000000; l=4", 1)
	text := craft(t, "rsa", tags, plainMessage) + plainMessage
	rs, err := Verify(t.Context(), parse(text), Options{Resolver: zone, Now: time.Unix(1796000000, 0), BodyLength: BodyPartial})
	if err != nil || len(rs) != 1 {
		t.Fatal(rs, err)
	}
	r := rs[0]
	_, b, _ := strings.Cut(text, "; b=")
	want := Result{
		Value: Pass, Reason: "l= leaves 12 bytes of the body unsigned", Domain: "example.org", Identity: "ann+x@news.example.org", Selector: "sel",
		Algorithm: "rsa-sha256", KeyBits: 2048, HeaderCanon: "relaxed", BodyCanon: "relaxed", Testing: true,
		Signed: []string{"from", "to", "subject", "date", "from"}, BodyLimited: true, Unsigned: 12, SigPrefix: b[:8],
		At: time.Unix(1795000000, 0).UTC(), Expires: time.Unix(1799000000, 0).UTC(),
	}
	if fmt.Sprint(r) != fmt.Sprint(want) {
		t.Errorf("%+v\nwant %+v", r, want)
	}
}

// TestMany checks that of 500 signatures ten are judged, over one body and at
// most ten look-ups, and that those which cannot be read count.
func TestMany(t *testing.T) {
	zone := newTable()
	var b strings.Builder
	for i := range 500 {
		tags := strings.Replace(goodTags, "s=sel", fmt.Sprintf("s=s%d", i), 1)
		if i == 3 {
			tags = "broken"
		}
		zone.add(fmt.Sprintf("s%d._domainkey.example.org", i), record(t, "ed"))
		b.WriteString(craft(t, "ed", strings.Replace(tags, "rsa-", "ed25519-", 1), plainMessage))
	}
	rs, err := Verify(t.Context(), parse(b.String()+plainMessage), Options{Resolver: zone, Now: suiteTime})
	if err != nil || len(rs) != 11 {
		t.Fatal(len(rs), err)
	}
	for i, r := range rs {
		want := Pass
		switch i {
		case 3:
			want = Neutral
		case 10:
			want = Policy
		}
		if r.Value != want {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if n := zone.asked.Load(); n > 10 {
		t.Errorf("%d look-ups", n)
	}
}

// TestSharedKey checks that one selector is asked for once, and that a key
// record is tried for each of two records.
func TestSharedKey(t *testing.T) {
	zone := newTable()
	zone.add("sel._domainkey.example.org", "v=DKIM1; p=")
	zone.add("sel._domainkey.example.org", record(t, "ed"))
	zone.add("sel._domainkey.example.org", record(t, "rsa"))
	text := craft(t, "rsa", goodTags, plainMessage) + craft(t, "ed", strings.Replace(goodTags, "rsa-", "ed25519-", 1), plainMessage) + plainMessage
	rs, err := Verify(t.Context(), parse(text), Options{Resolver: zone, Now: suiteTime})
	if err != nil || len(rs) != 2 || rs[0].Value != Pass || rs[1].Value != Pass || zone.asked.Load() != 1 {
		t.Errorf("%+v, %v, %d look-ups", rs, err, zone.asked.Load())
	}
}

func TestHugeNames(t *testing.T) {
	zone := newTable()
	zone.add("sel._domainkey.example.org", record(t, "rsa"))
	tags := strings.Replace(goodTags, "h=", "h="+strings.Repeat("x-a:", 20_000), 1)
	rs, err := Verify(t.Context(), parse(craft(t, "rsa", tags, plainMessage)+plainMessage), Options{Resolver: zone, Now: suiteTime})
	if err != nil || len(rs) != 1 || rs[0].Value != Neutral || len(rs[0].Signed) > 0 || zone.asked.Load() != 0 {
		t.Errorf("%v, %v", rs, err)
	}
	tags = strings.Replace(goodTags, "h=", "h="+strings.Repeat("x-a:", maxNames-5), 1)
	rs, err = Verify(t.Context(), parse(craft(t, "rsa", tags, plainMessage)+plainMessage), Options{Resolver: zone, Now: suiteTime})
	if err != nil || len(rs) != 1 || rs[0].Value != Pass {
		t.Errorf("%v, %v", rs, err)
	}
}

func TestKeyBounds(t *testing.T) {
	for _, c := range []struct{ record, want string }{
		{"v=DKIM1; p=" + strings.Repeat("A", 10_000), "too long"},
		{"v=DKIM1; n=" + strings.Repeat("A", maxRecord), "more than 65536 bytes"},
		{"v=DKIM1; k=ed25519; p=AAAA", "Ed25519 key of 3 bytes"},
		{"", "not a list"},
		{"p=" + strings.Repeat("; x=1", maxTags), "twice"},
	} {
		if _, err := ParseKey(c.record); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v", c.record, err)
		}
	}
	if _, err := Record("x"); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
	if k, err := ParseKey(strings.TrimRight(record(t, "ed"), "=")); err != nil || k.Bits != 256 { // RFC 6376 section 2.10
		t.Errorf("without padding: %+v, %v", k, err)
	}
	for _, p := range []string{"A", "AAA=A", "AAA==", "=", "AA=", "A==="} {
		if _, err := ParseKey("p=" + p); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "base64") {
			t.Errorf("%q: %v", p, err)
		}
	}
	k, err := ParseKey(record(t, "ed") + ";t=s:y")
	if err != nil || k.Bits != 256 || !k.Strict || !k.Testing {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestNoSignature(t *testing.T) {
	for _, text := range []string{"", "\r\n", "From: a@b.example\r\n\r\nDKIM-Signature: v=1\r\n", "From: a@b.example"} {
		if rs, err := Verify(t.Context(), parse(text), Options{}); err != nil || len(rs) != 0 {
			t.Errorf("%q: %v, %v", text, rs, err)
		}
	}
}

func TestUnreadable(t *testing.T) {
	text := craft(t, "rsa", goodTags, plainMessage) + plainMessage + strings.Repeat("more\r\n", 50_000)
	zone := newTable()
	zone.add("sel._domainkey.example.org", record(t, "rsa"))
	m := mail.Parse(failing{text, 100_000}, int64(len(text)), mail.Options{})
	if rs, err := Verify(t.Context(), m, Options{Resolver: zone, Now: suiteTime}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v, %v", rs, err)
	}
	if _, err := Sign(m, suiteTime, Signer{Domain: "example.org", Selector: "sel", Key: keys()["ed"]}); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	zone := newTable()
	rs, err := Verify(ctx, parse(craft(t, "rsa", goodTags, plainMessage)+plainMessage), Options{Resolver: zone, Now: suiteTime})
	if err != nil || len(rs) != 1 || rs[0].Value != TempError {
		t.Errorf("%v, %v", rs, err)
	}
}

// TestConcurrent verifies one message from several sides at the same time: they
// share the hash of the body.
func TestConcurrent(t *testing.T) {
	zone := newTable()
	zone.add("sel._domainkey.example.org", record(t, "rsa"))
	m := parse(craft(t, "rsa", goodTags, plainMessage) + plainMessage)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			rs, err := Verify(t.Context(), m, Options{Resolver: zone, Now: suiteTime})
			if err != nil || len(rs) != 1 || rs[0].Value != Pass {
				t.Errorf("%v, %v", rs, err)
			}
			if a, err := VerifyARC(t.Context(), m, Options{Resolver: zone}); err != nil || a.Value != None {
				t.Errorf("%v, %v", a, err)
			}
		})
	}
	wg.Wait()
}

func TestLongHeader(t *testing.T) {
	zone := newTable()
	zone.add("sel._domainkey.example.org", record(t, "rsa"))
	text := craft(t, "rsa", goodTags, plainMessage) + strings.Repeat("X-Filler: 1\r\n", 11_000) + plainMessage
	rs, err := Verify(t.Context(), parse(text), Options{Resolver: zone, Now: suiteTime})
	if err != nil || len(rs) != 1 || rs[0].Value != Neutral {
		t.Errorf("%+v, %v", rs, err)
	}
}
