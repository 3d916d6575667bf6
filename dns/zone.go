package dns

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// A Zone answers from a table instead of the network, so that every look-up
// can be repeated. It is what --dns reads, and what tests use.
//
// The table is JSON: a name to its records by type, each in the form of a zone
// file, and under "!" how a server for that name behaves:
//
//	{
//	  "example.org":       {"MX": ["10 mx.example.org"], "TXT": ["v=spf1 mx -all"]},
//	  "mx.example.org":    {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
//	  "*.wild.example":    {"A": ["192.0.2.2"]},
//	  "secure.example":    {"MX": ["0 mx.example.org"], "AD": true},
//	  "broken.example":    {"!": "servfail"}
//	}
//
// The types are A, AAAA, MX, TXT, PTR, CNAME, NS, SOA and CAA, of which the last
// three answer no look-up of a Resolver. "!" is "servfail" or "timeout": the
// look-up fails for now; "nodata": the name has no records; or "slow": an
// answer that takes time, which a Zone gives at once. "AD" says that the
// answers are authentic. A name that is not there does not exist. "*." stands
// for every name below that has no entry of its own.
//
// A Zone does not change; it is safe for concurrent use.
type Zone struct {
	names map[string]*zoneName
}

// A zoneName is what a zone knows of one name.
type zoneName struct {
	records   map[string][]string
	mode      string
	authentic bool
}

// zoneTTL is the TTL of every record of a zone.
const zoneTTL = time.Minute

// zoneTypes are the record types that a zone file may name.
var zoneTypes = []string{"A", "AAAA", "MX", "TXT", "PTR", "CNAME", "NS", "SOA", "CAA"}

// zoneModes are what may stand under "!".
var zoneModes = []string{"", "servfail", "timeout", "nodata", "slow"}

// LoadZone reads a zone from a file.
func LoadZone(path string) (*Zone, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read zone: %w", err)
	}
	z, err := ParseZone(text)
	if err != nil {
		return nil, fmt.Errorf("read zone %s: %w", path, err)
	}
	return z, nil
}

// ParseZone reads a zone from JSON.
func ParseZone(text []byte) (*Zone, error) {
	var table map[string]map[string]json.RawMessage
	if err := json.Unmarshal(text, &table); err != nil {
		return nil, fmt.Errorf("parse zone: %w", err)
	}
	z := &Zone{names: map[string]*zoneName{}}
	for name, entry := range table {
		n := &zoneName{records: map[string][]string{}}
		for kind, value := range entry {
			if err := n.set(kind, value); err != nil {
				return nil, fmt.Errorf("parse zone: %q: %s: %w", name, kind, err)
			}
		}
		z.names[canonical(name)] = n
	}
	return z, nil
}

// set takes one key of a name's entry in.
func (n *zoneName) set(kind string, value json.RawMessage) error {
	switch {
	case kind == "!":
		if err := json.Unmarshal(value, &n.mode); err != nil {
			return err
		}
		if !slices.Contains(zoneModes, n.mode) {
			return fmt.Errorf("unknown behaviour %q", n.mode)
		}
		return nil
	case kind == "AD":
		return json.Unmarshal(value, &n.authentic)
	case !slices.Contains(zoneTypes, kind):
		return fmt.Errorf("unknown record type")
	}
	var records []string
	if err := json.Unmarshal(value, &records); err != nil {
		return err
	}
	for _, r := range records {
		if err := checkRecord(kind, r); err != nil {
			return err
		}
	}
	n.records[kind] = records
	return nil
}

// checkRecord returns an error if a record does not read as its type.
func checkRecord(kind, record string) error {
	switch kind {
	case "A", "AAAA":
		if a, err := netip.ParseAddr(record); err != nil || a.Is4() != (kind == "A") {
			return fmt.Errorf("%q is not an address of this type", record)
		}
	case "MX":
		if _, err := parseMX(record); err != nil {
			return err
		}
	}
	return nil
}

// parseMX reads "10 mx.example.org".
func parseMX(record string) (MX, error) {
	preference, host, _ := strings.Cut(strings.TrimSpace(record), " ")
	n, err := strconv.ParseUint(preference, 10, 16)
	if err != nil {
		return MX{}, fmt.Errorf("MX record %q: no preference", record)
	}
	return MX{uint16(n), strings.TrimSuffix(strings.TrimSpace(host), ".")}, nil
}

// canonical returns a name as the tables of this package know it: lower case,
// without the trailing dot.
func canonical(name string) string {
	for i := 0; i < len(name); i++ {
		if 'A' <= name[i] && name[i] <= 'Z' {
			name = strings.ToLower(name)
			break
		}
	}
	return strings.TrimSuffix(name, ".")
}

// find returns the entry for a name, by its own name or a wildcard's. Without
// one, exists says whether there are names below it (RFC 8020).
func (z *Zone) find(name string) (n *zoneName, exists bool) {
	name = canonical(name)
	if n := z.names[name]; n != nil {
		return n, true
	}
	for rest := name; ; {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			break
		}
		if n := z.names["*."+parent]; n != nil {
			return n, true
		}
		rest = parent
	}
	for other := range z.names {
		if strings.HasSuffix(other, "."+name) {
			return nil, true
		}
	}
	return nil, false
}

