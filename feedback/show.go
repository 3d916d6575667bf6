package feedback

import (
	"context"
	"time"

	"postern/store"
)

// A Status is what is known of one report.
type Status struct {
	Day      string    `json:"day"`
	Domain   string    `json:"domain"`
	State    string    `json:"state"` // collecting, waiting, failing, sent, refused
	Messages int64     `json:"messages"`
	Records  int       `json:"records"`
	Due      time.Time `json:"due,omitzero"`
	Sent     time.Time `json:"sent,omitzero"`
	To       []string  `json:"to,omitempty"`
	Refused  []string  `json:"refused,omitempty"`
	Tries    int       `json:"failed_tries,omitempty"`
	Error    string    `json:"error,omitempty"`
}

// Statuses lists the reports that are known, the oldest day first.
func (r *Reporter) Statuses(ctx context.Context) ([]Status, error) {
	if err := r.Flush(ctx); err != nil {
		return nil, err
	}
	subjects, err := r.o.Tallies.Subjects(ctx)
	if err != nil {
		return nil, err
	}
	now := r.o.Now()
	today := day(now)
	all := []Status{}
	for i := range subjects {
		s := &subjects[i]
		st := stateOf(s)
		out := Status{
			Day: s.Day, Domain: s.Name, Messages: s.Count, Records: s.Rows, Sent: st.Done, To: st.Sent, Refused: st.Refused, Tries: st.Tries, Error: st.Error,
		}
		switch {
		case s.Closed && len(st.Sent) == 0:
			out.State = "refused"
		case s.Closed:
			out.State = "sent"
		case s.Day >= today:
			out.State = "collecting"
		case st.Error != "":
			out.State = "failing"
		default:
			out.State = "waiting"
		}
		if !s.Closed {
			out.Due = due(s, st, now)
		}
		all = append(all, out)
	}
	return all, nil
}

// XML writes the report about a domain as it would be sent, that of the last day
// with records if day is empty. store.ErrNotFound: there are no records.
func (r *Reporter) XML(ctx context.Context, domain, day string) ([]byte, error) {
	if err := r.Flush(ctx); err != nil {
		return nil, err
	}
	subjects, err := r.o.Tallies.Subjects(ctx)
	if err != nil {
		return nil, err
	}
	var last *store.Subject
	for i := range subjects {
		if s := &subjects[i]; s.Name == domain && s.Rows > 0 && (day == "" || s.Day == day) {
			last = s
		}
	}
	if last == nil {
		return nil, store.ErrNotFound
	}
	rep, _, err := r.build(ctx, r.o.Settings(), last)
	if err != nil {
		return nil, err
	}
	return rep.XML()
}
