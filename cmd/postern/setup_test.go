package main

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postern/filters/standard"
	"postern/policy"
)

var updateDocs = flag.Bool("update-docs", false, "write what `postern setup` prints into docs/")

// setup runs `postern setup ARGS` and returns what it prints.
func setup(t *testing.T, args ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	if code := run(append([]string{"setup"}, args...), strings.NewReader(""), &out, &errOut); code != 0 {
		t.Fatalf("postern setup %q: exit %d: %s", args, code, errOut.String())
	}
	return out.String()
}

// commands returns the lines that are not comments.
func commands(text string) []string {
	var lines []string
	for _, l := range strings.Split(text, "\n") {
		if l != "" && !strings.HasPrefix(l, "#") {
			lines = append(lines, l)
		}
	}
	return lines
}

func TestSetupPostfix(t *testing.T) {
	for _, c := range []struct {
		name       string
		args       []string
		want, omit []string
	}{
		{
			name: "before the queue",
			args: []string{"--before-queue"},
			want: []string{
				"postconf -Pe 'smtp/inet/smtpd_proxy_filter=127.0.0.1:10025'",
				"postconf -Pe 'smtp/inet/smtpd_proxy_options=speed_adjust'",
				"postconf -Pe '127.0.0.1:10026/inet/smtpd_authorized_xforward_hosts=127.0.0.0/8'",
				"postfix reload",
			},
			omit: []string{"content_filter=postern"},
		},
		{
			name: "after the queue",
			args: []string{"--after-queue", "--filter", "[::1]:2000", "--return", "[::1]:2001", "--trusted", "::1/128"},
			want: []string{
				"postconf -Pe 'smtp/inet/content_filter=postern:[ipv6:::1]:2000'",
				"postconf -Pe 'postern/unix/smtp_send_xforward_command=yes'",
				"postconf -Me '[::1]:2001/inet=[::1]:2001 inet n - n - - smtpd'",
				"postconf -Pe '[::1]:2001/inet/mynetworks=::1/128'",
			},
			omit: []string{"smtpd_proxy_filter=["},
		},
		{
			name: "another instance",
			args: []string{"--before-queue", "--config-dir", "/etc/post fix", "--service", "25/inet", "--processes", "1"},
			want: []string{
				"postconf -c '/etc/post fix' -Fe '25/inet/process_limit=1'",
				"postconf -c '/etc/post fix' -Pe '25/inet/smtpd_client_connection_count_limit=1'",
				"postfix -c '/etc/post fix' reload",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := commands(setup(t, append([]string{"postfix"}, c.args...)...))
			for _, w := range c.want {
				if !contains(got, w) {
					t.Errorf("no line %s in\n%s", w, strings.Join(got, "\n"))
				}
			}
			for _, o := range c.omit {
				if strings.Contains(strings.Join(got, "\n"), o) {
					t.Errorf("%q in\n%s", o, strings.Join(got, "\n"))
				}
			}
		})
	}
}

func contains(lines []string, line string) bool {
	for _, l := range lines {
		if l == line {
			return true
		}
	}
	return false
}

func TestSetupRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"postfix"},
		{"postfix", "--before-queue", "--after-queue"},
		{"postfix", "--before-queue", "--filter", "10025"},
		{"exchange"},
		{"exchange", "--address", "10.0.9"},
		{"exchange-online", "--domain", "example.org"},
		{"exchange-online", "--domain", "example.org", "--host", "mx1.example.org", "--outgoing", "here", "--tenant", "x"},
	} {
		var out, errOut bytes.Buffer
		if code := run(append([]string{"setup"}, args...), strings.NewReader(""), &out, &errOut); code != exitUsage {
			t.Errorf("postern setup %q: exit %d, want %d", args, code, exitUsage)
		}
	}
}

func TestSetupExchange(t *testing.T) {
	text := setup(t, "exchange", "--address", "10.0.9.5", "--port", "2526", "--name", "it's ours")
	for _, want := range []string{
		"-RemoteIPRanges 10.0.9.5",
		"-Name 'it''s ours inbound'",
		"-HeaderContainsMessageHeader 'X-Spam-Flag' -HeaderContainsWords 'YES'",
		"-SmartHosts 10.0.9.5 -Port 2526",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "%!") {
		t.Errorf("a value is missing in\n%s", text)
	}
}

// policyIn returns the policy that stands in comments behind "In Postern's
// policy".
func policyIn(t *testing.T, text string) string {
	t.Helper()
	_, text, ok := strings.Cut(text, "# In Postern's policy")
	if !ok {
		t.Fatal("no policy is printed")
	}
	var b strings.Builder
	for _, l := range strings.Split(text, "\n") {
		if l, ok := strings.CutPrefix(l, "#   "); ok {
			b.WriteString(l + "\n")
		}
	}
	return b.String()
}

