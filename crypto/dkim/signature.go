package dkim

import (
	"bytes"
	"fmt"
	"time"
)

// The words of RFC 8601 section 2.7.1.
const (
	Pass      = "pass"
	Fail      = "fail"
	Policy    = "policy"
	Neutral   = "neutral"
	TempError = "temperror"
	PermError = "permerror"
	None      = "none"
)

// A flaw is why a signature does not pass.
type flaw struct{ value, reason string }

func (f *flaw) Error() string { return f.value + ": " + f.reason }

// flawed returns a flaw.
func flawed(value, format string, args ...any) *flaw {
	return &flaw{value, fmt.Sprintf(format, args...)}
}

// A kind tells the three fields apart that have the form of a signature.
type kind uint8

const (
	dkimSignature kind = iota
	arcMessage         // ARC-Message-Signature
	arcSeal            // ARC-Seal
)

// Bounds of what is read.
const (
	maxField = 256 << 10 // bytes of one signature field
	maxNames = 5000      // in h=
)

// A signature is a field that was read.
type signature struct {
	kind  kind
	field int    // its place in the header
	raw   []byte // the whole field
	from  int    // what of raw is left out when it is hashed: the value of b=
	to    int

	algorithm string
	domain    string // in lower case and ASCII
	selector  string
	identity  string
	strict    bool // the domain of i= is d= itself
	instance  int  // ARC: i=
	cv        string
	header    canon
	body      canon
	names     []byte // h=
	count     int    // of names
	bodyHash  []byte
	bytes     []byte // b=
	prefix    string
	limit     int64 // l=, -1 without
	at        time.Time
	expires   time.Time
}

// A reader takes the tags of one signature in, up to the first flaw.
type reader struct {
	tags []tag
	s    *signature
	err  *flaw
}

// need returns the value of a tag that must be there and say something.
func (r *reader) need(name string) []byte {
	t := find(r.tags, name)
	if t == nil || len(t.value) == 0 {
		r.fail("%s= is missing", name)
		return nil
	}
	return t.value
}

// fail notes the first flaw.
func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = flawed(Neutral, format, args...)
	}
}

// readSignature reads a field. With a flaw, the signature has what could be read:
// domain, selector and algorithm where there are any.
func readSignature(k kind, field int, raw []byte) (*signature, *flaw) {
	s := &signature{kind: k, field: field, raw: raw, limit: -1}
	value := bytes.IndexByte(raw, ':') + 1
	if len(raw) > maxField {
		return s, flawed(Neutral, "the field has more than %d bytes", maxField)
	}
	tags, err := parseTags(raw[value:])
	if err != nil {
		return s, flawed(Neutral, "%v", err)
	}
	r := reader{tags: tags, s: s}
	r.origin()
	r.signed(value)
	switch k {
	case dkimSignature:
		r.version()
		r.content()
		r.identity()
		r.times()
	case arcMessage:
		r.instance()
		r.content()
		r.times()
	case arcSeal:
		r.instance()
		r.seal()
		r.times()
	}
	return s, r.err
}

// version checks v= (RFC 6376 section 3.5).
func (r *reader) version() {
	if v := r.need("v"); v != nil && string(v) != "1" {
		r.fail("version %q is not known", brief(v))
	}
}

// origin reads who signed and how.
func (r *reader) origin() {
	ok := false
	if d := r.need("d"); d != nil {
		if r.s.domain, ok = parseDomain(d, 2); !ok {
			r.fail("d=%q is not a domain", brief(d))
		}
	}
	if s := r.need("s"); s != nil {
		if r.s.selector, ok = parseDomain(s, 1); !ok {
			r.fail("s=%q is not a selector", brief(s))
		}
	}
	r.s.identity, r.s.strict = "@"+r.s.domain, true
	if a := r.need("a"); a != nil {
		switch string(a) {
		case "rsa-sha256", "ed25519-sha256":
			r.s.algorithm = string(a)
		case "rsa-sha1":
			// RFC 8301 section 3.1: such a signature has permanently failed.
			r.s.algorithm = string(a)
			if r.err == nil {
				r.err = flawed(PermError, "rsa-sha1 is not safe")
			}
		default:
			r.fail("algorithm %q is not known", brief(a))
		}
	}
	if q := find(r.tags, "q"); q != nil && !contains(q.value, "dns/txt") {
		r.fail("q=%q is no known way to find a key", brief(q.value))
	}
}

// signed reads b=. value is where the tags begin in the field.
func (r *reader) signed(value int) {
	b := find(r.tags, "b")
	if b == nil || len(b.value) == 0 {
		r.fail("b= is missing")
		return
	}
	s := r.s
	s.from, s.to = value+b.start, value+b.end
	text := squeeze(b.value)
	s.prefix = string(text[:min(len(text), 8)])
	s.bytes = r.base64("b", text)
}

