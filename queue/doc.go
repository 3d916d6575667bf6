// Package queue delivers what is in the spool: it decides when an entry is
// tried, what a failure means, when to give up, and whom to tell.
//
// # How it works
//
// An entry is tried when it comes, and then after the pauses of
// Options.Schedule, each shifted at random by up to a tenth. What the next hop
// takes is delivered, what it refuses for good has failed, and everything else,
// clear or not, is tried again. An entry whose recipients are all done is
// removed.
//
// Entries for one destination share its concurrency and its back-off. When a
// destination cannot be reached, as opposed to refusing a message, one entry at
// a time tries it, after pauses that double; the others that become due
// meanwhile are deferred with the same reply, and that counts as an attempt of
// theirs.
//
// # Giving up
//
// An entry expires when it is older than Options.Expire both by the clock and by
// its attempts: the sum of the pauses between those that were made. A clock
// that jumps ahead by a year makes every entry due, and none expire; a machine
// that was off for a week tries again for as long as if it had been on. If the
// clock goes back, no pause becomes longer than the longest of the schedule,
// and an entry that seems to come from the future expires by its attempts
// alone. A suspended entry is not tried and does not expire.
//
// # Whom it tells
//
// DSNs are made as RFC 3464, RFC 3461 and RFC 6522 say, and honour NOTIFY, RET,
// ENVID and ORCPT. They go out by Options.Submit, like any mail of our own, with
// the null reverse-path. No DSN is ever sent about mail with the null
// reverse-path, so that there is no loop of them; nor about inbound mail, unless
// Options.Bounce is "always": its reverse-path may be forged, and a bounce
// would hit a bystander. What failed and cannot be told is given to
// Options.Keep, for people to look at.
//
// A recipient is only done with a failure once its DSN is durable, or Keep has
// taken the mail: until then it stays in the queue. Mail that had to be
// encrypted comes back as a few header fields without Subject.
//
// # Diagnostics
//
// Events tells of each recipient after each attempt. The log has errors only
// where somebody should act: a state that cannot be written (a crash then
// repeats deliveries, it loses nothing), a reverse-path that cannot be told. Damaged
// entries are reported by package spool.
package queue
