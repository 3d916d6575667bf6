package feedback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"postern/filters/dmarc"
	"postern/filters/dmarc/report"
	"postern/mail"
	"postern/store"
)

// When a report is sent, after the end of its day, and again if that failed.
const (
	quiet     = 10 * time.Minute
	spread    = 3 * time.Hour
	firstWait = 15 * time.Minute
	longWait  = 6 * time.Hour
	oneTurn   = time.Minute // of sending; then counts are written again
)

// A state is what is kept of the sending of a report.
type state struct {
	Next    time.Time // of the next try
	Tries   int       // that failed
	Error   string    // of the last one
	Sent    []string  // addresses that have it
	Refused []string  // addresses that get none, and why
	Done    time.Time // zero: not yet
}

func stateOf(s *store.Subject) state {
	var st state
	if len(s.State) > 0 {
		if err := json.Unmarshal(s.State, &st); err != nil {
			st.Error = "its state cannot be read: " + err.Error()
		}
	}
	return st
}

// due is when a report is to be sent: the same time whoever asks. A next try that
// is further away than any is was noted when the clock was wrong.
func due(s *store.Subject, st state, now time.Time) time.Time {
	if !st.Next.IsZero() && !st.Next.After(now.Add(longWait)) {
		return st.Next
	}
	_, end, err := span(s.Day)
	if err != nil {
		return time.Time{}
	}
	h := fnv.New64a()
	fmt.Fprint(h, s.Day, s.Name)
	return end.Add(quiet + time.Duration(h.Sum64()%uint64(spread)))
}

// span is the first second of a day and the first one after it.
func span(day string) (begin, end time.Time, err error) {
	begin, err = time.Parse(time.DateOnly, day)
	return begin, begin.AddDate(0, 0, 1), err
}

// send sends what is due, for a time: domains whose DNS is slow keep neither the
// others waiting for long nor the counts from being written.
func (r *Reporter) send(ctx context.Context) {
	r.work.Lock()
	defer r.work.Unlock()
	set := r.o.Settings()
	if !set.On {
		return
	}
	subjects, err := r.o.Tallies.Subjects(ctx)
	if err != nil {
		r.o.Log.Error("send DMARC reports", "error", err)
		return
	}
	now := r.o.Now()
	ctx, cancel := context.WithTimeout(ctx, oneTurn)
	defer cancel()
	unsigned := !r.o.Signs(set.From.Domain)
	for i := range subjects {
		s := &subjects[i]
		st := stateOf(s)
		if s.Closed || s.Day >= day(now) || now.Before(due(s, st, now)) || ctx.Err() != nil {
			continue
		}
		if unsigned {
			unsigned = false // said once
			r.o.Log.Warn("DMARC reports are not signed with DKIM, so that nobody need believe them: [filter.dkimsign] needs a key", "domain", set.From.Domain)
		}
		err := r.sendOne(ctx, set, s, &st)
		switch {
		case err != nil && errors.Is(ctx.Err(), context.Canceled): // we stop: it has not failed
		case err != nil:
			st.Next, st.Error = now.Add(min(firstWait<<min(st.Tries, 10), longWait)), err.Error()
			st.Tries++
			r.o.Log.Warn("send DMARC report: it is tried again", "domain", s.Name, "day", s.Day, "next", st.Next, "error", err)
		default:
			st.Done, st.Error = now, ""
		}
		r.keep(ctx, s, st)
	}
}

// keep writes the state of a report down, although we may have been told to stop:
// what was sent is not to be sent again.
func (r *Reporter) keep(ctx context.Context, s *store.Subject, st state) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	text, err := json.Marshal(st)
	if err == nil {
		err = r.o.Tallies.Note(ctx, s.Day, s.Name, text, !st.Done.IsZero())
	}
	if err != nil {
		r.o.Log.Error("note that a DMARC report was sent: it may be sent again", "domain", s.Name, "day", s.Day, "error", err)
	}
}

// sendOne submits a report to everybody who has not got it yet. With an error it
// is to be tried again.
func (r *Reporter) sendOne(ctx context.Context, set Settings, s *store.Subject, st *state) error {
	rep, rua, err := r.build(ctx, set, s)
	if err != nil {
		return err
	}
	to, refused, err := dmarc.Destinations(ctx, r.o.Resolver, s.Name, rua)
	if err != nil {
		return err
	}
	st.Refused = refused
	var errs []error
	for _, d := range to {
		if slices.Contains(st.Sent, d.To.String()) {
			continue
		}
		content, err := rep.Mail(report.Envelope{From: set.From, To: d.To, Submitter: set.From.Domain, Date: r.o.Now()})
		if err != nil {
			return err
		}
		if d.Limit > 0 && int64(len(content)) > d.Limit {
			st.Refused = append(st.Refused, fmt.Sprintf("%s: the report has %d bytes, more than the %d it takes", d.To, len(content), d.Limit))
			continue
		}
		// The null reverse-path: a report that cannot be delivered comes back to
		// nobody, and begins no loop.
		id, err := r.o.Submit(ctx, mail.Path{}, []mail.Recipient{{Path: d.To}}, content)
		if err != nil {
			errs = append(errs, fmt.Errorf("to <%s>: %w", d.To, err))
			continue
		}
		st.Sent = append(st.Sent, d.To.String())
		r.o.Log.Info("DMARC report is sent", "domain", s.Name, "day", s.Day, "to", d.To.String(), "messages", s.Count, "id", id)
	}
	if len(st.Refused) > 0 {
		r.o.Log.Info("DMARC report is not sent to all", "domain", s.Name, "day", s.Day, "refused", strings.Join(st.Refused, "; "))
	}
	return errors.Join(errs...)
}

// build makes the report about a subject, and says where its domain wants it.
func (r *Reporter) build(ctx context.Context, set Settings, s *store.Subject) (*report.Report, []dmarc.URI, error) {
	var a about
	if err := json.Unmarshal(s.About, &a); err != nil {
		return nil, nil, fmt.Errorf("read what is known of %s: %w", s.Name, err)
	}
	begin, end, err := span(s.Day)
	if err != nil {
		return nil, nil, fmt.Errorf("read day: %w", err)
	}
	rep := &report.Report{
		Organisation: set.Organisation, Email: set.From.String(), Contact: set.Contact, Generator: r.o.Generator, Policy: a.Policy,
		// RFC 9990 section 3.5.1: unique among the reports to the domain.
		ID: s.Day + "." + s.Name + "@" + set.From.Domain, Begin: begin, End: end.Add(-time.Second),
	}
	if a.Misread {
		rep.Problems = []string{"a policy in the DMARC record is not none, quarantine or reject: p=none was assumed"}
	}
	rows, err := r.o.Tallies.Rows(ctx, s.Day, s.Name)
	if err != nil {
		return nil, nil, err
	}
	for _, row := range rows {
		rec := report.Record{Count: row.Count}
		if err := json.Unmarshal(row.Row, &rec); err != nil {
			return nil, nil, fmt.Errorf("read record of %s: %w", s.Name, err)
		}
		rec.Count = row.Count
		rep.Records = append(rep.Records, rec)
	}
	rep.Sort()
	return rep, a.RUA, nil
}