func TestSetupExchangeOnline(t *testing.T) {
	text := setup(t, "exchange-online", "--domain", "example.org", "--host", "mx1.example.org", "--outgoing", "203.0.113.26", "--tenant", "AAAAAAAA-2222-3333-4444-555555555555", "--name", "it's ours")
	for _, want := range []string{
		"New-InboundConnector -Name 'it''s ours inbound' -ConnectorType Partner -SenderDomains '*' -RequireTls $true -RestrictDomainsToCertificate $true -TlsSenderCertificateName 'mx1.example.org'",
		"Set-InboundConnector -Identity 'it''s ours inbound' -EFSkipLastIP $true",
		"New-OutboundConnector -Name 'it''s ours outbound'",
		"-SmartHosts '203.0.113.26' -TlsSettings DomainValidation -TlsDomain 'mx1.example.org'",
		"-SentToScope NotInOrganization -RouteMessageOutboundConnector 'it''s ours outbound'",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if regexp.MustCompile(`\{'?[a-z]+\}`).MatchString(text) {
		t.Errorf("a value is missing in\n%s", text)
	}
	// The files that the policy names are the reader's.
	own := regexp.MustCompile(`(?m)^client_cert.*\n`).ReplaceAllString(policyIn(t, text), "")
	p, err := policy.Load("t.toml", []byte("version = 1\nsite.domains = [\"example.org\"]\n"+own+`
[[test]]
name   = "ours"
mail   = { direction = "outbound", listener = "exchange-online", from = "a@example.org", to = "x@elsewhere.example", header = { X-MS-Exchange-CrossTenant-Id = "aaaaaaaa-2222-3333-4444-555555555555" } }
expect = { disposition = "relay" }
[[test]]
name   = "another tenant's"
mail   = { direction = "outbound", listener = "exchange-online", from = "a@example.org", to = "x@elsewhere.example", header = { X-MS-Exchange-CrossTenant-Id = "bbbbbbbb-2222-3333-4444-555555555555" } }
expect = { disposition = "reject", rule = "other-tenants" }
[[test]]
name   = "nobody's"
mail   = { direction = "outbound", listener = "exchange-online", from = "a@example.org", to = "x@elsewhere.example" }
expect = { disposition = "reject", rule = "other-tenants" }
`), policy.LoadOptions{Filters: standard.Filters})
	if err != nil {
		t.Fatal(err)
	}
	results, err := runPolicyTests(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if !r.Passed {
			t.Errorf("%s: expected %s, got %s", r.Name, r.Expected, r.Got)
		}
	}
	if to := p.Upstreams[0].To; to[0] != "example-org.mail.protection.outlook.com:25" {
		t.Errorf("the next hop is %v", to)
	}
}

// TestSetupSystemd: systemd understands the unit and thinks well of it.
func TestSetupSystemd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b%c")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "postern")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--binary", binary}, {"--binary", binary, "--dynamic-user"}, {"--binary", binary, "--user", "root"}} {
		text := setup(t, append([]string{"systemd"}, args...)...)
		for _, want := range []string{"Type=notify\n", "\nExecReload=", "StateDirectory=postern\n", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n", "ProtectSystem=strict\n", "%S/postern\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("%v: no %q in\n%s", args, want, text)
			}
		}
		if dynamic := strings.Contains(text, "DynamicUser=yes"); dynamic != (len(args) == 3) || dynamic == strings.Contains(text, "\nUser=") {
			t.Errorf("%v: the account is wrong in\n%s", args, text)
		}
		analyze(t, dir, text)
	}
}

// analyze runs systemd-analyze, where it is, over a unit.
func analyze(t *testing.T, dir, text string) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("POSTERN_CI") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	unit := filepath.Join(dir, "postern.service")
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || strings.Contains(string(out), unit) {
		t.Errorf("systemd-analyze verify: %v\n%s\n%s", err, out, text)
	}
	if strings.Contains(text, "User=root") {
		return // its marks are for accounts without rights
	}
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

func TestShellQuote(t *testing.T) {
	for _, s := range []string{"", "a b", "it's", `$HOME "x" \`, "a;b\nc"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(s)).Output()
		if err != nil {
			t.Fatal(err)
		}
		if string(out) != s {
			t.Errorf("the shell reads %q as %q", s, out)
		}
	}
}

func TestBracketed(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:25": "[127.0.0.1]:25",
		"[::1]:25":     "[ipv6:::1]:25",
	} {
		if got := bracketed(netip.MustParseAddrPort(in)); got != want {
			t.Errorf("bracketed(%s) = %s, want %s", in, got, want)
		}
	}
}

// printed matches a marker in a document, "<!-- setup ... -->", and the block
// behind it, which must be what the command prints.
var printed = regexp.MustCompile("(?s)<!-- setup ([^\\n]*) -->\\n(```\\n.*?\\n```\\n)?")

func TestSetupDocuments(t *testing.T) {
	for _, name := range []string{"../../docs/postfix.md", "../../docs/exchange.md", "../../docs/operations.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		want := printed.ReplaceAllStringFunc(string(text), func(block string) string {
			n++
			args := printed.FindStringSubmatch(block)[1]
			return "<!-- setup " + args + " -->\n```\n" + setup(t, strings.Fields(args)...) + "```\n"
		})
		if n == 0 {
			t.Errorf("%s has no marker", name)
		}
		if want == string(text) {
			continue
		}
		if *updateDocs {
			if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Errorf("%s does not say what the command prints (go test -run TestSetupDocuments ./cmd/postern -update-docs)", name)
	}
}
