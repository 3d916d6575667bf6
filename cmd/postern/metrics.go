package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"postern/mail"
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
	reloads    *prometheus.CounterVec
	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge
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
		reloads:    counterVec("policy_reloads_total", "Reloads of the policy by result.", "result"),
		reloadOK:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "postern_policy_last_reload_success", Help: "1 if the policy file is the policy in force, 0 if it was refused."}),
		reloadTime: prometheus.NewGauge(prometheus.GaugeOpts{Name: "postern_policy_last_reload_timestamp_seconds", Help: "When the policy in force was loaded."}),
	}
	m.registry.MustRegister(m.messages, m.bytes, m.verdict, m.filter, m.filterErrs, m.delivery, m.replies, m.authFails, m.tls,
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

// Message counts one recipient's fate, and the message's size once (size 0
// counts none).
func (m *meter) Message(d mail.Direction, action string, size int64) {
	m.messages.WithLabelValues(string(d), action).Inc()
	if size > 0 {
		m.bytes.Observe(float64(size))
	}
}

// Verdict notes how long Judge took.
func (m *meter) Verdict(took time.Duration) { m.verdict.Observe(took.Seconds()) }

// Filter notes how long one filter took and whether it broke.
func (m *meter) Filter(name string, took time.Duration, broken bool) {
	m.filter.WithLabelValues(name).Observe(took.Seconds())
	if broken {
		m.filterErrs.WithLabelValues(name).Inc()
	}
}

// Delivery notes how long a next hop took.
func (m *meter) Delivery(upstream string, took time.Duration) {
	m.delivery.WithLabelValues(upstream).Observe(took.Seconds())
}

func (m *meter) reply(code int)      { m.replies.WithLabelValues(strconv.Itoa(code)).Inc() }
func (m *meter) tlsSession(v string) { m.tls.WithLabelValues(v).Inc() }

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
