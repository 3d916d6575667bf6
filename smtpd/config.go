package smtpd

import (
	"crypto/rand"
	"crypto/tls"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"postern/mail"
	"postern/spool"
)

// Config is the settings of one listener. The zero value of a number or a
// duration stands for the default in brackets.
type Config struct {
	Name     string    // the listener's name, for the log
	Hostname string    // what the banner says
	Role     mail.Role // inbound if empty
	LMTP     bool      // LMTP instead of SMTP: LHLO, and a reply per recipient

	Allow         []netip.Prefix // who may connect; empty: anyone
	Outbound      []netip.Prefix // clients whose mail is outbound
	TrustXForward []netip.Prefix // peers whose XFORWARD is believed
	TrustXClient  []netip.Prefix // peers whose XCLIENT is believed
	TrustProxy    []netip.Prefix // peers that must begin with a PROXY header

	TLS        string      // "off", "optional" (default), "required" or "implicit"
	TLSConfig  *tls.Config // with certificates: see Certificates.Config
	RequireTLS bool        // offer REQUIRETLS inside TLS

	Auth        bool          // offer AUTH inside TLS
	MaxFailures int           // wrong passwords before a ban [5]
	Ban         time.Duration // how long it lasts [15m]
	AuthDelay   time.Duration // answer to the first wrong password; doubles with each [250ms]

	Limits      Limits
	BareNewline string // "reject" (default) or "normalise"

	Spool *spool.Spool     // where content is received
	Now   func() time.Time // nil: time.Now
	Rand  io.Reader        // of identifiers; nil: crypto/rand
	Log   *slog.Logger     // nil: none
	Hooks Hooks
}

// Limits bound what one client can ask for.
type Limits struct {
	Connections int           // at once [1000]
	PerAddress  int           // at once from one address [50]
	Recipients  int           // per transaction [1000]
	Errors      int           // 5xx replies per session [20]
	Junk        int           // commands since the last message that lead to none; each one more counts as an error [100]
	Messages    int           // per session [1000]
	Message     int64         // octets of a message [50 MiB]
	Rate        Rate          // messages from one address; zero: any
	Command     time.Duration // total time for one command line [5m]
	Data        time.Duration // total time for one message [10m]
	Write       time.Duration // for the client to take our replies [1m]
	Handshake   time.Duration // for TLS, and for a PROXY header [30s]
	MinRate     int64         // octets a second below which content is cut, after a minute [64]
	GreetDelay  time.Duration // before the banner; who talks meanwhile is cut off [0]
}

// Rate is a number of messages in a time.
type Rate struct {
	Messages int
	Per      time.Duration
}

// Hooks are called as things happen, for metrics. Each may be nil; they are
// called from many goroutines and must not block.
type Hooks struct {
	Session     func(delta int)                   // 1 when a session begins, -1 when it ends
	Refused     func(reason string)               // a connection refused before its banner: "connections", "address", "allow", "proxy", "files", "early"
	Reply       func(code int)                    // a reply to a command
	Message     func(octets int64, accepted bool) // content received to its end
	AuthFailure func()
	TLS         func(version string) // a handshake that succeeded
}

func (h *Hooks) session(delta int) {
	if h.Session != nil {
		h.Session(delta)
	}
}

func (h *Hooks) refused(reason string) {
	if h.Refused != nil {
		h.Refused(reason)
	}
}

func (h *Hooks) reply(code int) {
	if h.Reply != nil {
		h.Reply(code)
	}
}

func (h *Hooks) message(octets int64, accepted bool) {
	if h.Message != nil {
		h.Message(octets, accepted)
	}
}

func (h *Hooks) authFailure() {
	if h.AuthFailure != nil {
		h.AuthFailure()
	}
}

func (h *Hooks) tls(version string) {
	if h.TLS != nil {
		h.TLS(version)
	}
}

// withDefaults returns c with every default filled in.
func (c Config) withDefaults() *Config {
	if c.Role == "" {
		c.Role = mail.RoleInbound
	}
	// Without certificates "optional" is off; "required" and "implicit" stay as
	// they are and let nobody in.
	switch {
	case c.TLSConfig == nil && (c.TLS == "" || c.TLS == "optional"):
		c.TLS = "off"
	case c.TLS == "":
		c.TLS = "optional"
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	orInt(&c.MaxFailures, 5)
	orInt(&c.Ban, 15*time.Minute)
	orInt(&c.AuthDelay, 250*time.Millisecond)
	l := &c.Limits
	orInt(&l.Connections, 1000)
	orInt(&l.PerAddress, 50)
	orInt(&l.Recipients, 1000)
	orInt(&l.Errors, 20)
	orInt(&l.Junk, 100)
	orInt(&l.Messages, 1000)
	orInt(&l.Message, 50<<20)
	orInt(&l.Command, 5*time.Minute)
	orInt(&l.Data, 10*time.Minute)
	orInt(&l.Write, time.Minute)
	orInt(&l.Handshake, 30*time.Second)
	orInt(&l.MinRate, 64)
	return &c
}

// orInt sets *v to a default if it is not set.
func orInt[T ~int | ~int64](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// direction applies the direction law to a session.
func (c *Config) direction(s *mail.Session) mail.Direction {
	client := s.Client.Addr()
	switch {
	case s.User != "",
		c.Role == mail.RoleOutbound && contains(c.Allow, client),
		contains(c.Outbound, client):
		return mail.Outbound
	}
	return mail.Inbound
}

// contains reports whether an address is in one of the networks. An address
// that is not known is in none.
func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
