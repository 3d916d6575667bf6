package filters

import (
	"net/netip"
	"strings"
	"testing"

	"postern/mail"
)

func networks(t *testing.T, texts ...string) Networks {
	t.Helper()
	ns := make(Networks, len(texts))
	for i, text := range texts {
		if err := ns[i].UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return ns
}

func TestNetworks(t *testing.T) {
	ns := networks(t, "192.0.2.1", "198.51.100.77/24", "2001:db8::/32", "::ffff:203.0.113.5")
	for addr, want := range map[string]bool{
		"192.0.2.1": true, "192.0.2.2": false, "198.51.100.200": true, "::ffff:198.51.100.1": true, "2001:db8:1::1": true, "2001:db9::1": false, "203.0.113.5": true,
	} {
		if ns.Contains(netip.MustParseAddr(addr)) != want {
			t.Errorf("%s: want %v", addr, want)
		}
	}
	for i, want := range []string{"192.0.2.1", "198.51.100.0/24", "2001:db8::/32", "203.0.113.5"} {
		if text, err := ns[i].MarshalText(); err != nil || string(text) != want {
			t.Errorf("network %d is written %q, %v", i, text, err)
		}
	}
	for _, bad := range []string{"", "x", "192.0.2.1/33", "192.0.2", "fe80::1%eth0"} {
		if new(Network).UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestReceivedFrom(t *testing.T) {
	for value, want := range map[string]string{
		"from mail.sender.example (out1.sender.example [203.0.113.9]) by mx.example.org (Postfix) with ESMTPS id 1; Mon, 1 Jan 2026 00:00:00 +0000": "203.0.113.9 mail.sender.example",
		"from mail.sender.example (unknown [IPv6:2001:db8::9]) by mx.example.org with ESMTP; Mon":                                                   "2001:db8::9 mail.sender.example",
		"from out1.sender.example ([203.0.113.9] helo=mail.sender.example) by mx.example.org with esmtp (Exim 4.98); Mon":                           "203.0.113.9 mail.sender.example",
		"from out1.sender.example ([203.0.113.9] helo=[10.0.0.1]) by mx.example.org with esmtp (Exim 4.98); Mon":                                    "203.0.113.9 [10.0.0.1]",
		"from unknown (HELO mail.sender.example) (203.0.113.9) by mx.example.org with SMTP; Mon":                                                    "203.0.113.9 mail.sender.example",
		"from EX01.sender.example (203.0.113.9) by EX02.example.org (10.0.0.2) with Microsoft SMTP Server id 15.1; Mon":                             "203.0.113.9 EX01.sender.example",
		"FROM [10.0.0.1] (x [203.0.113.9]) BY mx; Mon":                                                                                              "203.0.113.9 [10.0.0.1]",
		"from a (a [203.0.113.9])\tby mx; Mon":                                                                                                      "203.0.113.9 a",

		"": "", "by mx.example.org; Mon": "", "from a by mx; Mon": "", "from [203.0.113.9] by mx; Mon": "", "from a (b) by mx; Mon": "",
		"from x (a [192.0.2.1]) (b [203.0.113.9]) by mx; Mon":              "", // two addresses
		"from x ([192.0.2.1]) by y (b [203.0.113.9]) by mx; Mon":           "", // two hosts
		"from x (a [999.0.2.1]) by mx; Mon":                                "",
		"from x helo=a (helo=[192.0.2.1] [203.0.113.9] [192.0.2.1]) by mx": "",
		"(c) from x (a [192.0.2.1]) by mx; Mon":                            "",
		"from x (a [192.0.2.1]) by mx" + strings.Repeat(" x", 5000):        "",
	} {
		got := ""
		if c, ok := receivedFrom(value); ok {
			got = c.Addr.String() + " " + c.Helo
		}
		if got != want {
			t.Errorf("%.80q: %q, want %q", value, got, want)
		}
	}
}

func TestClientBehind(t *testing.T) {
	const first, second = "Received: from relay (relay [198.51.100.11]) by edge; Mon\n", "Received: from mail.sender.example (x [203.0.113.9]) by relay; Mon\n"
	for _, c := range []struct {
		name, client, header string
		relays               Networks
		want                 string
		hops                 int
	}{
		{"no relays", "203.0.113.1", first + second, nil, "203.0.113.1 helo.example", 0},
		{"not a relay", "203.0.113.1", first + second, networks(t, "198.51.100.0/24"), "203.0.113.1 helo.example", 0},
		{"one relay", "198.51.100.10", second, networks(t, "198.51.100.0/24"), "203.0.113.9 mail.sender.example", 1},
		{"mapped", "::ffff:198.51.100.10", second, networks(t, "198.51.100.0/24"), "203.0.113.9 mail.sender.example", 1},
		{"two relays", "198.51.100.10", first + second, networks(t, "198.51.100.0/24"), "203.0.113.9 mail.sender.example", 2},
		{"one of two", "198.51.100.10", first + second, networks(t, "198.51.100.10"), "198.51.100.11 relay", 1},
		{"no field", "198.51.100.10", "", networks(t, "198.51.100.0/24"), "", 0},
		{"relays only", "198.51.100.10", first, networks(t, "198.51.100.0/24"), "", 0},
		{"unclear", "198.51.100.10", "Received: by x; Mon\n" + second, networks(t, "198.51.100.0/24"), "", 0},
	} {
		tx := &mail.Transaction{
			Session: &mail.Session{Client: netip.AddrPortFrom(netip.MustParseAddr(c.client), 25), Helo: "helo.example"},
			Message: mail.ParseBytes([]byte(strings.ReplaceAll(c.header, "\n", "\r\n")+"\r\n"), mail.Options{}),
		}
		got := ""
		client, ok := ClientBehind(tx, c.relays)
		if ok {
			got = client.Addr.String() + " " + client.Helo
		}
		if got != c.want || client.Hops != c.hops {
			t.Errorf("%s: %q after %d, want %q after %d", c.name, got, client.Hops, c.want, c.hops)
		}
		if tx.Message = nil; len(c.relays) > 0 && c.relays.Contains(tx.Client.Addr()) {
			if _, ok := ClientBehind(tx, c.relays); ok {
				t.Errorf("%s: a client without a message", c.name)
			}
		}
	}
	if _, ok := ClientBehind(&mail.Transaction{Session: &mail.Session{}}, nil); ok {
		t.Error("a session without address has a client")
	}
}
