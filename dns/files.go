package dns

import (
	"bufio"
	"bytes"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// checkEvery is how often a file is looked at for changes.
const checkEvery = 2 * time.Second

// A watchedFile is a file that is read again after it changed.
type watchedFile struct {
	path    string
	now     func() time.Time
	checked time.Time
	stamp   time.Time
	size    int64
}

// changed returns the file's content if it is new since the last call. A file
// that is not there is empty.
func (f *watchedFile) changed() ([]byte, bool) {
	now := f.now()
	if !f.checked.IsZero() && now.Sub(f.checked) < checkEvery {
		return nil, false
	}
	first := f.checked.IsZero()
	f.checked = now
	var stamp time.Time
	size := int64(-1)
	if info, err := os.Stat(f.path); err == nil {
		stamp, size = info.ModTime(), info.Size()
	}
	if !first && stamp.Equal(f.stamp) && size == f.size {
		return nil, false
	}
	f.stamp, f.size = stamp, size
	text, err := os.ReadFile(f.path)
	if err != nil {
		text = nil
	}
	return text, true
}

// A server is one that can be asked.
type server struct {
	address string // "host:port"
	trusted bool   // its AD bit is believed
}

// A serverList is the servers to ask, the one that answered last first.
type serverList struct {
	mu      sync.Mutex
	fixed   bool
	servers []server
	file    watchedFile
}

func newServerList(o ClientOptions) *serverList {
	l := &serverList{fixed: len(o.Servers) > 0, file: watchedFile{path: o.ResolvConf, now: o.Now}}
	for _, s := range o.Servers {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			host, port = strings.Trim(s, "[]"), "53"
		}
		l.servers = append(l.servers, newServer(host, port, false))
	}
	return l
}

// newServer makes a server. The AD bit is believed where nobody can change it on
// the way: from this host, or where resolv.conf says so.
func newServer(host, port string, trustAD bool) server {
	ip, err := netip.ParseAddr(host)
	return server{net.JoinHostPort(host, port), trustAD || err == nil && ip.IsLoopback()}
}

// list returns the servers in the order in which they are to be asked.
func (l *serverList) list() []server {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fixed {
		return l.servers
	}
	text, changed := l.file.changed()
	if !changed {
		return l.servers
	}
	l.servers = nil
	conf, err := dns.ClientConfigFromReader(bytes.NewReader(text))
	if err == nil {
		for _, s := range conf.Servers {
			l.servers = append(l.servers, newServer(s, conf.Port, trustsAD(text)))
		}
	}
	if len(l.servers) == 0 {
		l.servers = []server{newServer("127.0.0.1", "53", false)} // resolv.conf(5)
	}
	return l.servers
}

// trustsAD reports whether resolv.conf has "options trust-ad".
func trustsAD(text []byte) bool {
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "options" {
			for _, w := range words[1:] {
				if w == "trust-ad" {
					return true
				}
			}
		}
	}
	return false
}

// answered puts the server that answered first in line, so that a dead one
// before it costs time only once.
func (l *serverList) answered(s server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.servers {
		if other == s && i > 0 {
			line := append([]server{s}, l.servers[:i]...)
			l.servers = append(line, l.servers[i+1:]...)
			return
		}
	}
}

// A hostsFile is /etc/hosts.
type hostsFile struct {
	mu   sync.Mutex
	m    map[string][]netip.Addr
	file watchedFile
}

// lookUp returns the addresses that the file gives a name.
func (h *hostsFile) lookUp(name string) (Answer[netip.Addr], bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if text, changed := h.file.changed(); changed {
		h.m = parseHosts(text)
	}
	addrs := h.m[canonical(name)]
	return Answer[netip.Addr]{Records: addrs, TTL: checkEvery}, len(addrs) > 0
}

// parseHosts reads hosts(5).
func parseHosts(text []byte) map[string][]netip.Addr {
	m := map[string][]netip.Addr{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		a, err := netip.ParseAddr(words[0])
		if err != nil {
			continue
		}
		for _, name := range words[1:] {
			name = canonical(name)
			m[name] = append(m[name], a)
		}
	}
	return m
}
