// Package smtpd is the receiving side of the gateway: the SMTP and LMTP server
// (RFC 5321, RFC 2033).
//
// A [Server] is one listener of the policy: its role, its limits, whom it
// trusts. It speaks the protocol, keeps the clock and counts; everything that
// needs a judgement is asked of its [Backend], and the Backend never sees the
// wire. One goroutine serves one session from beginning to end, so nothing in a
// session is ever done twice at once.
//
// # How the content is read
//
// Only CR LF . CR LF ends the content after DATA, and only the announced number
// of octets ends a BDAT chunk. Whatever else looks like an end is content. A
// bare CR, a bare LF or a NUL makes the message unfit: it is read to its true
// end and refused, with nothing of it kept; with BareNewline "normalise" bare
// CR and LF become CR LF instead, so that filters, signatures and the next hop
// see the same lines. After a message refused like this, commands that were
// already waiting behind it are not run: the session ends, for whoever let the
// one slip through may have let through the other.
//
// A client may send ahead only what RFC 2920 lets it: whatever follows EHLO,
// HELO, LHLO, DATA, AUTH, STARTTLS or XCLIENT before their reply ends the
// session. A refused BDAT chunk is read and thrown away; if its size cannot be
// known, the connection is closed.
//
// # Who is outbound
//
// A session is outbound if it is logged in, or if its client address, after
// what trusted peers told of it, is in the listener's Allow networks (role
// outbound) or Outbound networks (any role). Everything else is inbound. The
// package only states the direction; what may be relayed is the Backend's
// decision.
//
// A peer in TrustProxy must begin with a PROXY header, or it is cut off. XCLIENT
// and XFORWARD are taken from the peers in TrustXClient and TrustXForward: by
// the address that is connected, or that a PROXY header told.
//
// # Limits
//
// Every wait has a deadline that single octets do not extend: one for a command
// line, one for the whole content, with a minimum rate after a minute, one for
// each write. What a client has not read is never queued: writing waits, and
// then ends the session. An idle session holds no buffers.
//
// Commands that move no mail (NOOP, RSET, VRFY, HELP, EHLO) are free up to
// Limits.Junk between two messages; each one more counts as an error, and
// Limits.Errors of them end the session. Peers that speak for others are not
// counted.
//
// Login failures are counted per address and account together: MaxFailures of
// them ban that pair, so that nobody can lock a user out from elsewhere. Four
// times as many from one address ban the address. Each answer comes later than
// the one before, to the address and to the account: guesses at one account that
// come from everywhere are slowed down as well.
//
// # Clocks
//
// Config.Now is the time of transactions, rates and bans. The deadlines of
// connections are the kernel's and follow the machine's clock.
//
// # Diagnostics
//
// The log has one line a session at debug level ("session ended") and one a
// cause at info level or above: "accept failed" (out of file descriptors, or
// the network's fault), "session refused" (with the reason: connections,
// address, allow, proxy, talked early), "handshake failed", "login failed",
// "login banned", "content cut", "session broke" (a panic, with its stack: a
// bug), "certificate not loaded" (the old one stays in use), "accounts not
// loaded" (likewise).
package smtpd
