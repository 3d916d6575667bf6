package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"postern/relay"
)

// gauges registers the figures that are asked for when they are scraped.
func (in *instance) gauges() {
	in.meter.gauge("smtp_sessions", "SMTP sessions now.", nil, func() float64 {
		n := 0
		in.mu.Lock()
		defer in.mu.Unlock()
		for _, l := range in.listeners {
			n += l.server.Sessions()
		}
		return float64(n)
	})
	in.meter.gauge("quarantine_used_bytes", "Disk space of held bodies.", nil, func() float64 { return float64(in.quarantine.Used()) })
	in.meter.gauge("spool_free_bytes", "Free space of the spool's disk above the reserve.", nil, func() float64 {
		n, err := in.spool.Free()
		if err != nil {
			return 0
		}
		return float64(n)
	})
	in.meter.gauge("spool_set_aside_entries", "Damaged entries of the spool that were set aside since the start.", nil, func() float64 {
		return float64(in.spool.Aside())
	})
	in.meter.gauge("queue_unreachable_destinations", "Destinations of the queue that the last attempt could not reach.", nil, func() float64 {
		return float64(len(in.queue.Stats().Unreachable))
	})
	in.meter.gauge("tls_certificate_expiry_timestamp_seconds", "When the certificate of the listeners ends; 0: there is none.", nil, in.certificateEnds)
	in.meter.counter("mail_log_lost_bytes_total", "Bytes of the mail log that could not be written.", func() float64 { return float64(in.lines.Lost()) })
	in.relayFigures()
	in.meter.registry.MustRegister(&depths{in: in,
		messages: prometheus.NewDesc("postern_queue_messages", "Messages that wait for an upstream.", []string{"upstream"}, nil),
		oldest:   prometheus.NewDesc("postern_queue_oldest_age_seconds", "Age of the oldest message that waits for an upstream.", []string{"upstream"}, nil),
		held:     prometheus.NewDesc("postern_quarantine_messages", "Held messages that wait for a reviewer.", []string{"queue"}, nil),
	})
}

// certificateEnds is when the certificate in use ends.
func (in *instance) certificateEnds() float64 {
	in.mu.Lock()
	certs := in.certs
	in.mu.Unlock()
	if certs == nil {
		return 0
	}
	leaf := certs.Certificate().Leaf
	if leaf == nil {
		return 0
	}
	return float64(leaf.NotAfter.Unix())
}

// relayFigures registers the totals of the sending side.
func (in *instance) relayFigures() {
	m := in.meter
	m.counter("relay_dialed_connections_total", "Connections made to next hops.", func() float64 { return float64(in.relay.Stats().Dialed) })
	m.counter("relay_reused_connections_total", "Transactions begun on a connection that was open already.", func() float64 { return float64(in.relay.Stats().Reused) })
	m.counter("relay_callouts_total", "Recipient verifications that the cache could not answer.", func() float64 { return float64(in.relay.Stats().Callouts) })
	m.gauge("relay_connections", "Connections to next hops now.", prometheus.Labels{"state": "idle"}, func() float64 { return float64(in.relay.Stats().Idle) })
	m.gauge("relay_connections", "Connections to next hops now.", prometheus.Labels{"state": "busy"}, func() float64 { return float64(in.relay.Stats().Busy) })
	for outcome, value := range map[string]func(relay.Stats) int64{
		"delivered": func(s relay.Stats) int64 { return s.Delivered },
		"refused":   func(s relay.Stats) int64 { return s.Refused },
		"deferred":  func(s relay.Stats) int64 { return s.Deferred },
		"down":      func(s relay.Stats) int64 { return s.Down },
	} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "postern_relay_recipients_total", Help: "Recipients by what their next hop said; down: it could not be reached.",
			ConstLabels: prometheus.Labels{"outcome": outcome},
		}, func() float64 { return float64(value(in.relay.Stats())) }))
	}
}

// depths are the gauges whose labels come and go.
type depths struct {
	in                     *instance
	messages, oldest, held *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (d *depths) Describe(ch chan<- *prometheus.Desc) { ch <- d.messages; ch <- d.oldest; ch <- d.held }

// Collect implements prometheus.Collector.
func (d *depths) Collect(ch chan<- prometheus.Metric) {
	for _, u := range d.in.queue.Stats().Upstreams {
		ch <- prometheus.MustNewConstMetric(d.messages, prometheus.GaugeValue, float64(u.Messages), u.Name)
		ch <- prometheus.MustNewConstMetric(d.oldest, prometheus.GaugeValue, u.Oldest.Seconds(), u.Name)
	}
	held := map[string]int{}
	if d.in.heldTotals(held) == nil {
		for q, n := range held {
			ch <- prometheus.MustNewConstMetric(d.held, prometheus.GaugeValue, float64(n), q)
		}
	}
}
