package relay

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"postern/mail"
)

// A handshakeError says that TLS was begun and failed: the connection is of no
// more use.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake failed: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// errNoSTARTTLS says that TLS is demanded and the next hop does not offer it.
var errNoSTARTTLS = errors.New("next hop does not offer STARTTLS")

// secure makes the connection as safe as its key says (RFC 3207).
func (c *Client) secure(cn *conn, hop *Hop, t target) *failure {
	mode := cn.key.tls
	if mode == TLSNone || t.network == "unix" {
		return nil // a Unix socket never leaves this machine
	}
	if !cn.caps.starttls {
		if mode == TLSOpportunistic {
			return nil
		}
		return &failure{replyNoTLS, errNoSTARTTLS}
	}
	reply, err := cn.command("STARTTLS", nil)
	if err != nil {
		return &failure{replyDown, fmt.Errorf("STARTTLS: %w", err)}
	}
	// RFC 3207 section 6 and CVE-2011-0411: what was said in clear must not be
	// taken for what is said under TLS.
	if err := cn.settled(); err != nil {
		return &failure{replyGarbage, err}
	}
	if reply.Code != 220 {
		if mode == TLSOpportunistic {
			cn.tls = "none: STARTTLS: " + reply.String()
			return nil
		}
		return &failure{replyNoTLS, fmt.Errorf("STARTTLS: %s", reply)}
	}
	return c.handshake(cn, hop, t)
}

// handshake does the TLS handshake and says EHLO again.
func (c *Client) handshake(cn *conn, hop *Hop, t target) *failure {
	config := c.tlsConfig(hop, t, cn.key)
	tc := tls.Client(cn.Conn, config)
	// The deadline of the set-up is on the socket; ctx ends it through it too.
	if err := tc.HandshakeContext(context.WithoutCancel(cn.ctx)); err != nil {
		return &failure{replyNoTLS, &handshakeError{err}}
	}
	cn.Conn = tc
	cn.r.Reset(steadyReader{cn})
	state := tc.ConnectionState()
	cn.verified = !config.InsecureSkipVerify
	trust := "not verified"
	if cn.verified {
		trust = "verified"
	}
	cn.tls = strings.ReplaceAll(tls.VersionName(state.Version), " ", "") + " " +
		tls.CipherSuiteName(state.CipherSuite) + " " + trust
	// RFC 3207 section 4.2: what was learnt before is forgotten.
	f := cn.hello(hop.LMTP)
	if f != nil && cn.key.tls == TLSOpportunistic {
		// Some servers close after a handshake that they did not like: TLS 1.3
		// lets the client finish before it hears of it.
		f.cause = &handshakeError{f.cause}
	}
	return f
}

// tlsConfig returns the settings for one connection.
func (c *Client) tlsConfig(hop *Hop, t target, key poolKey) *tls.Config {
	config := hop.TLSConfig.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if config.MinVersion == 0 {
		config.MinVersion = tls.VersionTLS12
	}
	config.ServerName = t.host
	if hop.ServerName != "" {
		config.ServerName = hop.ServerName
	}
	config.ServerName = strings.TrimSuffix(config.ServerName, ".")
	// Without a name to check, any certificate will do: TLS then only keeps
	// those off who only listen.
	config.InsecureSkipVerify = key.tls != TLSVerify
	config.DynamicRecordSizingDisabled = true
	if config.ClientSessionCache == nil {
		config.ClientSessionCache = c.pools.sessions(key)
	}
	return config
}

// errNoAuth is what failures of login wrap.
var errNoAuth = errors.New("cannot log in to next hop")

// login logs in (RFC 4954) with PLAIN or LOGIN. The password never goes over a
// connection in clear, except on this machine.
func (c *conn) login(hop *Hop) *failure {
	fail := func(format string, args ...any) *failure {
		return &failure{replyNoLogin, fmt.Errorf("%w: "+format, append([]any{errNoAuth}, args...)...)}
	}
	if !c.secure() && !c.local() {
		return fail("connection is in clear")
	}
	if strings.ContainsRune(hop.User+hop.Password, 0) {
		return fail("name or password has a NUL")
	}
	encode := base64.StdEncoding.EncodeToString
	var reply mail.Reply
	var err error
	switch {
	case strings.Contains(c.caps.auth, " PLAIN "):
		reply, err = c.command("AUTH PLAIN "+encode([]byte("\x00"+hop.User+"\x00"+hop.Password)), nil)
	case strings.Contains(c.caps.auth, " LOGIN "):
		for _, line := range []string{"AUTH LOGIN", encode([]byte(hop.User)), encode([]byte(hop.Password))} {
			reply, err = c.command(line, nil)
			if err != nil || reply.Code != 334 {
				break
			}
		}
	default:
		return fail("neither PLAIN nor LOGIN is offered")
	}
	switch {
	case err != nil:
		return fail("%w", err)
	case reply.Code != 235:
		return fail("%s", reply)
	}
	if err := c.settled(); err != nil {
		return &failure{replyGarbage, err}
	}
	return nil
}

// local reports whether the other end is on this machine.
func (c *conn) local() bool {
	switch a := c.RemoteAddr().(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		ip, ok := netip.AddrFromSlice(a.IP)
		return ok && ip.Unmap().IsLoopback()
	}
	return false
}
