package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"postern/mail"
	"postern/policy"
	"postern/spool"
	"postern/store"
)

// serveHTTP opens the control socket and the metrics address.
func (in *instance) serveHTTP(p *policy.Policy) error {
	path := filepath.Join(in.dir, controlSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // the spool's lock says that no other gateway lives here
		return fmt.Errorf("remove the old control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("open the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return fmt.Errorf("protect the control socket: %w", err)
	}
	in.control = in.serveOnSocket(l, in.controlHandler())
	m, err := openMetrics(p)
	if err != nil {
		return err
	}
	in.serveMetrics(m)
	return nil
}

// openMetrics opens the address of [metrics]; nil if there is none.
func openMetrics(p *policy.Policy) (net.Listener, error) {
	if p.Metrics.Address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", p.Metrics.Address)
	if err != nil {
		return nil, fmt.Errorf("open the metrics address: %w", err)
	}
	return l, nil
}

// serveMetrics serves the metrics on l, if it is not nil, and nowhere else.
func (in *instance) serveMetrics(l net.Listener) {
	var s *http.Server
	if l != nil {
		s = in.serveOnSocket(l, in.meter.handler(in.ready))
	}
	if old := in.metrics.Swap(s); old != nil {
		old.Close()
	}
}

func (in *instance) serveOnSocket(l net.Listener, h http.Handler) *http.Server {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10, ConnContext: withPeer}
	in.done.Go(func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			in.log.Error("serve HTTP", "address", l.Addr().String(), "error", err)
		}
	})
	return s
}

// ready says why the gateway does not take mail, if it does not.
func (in *instance) ready() error {
	if _, err := in.spool.Free(); err != nil {
		return err
	}
	if !in.spool.Room(0) {
		return errors.New("the spool's disk is full")
	}
	return nil
}

// readyEvery is how often the log is told whether mail is taken.
const readyEvery = 2 * time.Second

// watchReady says in the log when the gateway stops taking mail, and when it
// takes mail again.
func (in *instance) watchReady(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	taking := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := in.ready()
		switch {
		case err != nil && taking:
			in.log.Error("mail is refused with 452 until there is room", "directory", in.dir, "error", err)
		case err == nil && !taking:
			in.log.Info("there is room: mail is taken again", "directory", in.dir)
		}
		taking = err == nil
	}
}

func (in *instance) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", in.answer(func(*http.Request) (any, error) { return in.status() }))
	mux.HandleFunc("POST /reload", in.answer(func(r *http.Request) (any, error) {
		if err := in.reload(r.Context(), "by "+actor(r)); err != nil {
			return nil, err
		}
		return in.status()
	}))
	mux.HandleFunc("GET /queue", in.answer(in.queueList))
	mux.HandleFunc("POST /queue/{verb}", in.answer(in.queueAct))
	mux.HandleFunc("GET /quarantine", in.answer(in.heldList))
	mux.HandleFunc("GET /quarantine/{id}", in.answer(in.heldShow))
	mux.HandleFunc("GET /quarantine/{id}/body", in.heldBody)
	mux.HandleFunc("POST /quarantine/{id}/release", in.answer(in.heldRelease))
	mux.HandleFunc("DELETE /quarantine/{id}", in.answer(in.heldDelete))
	mux.HandleFunc("POST /forget", in.answer(in.forget))
	mux.HandleFunc("GET /dmarc/reports", in.answer(in.reportList))
	mux.HandleFunc("GET /dmarc/report", in.answer(in.reportShow))
	mux.HandleFunc("POST /keys", in.answer(in.keyNoted))
	return mux
}

// answer makes a handler of a function: its value as JSON, or its error.
func (in *instance) answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
}

// A requestError is a request that makes no sense: a wrong use of the command
// line.
type requestError struct{ cause error }

func (e *requestError) Error() string { return e.cause.Error() }

func badRequest(format string, args ...any) error {
	return &requestError{fmt.Errorf(format, args...)}
}

func writeError(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	var usage *requestError
	switch {
	case errors.Is(err, store.ErrNotFound):
		code, err = http.StatusNotFound, errors.New("there is no such held message; postern quarantine list --all shows their ids")
	case errors.Is(err, spool.ErrNotFound):
		code, err = http.StatusNotFound, errors.New("there is no such message in the queue; postern queue list shows their ids")
	case errors.As(err, &usage):
		code = http.StatusBadRequest
	case errors.Is(err, store.ErrFull):
		code = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(controlError{Error: err.Error()})
}

// decode reads a request's JSON body.
func decode(r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badRequest("%w", err)
	}
	return nil
}

func paths(addresses []string) ([]mail.Path, error) {
	var ps []mail.Path
	for _, a := range addresses {
		p, err := mail.ParsePath(a, true)
		if err != nil {
			return nil, badRequest("%q: %v", a, err)
		}
		ps = append(ps, p)
	}
	return ps, nil
}

func (in *instance) status() (statusAnswer, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	p := in.gateway.State().Policy
	a := statusAnswer{
		Version: build().Version, PID: os.Getpid(), Since: in.since, File: in.set.file, Policy: p.Hash, Loaded: in.loaded, Stale: in.stale, Held: map[string]int{},
		Waiting: in.waiting, Aside: in.spool.Aside(),
	}
	for _, w := range p.Warnings {
		a.Warnings = append(a.Warnings, w.String())
	}
	for _, name := range sortedKeys(in.listeners) {
		l := in.listeners[name]
		a.Listeners = append(a.Listeners, listenerStatus{Name: name, Address: l.socket.Addr().String(), Role: string(l.role), Sessions: l.server.Sessions()})
	}
	for _, u := range in.queue.Stats().Upstreams {
		a.Queued += u.Messages
		a.Oldest = max(a.Oldest, u.Oldest.Seconds())
	}
	for _, d := range in.relay.Stats().Destinations {
		a.Down = append(a.Down, downStatus{Upstream: d.Hop, Address: d.Address, Since: d.Since, Error: d.Error})
	}
	free, err := in.spool.Free()
	if err != nil {
		return a, err
	}
	a.Spool = uint64(free)
	return a, in.heldTotals(a.Held)
}

// peerKey is the context key of the Unix user at the other end.
type peerKey struct{}

// actor names who asks: the Unix user at the other end of the control socket.
func actor(r *http.Request) string {
	if uid, ok := r.Context().Value(peerKey{}).(uint32); ok {
		return userName(uid)
	}
	return "unknown"
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}
