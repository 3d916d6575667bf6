package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/filters"
	"postern/mail"
)

// fate is a decision in few words.
func fate(d Decision) string {
	words := []string{d.Disposition.String(), d.Rule}
	if d.Queue != "" {
		words = append(words, "in "+d.Queue)
	}
	for _, a := range d.Actions {
		s := a.Name
		for _, part := range a.Parts {
			s += "@" + string(part)
		}
		words = append(words, s)
	}
	if d.Would != nil {
		words = append(words, "would "+d.Would.String()+" "+d.WouldRule)
	}
	return strings.Join(words, " ")
}

const decideRules = `
[list]
friends = ["friend.example"]
[[rule]]
name = "skip-friends"
match = { from = "list:friends" }
action = "skip"
filters = ["spam", "blocklist"]
[[rule]]
name = "accept-monitor"
match = { client = "10.0.5.20", from = "monitor@example.org" }
action = "accept"
[[rule]]
name = "virus"
match = { virus = true }
action = "quarantine"
[[rule]]
name = "spam"
match = { score_at_least = 8 }
action = "quarantine"
queue = "spam"
[[rule]]
name = "macros"
match = { attachment = "macro" }
except = { from = ["acct@supplier.example", "@friend.example"] }
action = "quarantine"
[[rule]]
name = "strip"
match = { attachment = ["executable", "pdf"] }
action = "strip"
[[rule]]
name = "last"
match = { listed = true }
action = "reject"
`

func TestDecide(t *testing.T) {
	p := load(t, decideRules)
	friend, stranger := "From: a@friend.example", "From: a@stranger.example"
	both := "From: a@friend.example, b@stranger.example"
	for _, c := range []struct {
		name, message string
		symbols       []string
		outbound      bool
		want          string
	}{
		{"nothing", stranger, nil, false, "relay default"},
		{"virus", stranger, []string{"VIRUS_FOUND"}, false, "quarantine virus in malware"},
		{"spam", stranger, []string{"SPAMMY", "LISTED"}, false, "quarantine spam in spam"},
		{"the score is exact", stranger, []string{"SPAMMY", "LISTED_WELL", "LISTED"}, false, "quarantine spam in spam"},
		{"below the score", stranger, []string{"SPAMMY", "LISTED_WELL"}, false, "relay default"},
		{"a friend without DMARC", friend, []string{"SPAMMY", "LISTED"}, false, "quarantine spam in spam"},
		{"a friend with DMARC", friend, []string{"SPAMMY", "LISTED", "DMARC_PASS"}, false, "relay default"},
		{"a friend who is ours", friend, []string{"SPAMMY", "LISTED"}, true, "relay default"},
		{"a friend and a stranger", both, []string{"SPAMMY", "LISTED", "DMARC_PASS"}, false, "quarantine spam in spam"},
		{"skip does not lift malware", friend, []string{"VIRUS_FOUND", "DMARC_PASS"}, false, "quarantine virus in malware"},
		{"skip lifts a broken filter", friend, []string{"!spam", "DMARC_PASS"}, false, "relay default"},
		{"no author", "Subject: x", []string{"KIND_MACRO", "DMARC_PASS"}, false, "quarantine macros in policy"},
		{"macro", stranger, []string{"KIND_MACRO"}, false, "quarantine macros in policy"},
		{"macro of an authenticated supplier", "From: ACCT@supplier.example", []string{"KIND_MACRO", "DMARC_PASS"}, false, "relay default"},
		{"macro of a forged supplier", "From: acct@supplier.example", []string{"KIND_MACRO"}, false, "quarantine macros in policy"},
		{"exception and DMARC broke", "From: acct@supplier.example", []string{"KIND_MACRO", "!dmarc", "?spam"}, false, "defer spam"},
		{"strip marks parts", stranger, []string{"KIND_EXE@2", "KIND_PDF@3", "KIND_PDF@2"}, false, "relay default strip@2@3"},
		{"nothing but an attachment", stranger + "\nContent-Disposition: attachment; filename=run.exe", []string{"KIND_EXE"}, false, "relay default strip@"},
		{"the root is no attachment", stranger, []string{"KIND_EXE"}, false, "relay default strip"},
		{"an unknown rule ends the search", stranger, []string{"!kinds", "LISTED"}, false, "defer spam"},
		{"an ignored failure does not", stranger, []string{"?kinds", "LISTED"}, false, "reject last"},
		{"settled before the broken filter", stranger, []string{"VIRUS_FOUND", "!blocklist"}, false, "quarantine virus in malware"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tx := mailTo(c.message, "bob@example.org")
			if c.outbound {
				tx.Direction = mail.Outbound
			}
			d := p.Decide(tx, ran(c.symbols...))[0]
			if got := fate(d); got != c.want {
				t.Errorf("got %s (%s), want %s", got, d.Why, c.want)
			}
			if d.Why == "" || d.Rule == "" {
				t.Errorf("no why: %+v", d)
			}
			if d.Disposition == Defer && d.Reply.Code/100 != 4 || d.Disposition == Reject && d.Reply.Code/100 != 5 {
				t.Errorf("reply %s", d.Reply)
			}
		})
	}
}

