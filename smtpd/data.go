package smtpd

import (
	"bytes"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// replyNoRcpts is the reply to content for nobody.
var replyNoRcpts = mail.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 5, 1}, Text: "no valid recipients"}

// data answers DATA (RFC 5321 section 4.1.1.4).
func (s *session) data(arg string) {
	if no := s.refuseData(arg); no.Code != 0 {
		if s.wire.ahead() {
			s.aheadOf("DATA") // content, which must not be read as commands
		} else {
			s.answer(no)
		}
		return
	}
	c := s.newContent()
	defer c.discard()
	d := dots{start: true}
	said, err := s.wire.ask("send the message; end with CRLF.CRLF", c.until(&s.set.Limits))
	switch {
	case said:
		s.set.Hooks.reply(354)
	case err == nil:
		s.aheadOf("DATA")
		return
	}
	for err == nil {
		n, end := d.next(s.wire.pending(), c)
		s.wire.consume(n)
		if end {
			if !d.met && !c.rewritten {
				c.body.SetDotless()
			}
			s.complete(c)
			return
		}
		err = s.wire.fill(c.until(&s.set.Limits), false)
	}
	s.cut(err)
}

// refuseData returns what to say to a DATA that cannot be; zero if it can.
func (s *session) refuseData(arg string) mail.Reply {
	switch {
	case arg != "":
		return replyNoArgument
	case s.tx == nil || s.chunks != nil:
		return replySequence
	case len(s.tx.Recipients) == 0:
		return replyNoRcpts
	}
	return mail.Reply{}
}

// dots takes the dots off that DATA adds to content, and finds its end (RFC 5321
// section 4.5.2).
type dots struct {
	start bool // at the start of a line: at the beginning, or after CR LF
	met   bool // a line began with a dot, but for the last
}

// next passes on as much of p as is certain. It returns how much of p it has
// used, and whether the content has ended. Only CR LF . CR LF ends it.
func (d *dots) next(p []byte, c *content) (used int, end bool) {
	from, i := 0, 0     // p[from:i] is to be passed on
	var lfs, ends int64 // LFs in it, and those among them that end a line
	pass := func(to int) {
		c.take(p[from:to], lfs, ends)
		from, lfs, ends = to, 0, 0
	}
	for {
		if d.start && i < len(p) && p[i] == '.' {
			pass(i)
			switch rest := p[i:]; {
			case len(rest) == 1 || rest[1] == '\r' && len(rest) == 2:
				return i, false
			case rest[1] == '\r' && rest[2] == '\n':
				return i + 3, true
			}
			i++
			from = i
			d.start, d.met = false, true
		}
		j := bytes.IndexByte(p[i:], '\n')
		if j < 0 {
			break
		}
		// A CR is never parted from what follows it, so it stands in p.
		d.start = i+j > 0 && p[i+j-1] == '\r'
		if lfs++; d.start {
			ends++
		}
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
	pass(n)
	return n, false
}

// complete ends the transaction with the content that was received whole.
func (s *session) complete(c *content) {
	c.finish()
	s.messages++
	s.junk = 0
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
	worst := mail.Reply{}
	for i := range n {
		r := mail.ReplyTryAgain
		switch {
		case i < len(rs):
			r = valid(rs[i])
		case len(rs) == 1 && !rs[0].OK():
			r = rs[0] // the whole message was refused
		}
		s.say(r)
		s.set.Hooks.reply(r.Code)
		if worst.Code != 421 && (r.Code > worst.Code || r.Code == 421) {
			worst = r
		}
	}
	s.judge(worst)
}
