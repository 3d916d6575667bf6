package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"postern/audit"
	"postern/dns"
	"postern/feedback"
	"postern/filters/standard"
	"postern/gateway"
	"postern/mail"
	"postern/policy"
	"postern/quarantine"
	"postern/queue"
	"postern/relay"
	"postern/smtpd"
	"postern/spool"
)

// settings say what an instance runs.
type settings struct {
	file    string // the policy file
	text    []byte // its text; nil: read the file
	state   string // overrides [storage] state
	zone    string // a DNS zone file instead of real DNS
	log     *slog.Logger
	level   *slog.LevelVar // of log; nil: whatever the policy says, it is not ours
	mailLog io.Writer
	observe func(*mail.Transaction, *gateway.Outcome, []gateway.Fate)
	now     func() time.Time // the clock of DMARC reports; nil: time.Now
}

// An instance is a running gateway with everything around it.
type instance struct {
	set   settings
	log   *slog.Logger
	since time.Time
	dir   string

	meter      *meter
	spool      *spool.Spool
	relay      *relay.Client
	resolver   dns.Resolver
	places     *places
	quarantine *quarantine.Quarantine
	audit      *audit.Log
	queue      *queue.Queue
	gateway    *gateway.Gateway
	certs      *smtpd.Certificates
	certFiles  [2]string
	accounts   *accountFiles
	lines      *audit.LineWriter
	mailLog    *audit.MailLog
	reports    *feedback.Reporter
	contacts   *contacts

	control *http.Server
	metrics atomic.Pointer[http.Server] // nil: off

	mu        sync.Mutex // reload and the facts below
	listeners map[string]*listening
	loaded    time.Time
	stale     string         // why the last reload was refused
	begun     *policy.Policy // with which this process began
	waiting   []string       // settings that wait for the next start

	cancel context.CancelFunc
	done   sync.WaitGroup
}

// A listening is one listener and its socket.
type listening struct {
	server *smtpd.Server
	socket net.Listener
	role   mail.Role
}

// start brings up a whole gateway, or nothing. The order is that of the
// dependencies; what fails is closed again in the opposite one.
func start(ctx context.Context, set settings) (*instance, error) {
	p, err := set.load()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	in := &instance{set: set, log: set.log, since: time.Now(), dir: p.Storage.State, meter: newMeter(), listeners: map[string]*listening{}, begun: p, cancel: cancel}
	if err := in.open(ctx, p); err != nil {
		in.close()
		return nil, err
	}
	in.run(ctx)
	return in, nil
}

func (in *instance) open(ctx context.Context, p *policy.Policy) error {
	if err := os.MkdirAll(in.dir, 0o700); err != nil {
		return fmt.Errorf("make the state directory: %w; [storage] state, POSTERN_STATE or --state names another", err)
	}
	if err := in.openState(p); err != nil {
		return in.taken(err)
	}
	if err := in.openRoute(ctx, p); err != nil {
		return err
	}
	if err := in.listen(p); err != nil {
		return err
	}
	if err := in.serveHTTP(p); err != nil {
		return err
	}
	return in.audit.Append(ctx, audit.Record{
		Event: audit.Start, Policy: p.Hash, Actor: processOwner(), Detail: fmt.Sprintf("version %s, policy file %s", build().Version, in.set.file),
	})
}

// taken names the gateway that has the state directory already, if that is why
// it cannot be opened.
func (in *instance) taken(err error) error {
	var other statusAnswer
	if dialControl(in.dir).call("GET", "/status", nil, &other) != nil {
		return err
	}
	return fmt.Errorf("another gateway (pid %d) has the state directory %s; stop it, or name another with --state", other.PID, in.dir)
}

// load reads the policy, from the text that was given or from the file.
func (set *settings) load() (*policy.Policy, error) {
	o := policy.LoadOptions{Filters: standard.Filters}
	var p *policy.Policy
	var err error
	if set.text != nil {
		p, err = policy.Load(set.file, set.text, o)
	} else {
		p, err = policy.LoadFile(set.file, o)
	}
	if err != nil {
		return nil, err
	}
	if set.state != "" {
		p.Storage.State = set.state
	}
	return p, nil
}

// openState opens what lies in the state directory.
func (in *instance) openState(p *policy.Policy) error {
	var err error
	in.spool, err = spool.Open(filepath.Join(in.dir, "spool"), spool.Options{Reserve: reserve(in.dir, int64(p.Queue.Reserve)), Log: in.log})
	if err != nil {
		return fmt.Errorf("open the spool: %w", err)
	}
	if in.places, err = openPlaces(in.dir); err != nil {
		return err
	}
	if in.audit, err = in.places.openAudit(in.log); err != nil {
		return err
	}
	in.places.keepAudit(p)
	in.quarantine, err = in.places.openQuarantine(p, in.audit, in.log)
	return err
}

