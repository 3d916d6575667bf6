package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"postern/audit"
	"postern/filters/standard"
	"postern/policy"
	"postern/quarantine"
	"postern/smtpd"
)

const servedPolicy = `version = 1
site.domains = ["example.org"]
[[upstream]]
name = "mail"
to   = ["127.0.0.1:1"]
for  = ["example.org"]
[[listener]]
name    = "in"
address = "127.0.0.1:0"
role    = "inbound"
`

// serveTest starts a gateway with a policy in a file of its own.
func serveTest(t *testing.T, text string) *instance {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.toml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	in, err := start(t.Context(), settings{file: file, state: filepath.Join(dir, "state"), log: slog.New(slog.DiscardHandler), mailLog: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.stop(context.Background()) })
	return in
}

// TestNotify: systemd hears of a reload, with its time, and of its end.
func TestNotify(t *testing.T) {
	in := serveTest(t, servedPolicy)
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := in.reload(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	l.SetReadDeadline(time.Now().Add(10 * time.Second))
	for _, want := range []string{"RELOADING=1\nMONOTONIC_USEC=", "READY=1"} {
		buf := make([]byte, 512)
		n, err := l.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), want) {
			t.Errorf("systemd was told %q, %v; want %q", buf[:n], err, want)
		}
	}
}

// TestMetricNames holds the names and help texts to Prometheus' rules.
func TestMetricNames(t *testing.T) {
	in := serveTest(t, servedPolicy)
	in.meter.reply(250)
	in.meter.tlsSession("1.3")
	in.meter.Delivery("mail", time.Millisecond)
	in.meter.Filter("virus", time.Millisecond, true)
	in.meter.Message("inbound", "sent", 1)
	in.meter.hooks("in").Refused("connections")
	w := httptest.NewRecorder()
	in.meter.handler(in.ready).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	problems, err := promlint.New(w.Body).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestReady: a gateway whose spool is full says why it takes no mail.
func TestReady(t *testing.T) {
	in := serveTest(t, servedPolicy)
	for path, want := range map[string]string{"/readyz": "ready\n", "/healthz": "ok\n"} {
		w := httptest.NewRecorder()
		in.meter.handler(in.ready).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 || w.Body.String() != want {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	in.meter.handler(func() error { return fmt.Errorf("the spool's disk is full") }).ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "disk is full") {
		t.Errorf("/readyz of a full gateway: %d %q", w.Code, w.Body)
	}
}

// TestStatusText: what is wrong stands in capitals.
func TestStatusText(t *testing.T) {
	a := statusAnswer{
		PID: 1, File: "policy.toml", Policy: strings.Repeat("ab", 32), Stale: "policy.toml:1:1: no", Waiting: []string{"[log]"}, Aside: 2,
		Warnings: []string{"policy.toml:1:1: warning: careful"}, Queued: 3, Oldest: 90, Held: map[string]int{"spam": 4},
		Down: []downStatus{{Upstream: "mail", Address: "10.0.5.10:25", Error: "refused"}},
	}
	var b strings.Builder
	if err := a.write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"policy   policy.toml abababababab,", "STALE    the last reload was refused: policy.toml:1:1: no\n", "restart  [log] has changed",
		"warning  policy.toml:1:1: careful\n", "queue    3 messages, the oldest 1m30s\n", "DOWN     mail 10.0.5.10:25 since ", "ASIDE    2 damaged",
		"held     spam: 4\n", "FULL     no disk space",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("status does not say %q:\n%s", want, &b)
		}
	}
}

