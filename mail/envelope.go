package mail

import (
	"net/netip"
	"time"

	"github.com/emersion/go-smtp"
)

// A Role says what a listener is for. The direction law: only a session that
// is logged in, or whose client is in the listener's allowed networks, is
// outbound; everything else is inbound, whatever its recipients.
type Role string

const (
	RoleInbound    Role = "inbound"    // accepts mail for our domains only
	RoleOutbound   Role = "outbound"   // mail that our own server sends out through us
	RoleSubmission Role = "submission" // users and devices that log in
	RoleFilter     Role = "filter"     // behind smtpd_proxy_filter or content_filter
)

// A Direction is inbound or outbound.
type Direction string

const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
)

// TLSFacts says how a session is protected. Its zero value is clear text.
type TLSFacts struct {
	Version    string // "TLS1.3"; empty when the session is in clear
	Cipher     string // "TLS_AES_256_GCM_SHA384"
	ServerName string // SNI that the client sent
	ClientCert string // subject of the verified client certificate
}

// A Session is one SMTP session with a client (RFC 5321 section 3.1). smtpd
// fills it; from the first transaction on nobody changes it: a STARTTLS, AUTH,
// EHLO or XFORWARD makes a new value for the transactions that follow.
type Session struct {
	ID         string         // unique, for the log
	Listener   string         // name of the listener
	Role       Role           // the listener's role
	Protocol   string         // "SMTP" or "LMTP"
	Peer       netip.AddrPort // the host that is connected
	Local      netip.AddrPort // our end of it
	Client     netip.AddrPort // the client: Peer, or what a trusted peer told by PROXY, XCLIENT or XFORWARD
	ClientName string         // its host name as a trusted peer told it; empty if unknown
	Helo       string         // argument of EHLO, HELO or LHLO
	ESMTP      bool           // EHLO or LHLO was used
	User       string         // authenticated identity (RFC 4954); empty if none
	TLS        TLSFacts
	Direction  Direction
	Forwarded  bool // Client was told by a trusted peer's XFORWARD or XCLIENT
}

// Trusted reports whether the client is one of ours: outbound by the direction
// law.
func (s *Session) Trusted() bool { return s.Direction == Outbound }

// With returns the protocol word of the Received field's with clause
// (RFC 3848): SMTP, ESMTP, ESMTPS, ESMTPSA, LMTP, LMTPS... and their UTF8
// forms (RFC 6531 section 4.3).
func (s *Session) With(utf8 bool) string {
	word := "ESMTP"
	switch {
	case s.Protocol == "LMTP" && utf8:
		word = "UTF8LMTP"
	case s.Protocol == "LMTP":
		word = "LMTP"
	case utf8:
		word = "UTF8SMTP"
	case !s.ESMTP:
		return "SMTP"
	}
	if s.TLS.Version != "" {
		word += "S"
	}
	if s.User != "" {
		word += "A"
	}
	return word
}

// A Recipient is one forward-path of a transaction with the parameters of its
// RCPT command (RFC 3461: NOTIFY, ORCPT).
type Recipient struct {
	Path
	Options smtp.RcptOptions
}

// An Envelope says where a message comes from and where it goes, whatever its
// header says (RFC 5321 section 2.3.1).
type Envelope struct {
	ReversePath Path             // the zero Path is the null reverse-path
	Options     smtp.MailOptions // parameters of the MAIL command
	Recipients  []Recipient      // in RCPT order
}

// Has reports whether p is one of the envelope's recipients.
func (e *Envelope) Has(p Path) bool {
	for i := range e.Recipients {
		if e.Recipients[i].Path == p {
			return true
		}
	}
	return false
}

// A Transaction is one mail transaction (RFC 5321 section 3.3): MAIL, one or
// more RCPT, DATA. A new MAIL makes a new Transaction; nothing is ever reset.
// Once Message is set it does not change any more.
type Transaction struct {
	ID string // unique and sortable; stands in the log, the headers and the reply
	*Session
	Envelope
	*Message           // nil before DATA
	At       time.Time // when MAIL came: the only clock of filters and policy

	// Began is what the gateway began this transaction with: its policy. No
	// reload changes it. Only the gateway looks inside.
	Began any
}
