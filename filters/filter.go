// Package filters defines what a filter is and runs a chain of them.
//
// A filter observes; it does not decide. What it sees it names with symbols,
// and the policy decides from the symbols. To add a filter: make a folder here,
// declare a Filter in it, and add it to filters/standard.
//
// # Diagnostics
//
// A filter that returns an error, panics or runs out of time is broken for that
// transaction: its Result has Err set and no verdict, and every policy rule
// that rests on one of its symbols is unknown (see package policy). Filters do
// not log: what they have to say is the evidence of a symbol.
package filters

import (
	"context"
	"log/slog"
	"time"

	"postern/dns"
	"postern/mail"
)

// A Stage is a point of the SMTP dialogue. A filter can first run at its stage;
// a rule that rests only on what is known there is decided there.
type Stage uint8

const (
	Connect Stage = iota // the client is connected and has said EHLO
	Mail                 // the reverse-path is known
	Rcpt                 // one forward-path is known
	Data                 // the message is here
)

// A Filter describes a filter: what it is called, what it may report, what it
// must wait for. It is data: the manual, the metrics and the policy's checks
// are made from it.
type Filter struct {
	Name     string      // its TOML table is [filter.<Name>]
	Doc      string      // one sentence
	Stage    Stage       // when it can first run
	Requires []string    // filters whose verdicts it reads: only those does it see
	Symbols  []SymbolDoc // every symbol that it may report
	Keys     []MatchKey  // match keys that it gives the policy
	Actions  []ActionDoc // rewrites that it offers to the policy
	Scoring  bool        // its symbols are opinions about content: a skip rule may name it, and an allow list may lift them
	NoScan   bool        // it only rewrites: it has no verdict and is not run by the chain
	Light    bool        // all that it waits for ends with its context, so that it needs no goroutine that can be left behind

	// New returns a Checker with the default settings. The TOML table is decoded
	// over it, so its exported fields with toml tags are the settings.
	New func() Checker
}

// A SymbolDoc declares a symbol. The name is UPPER_SNAKE, unique in the
// program and never renamed.
type SymbolDoc struct {
	Name  string
	Score float64 // the default score; [scores] in the policy changes it
	Doc   string  // one plain sentence for a reviewer
	DocFR string  // the same in French
}

// A KeyKind is the type of value that a match key takes in the policy file.
type KeyKind uint8

const (
	KeyBool KeyKind = iota // true or false: any of the symbols was reported, or none
	KeyEnum                // one or several of Values
	KeyName                // free names, compared with the Label of the symbols
)

// A MatchKey gives the policy a condition in terms of symbols, so that the
// loader knows which filters a rule rests on.
type MatchKey struct {
	Name    string
	Doc     string    // completes "matches when ..."
	Say     [2]string // phrase for `postern rules`, English and French, with one %s for the value: "with an attachment of kind %s"
	Kind    KeyKind
	Values  []KeyValue // for KeyEnum, in the order of the manual
	Symbols []string   // for KeyBool and KeyName
}

// A KeyValue is one word of an enum key and the symbols any of which mean it.
type KeyValue struct {
	Word    string
	Symbols []string
}

// An ActionDoc declares a rewrite that policy rules can ask for.
type ActionDoc struct {
	Name string
	Doc  string     // completes "the action ..."
	Say  [2]string  // phrase for `postern rules`, English and French
	New  func() any // the action's settings with defaults: keys of the rule's table are decoded over it (toml tags)

	SparesOwn     bool // not performed on what Postern itself writes: DSNs, notices, reports
	KeepsOriginal bool // it takes something away from people: the gateway puts the original in quarantine first
}

// A Checker is a configured filter. Check must be safe for concurrent use and
// must not change tx. A DNS temporary error is a verdict; an error means that
// the filter itself broke.
type Checker interface {
	Check(ctx context.Context, tx *mail.Transaction, in Results) (Verdict, error)
}

// An Opener is a Checker that needs the outside world. Open is called once,
// after the settings are decoded; what it opens ends with ctx.
type Opener interface {
	Open(ctx context.Context, env *Env) error
}

// A Validator is a Checker whose settings can be wrong in a way that their types
// do not show. Validate is called by `postern check` too: it opens nothing. Its
// errors name the setting: they are *SettingError where one is to blame.
type Validator interface {
	Validate() error
}

// A SiteValidator is a Checker whose settings must fit the domains of [site]. It
// is asked like a Validator, after it.
type SiteValidator interface {
	ValidateSite(domains []string) error
}

