package policy

import (
	"fmt"

	"postern/filters"
	"postern/mail"
)

// A Disposition is the fate of a message for one recipient. Its zero value is
// Defer: what nobody decided stays with the client, and nothing is lost.
type Disposition uint8

const (
	Defer      Disposition = iota // 4xx, the client tries again
	Relay                         // to the next hop
	Quarantine                    // held for review
	Reject                        // 5xx, the client tells its user
	Discard                       // 250 and gone
)

var dispositionWords = []string{"defer", "relay", "quarantine", "reject", "discard"}

func (d Disposition) String() string { return dispositionWords[d] }

// MarshalText writes the disposition's word.
func (d Disposition) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the disposition's word.
func (d *Disposition) UnmarshalText(b []byte) error {
	for i, w := range dispositionWords {
		if w == string(b) {
			*d = Disposition(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a disposition", b)
}

// A Mode says whether a rule, or the whole policy, acts or only shows what it
// would do.
type Mode string

const (
	Enforce Mode = "enforce"
	Watch   Mode = "watch"
)

// A Decision is what the policy wants for one recipient, and why.
type Decision struct {
	Recipient   mail.Path
	Disposition Disposition
	Reply       mail.Reply   // for Reject and Defer: what the client is told, without the id
	Queue       string       // for Quarantine: spam, policy, malware or ambiguous
	Actions     []Action     // rewrites, in rule order; for Quarantine: those of a later release
	Journal     []mail.Path  // archive addresses that get a copy when the message is relayed or released
	Notify      []Notice     // whom to tell
	Skip        []string     // scoring filters that a skip rule lifted
	Rule        string       // name of the rule that gave the disposition; "default" if none did
	Why         string       // one sentence for the log, the console and explain; never empty
	Score       float64      // what score_at_least compared
	Would       *Disposition // in watch mode: what would have happened; nil if the same
	WouldRule   string       // the rule that would have decided
	Watched     []string     // watched rules that matched
	Trace       []RuleTrace  // one per rule that was tried, in order
}

// A Notice asks for a message to somebody: "sender", "officer", "admin" or an
// address.
type Notice struct {
	To   string
	Rule string
}

// An Action is one rewrite that a rule asks for.
type Action struct {
	Name   string            // name of a filters.ActionDoc
	Filter string            // the filter that performs it
	With   any               // its settings
	Rule   string            // the rule that asks
	Parts  []mail.PartID     // the parts that the rule's match marked
	Marks  []*filters.Symbol // the symbols by which it marked them

	key string // name and settings as text: equal for actions that do the same
}

// A Truth is the value of a condition. One that rests on a filter that broke is
// neither yes nor no.
type Truth int8

const (
	No Truth = iota
	Unknown
	Yes
)

func (t Truth) String() string { return [...]string{"no", "unknown", "yes"}[t] }

// A RuleTrace tells how one rule came out for one recipient.
type RuleTrace struct {
	Rule    string
	Line    int    // of the rule in the policy file
	Matched Truth  // after exceptions
	Watched bool   // the rule is in watch mode
	Key     string // the first key that failed, or the exception that took the case out
	Want    string // what the policy file says
	Got     string // what the transaction has
}

// A Copy is the message for those recipients who get the same treatment.
type Copy struct {
	Recipients  []mail.Path
	Disposition Disposition
	Reply       mail.Reply
	Queue       string
	Actions     []Action
	Journal     []mail.Path // archive addresses that get a copy of it
	Rule, Why   string      // of the first recipient
	Upstream    string      // name of the next hop's [[upstream]]; for Relay and Quarantine
}
