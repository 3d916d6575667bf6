package policy

import (
	"encoding"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/filters"
	"postern/mail"
)

// The types of values in the policy file read themselves, so that a wrong word
// is an error at its own place.
var (
	_ encoding.TextUnmarshaler = (*Moment)(nil)
	_ encoding.TextUnmarshaler = (*ReplyText)(nil)
	_ encoding.TextUnmarshaler = (*Glob)(nil)
	_ encoding.TextUnmarshaler = (*Rate)(nil)
)

// Sizes and time spans are written in the same way in the settings of filters.
type (
	Bytes    = filters.Bytes
	Duration = filters.Duration
)

// parseNetwork reads an address or a network: "10.0.5.10", "10.0.5.0/24",
// "2001:db8::/32". An address with bits beyond the mask is refused: it is more
// likely a slip than a wish.
func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network", s)
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("%q is not a network: %s is", s, p.Masked())
	}
	return p, nil
}

// A Moment is a date, or a date and time: "2026-12-31", "2026-12-31T18:00:00Z".
// Where it names no zone, it is one of [site] timezone.
type Moment struct {
	time.Time
	local bool // no zone was named: Time has the wall clock in UTC
}

// UnmarshalText reads a date (its midnight), a date and time, or an RFC 3339 time.
func (m *Moment) UnmarshalText(text []byte) error {
	for i, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, string(text)); err == nil {
			m.Time, m.local = t, i > 0
			return nil
		}
	}
	return fmt.Errorf("%q is not a time: write it as in 2026-12-31 or 2026-12-31T18:00:00Z", text)
}

// in returns the moment, for which a zone that was not named is z.
func (m *Moment) in(z *time.Location) time.Time {
	if !m.local || z == nil {
		return m.Time
	}
	y, month, d := m.Date()
	h, minute, s := m.Clock()
	return time.Date(y, month, d, h, minute, s, 0, z)
}

// A Rate is a number of messages in a time: "100/1m". Its zero value limits
// nothing.
type Rate struct {
	Count int
	Per   time.Duration
}

// UnmarshalText reads "100/1m".
func (r *Rate) UnmarshalText(text []byte) error {
	n, per, ok := strings.Cut(string(text), "/")
	count, err := strconv.Atoi(n)
	var d Duration
	if !ok || err != nil || d.UnmarshalText([]byte(per)) != nil || count < 1 || d <= 0 {
		return fmt.Errorf("%q is not a rate: write it as in \"100/1m\"", text)
	}
	*r = Rate{count, d.Time()}
	return nil
}

// String writes the rate as the policy file would.
func (r Rate) String() string {
	if r.Count == 0 {
		return ""
	}
	return strconv.Itoa(r.Count) + "/" + Duration(r.Per).String()
}

// A ReplyText is what a rule tells the client: "550 5.7.1 text", with
// placeholders such as {from.domain}.
type ReplyText struct {
	code     int
	enhanced smtp.EnhancedCode
	text     string
	fields   []string // placeholders that text uses
}

// Placeholders of a ReplyText, with the stage at which they are known.
var placeholders = []string{
	"from", "from.domain", "to", "to.domain", "reverse_path", "reverse_path.domain", "client", "helo", "rule", "score",
}

// UnmarshalText reads a reply: code, enhanced status code (RFC 3463), text.
func (r *ReplyText) UnmarshalText(text []byte) error {
	s := string(text)
	code, rest, _ := strings.Cut(s, " ")
	status, words, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || n < 400 || n > 599 {
		return fmt.Errorf("%q is not a reply: it begins with a code, as in \"550 5.7.1 text\"", s)
	}
	enhanced, ok := parseEnhanced(status)
	if !ok || enhanced[0] != n/100 {
		return fmt.Errorf("%q is not a reply: after %d comes an enhanced status code %d.x.x, as in \"550 5.7.1 text\"", s, n, n/100)
	}
	if strings.TrimSpace(words) == "" {
		return fmt.Errorf("%q has no text for the client", s)
	}
	// RFC 5321 section 4.2: reply text is printable ASCII on lines of at most 512 octets.
	if len(words) > 400 {
		return fmt.Errorf("reply text is longer than 400 characters")
	}
	for i := range len(words) {
		if words[i] < ' ' || words[i] > '~' {
			return fmt.Errorf("reply text must be printable ASCII: the client may know nothing else")
		}
	}
	fields, err := placeholdersOf(words)
	*r = ReplyText{n, enhanced, words, fields}
	return err
}

// parseEnhanced reads "5.7.1" (RFC 3463 section 2).
func parseEnhanced(s string) (smtp.EnhancedCode, bool) {
	parts := strings.Split(s, ".")
	var e smtp.EnhancedCode
	if len(parts) != 3 {
		return e, false
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 999 || len(p) > 3 || p != strconv.Itoa(n) {
			return e, false
		}
		e[i] = n
	}
	return e, true
}

// placeholdersOf returns the placeholders that s uses, each of which must be
// known.
func placeholdersOf(s string) ([]string, error) {
	var fields []string
	for {
		_, rest, ok := strings.Cut(s, "{")
		if !ok {
			return fields, nil
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			return nil, fmt.Errorf("a { in the reply text is never closed")
		}
		if !contains(placeholders, name) {
			return nil, &wordError{Word: name, Text: fmt.Sprintf("{%s} stands for nothing", name), Known: placeholders}
		}
		fields = append(fields, name)
		s = after
	}
}

// fill makes the reply, with each placeholder replaced by what value says.
func (r *ReplyText) fill(value func(name string) string) mail.Reply {
	text := r.text
	for _, name := range r.fields {
		text = strings.ReplaceAll(text, "{"+name+"}", printable(value(name)))
	}
	if len(text) > 480 {
		text = text[:480]
	}
	return mail.Reply{Code: r.code, Enhanced: r.enhanced, Text: text}
}

// uses reports whether the text needs any of the named placeholders.
func (r *ReplyText) uses(names ...string) bool {
	for _, f := range r.fields {
		if contains(names, f) {
			return true
		}
	}
	return false
}

// String writes the reply as the policy file would.
func (r *ReplyText) String() string {
	e := r.enhanced
	return fmt.Sprintf("%d %d.%d.%d %s", r.code, e[0], e[1], e[2], r.text)
}

// printable replaces what must not stand in a reply: foreign text could
// otherwise write lines of its own.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' || c == '{' || c == '}' {
			return '?'
		}
		return c
	}, s)
}

// UnmarshalText reads the mode's word.
func (m *Mode) UnmarshalText(text []byte) error {
	*m = Mode(text)
	return knownWord(string(text), "a mode", []string{string(Enforce), string(Watch)})
}

// A wordError is a word that is none of those known.
type wordError struct {
	Word, Text string
	Known      []string
}

func (e *wordError) Error() string { return e.Text }

// knownWord returns a wordError unless word is one of known.
func knownWord(word, what string, known []string) error {
	if contains(known, word) {
		return nil
	}
	return &wordError{Word: word, Text: fmt.Sprintf("%q is not %s", word, what), Known: known}
}

func contains(list []string, s string) bool {
	for _, w := range list {
		if w == s {
			return true
		}
	}
	return false
}
