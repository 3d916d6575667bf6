package relay

import (
	"strconv"
	"strings"

	"postern/mail"
)

// attributes are a set of XFORWARD attributes, as bits by their place in
// attributeNames.
type attributes uint8

// attributeNames are the attributes that Postfix knows, in the order in which
// they are sent.
var attributeNames = []string{"NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"}

// parseAttributes reads the argument of the XFORWARD keyword.
func parseAttributes(args string) attributes {
	var set attributes
	for _, word := range strings.Fields(strings.ToUpper(args)) {
		for i, name := range attributeNames {
			if word == name {
				set |= 1 << i
			}
		}
	}
	return set
}

// appendXForward appends the XFORWARD commands that tell who the client of m
// was, and returns how many there are. What the next hop does not know is left
// out; what we do not know is [UNAVAILABLE].
func appendXForward(b []byte, m *Mail, known attributes) ([]byte, int) {
	const maxLine = 500 // RFC 5321 section 4.5.3.1.4: 512 with the CRLF
	lines, start := 0, 0
	for i, name := range attributeNames {
		if known&(1<<i) == 0 {
			continue
		}
		at := len(b)
		b = append(append(append(b, ' '), name...), '=')
		b = appendXtext(b, attribute(name, m))
		if lines > 0 && len(b)-start <= maxLine {
			continue
		}
		// Begin a new command in front of this attribute.
		word := string(b[at:])
		b = b[:at]
		if lines > 0 {
			b = append(b, "\r\n"...)
		}
		start = len(b)
		b = append(append(b, "XFORWARD"...), word...)
		lines++
	}
	if lines > 0 {
		b = append(b, "\r\n"...)
	}
	return b, lines
}

// attribute returns what there is to say for one attribute. Postfix takes
// values of at most 255 characters.
func attribute(name string, m *Mail) string {
	value := ""
	s := m.Client
	switch name {
	case "NAME":
		value = s.ClientName
	case "ADDR":
		if a := s.Client.Addr().Unmap(); a.Is6() {
			value = "IPV6:" + a.WithZone("").String()
		} else if a.IsValid() {
			value = a.String()
		}
	case "PORT":
		if p := s.Client.Port(); p != 0 {
			value = strconv.Itoa(int(p))
		}
	case "PROTO":
		value = "SMTP"
		if s.ESMTP {
			value = "ESMTP"
		}
	case "HELO":
		value = s.Helo
	case "IDENT":
		value = m.ID
	case "SOURCE":
		value = "REMOTE"
		if s.Direction == mail.Outbound {
			value = "LOCAL"
		}
	}
	if value == "" {
		return "[UNAVAILABLE]"
	}
	if len(value) > 255 {
		value = value[:255]
	}
	return value
}
