package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// Errors of the decoder. Both mean that an entry is set aside.
var (
	errMalformed = errors.New("malformed record")
	errVersion   = errors.New("record of another version")
)

// An encoder appends values to a record. Numbers are varints, strings and
// lists are preceded by their length.
type encoder struct{ b []byte }

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }

func (e *encoder) string(s string) {
	e.uint(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) bytes(p []byte) {
	e.uint(uint64(len(p)))
	e.b = append(e.b, p...)
}

func (e *encoder) bool(v bool) {
	n := byte(0)
	if v {
		n = 1
	}
	e.b = append(e.b, n)
}

// time writes nanoseconds since 1970 in UTC; 0 is the zero Time.
func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.int(0)
		return
	}
	e.int(t.UnixNano())
}

func (e *encoder) path(p mail.Path) {
	e.string(p.Local)
	e.string(p.Domain)
}

func (e *encoder) addr(a netip.AddrPort) {
	if !a.IsValid() {
		e.string("")
		return
	}
	b, _ := a.MarshalBinary() // never fails
	e.string(string(b))
}

// A decoder reads what an encoder wrote. The first error sticks; everything
// after it is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = errMalformed
	}
	d.b = nil
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) bool() bool {
	if len(d.b) == 0 || d.b[0] > 1 {
		d.fail()
		return false
	}
	v := d.b[0] == 1
	d.b = d.b[1:]
	return v
}

// count reads the length of a list whose elements take at least one byte each,
// so that a damaged length cannot ask for more memory than there are bytes.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) time() time.Time {
	n := d.int()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func (d *decoder) path() mail.Path {
	return mail.Path{Local: d.string(), Domain: d.string()}
}

func (d *decoder) addr() netip.AddrPort {
	p := d.bytes()
	var a netip.AddrPort
	if len(p) > 0 && a.UnmarshalBinary(p) != nil {
		d.fail()
	}
	return a
}

// entry writes e. The order of the fields is the format: a change of it is a
// new Format.
func (w *encoder) entry(e *Entry) {
	w.uint(Format)
	w.string(e.ID)
	w.string(e.Transaction)
	w.time(e.Received)
	w.int(e.Size)
	w.path(e.From)
	w.mailOptions(&e.Options)
	w.uint(uint64(len(e.To)))
	for i := range e.To {
		w.recipient(&e.To[i])
	}
	w.bool(e.EightBit)
	w.bool(e.UTF8)
	w.string(e.Upstream)
	w.string(e.Demands.TLS)
	w.bool(e.Demands.RequireTLS)
	w.bool(e.Demands.Encrypted)
	w.string(string(e.Direction))
	w.session(&e.Session)
	w.string(e.Rule)
	w.string(e.Policy)
	w.int(int64(e.Attempts))
	w.time(e.LastAttempt)
	w.time(e.NextAttempt)
	w.bool(e.Suspended)
	w.bool(e.Warned)
}

// decodeEntry reads one whole entry. Nothing may follow it.
func decodeEntry(b []byte) (Entry, error) {
	r := &decoder{b: b}
	var e Entry
	e.Format = int(r.uint())
	if r.err == nil && e.Format != Format {
		return Entry{}, fmt.Errorf("%w: entry format %d", errVersion, e.Format)
	}
	e.ID = r.string()
	e.Transaction = r.string()
	e.Received = r.time()
	e.Size = r.int()
	e.From = r.path()
	r.mailOptions(&e.Options)
	if n := r.count(); n > 0 {
		e.To = make([]Recipient, 0, min(n, len(r.b)/16+1))
		for range n {
			e.To = append(e.To, r.recipient())
			if r.err != nil {
				break
			}
		}
	}
	e.EightBit = r.bool()
	e.UTF8 = r.bool()
	e.Upstream = r.string()
	e.Demands = mail.Demands{TLS: r.string(), RequireTLS: r.bool(), Encrypted: r.bool()}
	e.Direction = mail.Direction(r.string())
	r.session(&e.Session)
	e.Rule = r.string()
	e.Policy = r.string()
	e.Attempts = int(r.int())
	e.LastAttempt = r.time()
	e.NextAttempt = r.time()
	e.Suspended = r.bool()
	e.Warned = r.bool()
	if r.err == nil && (len(r.b) > 0 || e.ID == "") {
		r.fail()
	}
	if r.err != nil {
		return Entry{}, r.err
	}
	return e, nil
}

