package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/fsnotify/fsnotify"

	"postern/audit"
	"postern/gateway"
	"postern/policy"
	"postern/smtpd"
)

// reload loads a whole new policy and swaps it in. A bad one is refused and the
// old one keeps running; transactions keep the one they began with.
func (in *instance) reload(ctx context.Context, why string) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
	defer notify(daemon.SdNotifyReady)
	p, err := in.tryReload(ctx, why)
	if err != nil {
		in.stale = firstMistake(err)
		in.meter.reloaded(false, time.Now())
		in.log.Error("the policy was refused; the old one stays in force", "file", in.set.file, "error", firstMistake(err))
		rec := audit.Record{Event: audit.Reload, Policy: in.gateway.State().Policy.Hash, Detail: "refused, " + why, Reason: firstMistake(err)}
		if err := in.audit.Append(ctx, rec); err != nil {
			in.log.Error("write audit record", "event", string(rec.Event), "error", err)
		}
		return err
	}
	in.stale = ""
	if p == nil {
		in.meter.current()
		return nil
	}
	in.loaded = time.Now()
	in.meter.reloaded(true, in.loaded)
	in.log.Info("the policy is in force", "file", in.set.file, "policy", p.Hash, "why", why)
	return nil
}

// firstMistake is the first line of what is wrong with a policy; a warning is
// not wrong.
func firstMistake(err error) string {
	var problems policy.Problems
	if !errors.As(err, &problems) {
		return firstLine(err.Error())
	}
	text, n := "", 0
	for _, x := range problems {
		if x.Severity == policy.Error {
			if n++; n == 1 {
				text = x.String()
			}
		}
	}
	if n > 1 {
		text += fmt.Sprintf(" (and %d more)", n-1)
	}
	return text
}

// tryReload returns the policy that is now in force, or nil if the file is as
// it was when it was loaded.
func (in *instance) tryReload(ctx context.Context, why string) (*policy.Policy, error) {
	p, err := in.set.load()
	if err != nil {
		return nil, err
	}
	old := in.gateway.State().Policy
	if p.Hash == old.Hash && why == "file" {
		return nil, nil // an editor touched the file
	}
	st, err := in.newState(p)
	if err != nil {
		return nil, err
	}
	next, err := in.prepare(p)
	if err != nil {
		next.close()
		st.Close()
		return nil, err
	}
	in.swap(p, st, next)
	in.waiting = needsRestart(in.begun, p)
	for _, what := range in.waiting {
		in.log.Warn("a setting needs a restart", "file", in.set.file, "setting", what)
	}
	return p, in.audit.Append(ctx, audit.Record{Event: audit.Reload, Policy: p.Hash, Detail: fmt.Sprintf("%s; before: %s", why, old.Hash)})
}

// serversOf is what of [dns] the resolver is made of.
func serversOf(p *policy.Policy) policy.DNS {
	return policy.DNS{Servers: p.DNS.Servers, Timeout: p.DNS.Timeout}
}

// needsRestart names the settings that a reload cannot change and that are not
// what this process began with.
func needsRestart(begun, p *policy.Policy) []string {
	var names []string
	for _, s := range []struct {
		name     string
		was, now any
	}{
		{"[site] hostname", begun.Site.Hostname, p.Site.Hostname},
		{"[storage]", begun.Storage, p.Storage},
		{"[log] format", begun.Log.Format, p.Log.Format},
		{"[log] to", begun.Log.To, p.Log.To},
		{"[dns]", serversOf(begun), serversOf(p)},
		{"[queue] reserve", begun.Queue.Reserve, p.Queue.Reserve},
	} {
		if !reflect.DeepEqual(s.was, s.now) {
			names = append(names, s.name)
		}
	}
	return names
}

// A prepared is what a new policy needs before it is put in force.
type prepared struct {
	opened  map[string]*listening // sockets of listeners that are new or have moved
	configs []smtpd.Config
	metrics net.Listener // nil: where it is, or nowhere
}

// close gives up what was opened for a policy that is refused.
func (p *prepared) close() {
	for _, l := range p.opened {
		l.socket.Close()
	}
	if p.metrics != nil {
		p.metrics.Close()
	}
}