// base64 decodes a value.
func (r *reader) base64(name string, text []byte) []byte {
	out, err := decode64(text)
	if err != nil {
		r.fail("%s= is not base64", name)
		return nil
	}
	return out
}

// content reads what is signed: c=, h=, bh=, l=.
func (r *reader) content() {
	s := r.s
	if s.kind == arcMessage {
		// RFC 6376 section 3.5 has simple/simple where c= is missing; every
		// sealer and the ARC conformance suite have relaxed/relaxed.
		s.header, s.body = relaxed, relaxed
	}
	if c := find(r.tags, "c"); c != nil {
		var ok bool
		if s.header, s.body, ok = parseCanon(c.value); !ok {
			r.fail("canonicalisation %q is not known", brief(c.value))
		}
	}
	if bh := r.need("bh"); bh != nil {
		if s.bodyHash = r.base64("bh", squeeze(bh)); s.bodyHash != nil && len(s.bodyHash) != 32 {
			r.fail("bh= is not a SHA-256 hash")
		}
	}
	if l := find(r.tags, "l"); l != nil {
		n, ok := parseNumber(l.value)
		if !ok {
			r.fail("l=%q is not a length", brief(l.value))
		}
		s.limit = n
	}
	h := find(r.tags, "h")
	if h == nil || len(h.value) == 0 && s.kind == dkimSignature {
		r.fail("h= is missing")
		return
	}
	s.names = h.value
	if s.count = bytes.Count(h.value, []byte{':'}) + 1; s.count > maxNames {
		r.fail("h= has %d names, more than %d", s.count, maxNames)
		return
	}
	switch {
	case s.kind == dkimSignature && !names(h.value, "from"):
		// RFC 6376 section 5.4: From must be signed.
		if r.err == nil {
			r.err = flawed(PermError, "From is not signed")
		}
	case s.kind == arcMessage && names(h.value, "arc-seal"):
		// RFC 8617 section 4.1.2: the seals are not signed by it.
		r.fail("h= names ARC-Seal")
	}
}

// names reports whether h= has a name.
func names(h []byte, name string) bool {
	found := false
	words(h, func(w []byte) bool {
		found = len(w) == len(name) && bytes.EqualFold(w, []byte(name))
		return !found
	})
	return found
}

// identity reads i=. RFC 6376 section 3.5: its domain is d= or lies below it;
// domains are compared without regard to case.
func (r *reader) identity() {
	i := find(r.tags, "i")
	if i == nil {
		return
	}
	identity, domain, ok := parseIdentity(i.value)
	switch {
	case !ok:
		r.fail("i=%q is not an identity", brief(i.value))
	case r.s.domain != "" && !within(domain, r.s.domain):
		r.fail("i=%q is not of the domain %s", brief(i.value), r.s.domain)
	default:
		r.s.identity, r.s.strict = identity, domain == r.s.domain
	}
}

// times reads t= and x=.
func (r *reader) times() {
	ok := false
	if t := find(r.tags, "t"); t != nil {
		if r.s.at, ok = parseTime(t.value); !ok {
			r.fail("t=%q is not a time", brief(t.value))
		}
	}
	x := find(r.tags, "x")
	if x == nil || r.s.kind == arcSeal {
		return
	}
	if r.s.expires, ok = parseTime(x.value); !ok {
		r.fail("x=%q is not a time", brief(x.value))
		return
	}
	// RFC 6376 section 3.5: x= must be greater than t=.
	if !r.s.expires.IsZero() && !r.s.at.IsZero() && !r.s.expires.After(r.s.at) {
		r.fail("it expires before it was made")
	}
}

// instance reads i= of ARC (RFC 8617 section 4.2.1).
func (r *reader) instance() {
	if i := r.need("i"); i != nil {
		if r.s.instance = parseInstance(i); r.s.instance == 0 {
			r.fail("i=%q is not an instance", brief(i))
		}
	}
}

// parseInstance reads a number from 1 to 50; 0 is anything else.
func parseInstance(b []byte) int {
	if n, ok := parseNumber(b); ok && len(b) <= 2 && n <= maxSets {
		return int(n)
	}
	return 0
}

// seal reads what ARC-Seal has of its own (RFC 8617 section 4.1.3).
func (r *reader) seal() {
	if cv := r.need("cv"); cv != nil {
		switch r.s.cv = string(cv); r.s.cv {
		case None, Pass, Fail:
		default:
			r.fail("cv=%q is no chain state", brief(cv))
		}
	}
	for _, name := range []string{"h", "bh", "c", "l"} {
		if find(r.tags, name) != nil {
			// RFC 8617 section 4.1.3: a seal with h= makes the chain fail.
			r.fail("a seal has no %s=", name)
		}
	}
	r.s.header = relaxed
}
