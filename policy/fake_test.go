package policy

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/filters"
	"postern/mail"
)

// The filters of these tests: one that needs DNS, one that reads parts, one
// that rewrites, one that needs another's verdict, one that can break.

type listCheck struct {
	Zone string `toml:"zone"`
	Most int    `toml:"most"`
}

func (*listCheck) Check(context.Context, *mail.Transaction, filters.Results) (filters.Verdict, error) {
	return filters.Verdict{}, nil
}

func (l *listCheck) Validate() error {
	if l.Most < 0 {
		return &filters.SettingError{Key: "most", Err: errors.New("must not be negative")}
	}
	return nil
}

type nothing struct{}

func (nothing) Check(context.Context, *mail.Transaction, filters.Results) (filters.Verdict, error) {
	return filters.Verdict{}, nil
}

type virusCheck struct {
	Engines []string `toml:"engines"`
	nothing
}

func (v *virusCheck) Warnings() []string {
	if len(v.Engines) == 0 {
		return []string{"no engine is configured"}
	}
	return nil
}

type tagSettings struct {
	Subject string            `toml:"subject"`
	Headers map[string]string `toml:"headers"`
}

type stripSettings struct {
	Note string `toml:"note"`
}

func (s *stripSettings) Validate() error {
	if s.Note == "bad" {
		return &filters.SettingError{Key: "note", Err: errors.New("is bad")}
	}
	return nil
}

var fakeFilters = []*filters.Filter{
	{
		Name: "blocklist", Stage: filters.Connect, Scoring: true,
		Symbols: []filters.SymbolDoc{{Name: "LISTED", Score: 4}, {Name: "LISTED_WELL", Score: -2}},
		Keys:    []filters.MatchKey{{Name: "listed", Say: [2]string{"from a listed host", "d'un hôte listé"}, Kind: filters.KeyBool, Symbols: []string{"LISTED"}}},
		New:     func() filters.Checker { return &listCheck{Zone: "list.example", Most: 3} },
	},
	{
		Name: "kinds", Stage: filters.Data,
		Symbols: []filters.SymbolDoc{{Name: "KIND_EXE", Score: 5}, {Name: "KIND_MACRO", Score: 3}, {Name: "KIND_PDF"}, {Name: "NAMED"}},
		Keys: []filters.MatchKey{
			{
				Name: "attachment", Say: [2]string{"with an attachment of kind %s", "avec une pièce jointe de type %s"}, Kind: filters.KeyEnum,
				Values: []filters.KeyValue{{Word: "executable", Symbols: []string{"KIND_EXE"}}, {Word: "macro", Symbols: []string{"KIND_MACRO"}}, {Word: "pdf", Symbols: []string{"KIND_PDF"}}},
			},
			{Name: "attachment_name", Say: [2]string{"with an attachment named %s", "avec une pièce jointe nommée %s"}, Kind: filters.KeyName, Symbols: []string{"NAMED"}},
		},
		New: func() filters.Checker { return &nothing{} },
	},
	{
		Name: "virus", Stage: filters.Data,
		Symbols: []filters.SymbolDoc{{Name: "VIRUS_FOUND", Score: 20}, {Name: "VIRUS_NOT_SCANNED"}},
		Keys: []filters.MatchKey{
			{Name: "virus", Say: [2]string{"with malware", "avec un programme malveillant"}, Kind: filters.KeyBool, Symbols: []string{"VIRUS_FOUND"}},
			{Name: "virus_name", Say: [2]string{"with the malware %s", "avec le programme malveillant %s"}, Kind: filters.KeyName, Symbols: []string{"VIRUS_FOUND"}},
		},
		New: func() filters.Checker { return &virusCheck{} },
	},
	{
		Name: "dmarc", Stage: filters.Data,
		Symbols: []filters.SymbolDoc{{Name: "DMARC_PASS"}, {Name: "DMARC_FAIL", Score: 1}},
		Keys: []filters.MatchKey{{
			Name: "dmarc", Say: [2]string{"with DMARC %s", "avec DMARC %s"}, Kind: filters.KeyEnum,
			Values: []filters.KeyValue{{Word: "pass", Symbols: []string{"DMARC_PASS"}}, {Word: "fail", Symbols: []string{"DMARC_FAIL"}}},
		}},
		New: func() filters.Checker { return &nothing{} },
	},
	{
		Name: "spam", Stage: filters.Data, Requires: []string{"dmarc"}, Scoring: true,
		Symbols: []filters.SymbolDoc{{Name: "SPAMMY", Score: 6}},
		New:     func() filters.Checker { return &nothing{} },
	},
	{
		Name: "tagger", NoScan: true,
		Actions: []filters.ActionDoc{{Name: "tag", Say: [2]string{"tag", "marquer"}, New: func() any { return &tagSettings{} }}},
		New:     func() filters.Checker { return &nothing{} },
	},
	{
		Name: "strip", NoScan: true,
		Actions: []filters.ActionDoc{{Name: "strip", Say: [2]string{"remove these attachments", "retirer ces pièces jointes"}, New: func() any { return &stripSettings{Note: "removed"} }}},
		New:     func() filters.Checker { return &nothing{} },
	},
}

