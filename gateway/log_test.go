package gateway

import (
	"strings"
	"testing"

	"postern/mail"
)

// TestLogOfTLS: how the client's session was protected stands in the mail log.
func TestLogOfTLS(t *testing.T) {
	w := newWorld(t, plan{})
	for _, c := range []struct {
		facts mail.TLSFacts
		want  string
	}{
		{mail.TLSFacts{Version: "TLS1.3", Cipher: "TLS_AES_128_GCM_SHA256", ClientCert: "CN=printer"}, " client_tls=TLS1.3/TLS_AES_128_GCM_SHA256 client_cert=\"CN=printer\"\n"},
		{mail.TLSFacts{Version: "TLS1.2", Cipher: "C"}, " client_tls=TLS1.2/C\n"},
		{mail.TLSFacts{}, ""},
	} {
		before := len(w.mailLog.String())
		s := w.begin(letter{})
		s.tx.TLS = c.facts
		s.tx.Recipients = append(s.tx.Recipients, mail.Recipient{Path: testPath(t, "bob@ours.example")})
		if r := w.data(t.Context(), s.tx, text("alice@sender.example")); !r[0].OK() {
			t.Fatalf("told %s", r[0])
		}
		got := w.mailLog.String()[before:]
		if !strings.HasSuffix(got, c.want) || strings.Contains(got, "client_tls") != (c.want != "") {
			t.Errorf("%+v: %s", c.facts, got)
		}
	}
}
