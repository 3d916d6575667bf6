package virus

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// says is a server that gives one answer to whoever asks.
func says(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 64))
			if answer == "" {
				continue // says nothing, and stays
			}
			c.Write([]byte(answer))
			c.Close()
		}
	}()
	return "clamd:" + l.Addr().String()
}

func TestStates(t *testing.T) {
	for _, c := range []struct {
		answer, version, made, err string
	}{
		{"ClamAV 1.4.1/27400/Mon Sep 16 10:32:39 2024\x00", "ClamAV 1.4.1", "2024-09-16", ""},
		{"ClamAV 0.103.2/26144/Tue Apr  6 10:32:39 2021\x00", "ClamAV 0.103.2", "2021-04-06", ""},
		{"ClamAV 1.4.1\x00", "ClamAV 1.4.1", "0001-01-01", ""},
		{"ClamAV 1.4.1", "", "", "means nothing"},
		{"220 mail.example ESMTP\r\n", "", "", "means nothing"},
		{"ClamAV 1\x00ClamAV 2\x00", "", "", "means nothing"},
		{"", "", "", "timeout"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		s := (&Checker{Engines: []string{says(t, c.answer)}}).States(ctx)[0]
		cancel()
		switch {
		case c.err != "":
			if s.Err == nil || !strings.Contains(s.Err.Error(), c.err) {
				t.Errorf("%q: %v", c.answer, s.Err)
			}
		case s.Err != nil || s.Version != c.version || s.Signatures.Format(time.DateOnly) != c.made:
			t.Errorf("%q: %+v", c.answer, s)
		}
	}
	if s := (&Checker{Engines: []string{"clamd:/nowhere/clamd.ctl", "other"}}).States(t.Context()); s[0].Err == nil || s[1].Err == nil {
		t.Errorf("%+v", s)
	}
}
