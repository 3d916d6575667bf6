package policy

import (
	"fmt"
	"net/netip"
	"strings"

	"postern/mail"
)

// A Test is one [[test]] table: a message and what must become of it.
type Test struct {
	Name   string   `toml:"name" doc:"name of the test"`
	Mail   TestMail `toml:"mail" doc:"the message and how it comes; what is not said has a harmless value"`
	Expect Expect   `toml:"expect" doc:"what must become of it; only what is said is compared"`
	Line   int      `toml:"-"` // in the policy file
}

// TestMail describes a transaction in few words. What it does not say has a
// harmless value.
type TestMail struct {
	Direction   mail.Direction    `toml:"direction" words:"inbound outbound" doc:"direction; absent: that of the listener, inbound without one"`
	Listener    string            `toml:"listener" doc:"listener by which it comes; absent: the first of that direction"`
	Client      string            `toml:"client" doc:"address of the client"`
	Helo        string            `toml:"helo" doc:"name in HELO; absent: mail. and the domain of from"`
	User        string            `toml:"user" doc:"logged in as this user"`
	TLS         bool              `toml:"tls" doc:"came over TLS"`
	From        string            `toml:"from" doc:"author, also of the envelope"`
	ReversePath *string           `toml:"reverse_path" doc:"reverse-path; absent: from; \"\" or \"<>\" is the null reverse-path"`
	To          Words             `toml:"to" value:"a text or a list of them" doc:"recipients; absent: somebody at the domain"`
	Subject     string            `toml:"subject" doc:"subject"`
	Body        string            `toml:"body" doc:"text"`
	HTML        string            `toml:"html" doc:"text in HTML"`
	Attach      []TestPart        `toml:"attach" value:"a list of file names or { name, type, content }" doc:"attachments; a file of a known ending has what one would expect in it"`
	Header      map[string]string `toml:"header" doc:"more header fields, by their names"`
	At          Moment            `toml:"at" value:"a date, or a date and time" doc:"when it comes; absent: 2026-01-01"`
}

// TestPart is an attachment of a TestMail: a file name, or a table. A file of a
// known ending gets the content that one would expect in it.
type TestPart struct {
	Name    string
	Type    string // media type; default: application/octet-stream
	Content string // default: by the ending of the name
}

// Words is one string or a list of strings.
type Words []string

// Expect is what a test expects. Only what it says is compared.
type Expect struct {
	Disposition string `toml:"disposition" words:"relay quarantine reject defer discard" doc:"what becomes of it"`
	Rule        string `toml:"rule" doc:"name of the rule that decides; \"default\" if none does"`
	Queue       string `toml:"queue" doc:"queue of the quarantine"`
	Code        int    `toml:"code" value:"a code, as in 550" doc:"code of the reply"`
	Actions     Words  `toml:"actions" value:"a text or a list of them" doc:"names of the rewrites asked for, all of them"`
	Journal     Words  `toml:"journal" value:"a text or a list of them" doc:"addresses that get a copy"`
	Would       string `toml:"would" words:"relay quarantine reject defer discard" doc:"what would become of it without watch mode"`
}

// UnmarshalTOML reads a string or a list of strings.
func (w *Words) UnmarshalTOML(v any) error {
	switch v := v.(type) {
	case string:
		*w = Words{v}
		return nil
	case []any:
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				return fmt.Errorf("must be a string in quotes, or a list of them")
			}
			*w = append(*w, s)
		}
		return nil
	}
	return fmt.Errorf("must be a string in quotes, or a list of them")
}

// UnmarshalTOML reads a file name or { name = "...", type = "...", content = "..." }.
func (t *TestPart) UnmarshalTOML(v any) error {
	switch v := v.(type) {
	case string:
		t.Name = v
		return nil
	case map[string]any:
		fields := map[string]*string{"name": &t.Name, "type": &t.Type, "content": &t.Content}
		for key, value := range v {
			target := fields[key]
			if target == nil {
				return &wordError{Word: key, Text: fmt.Sprintf("unknown key %q", key), Known: sortedKeys(fields)}
			}
			s, ok := value.(string)
			if !ok {
				return fmt.Errorf("%s must be a string in quotes", key)
			}
			*target = s
		}
		if t.Name == "" {
			return fmt.Errorf("an attachment needs a name")
		}
		return nil
	}
	return fmt.Errorf("must be a file name or { name = \"...\" }")
}

// checkTests checks what the [[test]] tables refer to.
func (c *compiler) checkTests() {
	n := c.root.child("test")
	if n == nil || n.kind != arrayNode || len(n.entries) != len(c.p.Tests) {
		return
	}
	c.checkNames(n, "test")
	rules := []string{DefaultRule}
	for _, r := range c.p.rules {
		rules = append(rules, r.name)
	}
	for i := range c.p.Tests {
		t, at := &c.p.Tests[i], n.entries[i]
		t.Line, _ = c.log.src.locate(at.at)
		e := at.child("expect")
		if e == nil || len(e.entries) == 0 {
			c.log.key(at, "test %q expects nothing", t.Name)
		}
		if t.Expect.Rule != "" && !contains(rules, t.Expect.Rule) && !c.log.failed() {
			c.log.word(e.child("rule"), false, t.Expect.Rule, fmt.Sprintf("test.expect.rule: there is no rule %q", t.Expect.Rule), rules)
		}
		if t.Expect.Queue != "" && !contains(Queues, t.Expect.Queue) {
			c.log.word(e.child("queue"), false, t.Expect.Queue, fmt.Sprintf("test.expect.queue: there is no queue %q", t.Expect.Queue), Queues)
		}
		if code := t.Expect.Code; code != 0 && (code < 400 || code > 599) {
			c.log.value(e.child("code"), "test.expect.code: %d is neither a 4xx nor a 5xx code", code)
		}
		if l := t.Mail.Listener; l != "" {
			c.listenerName(at.find("mail", "listener"), l)
		}
		for k, name := range t.Expect.Actions {
			if _, ok := c.actions[name]; !ok {
				c.log.word(e.child("actions").items()[k], false, name, fmt.Sprintf("test.expect.actions: %q is not a rewrite", name), sortedKeys(c.actions))
			}
		}
		c.checkTestMail(t, at.child("mail"))
	}
}

// checkTestMail checks the addresses of a test.
func (c *compiler) checkTestMail(t *Test, n *node) {
	address := func(key, value string) {
		if p, err := mail.ParsePath(value, true); value != "" && (err != nil || p.Domain == "") {
			c.log.value(n.child(key), "test.mail.%s: %q is not a mail address", key, value)
		}
	}
	address("from", t.Mail.From)
	for _, to := range t.Mail.To {
		address("to", to)
	}
	if rp := t.Mail.ReversePath; rp != nil && *rp != "<>" {
		address("reverse_path", *rp)
	}
	if _, err := netip.ParseAddr(t.Mail.Client); t.Mail.Client != "" && err != nil {
		c.log.value(n.child("client"), "test.mail.client: %q is not an address", t.Mail.Client)
	}
	for name := range t.Mail.Header {
		if !validFieldName(name) {
			c.log.key(n.find("header", name), "test.mail.header: %q is not the name of a header field", name)
		}
	}
	for _, e := range n.child("to").list() {
		if s, ok := e.value.(string); ok && strings.TrimSpace(s) == "" {
			c.log.value(e, "test.mail.to: an address is empty")
		}
	}
}

// list is items for a node that may be missing.
func (n *node) list() []*node {
	if n == nil {
		return nil
	}
	return n.items()
}
