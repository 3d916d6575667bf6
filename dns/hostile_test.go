package dns_test

import (
	"net"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/dns"
)

// forger answers each question over UDP with the packets that forge makes of a
// right answer, one after the other.
func forger(t *testing.T, forge func(q, right *miekg.Msg) []*miekg.Msg) string {
	t.Helper()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			q, right := new(miekg.Msg), new(miekg.Msg)
			if q.Unpack(b[:n]) != nil {
				continue
			}
			right.SetReply(q)
			right.RecursionAvailable = true
			right.Answer = []miekg.RR{rr(t, "host.example. 60 IN A 192.0.2.66")}
			for _, m := range forge(q, right) {
				if out, err := m.Pack(); err == nil {
					_, _ = p.WriteTo(out, from)
				}
			}
		}
	}()
	return p.LocalAddr().String()
}

// What does not answer the question is not believed, and does not stay in the
// cache: RFC 5452 section 9.1.
func TestClientForgedAnswers(t *testing.T) {
	one := func(change func(q, m *miekg.Msg)) func(q, m *miekg.Msg) []*miekg.Msg {
		return func(q, m *miekg.Msg) []*miekg.Msg {
			change(q, m)
			return []*miekg.Msg{m}
		}
	}
	for name, c := range map[string]struct {
		forge func(q, right *miekg.Msg) []*miekg.Msg
		want  string
	}{
		"right":               {one(func(q, m *miekg.Msg) {}), "[192.0.2.66]"},
		"no question":         {one(func(q, m *miekg.Msg) { m.Question = nil }), "!"},
		"no question, denied": {one(func(q, m *miekg.Msg) { m.Question, m.Answer, m.Rcode = nil, nil, miekg.RcodeNameError }), "!"},
		"two questions":       {one(func(q, m *miekg.Msg) { m.Question = append(m.Question, m.Question[0]) }), "!"},
		"another name":        {one(func(q, m *miekg.Msg) { m.Question[0].Name = "bank.example." }), "!"},
		"another type":        {one(func(q, m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeAAAA }), "!"},
		"another class":       {one(func(q, m *miekg.Msg) { m.Question[0].Qclass = miekg.ClassCHAOS }), "!"},
		"another ID":          {one(func(q, m *miekg.Msg) { m.Id++ }), "!"},
		"another operation":   {one(func(q, m *miekg.Msg) { m.Opcode = miekg.OpcodeUpdate }), "!"},
		"a question":          {one(func(q, m *miekg.Msg) { m.Response = false }), "!"},
		"a forged ID, then the right one": {func(q, m *miekg.Msg) []*miekg.Msg {
			forged := m.Copy()
			forged.Id++
			forged.Answer = []miekg.RR{rr(t, "host.example. 60 IN A 192.0.2.1")}
			return []*miekg.Msg{forged, m}
		}, "[192.0.2.66]"},
		"other records beside": {one(func(q, m *miekg.Msg) {
			m.Extra = []miekg.RR{rr(t, "bank.example. 60 IN A 192.0.2.66")}
			m.Ns = []miekg.RR{rr(t, "bank.example. 60 IN NS host.example.")}
		}), "[192.0.2.66]"},
		"a referral": {one(func(q, m *miekg.Msg) {
			m.Answer, m.Ns = nil, []miekg.RR{rr(t, "example. 60 IN NS ns.example.")}
		}), "!"},
		"no records, with the zone's servers": {one(func(q, m *miekg.Msg) {
			m.Answer = nil
			m.Ns = []miekg.RR{rr(t, "example. 60 IN NS ns.example."), rr(t, "example. 60 IN SOA ns.example. a.example. 1 1 1 1 60")}
		}), "?"},
	} {
		t.Run(name, func(t *testing.T) {
			address := forger(t, c.forge)
			r := client(t, dns.ClientOptions{Servers: []string{address}, Timeout: 600 * time.Millisecond})
			if got := dns.Say(r, "A", "host.example"); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got := dns.Say(r, "A", "bank.example"); got == "[192.0.2.66]" {
				t.Errorf("bank.example is %s: the cache is poisoned", got)
			}
		})
	}
}

// A failure may come without the question: an old server that cannot read EDNS
// is asked again without it.
func TestClientFailureWithoutQuestion(t *testing.T) {
	address := forger(t, func(q, m *miekg.Msg) []*miekg.Msg {
		if q.IsEdns0() != nil {
			m.Question, m.Answer, m.Rcode = nil, nil, miekg.RcodeFormatError
		}
		return []*miekg.Msg{m}
	})
	if got := dns.Say(client(t, dns.ClientOptions{Servers: []string{address}, Timeout: 3 * time.Second}), "A", "host.example"); got != "[192.0.2.66]" {
		t.Errorf("got %s", got)
	}
}

// A server that fails, refuses or does not look up for others is passed over
// for the next.
func TestClientServerThatFails(t *testing.T) {
	good := forger(t, func(q, m *miekg.Msg) []*miekg.Msg { return []*miekg.Msg{m} })
	for name, change := range map[string]func(m *miekg.Msg){
		"SERVFAIL": func(m *miekg.Msg) { m.Rcode = miekg.RcodeServerFailure },
		"REFUSED":  func(m *miekg.Msg) { m.Rcode = miekg.RcodeRefused },
		"referral": func(m *miekg.Msg) { m.Ns = []miekg.RR{rr(t, "example. 60 IN NS ns.example.")} },
	} {
		bad := forger(t, func(q, m *miekg.Msg) []*miekg.Msg {
			m.Answer = nil
			change(m)
			return []*miekg.Msg{m}
		})
		if got := dns.Say(client(t, dns.ClientOptions{Servers: []string{bad, good}, Timeout: 5 * time.Second}), "A", "host.example"); got != "[192.0.2.66]" {
			t.Errorf("%s: got %s", name, got)
		}
	}
}
