// Package quarantine keeps held messages until somebody decides about them or
// their time is over.
//
// A held message is an Item: a row of the index in store.Records, and a body in
// store.Blobs. The body is compressed and encrypted with a data key of its own;
// the data key is wrapped with the key in the key file and stands in the row,
// and so do, encrypted with it, the details: why, evidence, names of attachments,
// the client. Without the row a body cannot be read by anybody, so deleting the
// wrapped key erases the body wherever copies of the blob may be. Only what is
// searched, author, reverse-path, recipients and subject, stands in the index in
// clear, until it is erased.
//
// # What a crash leaves
//
//	step                      a crash right after it leaves     and then
//	Hold wrote the blob       a blob without a row              the client tries again; Sweep removes the blob
//	Hold wrote the row        a held message                    Hold may not have answered: the message is held, and comes again
//	Delete erased the key     a row without a body, a blob      Sweep removes the blob
//	Sweep removed the row     a blob without a row              Sweep removes the blob
//
// If the index was lost, bodies without a row are kept, so that a backup of it can
// be restored. Nothing is removed by age while the clock cannot be trusted: see store.Steady.
//
// # Diagnostics
//
// ErrFull: the quarantine has reached its size, or the disk is full; the caller
// defers. ErrNotFound: there is no such item. ErrAmbiguous: there are several, which
// it names. ErrErased: the item is there but its
// body is not. ErrDamaged: the body, its key or its details were changed or cut
// short, or belong to another key file. ErrBusy: somebody else is releasing it.
package quarantine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"postern/filters"
	"postern/mail"
	"postern/store"
)

// Errors that callers tell apart.
var (
	ErrFull      = errors.New("quarantine is full")
	ErrNotFound  = fmt.Errorf("no such held message: %w", store.ErrNotFound)
	ErrAmbiguous = errors.New("several held messages have this id, or ids that begin so")
	ErrErased    = errors.New("the body was erased")
	ErrDamaged   = errors.New("held message is damaged")
	ErrBusy      = errors.New("somebody else is releasing this message")
)

// A State is what became of an item, or of one of its recipients.
type State = store.State

// The states.
const (
	Held     = store.StateHeld     // waits
	Released = store.StateReleased // was delivered after all
	Deleted  = store.StateDeleted  // by a reviewer; the body is gone
	Erased   = store.StateErased   // by Forget; the personal data too
)

// An Item is a held message and all that is known of it.
type Item struct {
	ID          string    // made by Hold; sorts by time
	Transaction string    // that brought it
	At          time.Time // when it was held
	Received    time.Time // when MAIL came
	Queue       string    // "spam", "policy", "malware", "ambiguous"
	State       State
	Original    bool // nobody waits for it: it is what a rewrite took something out of

	Direction   mail.Direction
	Session     mail.Session // for the reviewer, and for XFORWARD when it is released
	ReversePath mail.Path
	Options     smtp.MailOptions // of MAIL
	To          []Recipient
	Upstream    string       // name of the next hop's [[upstream]]
	Demands     mail.Demands // a release can only tighten them
	EightBit    bool         // the content needs 8BITMIME
	UTF8        bool         // the content or the envelope needs SMTPUTF8

	Author      mail.Path // RFC5322.From, the first
	AuthorName  string    // its display name
	Subject     string
	MessageID   string
	Size        int64    // set by Hold
	SHA256      [32]byte // set by Hold
	Attachments []Attachment

	Rule     string // that held it
	Why      string // one sentence
	Policy   string // hash of the policy
	Score    float64
	Symbols  []filters.Symbol
	Auth     []mail.AuthResult
	Findings []mail.Finding

	Body bool // whether there is one to read; set on reading
}

// A Recipient is one recipient of an item and what became of it for him.
type Recipient struct {
	mail.Recipient
	State State     // Hold makes an empty one Held
	At    time.Time // of the last change
}

// An Attachment is a part that a client would show as a file.
type Attachment struct {
	Part   mail.PartID
	Name   string
	Type   string // declared media type
	Kind   string // what it is by its content
	Size   int64  // decoded
	SHA256 [32]byte
}

// An Access says who reads a body, and why.
type Access struct {
	Actor   string // login name
	Purpose string // "preview", "download", "read"
	Reason  string // in his words
}

