package virus

import (
	"fmt"
	"net"
	"strings"
)

// parseEngine reads "clamd:/path/of/socket" or "clamd:host:port".
func parseEngine(text string) (network, address string, err error) {
	kind, address, _ := strings.Cut(text, ":")
	switch {
	case kind != "clamd":
		return "", "", fmt.Errorf("%q is not an engine: write \"clamd:/path/of/socket\" or \"clamd:host:port\"", text)
	case strings.HasPrefix(address, "/"):
		return "unix", address, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" {
		return "", "", fmt.Errorf("%q: after clamd: stands the path of a socket, or host:port", text)
	}
	return "tcp", address, nil
}
