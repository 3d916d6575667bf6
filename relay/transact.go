package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// A rank orders what may be known of a recipient; the higher one is kept when
// several addresses of a next hop were tried.
type rank uint8

const (
	unknown   rank = iota
	lacking        // an address was reached that cannot take such a message
	down           // an address could not be reached, or broke off before the content's end
	putOff         // an address said 4xx before the content: another may be tried
	settled        // no other address is to be tried
	delivered      // the next hop took it
)

// A result is what one transaction yielded for one recipient.
type result struct {
	rank  rank
	reply mail.Reply
	said  bool // by the next hop
	err   error
	hop   string // label of the connection
	tls   string
	dsn   bool
}

// A transaction is one mail transaction on one connection (RFC 5321 section
// 3.3) with some of a mail's recipients.
type transaction struct {
	c       *conn
	m       *Mail
	hop     *Hop
	probe   bool     // only ask for the recipients
	to      []int    // places in m.To
	results []result // one per place in to
	utf8    bool

	written int // octets of c.out that were written
	read    int // replies read so far

	begun   bool  // the next hop answered MAIL
	endSent bool  // the end of the content may have reached the next hop
	broken  error // the connection is of no more use
}

// run carries the mail over. It returns true if a connection from the pool
// turned out to be of no use before the next hop answered MAIL and before it can
// have got all: the same may be tried on a new one.
func (t *transaction) run(ctx context.Context) (stale bool) {
	t.c.ctx = ctx
	t.c.used++
	var f *failure
	if ctx.Done() == nil {
		f = t.speak()
	} else {
		stop := context.AfterFunc(ctx, t.c.interrupt)
		f = t.speak()
		if !stop() && f == nil {
			t.broken = context.Cause(ctx)
		}
	}
	if f == nil {
		if t.broken == nil {
			t.broken = t.c.settled()
		}
		return false
	}
	t.broken = f.cause
	t.fail(f)
	return t.c.used > 1 && !t.begun && !t.endSent && !errors.Is(f.cause, errContent) && ctx.Err() == nil
}

// speak is the dialogue.
func (t *transaction) speak() *failure {
	switch {
	case t.probe:
		return t.ask()
	case t.c.caps.chunking:
		return t.viaBDAT()
	}
	return t.viaDATA()
}

// fail gives every recipient that has no result yet what befell the connection.
func (t *transaction) fail(f *failure) {
	r := result{rank: down, reply: f.reply, said: errors.Is(f.cause, errCloses), err: f.cause}
	if t.endSent || f.reply.Permanent() || errors.Is(f.cause, errContent) {
		// The next hop may have taken the message: fail closed, and do not send
		// it a second time. Where our own content is at fault, no other address
		// would help.
		r.rank = settled
	}
	for i := range t.results {
		if t.results[i].rank == unknown {
			t.results[i] = r
		}
	}
}

// errCloses says that the next hop ended the session with a 421.
var errCloses = errors.New("next hop closes")

// isGone reports whether err says that the other end closed the connection.
func isGone(err error) bool {
	for _, gone := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, errCloses} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}

// prepare writes RSET if need be, XFORWARD, MAIL and RCPT into the buffer.
func (t *transaction) prepare() (xforwards int, rset bool, f *failure) {
	c := t.c
	c.out, c.ends = c.out[:0], c.ends[:0]
	if c.dirty {
		c.out = append(c.out, "RSET\r\n"...)
		t.c.ends = append(t.c.ends, len(c.out))
	}
	if t.hop.XForward && t.m.Client != nil && c.caps.xforward != 0 {
		start := len(c.out)
		c.out, xforwards = appendXForward(c.out, t.m, c.caps.xforward)
		for i, ch := range c.out[start:] {
			if ch == '\n' {
				t.c.ends = append(t.c.ends, start+i+1)
			}
		}
	}
	var err error
	out := c.out
	if out, err = appendMail(out, t.m, &c.caps, t.utf8); err != nil {
		return 0, false, &failure{replyBadFrom, err}
	}
	t.c.ends = append(t.c.ends, len(out))
	for _, i := range t.to {
		if out, err = appendRcpt(out, &t.m.To[i], &c.caps, t.utf8); err != nil {
			return 0, false, &failure{replyBadTo, err}
		}
		t.c.ends = append(t.c.ends, len(out))
	}
	rset = c.dirty
	c.out, c.dirty = out, true
	return xforwards, rset, nil
}

// add appends one more command to the group.
func (t *transaction) add(command string) {
	t.c.out = append(t.c.out, command...)
	t.c.ends = append(t.c.ends, len(t.c.out))
}

