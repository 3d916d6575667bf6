// Package relay is the sending side of the gateway: an SMTP and LMTP client
// (RFC 5321, RFC 2033) that carries a message to a next hop and says, for each
// recipient, what the next hop answered.
//
// A Hop says where mail goes and how the way there is protected. Deliver tries
// the hop's addresses in order, over pooled connections, and gives one Outcome
// per recipient. Callout asks a next hop whether a recipient exists.
//
// One transaction takes one round trip beyond the content: MAIL, every RCPT and
// DATA go out in one write (RFC 2920); where the next hop offers CHUNKING, a
// small message goes out in the same write (RFC 3030). The content is sent as
// it is: only the dots that RFC 5321 section 4.5.2 asks for are added, and a
// message that the next hop cannot take is refused, never converted.
//
// What must hold:
//
//   - A recipient is Delivered only if the next hop said 2xx after all of the
//     content was sent. Everything else that is not a clear refusal is a
//     temporary failure.
//   - Once the end of the content is on its way, no other connection is tried,
//     but for recipients that this one refused.
//   - A connection on which anything unexpected was seen is never used again.
//   - Demands only tighten what the hop's settings say. A connection made under
//     one level of protection is never used under another.
//   - No command line is made of anything that was not checked: a path that
//     cannot be said in one line is a permanent failure of its own.
//
// The package never reads or changes the content's meaning, decides nothing
// about policy, keeps nothing on disk and never retries later: that is the
// queue's.
//
// # Diagnostics
//
// Outcome.Reply is what a client or a DSN may see; Outcome.Err is the cause for
// the log. Replies that the client makes up itself:
//
//	451 4.4.1  no address of the next hop can be reached (Down)
//	451 4.4.2  the connection was lost or the next hop was too slow
//	451 4.4.3  the next hop's name could not be looked up for now (Down)
//	451 4.5.0  the next hop answered what no SMTP server may answer
//	451 4.7.5  TLS is demanded and could not be set up (Down)
//	454 4.7.0  the next hop did not accept our login (Down)
//	556 5.1.10 the domain says that it takes no mail (null MX, RFC 7505)
//	550 5.1.2  the domain does not exist or has no mail server
//	553 5.1.3, 5.1.7  the path cannot be said in SMTP
//	552 5.3.4  the message is larger than the next hop takes
//	550 5.4.4  none of the domain's mail servers has an address
//	554 5.4.6  the domain's MX records lead back to this host
//	554 5.6.3  the next hop lacks 8BITMIME (or BINARYMIME)
//	550 5.6.7  the next hop lacks SMTPUTF8
//	550 5.7.30 the next hop lacks REQUIRETLS
//
// An address that could not be reached is left alone for half a minute, then
// longer, up to five minutes, while another address of the hop works; one
// delivery at a time tries it again. The log says when an address goes down and
// when it is back.
package relay
