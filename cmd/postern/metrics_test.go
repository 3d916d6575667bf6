package main

import (
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/mail"
)

// TestMeter counts from many goroutines and scrapes the sums.
func TestMeter(t *testing.T) {
	m := newMeter()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				m.Message(mail.Inbound, "sent", 2000)
				m.Filter("structure", time.Millisecond, false)
				m.Delivery("sink", time.Millisecond)
				m.reply(250)
			}
		})
	}
	wg.Wait()
	m.Message(mail.Outbound, "held", 0)
	m.Filter("virus", time.Second, true)
	w := httptest.NewRecorder()
	m.handler(func() error { return nil }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text := w.Body.String()
	for _, want := range []string{
		`postern_messages_total{action="sent",direction="inbound"} 800`,
		`postern_messages_total{action="held",direction="outbound"} 1`,
		`postern_message_bytes_count 800`,
		`postern_filter_duration_seconds_count{filter="structure"} 800`,
		`postern_filter_errors_total{filter="virus"} 1`,
		`postern_delivery_duration_seconds_count{upstream="sink"} 800`,
		`postern_smtp_replies_total{code="250"} 800`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	if strings.Contains(text, `code="550"`) {
		t.Error("a reply was counted that was not given")
	}
}
