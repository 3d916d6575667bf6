package audit

import (
	"io"
	"log/slog"
	"strconv"
	"time"
)

// A MailEvent is one line of the mail log: what became of a message, or of a
// message for one recipient. Its keys, in this order, are stable; those without
// a value are left out, but for id, msg and from:
//
//	time       when, in UTC                    level    "info"
//	id         of the transaction              msg      what happened: see the Msg constants
//	held       id in the quarantine            queued   id in the queue
//	                                           dir      "inbound" or "outbound"
//	client     address of the client           helo     what it called itself
//	from       reverse-path in <>              to       forward-path in <>
//	rcpts      number of recipients            size     of the message in bytes
//	subject    only if the policy wants it     relay    next hop: name[address]:port
//	tls        of the connection to it         delay    seconds since MAIL
//	dsn        enhanced status code            status   sent, deferred, bounced, held, rejected, discarded, released, deleted
//	reply      what was said                   score    of the message
//	rule       that decided                    action   disposition
//	queue      of the quarantine               symbols  names, separated by commas
//	spf dkim dmarc  results                    policy   hash of the policy
//	would      fate in watch mode              took     time to decide: "48ms", in JSON seconds
//	by         who did it                      reason   why it failed
//	client_tls of the client's session         client_cert  subject of its verified certificate
//
// A value with a space, a quote, "=", "\" or a character that could end or
// disguise a line is written as a JSON string.
type MailEvent struct {
	At     time.Time // default: now
	Level  slog.Level
	Msg    string
	ID     string
	Held   string // id in the quarantine
	Queued string // id in the queue

	Direction string
	Client    string
	Helo      string
	From      string // empty: the null reverse-path
	To        string // empty: not about one recipient
	Rcpts     int
	Size      int64
	Subject   string

	Relay  string
	TLS    string
	Delay  time.Duration
	DSN    string
	Status string
	Reply  string

	Scored  bool // Score stands in the line even if it is 0
	Score   float64
	Rule    string
	Action  string
	Queue   string
	Symbols []string
	SPF     string
	DKIM    string
	DMARC   string
	Policy  string
	Would   string
	Took    time.Duration
	By      string
	Reason  string

	ClientTLS  string // version and cipher; empty: in clear
	ClientCert string
}

// What a line of the mail log is about.
const (
	MsgVerdict   = "verdict"   // a message was judged
	MsgAccepted  = "accepted"  // a copy is in the queue
	MsgDelivered = "delivered" // the next hop has it
	MsgDeferred  = "deferred"  // it is tried again, by us or by the client
	MsgRejected  = "rejected"  // the client was told no
	MsgBounced   = "bounced"   // it cannot be delivered; the reverse-path is told
	MsgHeld      = "held"      // it is in quarantine
	MsgReleased  = "released"  // from quarantine
	MsgDeleted   = "deleted"   // from quarantine
	MsgDiscarded = "discarded" // by policy
)

// A MailLog writes the mail log. It is safe for concurrent use if its writer
// is, as a LineWriter is.
type MailLog struct {
	w        io.Writer
	json     bool
	subjects bool
	now      func() time.Time
}

// MailLogOptions are the settings of a MailLog.
type MailLogOptions struct {
	JSON     bool // JSON lines instead of logfmt
	Subjects bool // write subjects
	Now      func() time.Time
}

// NewMailLog returns a mail log that writes each line to w in one Write.
func NewMailLog(w io.Writer, o MailLogOptions) *MailLog {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &MailLog{w: w, json: o.JSON, subjects: o.Subjects, now: o.Now}
}

// Write writes the line of an event. A line that cannot be written is lost: the
// audit log, not this one, is the proof.
func (l *MailLog) Write(e MailEvent) {
	p := lines.Get().(*[]byte)
	defer lines.Put(p)
	b := (*p)[:0]
	if e.At.IsZero() {
		e.At = l.now()
	}
	if l.json {
		b = append(appendTime(append(b, `{"time":"`...), e.At), `","level":"`...)
		b = append(appendLevel(b, e.Level), '"')
	} else {
		b = append(appendTime(b, e.At), " level="...)
		b = appendLevel(b, e.Level)
	}
	k := keys{b, l.json}
	k.event(&e, l.subjects)
	b = k.b
	if l.json {
		b = append(b, '}')
	}
	b = append(b, '\n')
	*p = b
	l.w.Write(b)
}

