package main

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"postern/mail"
	"postern/smtpd"
)

// A meter holds the program's Prometheus metrics. No label ever holds an
// address: they are directions, dispositions, filters, upstreams and codes.
type meter struct {
	registry *prometheus.Registry

	messages   *prometheus.CounterVec
	bytes      prometheus.Histogram
	verdict    prometheus.Histogram
	filter     *prometheus.HistogramVec
	filterErrs *prometheus.CounterVec
	delivery   *prometheus.HistogramVec
	replies    *prometheus.CounterVec
	authFails  prometheus.Counter
	tls        *prometheus.CounterVec
	sessions   *prometheus.CounterVec
	refused    *prometheus.CounterVec
	received   *prometheus.CounterVec
	octets     *prometheus.CounterVec
	reloads    *prometheus.CounterVec
	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge

	// What is counted for every message is looked up without its labels.
	fates   children[fate, prometheus.Counter]
	times   children[string, prometheus.Observer] // of filters
	handed  children[string, prometheus.Observer] // of deliveries
	answers children[int, prometheus.Counter]
}

// A fate is what became of a recipient of a message in that direction.
type fate struct {
	direction mail.Direction
	action    string
}

// children keeps the metrics of a vector by what they count, so that their
// labels need not be hashed each time.
type children[K comparable, V any] struct {
	mu sync.RWMutex
	m  map[K]V
}

// of returns the child of k, which it lets be made at first.
func (c *children[K, V]) of(k K, made func(K) V) V {
	c.mu.RLock()
	v, ok := c.m[k]
	c.mu.RUnlock()
	if ok {
		return v
	}
	v = made(k) // the vector gives the same one to all who ask
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[K]V{}
	}
	c.m[k] = v
	return v
}

func newMeter() *meter {
	m := &meter{
		registry: prometheus.NewRegistry(),
		messages: counterVec("messages_total", "Recipients' fates by direction and action.", "direction", "action"),
		bytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "postern_message_bytes", Help: "Size of received messages.",
			Buckets: prometheus.ExponentialBuckets(1024, 4, 9),
		}),
		verdict: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "postern_verdict_duration_seconds", Help: "Time from the end of a message to its verdict.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}),
		filter:     histogramVec("filter_duration_seconds", "Time that a filter took for one message.", "filter"),
		filterErrs: counterVec("filter_errors_total", "Messages for which a filter broke.", "filter"),
		delivery:   histogramVec("delivery_duration_seconds", "Time to hand a message to its next hop.", "upstream"),
		replies:    counterVec("smtp_replies_total", "SMTP replies by code.", "code"),
		authFails:  prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_auth_failures_total", Help: "Failed logins."}),
		tls:        counterVec("tls_sessions_total", "Sessions that were encrypted, by protocol version.", "version"),
		sessions:   counterVec("smtp_sessions_total", "SMTP sessions that began.", "listener"),
		refused:    counterVec("smtp_refused_connections_total", "Connections that were refused before the banner, by reason.", "listener", "reason"),
		received:   counterVec("smtp_messages_total", "Messages received to their end, by whether the client was told that they are accepted.", "listener", "result"),
		octets:     counterVec("smtp_received_bytes_total", "Bytes of messages received to their end.", "listener"),
		reloads:    counterVec("policy_reloads_total", "Reloads of the policy by result.", "result"),
		reloadOK:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "postern_policy_last_reload_success", Help: "1 if the policy file is the policy in force, 0 if it was refused."}),
		reloadTime: prometheus.NewGauge(prometheus.GaugeOpts{Name: "postern_policy_last_reload_timestamp_seconds", Help: "When the policy in force was loaded."}),
	}
	m.registry.MustRegister(m.messages, m.bytes, m.verdict, m.filter, m.filterErrs, m.delivery, m.replies, m.authFails, m.tls,
		m.sessions, m.refused, m.received, m.octets,
		m.reloads, m.reloadOK, m.reloadTime, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	b := build()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "postern_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "go": b.Go},
	})
	info.Set(1)
	m.registry.MustRegister(info)
	return m
}

func counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_" + name, Help: help}, labels)
}

func histogramVec(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "postern_" + name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10)}, labels)
}

// gauge registers a gauge whose value is asked for when it is scraped.
func (m *meter) gauge(name, help string, labels prometheus.Labels, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "postern_" + name, Help: help, ConstLabels: labels}, value))
}

// counter registers a counter whose value is asked for when it is scraped.
func (m *meter) counter(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "postern_" + name, Help: help}, value))
}

// Message counts one recipient's fate, and the message's size once (size 0
// counts none).
func (m *meter) Message(d mail.Direction, action string, size int64) {
	m.fates.of(fate{d, action}, func(f fate) prometheus.Counter {
		return m.messages.WithLabelValues(string(f.direction), f.action)
	}).Inc()
	if size > 0 {
		m.bytes.Observe(float64(size))
	}
}

// Verdict notes how long Judge took.
func (m *meter) Verdict(took time.Duration) { m.verdict.Observe(took.Seconds()) }

// Filter notes how long one filter took and whether it broke.
func (m *meter) Filter(name string, took time.Duration, broken bool) {
	m.times.of(name, func(n string) prometheus.Observer { return m.filter.WithLabelValues(n) }).Observe(took.Seconds())
	if broken {
		m.filterErrs.WithLabelValues(name).Inc()
	}
}

// Delivery notes how long a next hop took.
func (m *meter) Delivery(upstream string, took time.Duration) {
	m.handed.of(upstream, func(n string) prometheus.Observer { return m.delivery.WithLabelValues(n) }).Observe(took.Seconds())
}

func (m *meter) reply(code int) {
	m.answers.of(code, func(n int) prometheus.Counter { return m.replies.WithLabelValues(strconv.Itoa(n)) }).Inc()
}

func (m *meter) tlsSession(v string) { m.tls.WithLabelValues(v).Inc() }

// hooks count what happens on one listener; its counters are looked up once.
func (m *meter) hooks(listener string) smtpd.Hooks {
	sessions, octets := m.sessions.WithLabelValues(listener), m.octets.WithLabelValues(listener)
	accepted, refused := m.received.WithLabelValues(listener, "accepted"), m.received.WithLabelValues(listener, "refused")
	return smtpd.Hooks{
		Session: func(delta int) {
			if delta > 0 {
				sessions.Inc()
			}
		},
		Refused:     func(reason string) { m.refused.WithLabelValues(listener, reason).Inc() },
		Reply:       m.reply,
		AuthFailure: m.authFails.Inc,
		TLS:         m.tlsSession,
		Message: func(n int64, ok bool) {
			octets.Add(float64(n))
			if ok {
				accepted.Inc()
			} else {
				refused.Inc()
			}
		},
	}
}

// current notes that the file is the policy in force again.
func (m *meter) current() { m.reloadOK.Set(1) }

func (m *meter) reloaded(ok bool, at time.Time) {
	if !ok {
		m.reloads.WithLabelValues("refused").Inc()
		m.reloadOK.Set(0)
		return
	}
	m.reloads.WithLabelValues("done").Inc()
	m.reloadOK.Set(1)
	m.reloadTime.Set(float64(at.Unix()))
}

// handler serves /metrics, /healthz (the process is there) and /readyz (it
// takes mail).
func (m *meter) handler(ready func() error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("ready\n"))
	})
	return mux
}
