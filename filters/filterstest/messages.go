package filterstest

import (
	"net/netip"
	"strings"

	"postern/mail"
)

// Message parses text, whose lines end with LF, as a message.
func Message(text string, o mail.Options) *mail.Message {
	return mail.ParseBytes([]byte(strings.ReplaceAll(text, "\n", "\r\n")), o)
}

// Transaction returns an inbound transaction with that message.
func Transaction(m *mail.Message) *mail.Transaction {
	return &mail.Transaction{
		ID: "01TEST",
		Session: &mail.Session{
			ID: "s1", Listener: "internet", Role: mail.RoleInbound, Protocol: "SMTP", ESMTP: true,
			Peer: netip.MustParseAddrPort("192.0.2.7:4711"), Client: netip.MustParseAddrPort("192.0.2.7:4711"),
			Helo: "client.example", Direction: mail.Inbound,
		},
		Envelope: mail.Envelope{
			ReversePath: mail.Path{Local: "alice", Domain: "sender.example"},
			Recipients:  []mail.Recipient{{Path: mail.Path{Local: "bob", Domain: "example.org"}}},
		},
		Message: m,
		At:      At,
	}
}

// hostile returns transactions that try a filter's nerves.
func hostile(o mail.Options) []*mail.Transaction {
	var all []*mail.Transaction
	for _, text := range hostileMessages() {
		all = append(all, Transaction(mail.ParseBytes([]byte(text), o)))
	}
	bounce := Transaction(Message("Subject: null reverse-path, nobody known\n\nx\n", o))
	bounce.ReversePath = mail.Path{}
	bounce.Session = &mail.Session{Direction: mail.Inbound}
	many := Transaction(Message("Subject: many recipients\n\nx\n", o))
	for range 1000 {
		many.Recipients = append(many.Recipients, mail.Recipient{Path: mail.Path{Local: `"odd \" one"`, Domain: "[IPv6:::1]"}})
	}
	odd := Transaction(Message("Subject: control characters in the envelope\n\nx\n", o))
	odd.Session = &mail.Session{Helo: "a\x00b\r\nc=\xff", ClientName: "\x1b[2J", User: "x\ny", Direction: mail.Outbound}
	return append(all, bounce, many, odd)
}

// hostileMessages returns messages that are broken in many ways.
func hostileMessages() []string {
	nested := "Content-Type: multipart/mixed; boundary=b0\r\n\r\n"
	for i := range 200 {
		n := strings.Repeat("x", i%3)
		nested += "--b" + n + "0\r\nContent-Type: multipart/mixed; boundary=b" + n + "0\r\n\r\n"
	}
	return []string{
		"", "\r\n", "\r\n\r\n", "\x00", ":", "Subject", "Subject:\r\n", "\xff\xfe\x00",
		"From: a@b\r\nSubject: =?utf-8?b?" + strings.Repeat("4oCu", 50) + "?=\r\n\r\n\x1b[2J\x00\x07 text \xff\r\n",
		"Content-Type: text/html; charset=utf-16\r\n\r\n<\x00s\x00c",
		"Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\nx\r\n----\r\n",
		"Content-Type: multipart/mixed; boundary=b\r\nContent-Type: text/plain\r\n\r\n--b\r\n\r\nno end",
		"Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\n",
		"Content-Type: application/zip; name=\"a.zip\"\r\nContent-Transfer-Encoding: base64\r\n\r\nUEsDBBQAAAAIAA==\r\n",
		"Content-Type: application/octet-stream; name=\"" + strings.Repeat("../", 500) + "\xe2\x80\xaefdp.exe\x00.txt\"\r\n" +
			"Content-Transfer-Encoding: base64\r\n\r\nTVqQAAMA=AAAEAAAA===//8AALg\x00A!!\r\n",
		"Content-Transfer-Encoding: x-unknown, base64\r\n\r\n====\r\n",
		"Content-Type: text/plain\r\n\r\nbegin 644 \r\nM\xff\r\nend\r\n=ybegin line=128 size=0 name=\r\n",
		strings.Repeat("X-Field: "+strings.Repeat("v", 900)+"\r\n", 300) + "\r\n",
		strings.Repeat("a", 100_000),
		strings.Repeat("\n", 10_000) + strings.Repeat("\r", 10_000),
		nested,
	}
}
