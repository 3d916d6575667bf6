package policy

import (
	"net/netip"

	"postern/mail"
)

// Site is the [site] table.
type Site struct {
	Name     string   `toml:"name"`
	Hostname string   `toml:"hostname"`                            // default: the host's name
	Domains  []string `toml:"domains"`                             // normalised by the loader
	Admin    string   `toml:"admin"`                               // default: postmaster@ the first domain
	Language string   `toml:"language" words:"en fr" default:"en"` // "en" (default) or "fr"
	Timezone string   `toml:"timezone" default:"UTC"`
}

// Listener is one [[listener]] table.
type Listener struct {
	Name        string         `toml:"name"`
	Address     string         `toml:"address"`
	Role        mail.Role      `toml:"role" words:"inbound outbound submission filter" default:"inbound"`
	Protocol    string         `toml:"protocol" words:"smtp lmtp" default:"smtp"`
	Allow       []netip.Prefix `toml:"allow"`
	Outbound    []netip.Prefix `toml:"outbound"`
	TLS         string         `toml:"tls" words:"off optional required implicit" default:"optional"`
	Auth        ListenerAuth   `toml:"auth"`
	Limits      Limits         `toml:"limits"`
	Trust       Trust          `toml:"trust"`
	BareNewline string         `toml:"bare_newline" words:"reject normalise" default:"reject"`
	RequireTLS  bool           `toml:"requiretls" default:"true"` // offer REQUIRETLS; default true when TLS is on
}

// ListenerAuth is the auth key of a listener.
type ListenerAuth struct {
	Backend     string   `toml:"backend" words:"file"` // "file"; empty: AUTH is not offered
	File        string   `toml:"file"`                 // user:argon2id-hash lines
	MaxFailures int      `toml:"max_failures" default:"5" least:"1"`
	Ban         Duration `toml:"ban" default:"15m"`
}

// Limits is the limits key of a listener.
type Limits struct {
	Connections int      `toml:"connections" default:"1000" least:"1"` // at once
	PerIP       int      `toml:"per_ip" default:"50" least:"1"`        // at once from one address
	Rcpts       int      `toml:"rcpts" default:"1000" least:"1"`       // per transaction
	Errors      int      `toml:"errors" default:"20" least:"1"`        // 5xx replies per session
	Junk        int      `toml:"junk" default:"100" least:"1"`         // commands that move no mail, since the last message; each one more is an error
	Messages    int      `toml:"messages" default:"1000" least:"1"`    // per session
	Message     Bytes    `toml:"message" default:"50MB" least:"1024"`  // size
	Hops        int      `toml:"hops" default:"50" least:"1"`          // Received fields
	Rate        Rate     `toml:"rate"`                                 // messages from one address: "100/1m"; absent: no limit
	Command     Duration `toml:"command" default:"5m" least:"1"`       // total time for one command line
	Data        Duration `toml:"data" default:"10m" least:"1"`         // total time for one message
	MinRate     Bytes    `toml:"min_rate" default:"64B"`               // bytes a second below which DATA is cut, after a minute
	GreetDelay  Duration `toml:"greet_delay"`                          // wait before the banner, to catch early talkers
}

// Trust is the trust key of a listener: who may tell us the real client.
type Trust struct {
	XForward []netip.Prefix `toml:"xforward"`
	XClient  []netip.Prefix `toml:"xclient"`
	Proxy    []netip.Prefix `toml:"proxy"`
}

// TLS is the [tls] table.
type TLS struct {
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
	Minimum     string `toml:"minimum" words:"1.2 1.3" default:"1.2"`
	ClientCA    string `toml:"client_ca"` // verify client certificates against this file
}

// Upstream is one [[upstream]] table.
type Upstream struct {
	Name        string         `toml:"name"`
	To          []string       `toml:"to"` // "host:port", "[v6]:port", "unix:/path" (LMTP) or "mx"
	Balance     string         `toml:"balance" words:"failover round-robin" default:"failover"`
	Protocol    string         `toml:"protocol" words:"smtp lmtp" default:"smtp"`
	TLS         string         `toml:"tls" words:"none opportunistic required verify" default:"opportunistic"`
	CA          string         `toml:"ca"`
	ClientCert  string         `toml:"client_cert"` // PEM with certificate and key
	ClientKey   string         `toml:"client_key"`  // if the key is apart
	ServerName  string         `toml:"server_name"`
	User        string         `toml:"user"` // AUTH towards the next hop
	Password    Secret         `toml:"password"`
	For         []string       `toml:"for"` // domains; "*" is every other domain
	When        UpstreamWhen   `toml:"when"`
	Recipients  RecipientCheck `toml:"recipients"`
	ClientInfo  string         `toml:"client_info" words:"xforward none" default:"none"`
	Connections int            `toml:"connections" default:"20" least:"1"` // at once per address
	Timeout     Duration       `toml:"timeout" default:"5m" least:"1"`     // for the reply after the dot (RFC 5321 wants 10m, but the client waits too)
}