// TestSweptCutsAudit: records older than [audit] keep go with a sweep, unless
// the clock cannot be trusted, and what is left verifies.
func TestSweptCutsAudit(t *testing.T) {
	in := serveTest(t, servedPolicy)
	first := func() uint64 {
		t.Helper()
		r, err := in.audit.Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r.First
	}
	in.places.keep.Store(1) // a nanosecond
	for _, steady := range []bool{false, true} {
		if err := in.places.swept(t.Context(), in.audit, quarantine.SweepReport{Steady: steady, Expired: 2}); err != nil {
			t.Fatal(err)
		}
		if first() != 1 {
			t.Error("the section that is being written was cut")
		}
	}
	records, err := in.audit.List(t.Context(), audit.Query{Events: []audit.Event{audit.Expire}})
	if err != nil || len(records) != 2 || records[0].Detail != "2 held messages removed by age" {
		t.Errorf("records of what expired: %v, %v", records, err)
	}
}

// TestCertificateReplaced: a certificate whose files change is used at once and
// stands in the audit log.
func TestCertificateReplaced(t *testing.T) {
	dir := t.TempDir()
	pem, key, err := smtpd.SelfSigned(dir, "one.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	in := serveTest(t, servedPolicy+fmt.Sprintf("[tls]\ncertificate = %q\nkey = %q\n", pem, key))
	was := in.certificateEnds()
	if err := errors.Join(os.Remove(pem), os.Remove(key)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := smtpd.SelfSigned(dir, "two.example", time.Now().Add(48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); in.certificateEnds() == was; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not used")
		}
	}
	records, err := in.audit.List(t.Context(), audit.Query{Events: []audit.Event{audit.KeyChange}})
	if err != nil || len(records) == 0 || records[len(records)-1].Detail != "another certificate is in use: "+pem {
		t.Errorf("records of keys: %v, %v", records, err)
	}
}

// TestDefaultState: the state directory of a policy that says nothing is the
// same for the gateway and for who looks for it.
func TestDefaultState(t *testing.T) {
	p, err := policy.Load("p.toml", []byte(servedPolicy), policy.LoadOptions{Filters: standard.Filters})
	if err != nil {
		t.Fatal(err)
	}
	if p.Storage.State != defaultState {
		t.Errorf("the policy says %s, the command line %s", p.Storage.State, defaultState)
	}
}

// TestNeedsRestart names settings that a reload leaves as they are.
func TestNeedsRestart(t *testing.T) {
	load := func(more string) *policy.Policy {
		p, err := policy.Load("p.toml", []byte(servedPolicy+more), policy.LoadOptions{Filters: standard.Filters})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	begun := load("")
	if got := needsRestart(begun, load("[queue]\nexpire = \"2d\"\n")); got != nil {
		t.Errorf("a reload changes the queue's settings, but %v wait", got)
	}
	got := needsRestart(begun, load("[log]\nlevel = \"debug\"\nsubjects = true\nformat = \"json\"\n[metrics]\naddress = \"127.0.0.1:9\"\n[queue]\nreserve = \"1GB\"\n"))
	if want := []string{"[log] format", "[queue] reserve"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v wait, want %v", got, want)
	}
}

// TestReloadMetricsAndLevel: a reload moves the metrics, switches them off, and
// changes the level of the log. An address that is taken leaves all as it was.
func TestReloadMetricsAndLevel(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := make([]string, 2)
	for i := range free {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		free[i] = l.Addr().String()
		defer l.Close()
		l.Close()
	}
	in := serveTest(t, servedPolicy)
	in.set.level = new(slog.LevelVar)
	reload := func(more string) error {
		if err := os.WriteFile(in.set.file, []byte(servedPolicy+more), 0o644); err != nil {
			t.Fatal(err)
		}
		return in.reload(t.Context(), "test")
	}
	answers := func(address string) bool {
		r, err := http.Get("http://" + address + "/healthz")
		if err == nil {
			r.Body.Close()
		}
		return err == nil && r.StatusCode == 200
	}
	for i, step := range []struct {
		more       string
		ok         bool
		one, other bool
		level      slog.Level
	}{
		{"[metrics]\naddress = \"" + free[0] + "\"\n[log]\nlevel = \"debug\"\n", true, true, false, slog.LevelDebug},
		{"[metrics]\naddress = \"" + taken.Addr().String() + "\"\n[log]\nlevel = \"error\"\n", false, true, false, slog.LevelDebug},
		{"[metrics]\naddress = \"" + free[1] + "\"\n[log]\nlevel = \"error\"\n", true, false, true, slog.LevelError},
		{"", true, false, false, slog.LevelInfo},
	} {
		if err := reload(step.more); (err == nil) != step.ok {
			t.Errorf("step %d: %v", i, err)
		}
		if one, other := answers(free[0]), answers(free[1]); one != step.one || other != step.other {
			t.Errorf("step %d: the metrics answer at the first address: %v, at the second: %v", i, one, other)
		}
		if got := in.set.level.Level(); got != step.level {
			t.Errorf("step %d: level %v", i, got)
		}
	}
}

// TestLogHandler: the level and the format of [log].
func TestLogHandler(t *testing.T) {
	for _, c := range []struct {
		format, level string
		want          string
	}{
		{"logfmt", "info", "level=info msg=one\n"},
		{"logfmt", "debug", "level=debug msg=zero\n"},
		{"logfmt", "error", ""},
		{"json", "info", `"level":"info","msg":"one"}` + "\n"},
	} {
		var b bytes.Buffer
		p := &policy.Policy{Log: policy.Log{Format: c.format, Level: c.level}}
		l := slog.New(logHandler(p, &b, levelOf(p)))
		l.Debug("zero")
		l.Info("one")
		line, _, _ := strings.Cut(b.String(), "\n")
		if c.want == "" && b.Len() > 0 || !strings.HasSuffix(line, strings.TrimSuffix(c.want, "\n")) {
			t.Errorf("%s at %s: %q", c.format, c.level, &b)
		}
		if c.format == "json" && !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %q", line)
		}
	}
}

type fakeSyslog struct{ said []string }

func (f *fakeSyslog) say(how, m string) error { f.said = append(f.said, how+" "+m); return nil }
func (f *fakeSyslog) Debug(m string) error    { return f.say("debug", m) }
func (f *fakeSyslog) Info(m string) error     { return f.say("info", m) }
func (f *fakeSyslog) Warning(m string) error  { return f.say("warning", m) }
func (f *fakeSyslog) Err(m string) error      { return f.say("err", m) }

// TestSyslogLines: a line is a message, with the severity of its level, however
// many come at once; what a message says about levels does not count.
func TestSyslogLines(t *testing.T) {
	var f fakeSyslog
	l := slog.New(audit.NewLogfmt(&syslogLines{&f}, slog.LevelDebug))
	l.Debug("a")
	l.Warn("b")
	l.Error("c")
	slog.New(audit.NewJSON(&syslogLines{&f}, slog.LevelInfo)).Error("d")
	if _, err := io.WriteString(&syslogLines{&f}, "t level=info msg=e subject=\" level=error \"\nt level=warn msg=f\n"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range f.said {
		how, _, _ := strings.Cut(s, " ")
		got = append(got, how)
	}
	if want := "debug warning err err info warning"; strings.Join(got, " ") != want {
		t.Errorf("severities %v, want %s: %q", got, want, f.said)
	}
}

// TestExplainDocument: docs/explain.md names every field of the JSON.
func TestExplainDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/explain.md")
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	var walk func(reflect.Type)
	walk = func(r reflect.Type) {
		for r.Kind() == reflect.Slice || r.Kind() == reflect.Pointer {
			r = r.Elem()
		}
		if r.Kind() != reflect.Struct {
			return
		}
		for i := range r.NumField() {
			name, _, _ := strings.Cut(r.Field(i).Tag.Get("json"), ",")
			fields++
			if !strings.Contains(string(text), "`"+name+"`") {
				t.Errorf("docs/explain.md does not name %s of %s", name, r.Name())
			}
			walk(r.Field(i).Type)
		}
	}
	walk(reflect.TypeFor[explained]())
	if fields < 50 {
		t.Errorf("only %d fields were found", fields)
	}
}
