package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"postern/audit"
	"postern/dns"
	"postern/filters"
	"postern/policy"
)

type serveCmd struct {
	DNS string `help:"Answer every DNS look-up from this zone file (JSON)." type:"path" placeholder:"FILE"`
}

// Run runs the gateway until SIGTERM or SIGINT. SIGHUP and changed files reload
// the policy.
func (s *serveCmd) Run(g *globals) error {
	p, err := g.load()
	if err != nil {
		return err
	}
	out, err := logWriter(p)
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	level.Set(levelOf(p))
	log := slog.New(logHandler(p, out, level))
	for _, w := range p.Warnings {
		log.Warn(w.String())
	}
	in, err := start(context.Background(), settings{file: g.Config, state: g.State, zone: s.DNS, log: log, level: level, mailLog: out})
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	stopWatching := in.watch()
	for name, l := range in.listeners {
		log.Info("listening", "listener", name, "address", l.socket.Addr().String(), "role", string(l.role))
	}
	defer runtime.KeepAlive(heapFloor())
	dropStartPages()
	notify(daemon.SdNotifyReady)
	for sig := range signals {
		if sig == syscall.SIGHUP {
			in.reload(context.Background(), "SIGHUP")
			continue
		}
		break
	}
	notify(daemon.SdNotifyStopping)
	log.Info("stopping")
	stopWatching()
	in.stop(context.Background())
	return nil
}

// heapFloor returns memory that is never touched, so that none is taken from the
// system for it. It counts for the garbage collector, which else would begin
// anew after every four megabytes: mail leaves little behind and much garbage.
// Who sets GOGC or GOMEMLIMIT has chosen otherwise.
func heapFloor() []byte {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	debug.FreeOSMemory() // what the start has left behind
	return make([]byte, 24<<20)
}

// notify tells systemd, if it is there.
func notify(state string) { daemon.SdNotify(false, state) }

// logWriter is where [log] to says.
func logWriter(p *policy.Policy) (io.Writer, error) {
	if p.Log.To != "syslog" {
		return os.Stderr, nil
	}
	w, err := syslog.New(syslog.LOG_MAIL|syslog.LOG_INFO, "postern")
	if err != nil {
		return nil, fmt.Errorf("open syslog: %w; [log] to = \"stderr\" needs none", err)
	}
	return &syslogLines{w}, nil
}

// severities are the ways to say a line to syslog.
type severities interface {
	Debug(m string) error
	Info(m string) error
	Warning(m string) error
	Err(m string) error
}

// syslogLines writes each line as a message of its own, with the severity that
// its level says.
type syslogLines struct{ to severities }

// Write implements io.Writer.
func (s *syslogLines) Write(p []byte) (int, error) {
	done := 0
	for line := range bytes.Lines(p) {
		text := string(bytes.TrimRight(line, "\n"))
		say := s.to.Info
		switch levelIn(text) {
		case "debug":
			say = s.to.Debug
		case "warn":
			say = s.to.Warning
		case "error":
			say = s.to.Err
		}
		if err := say(text); err != nil {
			return done, err
		}
		done += len(line)
	}
	return done, nil
}

// levelIn is the level of a log line, which stands after its time in both
// formats.
func levelIn(line string) string {
	if _, rest, ok := strings.Cut(line, `,"level":"`); ok && strings.HasPrefix(line, "{") {
		level, _, _ := strings.Cut(rest, `"`)
		return level
	}
	_, rest, _ := strings.Cut(line, " ")
	field, _, _ := strings.Cut(rest, " ")
	return strings.TrimPrefix(field, "level=")
}

// levelOf is the level of the operator's log.
func levelOf(p *policy.Policy) slog.Level {
	level := slog.LevelInfo
	if level.UnmarshalText([]byte(p.Log.Level)) != nil {
		return slog.LevelInfo
	}
	return level
}

// setLevel puts the policy's level in force.
func (in *instance) setLevel(p *policy.Policy) {
	if in.set.level != nil {
		in.set.level.Set(levelOf(p))
	}
}

func logHandler(p *policy.Policy, w io.Writer, level slog.Leveler) slog.Handler {
	if p.Log.Format == "json" {
		return audit.NewJSON(w, level)
	}
	return audit.NewLogfmt(w, level)
}

// newResolver asks the servers of [dns], or the system's.
func newResolver(p *policy.Policy) dns.Resolver {
	servers := make([]string, 0, len(p.DNS.Servers))
	for _, s := range p.DNS.Servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			s = net.JoinHostPort(s, "53")
		}
		servers = append(servers, s)
	}
	return dns.NewClient(dns.ClientOptions{Servers: servers, Timeout: time.Duration(p.DNS.Timeout)})
}

// envOf is what the filters of p may use.
func envOf(p *policy.Policy, r dns.Resolver, log *slog.Logger) *filters.Env {
	return &filters.Env{Resolver: r, Now: time.Now, Log: log, Hostname: p.Site.Hostname, Domains: p.Site.Domains, Language: p.Site.Language}
}
