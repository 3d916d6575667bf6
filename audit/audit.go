// Package audit keeps the record of what the gateway decided and what people
// did, so that a change to it afterwards is noticed, and writes the mail log.
//
// # The chain
//
// A record has open fields (what happened, to which transaction, by which rule
// of which policy) and personal ones (addresses, the client, free text). The
// open fields and a salted hash of each personal field are written as JSON in a
// fixed order; the record's hash is the SHA-256 of the hash before it followed
// by these bytes. The personal values stand beside, each with its salt, on the
// same line:
//
//	{"record":{"seq":7,"at":"2026-11-21T09:41:07.512Z","event":"verdict",...,"personal":{"to":"9fK2.."}},"hash":"..","values":{"to":["salt","bob@example.org"]}}
//
// Forget erases values with their salts: what remains says nothing about them,
// and the chain still verifies.
//
// A checkpoint is a record that carries the hash before it, signed with an
// Ed25519 key that is made on the first start. Every section of the log begins
// with one, so old sections can be cut off and the rest verifies. The head, a
// signed note of the last record's number and hash, lies in a file of its own:
// cutting records off at the end is noticed too. Whoever can read the key can
// forge all this; so note the hash that Head returns in another place.
//
// # Writing
//
// Append returns when the record is durable; callers that wait at the same time
// share one sync. AppendLater returns at once: its record is durable within a
// second, or when half a megabyte waits, or on Close. It is meant for relayed mail:
// it costs 3 microseconds with the write and the sync, where a row of an SQLite
// table, a hundred to a transaction, costs 6 for its insert alone. That is why the
// log is a file of lines.
//
// # Diagnostics
//
// ErrBacklog means that the log could not be written for so long that no more
// records can wait: the caller defers its mail. A BadRecord names the first
// record that does not verify. Open refuses a log whose end it cannot read, and
// a log without its key. What a crash has not written whole is cut off the end and
// set aside; a record "repair" says so, and the chain verifies. If the log ends
// before its head, Open goes on, and appends a record "damage" that makes every
// later Verify fail there. A record of the last section that does not verify is
// reported after Open.
package audit

import (
	"errors"
	"fmt"
	"time"
)

// ErrBacklog means that too many records wait for a log that cannot be written.
var ErrBacklog = errors.New("audit log cannot be written and its backlog is full")

// An Event says what a record is about.
type Event string

// The events. Their names never change.
const (
	Verdict    Event = "verdict"    // a decision for one recipient
	Delivery   Event = "delivery"   // a queued copy was delivered, or bounced
	Release    Event = "release"    // a held message was released
	Read       Event = "read"       // the body of a held message was read
	Delete     Event = "delete"     // a held message was deleted
	Expire     Event = "expire"     // held messages were removed by age
	Forgotten  Event = "forget"     // the personal data of an address was erased
	Reload     Event = "reload"     // a policy was loaded, or refused
	KeyChange  Event = "key"        // a key was made, imported, replaced or removed
	Start      Event = "start"      // the gateway started
	Stop       Event = "stop"       // the gateway stopped
	Checkpoint Event = "checkpoint" // made by the log itself: records before it may be cut off
	CutOff     Event = "cut"        // made by the log itself: old records were removed
	Damage     Event = "damage"     // made by the log itself: records are missing
	Repair     Event = "repair"     // made by the log itself: what a crash had not written whole was cut off the end
)

// A Record is one entry. What is empty is left out.
type Record struct {
	Seq   uint64    // given by the log: 1, 2, 3...
	At    time.Time // default: now; to the millisecond
	Event Event

	ID          string   // of the transaction
	Item        string   // of the held message
	Direction   string   // "inbound" or "outbound"
	Disposition string   // "relay", "quarantine", "reject", "defer", "discard"
	Queue       string   // of the quarantine
	Rule        string   // that decided
	Policy      string   // hash of the policy in force
	Status      string   // enhanced status code: "2.0.0"
	Relay       string   // next hop: "exchange[10.0.5.10]:25"
	Score       float64  // of the message
	Size        int64    // of the message
	Symbols     []string // names
	Detail      string   // more, in words; nothing personal

	Actor  string // who did it: a login name, "root"; personal from here
	From   string // reverse-path
	To     string // forward-path
	Author string // RFC5322.From
	Client string // address of the client
	Helo   string
	Why    string // the decision's sentence
	Reply  string // what the client or the next hop was told
	Reason string // what somebody gave as the reason

	Erased []string // names of personal fields whose values were erased; read only
	Hash   Hash     // read only
}

// A Hash is the SHA-256 that stands for a record and all before it.
type Hash [32]byte

func (h Hash) String() string { return encoding.EncodeToString(h[:]) }

// personalNames are the names of the personal fields, in the order in which
// they are hashed and written.
var personalNames = [...]string{"actor", "from", "to", "author", "client", "helo", "why", "reply", "reason"}

// personal returns the personal fields in that order.
func (r *Record) personal() [len(personalNames)]*string {
	return [...]*string{&r.Actor, &r.From, &r.To, &r.Author, &r.Client, &r.Helo, &r.Why, &r.Reply, &r.Reason}
}

// A BadRecord is the first record of the chain that does not verify.
type BadRecord struct {
	Seq uint64 // its number; the number it should have if it is missing
	Why string
}

func (e *BadRecord) Error() string { return fmt.Sprintf("audit record %d: %s", e.Seq, e.Why) }