// next returns the reply to the next command. It sends what was not sent yet:
// all at once with PIPELINING (RFC 2920), else this one.
func (t *transaction) next() (mail.Reply, *failure) {
	end := t.c.ends[t.read]
	if t.c.caps.pipelining {
		end = len(t.c.out)
	}
	if t.written < end {
		t.c.writeDeadline(t.c.o.CommandTimeout)
		_, err := t.c.Write(t.c.out[t.written:end])
		t.written = end
		if err != nil {
			return mail.Reply{}, &failure{replyLost, fmt.Errorf("send commands: %w", err)}
		}
	}
	reply, f := t.reply(t.c.o.CommandTimeout)
	if f == nil {
		t.read++
	}
	return reply, f
}

// reply reads one reply. A 421 counts as the end of the connection: RFC 5321
// section 3.8 lets a server say it at any time.
func (t *transaction) reply(limit time.Duration) (mail.Reply, *failure) {
	if !t.c.r.ahead() {
		t.c.readDeadline(limit)
		if t.partly() && t.c.socket != nil {
			_ = t.c.socket.Control(quickAck) // without it the rest comes a little later
		}
	}
	reply, err := t.c.read(nil)
	switch {
	case errors.Is(err, errGarbage):
		return mail.Reply{}, &failure{replyGarbage, err}
	case err != nil:
		return mail.Reply{}, &failure{replyLost, err}
	case reply.Code == 421:
		return mail.Reply{}, &failure{forClient(reply), fmt.Errorf("%w: %s", errCloses, reply)}
	}
	return reply, nil
}

// partly reports whether some of the replies to what was sent in one write have
// come and others have not: these may wait for our ACK of those.
func (t *transaction) partly() bool {
	return t.read > 0 && (t.read < len(t.c.ends) || t.hop.LMTP)
}

// forClient returns a next hop's reply as it may be said to our own client: a
// 421 would say that *we* close.
func forClient(r mail.Reply) mail.Reply {
	if r.Code == 421 {
		r.Code = 451
	}
	return r
}

// envelope reads the replies to the group up to the last RCPT and returns how
// many recipients were accepted.
func (t *transaction) envelope(xforwards int, rset bool) (accepted int, f *failure) {
	if rset {
		reply, f := t.next()
		if f != nil {
			return 0, f
		}
		if !reply.OK() {
			return 0, &failure{replyGarbage, fmt.Errorf("%w: RSET: %s", errGarbage, reply)}
		}
	}
	for range xforwards {
		// A next hop that does not want to know is no reason to keep mail back.
		if _, f := t.next(); f != nil {
			return 0, f
		}
	}
	from, f := t.next()
	if f != nil {
		return 0, f
	}
	if bad := unexpected("MAIL", from); bad != nil {
		return 0, bad
	}
	t.begun = true
	if !from.OK() {
		r := refusal(from)
		r.err = fmt.Errorf("%w: %w", errFromRefused, r.err)
		t.settle(r)
		if !t.c.caps.pipelining {
			t.c.out, t.c.ends = t.c.out[:t.written], t.c.ends[:t.read]
			return 0, nil // the rest need not be said
		}
	}
	for i := range t.to {
		reply, f := t.next()
		if f != nil {
			return accepted, f
		}
		if bad := unexpected("RCPT", reply); bad != nil {
			return accepted, bad
		}
		switch {
		case !from.OK():
		case reply.OK():
			t.results[i].reply = reply
			accepted++
		default:
			t.results[i] = refusal(reply)
		}
	}
	return accepted, nil
}

// unexpected returns a failure if a reply is neither yes nor no.
func unexpected(verb string, r mail.Reply) *failure {
	if r.OK() || r.Temporary() || r.Permanent() {
		return nil
	}
	return &failure{replyGarbage, fmt.Errorf("%w: %s: %s", errGarbage, verb, r)}
}

// refusal makes a result of a 4xx or 5xx that came before the content.
func refusal(r mail.Reply) result {
	k := settled
	if r.Temporary() {
		k = putOff
	}
	return result{rank: k, reply: forClient(r), said: true, err: fmt.Errorf("next hop refused: %s", r)}
}

// viaDATA sends MAIL, RCPT and DATA, and the content when the next hop asks for
// it.
func (t *transaction) viaDATA() *failure {
	xforwards, rset, f := t.prepare()
	if f != nil {
		return f
	}
	if t.c.caps.pipelining {
		t.add("DATA\r\n")
	}
	accepted, f := t.envelope(xforwards, rset)
	if f != nil {
		return f
	}
	if !t.c.caps.pipelining {
		if accepted == 0 {
			return nil
		}
		t.add("DATA\r\n")
	}
	reply, f := t.next()
	switch {
	case f != nil:
		return f
	case accepted == 0:
		return t.loneDot(reply)
	case reply.Temporary() || reply.Permanent():
		t.settle(refusal(reply))
		return nil
	case reply.Code != 354:
		return &failure{replyGarbage, fmt.Errorf("%w: DATA: %s", errGarbage, reply)}
	}
	return t.content("", true)
}

