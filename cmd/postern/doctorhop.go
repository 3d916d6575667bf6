package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/policy"
	"postern/relay"
)

// hopLimit is how long one address of a next hop may take.
const hopLimit = 10 * time.Second

// checkUpstreams talks to every address of every upstream, as far as EHLO and
// STARTTLS.
func checkUpstreams(ctx context.Context, x *patient, f *findings) {
	if x.state == nil {
		return // checkPolicy tells
	}
	var visits []*visit
	for i := range x.policy.Upstreams {
		u := &x.policy.Upstreams[i]
		hop, ok := x.state.Hop(u.Name)
		for _, to := range u.To {
			switch {
			case to == "mx":
				f.ok(u.Name, "delivers to the MX hosts of each domain")
			case ok:
				visits = append(visits, &visit{patient: x, upstream: u, hop: hop, to: to, findings: findings{check: f.check}})
			}
		}
	}
	var wg sync.WaitGroup
	for _, v := range visits {
		wg.Go(func() { v.run(ctx) })
	}
	wg.Wait()
	for _, v := range visits {
		f.all = append(f.all, v.all...)
	}
}

// A visit is a look at one address of an upstream.
type visit struct {
	*patient
	upstream *policy.Upstream
	hop      *relay.Hop
	to       string
	findings

	conn  net.Conn
	text  *textproto.Conn
	words map[string]string // what EHLO offers
}

// name is what is looked at.
func (v *visit) name() string { return v.upstream.Name + " " + v.to }

func (v *visit) run(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hopLimit)
	defer cancel()
	if err := v.dial(ctx); err != nil {
		v.bad(v.name(), "look at its address, and at firewalls", "cannot be reached: %v", err)
		return
	}
	defer func() { v.conn.Close() }()
	defer context.AfterFunc(ctx, func() { v.conn.SetDeadline(time.Unix(1, 0)) })()
	v.text = textproto.NewConn(v.conn)
	if _, _, err := v.text.ReadResponse(220); err != nil {
		v.bad(v.name(), "", "does not greet as a mail server: %v", err)
		return
	}
	if err := v.hello(); err != nil {
		v.bad(v.name(), "", "%v", err)
		return
	}
	if v.secure(ctx) {
		v.offers()
		v.everybody()
		v.ok(v.name(), "answers")
	}
	v.text.PrintfLine("QUIT")
}

// dial connects to the first address that answers.
func (v *visit) dial(ctx context.Context) (err error) {
	var d net.Dialer
	if path, ok := strings.CutPrefix(v.to, "unix:"); ok {
		v.conn, err = d.DialContext(ctx, "unix", path)
		return err
	}
	host, port, err := net.SplitHostPort(v.to)
	if err != nil {
		return err
	}
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else {
		answer, err := v.resolver.Addrs(ctx, host)
		if err != nil {
			return err
		}
		addrs = answer.Records
	}
	for _, a := range addrs {
		if v.conn, err = d.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), port)); err == nil {
			return nil
		}
	}
	return err
}

// hello says EHLO, or LHLO, and reads what is offered.
func (v *visit) hello() error {
	verb := "EHLO"
	if v.hop.LMTP {
		verb = "LHLO"
	}
	_, reply, err := v.command(250, "%s %s", verb, v.policy.Site.Hostname)
	if err != nil {
		return fmt.Errorf("refuses our %s: %w", verb, err)
	}
	v.words = map[string]string{}
	for _, line := range strings.Split(reply, "\n")[1:] {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		v.words[strings.ToUpper(word)] = rest
	}
	return nil
}

func (v *visit) command(code int, format string, args ...any) (int, string, error) {
	if err := v.text.PrintfLine(format, args...); err != nil {
		return 0, "", err
	}
	return v.text.ReadResponse(code)
}

