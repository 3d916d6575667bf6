package policy

import (
	"net/netip"

	"postern/mail"
)

// Site is the [site] table.
type Site struct {
	Name     string   `toml:"name" doc:"name of the organisation, for people to read in reports"`
	Hostname string   `toml:"hostname" doc:"name that the gateway goes by in SMTP and in header fields; absent: the name of the host"`
	Domains  []string `toml:"domains" doc:"domains whose mail comes in here; the first is that of the gateway itself"`
	Admin    string   `toml:"admin" doc:"mail address of the administrator; absent: postmaster at the first domain"`
	Language string   `toml:"language" words:"en fr" default:"en" doc:"language of the texts that the gateway writes to people"`
	Timezone string   `toml:"timezone" default:"UTC" doc:"time zone of dates in the policy that name none, as in \"Europe/Paris\""`
}

// Listener is one [[listener]] table.
type Listener struct {
	Name        string         `toml:"name" doc:"name of the listener, for rules, tests and the log"`
	Address     string         `toml:"address" doc:"where to listen: \":25\", \"127.0.0.1:10025\", \"[::1]:25\""`
	Role        mail.Role      `toml:"role" words:"inbound outbound submission filter" default:"inbound" doc:"inbound takes mail for the domains of [site]; outbound mail of the hosts in allow; submission mail of users that log in; filter gives mail back to a mail server"`
	Protocol    string         `toml:"protocol" words:"smtp lmtp" default:"smtp" doc:"protocol to speak with clients"`
	Allow       []netip.Prefix `toml:"allow" doc:"clients that may connect; absent: all, but for outbound and filter it must be said"`
	Outbound    []netip.Prefix `toml:"outbound" doc:"for role = \"filter\": original clients whose mail counts as outbound"`
	TLS         string         `toml:"tls" words:"off optional required implicit" default:"optional" doc:"optional and required offer STARTTLS, implicit begins with TLS, off has none"`
	Auth        ListenerAuth   `toml:"auth" doc:"log-in of users"`
	Limits      Limits         `toml:"limits" doc:"bounds of sessions and messages"`
	Trust       Trust          `toml:"trust" doc:"hosts that may tell who the real client is"`
	BareNewline string         `toml:"bare_newline" words:"reject normalise" default:"reject" doc:"what to do with a line feed without a carriage return in a message: refuse it or make a line end of it"`
	RequireTLS  bool           `toml:"requiretls" default:"true" doc:"offer REQUIRETLS where there is TLS"`
}

// ListenerAuth is the auth key of a listener.
type ListenerAuth struct {
	Backend     string   `toml:"backend" words:"file" doc:"where accounts are; absent: AUTH is not offered"`
	File        string   `toml:"file" doc:"accounts file, a line of postern account for each"`
	MaxFailures int      `toml:"max_failures" default:"5" least:"1" doc:"wrong passwords for one account from one address that ban the pair; four times as many ban the address"`
	Ban         Duration `toml:"ban" default:"15m" doc:"how long the ban lasts"`
}

// Limits is the limits key of a listener.
type Limits struct {
	Connections int      `toml:"connections" default:"1000" least:"1" doc:"connections at once"`
	PerIP       int      `toml:"per_ip" default:"50" least:"1" doc:"connections at once from one address"`
	Rcpts       int      `toml:"rcpts" default:"1000" least:"1" doc:"recipients of one transaction"`
	Errors      int      `toml:"errors" default:"20" least:"1" doc:"replies with 5xx after which a session ends"`
	Junk        int      `toml:"junk" default:"100" least:"1" doc:"commands that move no mail, since the last message; each one more is an error"`
	Messages    int      `toml:"messages" default:"1000" least:"1" doc:"messages of one session"`
	Message     Bytes    `toml:"message" default:"50MB" least:"1024" doc:"size of a message"`
	Hops        int      `toml:"hops" default:"50" least:"1" doc:"Received fields after which a message counts as going round in circles"`
	Rate        Rate     `toml:"rate" value:"a rate, as in \"100/1m\"" doc:"messages from one address in a time; absent: no limit"`
	Command     Duration `toml:"command" default:"5m" least:"1" doc:"total time for one command line"`
	Data        Duration `toml:"data" default:"10m" least:"1" doc:"total time for one message"`
	MinRate     Bytes    `toml:"min_rate" default:"64B" doc:"bytes a second below which a message is cut off, after a minute"`
	GreetDelay  Duration `toml:"greet_delay" doc:"wait before the banner, to catch clients that talk too early"`
}

