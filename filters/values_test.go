package filters

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "500ms": 500 * time.Millisecond, "10s": 10 * time.Second, "15m": 15 * time.Minute,
		"1h30m": 90 * time.Minute, "30d": 720 * time.Hour, "2h": 2 * time.Hour, "365d": 365 * 24 * time.Hour,
	} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || time.Duration(d) != want {
			t.Errorf("%s: %v, %v", text, time.Duration(d), err)
		}
		if d.String() != text {
			t.Errorf("%s prints as %s", text, d)
		}
	}
	for _, text := range []string{"", "10", "-1s", "ten", "1.5d", "-3d", "999999999d", "1d2", "3 d"} {
		var d Duration
		if d.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q was read as %v", text, d)
		}
	}
	var week Duration
	if week.UnmarshalText([]byte("2w")) != nil || week.String() != "14d" {
		t.Error(week)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"1B": 1, "64KB": 64 << 10, "200MB": 200 << 20, "2GB": 2 << 30, "1TB": 1 << 40, "0B": 0} {
		var n Bytes
		if err := n.UnmarshalText([]byte(text)); err != nil || n != want || n.String() != text {
			t.Errorf("%s: %v, %v", text, n, err)
		}
	}
	for _, text := range []string{"", "10", "-1MB", "MB", "1mb", "9999999999GB"} {
		var n Bytes
		if n.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q was read as %v", text, n)
		}
	}
}
