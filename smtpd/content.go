package smtpd

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/spool"
)

// Replies about content.
var (
	replyGo         = mail.Reply{Code: 354, Text: "send the message; end with CRLF.CRLF"}
	replyNoRcpts    = mail.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 5, 1}, Text: "no valid recipients"}
	replyNUL        = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 6, 0}, Text: "message contains a NUL octet"}
	replyBare       = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 6, 0}, Text: "message contains a bare CR or LF: lines must end with CR LF"}
	replyChunkArg   = mail.Reply{Code: 501, Enhanced: smtp.EnhancedCode{5, 5, 4}, Text: "syntax: BDAT size [LAST]"}
	replyChunkSized = mail.Reply{Code: 501, Enhanced: smtp.EnhancedCode{5, 5, 4}, Text: "chunk size not understood; closing the connection"}
)

// rateGrace is how long content may come at any rate.
const rateGrace = time.Minute

// content is what the octets of a message pass through on their way into its
// body: they are counted, checked and, if so set, normalised. The body gets
// nothing more once the message is known to be unfit, but the counting goes on.
type content struct {
	body      *spool.Buffer
	limit     int64
	normalise bool
	began     time.Time

	size            int64 // octets that came
	crs, lfs, pairs int64 // CR, LF, and LF right after CR
	ends            byte  // the last octet
	nul             bool
	cr              bool  // normalise: a CR waits for what follows it
	err             error // of the body
}

func (s *session) newContent() *content {
	return &content{
		body:      s.set.Spool.Buffer(),
		limit:     s.set.Limits.Message,
		normalise: s.lax(),
		began:     time.Now(),
	}
}

// discard gives the body up.
func (c *content) discard() {
	if c.body != nil {
		c.body.Discard()
		c.body = nil
	}
}

// Write takes the next octets. It does not fail: what went wrong is for verdict
// to say, when all has been read.
func (c *content) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.size += int64(len(p))
	c.nul = c.nul || bytes.IndexByte(p, 0) >= 0
	crs := int64(bytes.Count(p, []byte{'\r'}))
	lfs, pairs := c.countLines(p)
	c.crs, c.lfs, c.pairs = c.crs+crs, c.lfs+lfs, c.pairs+pairs
	c.ends = p[len(p)-1]
	if c.size > c.limit || c.nul || c.err != nil || c.bare() && !c.normalise {
		return len(p), nil
	}
	if c.normalise && (c.cr || lfs != pairs || crs != pairs) {
		c.rewrite(p)
		return len(p), nil
	}
	c.store(p)
	return len(p), nil
}

// countLines counts the LFs of p and those among them that follow a CR.
func (c *content) countLines(p []byte) (lfs, pairs int64) {
	if p[0] == '\n' && c.ends == '\r' {
		pairs++
	}
	for i := 0; ; i++ {
		j := bytes.IndexByte(p[i:], '\n')
		if j < 0 {
			return lfs, pairs
		}
		i += j
		lfs++
		if i > 0 && p[i-1] == '\r' {
			pairs++
		}
	}
}

// bare reports whether there was a bare LF, or a bare CR. A CR that is the last
// octet so far may still be followed by its LF.
func (c *content) bare() bool {
	crs := c.crs
	if c.ends == '\r' {
		crs--
	}
	return c.lfs != c.pairs || crs != c.pairs
}

// rewrite stores p with every bare CR and bare LF made a CR LF.
func (c *content) rewrite(p []byte) {
	for len(p) > 0 {
		i := bytes.IndexAny(p, "\r\n")
		if c.cr && i != 0 {
			c.cr = false
			c.store([]byte("\r\n")) // the CR before p was bare
		}
		if i < 0 {
			c.store(p)
			return
		}
		c.store(p[:i])
		switch {
		case p[i] == '\n':
			c.cr = false
			c.store([]byte("\r\n"))
		case c.cr: // CR CR: the first was bare
			c.store([]byte("\r\n"))
		default:
			c.cr = true
		}
		p = p[i+1:]
	}
}

func (c *content) store(p []byte) {
	if c.err == nil && len(p) > 0 {
		_, c.err = c.body.Write(p)
	}
}

// finish completes the content. A last line without its end gets one: the next
// hop could not be sent it otherwise, and filters must see what it sees.
func (c *content) finish() {
	switch {
	case c.normalise && c.cr:
		c.cr = false
		c.store([]byte("\r\n"))
	case c.size > 0 && c.ends != '\n' && c.ends != '\r':
		c.store([]byte("\r\n"))
	}
	if c.ends == '\r' {
		c.ends = 0 // it was bare
	}
}