// TestUnknown: what rests on a broken filter is unknown, and what no rule
// settled is deferred.
func TestUnknown(t *testing.T) {
	p := load(t, `
[[rule]]
name = "blocked"
match = { reverse_path = "@bad.example" }
action = "reject"
[[rule]]
name = "macros"
match = { attachment = "macro" }
except = { from = "@supplier.example" }
action = "quarantine"
[[rule]]
name = "clear"
match = { tls = false, dmarc = "fail" }
action = "reject"
[[rule]]
name = "fine"
match = { to = "fine@example.org" }
action = "accept"
`)
	for _, c := range []struct{ symbols, from, reverse, to, want string }{
		{"!spam", "a@b.example", "a@b.example", "bob@example.org", "defer default"},
		{"?spam", "a@b.example", "a@b.example", "bob@example.org", "relay default"},
		{"-virus", "a@b.example", "a@b.example", "bob@example.org", "defer default"},
		{"!spam !kinds", "a@b.example", "a@bad.example", "bob@example.org", "reject blocked"},
		{"!spam", "a@b.example", "a@b.example", "fine@example.org", "relay fine"},
		{"!kinds", "a@b.example", "a@b.example", "fine@example.org", "defer macros"},
		{"KIND_MACRO !dmarc", "a@supplier.example", "a@b.example", "bob@example.org", "defer macros"},
		{"KIND_MACRO !dmarc", "a@other.example", "a@b.example", "bob@example.org", "quarantine macros in policy"},
		{"!dmarc", "a@other.example", "a@b.example", "bob@example.org", "defer clear"},
	} {
		tx := mailTo("From: "+c.from, c.to)
		tx.ReversePath = path0(c.reverse)
		if got := fate(p.Decide(tx, ran(strings.Fields(c.symbols)...))[0]); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

// TestAcceptNeverLiftsMalware: the allow rule ends the list for everything but
// malware.
func TestAcceptNeverLiftsMalware(t *testing.T) {
	p := load(t, decideRules)
	tx := mailTo("From: monitor@example.org", "bob@example.org")
	tx.Direction = mail.Outbound
	tx.Client = mustAddrPort("10.0.5.20:1")
	for symbols, want := range map[string]string{
		"SPAMMY LISTED KIND_MACRO": "relay accept-monitor",
		"SPAMMY VIRUS_FOUND":       "quarantine virus in malware",
		"!virus":                   "defer virus",
		"!spam":                    "relay accept-monitor",
	} {
		if got := fate(p.Decide(tx, ran(strings.Fields(symbols)...))[0]); got != want {
			t.Errorf("%s: got %s, want %s", symbols, got, want)
		}
	}
}

func TestWatch(t *testing.T) {
	p := load(t, `
[[rule]]
name = "watched"
match = { attachment = "macro" }
action = "reject"
mode = "watch"
[[rule]]
name = "tag"
match = { attachment = "macro" }
action = "tag"
mode = "watch"
[[rule]]
name = "hold"
match = { listed = true }
action = "quarantine"
`)
	file, err := Load("p.toml", []byte("mode = \"watch\"\n"+fakeHead+decideRules), fakeOptions())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p       *Policy
		symbols string
		want    string
		watched []string
	}{
		{p, "KIND_MACRO", "relay default would reject watched", []string{"watched"}},
		{p, "KIND_MACRO LISTED", "quarantine hold in policy would reject watched", []string{"watched"}},
		{p, "LISTED", "quarantine hold in policy", nil},
		{file, "SPAMMY LISTED", "relay default would quarantine spam", []string{"spam"}},
		{file, "LISTED", "relay default would reject last", []string{"last"}},
		{file, "VIRUS_FOUND", "quarantine virus in malware", nil},
		{file, "!virus", "defer virus", nil},
		{file, "!kinds", "relay default would defer spam", nil},
		{file, "KIND_EXE@1", "relay default", []string{"strip"}},
	} {
		d := c.p.Decide(mailTo("", "bob@example.org"), ran(strings.Fields(c.symbols)...))[0]
		if got := fate(d); got != c.want {
			t.Errorf("%s: got %s, want %s", c.symbols, got, c.want)
		}
		if diff := cmp.Diff(c.watched, d.Watched); diff != "" {
			t.Errorf("%s: %s", c.symbols, diff)
		}
	}
	// A watched rule never defers, nor does a filter that only they ask.
	broken := p.Decide(mailTo("", "bob@example.org"), ran("!kinds", "LISTED"))[0]
	if broken.Rule != "hold" {
		t.Errorf("got %s, want the rule hold", fate(broken))
	}
}

func TestTimes(t *testing.T) {
	p := load(t, "[[rule]]\nname = \"r\"\nmatch = { to = \"bob@example.org\" }\naction = \"discard\"\nactive_from = 2026-03-01\nexpires = \"2026-09-01T12:00:00Z\"\n")
	for at, want := range map[string]string{"2026-02-28": "relay", "2026-03-01": "discard", "2026-09-01": "discard", "2026-09-02": "relay"} {
		tx := mailTo("", "bob@example.org")
		tx.At, _ = time.Parse(time.DateOnly, at)
		d := p.Decide(tx, ran())[0]
		if d.Disposition.String() != want {
			t.Errorf("%s: %s, want %s", at, d.Disposition, want)
		}
		if want == "relay" && d.Trace[0].Key == "" {
			t.Errorf("%s: the trace does not say why: %+v", at, d.Trace[0])
		}
	}
}

// TestTimezone: a time without a zone is one of [site] timezone, summer and
// winter; one with a zone is what it says.
func TestTimezone(t *testing.T) {
	for moment, want := range map[string]string{
		"2026-03-01":            "2026-02-28T23:00:00Z",
		`"2026-07-01"`:          "2026-06-30T22:00:00Z",
		"2026-07-01T08:30:00":   "2026-07-01T06:30:00Z",
		`"2026-07-01 08:30:00"`: "2026-07-01T06:30:00Z",
		"2026-07-01T08:30:00Z":  "2026-07-01T08:30:00Z",
	} {
		text := strings.Replace(fakeHead, "[site]\n", "[site]\ntimezone = \"Europe/Paris\"\n", 1) +
			"[[rule]]\nname = \"r\"\nmatch = { to = \"bob@example.org\" }\naction = \"discard\"\nactive_from = " + moment + "\n"
		p, err := Load("p.toml", []byte(text), fakeOptions())
		if err != nil {
			t.Fatal(err)
		}
		from, _ := time.Parse(time.RFC3339, want)
		for at, fate := range map[time.Time]string{from: "discard", from.Add(-time.Second): "relay"} {
			tx := mailTo("", "bob@example.org")
			tx.At = at
			if d := p.Decide(tx, ran())[0]; d.Disposition.String() != fate {
				t.Errorf("active_from = %s: %s at %s, want %s", moment, d.Disposition, at, fate)
			}
		}
	}
}

// TestMatchKeys tries every key of the policy itself both ways.
func TestMatchKeys(t *testing.T) {
	const message = "From: Ann <ann@sender.example>\nSubject: =?utf-8?q?R=C3=89SERV=C3=89?= [Secure]\nX-Mailer: Bulk 3"
	tx := func() *mail.Transaction {
		x := mailTo(message, "bob@example.org", "carol@other.example")
		x.User, x.TLS.Version = "ann", "TLS1.3"
		return x
	}
	for _, c := range []struct{ match, yes, got string }{
		{`direction = "inbound"`, "both", ""},
		{`direction = "outbound"`, "", "inbound"},
		{`listener = "internet"`, "both", ""},
		{`client = "203.0.113.0/24"`, "both", ""},
		{`client = ["10.0.0.1", "2001:db8::/32"]`, "", "203.0.113.9"},
		{`helo = "*.SENDER.example"`, "both", ""},
		{`helo = "sender.example"`, "", "mail.sender.example"},
		{`user = "*"`, "both", ""},
		{`user = "bob"`, "", "ann"},
		{`tls = true`, "both", ""},
		{`tls = false`, "", "TLS1.3"},
		{`from = "ANN@Sender.Example."`, "both", ""},
		{`from = "@sender.example"`, "both", ""},
		{`from = "sender.example"`, "both", ""},
		{`from = "*@sender.example"`, "both", ""},
		{`from = "a*@*.example"`, "both", ""},
		{`from = "@*.example"`, "both", ""},
		{`from = "@*.sender.example"`, "", "ann@sender.example"},
		{`from = ["site", "x@y.example"]`, "", "ann@sender.example"},
		{`reverse_path = "bounce@*"`, "both", ""},
		{`reverse_path = "<>"`, "", "<bounce@sender.example>"},
		{`to = "site"`, "bob@example.org", "carol@other.example"},
		{`to = "carol@other.example"`, "carol@other.example", "bob@example.org"},
		{`any_to = "carol@other.example"`, "both", ""},
		{`any_to = "dave@other.example"`, "", "2 recipients"},
		{`party = "@other.example"`, "carol@other.example", "ann@sender.example; bob@example.org"},
		{`party = "ann@sender.example"`, "both", ""},
		{`subject = "réservé"`, "both", ""},
		{`subject = ["nothing", "[SECURE]"]`, "both", ""},
		{`subject = "open"`, "", "RÉSERVÉ [Secure]"},
		{`header = { x-mailer = "bulk*" }`, "both", ""},
		{`header = { X-Mailer = "bulk*", Subject = "no" }`, "", "Subject: "},
		{`header = { X-Other = "*" }`, "", "X-Other: not there"},
		{`size_over = "10B"`, "both", ""},
		{`size_over = "1MB"`, "", " bytes"},
		{`size_up_to = "1MB"`, "both", ""},
		{`size_up_to = "10B"`, "", " bytes"},
		{`symbol = "LISTED"`, "both", ""},
		{`symbol = ["VIRUS_FOUND", "KIND_PDF"]`, "", "nothing of the kind"},
		{`score_at_least = 4.0`, "both", ""},
		{`score_at_least = 4.5`, "", "4"},
		{`listed = true`, "both", ""},
		{`listed = false`, "", "LISTED (seen)"},
		{`attachment = "macro"`, "", "nothing of the kind"},
		{`attachment_name = ["*.EXE"]`, "both", ""},
		{`attachment_name = "*.pdf"`, "", "NAMED (seen)"},
	} {
		p := load(t, "[[rule]]\nname = \"r\"\nmatch = { "+c.match+" }\naction = \"discard\"\n")
		for _, d := range p.Decide(tx(), ran("LISTED", "NAMED")) {
			want := c.yes == "both" || c.yes == d.Recipient.String()
			if got := d.Disposition == Discard; got != want {
				t.Errorf("%s for %s: %v, want %v", c.match, d.Recipient, got, want)
			}
			trace := d.Trace[0]
			if !want && (!strings.Contains(trace.Got, c.got) || trace.Key == "" || trace.Want == "") {
				t.Errorf("%s for %s: trace %+v, want got %q", c.match, d.Recipient, trace, c.got)
			}
		}
	}
}

// TestUnreadable: what rests on a message that is not here is unknown.
func TestUnreadable(t *testing.T) {
	for _, match := range []string{`from = "@x.example"`, `subject = "x"`, `header = { X = "y" }`, `size_over = "1MB"`, `party = "a@b.example"`} {
		p := load(t, "[[rule]]\nname = \"r\"\nmatch = { "+match+" }\naction = \"discard\"\n")
		tx := mailTo("", "bob@example.org")
		tx.Message = nil
		if got := fate(p.Decide(tx, ran())[0]); got != "defer r" {
			t.Errorf("%s: got %s", match, got)
		}
	}
}

func TestRecipientsPart(t *testing.T) {
	p := load(t, "[[rule]]\nname = \"virus\"\nmatch = { virus = true }\naction = \"quarantine\"\n")
	ds := p.Decide(mailTo("", "a@example.org", "b@example.org"), ran("VIRUS_FOUND>b@example.org"))
	if fate(ds[0]) != "relay default" || fate(ds[1]) != "quarantine virus in malware" {
		t.Errorf("got %s, %s", fate(ds[0]), fate(ds[1]))
	}
	same := p.Decide(mailTo("", "a@example.org", "b@example.org"), ran())
	if same[1].Recipient.Local != "b" || fate(same[0]) != fate(same[1]) {
		t.Errorf("got %+v", same)
	}
}

func TestReplyCannotBeForged(t *testing.T) {
	p := load(t, "[[rule]]\nname = \"r\"\nmatch = { score_at_least = 1 }\naction = \"reject\"\nreply = \"550 5.7.1 {from} {helo} {client} {rule} {score} {reverse_path} {to.domain}\"\n")
	tx := mailTo("From: \"x\" <a@b.example>", "bob@example.org")
	tx.Helo = "evil\r\n250 {to} é"
	d := p.Decide(tx, ran("LISTED"))[0]
	want := "550 5.7.1 a@b.example evil??250 ?to? ? 203.0.113.9 r 4 bounce@sender.example example.org"
	if got := d.Reply.String(); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestNoticesAndJournal(t *testing.T) {
	p := load(t, `
[[rule]]
name = "j"
match = { from = "@sender.example" }
action = "journal"
copy_to = ["j@archive.example"]
notify = "officer"
[[rule]]
name = "macro"
match = { attachment = "macro" }
action = "reject"
notify = ["admin", "boss@example.org"]
`)
	d := p.Decide(mailTo("", "bob@example.org"), ran())[0]
	if len(d.Journal) != 1 || len(d.Notify) != 1 || d.Notify[0] != (Notice{"officer", "j"}) {
		t.Errorf("got %+v", d)
	}
	d = p.Decide(mailTo("", "bob@example.org"), ran("KIND_MACRO"))[0]
	if len(d.Journal) != 0 || len(d.Notify) != 3 {
		t.Errorf("got %+v", d)
	}
}

func TestTraceStrings(t *testing.T) {
	p := load(t, decideRules)
	d := p.Decide(mailTo("From: acct@supplier.example", "bob@example.org"), ran("KIND_MACRO", "DMARC_PASS", "?kinds"))[0]
	_ = d
	d = p.Decide(mailTo("From: acct@supplier.example", "bob@example.org"), ran("KIND_MACRO", "DMARC_PASS"))[0]
	var got []string
	for i := range d.Trace {
		got = append(got, d.Trace[i].String())
	}
	want := []string{
		"rule skip-friends did not match: from is acct@supplier.example, not list:friends",
		"rule accept-monitor did not match: client is 203.0.113.9, not 10.0.5.20",
		"rule virus did not match: virus is nothing of the kind, not true",
		"rule spam did not match: score_at_least is 3, not 8",
		`rule macros did not match: except.from = ["acct@supplier.example", "@friend.example"] takes it out: acct@supplier.example`,
		`rule strip did not match: attachment is macro, not ["executable", "pdf"]`,
		"rule last did not match: listed is nothing of the kind, not true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecideNoRecipients(t *testing.T) {
	p := load(t, decideRules)
	if ds := p.Decide(mailTo(""), ran()); len(ds) != 0 {
		t.Errorf("got %+v", ds)
	}
	if ds := p.Decide(mailTo("", "a@example.org"), filters.Results{}); ds[0].Disposition != Defer {
		t.Errorf("without results: %s", fate(ds[0]))
	}
}
