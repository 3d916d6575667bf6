package main

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"postern/audit"
	"postern/queue"
)

func (in *instance) queueList(r *http.Request) (any, error) {
	v := r.URL.Query()
	items := in.queue.List(queue.Filter{From: v.Get("from"), To: v.Get("to"), Upstream: v.Get("upstream"), Text: v.Get("text")})
	rows := make([]queueRow, len(items))
	for i, it := range items {
		rows[i] = queueRow{
			ID: it.ID, Transaction: it.Transaction, Received: it.Received, From: it.From.String(), Upstream: it.Upstream, Size: it.Size,
			State: string(it.Status), Attempts: it.Attempts, Next: it.Next, To: []queueRecipient{},
		}
		for _, to := range it.To {
			row := queueRecipient{Address: to.Path.String(), State: to.State.String()}
			if to.Reply.Code != 0 {
				row.Reply = to.Reply.String()
			}
			rows[i].To = append(rows[i].To, row)
		}
	}
	return rows, nil
}

func (in *instance) queueAct(r *http.Request) (any, error) {
	var req queueRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	verb := r.PathValue("verb")
	acts := map[string]func(string) error{
		"retry": in.queue.Retry, "suspend": in.queue.Suspend, "resume": in.queue.Resume,
		"drop": func(id string) error {
			err := in.audit.Append(r.Context(), audit.Record{Event: audit.Delete, ID: id, Detail: "dropped from the queue", Actor: actor(r), Reason: req.Reason})
			if err != nil {
				return err
			}
			return in.queue.Drop(id, req.Reason)
		},
	}
	act := acts[verb]
	if act == nil {
		return nil, fmt.Errorf("%w: no verb %q", errUsage, verb)
	}
	ids := req.IDs
	if slices.Contains(ids, "all") && verb != "drop" {
		ids = nil
		for _, it := range in.queue.List(queue.Filter{}) {
			ids = append(ids, it.ID)
		}
	}
	for _, id := range ids {
		if err := act(id); err != nil {
			return nil, err
		}
	}
	return struct {
		Done int `json:"done"`
	}{len(ids)}, nil
}

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
	in.meter.registry.MustRegister(&depths{in: in,
		messages: prometheus.NewDesc("postern_queue_messages", "Messages that wait for an upstream.", []string{"upstream"}, nil),
		oldest:   prometheus.NewDesc("postern_queue_oldest_age_seconds", "Age of the oldest message that waits for an upstream.", []string{"upstream"}, nil),
		held:     prometheus.NewDesc("postern_quarantine_messages", "Held messages that wait for a reviewer.", []string{"queue"}, nil),
	})
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
