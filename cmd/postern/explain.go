package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"postern/gateway"
	"postern/mail"
	"postern/policy"
	"postern/smtpd"
)

type explainCmd struct {
	Files    []string `arg:"" optional:"" help:"Messages, mbox files or directories; \"-\" or nothing is standard input."`
	From     string   `help:"Reverse-path; default: the first author, or the null one if that is no mail address." placeholder:"ADDRESS"`
	To       []string `help:"Recipient; may be given again. Default: postmaster of the site." placeholder:"ADDRESS"`
	Client   string   `help:"The client's address." default:"192.0.2.1"`
	Helo     string   `help:"What the client said in EHLO." default:"client.example"`
	User     string   `help:"The user who is logged in."`
	Outbound bool     `help:"Judge as mail from our own side."`
	Listener string   `help:"Name of the listener; default: the first one of the direction."`
	DNS      string   `help:"Answer every DNS look-up from this zone file (JSON)." type:"path" placeholder:"FILE"`
	At       string   `help:"The time of the transaction (RFC 3339); default: now." placeholder:"TIME"`
	Programs bool     `help:"Let the command filter run its program."`
	JSON     bool     `help:"Print JSON, one object a line." name:"json"`
}

// Run judges each message by the same route as live mail, with no side effect.
func (e *explainCmd) Run(g *globals) error {
	p, err := g.load()
	if err != nil {
		return err
	}
	gw, done, err := e.gateway(p)
	if err != nil {
		return err
	}
	defer done()
	envelope, err := e.transaction(p)
	if err != nil {
		return err
	}
	files := e.Files
	if len(files) == 0 {
		files = []string{"-"}
	}
	code := 0
	bad := func(err error) { code = max(code, exitCode(err, g.err)) } // the run goes on
	for _, name := range files {
		err := eachMessage(name, g.in, bad, func(label string, data []byte) error {
			x := e.explain(gw, label, envelope, data)
			if e.JSON {
				return printJSON(g.out, x)
			}
			return x.write(g.out)
		})
		if err != nil {
			return err
		}
	}
	if code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// gateway is one that can only judge: it has no spool and no relay, and of the
// stores it reads who has written to whom. The caller calls done.
func (e *explainCmd) gateway(p *policy.Policy) (gw *gateway.Gateway, done func(), err error) {
	resolver, err := openResolver(p, e.DNS)
	if err != nil {
		return nil, nil, err
	}
	memory, forget, err := readContacts(p.Storage.State)
	if err != nil {
		return nil, nil, err
	}
	env := envOf(p, resolver, slog.New(slog.DiscardHandler))
	env.DryRun, env.Programs, env.Contacts = true, e.Programs, memory
	st, err := gateway.NewState(p, parseOptions(p), env)
	if err != nil {
		return nil, nil, errors.Join(err, forget())
	}
	gw = gateway.New(gateway.Options{Log: slog.New(slog.DiscardHandler)}, st)
	return gw, func() {
		gw.Close()
		forget() // nothing was written
	}, nil
}

// parseOptions are those of every received message: a filter that opens
// archives brings its unpackers and limits.
func parseOptions(p *policy.Policy) mail.Options {
	for _, f := range p.Chain().Filters() {
		if c, ok := p.Chain().Checker(f.Name); ok {
			if u, ok := c.(interface{ ParseOptions() mail.Options }); ok {
				return u.ParseOptions()
			}
		}
	}
	return mail.Options{Limits: mail.DefaultLimits()}
}

// An envelope is what the flags say of every message.
type envelope struct {
	mail.Transaction
	listener *policy.Listener // nil: the policy has none for this side
}

// transaction is what the flags say; a mistake in them is a usage error.
func (e *explainCmd) transaction(p *policy.Policy) (*envelope, error) {
	client, err := netip.ParseAddr(e.Client)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("--client %s is not an address", e.Client)}
	}
	s := &mail.Session{
		ID: "explain", Protocol: "SMTP", ESMTP: true, Helo: e.Helo, User: e.User, Direction: mail.Inbound,
		Client: netip.AddrPortFrom(client, 0), Peer: netip.AddrPortFrom(client, 0),
	}
	if e.Outbound || e.User != "" {
		s.Direction = mail.Outbound
	}
	v := &envelope{Transaction: mail.Transaction{ID: "explain", Session: s, At: time.Now()}}
	if v.listener, err = e.listen(p, s); err != nil {
		return nil, err
	}
	if e.At != "" {
		if v.At, err = time.Parse(time.RFC3339, e.At); err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("--at %s is not a time as in 2026-11-21T10:00:00Z", e.At)}
		}
	}
	if e.From != "" && e.From != "<>" {
		if v.ReversePath, err = mail.ParsePath(e.From, true); err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("--from %s: %w", e.From, err)}
		}
	}
	to := e.To
	if len(to) == 0 {
		to = []string{"postmaster@" + p.Site.Domains[0]}
	}
	for _, a := range to {
		path, err := mail.ParsePath(a, true)
		if err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("--to %s: %w", a, err)}
		}
		if path.IsNull() {
			return nil, &exitError{exitUsage, fmt.Errorf("--to %s: nobody can be sent mail there", a)}
		}
		v.Recipients = append(v.Recipients, mail.Recipient{Path: path})
	}
	return v, nil
}

