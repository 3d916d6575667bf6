package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/emersion/go-smtp"

	"postern/gateway"
	"postern/mail"
	"postern/policy"
)

//go:embed demo.toml
var demoPolicy string

// demoZone answers every DNS look-up of the demo: it needs no network.
//
//go:embed demo.zone.json
var demoZone []byte

type demoCmd struct {
	Once bool `help:"End after the table."`
	JSON bool `help:"Print JSON, one object a line." name:"json"`
}

// A demoRow is one line of `postern demo --json`.
type demoRow struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Subject string `json:"subject"`
	Verdict string `json:"verdict"` // delivered, held, refused, deferred
	Rule    string `json:"rule,omitempty"`
	Why     string `json:"why"`
	Reply   string `json:"reply"`
}

// Run starts a gateway and a toy mail server on free loopback ports, with all
// state in a directory that is removed at the end, and sends the samples.
func (d *demoCmd) Run(g *globals) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	toy, err := startToy()
	if err != nil {
		return err
	}
	defer toy.close()
	dir, err := os.MkdirTemp("", "postern-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	defer os.RemoveAll(dir)
	var seen verdicts
	in, err := startDemo(ctx, dir, toy.addr, &seen)
	if err != nil {
		return err
	}
	defer in.stop(context.Background())
	rows := make([]demoRow, 0, 16)
	for _, s := range samples() {
		rows = append(rows, d.send(in, s, &seen))
	}
	if err := d.print(g, rows); err != nil {
		return err
	}
	if d.Once {
		return nil
	}
	if !g.Quiet {
		fmt.Fprintf(g.err, "\nTry your own:  swaks --server %s --from you@partner.example --to bob@%s\nLook inside:   postern --state %s quarantine list\nStop: Ctrl-C\n", in.addr("internet"), demoSite, dir)
	}
	<-ctx.Done()
	return nil
}

// startDemo runs the demo's policy.
func startDemo(ctx context.Context, dir, upstream string, seen *verdicts) (*instance, error) {
	t, err := template.New("demo").Parse(demoPolicy)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = t.Execute(&text, map[string]string{"Upstream": upstream, "State": dir, "Inbound": preferredAddress("127.0.0.1:2525"), "Outbound": preferredAddress("127.0.0.1:2587")})
	if err != nil {
		return nil, err
	}
	zone := filepath.Join(dir, "zone.json")
	if err := os.WriteFile(zone, demoZone, 0o600); err != nil {
		return nil, fmt.Errorf("write the demo's zone: %w", err)
	}
	return start(ctx, settings{
		zone: zone, file: "demo.toml", text: text.Bytes(), state: dir,
		log: slog.New(slog.DiscardHandler), mailLog: io.Discard, observe: seen.note,
	})
}

// preferredAddress is the preferred address, or one with a port that the system picks.
func preferredAddress(preferred string) string {
	l, err := net.Listen("tcp", preferred)
	if err != nil {
		return "127.0.0.1:0"
	}
	l.Close()
	return preferred
}

// verdicts keeps the last outcome by transaction.
type verdicts struct {
	mu   sync.Mutex
	last *gateway.Outcome
	fate []gateway.Fate
}

func (v *verdicts) note(_ *mail.Transaction, out *gateway.Outcome, fates []gateway.Fate) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last, v.fate = out, fates
}

func (v *verdicts) take() (*gateway.Outcome, []gateway.Fate) {
	v.mu.Lock()
	defer v.mu.Unlock()
	out, fates := v.last, v.fate
	v.last, v.fate = nil, nil
	return out, fates
}

