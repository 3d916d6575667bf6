package virus

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"postern/filters"
	"postern/mail"
)

// maxSkipped is how many unreadable parts are reported.
const maxSkipped = 10

// A sample is one stream to be scanned.
type sample struct {
	part     mail.PartID
	what     string // for the evidence
	open     func() io.Reader
	unpacked bool // out of an archive: it may be encrypted, damaged or too large
}

// lenient opens the sample; where it cannot be read on it ends. What came before is
// still worth a look, and samples.skipped tells that it is not all.
func (s sample) lenient() io.Reader {
	if !s.unpacked {
		return s.open()
	}
	return &lenient{s.open()}
}

type lenient struct{ r io.Reader }

func (l *lenient) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// samples is what is to be scanned of one message.
type samples struct {
	whole  sample   // the raw message
	hidden []sample // what it does not show as it is
	plain  []sample // what it does show: asked about only to tell where a hit lies

	skipped []filters.Symbol // parts that could not be unpacked
}

// samplesOf lists what is to be scanned.
func samplesOf(m *mail.Message) *samples {
	set := &samples{whole: sample{what: "the message", open: m.Reader}}
	for _, f := range m.Findings() {
		if f.Kind.Class() == mail.Limit || f.Kind == mail.UnpackFailed {
			set.skip(f.Part, string(f.Kind)+": what lies beyond was not looked at by itself")
		}
	}
	for _, p := range m.Parts() {
		what := describe(p)
		s := sample{part: p.ID(), what: what, open: p.Open, unpacked: !p.InMessage()}
		switch {
		case !p.IsLeaf():
		case s.unpacked || p.Encoding() != "7bit" && p.Encoding() != "8bit" && p.Encoding() != "binary":
			set.hidden = append(set.hidden, s)
		case p.Parent() != nil:
			set.plain = append(set.plain, s)
		}
		for _, b := range p.Readings() {
			set.hidden = append(set.hidden, sample{part: p.ID(), what: what + ", read another way", open: func() io.Reader { return bytes.NewReader(b) }})
		}
		if text := odd(p); text != "" {
			set.hidden = append(set.hidden, sample{part: p.ID(), what: what + ", as text", open: func() io.Reader { return strings.NewReader(text) }})
		}
	}
	return set
}

// An answer is what one engine said about all samples.
type answer struct {
	found []filters.Symbol
	err   error
}

// scan asks one engine about all samples, until it fails. A find in the raw
// message is put down to a part where one explains it.
func (set *samples) scan(engine string, ask func(sample) (string, error)) (a answer) {
	one := func(s sample) string {
		if a.err != nil {
			return ""
		}
		name, err := ask(s)
		if err != nil {
			a.err = fmt.Errorf("%s: %w", s.what, err)
			return ""
		}
		if name = filters.Clean(name, 100); name != "" && s.part != "" {
			a.found = append(a.found, hit(engine, name, s))
		}
		return name
	}
	whole := one(set.whole)
	for _, s := range set.hidden {
		if name := one(s); name != "" && s.part == "" {
			whole = name
		}
	}
	if whole == "" {
		return a
	}
	for _, s := range set.plain {
		one(s)
	}
	for _, s := range a.found {
		if s.Label == whole {
			return a
		}
	}
	a.found = append(a.found, hit(engine, whole, set.whole))
	return a
}

func hit(engine, name string, s sample) filters.Symbol {
	return filters.Symbol{
		Name: "VIRUS_FOUND", Part: s.part, Label: name, Evidence: fmt.Sprintf("%s: %s in %s", engine, name, s.what),
	}
}

// findEICAR looks for the test string in one sample, and notes when that
// cannot be unpacked to its end.
func (set *samples) findEICAR(ctx context.Context, s sample) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	found, err := containsStream(s.open(), eicarString())
	switch {
	case found:
		return eicarName, nil
	case err == nil || !s.unpacked:
		return "", err
	}
	set.skip(s.part, s.what+": "+err.Error())
	return "", nil
}

// skip notes that not everything was scanned, once for a part.
func (set *samples) skip(part mail.PartID, why string) {
	again := slices.ContainsFunc(set.skipped, func(s filters.Symbol) bool { return s.Part == part })
	if !again && len(set.skipped) < maxSkipped {
		set.skipped = append(set.skipped, filters.Symbol{Name: "VIRUS_PART_SKIPPED", Part: part, Evidence: filters.Clean(why, 200)})
	}
}

// odd returns the text of a part whose character set hides ASCII.
func odd(p *mail.Part) string {
	cs := strings.ToLower(p.Charset())
	if !strings.HasPrefix(cs, "utf-16") && !strings.HasPrefix(cs, "utf-32") && !strings.HasPrefix(cs, "utf-7") &&
		!strings.HasPrefix(cs, "ucs-") && !strings.Contains(cs, "ebcdic") && !strings.HasPrefix(cs, "ibm") {
		return ""
	}
	return p.Text()
}

// describe names a part for a reviewer.
func describe(p *mail.Part) string {
	for _, n := range p.Names() {
		if n != "" {
			return fmt.Sprintf("part %s (%s)", p.ID(), filters.Clean(n, 100))
		}
	}
	return "part " + string(p.ID())
}
