package spool

import (
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// Format is the version of the entries that this program writes. An entry of
// another version is set aside, never guessed at.
const Format = 1

// An Entry is one copy of a message on its way to one upstream: everything
// that a delivery attempt and a DSN must know, long after the session that
// brought it has ended.
type Entry struct {
	Format      int       // version; set by Commit
	ID          string    // the queue id; Commit makes one if it is empty
	Transaction string    // the mail.Transaction that brought it
	Received    time.Time // when it was committed
	Size        int64     // bytes of content; set by Commit

	From     mail.Path        // reverse-path
	Options  smtp.MailOptions // of MAIL: BODY, SMTPUTF8, RET, ENVID
	To       []Recipient
	EightBit bool // the content needs 8BITMIME
	UTF8     bool // the content or the envelope needs SMTPUTF8

	Upstream  string         // name of the next hop's [[upstream]]
	Demands   mail.Demands   // only ever tightened
	Direction mail.Direction // of the transaction: decides whether a bounce may be sent
	Session   mail.Session   // for XFORWARD, log and DSN
	Rule      string         // the policy rule that decided
	Policy    string         // hash of the policy that decided

	Attempts    int       // delivery attempts of the entry, finished ones
	LastAttempt time.Time // when the last one ended
	NextAttempt time.Time // when it is due
	Suspended   bool      // no attempts until it is resumed
	Warned      bool      // the delay has been reported
}

// A Recipient is one recipient of an entry and what has become of it.
type Recipient struct {
	mail.Recipient
	State State
	Reply mail.Reply // the last one; the next hop's, or ours if it could not be reached
	Hop   string     // who said it: "exchange[10.0.5.10]:25"
	At    time.Time  // when
}

// A State is what has become of a recipient.
type State uint8

const (
	Pending   State = iota // still to be delivered
	Delivered              // the next hop has taken it over
	Failed                 // the next hop has refused it for good
	Expired                // it could not be delivered in time
	Dropped                // an administrator took it out
)

var stateWords = [...]string{"pending", "delivered", "failed", "expired", "dropped"}

// String returns the state's word.
func (s State) String() string {
	if int(s) < len(stateWords) {
		return stateWords[s]
	}
	return "unknown"
}

// Pending returns the indexes of the recipients still to be delivered.
func (e *Entry) Pending() []int {
	var at []int
	for i := range e.To {
		if e.To[i].State == Pending {
			at = append(at, i)
		}
	}
	return at
}