// UpstreamWhen limits an upstream to what came in by a listener.
type UpstreamWhen struct {
	Listener string `toml:"listener"`
}

// RecipientCheck says how recipients are verified.
type RecipientCheck struct {
	Check         string   `toml:"check" words:"none rcpt file" default:"none"`
	File          string   `toml:"file"`
	Cache         Duration `toml:"cache" default:"1h"`
	NegativeCache Duration `toml:"negative_cache" default:"5m"`

	known *addressSet // what File lists
}

// Lists reports whether the recipients file names the recipient, or its domain.
// The local-part's case does not count.
func (r *RecipientCheck) Lists(to mail.Path) bool { return r.known != nil && r.known.has(to) }

// Queue is the [queue] table.
type Queue struct {
	Retry       []Duration `toml:"retry" default:"1m 5m 15m 1h 4h"` // the last repeats
	Expire      Duration   `toml:"expire" default:"5d" least:"1"`
	WhenDown    string     `toml:"when_down" words:"defer queue" default:"defer"`
	MixedReject string     `toml:"mixed_reject" words:"quarantine bounce defer" default:"quarantine"`
	Concurrency int        `toml:"concurrency" default:"20" least:"1"`                       // deliveries at once per destination
	Delivery    string     `toml:"delivery" words:"cut-through spool" default:"cut-through"` // "cut-through": one copy to one next hop goes on while the client waits; "spool": always durable first
	Bounce      string     `toml:"bounce" words:"outbound always" default:"outbound"`        // DSNs for mail that failed: "outbound", only for our own users, or "always"
	Reserve     Bytes      `toml:"reserve" default:"100MB"`                                  // free space below which mail is refused with 452; the spool takes at most a twentieth of the disk
}

// GatewayLimits is the [limits] table: what holds for the gateway as a whole.
type GatewayLimits struct {
	Memory Bytes `toml:"memory" default:"256MB" least:"1048576"` // for the large messages (more than 256 KB) that are judged at once: twice the size of each; the others wait
}

// DNS is the [dns] table.
type DNS struct {
	Servers DNSServers `toml:"servers"` // "system" or addresses
	Timeout Duration   `toml:"timeout" default:"5s" least:"1"`
	Budget  DNSBudget  `toml:"budget"`
}

// DNSBudget is the budget key of [dns]: what may be asked for one message.
type DNSBudget struct {
	LookUps int      `toml:"lookups" default:"200" least:"1"` // of all filters together
	Time    Duration `toml:"time" default:"20s" least:"1"`    // from the first question on
}

// DNSServers is "system" (empty) or a list of host:port.
type DNSServers []string

// QuarantineTable is the [quarantine] table.
type QuarantineTable struct {
	Keep     Duration                   `toml:"keep" default:"30d" least:"1"`
	MaxSize  Bytes                      `toml:"max_size" default:"20GB" least:"1"`
	WhenFull string                     `toml:"when_full" words:"defer" default:"defer"`
	Encrypt  bool                       `toml:"encrypt" default:"true"`
	Queue    map[string]QuarantineQueue `toml:"queue"`
}

// QuarantineQueue is one [quarantine.queue.NAME] table.
type QuarantineQueue struct {
	Keep Duration `toml:"keep"` // default: [quarantine] keep
}

// Storage is the [storage] table.
type Storage struct {
	State    string `toml:"state" default:"/var/lib/postern"` // POSTERN_STATE overrides
	Database string `toml:"database" words:"sqlite" default:"sqlite"`
	Mail     string `toml:"mail" words:"file" default:"file"`
	Cache    string `toml:"cache" words:"memory" default:"memory"`
}

// Log is the [log] table.
type Log struct {
	Format   string `toml:"format" words:"logfmt json" default:"logfmt"`
	Level    string `toml:"level" words:"debug info warn error" default:"info"`
	To       string `toml:"to" words:"stderr syslog" default:"stderr"`
	Subjects bool   `toml:"subjects"`
}

// Metrics is the [metrics] table.
type Metrics struct {
	Address string `toml:"address"` // empty: off
}

// AuditTable is the [audit] table.
type AuditTable struct {
	Keep Duration `toml:"keep" default:"1y" least:"1"`
}