func (d *demoCmd) send(in *instance, s sample, seen *verdicts) demoRow {
	row := demoRow{From: s.from, To: strings.Join(s.to, " "), Subject: s.subject}
	listener := "internet"
	if s.outbound {
		listener = "from-server"
	}
	seen.take()
	reply, err := sendSample(in.addr(listener), s)
	row.Reply = reply
	out, fates := seen.take()
	switch {
	case err != nil && reply == "":
		row.Verdict, row.Why = "failed", err.Error()
	case out == nil:
		row.Verdict, row.Why = "refused", "before the message: "+reply
	default:
		row.Rule, row.Why = out.Decisions[0].Rule, out.Decisions[0].Why
		row.Verdict = map[string]string{"sent": "delivered", "queued": "delivered", "held": "held", "rejected": "refused", "deferred": "deferred", "discarded": "discarded"}[fates[0].Status]
		if actions := out.Decisions[0].Actions; fates[0].Disposition == policy.Relay && len(actions) > 0 {
			row.Verdict, row.Rule = "changed", actions[0].Rule
			row.Why = fmt.Sprintf("%s by rule %s", actions[0].Name, actions[0].Rule)
		}
	}
	return row
}

// sendSample sends one message and returns the reply that decided its fate.
func sendSample(addr string, s sample) (string, error) {
	if s.raw {
		return sendRaw(addr, s)
	}
	c, err := smtp.Dial(addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	err = c.Hello("mail." + s.from[strings.IndexByte(s.from, '@')+1:])
	if err == nil {
		err = c.Mail(s.from, nil)
	}
	for _, to := range s.to {
		if err == nil {
			err = c.Rcpt(to, nil)
		}
	}
	if err != nil {
		return replyText(err), err
	}
	w, err := c.Data()
	if err != nil {
		return replyText(err), err
	}
	if _, err := io.WriteString(w, s.message); err != nil {
		return "", err
	}
	r, err := w.CloseWithResponse()
	if err != nil {
		return replyText(err), err
	}
	c.Quit()
	return "250 " + r.StatusText, nil
}

func replyText(err error) string {
	var se *smtp.SMTPError
	if errors.As(err, &se) {
		return mail.Reply{Code: se.Code, Enhanced: se.EnhancedCode, Text: se.Message}.String()
	}
	return ""
}

// sendRaw sends the message's bytes as they are, as no honest client would.
func sendRaw(addr string, s sample) (string, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(c)
	line := ""
	for _, cmd := range []string{"", "HELO demo.example\r\n", "MAIL FROM:<" + s.from + ">\r\n", "RCPT TO:<" + s.to[0] + ">\r\n", "DATA\r\n", s.message + "\r\n.\r\n"} {
		if _, err := io.WriteString(c, cmd); err != nil {
			return "", err
		}
		if line, err = r.ReadString('\n'); err != nil {
			return "", err
		}
	}
	return strings.TrimSpace(line), nil
}

func (d *demoCmd) print(g *globals, rows []demoRow) error {
	if d.JSON {
		for _, r := range rows {
			if err := printJSON(g.out, r); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(g.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, " #\tfrom\tsubject\tverdict\tbecause")
	count := map[string]int{}
	for i, r := range rows {
		count[r.Verdict]++
		fmt.Fprintf(w, "%2d\t%s\t%s\t%s\t%s\n", i+1, r.From, cut(r.Subject, 24), r.Verdict, cut(r.Why, 90))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(g.out, "\n%d sent:", len(rows))
	for i, v := range sortedKeys(count) {
		sep := ","
		if i == 0 {
			sep = ""
		}
		fmt.Fprintf(g.out, "%s %d %s", sep, count[v], v)
	}
	fmt.Fprintln(g.out, ".")
	return nil
}

// A toy is the mail server behind the demo's gateway: it knows every recipient
// but nobody.
type toy struct {
	server *smtp.Server
	addr   string
}

func startToy() (*toy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the toy mail server: %w", err)
	}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return toySession{}, nil }))
	s.Domain, s.EnableSMTPUTF8 = "mail."+demoSite, true
	s.ErrorLog = discardLogger{}
	go s.Serve(l)
	return &toy{s, l.Addr().String()}, nil
}

func (t *toy) close() { t.server.Close() }

type toySession struct{}

func (toySession) Reset()                               {}
func (toySession) Logout() error                        { return nil }
func (toySession) Mail(string, *smtp.MailOptions) error { return nil }
func (toySession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") || strings.HasPrefix(to, "postern-") && strings.Contains(to, "probe") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	return nil
}

func (toySession) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

type discardLogger struct{}

func (discardLogger) Printf(string, ...any) {}
func (discardLogger) Println(...any)        {}
