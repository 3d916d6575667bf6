package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// setupSystemdCmd prints a unit that runs the gateway with no more rights than
// it needs.
type setupSystemdCmd struct {
	Binary      string `help:"Where the program is." default:"/usr/local/bin/postern" placeholder:"FILE"`
	User        string `help:"Account that runs it." default:"postern" placeholder:"NAME"`
	DynamicUser bool   `help:"Let systemd make an account for as long as it runs: its files are then readable through credentials only."`
}

// Run prints the unit.
func (c *setupSystemdCmd) Run(g *globals) error {
	config, err := filepath.Abs(g.Config) // systemd takes no other
	if err != nil {
		return fmt.Errorf("name the policy file: %w", err)
	}
	binary, err := filepath.Abs(c.Binary)
	if err != nil {
		return fmt.Errorf("name the program: %w", err)
	}
	account := "User=" + unitWord(c.User)
	first := "useradd --system --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin " + shellQuote(c.User) + "\n#   "
	if c.DynamicUser {
		account, first = "DynamicUser=yes", ""
	}
	_, err = fmt.Fprintf(g.out, systemdUnit, first, unitWord(binary), unitWord(config), account)
	return err
}

// systemdUnit runs as an account of its own. Port 25 is the one right that it
// keeps. ProcSubset=pid and PrivateUsers=yes are left out: the first hides how
// many connections may wait, the second takes the right to bind the port.
const systemdUnit = `# Save as /etc/systemd/system/postern.service, then:
#
#   %[1]ssystemctl daemon-reload
#   systemctl enable --now postern
#
# Secrets of the policy come as { credential = "NAME" }, certificates from where the account can
# read them. A virus scanner's socket may need SupplementaryGroups=clamav.

[Unit]
Description=Postern mail gateway
Wants=network-online.target
After=network-online.target nss-lookup.target

[Service]
Type=notify
ExecStart=%[2]s --config %[3]s serve
ExecReload=%[2]s --config %[3]s reload
%[4]s
StateDirectory=postern
StateDirectoryMode=0700
Environment=POSTERN_STATE=%%S/postern
UMask=0077
#LoadCredential=upstream-password:/etc/postern/secrets/upstream-password
Restart=on-failure
RestartSec=2s
TimeoutStartSec=5min
TimeoutStopSec=90s
LimitNOFILE=65536

CapabilityBoundingSet=CAP_NET_BIND_SERVICE
AmbientCapabilities=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`

// unitWord writes a word for a unit file: % begins a specifier there, $ a
// variable.
func unitWord(s string) string {
	s = strings.NewReplacer("%", "%%", "$", "$$", `\`, `\\`, `"`, `\"`).Replace(s)
	if strings.ContainsAny(s, " \t'") || s == "" {
		return `"` + s + `"`
	}
	return s
}