// verdict returns what to say about content that cannot be accepted; zero if it
// can. finish must have been called.
func (c *content) verdict() mail.Reply {
	switch {
	case c.nul:
		return replyNUL
	case c.bare() && !c.normalise:
		return replyBare
	case c.size > c.limit:
		return replyTooBig
	case errors.Is(c.err, spool.ErrFull):
		return mail.ReplyNoSpace
	case c.err != nil:
		return mail.ReplyTryAgain
	}
	return mail.Reply{}
}

// until returns when the next octets must have come: before the whole time is
// over, and in time for the least rate.
func (c *content) until(l *Limits) time.Time {
	span := l.Data
	if s := float64(c.size) / float64(l.MinRate); s < span.Seconds() {
		span = min(span, max(rateGrace, time.Duration(s*float64(time.Second))))
	}
	return c.began.Add(span)
}

// data answers DATA (RFC 5321 section 4.1.1.4).
func (s *session) data(arg string) {
	switch {
	case arg != "":
		s.answer(replyNoArgument)
		return
	case s.tx == nil || s.chunks != nil:
		s.answer(replySequence)
		return
	case len(s.tx.Recipients) == 0:
		s.answer(replyNoRcpts)
		return
	}
	s.answer(replyGo)
	c := s.newContent()
	defer c.discard()
	d := dots{start: true}
	for {
		n, end := d.next(s.wire.pending(), c)
		s.wire.consume(n)
		if end {
			break
		}
		if err := s.wire.fill(c.until(&s.set.Limits), false); err != nil {
			s.cut(err)
			return
		}
	}
	s.complete(c)
}

// dots takes the dots off that DATA adds to content, and finds its end (RFC 5321
// section 4.5.2).
type dots struct {
	start bool // at the start of a line: at the beginning, or after CR LF
}

// next passes on as much of p as is certain. It returns how much of p it has
// used, and whether the content has ended. Only CR LF . CR LF ends it.
func (d *dots) next(p []byte, c *content) (used int, end bool) {
	from, i := 0, 0 // p[from:i] is to be passed on
	for {
		if d.start && i < len(p) && p[i] == '.' {
			switch rest := p[i:]; {
			case len(rest) == 1 || rest[1] == '\r' && len(rest) == 2:
				c.Write(p[from:i])
				return i, false
			case rest[1] == '\r' && rest[2] == '\n':
				c.Write(p[from:i])
				return i + 3, true
			}
			c.Write(p[from:i])
			i++
			from = i
			d.start = false
		}
		j := bytes.IndexByte(p[i:], '\n')
		if j < 0 {
			break
		}
		d.start = i+j > 0 && p[i+j-1] == '\r'
		i += j + 1
	}
	// A CR at the end waits for the octet after it, so that a CR LF is never
	// parted.
	n := len(p)
	if n > i {
		if p[n-1] == '\r' {
			n--
		}
		if n > i {
			d.start = false
		}
	}
	c.Write(p[from:n])
	return n, false
}

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
	if err := s.readChunk(c, size); err != nil {
		s.abort()
		s.cut(err)
		return
	}
	if !last {
		s.wire.midway = true
		s.reply(250, smtp.EnhancedCode{2, 0, 0}, "chunk received")
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

// complete ends the transaction with the content that was received whole.
func (s *session) complete(c *content) {
	c.finish()
	s.messages++
	if r := c.verdict(); r.Code != 0 {
		rcpts := len(s.tx.Recipients)
		s.abort()
		s.set.Hooks.message(c.size, false)
		s.answerAll([]mail.Reply{r}, rcpts)
		// Where a bare CR or LF slipped through, so may have an end of data:
		// what was sent behind it is not run.
		if (r == replyBare || r == replyNUL) && s.wire.ahead() {
			s.over = true
		}
		return
	}
	tx, body := s.tx, c.body
	s.tx, c.body = nil, nil
	replies := s.srv.backend.Data(s.srv.ctx, tx, body)
	s.unforward()
	s.set.Hooks.message(c.size, len(replies) > 0 && replies[0].OK())
	s.answerAll(replies, len(tx.Recipients))
}

// answerAll says the reply to a message; in LMTP one for each recipient (RFC
// 2033 section 4.2). What the backend left out is a temporary failure.
func (s *session) answerAll(rs []mail.Reply, recipients int) {
	n := 1
	if s.set.LMTP {
		n = recipients
	}
	for i := range n {
		r := mail.ReplyTryAgain
		switch {
		case i < len(rs):
			r = rs[i]
		case len(rs) == 1 && !rs[0].OK():
			r = rs[0] // the whole message was refused
		}
		s.answer(r)
	}
}