// Trust is the trust key of a listener: who may tell us the real client.
type Trust struct {
	XForward []netip.Prefix `toml:"xforward" doc:"hosts whose XFORWARD command is believed"`
	XClient  []netip.Prefix `toml:"xclient" doc:"hosts whose XCLIENT command is believed"`
	Proxy    []netip.Prefix `toml:"proxy" doc:"proxies that begin each connection with a PROXY header"`
}

// TLS is the [tls] table.
type TLS struct {
	Certificate string `toml:"certificate" doc:"PEM file of the certificate and its chain"`
	Key         string `toml:"key" doc:"PEM file of its key"`
	Minimum     string `toml:"minimum" words:"1.2 1.3" default:"1.2" doc:"oldest version of TLS that is spoken"`
	ClientCA    string `toml:"client_ca" doc:"PEM file of authorities against which certificates of clients are verified"`
}

// Upstream is one [[upstream]] table.
type Upstream struct {
	Name        string         `toml:"name" doc:"name of the next hop, for the log and the queue"`
	To          []string       `toml:"to" doc:"addresses: \"host:port\", \"[v6]:port\", \"unix:/path\" for LMTP, or \"mx\" alone for the exchangers of each domain"`
	Balance     string         `toml:"balance" words:"failover round-robin" default:"failover" doc:"try the addresses in their order, or in turn"`
	Protocol    string         `toml:"protocol" words:"smtp lmtp" default:"smtp" doc:"protocol to speak with the next hop"`
	TLS         string         `toml:"tls" words:"none opportunistic required verify" default:"opportunistic" doc:"opportunistic takes what it gets, required wants TLS, verify a certificate that is right too"`
	CA          string         `toml:"ca" doc:"PEM file of authorities to verify against; absent: those of the system"`
	ClientCert  string         `toml:"client_cert" doc:"PEM file of a certificate to show, with its key"`
	ClientKey   string         `toml:"client_key" doc:"PEM file of the key, if it is apart"`
	ServerName  string         `toml:"server_name" doc:"name that the certificate of the next hop must have; absent: the host in to"`
	User        string         `toml:"user" doc:"user to log in as; goes with password"`
	Password    Secret         `toml:"password" value:"{ credential = \"...\" }, { file = \"...\" } or { env = \"...\" }" doc:"password to log in with"`
	For         []string       `toml:"for" doc:"domains whose mail goes there; \"*.example.org\" is those below, \"*\" every other domain"`
	When        UpstreamWhen   `toml:"when" doc:"limits the upstream to what came in by a listener"`
	Recipients  RecipientCheck `toml:"recipients" doc:"how recipients are verified before their mail is taken"`
	ClientInfo  string         `toml:"client_info" words:"xforward none" default:"none" doc:"tell the next hop the real client with XFORWARD"`
	Connections int            `toml:"connections" default:"20" least:"1" doc:"connections at once to one address"`
	Timeout     Duration       `toml:"timeout" default:"5m" least:"1" doc:"time for the reply after the message (RFC 5321 wants 10m, but the client waits too)"`
}

// UpstreamWhen limits an upstream to what came in by a listener.
type UpstreamWhen struct {
	Listener string `toml:"listener" doc:"name of the listener"`
}

// RecipientCheck says how recipients are verified.
type RecipientCheck struct {
	Check         string   `toml:"check" words:"none rcpt file" default:"none" doc:"rcpt asks the next hop, file looks into a file, none takes all"`
	File          string   `toml:"file" doc:"file of recipients: an address or @domain a line"`
	Cache         Duration `toml:"cache" default:"1h" doc:"how long is remembered that a recipient is there"`
	NegativeCache Duration `toml:"negative_cache" default:"5m" doc:"how long is remembered that a recipient is not there"`

	known *addressSet // what File lists
}

// Lists reports whether the recipients file names the recipient, or its domain.
// The local-part's case does not count.
func (r *RecipientCheck) Lists(to mail.Path) bool { return r.known != nil && r.known.has(to) }

