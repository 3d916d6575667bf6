package main

import (
	"fmt"
	"net/netip"
	"strings"
)

// setupExchangeOnlineCmd prints the commands for a tenant of Exchange Online
// that takes its mail from Postern and sends its own out through it.
type setupExchangeOnlineCmd struct {
	Domain   string     `help:"A domain of the tenant." required:"" placeholder:"DOMAIN"`
	Host     string     `help:"Postern's host name, as in the certificate that it shows." required:"" placeholder:"NAME"`
	Outgoing netip.Addr `help:"Address of Postern for mail that leaves. Exchange Online sends to port 25 only: it is not the address of the MX." required:"" placeholder:"ADDRESS"`
	Tenant   string     `help:"The tenant's id: (Get-OrganizationConfig).ExternalDirectoryOrganizationId, or from the Entra admin center." required:"" placeholder:"UUID"`
	Name     string     `help:"First word of the connectors' names." default:"postern"`
	Header   string     `help:"Header field by which the policy marks spam." default:"X-Spam-Flag"`
	Value    string     `help:"Its value." default:"YES"`
}

// Run prints the commands.
func (c *setupExchangeOnlineCmd) Run(g *globals) error {
	q := powerShellQuote
	text := strings.NewReplacer(
		"{domain}", c.Domain, "{host}", c.Host, "{outgoing}", netip.AddrPortFrom(c.Outgoing, 25).String(), "{tenant}", strings.ToLower(c.Tenant),
		"{mx}", strings.ReplaceAll(c.Domain, ".", "-")+".mail.protection.outlook.com", "{ranges}", exchangeOnlineRanges,
		"{'host}", q(c.Host), "{'inbound}", q(c.Name+" inbound"), "{'outbound}", q(c.Name+" outbound"), "{'junk}", q(c.Name+": spam to Junk"),
		"{'route}", q(c.Name+": out through the gateway"), "{'header}", q(c.Header), "{'value}", q(c.Value), "{'address}", q(c.Outgoing.String()),
	).Replace(exchangeOnlineCommands)
	_, err := fmt.Fprint(g.out, text)
	return err
}

// exchangeOnlineRanges are where Exchange Online sends from, by Microsoft's list
// of its addresses (Exchange Online, port 25).
const exchangeOnlineRanges = `"40.92.0.0/15", "40.107.0.0/16", "52.100.0.0/14", "52.238.78.88/32", "104.47.0.0/17", "2a01:111:f400::/48", "2a01:111:f403::/48"`

const exchangeOnlineCommands = `# Run in Exchange Online PowerShell (Connect-ExchangeOnline). Nothing here touches another connector.
#
# In. Exchange Online takes mail for the tenant from whoever shows the certificate of {host},
# and refuses what comes around the gateway: let the MX point to Postern first.

New-InboundConnector -Name {'inbound} -ConnectorType Partner -SenderDomains '*' -RequireTls $true -RestrictDomainsToCertificate $true -TlsSenderCertificateName {'host}

# Enhanced filtering (skip listing): judge mail by the host that gave it to Postern, not by Postern.
# Rules that set the spam confidence level to -1 for the gateway's mail must go.

Set-InboundConnector -Identity {'inbound} -EFSkipLastIP $true

# What we change on the way in is ARC-sealed: trust the seal. Name the sealers that are in the list
# already too (Get-ArcConfig): it is replaced.

Set-ArcConfig -Identity Default -ArcTrustedSealers '{domain}'

# Mail that the policy marks goes to the Junk folder.

New-TransportRule -Name {'junk} -HeaderContainsMessageHeader {'header} -HeaderContainsWords {'value} -SetSCL 6

# Out. The rule makes mail to the outside take the connector. There is no exception by a header
# field: whoever can write it goes around the gateway. The rule is off until you switch it on:
# Enable-TransportRule -Identity {'route}

New-OutboundConnector -Name {'outbound} -ConnectorType Partner -UseMXRecord $false -SmartHosts {'address} -TlsSettings DomainValidation -TlsDomain {'host} -IsTransportRuleScoped $true
Validate-OutboundConnector -Identity {'outbound} -Recipients 'postmaster@{domain}'
New-TransportRule -Name {'route} -FromScope InOrganization -SentToScope NotInOrganization -RouteMessageOutboundConnector {'outbound} -Enabled $false

# In Postern's policy. Exchange Online sends to port 25 only, so this listener has an address of its
# own, and the one for the internet has its own too instead of ":25". All tenants of Exchange
# Online send from the same addresses: without the rule any of them could send mail in the name of
# {domain} through us. Compare the addresses with Microsoft's list.
#
#   [[listener]]
#   name    = "exchange-online"
#   address = "{outgoing}"
#   role    = "outbound"
#   tls     = "required"
#   allow   = [{ranges}]
#
#   [[upstream]]
#   name        = "exchange-online"
#   to          = ["{mx}:25"]
#   for         = ["{domain}"]
#   tls         = "verify"
#   client_cert = "connector.pem"  # certificate and key of {host}
#
#   [[upstream]]
#   name = "internet"
#   to   = ["mx"]
#   for  = ["*"]
#
#   [[rule]]
#   name   = "other-tenants"
#   why    = "All tenants of Exchange Online send from the same addresses"
#   match  = { listener = "exchange-online" }
#   except = { header = { X-MS-Exchange-CrossTenant-Id = "{tenant}" } }
#   action = "reject"
#   reply  = "550 5.7.1 not from our tenant"
`
