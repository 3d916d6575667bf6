package smtpd

import (
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// Replies to BDAT.
var (
	replyChunk      = mail.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 0, 0}, Text: "chunk received"}
	replyChunkArg   = mail.Reply{Code: 501, Enhanced: smtp.EnhancedCode{5, 5, 4}, Text: "syntax: BDAT size [LAST]"}
	replyChunkSized = mail.Reply{Code: 501, Enhanced: smtp.EnhancedCode{5, 5, 4}, Text: "chunk size not understood; closing the connection"}
)

// bdat answers BDAT (RFC 3030 section 2). The octets of a chunk that is refused
// are read and thrown away, so that they are never taken for commands.
func (s *session) bdat(arg string) {
	size, last, known, ok := parseChunk(arg)
	switch {
	case !known:
		s.answer(replyChunkSized)
		s.over = true
	case !ok:
		s.refuseChunk(size, replyChunkArg)
	case s.tx == nil:
		s.refuseChunk(size, replySequence)
	case len(s.tx.Recipients) == 0:
		s.refuseChunk(size, replyNoRcpts)
	default:
		s.chunk(size, last)
	}
}

// parseChunk reads the argument of BDAT. known says that size is certain, ok
// that the rest is right too.
func parseChunk(arg string) (size int64, last, known, ok bool) {
	digits, rest, more := cutSpace(arg)
	if digits == "" || len(digits) > 18 {
		return 0, false, false, false
	}
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0, false, false, false
		}
		size = size*10 + int64(c-'0')
	}
	last = more && len(rest) == 4 && strings.EqualFold(rest, "LAST")
	return size, last, true, !more || last
}

// refuseChunk refuses a chunk, and with it the transaction. One that is larger
// than any message is not waited for.
func (s *session) refuseChunk(size int64, r mail.Reply) {
	s.abort()
	if size > s.set.Limits.Message+largeBuffer {
		s.answer(r)
		s.over = true
		return
	}
	c := &content{began: time.Now(), limit: -1}
	if err := s.readChunk(c, size); err != nil {
		s.cut(err)
		return
	}
	s.answer(r)
}

// chunk receives a chunk of the message.
func (s *session) chunk(size int64, last bool) {
	c := s.chunks
	if c == nil {
		c = s.newContent()
		s.chunks = c
	}
	if c.size+size > c.limit {
		s.refuseChunk(size, replyTooBig)
		return
	}
	// Chunks without octets must not stretch the time for the message.
	if !time.Now().Before(c.until(&s.set.Limits)) {
		s.abort()
		s.cut(errTimeout)
		return
	}
	if err := s.readChunk(c, size); err != nil {
		s.abort()
		s.cut(err)
		return
	}
	if !last {
		s.wire.midway = true
		s.answer(replyChunk)
		return
	}
	s.chunks, s.wire.midway = nil, false
	defer c.discard()
	s.complete(c)
}

// readChunk passes the octets of a chunk on.
func (s *session) readChunk(c *content, size int64) error {
	for size > 0 {
		if s.wire.buffered() == 0 {
			if err := s.wire.fill(c.until(&s.set.Limits), false); err != nil {
				return err
			}
		}
		p := s.wire.pending()
		if int64(len(p)) > size {
			p = p[:size]
		}
		c.Write(p)
		s.wire.consume(len(p))
		size -= int64(len(p))
	}
	return nil
}
