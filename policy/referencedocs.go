package policy

// tableDocs are the tables of the policy file, in the order of the reference.
// The path NAME stands for a name of the author's own.
var tableDocs = []tableDoc{
	{"", "at the top of the file", "What holds for the whole file stands before the first table.", func() any { return &fileTable{} },
		"version = 1\nmode    = \"watch\"\n"},
	{"site", "[site]", "Who we are.", func() any { return &Site{} }, `[site]
name     = "Example SA"
hostname = "mx1.example.org"
domains  = ["example.org"]
admin    = "postmaster@example.org"
`},
	{"listener", "[[listener]]", "Where mail comes in. Without one there is one for mail from outside on port 25.", func() any { return &Listener{} }, `[[listener]]
name    = "internet"
address = ":25"
role    = "inbound"
limits  = { per_ip = 20, message = "50MB", rate = "100/1m", greet_delay = "2s" }

[[listener]]
name    = "from-mail-server"
address = ":26"
role    = "outbound"
allow   = ["10.0.5.10"]
`},
	{"tls", "[tls]", "The certificate of the listeners. Without one the gateway makes its own, which nobody can verify.", func() any { return &TLS{} }, `[tls]
certificate = "/etc/postern/tls/fullchain.pem"
key         = "/etc/postern/tls/privkey.pem"
`},
	{"upstream", "[[upstream]]", "Where mail goes: the next hops.", func() any { return &Upstream{} }, `[[upstream]]
name       = "exchange"
to         = ["10.0.5.10:25", "10.0.5.11:25"]
balance    = "round-robin"
tls        = "verify"
for        = ["example.org"]
recipients = { check = "rcpt", negative_cache = "5m" }
`},
	{"queue", "[queue]", "Mail that waits for its next hop.", func() any { return &Queue{} }, `[queue]
retry     = ["1m", "5m", "15m", "1h"]
expire    = "2d"
when_down = "queue"
`},
	{"limits", "[limits]", "Bounds for the gateway as a whole. Those of a session are limits of [[listener]].", func() any { return &GatewayLimits{} }, `[limits]
memory = "512MB"
`},
	{"list", "[list]", "Lists of addresses and domains, which rules name as list:NAME.", nil, `[list]
partners = ["partner.example", "@*.supplier.example", "bob@example.com"]

[[rule]]
name   = "partners"
match  = { from = "list:partners" }
action = "accept"
`},
	{"group", "[group]", "Groups of our own people, which rules name as group:NAME.", nil, `[group]
sales = ["anne@example.org", "*.sales@example.org"]

[[rule]]
name   = "sales"
match  = { to = "group:sales", size_over = "25MB" }
action = "reject"
reply  = "552 5.3.4 message is larger than 25 MB"
`},
	{"dns", "[dns]", "Whom to ask for DNS, and how much.", func() any { return &DNS{} }, `[dns]
servers = ["127.0.0.1:53"]
budget  = { lookups = 100, time = "15s" }
`},
	{"filter.NAME", "[filter.NAME]", "Keys that the table of each filter has beside its own.", func() any { return &linkTable{} }, `[filter.phish]
enabled = false
`},
	{"scores", "[scores]", "What symbols count for, instead of what the filters say. The keys are all symbols that there are.", nil, `[scores]
ATTACHMENT_MACRO = 4.5
`},
	{"rule", "[[rule]]", "What to do with mail. Rules are read from top to bottom; the keys of an action stand beside these.", func() any { return &ruleTable{} }, `[[rule]]
name      = "macros-from-outside"
why       = "Office macros are the usual way in"
direction = "inbound"
match     = { attachment = "macro" }
except    = { to = "@example.org", client = "192.0.2.7" }
action    = "quarantine"
mode      = "watch"
expires   = 2030-12-31
`},
	{"rule.match", "match = { } and except = { } of [[rule]]", "Conditions of rules. In a table every key must match, in a list one value is enough. Patterns have * for any text and ? for one character.", nil, `[[rule]]
name   = "large"
match  = { from = "@example.com", size_over = "25MB" }
except = [{ client = "192.0.2.7" }, { attachment = "pdf" }]
action = "reject"
`},
	{"test", "[[test]]", "A message and what must become of it. postern test runs the tests; a policy that fails one is not loaded.", func() any { return &Test{} }, `[[test]]
name   = "the EICAR test file is held"
mail   = { attach = ["eicar.com"] }
expect = { disposition = "quarantine", queue = "malware" }
`},
	{"quarantine", "[quarantine]", "Mail that is held.", func() any { return &QuarantineTable{} }, `[quarantine]
keep      = "30d"
max_size  = "20GB"
when_full = "defer"

[quarantine.queue.spam]
keep = "7d"
`},
	{"storage", "[storage]", "Where the gateway keeps what it knows.", func() any { return &Storage{} }, `[storage]
state = "/var/lib/postern"
`},
	{"log", "[log]", "The log of the service and of mail.", func() any { return &Log{} }, `[log]
format = "json"
level  = "info"
`},
	{"metrics", "[metrics]", "Figures for Prometheus.", func() any { return &Metrics{} }, `[metrics]
address = "127.0.0.1:9125"
`},
	{"audit", "[audit]", "The audit log.", func() any { return &AuditTable{} }, `[audit]
keep = "2y"
`},
}

