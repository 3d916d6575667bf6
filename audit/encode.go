package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// encoding is how hashes, salts and signatures are written.
var encoding = base64.RawURLEncoding

const (
	saltLen  = 16
	shortLen = 16 // bytes of a personal field's hash: nobody can look for collisions in it, the salt is ours
)

// commit returns the salted hash of a personal field.
func commit(salt []byte, name, value string) [shortLen]byte {
	var space [512]byte
	b := append(space[:0], salt...)
	b = append(b, name...)
	b = append(b, 0)
	b = append(b, value...)
	sum := sha256.Sum256(b)
	return [shortLen]byte(sum[:shortLen])
}

// link returns the hash of a record whose chained bytes are body.
func link(before Hash, body []byte) Hash {
	h := sha256.New()
	h.Write(before[:])
	h.Write(body)
	var sum Hash
	h.Sum(sum[:0])
	return sum
}

// appendFields appends the chained part of r after its number, to its closing
// brace. salts holds saltLen bytes for each personal field.
func (r *Record) appendFields(b, salts []byte, extra string) []byte {
	b = append(b, `,"at":"`...)
	b = appendTime(b, r.At)
	b = append(b, `","event":`...)
	b = appendString(b, string(r.Event))
	for _, f := range [...]struct{ key, value string }{
		{`,"id":`, r.ID}, {`,"item":`, r.Item}, {`,"direction":`, r.Direction}, {`,"disposition":`, r.Disposition}, {`,"queue":`, r.Queue},
		{`,"rule":`, r.Rule}, {`,"policy":`, r.Policy}, {`,"status":`, r.Status}, {`,"relay":`, r.Relay}, {`,"detail":`, r.Detail},
	} {
		if f.value != "" {
			b = append(b, f.key...)
			b = appendString(b, f.value)
		}
	}
	if r.Score != 0 {
		b = append(b, `,"score":`...)
		b = strconv.AppendFloat(b, r.Score, 'f', -1, 64)
	}
	if r.Size != 0 {
		b = append(b, `,"size":`...)
		b = strconv.AppendInt(b, r.Size, 10)
	}
	if len(r.Symbols) > 0 {
		sep := `,"symbols":[`
		for _, s := range r.Symbols {
			b = append(b, sep...)
			b = appendString(b, s)
			sep = ","
		}
		b = append(b, ']')
	}
	b = append(b, extra...)
	sep := `,"personal":{"`
	for i, v := range r.personal() {
		if *v != "" {
			sum := commit(salts[i*saltLen:(i+1)*saltLen], personalNames[i], *v)
			b = append(b, sep...)
			b = append(b, personalNames[i]...)
			b = append(b, `":"`...)
			b = encoding.AppendEncode(b, sum[:])
			sep = `","`
		}
	}
	if len(sep) == 3 {
		b = append(b, `"}`...)
	}
	return append(b, '}')
}

// appendValues appends the personal values with their salts.
func (r *Record) appendValues(b, salts []byte) []byte {
	b = append(b, `,"values":{`...)
	sep := `"`
	for i, v := range r.personal() {
		if *v != "" {
			b = append(b, sep...)
			b = append(b, personalNames[i]...)
			b = append(b, `":["`...)
			b = encoding.AppendEncode(b, salts[i*saltLen:(i+1)*saltLen])
			b = append(b, `",`...)
			b = appendString(b, *v)
			b = append(b, ']')
			sep = `,"`
		}
	}
	return append(b, '}')
}

// appendLine joins the parts of a line.
func appendLine(b, body []byte, hash Hash, values []byte) []byte {
	b = append(b, `{"record":`...)
	b = append(b, body...)
	b = append(b, `,"hash":"`...)
	b = encoding.AppendEncode(b, hash[:])
	b = append(b, '"')
	b = append(b, values...)
	return append(b, "}\n"...)
}

// A line is a stored line, taken apart.
type line struct {
	Record json.RawMessage      `json:"record"`
	Hash   string               `json:"hash"`
	Values map[string][2]string `json:"values"`

	fields fields
	hash   Hash
}