// Queue is the [queue] table.
type Queue struct {
	Retry       []Duration `toml:"retry" default:"1m 5m 15m 1h 4h" doc:"waits between attempts; the last repeats"`
	Expire      Duration   `toml:"expire" default:"5d" least:"1" doc:"time after which a message is given up"`
	WhenDown    string     `toml:"when_down" words:"defer queue" default:"defer" doc:"next hop down: defer lets the client keep the mail, queue keeps it here"`
	MixedReject string     `toml:"mixed_reject" words:"quarantine bounce defer" default:"quarantine" doc:"refused for some recipients of a message and accepted for others: what becomes of the copies that are refused"`
	Concurrency int        `toml:"concurrency" default:"20" least:"1" doc:"deliveries at once to one destination"`
	Delivery    string     `toml:"delivery" words:"cut-through spool" default:"cut-through" doc:"cut-through: one copy to one next hop goes on while the client waits; spool: always durable first"`
	Bounce      string     `toml:"bounce" words:"outbound always" default:"outbound" doc:"for whose mail that failed the sender is told: outbound, only our own users, or always"`
	Reserve     Bytes      `toml:"reserve" default:"100MB" doc:"free space below which mail is refused with 452; the spool takes at most a twentieth of the disk"`
}

// GatewayLimits is the [limits] table: what holds for the gateway as a whole.
type GatewayLimits struct {
	Memory Bytes `toml:"memory" default:"256MB" least:"1048576" doc:"for the large messages (more than 256 KB) that are judged at once: twice the size of each; the others wait"`
}

// DNS is the [dns] table.
type DNS struct {
	Servers DNSServers `toml:"servers" value:"\"system\" or a list of addresses" doc:"servers to ask, or those of the system"`
	Timeout Duration   `toml:"timeout" default:"5s" least:"1" doc:"time for one question"`
	Budget  DNSBudget  `toml:"budget" doc:"what may be asked for one message"`
}

// DNSBudget is the budget key of [dns]: what may be asked for one message.
type DNSBudget struct {
	LookUps int      `toml:"lookups" default:"200" least:"1" doc:"questions of all filters together"`
	Time    Duration `toml:"time" default:"20s" least:"1" doc:"time from the first question on"`
}

// DNSServers is "system" (empty) or a list of host:port.
type DNSServers []string

// QuarantineTable is the [quarantine] table.
type QuarantineTable struct {
	Keep     Duration                   `toml:"keep" default:"30d" least:"1" doc:"how long messages are held"`
	MaxSize  Bytes                      `toml:"max_size" default:"20GB" least:"1" doc:"size that the quarantine may have"`
	WhenFull string                     `toml:"when_full" words:"defer" default:"defer" doc:"what becomes of messages to hold when it is full"`
	Encrypt  bool                       `toml:"encrypt" default:"true" doc:"encrypt what is held"`
	Queue    map[string]QuarantineQueue `toml:"queue" doc:"settings of one queue; NAME is spam, policy, malware or ambiguous"`
}

// QuarantineQueue is one [quarantine.queue.NAME] table.
type QuarantineQueue struct {
	Keep Duration `toml:"keep" value:"a duration, as in \"90d\"" doc:"how long messages of the queue are held; absent: [quarantine] keep"`
}

// Storage is the [storage] table.
type Storage struct {
	State    string `toml:"state" default:"/var/lib/postern" doc:"directory of the state; POSTERN_STATE overrides it"`
	Database string `toml:"database" words:"sqlite" default:"sqlite" doc:"kind of database"`
	Mail     string `toml:"mail" words:"file" default:"file" doc:"where messages are kept"`
	Cache    string `toml:"cache" words:"memory" default:"memory" doc:"where caches are kept"`
}

// Log is the [log] table.
type Log struct {
	Format   string `toml:"format" words:"logfmt json" default:"logfmt" doc:"format of the lines"`
	Level    string `toml:"level" words:"debug info warn error" default:"info" doc:"least level that is written"`
	To       string `toml:"to" words:"stderr syslog" default:"stderr" doc:"where the log goes"`
	Subjects bool   `toml:"subjects" doc:"write subjects of messages into the mail log"`
}

// Metrics is the [metrics] table.
type Metrics struct {
	Address string `toml:"address" doc:"where to serve metrics over HTTP; absent: nowhere"`
}

// AuditTable is the [audit] table.
type AuditTable struct {
	Keep Duration `toml:"keep" default:"1y" least:"1" doc:"how long the audit log is kept"`
}
