package relay

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/dns"
	"postern/mail"
)

// An authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate for a name, valid until end.
func (a *authority) issue(t testing.TB, name string, end time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func withTLS(features ...string) []string {
	return append(append(slices.Clone(allFeatures), "STARTTLS"), features...)
}

func TestTLSModes(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	good := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1", later)}}
	wrongName := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "other.example", later)}}
	expired := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1", time.Now().Add(-time.Hour))}}
	unknown := &tls.Config{Certificates: []tls.Certificate{stranger.issue(t, "127.0.0.1", later)}}
	noneShared := &tls.Config{Certificates: good.Certificates, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	type outcome struct{ none, opportunistic, required, verify string }
	for name, c := range map[string]struct {
		fake *fake
		want outcome
	}{
		"good certificate": {&fake{features: withTLS(), tls: good},
			outcome{"none", "TLS1.3 not verified", "TLS1.3 not verified", "TLS1.3 verified"}},
		"wrong name": {&fake{features: withTLS(), tls: wrongName},
			outcome{"none", "TLS1.3 not verified", "TLS1.3 not verified", "4.7.5"}},
		"expired": {&fake{features: withTLS(), tls: expired},
			outcome{"none", "TLS1.3 not verified", "TLS1.3 not verified", "4.7.5"}},
		"unknown authority": {&fake{features: withTLS(), tls: unknown},
			outcome{"none", "TLS1.3 not verified", "TLS1.3 not verified", "4.7.5"}},
		"not offered": {&fake{},
			outcome{"none", "none", "4.7.5", "4.7.5"}},
		"refused": {&fake{features: withTLS(), say: map[string]string{"STARTTLS": "454 4.7.0 not now"}},
			outcome{"none", "none: STARTTLS: 454 4.7.0 not now", "4.7.5", "4.7.5"}},
		"too old": {&fake{features: withTLS(), tls: noneShared},
			outcome{"none", "none: TLS handshake failed", "4.7.5", "4.7.5"}},
		"no TLS at all": {&fake{features: withTLS(), say: map[string]string{"STARTTLS": "220 go\n220 on"}},
			outcome{"none", "4.5.0", "4.5.0", "4.5.0"}}, // said in clear what may be taken as said under TLS
		"closes": {&fake{features: withTLS(), say: map[string]string{"STARTTLS": "220 go|close"}},
			outcome{"none", "none: TLS handshake failed", "4.7.5", "4.7.5"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := c.fake.start(t)
			for mode, want := range map[string]string{TLSNone: c.want.none, TLSOpportunistic: c.want.opportunistic, "": c.want.opportunistic,
				TLSRequired: c.want.required, TLSVerify: c.want.verify, "verfy": c.want.verify} {
				hop := hopTo(f)
				hop.TLS, hop.TLSConfig = mode, &tls.Config{RootCAs: ca.pool}
				client := newTestClient(t, Options{SetupTimeout: 3 * time.Second})
				for range 2 {
					o := client.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]
					if strings.HasPrefix(want, "4.") {
						if o.Delivered || !o.Down || !o.Reply.Temporary() || o.Reply.Status() != want && o.Reply.Status() != "4.4.1" {
							t.Errorf("mode %q: %+v, want %s", mode, o, want)
						}
						continue
					}
					version, trust, _ := strings.Cut(want, " ")
					if !o.Delivered || !strings.HasPrefix(o.TLS, version) || !strings.HasSuffix(o.TLS, trust) && !strings.HasPrefix(o.TLS, want) {
						t.Errorf("mode %q: %+v, want %s", mode, o, want)
					}
				}
			}
		})
	}
}

// TestTLSForgetsWhatWasSaidInClear checks that EHLO is said again.
func TestTLSForgetsWhatWasSaidInClear(t *testing.T) {
	ca := newAuthority(t)
	f := (&fake{
		features: withTLS("SIZE 1", "REQUIRETLS"), tlsWords: []string{"8BITMIME"},
		tls: &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1", time.Now().Add(time.Hour))}},
	}).start(t)
	hop := hopTo(f)
	hop.TLS = TLSRequired
	o := newTestClient(t, Options{}).Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]
	_, lines, _ := f.got()
	if !o.Delivered || !slices.Equal(lines[:4], []string{"EHLO gw.example.net", "STARTTLS", "EHLO gw.example.net", "MAIL FROM:<sender@example.org>"}) {
		t.Errorf("%+v %q", o, lines)
	}
}

