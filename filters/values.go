package filters

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Duration is a time span in the policy file: "500ms", "15m", "1h30m", "30d".
type Duration time.Duration

var durationUnits = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
	"d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 365 * 24 * time.Hour,
}

// Time returns the span.
func (d Duration) Time() time.Duration { return time.Duration(d) }

// UnmarshalText reads a span that is not negative: whole numbers, each with its
// unit.
func (d *Duration) UnmarshalText(text []byte) error {
	wrong := fmt.Errorf("%q is not a duration: write a whole number and ms, s, m, h, d, w or y, as in \"15m\"", text)
	var total time.Duration
	rest := strings.TrimSpace(string(text))
	if rest == "" {
		return wrong
	}
	if rest == "0" {
		rest = "0s"
	}
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil {
			return wrong
		}
		rest = rest[digits:]
		letters := len(rest) - len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz"))
		unit, ok := durationUnits[rest[:letters]]
		if !ok || n > int64((1<<62)/unit) || total > 1<<62-time.Duration(n)*unit {
			return wrong
		}
		total += time.Duration(n) * unit
		rest = rest[letters:]
	}
	*d = Duration(total)
	return nil
}

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

// Bytes is a size in the policy file: "25MB". KB, MB, GB and TB count in steps
// of 1024.
type Bytes int64

var byteUnits = []struct {
	word string
	size int64
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}, {"B", 1}}

// UnmarshalText reads a size that is not negative: "25MB", "512KB", "10B".
func (n *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	for _, u := range byteUnits {
		if digits, ok := strings.CutSuffix(s, u.word); ok {
			v, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err != nil || v < 0 || v > (1<<62)/u.size {
				break
			}
			*n = Bytes(v * u.size)
			return nil
		}
	}
	return fmt.Errorf("%q is not a size: write a whole number and KB, MB or GB, as in \"25MB\"", text)
}

// String writes the size in the largest unit that leaves no rest.
func (n Bytes) String() string {
	for _, u := range byteUnits {
		if n != 0 && int64(n)%u.size == 0 {
			return strconv.FormatInt(int64(n)/u.size, 10) + u.word
		}
	}
	return "0B"
}

// MarshalText writes what String does.
func (n Bytes) MarshalText() ([]byte, error) { return []byte(n.String()), nil }
