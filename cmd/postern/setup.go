package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// setupCmd prints what the mail server beside Postern must be told. It changes
// nothing and reads no policy: what it prints can be read, kept and run again.
type setupCmd struct {
	Postfix        setupPostfixCmd        `cmd:"" help:"Print the postconf commands that put Postern behind Postfix."`
	Exchange       setupExchangeCmd       `cmd:"" help:"Print the PowerShell commands that put Postern in front of Exchange."`
	ExchangeOnline setupExchangeOnlineCmd `cmd:"" help:"Print the PowerShell commands that put Postern in front of Exchange Online."`
	Systemd        setupSystemdCmd        `cmd:"" help:"Print a systemd unit that runs the gateway with few rights."`
}

// setupPostfixCmd prints the commands for a Postfix that hands each message to
// Postern and takes it back.
type setupPostfixCmd struct {
	BeforeQueue bool           `help:"Filter while the client waits (smtpd_proxy_filter): what is refused never enters the queue." xor:"mode" required:""`
	AfterQueue  bool           `help:"Filter what is queued (content_filter): the client never waits." xor:"mode" required:""`
	Service     string         `help:"Service of master.cf that strangers speak to." default:"smtp/inet"`
	Filter      netip.AddrPort `help:"Where Postern's listener of role filter is." default:"127.0.0.1:10025" placeholder:"ADDRESS:PORT"`
	Return      netip.AddrPort `help:"Where Postfix takes the mail back." default:"127.0.0.1:10026" placeholder:"ADDRESS:PORT"`
	Trusted     netip.Prefix   `help:"Where Postern connects from: only this network may hand mail back." default:"127.0.0.0/8" placeholder:"NETWORK"`
	Processes   int            `help:"Messages filtered at once." default:"20"`
	ConfigDir   string         `help:"Postfix's configuration folder, if it is not the default." placeholder:"DIR"`
}

// Run prints the commands.
func (c *setupPostfixCmd) Run(g *globals) error {
	if c.BeforeQueue {
		return c.print(g.out, beforeQueueHead, c.beforeQueue())
	}
	return c.print(g.out, afterQueueHead, c.afterQueue())
}

const (
	beforeQueueHead = `# Postfix hands each message to Postern while the client waits, and takes it back.
# Postern's reply is the client's reply: what it refuses never enters the queue.
`
	afterQueueHead = `# Postfix queues each message, hands it to Postern and takes it back.
# The client has its reply already: let the policy hold mail, a reject is a bounce.
`
	postfixPolicy = `#
# In Postern's policy:
#
#   [[listener]]
#   name     = "postfix"
#   address  = "%s"
#   role     = "filter"
#   tls      = "off"
#   allow    = ["%s"]
#   trust    = { xforward = ["%[2]s"] }
#
#   [[upstream]]
#   name        = "postfix-return"
#   to          = ["%[3]s"]
#   tls         = "none"
#   for         = ["*"]
#   client_info = "xforward"
#
# Where the policy has other upstreams, add: when = { listener = "postfix" }

`
)

func (c *setupPostfixCmd) print(out io.Writer, head string, commands []postconf) error {
	var b strings.Builder
	b.WriteString(head)
	fmt.Fprintf(&b, postfixPolicy, c.Filter, c.Trusted, c.Return)
	dir := ""
	if c.ConfigDir != "" {
		dir = " -c " + shellQuote(c.ConfigDir)
	}
	for _, p := range commands {
		fmt.Fprintf(&b, "postconf%s %s %s\n", dir, p.flag, shellQuote(p.setting))
	}
	fmt.Fprintf(&b, "postfix%s reload\n", dir)
	_, err := io.WriteString(out, b.String())
	return err
}

// A postconf is one change of Postfix's configuration: with the flag -e of
// main.cf, with -Me of a service of master.cf, with -Fe of one of its fields,
// with -Pe of one of its parameters.
type postconf struct{ flag, setting string }

// beforeQueue returns the changes for smtpd_proxy_filter. speed_adjust has
// Postfix receive the whole message before it connects, so that a slow client
// holds no place here; the filter then must not refuse single recipients.
func (c *setupPostfixCmd) beforeQueue() []postconf {
	return append([]postconf{
		{"-Fe", fmt.Sprintf("%s/process_limit=%d", c.Service, c.Processes)},
		{"-Pe", c.Service + "/smtpd_proxy_filter=" + c.Filter.String()},
		{"-Pe", c.Service + "/smtpd_proxy_options=speed_adjust"},
		{"-Pe", fmt.Sprintf("%s/smtpd_client_connection_count_limit=%d", c.Service, max(1, c.Processes/2))},
	}, c.takeBack("no_unknown_recipient_checks")...)
}