// TestDemandsTighten checks that a message's demands hold whatever the hop says,
// and that its connections are not mixed with others.
func TestDemandsTighten(t *testing.T) {
	ca := newAuthority(t)
	f := (&fake{features: withTLS(), tls: &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "other.example", time.Now().Add(time.Hour))}}}).start(t)
	c := newTestClient(t, Options{})
	hop := hopTo(f)
	hop.TLSConfig = &tls.Config{RootCAs: ca.pool, InsecureSkipVerify: true} // which verify does not heed
	for _, step := range []struct {
		hop, demand string
		want        string
	}{
		{TLSNone, "", "none"}, {TLSNone, TLSRequired, "TLS1.3"}, {TLSNone, "", "none"}, {TLSNone, TLSVerify, "4.7.5"},
		{TLSOpportunistic, TLSNone, "TLS1.3"}, {TLSOpportunistic, TLSVerify, "4."}, {TLSRequired, TLSNone, "TLS1.3"}, {TLSVerify, TLSNone, "4."},
		{TLSVerify, "", "4."}, {TLSNone, "nonsense", "4."}, {TLSOpportunistic, "", "TLS1.3"},
	} {
		hop.TLS = step.hop
		m := newMail(sample, "a@example.com")
		m.Demands.TLS = step.demand
		o := c.Deliver(context.Background(), hop, m)[0]
		got := o.TLS
		if !o.Delivered {
			got = o.Reply.Status()
		}
		if !strings.HasPrefix(got, step.want) {
			t.Errorf("%s with demand %q: got %s, want %s: %v", step.hop, step.demand, got, step.want, o.Err)
		}
	}
}

func TestVerifyByName(t *testing.T) {
	ca := newAuthority(t)
	f := (&fake{features: withTLS(), tls: &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "mx.example", time.Now().Add(time.Hour))}}}).start(t)
	_, port, _ := net.SplitHostPort(f.address)
	zone, _ := dns.ParseZone([]byte(`{"mx.example": {"A": ["127.0.0.1"]}, "alias.example": {"A": ["127.0.0.1"]}}`))
	for _, c := range []struct {
		host, serverName string
		ok               bool
	}{{"mx.example", "", true}, {"alias.example", "", false}, {"alias.example", "mx.example", true}, {"127.0.0.1", "mx.example.", true}, {"mx.example", "alias.example", false}} {
		hop := &Hop{Name: "h", To: []string{c.host + ":" + port}, TLS: TLSVerify, TLSConfig: &tls.Config{RootCAs: ca.pool}, ServerName: c.serverName}
		if o := newTestClient(t, Options{Resolver: zone}).Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]; o.Delivered != c.ok {
			t.Errorf("%+v: %+v", c, o)
		}
	}
}

func TestClientCertificateAndResumption(t *testing.T) {
	ca := newAuthority(t)
	var names []string
	resumed := 0
	server := &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1", time.Now().Add(time.Hour))},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.pool,
		VerifyConnection: func(s tls.ConnectionState) error {
			names = append(names, s.PeerCertificates[0].Subject.CommonName)
			if s.DidResume {
				resumed++
			}
			return nil
		},
	}
	f := (&fake{features: withTLS(), tls: server}).start(t)
	hop := hopTo(f)
	hop.TLS = TLSVerify
	hop.TLSConfig = &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{ca.issue(t, "gateway.example", time.Now().Add(time.Hour))}}
	c := newTestClient(t, Options{})
	for range 3 {
		if o := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]; !o.Delivered {
			t.Fatalf("%+v", o)
		}
		c.CloseIdle()
	}
	if len(names) != 3 || names[0] != "gateway.example" || resumed != 2 {
		t.Errorf("%q, %d resumed", names, resumed)
	}
	// Without one, TLS 1.3 lets us finish before the refusal comes.
	hop.TLSConfig = &tls.Config{RootCAs: ca.pool}
	if o := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]; o.Delivered {
		t.Errorf("%+v", o)
	}
}

