package policy

import (
	"net/netip"
	"time"

	"postern/mail"
)

// Bytes is a size: "25MB" in the policy file (MB = 1024 x 1024).
type Bytes int64

// Duration is a time span: "15m", "30d" in the policy file.
type Duration time.Duration

// Site is the [site] table.
type Site struct {
	Name     string   `toml:"name"`
	Hostname string   `toml:"hostname"` // default: the host's name
	Domains  []string `toml:"domains"`  // normalised by the loader
	Admin    string   `toml:"admin"`    // default: postmaster@ the first domain
	Language string   `toml:"language"` // "en" (default) or "fr"
	Timezone string   `toml:"timezone"`
}

// Listener is one [[listener]] table.
type Listener struct {
	Name        string         `toml:"name"`
	Address     string         `toml:"address"`
	Role        mail.Role      `toml:"role"`
	Protocol    string         `toml:"protocol"` // "smtp" (default) or "lmtp"
	Allow       []netip.Prefix `toml:"allow"`
	Outbound    []netip.Prefix `toml:"outbound"`
	TLS         string         `toml:"tls"` // "off", "optional" (default), "required", "implicit"
	Auth        ListenerAuth   `toml:"auth"`
	Limits      Limits         `toml:"limits"`
	Trust       Trust          `toml:"trust"`
	BareNewline string         `toml:"bare_newline"` // "reject" (default) or "normalise"
	RequireTLS  bool           `toml:"requiretls"`   // offer REQUIRETLS; default true when TLS is on
}

// ListenerAuth is the auth key of a listener.
type ListenerAuth struct {
	Backend     string   `toml:"backend"`      // "file"; empty: AUTH is not offered
	File        string   `toml:"file"`         // user:argon2id-hash lines
	MaxFailures int      `toml:"max_failures"` // default 5
	Ban         Duration `toml:"ban"`          // default 15m
}

// Limits is the limits key of a listener. Defaults in brackets.
type Limits struct {
	Connections int      `toml:"connections"` // at once [1000]
	PerIP       int      `toml:"per_ip"`      // at once from one address [50]
	Rcpts       int      `toml:"rcpts"`       // per transaction [1000]
	Errors      int      `toml:"errors"`      // 5xx replies per session [20]
	Messages    int      `toml:"messages"`    // per session [1000]
	Message     Bytes    `toml:"message"`     // size [50MB]
	Hops        int      `toml:"hops"`        // Received fields [50]
	Rate        string   `toml:"rate"`        // messages from one address: "100/1m"; empty: none
	Command     Duration `toml:"command"`     // total time for one command line [5m]
	Data        Duration `toml:"data"`        // total time for one message [10m]
	MinRate     Bytes    `toml:"min_rate"`    // bytes a second below which DATA is cut, after a minute [64]
	GreetDelay  Duration `toml:"greet_delay"` // wait before the banner, to catch early talkers [0]
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
	Minimum     string `toml:"minimum"`   // "1.2" (default) or "1.3"
	ClientCA    string `toml:"client_ca"` // verify client certificates against this file
}

// Upstream is one [[upstream]] table.
type Upstream struct {
	Name        string         `toml:"name"`
	To          []string       `toml:"to"`       // "host:port", "[v6]:port", "unix:/path" (LMTP) or "mx"
	Balance     string         `toml:"balance"`  // "failover" (default) or "round-robin"
	Protocol    string         `toml:"protocol"` // "smtp" (default) or "lmtp"
	TLS         string         `toml:"tls"`      // "none", "opportunistic" (default), "required", "verify"
	CA          string         `toml:"ca"`
	ClientCert  string         `toml:"client_cert"` // PEM with certificate and key
	ClientKey   string         `toml:"client_key"`  // if the key is apart
	ServerName  string         `toml:"server_name"`
	User        string         `toml:"user"` // AUTH towards the next hop
	Password    Secret         `toml:"password"`
	For         []string       `toml:"for"` // domains; "*" is every other domain
	When        UpstreamWhen   `toml:"when"`
	Recipients  RecipientCheck `toml:"recipients"`
	ClientInfo  string         `toml:"client_info"` // "xforward", or "none" (default)
	Connections int            `toml:"connections"` // at once per address [20]
	Timeout     Duration       `toml:"timeout"`     // for the reply after the dot [5m: RFC 5321 wants 10m, the client waits too]
}

// UpstreamWhen limits an upstream to what came in by a listener.
type UpstreamWhen struct {
	Listener string `toml:"listener"`
}

// RecipientCheck says how recipients are verified.
type RecipientCheck struct {
	Check         string   `toml:"check"` // "none" (default), "rcpt", "file"
	File          string   `toml:"file"`
	Cache         Duration `toml:"cache"`          // [1h]
	NegativeCache Duration `toml:"negative_cache"` // [5m]
}

// Queue is the [queue] table.
type Queue struct {
	Retry       []Duration `toml:"retry"`        // ["1m","5m","15m","1h","4h"], the last repeats
	Expire      Duration   `toml:"expire"`       // [5d]
	WhenDown    string     `toml:"when_down"`    // "defer" (default) or "queue"
	MixedReject string     `toml:"mixed_reject"` // "quarantine" (default), "bounce", "defer"
	Concurrency int        `toml:"concurrency"`  // deliveries at once per destination [20]
	Delivery    string     `toml:"delivery"`     // "cut-through" (default): one copy to one next hop goes on while the client waits; "spool": always durable first
	Bounce      string     `toml:"bounce"`       // DSNs for inbound mail that failed: "outbound" (default: only for our own users), "always"
	Reserve     Bytes      `toml:"reserve"`      // free space below which mail is refused with 452 [100MB, at most a twentieth of the disk]
}

// DNS is the [dns] table.
type DNS struct {
	Servers DNSServers `toml:"servers"` // "system" or addresses
	Timeout Duration   `toml:"timeout"` // [5s]
}

// DNSServers is "system" (empty) or a list of host:port.
type DNSServers []string

// QuarantineTable is the [quarantine] table.
type QuarantineTable struct {
	Keep     Duration                   `toml:"keep"`      // [30d]
	MaxSize  Bytes                      `toml:"max_size"`  // [20GB]
	WhenFull string                     `toml:"when_full"` // "defer"
	Encrypt  bool                       `toml:"encrypt"`   // [true]
	Queue    map[string]QuarantineQueue `toml:"queue"`
}

// QuarantineQueue is one [quarantine.queue.NAME] table.
type QuarantineQueue struct {
	Keep Duration `toml:"keep"` // default: [quarantine] keep
}

// Storage is the [storage] table.
type Storage struct {
	State    string `toml:"state"`    // [/var/lib/postern]; POSTERN_STATE overrides
	Database string `toml:"database"` // "sqlite"
	Mail     string `toml:"mail"`     // "file"
	Cache    string `toml:"cache"`    // "memory"
}

// Log is the [log] table.
type Log struct {
	Format   string `toml:"format"` // "logfmt" (default) or "json"
	Level    string `toml:"level"`  // "debug", "info" (default), "warn", "error"
	To       string `toml:"to"`     // "stderr" (default) or "syslog"
	Subjects bool   `toml:"subjects"`
}

// Metrics is the [metrics] table.
type Metrics struct {
	Address string `toml:"address"` // empty: off
}

// AuditTable is the [audit] table.
type AuditTable struct {
	Keep Duration `toml:"keep"` // [1y]
}

// Secret is a value that prints as <secret>: a plain string, or { credential = },
// { file = }, { env = }.
type Secret struct{ value string }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return s.value }

// String never shows the secret.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return "<secret>"
}