// secure looks at STARTTLS and at the certificate; false: the talk is over.
func (v *visit) secure(ctx context.Context) bool {
	mode := v.hop.TLS
	if mode == relay.TLSNone || strings.HasPrefix(v.to, "unix:") {
		return true
	}
	strict := mode == relay.TLSRequired || mode == relay.TLSVerify
	if _, ok := v.words["STARTTLS"]; !ok {
		if strict {
			v.bad(v.name(), "switch TLS on there", "does not offer STARTTLS, and tls = %q demands it: mail waits", mode)
			return false
		}
		v.warn(v.name(), "switch TLS on there", "does not offer STARTTLS: mail goes to it in clear")
		return true
	}
	if _, _, err := v.command(220, "STARTTLS"); err != nil {
		v.bad(v.name(), "", "refuses STARTTLS: %v", err)
		return false
	}
	config := v.hop.TLSConfig.Clone()
	config.ServerName = v.serverName()
	config.InsecureSkipVerify = true // it is verified below, to say what is wrong
	t := tls.Client(v.conn, config)
	if err := t.HandshakeContext(ctx); err != nil {
		v.bad(v.name(), "", "TLS fails: %v", err)
		return false
	}
	v.conn, v.text = t, textproto.NewConn(t)
	v.certificate(t.ConnectionState(), config, mode == relay.TLSVerify)
	if err := v.hello(); err != nil {
		v.bad(v.name(), "", "under TLS: %v", err)
		return false
	}
	return true
}

// serverName is the name that the certificate must be for.
func (v *visit) serverName() string {
	if v.hop.ServerName != "" {
		return v.hop.ServerName
	}
	host, _, err := net.SplitHostPort(v.to)
	if err != nil {
		return v.to
	}
	return host
}

// certificate looks at what the other side shows. Without verify it holds mail
// up in no case.
func (v *visit) certificate(state tls.ConnectionState, config *tls.Config, verify bool) {
	f := &findings{check: v.check}
	chain := state.PeerCertificates
	if f.lifetime(v.name(), "renew it there", chain[0], v.now) {
		f.trust(v.name(), "name its authority with ca, or its name with server_name", chain, config.ServerName, config.RootCAs, v.now)
	}
	for _, x := range f.all {
		switch {
		case x.Level == levelOK:
			continue // "answers" says enough
		case verify:
			x.Level, x.Text = levelError, x.Text+": mail waits, since tls = \"verify\""
		default:
			x.Level = levelWarning
		}
		v.all = append(v.all, x)
	}
}

// offers compares what EHLO offers with what the policy wants of it.
func (v *visit) offers() {
	most := v.largest()
	size, ok := v.words["SIZE"]
	n, err := strconv.ParseInt(strings.TrimSpace(size), 10, 64)
	switch {
	case !ok:
		v.warn(v.name(), "", "does not offer SIZE: mail that is too large for it is sent in vain")
	case err == nil && n > 0 && n < most:
		v.warn(v.name(), "raise its limit, or lower limits.message of the listener", "takes messages up to %s, and we up to %s", bytesText(n), bytesText(most))
	}
	for _, word := range []string{"8BITMIME", "PIPELINING"} {
		if _, ok := v.words[word]; !ok {
			v.warn(v.name(), "", "does not offer %s: %s", word, map[string]string{"8BITMIME": "mail with umlauts in the body is refused", "PIPELINING": "each message costs more round trips"}[word])
		}
	}
	if _, ok := v.words["XFORWARD"]; v.hop.XForward && !ok {
		v.bad(v.name(), "add this host to smtpd_authorized_xforward_hosts there", `does not offer XFORWARD, and client_info = "xforward"`)
	}
	if v.hop.User == "" {
		return
	}
	methods := strings.Fields(strings.ToUpper(v.words["AUTH"]))
	if !slices.Contains(methods, "PLAIN") && !slices.Contains(methods, "LOGIN") {
		v.bad(v.name(), "", "offers no AUTH with PLAIN or LOGIN, and the policy has a user for it")
	}
}

// largest is the size of the largest message that a listener takes.
func (v *visit) largest() int64 {
	var most int64
	for i := range v.policy.Listeners {
		most = max(most, int64(v.policy.Listeners[i].Limits.Message))
	}
	return most
}

// everybody asks for a recipient that nobody is, where recipients are verified by
// asking. No message is sent.
func (v *visit) everybody() {
	if v.upstream.Recipients.Check != "rcpt" {
		return
	}
	domain := v.policy.Site.Domains[0]
	for _, f := range v.upstream.For {
		if !strings.Contains(f, "*") {
			domain = f
			break
		}
	}
	if _, _, err := v.command(250, "MAIL FROM:<>"); err != nil {
		v.bad(v.name(), "", "refuses the null reverse-path, with which recipients are verified and bounces sent: %v", err)
		return
	}
	code, _, err := v.command(25, "RCPT TO:<postern-probe-%s@%s>", strconv.FormatInt(v.now.UnixNano(), 36), domain)
	if err == nil && code != 252 {
		v.bad(v.name(), `use recipients = { check = "file" }, or switch recipient validation on there`, "accepts recipients of %s that do not exist, so that asking it tells nothing", domain)
	}
}