func TestLargeOverTLS(t *testing.T) {
	ca := newAuthority(t)
	certificate := ca.issue(t, "127.0.0.1", time.Now().Add(time.Hour))
	content := bytes.Repeat([]byte(sample), 60_000)
	for _, words := range [][]string{allFeatures, chunking()} {
		f := (&fake{features: withTLS(), tlsWords: words, tls: &tls.Config{Certificates: []tls.Certificate{certificate}}}).start(t)
		hop := hopTo(f)
		hop.TLS, hop.Timeout = TLSRequired, time.Minute
		m := oneMail(string(content[:100]), string(content[100:]))
		if o := newTestClient(t, Options{}).Deliver(context.Background(), hop, m)[0]; !o.Delivered {
			t.Fatalf("%+v", o)
		}
		if mails, _, _ := f.got(); mails[0] != string(content) {
			t.Error("content changed")
		}
	}
}

func TestAuth(t *testing.T) {
	ca := newAuthority(t)
	server := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1", time.Now().Add(time.Hour))}}
	plain := "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00user\x00secret"))
	for name, c := range map[string]struct {
		fake   *fake
		far    bool // pretend that the next hop is elsewhere
		mode   string
		said   []string
		status string
	}{
		"PLAIN":            {&fake{features: withTLS("AUTH LOGIN PLAIN"), tls: server}, true, TLSRequired, []string{plain}, ""},
		"LOGIN":            {&fake{features: withTLS("AUTH LOGIN"), tls: server, say: map[string]string{"AUTH": "334 VXNlcm5hbWU6", "dXNlcg==": "334 UGFzc3dvcmQ6", "c2VjcmV0": "235 ok"}}, true, TLSRequired, []string{"AUTH LOGIN", "dXNlcg==", "c2VjcmV0"}, ""},
		"clear, loopback":  {&fake{features: []string{"AUTH PLAIN"}}, false, TLSNone, []string{plain}, ""},
		"clear":            {&fake{features: []string{"AUTH PLAIN"}}, true, TLSNone, nil, "4.7.0"},
		"not offered":      {&fake{}, false, TLSNone, nil, "4.7.0"},
		"unknown method":   {&fake{features: []string{"AUTH CRAM-MD5"}}, false, TLSNone, nil, "4.7.0"},
		"refused":          {&fake{features: []string{"AUTH PLAIN"}, say: map[string]string{"AUTH": "535 5.7.8 wrong"}}, false, TLSNone, []string{plain}, "4.7.0"},
		"LOGIN, refused":   {&fake{features: []string{"AUTH LOGIN"}, say: map[string]string{"AUTH": "535 5.7.8 wrong"}}, false, TLSNone, []string{"AUTH LOGIN"}, "4.7.0"},
		"closes":           {&fake{features: []string{"AUTH PLAIN"}, say: map[string]string{"AUTH": "close"}}, false, TLSNone, []string{plain}, "4.7.0"},
		"says one more":    {&fake{features: []string{"AUTH PLAIN"}, say: map[string]string{"AUTH": "235 ok\n250 ok"}}, false, TLSNone, []string{plain}, "4.5.0"},
		"offered in clear": {&fake{features: withTLS("AUTH PLAIN"), tlsWords: allFeatures, tls: server}, true, TLSRequired, nil, "4.7.0"},
	} {
		t.Run(name, func(t *testing.T) {
			f := c.fake.start(t)
			hop := hopTo(f)
			hop.TLS, hop.User, hop.Password = c.mode, "user", "secret"
			o := Options{}
			if c.far {
				o.Dialer = farDialer{}
			}
			out := newTestClient(t, o).Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]
			if out.Delivered != (c.status == "") || !out.Delivered && (out.Reply.Status() != c.status || !out.Down) {
				t.Errorf("%+v", out)
			}
			if out.Err != nil && strings.Contains(out.Err.Error(), "secret") {
				t.Errorf("the password stands in the log: %v", out.Err)
			}
			_, lines, _ := f.got()
			var said []string
			for _, l := range lines {
				if verb := strings.Fields(l)[0]; !slices.Contains([]string{"EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "QUIT"}, verb) {
					said = append(said, l)
				}
			}
			if !slices.Equal(said, c.said) {
				t.Errorf("said %q, want %q", said, c.said)
			}
		})
	}
}

