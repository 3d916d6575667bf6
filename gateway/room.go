package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/emersion/go-smtp"
	"golang.org/x/sync/semaphore"

	"postern/mail"
	"postern/policy"
)

// A room bounds the memory of the large messages that are judged at once:
// [limits] memory. Those that find it full wait in the order in which they
// came, so that a large one does not starve behind smaller ones. A message that
// lies in memory is small and does not ask: what it may take is bounded by the
// sessions that there can be.
type room struct {
	size  int64
	taken *semaphore.Weighted
}

func newRoom(size int64) *room { return &room{size: size, taken: semaphore.NewWeighted(size)} }

// roomLimit is how long a message waits for its turn. What is left of
// processLimit is for its filters and its next hop.
const roomLimit = 2 * time.Minute

// errNoRoom says that a large message has waited too long for its turn.
var errNoRoom = errors.New("too many large messages are judged at once ([limits] memory)")

var replyNoRoom = mail.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 3, 2}, Text: "too many large messages at once; try again later"}

// weight estimates the memory that judging m takes: nothing for a small message,
// else a part as it is written and decoded. One that is larger than the whole
// room is judged alone.
func (r *room) weight(m *mail.Message) int64 {
	if _, inMemory := m.Bytes(); inMemory {
		return 0
	}
	return min(2*m.Size(), r.size)
}

// A seat is what one message has taken of a room. The zero seat is that of a
// small one.
type seat struct {
	in *room
	n  int64
}

// leave gives it back; a second time does nothing.
func (s *seat) leave() {
	if s.n > 0 {
		s.in.taken.Release(s.n)
		s.n = 0
	}
}

// enter waits until m may be judged.
func (r *room) enter(ctx context.Context, m *mail.Message) (seat, error) {
	n := r.weight(m)
	if n == 0 {
		return seat{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, roomLimit)
	defer cancel()
	if err := r.taken.Acquire(ctx, n); err != nil {
		return seat{}, fmt.Errorf("%w: %w", errNoRoom, err)
	}
	return seat{r, n}, nil
}

// putOff is the outcome of a message that was not judged.
func putOff(tx *mail.Transaction, err error) *Outcome {
	out := &Outcome{Decisions: make([]policy.Decision, len(tx.Recipients))}
	for i := range tx.Recipients {
		out.Decisions[i] = policy.Decision{Recipient: tx.Recipients[i].Path, Rule: "busy", Why: err.Error(), Reply: replyNoRoom}
	}
	for _, c := range policy.Bifurcate(out.Decisions, nil) {
		out.Copies = append(out.Copies, Copy{Copy: c, Message: tx.Message, Err: err})
	}
	return out
}

// makeRoom ends the seat of a message that only the next hop is still to get,
// for that may take long: what was decoded and unpacked of it is let go. To hold
// one takes a look at its parts, but is done at once. A filter that ran out of
// time may still be reading.
func (b *begun) makeRoom(s *seat, tx *mail.Transaction, out *Outcome) {
	if s.n == 0 || b.lingers || slices.ContainsFunc(out.Copies, b.isHeld) {
		return
	}
	old := tx.Message
	tx.Message = mail.Parse(old.ReaderAt(), old.Size(), b.Parse)
	for i := range out.Copies {
		if out.Copies[i].Message == old {
			out.Copies[i].Message = tx.Message
		}
	}
	s.leave()
}

// isHeld reports whether the copy, or its original, goes to the quarantine.
func (b *begun) isHeld(c Copy) bool {
	return c.Disposition == policy.Quarantine || c.Disposition == policy.Relay && b.keepsOriginal(c.Actions)
}
