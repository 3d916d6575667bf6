package dkimsign

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"postern/crypto/dkim"
	"postern/dns"
)

// A Rotation replaces the keys of domains so that no mail is signed with a key
// whose record verifiers cannot find. Each call of Step does what is safe now;
// what it must wait for, it waits for in a later call. Its memory is the
// directory: nothing else knows how far a rotation is.
type Rotation struct {
	Dir      string
	Resolver dns.Resolver
	Now      func() time.Time
	Kinds    []string      // of the keys to make
	Every    time.Duration // keys that have signed for so long are replaced
	Overlap  time.Duration // for so long old and new keys sign both
	Keep     time.Duration // for so long the record of a key that signs no more stays
	Begin    bool          // replace keys of any age
	Taken    []string      // selectors that are in use elsewhere

	// Note writes down what is about to be done to a key. If it fails, it is
	// not done.
	Note func(domain, selector, what string) error
	// Reload makes the running gateway use the keys as they are now.
	Reload func() error
}

// A KeyReport says how a key is after a step.
type KeyReport struct {
	Domain   string    `json:"domain"`
	Selector string    `json:"selector"`
	Kind     string    `json:"type"`
	State    State     `json:"state,omitempty"` // empty: it is gone
	Since    time.Time `json:"since"`
	DNS      string    `json:"dns,omitempty"`    // matches, missing, differs...: what was found, where it was asked for
	Done     string    `json:"done,omitempty"`   // what the step did
	Wait     string    `json:"wait,omitempty"`   // what happens next, and when
	Name     string    `json:"name,omitempty"`   // of the record to publish
	Record   string    `json:"record,omitempty"` // to publish now
}

// Waits reports whether somebody has to publish a record.
func (r *KeyReport) Waits() bool { return r.Record != "" }