// A farDialer makes connections that look as if they led elsewhere.
type farDialer struct{ net.Dialer }

type farConn struct{ net.Conn }

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25} }

func (d farDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.Dialer.DialContext(ctx, network, address)
	return farConn{c}, err
}

func TestRequireTLS(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	good := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1", later)}}
	bad := &tls.Config{Certificates: []tls.Certificate{stranger.issue(t, "127.0.0.1", later)}}
	for name, c := range map[string]struct {
		fake *fake
		want string
	}{
		"offered":           {&fake{features: withTLS(), tlsWords: append(slices.Clone(allFeatures), "REQUIRETLS"), tls: good}, ""},
		"not offered":       {&fake{features: withTLS(), tls: good}, "5.7.30"},
		"offered in clear":  {&fake{features: append(slices.Clone(allFeatures), "REQUIRETLS")}, "5.7.30"},
		"no TLS":            {&fake{}, "5.7.30"},
		"wrong certificate": {&fake{features: withTLS("REQUIRETLS"), tls: bad}, "4.7.5"},
	} {
		for _, how := range []string{"demand", "option"} {
			f := c.fake
			if f.address == "" {
				f.start(t)
			}
			hop := hopTo(f)
			hop.TLS, hop.TLSConfig = TLSOpportunistic, &tls.Config{RootCAs: ca.pool}
			m := newMail(sample, "a@example.com")
			m.Demands.RequireTLS, m.Options.RequireTLS = how == "demand", how == "option"
			o := newTestClient(t, Options{}).Deliver(context.Background(), hop, m)[0]
			if o.Delivered != (c.want == "") || !o.Delivered && o.Reply.Status() != c.want {
				t.Errorf("%s, %s: %+v", name, how, o)
			}
			_, lines, _ := f.got()
			if c.want == "" && !strings.Contains(strings.Join(lines, "\n"), "REQUIRETLS") {
				t.Errorf("%s: not passed on: %q", name, lines)
			}
		}
	}
}

func TestRequireTLSNeedsAuthenticMX(t *testing.T) {
	zone, _ := dns.ParseZone([]byte(mxZone))
	c := newTestClient(t, Options{Resolver: zone, LoopbackMX: true, MXPort: 1})
	for domain, want := range map[string]string{"good.example": "5.7.30", "implicit.example": "5.7.30", "secure.example": "4.4.1"} {
		m := newMail(sample, "a@"+domain)
		m.Demands.RequireTLS = true
		if o := c.Deliver(context.Background(), &Hop{Name: "internet", To: []string{"mx"}}, m)[0]; o.Reply.Status() != want {
			t.Errorf("%s: %+v", domain, o)
		}
	}
}

func TestUnixSocketNeedsNoTLS(t *testing.T) {
	s := &sink{}
	address := startSink(t, s, "unix", func(srv *smtp.Server) { srv.LMTP = true })
	m := newMail(sample, "a@example.com")
	m.Demands = mail.Demands{TLS: TLSVerify}
	o := newTestClient(t, Options{}).Deliver(context.Background(), &Hop{Name: "d", To: []string{address}, LMTP: true}, m)[0]
	if !o.Delivered || !strings.HasPrefix(o.Hop, "d[/") {
		t.Errorf("%+v", o)
	}
}

// TestLogSaysWhenAHopGoesDown checks that a wrong certificate does not go
// unnoticed.
func TestLogSaysWhenAHopGoesDown(t *testing.T) {
	ca := newAuthority(t)
	f := (&fake{features: withTLS(), tls: &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1", time.Now().Add(time.Hour))}}}).start(t)
	hop := hopTo(f)
	hop.TLS = TLSVerify
	var log bytes.Buffer
	clock := &aClock{}
	c := newTestClient(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Now: clock.now})
	for range 3 {
		if o := c.Deliver(context.Background(), hop, newMail(sample, "a@example.com"))[0]; o.Delivered {
			t.Errorf("%+v", o)
		}
		clock.add(time.Hour)
	}
	if got := log.String(); strings.Count(got, "next hop is down") != 1 || !strings.Contains(got, "certificate") {
		t.Errorf("log: %s", got)
	}
}
