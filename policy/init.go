package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// Init returns the text of a first policy for a domain whose mail goes to the
// given next hop ("10.0.5.10:25"). It begins in watch mode: the first day
// everything but malware is delivered, and log and console show what would have
// happened. With full, the shipped rules and the usual settings are written
// out. There may be more domains than one.
func Init(domain, upstream string, full bool, more ...string) string {
	var b strings.Builder
	domains := strconv.Quote(domain)
	for _, d := range more {
		domains += ", " + strconv.Quote(d)
	}
	fmt.Fprintf(&b, initHead, domains, upstream, domains)
	if !full {
		return b.String()
	}
	fmt.Fprintf(&b, initFull, domain)
	_, rules, _ := strings.Cut(shippedText, "\n\n")
	b.WriteString(rules)
	b.WriteString(initTest)
	return b.String()
}

const initHead = `version = 1                                # settings: postern help, man postern.toml
mode    = "watch"                          # only malware is held; "enforce" when the log shows what you want

[site]
domains = [%s]

[[upstream]]
name = "mail"
to   = [%q]
for  = [%s]
`

const initFull = `
[[upstream]]
name = "internet"                          # for mail that goes out
to   = ["mx"]
for  = ["*"]

[[listener]]
name    = "internet"
address = ":25"
role    = "inbound"                        # accepts only mail to site.domains
limits  = { connections = 1000, per_ip = 50, rcpts = 1000, message = "50MB", hops = 50 }

# [[listener]]
# name    = "from-mail-server"
# address = ":26"
# role    = "outbound"                     # mail that our own server sends out through us
# allow   = ["10.0.5.10"]

[queue]
retry        = ["1m", "5m", "15m", "1h", "4h"]
expire       = "5d"
when_down    = "defer"                     # next hop down: "defer" (the client keeps it) or "queue" (we keep it)
mixed_reject = "quarantine"                # refused for some, accepted for others: "quarantine", "bounce" or "defer"

# [filter.virus]
# engines = ["clamd:/run/clamav/clamd.ctl"]

[quarantine]
keep     = "30d"
max_size = "20GB"

[storage]
state = "/var/lib/postern"

[log]
format = "logfmt"
level  = "info"

[metrics]
address = "127.0.0.1:9125"

[audit]
keep = "1y"

# Rules are read from top to bottom. Inside a table every key must match, inside
# a list one is enough, except takes cases out. accept, reject, defer,
# quarantine and discard end the list for that recipient; the others go on.
# Our own domain is %s.

`

const initTest = `
[[test]]
name   = "an ordinary message arrives"
mail   = { subject = "Lunch", body = "At noon?" }
expect = { disposition = "relay", rule = "default" }

[[test]]
name   = "the EICAR test file is held"
mail   = { attach = ["eicar.com"] }
expect = { disposition = "quarantine", queue = "malware" }
`