func (w *encoder) mailOptions(o *smtp.MailOptions) {
	w.string(string(o.Body))
	w.int(o.Size)
	w.bool(o.RequireTLS)
	w.bool(o.UTF8)
	w.string(string(o.Return))
	w.string(o.EnvelopeID)
	w.bool(o.Auth != nil)
	if o.Auth != nil {
		w.string(*o.Auth)
	}
}

func (r *decoder) mailOptions(o *smtp.MailOptions) {
	o.Body = smtp.BodyType(r.string())
	o.Size = r.int()
	o.RequireTLS = r.bool()
	o.UTF8 = r.bool()
	o.Return = smtp.DSNReturn(r.string())
	o.EnvelopeID = r.string()
	if r.bool() {
		auth := r.string()
		o.Auth = &auth
	}
}

func (w *encoder) recipient(to *Recipient) {
	w.path(to.Path)
	w.rcptOptions(&to.Options)
	w.uint(uint64(to.State))
	w.int(int64(to.Reply.Code))
	for _, n := range to.Reply.Enhanced {
		w.int(int64(n))
	}
	w.string(to.Reply.Text)
	w.string(to.Hop)
	w.time(to.At)
}

func (r *decoder) recipient() Recipient {
	var to Recipient
	to.Path = r.path()
	r.rcptOptions(&to.Options)
	if n := r.uint(); n < uint64(len(stateWords)) {
		to.State = State(n)
	} else {
		r.fail()
	}
	to.Reply.Code = int(r.int())
	for i := range to.Reply.Enhanced {
		to.Reply.Enhanced[i] = int(r.int())
	}
	to.Reply.Text = r.string()
	to.Hop = r.string()
	to.At = r.time()
	return to
}

func (w *encoder) rcptOptions(o *smtp.RcptOptions) {
	w.uint(uint64(len(o.Notify)))
	for _, n := range o.Notify {
		w.string(string(n))
	}
	w.string(string(o.OriginalRecipientType))
	w.string(o.OriginalRecipient)
	w.time(o.RequireRecipientValidSince)
	w.bool(o.DeliverBy != nil)
	if o.DeliverBy != nil {
		w.int(int64(o.DeliverBy.Time))
		w.string(string(o.DeliverBy.Mode))
		w.bool(o.DeliverBy.Trace)
	}
	w.bool(o.MTPriority != nil)
	if o.MTPriority != nil {
		w.int(int64(*o.MTPriority))
	}
}

func (r *decoder) rcptOptions(o *smtp.RcptOptions) {
	for range r.count() {
		o.Notify = append(o.Notify, smtp.DSNNotify(r.string()))
		if r.err != nil {
			return
		}
	}
	o.OriginalRecipientType = smtp.DSNAddressType(r.string())
	o.OriginalRecipient = r.string()
	o.RequireRecipientValidSince = r.time()
	if r.bool() {
		o.DeliverBy = &smtp.DeliverByOptions{
			Time: time.Duration(r.int()), Mode: smtp.DeliverByMode(r.string()), Trace: r.bool(),
		}
	}
	if r.bool() {
		p := int(r.int())
		o.MTPriority = &p
	}
}

func (w *encoder) session(s *mail.Session) {
	for _, v := range []string{s.ID, s.Listener, string(s.Role), s.Protocol, s.ClientName, s.Helo, s.User,
		s.TLS.Version, s.TLS.Cipher, s.TLS.ServerName, s.TLS.ClientCert, string(s.Direction)} {
		w.string(v)
	}
	w.addr(s.Peer)
	w.addr(s.Local)
	w.addr(s.Client)
	w.bool(s.ESMTP)
	w.bool(s.Forwarded)
}

func (r *decoder) session(s *mail.Session) {
	s.ID = r.string()
	s.Listener = r.string()
	s.Role = mail.Role(r.string())
	s.Protocol = r.string()
	s.ClientName = r.string()
	s.Helo = r.string()
	s.User = r.string()
	s.TLS = mail.TLSFacts{Version: r.string(), Cipher: r.string(), ServerName: r.string(), ClientCert: r.string()}
	s.Direction = mail.Direction(r.string())
	s.Peer = r.addr()
	s.Local = r.addr()
	s.Client = r.addr()
	s.ESMTP = r.bool()
	s.Forwarded = r.bool()
}