// filterExamples are examples of the tables of filters that have keys of their own.
var filterExamples = map[string]string{
	"iprev": `[filter.iprev]
trusted_relays = ["198.51.100.10"]
`,
	"spf": `[filter.spf]
trusted_relays = ["198.51.100.10", "2001:db8:10::/48"]
`,
	"dkim": `[filter.dkim]
minimum_key = 2048
`,
	"arc": `[filter.arc]
trusted_sealers = ["lists.example", "forwarder.example"]
`,
	"dmarc": `[filter.dmarc]
reports     = "daily"
report_from = "dmarc@example.org"
`,
	"phish": `[filter.phish]
lookalike_of = ["site", "partner.example"]
executives   = ["Jeanne Dupont"]
`,
	"contact": `[filter.contact]
remember = "180d"
`,
	"attachments": `[filter.attachments]
unpack = { depth = 5, bytes = "100MB" }
`,
	"virus": `[filter.virus]
engines = ["clamd:/run/clamav/clamd.ctl"]
timeout = "20s"
`,
	"command": `[filter.command]
program     = ["/usr/local/bin/check-invoice", "--strict"]
concurrency = 8
`,
	"disclaimer": `[filter.disclaimer]
text = "This mail is for its addressee only."
`,
	"dkimsign": `[filter.dkimsign]
directory = "/var/lib/postern/dkim"
`,
}

// actionExamples are examples of rules with an action.
var actionExamples = map[string]string{
	"accept": `[[rule]]
name   = "monitoring"
match  = { client = "192.0.2.7" }
action = "accept"
`,
	"reject": `[[rule]]
name   = "too-large"
match  = { size_over = "25MB" }
action = "reject"
reply  = "552 5.3.4 message is larger than 25 MB"
`,
	"defer": `[[rule]]
name   = "come-back"
match  = { client = "198.51.100.0/24" }
action = "defer"
reply  = "450 4.7.1 come back later"
`,
	"quarantine": `[[rule]]
name   = "spam"
match  = { score_at_least = 8 }
action = "quarantine"
queue  = "spam"
`,
	"discard": `[[rule]]
name   = "noise"
match  = { to = "noise@example.org" }
action = "discard"
`,
	"journal": `[[rule]]
name    = "archive"
match   = { party = "accounts@example.org" }
action  = "journal"
copy_to = "journal@example.org"
`,
	"notify": `[[rule]]
name   = "tell"
match  = { attachment = "encrypted-archive" }
action = "notify"
notify = "admin"
`,
	"strip": `[[rule]]
name   = "programs"
match  = { attachment = ["executable", "script"] }
action = "strip"
`,
	"disclaimer": `[[rule]]
name      = "legal"
direction = "outbound"
action    = "disclaimer"
position  = "bottom"
`,
	"tag": `[[rule]]
name      = "outside"
direction = "inbound"
action    = "tag"
subject   = "[EXT] "
`,
	"add-header": `[[rule]]
name    = "mark"
action  = "add-header"
headers = { X-Gateway = "passed" }
`,
	"remove-header": `[[rule]]
name      = "unmark"
direction = "outbound"
action    = "remove-header"
headers   = ["X-Originating-IP"]
`,
}
