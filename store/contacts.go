package store

import (
	"context"
	"time"
)

// Contacts remembers who has written to whom, for a time. It keeps no address: of
// each it keeps a salted hash, which serves to recognise it and to forget it.
// Addresses are compared whatever their case. It is safe for concurrent use.
type Contacts interface {
	// Met reports whether the author has written to the recipient, at a time that
	// is not over yet.
	Met(ctx context.Context, c Contact) (bool, error)
	// Meet notes contacts, all in one commit, each until its time.
	Meet(ctx context.Context, contacts []Contact) error
	// Unmeet forgets all contacts of an address, as author and as recipient, and
	// returns how many there were.
	Unmeet(ctx context.Context, address string) (int, error)
	// Part removes the contacts whose time is over, and of the others those whose
	// time is over first if they are more than most.
	Part(ctx context.Context, now time.Time, most int) error
}

// A Contact is an author who has written to a recipient.
type Contact struct {
	Author, Recipient string
	Time              time.Time // of Met: now; of Meet: until when it is kept
}
