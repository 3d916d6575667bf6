// Package dkim verifies and makes DKIM signatures (RFC 6376) and ARC sets (RFC
// 8617).
//
// Verify judges the DKIM-Signature fields of a message, VerifyARC its ARC chain.
// Both work from the original bytes. The body is read once, whatever the number
// of signatures and canonicalisations: one hash serves all signatures that agree
// on canonicalisation and l=, and what one of the two functions has hashed the
// other finds done. Each key record is looked up once per message. Work is
// bounded: ten signatures are judged and no more, h= has at most 5,000 names, an
// RSA key at most 8,192 bits, a chain at most 50 sets.
//
// Algorithms are rsa-sha256, with keys of 1,024 bits or more, and
// ed25519-sha256 (RFC 8463). rsa-sha1 is never verified (RFC 8301). A signature
// with l= that leaves a part of the body unsigned does not pass unless the
// options say so, and then the result says that it is so limited. Of a domain
// name in a signature only letters, digits, hyphens and underscores are taken:
// what is looked up and what is reported is the same name.
//
// Sign makes one DKIM-Signature field per key over one reading of the body;
// SealARC makes an ARC set. Fields that exist once in an honest message are
// oversigned: one more of them added on the way breaks the signature.
//
// The package decides nothing: a message with two From fields is verified like
// any other, since the signature says nothing about which of them a reader sees.
// The caller has to look.
//
// # Diagnostics
//
// Verify and VerifyARC return an error only if the message cannot be read.
// Everything else is a Result with one of the words of RFC 8601 section 2.7.1
// and the reason in plain words:
//
//	pass        the signature holds
//	fail        it does not: the header or the body was changed, or it is forged
//	policy      it may hold, but is not accepted: a short key, an unsigned rest
//	            of the body, one of too many signatures
//	neutral     it cannot be read, or uses what is not known here
//	temperror   DNS failed for now
//	permerror   it cannot be verified: no key, a revoked or broken one, an
//	            expired signature, From not signed, rsa-sha1
//
// Sign and SealARC wrap ErrKey when a key cannot sign, and ErrChain when a chain
// must not be continued.
package dkim