// Settings are what a policy says about the quarantine. A reload changes them.
type Settings struct {
	Keep      time.Duration            // how long items are kept; 0: for ever
	KeepQueue map[string]time.Duration // per queue, instead of Keep
	MaxSize   int64                    // bytes of stored bodies; 0: no limit
	Plain     bool                     // do not encrypt new bodies
}

// Options say where a Quarantine keeps things and what it may use.
type Options struct {
	Settings
	Records store.Records
	Blobs   store.Blobs
	Key     string // the key file, made on the first start

	// OnRead is told before a person reads a body; if it fails nobody reads.
	OnRead func(ctx context.Context, item *Item, by Access) error
	// OnSweep is told what Run removed.
	OnSweep func(ctx context.Context, r SweepReport) error

	Interval time.Duration // between sweeps; default an hour
	Now      func() time.Time
	Rand     io.Reader    // default: crypto/rand
	Log      *slog.Logger // for what Run meets; default: none
}

// A Quarantine is safe for concurrent use.
type Quarantine struct {
	o        Options
	key      *keyring
	settings atomic.Pointer[Settings]
	used     atomic.Int64 // bytes of stored bodies
	lost     bool         // the index was made anew: see indexLost

	mu      sync.Mutex
	pending map[string]bool // being held: not orphans
	claimed map[string]bool
	steady  time.Time // last time at which the clock was trusted
}

// Open opens the quarantine. It starts nothing: see Run.
func Open(ctx context.Context, o Options) (*Quarantine, error) {
	if o.Interval <= 0 {
		o.Interval = time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	q := &Quarantine{o: o, pending: map[string]bool{}, claimed: map[string]bool{}}
	q.Configure(o.Settings)
	totals, err := o.Records.Totals(ctx)
	if err != nil {
		return nil, fmt.Errorf("open quarantine: %w", err)
	}
	random := o.Rand
	for _, t := range totals {
		q.used.Add(t.Stored)
		random = nil // a new key would make what is there unreadable
	}
	if q.key, err = loadKey(o.Key, random); err != nil {
		return nil, fmt.Errorf("open quarantine: %w", err)
	}
	if q.lost, err = indexLost(ctx, o); err != nil {
		return nil, fmt.Errorf("open quarantine: %w", err)
	}
	if q.lost {
		o.Log.Error("the quarantine's index is new but there are bodies: restore the database from a backup; until then they are kept")
	}
	return q, nil
}

// indexSetting notes that the index is the one of these bodies.
const indexSetting = "quarantine.index"

// indexLost reports whether the index was made anew over bodies that are there
// already. Then a body without a row is no orphan but what a backup of the index
// would lead to again.
func indexLost(ctx context.Context, o Options) (bool, error) {
	note, err := o.Records.Setting(ctx, indexSetting)
	if err != nil || note != "" {
		return note == "lost", err
	}
	note = "whole"
	err = o.Blobs.List(ctx, func(store.Blob) error {
		note = "lost"
		return errStop
	})
	if err != nil && !errors.Is(err, errStop) {
		return false, err
	}
	return note == "lost", o.Records.Set(ctx, indexSetting, note)
}

// errStop ends a listing early.
var errStop = errors.New("stop")

// Configure changes the settings, as a reload does.
func (q *Quarantine) Configure(s Settings) { q.settings.Store(&s) }

// Used returns the bytes that stored bodies take.
func (q *Quarantine) Used() int64 { return q.used.Load() }

// Totals counts the items, by queue and state.
func (q *Quarantine) Totals(ctx context.Context) ([]store.Total, error) {
	return q.o.Records.Totals(ctx)
}

// stamp returns the time for a new item: not before the last time at which the
// clock was trusted, so that a clock that starts in 1970 makes no old items.
func (q *Quarantine) stamp() time.Time {
	now := q.o.Now().UTC().Truncate(time.Microsecond)
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Before(q.steady) {
		return q.steady
	}
	return now
}

// Claim makes sure that nobody else releases the item at the same time; ErrBusy
// if somebody does. The caller calls done when it has marked the recipients.
func (q *Quarantine) Claim(id string) (done func(), err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claimed[id] {
		return nil, ErrBusy
	}
	q.claimed[id] = true
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.claimed, id)
	}, nil
}
