package policy

import (
	"encoding"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/mail"
)

// The types of values in the policy file read themselves, so that a wrong word
// is an error at its own place.
var (
	_ encoding.TextUnmarshaler = (*Bytes)(nil)
	_ encoding.TextUnmarshaler = (*Duration)(nil)
	_ encoding.TextUnmarshaler = (*Moment)(nil)
	_ encoding.TextUnmarshaler = (*ReplyText)(nil)
	_ encoding.TextUnmarshaler = (*Glob)(nil)
	_ encoding.TextUnmarshaler = (*Rate)(nil)
)

var byteUnits = []struct {
	word string
	size int64
}{{"KB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}, {"TB", 1 << 40}, {"B", 1}}

// Bytes is a size: "25MB" in the policy file (MB = 1024 x 1024).
type Bytes int64

// UnmarshalText reads "25MB", "512KB", "10B".
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(s, u.word)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.size {
			break
		}
		*b = Bytes(n * u.size)
		return nil
	}
	wrong := &wordError{Word: s, Text: fmt.Sprintf("%q is not a size: write a whole number and KB, MB or GB, as in \"25MB\"", s)}
	if upper := strings.ToUpper(s); upper != s && b.UnmarshalText([]byte(upper)) == nil {
		wrong.Known = []string{upper}
	}
	return wrong
}

// String writes the size as the policy file would.
func (b Bytes) String() string {
	for _, u := range []int{3, 2, 1, 0} {
		if unit := byteUnits[u]; b != 0 && int64(b)%unit.size == 0 {
			return strconv.FormatInt(int64(b)/unit.size, 10) + unit.word
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// Duration is a time span: "15m", "30d" in the policy file.
type Duration time.Duration

var durationUnits = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
	"d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 365 * 24 * time.Hour,
}

// parseDuration reads "15m", "1h30m", "30d", "1y".
func parseDuration(s string) (time.Duration, error) {
	wrong := fmt.Errorf("%q is not a duration: write a whole number and ms, s, m, h, d, w or y, as in \"15m\"", s)
	var total time.Duration
	rest := strings.TrimSpace(s)
	if rest == "0" {
		return 0, nil
	}
	if rest == "" {
		return 0, wrong
	}
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil {
			return 0, wrong
		}
		rest = rest[digits:]
		letters := len(rest) - len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz"))
		unit, ok := durationUnits[rest[:letters]]
		if !ok || n > int64((1<<62)/unit) || total > 1<<62-time.Duration(n)*unit {
			return 0, wrong
		}
		total += time.Duration(n) * unit
		rest = rest[letters:]
	}
	return total, nil
}

// UnmarshalText reads "15m", "1h30m", "30d".
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := parseDuration(string(text))
	*d = Duration(v)
	return err
}

// String writes the duration as the policy file would.
func (d Duration) String() string {
	v := time.Duration(d)
	if day := 24 * time.Hour; v >= day && v%day == 0 {
		return strconv.FormatInt(int64(v/day), 10) + "d"
	}
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

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
type Moment struct{ time.Time }

// UnmarshalText reads a date (midnight UTC) or an RFC 3339 time.
func (m *Moment) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, string(text)); err == nil {
			m.Time = t
			return nil
		}
	}
	return fmt.Errorf("%q is not a time: write it as in 2026-12-31 or 2026-12-31T18:00:00Z", text)
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
	d, derr := parseDuration(per)
	if !ok || err != nil || derr != nil || count < 1 || d <= 0 {
		return fmt.Errorf("%q is not a rate: write it as in \"100/1m\"", text)
	}
	*r = Rate{count, d}
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