// loneDot ends a DATA that the next hop allowed although it refused every
// recipient. RFC 2920 section 3.1: the client sends a lone dot. Nothing that it
// answers makes a delivery.
func (t *transaction) loneDot(reply mail.Reply) *failure {
	switch {
	case reply.Temporary() || reply.Permanent():
		return nil
	case reply.Code != 354:
		return &failure{replyGarbage, fmt.Errorf("%w: DATA without recipients: %s", errGarbage, reply)}
	}
	t.c.writeDeadline(t.c.o.CommandTimeout)
	if _, err := t.c.Write([]byte(".\r\n")); err != nil {
		return &failure{replyLost, fmt.Errorf("send lone dot: %w", err)}
	}
	for range t.finals(0) {
		if reply, f := t.reply(t.c.o.CommandTimeout); f != nil {
			return f
		} else if !reply.Temporary() && !reply.Permanent() {
			return &failure{replyGarbage, fmt.Errorf("%w: lone dot: %s", errGarbage, reply)}
		}
	}
	return nil
}

// ask says MAIL and RCPT, and takes it back with RSET. Recipients that are
// accepted count as delivered.
func (t *transaction) ask() *failure {
	xforwards, rset, f := t.prepare()
	if f != nil {
		return f
	}
	if t.c.caps.pipelining {
		t.add("RSET\r\n")
	}
	if _, f := t.envelope(xforwards, rset); f != nil {
		return f
	}
	for i := range t.results {
		if r := &t.results[i]; r.rank == unknown {
			r.rank = delivered
		}
	}
	if !t.c.caps.pipelining {
		t.add("RSET\r\n")
	}
	reply, f := t.next()
	t.c.dirty = f != nil || !reply.OK()
	return f
}

// Bounds for sending the content in the same write as the envelope.
const (
	bdatAtOnce = 64 << 10        // larger ones wait for the recipients' replies
	bdatFresh  = 3 * time.Second // a connection idle for longer may be dead without our knowing
)

// viaBDAT (RFC 3030) sends MAIL, RCPT and BDAT: all in one write if the content is small
// and the connection was alive a moment ago. On another the replies to the
// envelope are awaited: as long as the content's end was not sent, a dead
// connection is no harm.
func (t *transaction) viaBDAT() *failure {
	xforwards, rset, f := t.prepare()
	if f != nil {
		return f
	}
	command := "BDAT " + strconv.FormatInt(t.m.Size, 10) + " LAST\r\n"
	if t.c.caps.pipelining && t.m.Size <= bdatAtOnce && (t.c.used == 1 || time.Since(t.c.idle) < bdatFresh) {
		t.add(command)
		return t.allAtOnce(xforwards, rset)
	}
	accepted, f := t.envelope(xforwards, rset)
	if f != nil || accepted == 0 {
		return f
	}
	return t.content(command, false)
}

// allAtOnce writes the group and the content together.
func (t *transaction) allAtOnce(xforwards int, rset bool) *failure {
	t.written = len(t.c.out)
	// The replies to the envelope may come while the content is still going out.
	if err := t.send(t.c.out, false, false); err != nil {
		return contentFailure(err)
	}
	accepted, f := t.envelope(xforwards, rset)
	if f != nil {
		return f
	}
	if accepted > 0 {
		return t.final()
	}
	// RFC 3030 section 2: with no recipient a BDAT fails; the chunk is thrown away.
	reply, f := t.next()
	if f == nil && !reply.Temporary() && !reply.Permanent() {
		f = &failure{replyGarbage, fmt.Errorf("%w: BDAT without recipients: %s", errGarbage, reply)}
	}
	return f
}

// send writes what stands before the content, and the content; with stuff it
// adds dots and the end that DATA wants.
func (t *transaction) send(before []byte, stuff, early bool) error {
	w := newContentWriter(t.c, stuff)
	defer w.free()
	if err := w.add(before); err != nil {
		return err
	}
	if err := w.content(t.m); err != nil {
		return err
	}
	return w.end(&t.endSent, early)
}

// content sends the content, after a command if there is one, and reads what the
// next hop says to it.
func (t *transaction) content(command string, stuff bool) *failure {
	err := t.send([]byte(command), stuff, true)
	if err == nil {
		return t.final()
	}
	if !errors.Is(err, errEarly) && !isGone(err) {
		return contentFailure(err)
	}
	// It may have said why: 552 for a message that grows too large, say. A yes
	// is worth nothing here.
	t.c.readDeadline(time.Second)
	reply, readErr := t.c.read(nil)
	switch {
	case readErr != nil:
		return &failure{replyLost, errors.Join(err, readErr)}
	case reply.Code != 421 && (reply.Temporary() || reply.Permanent()):
		t.settle(result{rank: settled, reply: reply, said: true, err: fmt.Errorf("next hop refused in mid-content: %s", reply)})
	}
	return contentFailure(err)
}