// keys appends keys and values in either format.
type keys struct {
	b    []byte
	json bool
}

func (k *keys) event(e *MailEvent, subjects bool) {
	k.string("id", e.ID)
	k.string("msg", e.Msg)
	k.optional("held", e.Held)
	k.optional("queued", e.Queued)
	k.optional("dir", e.Direction)
	k.optional("client", e.Client)
	k.optional("helo", e.Helo)
	k.path("from", e.From)
	if e.To != "" {
		k.path("to", e.To)
	}
	k.int("rcpts", int64(e.Rcpts))
	k.int("size", e.Size)
	if subjects {
		k.optional("subject", e.Subject)
	}
	k.optional("relay", e.Relay)
	k.optional("tls", e.TLS)
	if e.Delay > 0 {
		k.float("delay", e.Delay.Seconds(), 2)
	}
	k.optional("dsn", e.DSN)
	k.optional("status", e.Status)
	k.optional("reply", e.Reply)
	if e.Scored || e.Score != 0 {
		k.float("score", e.Score, -1)
	}
	k.optional("rule", e.Rule)
	k.optional("action", e.Action)
	k.optional("queue", e.Queue)
	k.list("symbols", e.Symbols)
	k.optional("spf", e.SPF)
	k.optional("dkim", e.DKIM)
	k.optional("dmarc", e.DMARC)
	k.optional("policy", e.Policy)
	k.optional("would", e.Would)
	k.took(e.Took)
	k.optional("by", e.By)
	k.optional("reason", e.Reason)
	k.optional("client_tls", e.ClientTLS)
	k.optional("client_cert", e.ClientCert)
}

func (k *keys) key(name string) {
	if k.json {
		k.b = append(append(append(k.b, `,"`...), name...), `":`...)
	} else {
		k.b = append(append(append(k.b, ' '), name...), '=')
	}
}

func (k *keys) optional(name, value string) {
	if value != "" {
		k.string(name, value)
	}
}

func (k *keys) string(name, value string) {
	k.key(name)
	if k.json {
		k.b = appendString(k.b, value)
	} else {
		k.b = appendValue(k.b, value)
	}
}

// path writes <local@domain>, in JSON without the brackets.
func (k *keys) path(name, path string) {
	k.key(name)
	switch {
	case k.json:
		k.b = appendString(k.b, path)
	case path != "" && !plain(path):
		k.b = appendString(k.b, "<"+path+">")
	default:
		k.b = append(append(append(k.b, '<'), path...), '>')
	}
}

func (k *keys) int(name string, n int64) {
	if n > 0 {
		k.key(name)
		k.b = strconv.AppendInt(k.b, n, 10)
	}
}

func (k *keys) float(name string, f float64, digits int) {
	k.key(name)
	k.b = strconv.AppendFloat(k.b, f, 'f', digits, 64)
}

func (k *keys) took(d time.Duration) {
	if d <= 0 {
		return
	}
	if k.json {
		k.float("took", d.Seconds(), 6)
		return
	}
	k.key("took")
	if d >= 10*time.Millisecond {
		k.b = append(strconv.AppendInt(k.b, d.Milliseconds(), 10), "ms"...)
	} else {
		k.b = append(strconv.AppendFloat(k.b, float64(d.Microseconds())/1000, 'f', -1, 64), "ms"...)
	}
}

// list writes names: separated by commas, in JSON as an array.
func (k *keys) list(name string, values []string) {
	if len(values) == 0 {
		return
	}
	k.key(name)
	if k.json {
		sep := byte('[')
		for _, v := range values {
			k.b = appendString(append(k.b, sep), v)
			sep = ','
		}
		k.b = append(k.b, ']')
		return
	}
	safe := true
	for _, v := range values {
		safe = safe && plain(v)
	}
	if !safe {
		joined := ""
		for i, v := range values {
			if i > 0 {
				joined += ","
			}
			joined += v
		}
		k.b = appendValue(k.b, joined)
		return
	}
	for i, v := range values {
		if i > 0 {
			k.b = append(k.b, ',')
		}
		k.b = append(k.b, v...)
	}
}
