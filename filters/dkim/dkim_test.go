package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

// keys are made once.
var keys = sync.OnceValue(func() map[string]crypto.Signer {
	out := map[string]crypto.Signer{}
	for name, bits := range map[string]int{"strong": 2048, "weak": 1024, "testing": 1024} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		out[name] = k
	}
	_, out["ed"], _ = ed25519.GenerateKey(rand.Reader)
	return out
})

// env returns an Env whose zone has the keys, each at a selector of its name.
func env(t testing.TB) *filters.Env {
	t.Helper()
	zone := map[string]any{
		"revoked._domainkey.sender.example": map[string]any{"TXT": []string{"v=DKIM1; p="}},
		"down._domainkey.sender.example":    map[string]any{"!": "servfail"},
	}
	for name, k := range keys() {
		record, err := dkim.Record(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		if name == "testing" {
			record += "; t=y"
		}
		zone[name+"._domainkey.sender.example"] = map[string]any{"TXT": []string{record}}
	}
	text, err := json.Marshal(zone)
	if err != nil {
		t.Fatal(err)
	}
	z, err := dns.ParseZone(text)
	if err != nil {
		t.Fatal(err)
	}
	return &filters.Env{Resolver: z, Hostname: "mx.example.org"}
}

const message = "From: ann@sender.example\r\nSubject: hello\r\n\r\nHi Bob\r\n"

// sign returns a message with a signature of each selector, made with the key of
// that name or, where there is none, with the strong one.
func sign(t testing.TB, selectors ...string) string {
	t.Helper()
	var fields []string
	for _, s := range selectors {
		key := keys()[s]
		if key == nil {
			key = keys()["strong"]
		}
		signed, err := dkim.Sign(mail.ParseBytes([]byte(message), mail.Options{}), filterstest.At, dkim.Signer{Domain: "sender.example", Selector: s, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		fields = append(fields, signed...)
	}
	return strings.Join(fields, "") + message
}

func TestConformance(t *testing.T) {
	tx := filterstest.Transaction(mail.ParseBytes([]byte(sign(t, "strong", "weak", "ed")), mail.Options{}))
	filterstest.Run(t, Filter, filterstest.Options{
		Env: env(t), Settings: `minimum_key = 2048`, More: []*mail.Transaction{tx},
		Bad: map[string]string{"minimum_key = 512": "minimum_key", `body_length = "ignore"`: "body_length"},
	})
	t.Run("no resolver", func(t *testing.T) { filterstest.Run(t, Filter, filterstest.Options{More: []*mail.Transaction{tx}}) })
}

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

func TestCheck(t *testing.T) {
	manyBroken := strings.Repeat("DKIM-Signature: v=1\r\n", 11) + message
	for _, test := range []struct {
		name, text, settings string
		symbols, values      []string
		evidence             string
	}{
		{name: "none", text: message, symbols: []string{"DKIM_NONE"}, values: []string{"none"}},
		{name: "pass", text: sign(t, "strong"), symbols: []string{"DKIM_PASS"}, values: []string{"pass"}, evidence: "d=sender.example s=strong a=rsa-sha256 2048 bits"},
		{name: "both kinds of key", text: sign(t, "strong", "ed"), symbols: []string{"DKIM_PASS", "DKIM_PASS"}, values: []string{"pass", "pass"}},
		{name: "weak", text: sign(t, "weak"), symbols: []string{"DKIM_PASS", "DKIM_WEAK_KEY"}, values: []string{"pass"}},
		{name: "too weak", text: sign(t, "weak"), settings: "minimum_key = 2048", symbols: []string{"DKIM_POLICY"}, values: []string{"policy"}, evidence: "too short"},
		{name: "changed", text: sign(t, "strong") + "more\r\n", symbols: []string{"DKIM_FAIL"}, values: []string{"fail"}, evidence: "the body was changed"},
		{name: "one of two holds", text: sign(t, "revoked", "ed"), symbols: []string{"DKIM_PASS"}, values: []string{"permerror", "pass"}},
		{name: "revoked", text: sign(t, "revoked"), symbols: []string{"DKIM_PERMERROR"}, values: []string{"permerror"}, evidence: "revoked"},
		{name: "DNS is down", text: sign(t, "down"), symbols: []string{"DKIM_TEMPERROR"}, values: []string{"temperror"}},
		{name: "testing", text: sign(t, "testing") + "more\r\n", symbols: []string{"DKIM_TESTING", "DKIM_NONE"}, values: []string{"fail"}},
		{name: "unreadable", text: "DKIM-Signature: v=1\r\n" + message, symbols: []string{"DKIM_NEUTRAL"}, values: []string{"neutral"}},
		{name: "many", text: manyBroken, symbols: append(slices.Repeat([]string{"DKIM_NEUTRAL"}, 10), "DKIM_MANY"), values: append(slices.Repeat([]string{"neutral"}, 10), "policy")},
	} {
		c := filterstest.New(t, Filter, filterstest.Options{Env: env(t), Settings: test.settings})
		v := filterstest.Check(t, c, filterstest.Transaction(mail.ParseBytes([]byte(test.text), mail.Options{})))
		var values []string
		for _, a := range v.Auth {
			values = append(values, a.Value)
		}
		if diff := cmp.Diff(test.symbols, filterstest.Names(v)) + cmp.Diff(test.values, values); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
		if !strings.Contains(v.Symbols[0].Evidence, test.evidence) {
			t.Errorf("%s: evidence %q", test.name, v.Symbols[0].Evidence)
		}
	}
}

func TestPartialBody(t *testing.T) {
	r := dkim.Result{Value: dkim.Pass, Domain: "a.example", Unsigned: 5, BodyLimited: true, SigPrefix: "AAAA", KeyBits: 2048, Algorithm: "rsa-sha256"}
	if got := filterstest.Names(verdictOf([]dkim.Result{r})); !slices.Equal(got, []string{"DKIM_PASS", "DKIM_BODY_LIMITED"}) {
		t.Error(got)
	}
	r.Value = dkim.Policy
	if got := filterstest.Names(verdictOf([]dkim.Result{r})); !slices.Equal(got, []string{"DKIM_POLICY", "DKIM_BODY_LIMITED"}) {
		t.Error(got)
	}
}

func TestAuthResult(t *testing.T) {
	got := AuthResult(&dkim.Result{
		Value: dkim.Fail, Reason: "the body\r\nwas changed", Domain: "a.example", Identity: "x\u202e@news.a.example", Selector: "s", Algorithm: "rsa-sha256", SigPrefix: "AbCd+/==",
	})
	want := mail.AuthResult{Method: "dkim", Value: "fail", Reason: "the body\uFFFD\uFFFDwas changed", Properties: []mail.Property{
		{Type: "header", Name: "d", Value: "a.example"}, {Type: "header", Name: "i", Value: "x\uFFFD@news.a.example"}, {Type: "header", Name: "s", Value: "s"},
		{Type: "header", Name: "a", Value: "rsa-sha256"}, {Type: "header", Name: "b", Value: "AbCd+/=="},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOwnClients(t *testing.T) {
	tx := filterstest.Transaction(mail.ParseBytes([]byte(sign(t, "strong")), mail.Options{}))
	tx.Direction = mail.Outbound
	if v := filterstest.Check(t, filterstest.New(t, Filter, filterstest.Options{Env: env(t)}), tx); len(v.Symbols) > 0 || len(v.Auth) > 0 {
		t.Errorf("%+v", v)
	}
}

// cutShort is a message whose file ends too early.
type cutShort string

func (c cutShort) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(c)) {
		return 0, io.EOF
	}
	return copy(p, c[off:]), nil
}

func TestUnreadable(t *testing.T) {
	text := sign(t, "strong")
	m := mail.Parse(cutShort(text), int64(len(text))+1000, mail.Options{})
	c := filterstest.New(t, Filter, filterstest.Options{Env: env(t)})
	if v, err := c.Check(context.Background(), filterstest.Transaction(m), nil); err == nil {
		t.Errorf("a message that cannot be read has the verdict %+v", v)
	}
}
