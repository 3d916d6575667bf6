package relay

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"postern/dns"
	"postern/mail"
)

// TLS modes of a Hop, from the laxest to the strictest. What is none of these
// counts as verify.
const (
	TLSNone          = "none"          // clear text
	TLSOpportunistic = "opportunistic" // STARTTLS when offered; in clear when it fails
	TLSRequired      = "required"      // STARTTLS or nothing; any certificate
	TLSVerify        = "verify"        // and the certificate must be valid for the name
)

// A Hop is one next hop: where mail goes and how.
type Hop struct {
	Name        string      // for the log and the pools: the upstream's name
	To          []string    // "host:port", "[v6]:port", "unix:/path" or "mx"
	Balance     string      // "failover" (also when empty) or "round-robin"
	LMTP        bool        // speak LMTP (RFC 2033)
	TLS         string      // a TLS mode; empty: opportunistic
	TLSConfig   *tls.Config // client certificates, roots; nil: the system's roots. Not to be changed once used
	ServerName  string      // name to verify; empty: the host in To, or the MX host
	User        string      // log in with this name (RFC 4954); empty: do not log in
	Password    string
	XForward    bool          // tell who the client was, if the next hop announces XFORWARD
	Connections int           // at once per address; 0: 20
	Timeout     time.Duration // for the reply after the content; 0: 5 minutes
	Verify      VerifyCache   // how long answers of Callout are kept
}

// A Mail is one message on its way to one next hop.
type Mail struct {
	ID       string           // our transaction id, told with XFORWARD
	From     mail.Path        // the zero Path is the null reverse-path
	Options  smtp.MailOptions // as the client gave them; passed on as far as the next hop can
	To       []mail.Recipient // at least one
	Size     int64            // octets of the content, exact
	Bytes    [][]byte         // the content in memory, or nil
	Content  func() io.Reader // else: opens the content; may be called again
	Pieces   Pieces           // the same piece by piece, or nil
	EightBit bool             // the content may have octets above 127: declared so
	UTF8     bool             // header or envelope may need SMTPUTF8 (RFC 6531): declared so
	Dotless  bool             // no line of the content begins with a dot; false: nobody has looked
	Demands  mail.Demands
	Client   *mail.Session // for XFORWARD; nil: our own mail
}

// An Outcome says what became of one recipient.
type Outcome struct {
	Recipient mail.Path
	Reply     mail.Reply // the next hop's reply, or our own word for what happened
	Said      bool       // it is the next hop's
	Hop       string     // "exchange[10.0.5.10]:25"; empty if none was reached
	TLS       string     // "TLS1.3 TLS_AES_128_GCM_SHA256 verified", "none", "none: handshake failed"
	Delivered bool       // the next hop took responsibility
	Down      bool       // no next hop could be reached, as opposed to: refused
	DSN       bool       // delivered to a next hop that took over the DSN parameters (RFC 3461)
	Err       error      // the cause, for the log; never for the client
}

// A Dialer makes connections. *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Options say what a Client needs of the world. Zero fields have defaults.
type Options struct {
	Hostname string // what we say in EHLO; default "localhost"
	Resolver dns.Resolver
	Dialer   Dialer
	Log      *slog.Logger
	Now      func() time.Time
	Rand     func() uint64 // for the order of equal MX records and callout probes

	ConnectTimeout time.Duration // TCP connect [20s]
	SetupTimeout   time.Duration // greeting, EHLO, STARTTLS, AUTH together [1m]
	CommandTimeout time.Duration // replies to one group of commands [2m]
	BlockTimeout   time.Duration // one write of at most 512 KiB of content [2m]
	IdleTimeout    time.Duration // how long an unused connection is kept [15s]
	BackOffMin     time.Duration // first pause after an address failed [30s]
	BackOffMax     time.Duration // longest pause [5m]
	MXPort         int           // port of MX hosts [25]
	LoopbackMX     bool          // let MX records lead to loopback addresses
}

// A Client delivers mail to next hops. It is safe for concurrent use.
type Client struct {
	o       Options
	pools   pools
	paths   backOff
	callout *calloutCache
	turns   sync.Map // hop name -> *atomic.Uint32, for round-robin
	stats   counters
}

// counters are the client's running totals.
type counters struct {
	dialed, reused, delivered, refused, deferred, down, callouts atomic.Int64
}

// Stats are the running totals of a Client.
type Stats struct {
	Dialed, Reused               int64 // connections made; transactions begun on a pooled one
	Delivered, Refused, Deferred int64 // recipients by outcome
	Down                         int64 // recipients deferred because no address could be reached
	Callouts                     int64 // callouts that were not answered from the cache
	Idle, Busy                   int   // connections now
	Destinations                 []Destination
}

// New returns a Client.
func New(o Options) *Client {
	setDefault(&o.Hostname, "localhost")
	if o.Dialer == nil {
		o.Dialer = &net.Dialer{KeepAlive: 30 * time.Second}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	setDefault(&o.ConnectTimeout, 20*time.Second)
	setDefault(&o.SetupTimeout, time.Minute)
	setDefault(&o.CommandTimeout, 2*time.Minute)
	setDefault(&o.BlockTimeout, 2*time.Minute)
	setDefault(&o.IdleTimeout, 15*time.Second)
	setDefault(&o.BackOffMin, 30*time.Second)
	setDefault(&o.BackOffMax, 5*time.Minute)
	setDefault(&o.MXPort, 25)
	c := &Client{o: o, callout: newCalloutCache()}
	c.pools.init(o.IdleTimeout)
	c.paths.init(o)
	return c
}

// setDefault sets *v to d if it is zero.
func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Close closes every idle connection and ends what is under way: transactions
// whose content was not sent fail for now.
func (c *Client) Close() { c.pools.closeAll() }

// CloseIdle closes the connections that nobody uses, for instance after a
// reload.
func (c *Client) CloseIdle() { c.pools.closeIdle() }

// Stats returns the totals so far.
func (c *Client) Stats() Stats {
	s := Stats{
		Dialed: c.stats.dialed.Load(), Reused: c.stats.reused.Load(),
		Delivered: c.stats.delivered.Load(), Refused: c.stats.refused.Load(),
		Deferred: c.stats.deferred.Load(), Down: c.stats.down.Load(),
		Callouts:     c.stats.callouts.Load(),
		Destinations: c.paths.list(),
	}
	s.Idle, s.Busy = c.pools.count()
	return s
}

// count adds an outcome to the totals.
func (c *Client) count(o *Outcome) {
	switch {
	case o.Delivered:
		c.stats.delivered.Add(1)
	case o.Reply.Permanent():
		c.stats.refused.Add(1)
	default:
		c.stats.deferred.Add(1)
		if o.Down {
			c.stats.down.Add(1)
		}
	}
}