const fakeHead = `version = 1
[site]
domains = ["example.org"]
hostname = "mx.example.org"
[[upstream]]
name = "mail"
to = ["10.0.5.10:25"]
for = ["example.org", "archive.example"]
`

var testTime = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func fakeOptions() LoadOptions {
	return LoadOptions{
		Filters:  fakeFilters,
		Hostname: "mx.example.org",
		Now:      func() time.Time { return testTime },
		ReadFile: func(name string) ([]byte, error) { return nil, errors.New("no file " + name) },
		Getenv:   func(string) string { return "" },
	}
}

// load compiles fakeHead and the rules.
func load(t testing.TB, rules string) *Policy {
	t.Helper()
	p, err := Load("p.toml", []byte(fakeHead+rules), fakeOptions())
	if err != nil {
		t.Fatalf("load:\n%v", err)
	}
	return p
}

// mailTo makes a transaction for recipients, with a small message.
func mailTo(message string, to ...string) *mail.Transaction {
	s := &mail.Session{
		ID: "s", Listener: "internet", Role: mail.RoleInbound, Protocol: "SMTP", ESMTP: true, Helo: "mail.sender.example", Direction: mail.Inbound,
		Client: netip.MustParseAddrPort("203.0.113.9:1234"), Peer: netip.MustParseAddrPort("203.0.113.9:1234"),
	}
	tx := &mail.Transaction{ID: "t", Session: s, At: testTime}
	tx.ReversePath = path0("bounce@sender.example")
	tx.Options = smtp.MailOptions{}
	for _, a := range to {
		tx.Recipients = append(tx.Recipients, mail.Recipient{Path: path0(a)})
	}
	if message == "" {
		message = "From: Ann <ann@sender.example>\nSubject: Hello"
	}
	tx.Message = mail.ParseBytes([]byte(strings.ReplaceAll(message, "\n", "\r\n")+"\r\n\r\nbody\r\n"), mail.Options{Limits: mail.DefaultLimits()})
	return tx
}

// ran makes the results of a chain in which each named symbol was reported:
// "SPAMMY", "KIND_EXE@2" for part 2, "VIRUS_FOUND>bob@example.org" for one
// recipient; "!virus" is a broken filter, "?virus" one that broke and is
// ignored, "-virus" one that did not run.
func ran(symbols ...string) filters.Results {
	var rs filters.Results
	for _, f := range fakeFilters {
		if f.NoScan {
			continue
		}
		r := filters.Result{Filter: f.Name}
		skip := false
		for _, s := range symbols {
			switch s {
			case "!" + f.Name:
				r.Err = errors.New("broke")
			case "?" + f.Name:
				r.Err, r.Ignored = errors.New("broke"), true
			case "-" + f.Name:
				skip = true
			}
			name, to, _ := strings.Cut(s, ">")
			name, part, _ := strings.Cut(name, "@")
			for _, doc := range f.Symbols {
				if doc.Name == name {
					r.Verdict.Symbols = append(r.Verdict.Symbols, filters.Symbol{Name: name, Score: doc.Score, Part: mail.PartID(part), To: path0(to), Label: "x.exe", Evidence: "seen"})
				}
			}
		}
		if r.Err != nil {
			r.Verdict = filters.Verdict{}
		}
		if !skip {
			rs = append(rs, r)
		}
	}
	return rs
}

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
