// Package dnstest serves a dns.Zone on a loopback port, over UDP and TCP, as a
// resolver would: for tests of what asks real DNS questions.
//
// # Diagnostics
//
// A server that cannot be started fails the test. Behaviours of the zone are
// played: "servfail" answers SERVFAIL, "timeout" does not answer, "slow" answers
// after Server.Slow.
package dnstest

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/dns"
)

// A Server answers from a zone.
type Server struct {
	Addr string        // "127.0.0.1:port"
	Slow time.Duration // how long "slow" takes; set before the first question

	zone *dns.Zone
	mu   sync.Mutex
	seen map[string]int
}

// Start starts a server that ends with the test.
func Start(t testing.TB, zone *dns.Zone) *Server {
	t.Helper()
	s := &Server{zone: zone, seen: map[string]int{}, Slow: 100 * time.Millisecond}
	l, p := listen(t)
	s.Addr = l.Addr().String()
	for _, srv := range []*miekg.Server{{Listener: l, Handler: s}, {PacketConn: p, Handler: s}} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go func() {
			if err := srv.ActivateAndServe(); err != nil {
				t.Errorf("serve DNS: %v", err)
			}
		}()
		<-started
		t.Cleanup(func() { _ = srv.Shutdown() })
	}
	return s
}

// listen finds a port that is free for both UDP and TCP.
func listen(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	var err error
	for range 20 {
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			break
		}
		var p net.PacketConn
		if p, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			return l, p
		}
		_ = l.Close()
	}
	t.Fatalf("listen: %v", err)
	return nil, nil
}

// Asked returns how many questions for a name came, of all types.
func (s *Server) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[strings.ToLower(name)]
}

// ServeDNS answers one message.
func (s *Server) ServeDNS(w miekg.ResponseWriter, q *miekg.Msg) {
	m := new(miekg.Msg)
	if len(q.Question) != 1 {
		_ = w.WriteMsg(m.SetRcode(q, miekg.RcodeFormatError))
		return
	}
	name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
	s.mu.Lock()
	s.seen[name]++
	s.mu.Unlock()
	m.SetReply(q)
	m.RecursionAvailable = true
	switch behaviour, exists := s.zone.Behaviour(name); {
	case behaviour == "timeout":
		return
	case behaviour == "servfail":
		m.Rcode = miekg.RcodeServerFailure
	case !exists:
		m.Rcode = miekg.RcodeNameError
	default:
		if behaviour == "slow" {
			time.Sleep(s.Slow)
		}
		s.fill(m, name, miekg.TypeToString[q.Question[0].Qtype])
	}
	size := miekg.MinMsgSize
	if o := q.IsEdns0(); o != nil {
		size = int(o.UDPSize())
	}
	if _, tcp := w.RemoteAddr().(*net.TCPAddr); tcp {
		size = miekg.MaxMsgSize
	}
	m.Truncate(size)
	_ = w.WriteMsg(m)
}

// fill writes the records into the answer, with the CNAME records on the way,
// and the zone's SOA record if there are none.
func (s *Server) fill(m *miekg.Msg, name, kind string) {
	m.AuthenticatedData = true
	for range 10 {
		records, authentic := s.zone.Records(name, kind)
		m.AuthenticatedData = m.AuthenticatedData && authentic
		s.add(&m.Answer, name, kind, records)
		alias, _ := s.zone.Records(name, "CNAME")
		if len(records) > 0 || len(alias) == 0 {
			break
		}
		s.add(&m.Answer, name, "CNAME", alias)
		name = strings.TrimSuffix(alias[0], ".")
	}
	if len(m.Answer) == 0 {
		if soa, _ := s.zone.Records(name, "SOA"); len(soa) > 0 {
			s.add(&m.Ns, name, "SOA", soa)
		}
	}
}

// add appends records to a section.
func (s *Server) add(section *[]miekg.RR, name, kind string, records []string) {
	for _, r := range records {
		text := r
		if kind == "TXT" {
			text = quote(r)
		} else if kind == "MX" || kind == "CNAME" || kind == "PTR" {
			text = strings.TrimSuffix(r, ".") + "."
		}
		if rr, err := miekg.NewRR(miekg.Fqdn(name) + " 60 IN " + kind + " " + text); err == nil && rr != nil {
			*section = append(*section, rr)
		}
	}
}

// quote writes a TXT record in strings of at most 255 octets.
func quote(s string) string {
	var b strings.Builder
	for first := true; first || s != ""; first = false {
		n := min(len(s), 255)
		b.WriteString(` "`)
		b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s[:n]))
		b.WriteString(`"`)
		s = s[n:]
	}
	return b.String()
}