// prepare does all that can fail before anything is put in force.
func (in *instance) prepare(p *policy.Policy) (*prepared, error) {
	next := &prepared{configs: make([]smtpd.Config, len(p.Listeners))}
	var err error
	for i := range p.Listeners {
		if next.configs[i], err = in.listenerConfig(p, &p.Listeners[i]); err != nil {
			return next, fmt.Errorf("listener %q: %w", p.Listeners[i].Name, err)
		}
	}
	if next.opened, err = in.reopen(p); err != nil {
		return next, err
	}
	if p.Metrics != in.gateway.State().Policy.Metrics {
		if next.metrics, err = openMetrics(p); err != nil {
			return next, err
		}
	}
	return next, in.accounts.read(p, in.log)
}

// reopen opens the sockets of listeners that are new or have moved.
func (in *instance) reopen(p *policy.Policy) (map[string]*listening, error) {
	opened := map[string]*listening{}
	old := in.gateway.State().Policy
	for i := range p.Listeners {
		l := &p.Listeners[i]
		if was := listenerOf(old, l.Name); was != nil && was.Address == l.Address && in.listeners[l.Name] != nil {
			continue
		}
		socket, err := openSocket(l)
		if err != nil {
			return opened, err
		}
		opened[l.Name] = &listening{socket: socket, role: l.Role}
	}
	return opened, nil
}

func listenerOf(p *policy.Policy, name string) *policy.Listener {
	for i := range p.Listeners {
		if p.Listeners[i].Name == name {
			return &p.Listeners[i]
		}
	}
	return nil
}

// swap puts everything new in force. Sessions of a listener that is gone end
// with their next command.
func (in *instance) swap(p *policy.Policy, st *gateway.State, next *prepared) {
	if p.Metrics != in.gateway.State().Policy.Metrics {
		in.serveMetrics(next.metrics)
	}
	in.setLevel(p)
	in.gateway.Swap(st)
	in.relay.CloseIdle()
	in.quarantine.Configure(heldSettings(p))
	in.places.keepAudit(p)
	in.queue.Reconfigure(in.gateway.QueueOptions())
	for name, l := range in.listeners {
		if listenerOf(p, name) == nil || next.opened[name] != nil {
			l.socket.Close()
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
				defer cancel()
				l.server.Shutdown(ctx)
			}()
			delete(in.listeners, name)
		}
	}
	for _, cfg := range next.configs {
		if l := in.listeners[cfg.Name]; l != nil {
			l.server.Reconfigure(cfg)
			continue
		}
		in.serveOn(cfg, next.opened[cfg.Name])
	}
}

// settle is how long the files must be quiet before they are read: editors
// write in several steps.
const settle = 300 * time.Millisecond

// watch reloads when the policy file, or a list that it names, changes. It
// watches their directories: an editor that renames makes a new file.
func (in *instance) watch() (stop func()) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		in.log.Warn("changed files are not noticed; use postern reload", "error", err)
		return func() {}
	}
	files := map[string]bool{}
	add := func() {
		for _, f := range append([]string{in.set.file}, in.gateway.State().Policy.Files...) {
			f, err := filepath.Abs(f)
			if err != nil || files[f] {
				continue
			}
			files[f] = true
			if err := w.Add(filepath.Dir(f)); err != nil {
				in.log.Warn("changes of a file are not noticed; use postern reload", "file", f, "error", err)
			}
		}
	}
	add()
	in.done.Go(func() {
		var due <-chan time.Time
		for {
			select {
			case ev, ok := <-w.Events:
				if !ok {
					return
				}
				if name, err := filepath.Abs(ev.Name); err == nil && files[name] && !ev.Has(fsnotify.Chmod) {
					due = time.After(settle)
				}
			case _, ok := <-w.Errors:
				if !ok {
					return
				}
			case <-due:
				due = nil
				in.reload(context.Background(), "file")
				add()
			}
		}
	})
	return func() { w.Close() }
}

// runTests runs the policy's own tests with nothing that touches the world, on
// filters of their own.
func (in *instance) runTests(tested *policy.Policy) error {
	p, err := in.set.load()
	switch {
	case err != nil:
		return err
	case p.Hash != tested.Hash:
		return errors.New("the policy was changed while it was read; it is read again with the next reload")
	}
	results, err := runPolicyTests(p)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range results {
		if !r.Passed {
			errs = append(errs, fmt.Errorf("%s:%d: test %q fails: expected %s, got %s", p.Name, r.Line, r.Name, r.Expected, r.Got))
		}
	}
	return errors.Join(errs...)
}