// A Warner has something to say to the administrator at `postern check`, such as
// that no antivirus engine is configured.
type Warner interface {
	Warnings() []string
}

// An Idler is a Checker whose settings may leave it nothing to do. It is asked
// once, when it is linked: the chain then treats it as Light.
type Idler interface {
	Idle() bool
}

// A Parser is a Checker that says how messages are to be parsed: within which
// limits, and what opens the archives in them.
type Parser interface {
	ParseOptions() mail.Options
}

// A SettingError blames one setting, so that the loader can show its line.
type SettingError struct {
	Key string // the toml key within the filter's table
	Err error
}

func (e *SettingError) Error() string { return e.Key + ": " + e.Err.Error() }
func (e *SettingError) Unwrap() error { return e.Err }

// A Rewriter is a Checker that performs actions. Rewrite returns the new
// message; any error holds or defers that copy: the original is never sent
// instead.
type Rewriter interface {
	Rewrite(ctx context.Context, in RewriteInput) (*mail.Message, error)
}

// A Finisher is a Checker that adds fields to what leaves: signatures and seals,
// which hold only as long as nothing else is changed. Finish is called once for
// each copy that is relayed, after every rewrite, in the chain's order; m is the
// copy with the fields of earlier finishers on top. The fields that it returns,
// folded and each with its CRLF, go on top, the first uppermost. No fields and no
// error: there is nothing to add. Any error holds or defers the copy.
type Finisher interface {
	Finish(ctx context.Context, tx *mail.Transaction, results Results, m *mail.Message) ([]string, error)
}

// RewriteInput is what a rewrite works on.
type RewriteInput struct {
	Tx      *mail.Transaction // as received
	Results Results           // all of them
	Action  string            // name of the ActionDoc
	With    any               // the settings made by ActionDoc.New and filled from the rule
	Rule    string            // the policy rule that asks
	Parts   []mail.PartID     // the parts that the rule's match marked
	Marks   []*Symbol         // the symbols by which it marked them
	Kept    string            // id under which the whole message is in the quarantine; empty: that of Tx
	To      []mail.Path       // recipients of this copy
	Message *mail.Message     // what earlier rewrites made of it
}

// Env is what an Opener may use.
type Env struct {
	Resolver dns.Resolver
	Now      func() time.Time
	Log      *slog.Logger // for what concerns the service, not one message
	Hostname string       // [site] hostname
	Domains  []string     // [site] domains
	Language string       // "en" or "fr"
	Contacts Contacts     // who has written to whom; nil: nobody
	DryRun   bool         // explain and test: no side effect, no program unless asked
	Programs bool         // with DryRun: external programs may run all the same
	Offline  bool         // nothing outside the process is asked: the tests of a policy
}

// Contacts is the memory of who has written to whom.
type Contacts interface {
	Met(ctx context.Context, author, to mail.Path) (bool, error)
}

// A Symbol is one observation about a transaction.
type Symbol struct {
	Name     string
	Score    float64     // filled by the chain: from [scores], else what the filter gave, else from the declaration
	To       mail.Path   // the zero Path: every recipient
	Part     mail.PartID // the zero PartID: the whole message
	Label    string      // what a KeyName key compares: a detector, a signature
	Evidence string      // what was seen, for a reviewer
}

// A Verdict is what one filter concludes about one transaction.
type Verdict struct {
	Symbols []Symbol
	Auth    []mail.AuthResult // for the Authentication-Results field
	Details any               // for those who know the filter and its type; nil for most
}

// A Result is the outcome of running one filter. If Err is not nil the filter
// said nothing: it failed, panicked or ran out of time.
type Result struct {
	Filter  string
	Verdict Verdict
	Err     error
	Ignored bool // on_failure = "ignore": Err makes no rule unknown
	Elapsed time.Duration
}

// Results holds one Result per filter, in chain order.
type Results []Result

// Of returns the verdict of the named filter; false if it broke or is not there.
func (rs Results) Of(name string) (Verdict, bool) {
	for i := range rs {
		if rs[i].Filter == name {
			return rs[i].Verdict, rs[i].Err == nil
		}
	}
	return Verdict{}, false
}

// Find returns the symbols of that name.
func (rs Results) Find(symbol string) []Symbol {
	var found []Symbol
	for i := range rs {
		for _, s := range rs[i].Verdict.Symbols {
			if s.Name == symbol {
				found = append(found, s)
			}
		}
	}
	return found
}
