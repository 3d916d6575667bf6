package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// errRecord is what is wrong with a record that does not follow the grammar
// (RFC 7208 section 12). The result is permerror, wherever in the record the
// error stands (section 4.6).
var errRecord = errors.New("the SPF record has an error")

// A record is an SPF record.
type record struct {
	mechanisms []mechanism
	redirect   string // domain-spec, empty if there is none
	exp        string // domain-spec, empty if there is none
}

// A mechanism is one directive of a record.
type mechanism struct {
	result    string // by its qualifier: what it means if it matches
	name      string // "all" "include" "a" "mx" "ptr" "ip4" "ip6" "exists"
	domain    string // domain-spec; empty: the current domain
	network   netip.Prefix
	four, six int // prefix lengths of a and mx
	text      string
}

// qualifiers are the results that they stand for (RFC 7208 section 4.6.2).
var qualifiers = map[byte]string{'+': Pass, '-': Fail, '~': SoftFail, '?': Neutral}

// isRecord reports whether a TXT record is an SPF record (RFC 7208 section 4.5).
func isRecord(txt string) bool {
	const version = "v=spf1"
	return len(txt) >= len(version) && strings.EqualFold(txt[:len(version)], version) && (len(txt) == len(version) || txt[len(version)] == ' ')
}

// modifierName matches what stands before the "=" of a modifier. A mechanism
// has a ":" or "/" before any "=".
var modifierName = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9._-]*)=`)

// parseRecord reads a record: all of it, before any is evaluated.
func parseRecord(txt string) (*record, error) {
	r := &record{}
	seen := map[string]bool{}
	for i, term := range strings.Split(txt, " ") {
		if i == 0 || term == "" {
			continue
		}
		if m := modifierName.FindStringSubmatch(term); m != nil {
			name, value := strings.ToLower(m[1]), term[len(m[0]):]
			if err := r.modifier(name, value, seen); err != nil {
				return nil, fmt.Errorf("%w: %s", err, term)
			}
			continue
		}
		m, err := parseMechanism(term)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, term)
		}
		r.mechanisms = append(r.mechanisms, m)
	}
	return r, nil
}

// modifier takes a modifier in. redirect and exp stand at most once (RFC 7208
// section 6); unknown ones are ignored, but must be macro-strings.
func (r *record) modifier(name, value string, seen map[string]bool) error {
	switch name {
	case "redirect", "exp":
		if seen[name] || !isDomainSpec(value) {
			return errRecord
		}
		seen[name] = true
		if name == "exp" {
			r.exp = value
		} else {
			r.redirect = value
		}
		return nil
	}
	_, err := splitMacros(value, false)
	return err
}

// dualCIDR matches the prefix lengths at the end of a and mx (RFC 7208 section
// 5.6). There are no leading zeros.
var dualCIDR = regexp.MustCompile(`(?:/(0|[1-9][0-9]*))?(?://(0|[1-9][0-9]*))?$`)

// parseMechanism reads a directive.
func parseMechanism(term string) (mechanism, error) {
	m := mechanism{result: Pass, text: term, four: 32, six: 128}
	if result, ok := qualifiers[term[0]]; ok {
		m.result, term = result, term[1:]
	}
	end := strings.IndexAny(term, ":/")
	if end < 0 {
		end = len(term)
	}
	m.name = strings.ToLower(term[:end])
	rest := term[end:]
	switch m.name {
	case "all":
		if rest != "" {
			return m, errRecord
		}
		return m, nil
	case "ip4", "ip6":
		return m, m.parseNetwork(rest)
	case "a", "mx":
		lengths := dualCIDR.FindStringSubmatch(rest)
		rest = rest[:len(rest)-len(lengths[0])]
		var err4, err6 error
		m.four, err4 = parseLength(lengths[1], 32)
		m.six, err6 = parseLength(lengths[2], 128)
		if err := errors.Join(err4, err6); err != nil {
			return m, err
		}
		fallthrough
	case "ptr":
		if rest == "" {
			return m, nil
		}
		fallthrough
	case "include", "exists":
		domain, ok := strings.CutPrefix(rest, ":")
		if !ok || !isDomainSpec(domain) {
			return m, errRecord
		}
		m.domain = domain
		return m, nil
	}
	return m, errRecord
}

// parseLength reads a prefix length, which is most if it is not given.
func parseLength(text string, most int) (int, error) {
	if text == "" {
		return most, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n > most {
		return 0, errRecord
	}
	return n, nil
}

// parseNetwork reads the network of ip4 and ip6 (RFC 7208 section 5.6).
func (m *mechanism) parseNetwork(rest string) error {
	text, ok := strings.CutPrefix(rest, ":")
	if !ok {
		return errRecord
	}
	text, length, cut := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" || addr.Is4() != (m.name == "ip4") {
		return errRecord
	}
	bits := addr.BitLen()
	if cut {
		if length == "" || len(length) > 1 && length[0] == '0' || strings.Trim(length, "0123456789") != "" {
			return errRecord
		}
		if bits, err = parseLength(length, bits); err != nil {
			return err
		}
	}
	m.network = netip.PrefixFrom(addr, bits)
	return nil
}

// topLabel matches the last label of a domain-spec (RFC 7208 section 7.1): no
// number, no hyphen at its ends.
var topLabel = regexp.MustCompile(`^(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])$`)

// isDomainSpec reports whether s is a domain-spec: a macro-string that ends with
// a top label or a macro.
func isDomainSpec(s string) bool {
	parts, err := splitMacros(s, false)
	if err != nil || len(parts) == 0 {
		return false
	}
	last := parts[len(parts)-1]
	if last.macro {
		return true
	}
	literal := strings.TrimSuffix(last.text, ".")
	dot := strings.LastIndexByte(literal, '.')
	return dot >= 0 && (dot > 0 || len(parts) > 1) && topLabel.MatchString(literal[dot+1:])
}