// afterQueue returns the changes for content_filter. Only the client's side of
// XFORWARD is new here: the transport that speaks to Postern sends it.
func (c *setupPostfixCmd) afterQueue() []postconf {
	const transport = "postern/unix"
	return append([]postconf{
		{"-Me", fmt.Sprintf("%s=postern unix - - n - %d smtp", transport, c.Processes)},
		{"-Pe", transport + "/smtp_send_xforward_command=yes"},
		{"-Pe", transport + "/disable_mime_output_conversion=yes"},
		{"-Pe", transport + "/smtp_generic_maps="},
		{"-Pe", transport + "/smtp_tls_security_level=none"},
		{"-Pe", c.Service + "/content_filter=postern:" + bracketed(c.Filter)},
	}, c.takeBack("no_unknown_recipient_checks,no_header_body_checks,no_milters")...)
}

// takeBack returns the changes for the service that takes mail back from
// Postern: it trusts Postern's word about the client, checks nothing again and
// filters nothing again.
func (c *setupPostfixCmd) takeBack(override string) []postconf {
	service := c.Return.String() + "/inet"
	changes := []postconf{{"-Me", fmt.Sprintf("%s=%s inet n - n - - smtpd", service, c.Return)}}
	for _, p := range []string{
		"content_filter=",
		"smtpd_proxy_filter=",
		"smtpd_milters=",
		"smtpd_authorized_xforward_hosts=" + c.Trusted.String(),
		"mynetworks=" + c.Trusted.String(),
		"smtpd_client_restrictions=",
		"smtpd_helo_restrictions=",
		"smtpd_sender_restrictions=",
		"smtpd_relay_restrictions=",
		"smtpd_recipient_restrictions=permit_mynetworks,reject",
		"smtpd_data_restrictions=",
		"smtpd_end_of_data_restrictions=",
		"smtpd_client_connection_count_limit=0",
		"smtpd_error_sleep_time=0",
		"smtpd_tls_security_level=none",
		"receive_override_options=" + override,
	} {
		changes = append(changes, postconf{"-Pe", service + "/" + p})
	}
	return changes
}

// bracketed returns the next hop as Postfix writes it when it must not look up
// an MX: [127.0.0.1]:10025.
func bracketed(a netip.AddrPort) string {
	host := a.Addr().String()
	if a.Addr().Is6() {
		host = "ipv6:" + host
	}
	return fmt.Sprintf("[%s]:%d", host, a.Port())
}

// shellQuote quotes a word for a POSIX shell.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// setupExchangeCmd prints the commands for an Exchange that takes mail from
// Postern and sends its own out through it.
type setupExchangeCmd struct {
	Address netip.Addr `help:"Postern's address as Exchange sees it." required:"" placeholder:"ADDRESS"`
	Port    int        `help:"Port of Postern's listener of role outbound." default:"26"`
	Name    string     `help:"First word of the connectors' names." default:"postern"`
	Header  string     `help:"Header field by which the policy marks spam." default:"X-Spam-Flag"`
	Value   string     `help:"Its value." default:"YES"`
}

// Run prints the commands.
func (c *setupExchangeCmd) Run(g *globals) error {
	_, err := fmt.Fprintf(g.out, exchangeCommands, c.Address, powerShellQuote(c.Name+" inbound"),
		powerShellQuote(c.Name+": spam to Junk"), powerShellQuote(c.Header), powerShellQuote(c.Value),
		powerShellQuote(c.Name+" outbound"), c.Port)
	return err
}

const exchangeCommands = `# Run in the Exchange Management Shell. Nothing here touches another connector.
#
# Anonymous users on a connector that only %[1]s reaches: Exchange trusts no header of ours and
# still checks what it checks for strangers. "Externally secured" would skip its anti-spam and
# resolve names of outside authors as your own people: do not use both on one connector.

New-ReceiveConnector -Name %[2]s -TransportRole FrontendTransport -Custom -Bindings 0.0.0.0:25 -RemoteIPRanges %[1]s
Set-ReceiveConnector -Identity "$env:COMPUTERNAME\$(%[2]s)" -PermissionGroups AnonymousUsers

# Mail that the policy marks goes to the Junk folder.
New-TransportRule -Name %[3]s -HeaderContainsMessageHeader %[4]s -HeaderContainsWords %[5]s -SetSCL 6

# Mail that leaves goes out through Postern.
New-SendConnector -Name %[6]s -AddressSpaces '*' -SmartHosts %[1]s -Port %[7]d -DNSRoutingEnabled $false -RequireTLS $true
`

// powerShellQuote quotes a word for PowerShell.
func powerShellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
