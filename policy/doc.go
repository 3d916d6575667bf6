// Package policy reads the policy file and decides, for each recipient of a
// transaction, what becomes of the message.
//
// Load compiles the TOML text against the filters that exist: it configures and
// links them, compiles every rule to closures, and tells everything that is
// wrong at once, each mistake with its line, its column and the word that was
// meant. What it returns never changes. A reload makes a new Policy; a
// transaction keeps the one it began with.
//
// Decide is a pure function of the transaction and the filters' results. Its
// only clock is the transaction's. For each recipient it tries the rules in the
// order of the file, all against the original message. A condition that rests
// on a filter that broke is unknown; a rule is the minimum of its conditions
// over no < unknown < yes, with exceptions negated; the first rule that is
// unknown ends the search with Defer, unless an earlier rule had ended it. What
// no rule settles is relayed by the rule "default", or deferred if any filter
// broke. The zero Decision is Defer.
//
// Early gives the same decision before the message is here, where nothing that
// is still to come can change it. Bifurcate groups the decisions into the
// fewest copies; nowhere else do recipients part.
//
// Three things are laws that no policy file can lift: a rule about malware is
// tried although an accept rule matched above it, is enforced although the file
// is in watch mode, and takes neither dates nor exceptions that the one who
// wrote the message could forge. An exception by author holds only with a DMARC
// pass, or for our own clients.
//
// # Diagnostics
//
// The error of Load is of type Problems. Its text is what `postern check`
// prints: "file:line:column: text", the line, a caret mark. A problem of
// severity Warning does not refuse the policy; they are in Policy.Warnings. An
// error of LoadFile that is not Problems means that the file cannot be read.
//
// A Decision says why in Why, and its Trace tells for each rule that was tried
// how it came out and the first key that failed, with what the policy wants and
// what the transaction has.
package policy
