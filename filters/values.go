package filters

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Duration is a time span in a filter's settings: "500ms", "10s", "15m",
// "1h30m", "30d", "2w".
type Duration time.Duration

// Time returns the span.
func (d Duration) Time() time.Duration { return time.Duration(d) }

// String writes the span as the policy file does.
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

// MarshalText writes what String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a span that is not negative.
func (d *Duration) UnmarshalText(b []byte) error {
	text := string(b)
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil {
				return fmt.Errorf("%q is not a time span such as \"10s\" or \"30d\"", text)
			}
			*d = Duration(time.Duration(n) * length)
			return nil
		}
	}
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a time span such as \"10s\" or \"30d\"", text)
	}
	*d = Duration(v)
	return nil
}

// Bytes is a size in a filter's settings: "200MB". KB, MB and GB count in
// steps of 1024.
type Bytes int64

var byteUnits = []struct {
	word string
	size int64
}{{"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}, {"B", 1}}

// String writes the size in the largest unit that leaves no rest.
func (n Bytes) String() string {
	for _, u := range byteUnits {
		if int64(n) >= u.size && int64(n)%u.size == 0 {
			return strconv.FormatInt(int64(n)/u.size, 10) + u.word
		}
	}
	return strconv.FormatInt(int64(n), 10)
}

// MarshalText writes what String does.
func (n Bytes) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads a size that is not negative.
func (n *Bytes) UnmarshalText(b []byte) error {
	text := string(b)
	for _, u := range byteUnits {
		if number, ok := strings.CutSuffix(text, u.word); ok {
			v, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
			if err != nil || v < 0 || v > (1<<62)/u.size {
				break
			}
			*n = Bytes(v * u.size)
			return nil
		}
	}
	return fmt.Errorf("%q is not a size such as \"25MB\"", text)
}