// contentFailure says what an error while sending the content means.
func contentFailure(err error) *failure {
	switch {
	case errors.Is(err, errBareLF):
		return &failure{replyContent, err}
	case errors.Is(err, errContent):
		return &failure{mail.ReplyTryAgain, err}
	case errors.Is(err, errEarly):
		return &failure{replyGarbage, err}
	}
	return &failure{replyLost, err}
}

// settle gives the recipients that were accepted so far one result.
func (t *transaction) settle(r result) {
	for i := range t.results {
		if t.results[i].rank == unknown {
			t.results[i] = r
		}
	}
}

// finals returns how many replies follow the content: RFC 2033 section 4.2
// wants one for each of the accepted recipients, SMTP has one.
func (t *transaction) finals(accepted int) int {
	if t.hop.LMTP {
		return accepted
	}
	return 1
}

// final reads the replies to the content. From here on, only a 2xx delivers and
// only a 4xx or 5xx refuses; all else leaves it open and is a temporary failure.
func (t *transaction) final() *failure {
	limit := t.hop.Timeout
	if limit <= 0 {
		limit = 5 * time.Minute
	}
	all := true
	for i := range t.results {
		if t.results[i].rank != unknown {
			continue
		}
		reply, f := t.reply(limit)
		if f != nil {
			return f
		}
		if bad := unexpected("end of content", reply); bad != nil {
			return bad
		}
		r := result{rank: delivered, reply: reply, said: true}
		if !reply.OK() {
			r = result{rank: settled, reply: forClient(reply), said: true, err: fmt.Errorf("next hop refused the content: %s", reply)}
			all = false
		}
		if !t.hop.LMTP {
			t.settle(r)
			break
		}
		t.results[i] = r
	}
	t.c.dirty = !all
	return nil
}

// lacks returns a failure if the next hop cannot take such a message. It is
// never converted into one that it can take.
func (t *transaction) lacks() *failure {
	m, caps := t.m, &t.c.caps
	t.utf8 = caps.utf8 && (m.needsUTF8() || m.Options.UTF8)
	lack := func(reply mail.Reply, what string) *failure {
		return &failure{reply, fmt.Errorf("%s does not offer %s", t.c.label, what)}
	}
	switch {
	case m.requireTLS() && !t.c.key.isUnix() && !(t.c.verified && caps.requireTLS):
		return lack(replyNoReq, "REQUIRETLS") // RFC 8689 section 4.2.1
	case !caps.utf8 && (m.addressesUTF8() || m.UTF8 && !m.inASCII()):
		return lack(replyNoUTF8, "SMTPUTF8") // RFC 6531 section 3.2
	case !caps.eightBit && m.EightBit && !m.inASCII():
		return lack(replyNo8Bit, "8BITMIME") // RFC 6152 section 3
	case m.Options.Body == smtp.BodyBinaryMIME && !(caps.binary && caps.chunking):
		return lack(replyNo8Bit, "BINARYMIME") // RFC 3030 section 3
	case caps.size > 0 && m.Size > caps.size:
		return lack(replyTooBig, fmt.Sprintf("room for %d octets", m.Size)) // RFC 1870 section 6.1
	}
	return nil
}

// requireTLS reports whether REQUIRETLS holds for the message (RFC 8689).
func (m *Mail) requireTLS() bool { return m.Demands.RequireTLS || m.Options.RequireTLS }

// needsUTF8 reports whether the message may only go as an internationalised one.
func (m *Mail) needsUTF8() bool { return m.UTF8 || m.addressesUTF8() }

// addressesUTF8 reports whether an address of the envelope is not ASCII.
func (m *Mail) addressesUTF8() bool {
	if !isASCII(m.From.Local) || !isASCII(m.From.Domain) {
		return true
	}
	for i := range m.To {
		if !isASCII(m.To[i].Local) || !isASCII(m.To[i].Domain) {
			return true
		}
	}
	return false
}

// inASCII reports whether the content is ASCII throughout, though more was
// declared: many clients declare what they could send. Content that cannot be
// read counts as more.
func (m *Mail) inASCII() bool {
	for _, p := range m.Bytes {
		if !isASCII(p) {
			return false
		}
	}
	if m.Bytes != nil || m.Content == nil {
		return true
	}
	r := m.Content()
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	block := make([]byte, 32<<10)
	for {
		n, err := r.Read(block)
		switch {
		case !isASCII(block[:n]):
			return false
		case err != nil:
			return err == io.EOF
		}
	}
}
