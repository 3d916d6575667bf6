package dkim

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"postern/dns"
	"postern/mail"
)

// DefaultMaxSignatures is how many signatures of a message are judged.
const DefaultMaxSignatures = 10

// minimumKey is the least that MinimumKey can be (RFC 8301 section 3.2).
const minimumKey = 1024

// What Options.BodyLength can be.
const (
	BodyFail    = "fail"    // a signature that leaves a part of the body unsigned does not pass
	BodyPartial = "partial" // it passes, and Result.BodyLimited says so
)

// Options say how signatures are judged.
type Options struct {
	Resolver      dns.Resolver
	Keys          *KeyCache // may be nil
	Now           time.Time // for x=
	MinimumKey    int       // bits of an RSA key; at least 1024, which is the default
	MaxSignatures int       // DKIM signatures judged; default 10
	BodyLength    string    // BodyFail, the default, or BodyPartial
}

// withDefaults fills in what is zero.
func (o Options) withDefaults() Options {
	o.MinimumKey = max(o.MinimumKey, minimumKey)
	if o.MaxSignatures <= 0 {
		o.MaxSignatures = DefaultMaxSignatures
	}
	if o.BodyLength == "" {
		o.BodyLength = BodyFail
	}
	return o
}

// A Result is what became of one DKIM-Signature field. Domain, Selector and the
// like are empty where the field could not be read so far.
type Result struct {
	Value       string // one of the words of RFC 8601 section 2.7.1
	Reason      string // why it is not "pass", or with what reserve it is
	Domain      string // d=, in lower case and ASCII
	Identity    string // i=, "@" and Domain if there is none
	Selector    string // s=
	Algorithm   string // a=
	KeyBits     int    // zero if no key was found
	HeaderCanon string // "simple" or "relaxed"
	BodyCanon   string
	Testing     bool     // t=y in the key record: the domain is testing DKIM
	Signed      []string // the names of h=, in lower case
	BodyLimited bool     // l= is there
	Unsigned    int64    // bytes of the canonical body that l= leaves out
	SigPrefix   string   // the first eight characters of b=
	At          time.Time
	Expires     time.Time
}

// memoKey is under which a message keeps what is computed of it here.
type memoKey struct{}

// A content is what of a message is the same for every verification.
type content struct {
	index  *index
	bodies bodies
}

// contentOf returns the content of m, made once.
func contentOf(m *mail.Message) *content {
	c, ok := m.Memo(memoKey{}, func() any { return &content{index: newIndex(m.Header().Fields())} }).(*content)
	if !ok {
		return &content{index: newIndex(m.Header().Fields())} // nobody else has memoKey
	}
	return c
}

// Verify judges the DKIM signatures of m, in header order. No signature is no
// result. Of more than Options.MaxSignatures the first are judged, and one result
// "policy" stands for the rest. The error is that of a message that cannot be
// read.
func Verify(ctx context.Context, m *mail.Message, o Options) ([]Result, error) {
	o = o.withDefaults()
	c := contentOf(m)
	places := c.index.all("dkim-signature")
	if len(places) == 0 {
		return nil, m.Err()
	}
	rest := max(len(places)-o.MaxSignatures, 0)
	v := verifier{ctx: ctx, m: m, o: o, c: c}
	for i := len(places) - 1; i >= rest; i-- {
		v.read(dkimSignature, places[i])
	}
	if err := v.judge(); err != nil {
		return nil, err
	}
	results := make([]Result, 0, len(v.cases)+1)
	for _, c := range v.cases {
		results = append(results, c.result(o))
	}
	if rest > 0 {
		reason := fmt.Sprintf("%d more signatures were not judged: at most %d are", rest, o.MaxSignatures)
		results = append(results, Result{Value: Policy, Reason: reason})
	}
	return results, m.Err()
}

// A verifier judges signatures of one message.
type verifier struct {
	ctx   context.Context
	m     *mail.Message
	o     Options
	c     *content
	cases []*trial
}

// A trial is one signature under judgement.
type trial struct {
	sig  *signature
	flaw *flaw // nil: it passes
	key  Key   // that was used, or the last that was found
	left int64 // bytes of the body that l= leaves out

	digest [sha256.Size]byte // of a seal: what it signs
}