// openRoute makes the gateway and the queue, which deliver through each other.
func (in *instance) openRoute(ctx context.Context, p *policy.Policy) error {
	resolver, err := openResolver(p, in.set.zone)
	if err != nil {
		return err
	}
	in.resolver = resolver
	in.relay = relay.New(relay.Options{Hostname: p.Site.Hostname, Resolver: in.resolver, Log: in.log})
	in.contacts = newContacts(in.places.records, in.places.records, in.log)
	st, err := in.newState(p)
	if err != nil {
		return err
	}
	in.accounts = &accountFiles{}
	if err := in.accounts.read(p, in.log); err != nil {
		return err
	}
	in.mailLog = in.newMailLog(p)
	in.gateway = gateway.New(gateway.Options{
		Spool: in.spool, Relay: in.relay, Quarantine: in.quarantine, Audit: in.audit, MailLog: in.mailLog,
		Log: in.log, NewID: smtpd.NewID, Meter: in.meter, Accounts: in.accounts.check, Observe: in.observe,
	}, st)
	in.queue = queue.New(in.gateway.QueueOptions())
	in.gateway.SetQueue(in.queue)
	in.reports = in.newReports()
	in.loaded = time.Now()
	in.meter.reloaded(true, in.loaded)
	in.gauges()
	return nil
}

// newMailLog writes one line per recipient and event to where the log goes. The
// policy with which a transaction began says whether it has its subject.
func (in *instance) newMailLog(p *policy.Policy) *audit.MailLog {
	in.lines = audit.NewLineWriter(in.set.mailLog, logGather)
	return audit.NewMailLog(in.lines, audit.MailLogOptions{JSON: p.Log.Format == "json", Subjects: true})
}

// logGather is how long lines of the mail log are gathered before they are
// written together.
const logGather = 50 * time.Millisecond

// newState runs the policy's own tests and opens its filters. A policy whose
// tests fail is refused.
func (in *instance) newState(p *policy.Policy) (*gateway.State, error) {
	if err := in.runTests(p); err != nil {
		return nil, err
	}
	env := envOf(p, in.resolver, in.log)
	env.Contacts = in.contacts
	return gateway.NewState(p, parseOptions(p), env)
}

// run starts what goes on in the background.
func (in *instance) run(ctx context.Context) {
	in.done.Go(func() { in.queue.Run(ctx) })
	in.done.Go(func() { in.quarantine.Run(ctx) })
	in.done.Go(func() { in.reports.Run(ctx) })
	in.done.Go(func() { in.contacts.run(ctx) })
	in.done.Go(func() { in.watchReady(ctx, readyEvery) })
	for name, l := range in.listeners {
		in.serveListener(name, l)
	}
}

// addr is the address on which a listener listens.
func (in *instance) addr(listener string) string {
	if l, ok := in.listeners[listener]; ok {
		return l.socket.Addr().String()
	}
	return ""
}

// drainLimit is how long sessions have to end at a shutdown.
const drainLimit = 30 * time.Second

// stop drains the sessions with 421, lets deliveries end, and closes.
func (in *instance) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	var wg sync.WaitGroup
	for _, l := range in.listeners {
		wg.Go(func() { l.server.Shutdown(ctx) })
	}
	wg.Wait()
	for _, s := range in.servers() {
		s.Shutdown(ctx)
	}
	if err := in.audit.Append(ctx, audit.Record{Event: audit.Stop, Actor: processOwner(), Detail: fmt.Sprintf("after %s", time.Since(in.since).Round(time.Second))}); err != nil {
		in.log.Error("write audit record", "event", string(audit.Stop), "error", err)
	}
	in.close()
}

// servers are the HTTP servers that run, the one that may start others first.
func (in *instance) servers() (all []*http.Server) {
	for _, s := range []*http.Server{in.control, in.metrics.Load()} {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// close ends everything that start has opened so far.
func (in *instance) close() {
	in.cancel()
	for _, l := range in.listeners {
		l.socket.Close()
	}
	for _, s := range in.servers() {
		s.Close()
	}
	in.done.Wait()
	if in.relay != nil {
		in.relay.Close()
	}
	if in.gateway != nil {
		in.gateway.Close()
	}
	if in.audit != nil {
		if err := in.audit.Close(); err != nil {
			in.log.Error("close the audit log", "error", err)
		}
	}
	if in.places != nil {
		if err := in.places.close(); err != nil {
			in.log.Error("close the stores", "error", err)
		}
	}
	if in.lines != nil {
		in.lines.Close()
	}
	if in.spool != nil {
		if err := in.spool.Close(); err != nil {
			in.log.Error("close the spool", "error", err)
		}
	}
}
