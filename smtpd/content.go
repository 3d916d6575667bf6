package smtpd

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/spool"
)

// Replies about content.
var (
	replyNUL  = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 6, 0}, Text: "message contains a NUL octet"}
	replyBare = mail.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 6, 0}, Text: "message contains a bare CR or LF: lines must end with CR LF"}
)

// rateGrace is how long content may come at any rate.
const rateGrace = time.Minute

// content is what the octets of a message pass through on their way into its
// body: they are counted, checked and, if so set, normalised. The body gets
// nothing more once the message is known to be unfit, but the counting goes on.
type content struct {
	body      *spool.Buffer
	into      io.Writer // where it is stored: body
	limit     int64
	normalise bool
	began     time.Time

	size            int64 // octets that came
	crs, lfs, pairs int64 // CR, LF, and LF right after CR
	ends            byte  // the last octet
	nul             bool
	cr              bool  // normalise: a CR waits for what follows it
	rewritten       bool  // normalise: line ends were changed
	err             error // of the body
}

func (s *session) newContent() *content {
	body := s.set.Spool.Buffer()
	return &content{
		body:      body,
		into:      body,
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
	if len(p) > 0 {
		lfs, pairs := c.countLines(p)
		c.take(p, lfs, pairs)
	}
	return len(p), nil
}

// take is Write for who has counted the LFs of p, and those among them that
// follow a CR.
func (c *content) take(p []byte, lfs, pairs int64) {
	if len(p) == 0 {
		return
	}
	c.size += int64(len(p))
	c.nul = c.nul || bytes.IndexByte(p, 0) >= 0
	crs := int64(bytes.Count(p, []byte{'\r'}))
	c.crs, c.lfs, c.pairs = c.crs+crs, c.lfs+lfs, c.pairs+pairs
	c.ends = p[len(p)-1]
	switch {
	case c.size > c.limit || c.nul || c.err != nil || c.bare() && !c.normalise:
	case c.normalise && (c.cr || lfs != pairs || crs != pairs):
		c.rewritten = true
		c.rewrite(p)
	default:
		c.store(p)
	}
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
		_, c.err = c.into.Write(p)
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

// Check takes a message that did not come over the wire as content of a listener
// with that limit and bare_newline: it returns what the backend would get, or
// the reply that refuses it and a word for the law.
func Check(message []byte, limit int64, bareNewline string) (received []byte, law string, no mail.Reply) {
	var b bytes.Buffer
	c := &content{into: &b, limit: limit, normalise: bareNewline == "normalise"}
	c.Write(message)
	c.finish()
	no = c.verdict()
	switch no {
	case mail.Reply{}:
		return b.Bytes(), "", no
	case replyNUL:
		return nil, "nul", no
	case replyBare:
		return nil, "bare-newline", no
	}
	return nil, "message-size", no // memory takes everything: nothing else can go wrong
}
