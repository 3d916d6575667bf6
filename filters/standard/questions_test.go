package standard

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/crypto/dkim"
	"postern/dns"
	"postern/dns/dnstest"
	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

// TestQuestions checks what the authentication of an ordinary message costs the
// DNS: at most five questions for the first, none for those that follow. The
// message is signed by its author's domain and sealed by it, the client's name
// leads back to it, and HELO has another name than the domain.
func TestQuestions(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	record, err := dkim.Record(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	server := dnstest.Start(t, zoneOf(t, record))
	client := dns.NewClient(dns.ClientOptions{Servers: []string{server.Addr}, Hosts: filepath.Join(t.TempDir(), "hosts")})
	chain := authentication(t, client)
	raw := signed(t, dkim.Signer{Domain: "sender.example", Selector: "s1", Key: key})
	for round, most := range []int64{5, 0, 0} {
		before := client.Stats().Queries
		rs := chain.Check(t.Context(), filterstest.Transaction(mail.ParseBytes(raw, mail.Options{})))
		for _, symbol := range []string{"IPREV_PASS", "SPF_PASS", "DKIM_PASS", "DMARC_PASS", "ARC_PASS"} {
			if len(rs.Find(symbol)) != 1 {
				t.Fatalf("no %s: %+v", symbol, rs)
			}
		}
		asked := client.Stats().Queries - before
		t.Logf("message %d: %d questions", round+1, asked)
		if asked > most {
			t.Errorf("message %d costs %d questions, more than %d", round+1, asked, most)
		}
	}
	if client.Stats().Queries == 0 {
		t.Error("nobody asked anything")
	}
}

// zoneOf is the DNS of the sender.
func zoneOf(t *testing.T, key string) *dns.Zone {
	t.Helper()
	quoted, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	z, err := dns.ParseZone([]byte(fmt.Sprintf(`{
		"sender.example":               {"TXT": ["v=spf1 ip4:192.0.2.0/24 -all"]},
		"client.example":               {"TXT": ["v=spf1 a -all"], "A": ["192.0.2.7"]},
		"s1._domainkey.sender.example": {"TXT": [%s]},
		"_dmarc.sender.example":        {"TXT": ["v=DMARC1; p=reject"]},
		"7.2.0.192.in-addr.arpa":       {"PTR": ["client.example"]}
	}`, quoted)))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// authentication is the chain of the filters that ask who sent a message.
func authentication(t *testing.T, r dns.Resolver) *filters.Chain {
	t.Helper()
	c := &filters.Chain{}
	for _, f := range Filters {
		if slices.Contains(asking, f.Name) && !f.NoScan {
			if err := c.Link(f, f.New(), filters.LinkSettings{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.Open(context.Background(), &filters.Env{Resolver: r, Hostname: "mx.example.org", Domains: []string{"example.org"}}); err != nil {
		t.Fatal(err)
	}
	return c
}

// signed returns a message with a DKIM signature and an ARC seal.
func signed(t *testing.T, s dkim.Signer) []byte {
	t.Helper()
	text := strings.ReplaceAll("From: alice@sender.example\nTo: bob@example.org\nSubject: x\nDate: Mon, 2 Nov 2026 10:00:00 +0000\nMessage-ID: <1@sender.example>\n\nHello\n", "\n", "\r\n")
	fields, err := dkim.Sign(mail.ParseBytes([]byte(text), mail.Options{}), filterstest.At, s)
	if err != nil {
		t.Fatal(err)
	}
	text = strings.Join(fields, "") + text
	fields, err = dkim.SealARC(mail.ParseBytes([]byte(text), mail.Options{}), "sender.example; none", dkim.ARC{Value: dkim.None}, s, filterstest.At)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.Join(fields, "") + text)
}