// received is the transaction of one message, why its content is not taken, and
// why its reverse-path is the null one although no flag says so.
func (e *explainCmd) received(v *envelope, data []byte, o mail.Options) (tx *mail.Transaction, unfit *gateway.Unfit, note string) {
	data = canonical(data)
	limit, newline := int64(math.MaxInt64), "reject"
	if v.listener != nil {
		limit, newline = int64(v.listener.Limits.Message), v.listener.BareNewline
	}
	content, law, no := smtpd.Check(data, limit, newline)
	if no.Code != 0 {
		content, unfit = data, &gateway.Unfit{Law: law, Why: no.Text, Reply: no}
		if law == "message-size" {
			unfit.Why = fmt.Sprintf("%s are more than the %s of limits.message", bytesText(int64(len(data))), bytesText(limit))
		}
	}
	own := v.Transaction
	own.Recipients = slices.Clone(v.Recipients)
	own.Message = mail.ParseBytes(content, o)
	if e.From == "" {
		own.ReversePath, note = authorPath(own.Message)
	}
	return &own, unfit, note
}

// authorPath is the first author as a reverse-path. Where there is none that
// could stand in MAIL it is the null one, and why.
func authorPath(m *mail.Message) (mail.Path, string) {
	authors := m.Authors()
	if len(authors) == 0 {
		return mail.Path{}, "the message names no author"
	}
	path, err := mail.ParsePath(authors[0].Path.String(), true)
	if err != nil || path.IsNull() {
		return mail.Path{}, "the author is not a mail address"
	}
	return path, ""
}

// listen finds the listener through which the message would have come; nil if
// the policy has none for this side.
func (e *explainCmd) listen(p *policy.Policy, s *mail.Session) (*policy.Listener, error) {
	for i := range p.Listeners {
		l := &p.Listeners[i]
		ours := l.Role == mail.RoleOutbound || l.Role == mail.RoleSubmission
		if l.Name == e.Listener || e.Listener == "" && (l.Role == mail.RoleInbound && !s.Trusted() || ours && s.Trusted()) {
			s.Listener, s.Role = l.Name, l.Role
			if ours {
				s.Direction = mail.Outbound // such a listener takes mail of nobody else
			}
			if l.Protocol == "lmtp" {
				s.Protocol = "LMTP"
			}
			return l, nil
		}
	}
	if e.Listener != "" {
		return nil, &exitError{exitUsage, fmt.Errorf("the policy has no listener %q; it has %s", e.Listener, listenerNames(p))}
	}
	s.Listener, s.Role = "explain", mail.RoleInbound
	return nil, nil
}

func listenerNames(p *policy.Policy) string {
	var names []string
	for i := range p.Listeners {
		names = append(names, p.Listeners[i].Name)
	}
	return strings.Join(names, ", ")
}

// canonical gives a message from a file the line endings that it has on the
// wire. Those of a file say nothing of the client's.
func canonical(data []byte) []byte {
	if bytes.Contains(data, []byte("\r\n")) || !bytes.Contains(data, []byte("\n")) {
		return data
	}
	return bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
}

// eachMessage calls do for each message of a file, mbox or directory, and bad
// for what cannot be read. It ends with the first error of do.
func eachMessage(name string, in io.Reader, bad func(error), do func(label string, data []byte) error) error {
	if name == "-" {
		data, err := io.ReadAll(in)
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		if len(data) == 0 {
			return &exitError{exitUsage, errors.New("there is no message on standard input; name a file, or pipe one in")}
		}
		return eachOf("-", data, do)
	}
	return filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (d.IsDir() || path != name && !d.Type().IsRegular()) {
			return nil
		}
		var data []byte
		if err == nil {
			data, err = os.ReadFile(path)
		}
		if err != nil {
			bad(fmt.Errorf("read message: %w", err))
			return nil
		}
		return eachOf(path, data, do)
	})
}

// eachOf splits an mbox (RFC 4155); everything else is one message.
func eachOf(label string, data []byte, do func(label string, data []byte) error) error {
	if !bytes.HasPrefix(data, []byte("From ")) {
		return do(label, data)
	}
	var msg bytes.Buffer
	n := 0
	flush := func() error {
		if n == 0 {
			return nil
		}
		err := do(fmt.Sprintf("%s:%d", label, n), bytes.Clone(msg.Bytes()))
		msg.Reset()
		return err
	}
	r := bufio.NewReader(bytes.NewReader(data))
	blank := true
	for {
		line, err := r.ReadString('\n')
		if blank && strings.HasPrefix(line, "From ") {
			if err := flush(); err != nil {
				return err
			}
			n++
		} else {
			if strings.HasPrefix(strings.TrimLeft(line, ">"), "From ") && strings.HasPrefix(line, ">") {
				line = line[1:]
			}
			msg.WriteString(line)
		}
		blank = strings.TrimRight(line, "\r\n") == ""
		if err != nil {
			return flush()
		}
	}
}