// Behaviour returns what stands under "!" for a name: how a server that plays
// the zone behaves. exists is false if it says that the name does not exist.
func (z *Zone) Behaviour(name string) (behaviour string, exists bool) {
	n, exists := z.find(name)
	if n == nil {
		return "", exists
	}
	return n.mode, true
}

// Records returns the records of one type, as they stand in the file. authentic
// is what stands under "AD". It does not follow CNAME records.
func (z *Zone) Records(name, kind string) (records []string, authentic bool) {
	n, _ := z.find(name)
	if n == nil || n.mode == "nodata" {
		return nil, false
	}
	return n.records[kind], n.authentic
}

// lookUp returns the records of one type, following CNAME records.
func (z *Zone) lookUp(ctx context.Context, name, kind string) (records []string, authentic bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, fmt.Errorf("%w: %s %s: %w", ErrTemporary, kind, name, err)
	}
	authentic = true
	for i := range maxAliases {
		n, exists := z.find(name)
		switch {
		case !exists && i == 0:
			return nil, false, fmt.Errorf("%w: %w: %s", ErrNotFound, ErrNoName, name)
		case !exists:
			return nil, false, fmt.Errorf("%w: %s does not exist", ErrNotFound, name)
		case n == nil || n.mode == "nodata":
			return nil, false, fmt.Errorf("%w: %s has no %s record", ErrNotFound, name, kind)
		case n.mode == "servfail" || n.mode == "timeout":
			return nil, false, fmt.Errorf("%w: %s %s: %s", ErrTemporary, kind, name, n.mode)
		}
		authentic = authentic && n.authentic
		if len(n.records[kind]) > 0 {
			return n.records[kind], authentic, nil
		}
		alias := n.records["CNAME"]
		if len(alias) == 0 {
			return nil, false, fmt.Errorf("%w: %s has no %s record", ErrNotFound, name, kind)
		}
		name = alias[0]
	}
	return nil, false, fmt.Errorf("%w: %s %s: CNAME records lead nowhere", ErrTemporary, kind, name)
}

// maxAliases bounds a chain of CNAME records.
const maxAliases = 10

// zoneAnswer looks records up and reads each with parse.
func zoneAnswer[T any](ctx context.Context, z *Zone, name, kind string, parse func(string) (T, error)) (Answer[T], error) {
	records, authentic, err := z.lookUp(ctx, name, kind)
	if err != nil {
		return Answer[T]{}, err
	}
	a := Answer[T]{Records: make([]T, len(records)), TTL: zoneTTL, Authentic: authentic}
	for i, r := range records {
		if a.Records[i], err = parse(r); err != nil {
			return Answer[T]{}, fmt.Errorf("%w: %s %s: %w", ErrTemporary, kind, name, err)
		}
	}
	return a, nil
}

// TXT returns the TXT records of name.
func (z *Zone) TXT(ctx context.Context, name string) (Answer[string], error) {
	return zoneAnswer(ctx, z, name, "TXT", func(s string) (string, error) { return s, nil })
}

// A returns the IPv4 addresses of name.
func (z *Zone) A(ctx context.Context, name string) (Answer[netip.Addr], error) {
	return zoneAnswer(ctx, z, name, "A", netip.ParseAddr)
}

// AAAA returns the IPv6 addresses of name.
func (z *Zone) AAAA(ctx context.Context, name string) (Answer[netip.Addr], error) {
	return zoneAnswer(ctx, z, name, "AAAA", netip.ParseAddr)
}

// Addrs returns the addresses of name. "localhost" is this host unless the zone
// says otherwise; an address is its own answer.
func (z *Zone) Addrs(ctx context.Context, name string) (Answer[netip.Addr], error) {
	four, err4 := z.A(ctx, name)
	six, err6 := z.AAAA(ctx, name)
	a, err := joinAddrs(four, six, err4, err6)
	if err != nil {
		if own, ok := literalOrLocal(name); ok {
			return own, nil
		}
	}
	return a, err
}

// MX returns the MX records of name by preference.
func (z *Zone) MX(ctx context.Context, name string) (Answer[MX], error) {
	a, err := zoneAnswer(ctx, z, name, "MX", parseMX)
	sortMX(a.Records)
	return a, err
}

// PTR returns the names of addr.
func (z *Zone) PTR(ctx context.Context, addr netip.Addr) (Answer[string], error) {
	return zoneAnswer(ctx, z, reverseName(addr), "PTR", func(s string) (string, error) { return strings.TrimSuffix(s, "."), nil })
}

// sortMX sorts MX records by preference; equal ones keep their order.
func sortMX(mxs []MX) {
	sort.SliceStable(mxs, func(i, j int) bool { return mxs[i].Preference < mxs[j].Preference })
}
