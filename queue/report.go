package queue

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/emersion/go-smtp"

	"postern/mail"
	"postern/relay"
	"postern/spool"
)

// Why nobody was told of a failure.
const (
	whyNull    = "null reverse-path: there is nobody to tell"
	whyInbound = "inbound: its reverse-path may be forged, no bounce is sent"
	whyNotify  = "the client asked that nobody be told"
)

// mayReport says whether a DSN about e may be sent, and if not, why.
func (o *Options) mayReport(e *spool.Entry) (bool, string) {
	switch {
	case e.From.IsNull():
		// RFC 3464 section 2: a DSN is never about a DSN. All of ours have the
		// null reverse-path, so that no loop of them can begin.
		return false, whyNull
	case e.Direction != mail.Outbound && o.Bounce != "always":
		return false, whyInbound
	}
	return true, ""
}

// wants reports whether the reverse-path is to be told of that; unset is what
// holds if the client did not say.
func wants(to *spool.Recipient, n smtp.DSNNotify, unset bool) bool {
	if len(to.Options.Notify) == 0 {
		return unset
	}
	return slices.Contains(to.Options.Notify, n) && !slices.Contains(to.Options.Notify, smtp.DSNNotifyNever)
}

// report tells the author what there is to tell after an attempt. Recipients
// whose failure could neither be told nor kept become pending again. It returns
// why nobody was told of a failure.
func (q *Queue) report(ctx context.Context, o *Options, r *result, content io.ReaderAt, size int64) string {
	e := &r.entry
	may, why := o.mayReport(e)
	var failed, tell, late, relayed []spool.Recipient
	for n, i := range r.at {
		to := ownWord(e.To[i], &r.outcomes[n])
		switch {
		case to.State == spool.Failed || to.State == spool.Expired:
			failed = append(failed, to)
			if may && wants(&to, smtp.DSNNotifyFailure, true) {
				tell = append(tell, to)
			}
		case to.State == spool.Delivered:
			// RFC 3461 section 5.2.2: who asked to be told of success and goes
			// on to a next hop that cannot tell it is told that it was relayed.
			if may && !r.outcomes[n].DSN && wants(&to, smtp.DSNNotifySuccess, false) {
				relayed = append(relayed, to)
			}
		case may && !e.Warned && wants(&to, smtp.DSNNotifyDelayed, o.DelayNotify) && o.older(e, r.now, o.DelayAfter):
			late = append(late, to)
		}
	}
	send := func(kind ReportKind, to []spool.Recipient) error {
		return q.send(ctx, o, &Report{Kind: kind, Entry: *e, To: to, Content: content, Size: size, Date: r.now})
	}
	if len(relayed) > 0 {
		if err := send(ReportRelayed, relayed); err != nil {
			o.Log.Error("cannot tell the reverse-path that mail was relayed", "id", e.ID, "err", err)
		}
	}
	if len(late) > 0 {
		if err := send(ReportDelayed, late); err != nil {
			o.Log.Error("cannot tell the reverse-path that mail is late; tried again with the next attempt", "id", e.ID, "err", err)
		} else {
			e.Warned = true
		}
	}
	if len(failed) == 0 {
		return ""
	}
	var err error
	switch {
	case len(tell) > 0:
		err = send(ReportFailed, tell)
		why = ""
	case may:
		why = whyNotify
	default:
		err = q.keep(ctx, o, e, failed, why, content, size)
	}
	if err != nil {
		q.hold(o, r, err)
	}
	return why
}

// ownWord returns the recipient as a report tells of it: without a next hop if
// the reply is our own word for what happened.
func ownWord(to spool.Recipient, out *relay.Outcome) spool.Recipient {
	if !out.Said {
		to.Hop = ""
	}
	return to
}

// send builds and submits a DSN.
func (q *Queue) send(ctx context.Context, o *Options, r *Report) error {
	o.complete(r)
	return guard(func() error {
		b, err := BuildDSN(r)
		if err != nil {
			return fmt.Errorf("build DSN: %w", err)
		}
		if _, err := o.Submit(ctx, mail.Path{}, []mail.Recipient{{Path: r.Entry.From}}, b); err != nil {
			return fmt.Errorf("submit DSN: %w", err)
		}
		return nil
	})
}

// keep gives what failed silently to Options.Keep.
func (q *Queue) keep(ctx context.Context, o *Options, e *spool.Entry, failed []spool.Recipient, why string, content io.ReaderAt, size int64) error {
	if o.Keep == nil || content == nil {
		o.Log.Warn("mail that could not be delivered is dropped", "id", e.ID, "why", why)
		return nil
	}
	kept := *e
	kept.To = failed
	return guard(func() error { return o.Keep(ctx, kept, content, size) })
}

// hold makes failed recipients pending again: nobody knows of their failure
// yet. What cannot be told in twice the time to expire is given up.
func (q *Queue) hold(o *Options, r *result, cause error) {
	e := &r.entry
	if o.older(e, r.now, 2*o.Expire) {
		o.Log.Error("mail is dropped, and its reverse-path cannot be told", "id", e.ID, "from", e.From.String(), "err", cause)
		return
	}
	o.Log.Error("cannot tell the reverse-path that mail failed; the mail stays in the queue", "id", e.ID, "err", cause)
	for _, i := range r.at {
		if s := e.To[i].State; s == spool.Failed || s == spool.Expired {
			e.To[i].State = spool.Pending
		}
	}
}

// Bounce makes the DSN that tells the author of m that the recipients of e
// failed: for mail that was refused for some of its recipients after it had
// been accepted.
func (q *Queue) Bounce(e spool.Entry, m *mail.Message) ([]byte, error) {
	o := q.options()
	r := &Report{Kind: ReportFailed, Entry: e, To: e.To, Content: m.ReaderAt(), Size: m.Size(), Date: o.Now()}
	o.complete(r)
	return BuildDSN(r)
}

// complete fills in what comes from the settings.
func (o *Options) complete(r *Report) {
	r.Hostname, r.Author, r.Language, r.ReturnMax = o.Hostname, o.Author, o.Language, o.ReturnMax
	r.Unique = fmt.Sprintf("%012x%08x", uint64(r.Date.UnixMicro())&(1<<48-1), uint32(o.Rand()*(1<<32)))
	if r.Kind == ReportDelayed && !r.Entry.Received.IsZero() {
		r.Until = r.Entry.Received.Add(o.Expire)
	}
}