// fields is the chained part of a line.
type fields struct {
	Seq         uint64            `json:"seq"`
	At          time.Time         `json:"at"`
	Event       Event             `json:"event"`
	ID          string            `json:"id"`
	Item        string            `json:"item"`
	Direction   string            `json:"direction"`
	Disposition string            `json:"disposition"`
	Queue       string            `json:"queue"`
	Rule        string            `json:"rule"`
	Policy      string            `json:"policy"`
	Status      string            `json:"status"`
	Relay       string            `json:"relay"`
	Detail      string            `json:"detail"`
	Score       float64           `json:"score"`
	Size        int64             `json:"size"`
	Symbols     []string          `json:"symbols"`
	Before      string            `json:"before"`    // checkpoints: the hash before
	Signature   string            `json:"signature"` // checkpoints
	Personal    map[string]string `json:"personal"`
}

// parse takes a stored line apart. It checks its form, not its hashes.
func parse(text []byte) (*line, error) {
	l := &line{}
	if err := json.Unmarshal(text, l); err != nil {
		return nil, fmt.Errorf("not a record: %w", err)
	}
	if err := json.Unmarshal(l.Record, &l.fields); err != nil {
		return nil, fmt.Errorf("not a record: %w", err)
	}
	hash, err := encoding.DecodeString(l.Hash)
	if err != nil || len(hash) != len(l.hash) {
		return nil, fmt.Errorf("not a record: bad hash")
	}
	l.hash = Hash(hash)
	return l, nil
}

// record returns the line as a Record.
func (l *line) record() Record {
	f := &l.fields
	r := Record{Seq: f.Seq, At: f.At, Event: f.Event, ID: f.ID, Item: f.Item, Direction: f.Direction, Disposition: f.Disposition,
		Queue: f.Queue, Rule: f.Rule, Policy: f.Policy, Status: f.Status, Relay: f.Relay, Detail: f.Detail, Score: f.Score, Size: f.Size,
		Symbols: f.Symbols, Hash: l.hash}
	for i, v := range r.personal() {
		name := personalNames[i]
		*v = l.Values[name][1]
		if _, erased := f.Personal[name]; erased && *v == "" {
			r.Erased = append(r.Erased, name)
		}
	}
	return r
}

// checkValues reports what is wrong with the personal values; empty if nothing.
func (l *line) checkValues() string {
	for name, v := range l.Values {
		salt, err := encoding.DecodeString(v[0])
		if err != nil || !slices.Contains(personalNames[:], name) {
			return "the value of " + name + " is malformed"
		}
		sum := commit(salt, name, v[1])
		if encoding.EncodeToString(sum[:]) != l.fields.Personal[name] {
			return "the value of " + name + " was changed"
		}
	}
	return ""
}

// appendTime appends t as 2026-11-21T09:41:07.512Z.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, "2006-01-02T15:04:05.000Z")
	}
	hour, min, sec := t.Clock()
	ms := t.Nanosecond() / 1e6
	two := func(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }
	b = two(two(b, year/100), year%100)
	b = two(append(b, '-'), int(month))
	b = two(append(b, '-'), day)
	b = two(append(b, 'T'), hour)
	b = two(append(b, ':'), min)
	b = two(append(b, ':'), sec)
	return append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// appendString appends s as a JSON string. Control characters are escaped, bytes
// that are no UTF-8 become U+FFFD, all else stands as it is.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if size == 1 || unsafeRune(r) {
			b = append(b, s[start:i]...)
			if size == 1 {
				r = utf8.RuneError
			}
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			start = i + size
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// unsafeRune reports whether a rune may break or reorder a line on a terminal:
// C1 controls, line separators, bidirectional controls, the byte order mark.
func unsafeRune(r rune) bool {
	return r >= 0x80 && r < 0xa0 || r == 0x61c || r >= 0x200e && r <= 0x200f || r >= 0x2028 && r <= 0x202e ||
		r >= 0x2066 && r <= 0x2069 || r == 0xfeff
}