// read takes a signature up.
func (v *verifier) read(k kind, place int) *trial {
	s, flaw := readSignature(k, place, v.c.index.fields[place].Raw())
	if v.m != nil && v.m.Header().Cut() {
		// What stands beyond the limit cannot be seen, so nothing can be said.
		flaw = flawed(Neutral, "the header of the message is too long")
	}
	t := &trial{sig: s, flaw: flaw}
	// RFC 6376 section 3.5: a signature past x= is not valid any more.
	if flaw == nil && !s.expires.IsZero() && v.o.Now.After(s.expires) {
		t.flaw = flawed(PermError, "it expired at %s", s.expires.Format(time.RFC3339))
	}
	v.cases = append(v.cases, t)
	return t
}

// judge verifies what has no flaw yet, in the order of RFC 6376 section 6.1:
// the key, the hash of the body, the signature.
func (v *verifier) judge() error {
	var open []*signature
	var keys []bodyKey
	for _, t := range v.cases {
		if t.flaw == nil {
			open = append(open, t.sig)
		}
	}
	if len(open) == 0 {
		return nil
	}
	answers := v.o.fetch(v.ctx, open)
	for _, t := range v.cases {
		if t.flaw == nil && len(answers[t.sig.keyName()].keys) > 0 && t.sig.kind != arcSeal {
			keys = append(keys, bodyKey{t.sig.body, t.sig.limit})
		}
	}
	sums, err := v.c.bodies.sum(v.m, keys)
	if err != nil {
		return err
	}
	buf := make([]byte, 0, 2048)
	for _, t := range v.cases {
		if t.flaw != nil {
			continue
		}
		t.flaw = t.find(answers[t.sig.keyName()], v.o.MinimumKey, func() ([sha256.Size]byte, *flaw) {
			if t.sig.kind == arcSeal {
				return t.digest, nil
			}
			if t.flaw = t.compare(sums[bodyKey{t.sig.body, t.sig.limit}]); t.flaw != nil {
				return [sha256.Size]byte{}, t.flaw
			}
			h := sha256.New()
			buf = v.c.index.hashHeader(h, t.sig, buf)
			return [sha256.Size]byte(h.Sum(nil)), nil
		})
		if t.flaw == nil && t.left > 0 && v.o.BodyLength != BodyPartial {
			// RFC 6376 section 8.2: what follows the signed part may be anybody's.
			t.flaw = flawed(Policy, "l= leaves %d bytes of the body unsigned", t.left)
		}
	}
	return nil
}

// find tries the keys that were found, with the digest that is signed, which is
// computed once if any key suits.
func (t *trial) find(a *answer, minimum int, digest func() ([sha256.Size]byte, *flaw)) *flaw {
	if len(a.keys) == 0 {
		return a.flaw
	}
	var first *flaw
	var sum [sha256.Size]byte
	var done bool
	for _, k := range a.keys {
		t.key = k
		f := k.suits(t.sig, minimum)
		if f == nil && !done {
			if sum, f = digest(); f != nil {
				return f
			}
			done = true
		}
		if f == nil && k.verify(sum, t.sig.bytes) {
			return nil
		}
		if f == nil {
			f = flawed(Fail, "the signature does not match: the header was changed, or it is forged")
		}
		if first == nil || f.value == Fail {
			first = f
		}
	}
	return first
}

// compare checks the hash of the body.
func (t *trial) compare(b bodySum) *flaw {
	if limit := t.sig.limit; limit >= 0 {
		if limit > b.length {
			// RFC 6376 section 3.5: l= must not be more than there is.
			return flawed(PermError, "l= is more than the body has")
		}
		t.left = b.length - limit
	}
	if string(t.sig.bodyHash) != string(b.sum[:]) {
		return flawed(Fail, "the body was changed")
	}
	return nil
}

// result returns what became of a DKIM signature.
func (t *trial) result(o Options) Result {
	s := t.sig
	r := Result{
		Value: Pass, Domain: s.domain, Identity: s.identity, Selector: s.selector, Algorithm: s.algorithm,
		KeyBits: t.key.Bits, HeaderCanon: s.header.String(), BodyCanon: s.body.String(), Testing: t.key.Testing,
		BodyLimited: s.limit >= 0, Unsigned: t.left, SigPrefix: s.prefix, At: s.at, Expires: s.expires,
	}
	if s.domain == "" {
		r.Identity = ""
	}
	if s.names != nil && s.count <= maxNames {
		r.Signed = strings.Split(string(appendLower(make([]byte, 0, len(s.names)), s.names)), ":")
		for i, name := range r.Signed {
			r.Signed[i] = strings.Trim(name, " \t\r\n")
		}
	}
	switch {
	case t.flaw != nil:
		r.Value, r.Reason = t.flaw.value, t.flaw.reason
	case t.left > 0:
		r.Reason = fmt.Sprintf("l= leaves %d bytes of the body unsigned", t.left)
	}
	return r
}