// Step brings the keys of a domain as far as is safe now. Its reports are of
// every key of the domain. With an error they say what was done before it. Only
// one at a time steps in a directory, which must be there.
func (r *Rotation) Step(ctx context.Context, domain string) (_ []KeyReport, err error) {
	if err := guarded(r.Dir); err != nil {
		return nil, err
	}
	unlock, err := lock(r.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	s := &step{Rotation: r, domain: domain, now: r.Now()}
	if s.files, err = readDomain(r.Dir, domain); err != nil {
		return nil, err
	}
	if err := clear(r.Dir, domain); err != nil {
		return nil, err
	}
	for i := range s.files {
		f := &s.files[i]
		s.reports = append(s.reports, KeyReport{Domain: domain, Selector: f.Selector, Kind: f.Kind()})
	}
	for _, do := range []func(context.Context) error{s.promote, s.retire, s.bury, s.begin} {
		if err = do(ctx); err != nil {
			break
		}
	}
	if s.changed {
		err = errors.Join(err, r.Reload())
	}
	for i := range s.files {
		s.reports[i].State, s.reports[i].Since = s.files[i].State, s.files[i].Since
	}
	return s.reports, err
}

// A step is one call of Step.
type step struct {
	*Rotation
	domain  string
	now     time.Time
	files   []File
	reports []KeyReport // one of each file
	changed bool        // other keys sign now
}

// in returns the places of the keys in a state.
func (s *step) in(state State) []int {
	var at []int
	for i := range s.files {
		if s.files[i].State == state {
			at = append(at, i)
		}
	}
	return at
}

// earlier compares the times of two keys.
func (s *step) earlier(a, b int) int { return s.files[a].Since.Compare(s.files[b].Since) }

// look asks DNS for the record of a key.
func (s *step) look(ctx context.Context, i int) dkim.Publication {
	p := dkim.Published(ctx, s.Resolver, s.files[i].Selector, s.domain, s.files[i].Key.Public())
	s.reports[i].DNS = p.State
	return p
}

// publish asks for a record.
func (s *step) publish(i int, record string) {
	s.reports[i].Name, s.reports[i].Record = dkim.RecordName(s.files[i].Selector, s.domain), record
}

// move brings a key into a state, which is noted before.
func (s *step) move(i int, to State, what string) error {
	if err := s.Note(s.domain, s.files[i].Selector, what); err != nil {
		return err
	}
	if err := s.files[i].move(to, s.now); err != nil {
		return err
	}
	s.reports[i].Done = what
	s.changed = true
	return nil
}

// when writes a time for people.
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// bury removes keys that sign no more, once nobody can be misled by their
// records.
func (s *step) bury(ctx context.Context) error {
	old := s.in(Old)
	if len(old) == 0 {
		return nil
	}
	// A gateway that has not read the directory since may still sign with them.
	if err := s.Reload(); err != nil {
		return err
	}
	for _, i := range old {
		if end := s.files[i].Since.Add(s.Keep); s.now.Before(end) {
			s.reports[i].Wait = "signs no more; its record must stay until " + when(end) + ", for mail that is on its way"
			continue
		}
		switch p := s.look(ctx, i); p.State {
		case dkim.Revoked, dkim.Missing:
			if err := s.Note(s.domain, s.files[i].Selector, "removed"); err != nil {
				return err
			}
			if err := s.files[i].remove(); err != nil {
				return err
			}
			s.reports[i].Done, s.files[i].State = "removed", ""
		case dkim.Unsettled:
			s.reports[i].Wait = "DNS does not say whether its record is revoked: " + p.Reason
		default:
			s.reports[i].Wait = "its mail has arrived: revoke it with the record below; the key is removed then"
			s.publish(i, dkim.RevokedRecord)
		}
	}
	return nil
}

// retire lets the keys before stop signing once the new ones have signed beside
// them for long enough.
func (s *step) retire(ctx context.Context) error {
	used := s.in(Used)
	for _, i := range s.in(Last) {
		end := s.files[i].Since.Add(s.Overlap)
		switch {
		case len(used) == 0:
			s.reports[i].Wait = "signs until new keys do"
		case s.now.Before(end):
			s.reports[i].Wait = "signs beside the new keys until " + when(end)
		case !s.published(ctx, used):
			s.reports[i].Wait = "signs on: the records of the new keys are not all there"
		default:
			if err := s.move(i, Old, "stopped signing"); err != nil {
				return err
			}
			s.reports[i].Wait = "its record must stay until " + when(s.now.Add(s.Keep)) + ", for mail that is on its way"
		}
	}
	return nil
}

// published reports whether verifiers find all these keys.
func (s *step) published(ctx context.Context, keys []int) bool {
	all := true
	for _, i := range keys {
		p := s.look(ctx, i)
		if p.State != dkim.Matches {
			all = false
			s.ask(i, p)
		}
	}
	return all
}

// ask tells what is wrong with a record, and which one to publish.
func (s *step) ask(i int, p dkim.Publication) {
	s.reports[i].Wait = p.Reason
	if p.State == dkim.Unsettled {
		s.reports[i].Wait = "DNS does not answer: " + p.Reason
		return
	}
	// Record cannot fail for a key that was read.
	if record, err := dkim.Record(s.files[i].Key.Public()); err == nil {
		s.publish(i, record)
	}
}

// promote lets new keys sign, all at once, when all their records are there.
// The keys before sign on beside them.
func (s *step) promote(ctx context.Context) error {
	next := s.in(Next)
	if len(next) == 0 || !s.published(ctx, next) {
		return nil
	}
	// Between the two loops the keys before sign alone, as they did. A key that
	// came into use after the new ones were made is one of them: the step before
	// this one did not end.
	for _, i := range s.in(Used) {
		if s.follows(i, next) {
			continue
		}
		if err := s.move(i, Last, "signs beside the new keys"); err != nil {
			return err
		}
		s.reports[i].Wait = "signs beside the new keys until " + when(s.now.Add(s.Overlap))
	}
	for _, i := range next {
		if err := s.move(i, Used, "signs from now on"); err != nil {
			return err
		}
	}
	return nil
}

// follows reports whether a key that signs is of the same generation as those
// that are on their way: it came into use after they were made, and none of them
// is there to replace it. (The time of one that is to stop signing is that of now
// if a step ended between its new time and its new name.)
func (s *step) follows(i int, next []int) bool {
	kind, made := s.files[i].Kind(), s.files[slices.MinFunc(next, s.earlier)].Since
	return !s.files[i].Since.Before(made) && !s.has(next, kind)
}

// has reports whether one of these keys is of a kind.
func (s *step) has(keys []int, kind string) bool {
	return slices.ContainsFunc(keys, func(i int) bool { return s.files[i].Kind() == kind })
}

// complete makes the kinds of new keys that a step which did not end has left
// out.
func (s *step) complete(next []int) error {
	made := slices.Concat(next, slices.DeleteFunc(s.in(Used), func(i int) bool { return !s.follows(i, next) }))
	for _, kind := range s.Kinds {
		if s.has(made, kind) {
			continue
		}
		if err := s.make(kind); err != nil {
			return err
		}
	}
	return nil
}

// begin makes new keys if none are on their way and those that sign are old
// enough, or not there.
func (s *step) begin(context.Context) error {
	used := s.in(Used)
	if next := s.in(Next); len(next) > 0 {
		return s.complete(next)
	}
	if !s.Begin && len(used) > 0 {
		due := s.files[slices.MinFunc(used, s.earlier)].Since.Add(s.Every)
		if s.now.Before(due) || len(s.in(Last)) > 0 {
			for _, i := range used {
				if s.reports[i].Wait == "" {
					s.reports[i].Wait = "signs; it is replaced from " + when(due) + " on"
				}
			}
			return nil
		}
	}
	if s.Begin && len(s.in(Last)) > 0 {
		return fmt.Errorf("%s: the last rotation is not over: the keys before it still sign", s.domain)
	}
	for _, kind := range s.Kinds {
		if err := s.make(kind); err != nil {
			return err
		}
	}
	return nil
}

// make makes one key.
func (s *step) make(kind string) error {
	key, pem, err := dkim.NewKey(kind)
	if err != nil {
		return err
	}
	f := File{Domain: s.domain, Selector: s.selector(kind), State: Next, Since: s.now, Key: key}
	f.Path = filepath.Join(s.Dir, s.domain, f.Selector+"."+string(Next))
	record, err := dkim.Record(key.Public())
	if err != nil {
		return err
	}
	if err := s.Note(s.domain, f.Selector, "made"); err != nil {
		return err
	}
	if err := f.create(pem); err != nil {
		return err
	}
	s.files = append(s.files, f)
	s.reports = append(s.reports, KeyReport{
		Domain: s.domain, Selector: f.Selector, Kind: kind, Done: "made", Wait: "signs once its record is published",
		Name: dkim.RecordName(f.Selector, s.domain), Record: record,
	})
	return nil
}

// selector returns a name that no key has: the date and the kind.
func (s *step) selector(kind string) string {
	base := strings.ToLower(s.now.UTC().Format("20060102") + "-" + kind)
	name := base
	for n := 2; slices.Contains(s.Taken, name) || slices.ContainsFunc(s.reports, func(r KeyReport) bool { return r.Selector == name }); n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name
}
