package dkim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"postern/mail"
)

// maxSets is how many ARC sets a message can have (RFC 8617 section 4.2.1).
const maxSets = 50

// ErrChain says that an ARC chain must not be continued.
var ErrChain = errors.New("ARC chain cannot be continued")

// An ARC is the state of a message's ARC chain.
type ARC struct {
	Value   string // None, Pass, Fail or TempError
	Reason  string // why it does not pass
	Chain   []Seal // by instance, the first set first; empty if the sets are not in order
	Oldest  int    // if it passes: the lowest instance from which on every message signature is known to hold
	Highest int    // instance that any field has, 0 without; also of a chain in disorder
	Authors bool   // if it passes: the newest message signature signs every From field, and there is one
}

// A Seal is one ARC set.
type Seal struct {
	Instance  int
	Domain    string // d= of ARC-Seal: who vouches for the set
	Selector  string
	Algorithm string
	KeyBits   int
	Signer    string // d= of ARC-Message-Signature
	CV        string // what the sealer said of the chain before it: "none", "pass", "fail"
	Results   string // ARC-Authentication-Results, unfolded, without i=
	At        time.Time
}

// A set is the fields of one instance.
type set struct {
	seal, message *trial
	results       int // place of ARC-Authentication-Results
	payload       string
	met           [3]bool
}

// VerifyARC validates the ARC chain of m (RFC 8617 section 5.2). The error is
// that of a message that cannot be read.
func VerifyARC(ctx context.Context, m *mail.Message, o Options) (ARC, error) {
	c := contentOf(m)
	seals, messages, results := c.index.all("arc-seal"), c.index.all("arc-message-signature"), c.index.all("arc-authentication-results")
	if len(seals)+len(messages)+len(results) == 0 {
		return ARC{Value: None}, m.Err()
	}
	if n := max(len(seals), len(messages), len(results)); n > maxSets {
		return ARC{Value: Fail, Reason: fmt.Sprintf("%d ARC sets, more than %d", n, maxSets), Highest: maxSets}, m.Err()
	}
	v := chainVerifier{verifier: verifier{ctx: ctx, m: m, o: o.withDefaults(), c: c}}
	v.collect(seals, messages, results)
	a := ARC{Value: Pass, Highest: v.highest}
	err := v.run(&a)
	if err != nil {
		return ARC{}, err
	}
	return a, m.Err()
}

// A chainVerifier validates one chain.
type chainVerifier struct {
	verifier
	sets    [maxSets + 1]set // by instance
	highest int
	flaw    *flaw // of the form of the chain
}

// spoil notes the first flaw of the chain.
func (v *chainVerifier) spoil(format string, args ...any) {
	if v.flaw == nil {
		v.flaw = flawed(Fail, format, args...)
	}
}

// collect sorts the fields into sets.
func (v *chainVerifier) collect(seals, messages, results []int) {
	for _, place := range seals {
		t := v.read(arcSeal, place)
		if s := v.member(t.sig.instance, 0, t.flaw); s != nil {
			s.seal = t
		}
	}
	for _, place := range messages {
		t := v.read(arcMessage, place)
		if s := v.member(t.sig.instance, 1, t.flaw); s != nil {
			s.message = t
		}
	}
	for _, place := range results {
		instance, payload := readResults(v.c.index.fields[place])
		if s := v.member(instance, 2, nil); s != nil {
			s.results, s.payload = place, payload
		}
	}
}

// setFields are the names of the fields of a set.
var setFields = [3]string{"ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"}

// member returns the set that a field belongs to, nil if it can belong to none.
func (v *chainVerifier) member(instance, field int, f *flaw) *set {
	if instance == 0 {
		if f != nil {
			v.spoil("a field %s: %s", setFields[field], f.reason)
		} else {
			v.spoil("a field %s has no instance", setFields[field])
		}
		return nil
	}
	v.highest = max(v.highest, instance)
	s := &v.sets[instance]
	if s.met[field] {
		v.spoil("i=%d has two fields %s", instance, setFields[field])
		return nil
	}
	s.met[field] = true
	return s
}

// readResults reads the i= in front of ARC-Authentication-Results (RFC 8617
// section 4.1.1); 0 if there is none.
func readResults(f mail.Field) (instance int, payload string) {
	value := []byte(f.Value())
	first, rest, ok := bytes.Cut(value, []byte{';'})
	name, number, equals := bytes.Cut(first, []byte{'='})
	if !ok || !equals || string(trim(name)) != "i" {
		return 0, ""
	}
	return parseInstance(trim(number)), string(trim(rest))
}

// run decides. RFC 8617 section 5.2: the form of the chain, the newest message
// signature, then every seal.
func (v *chainVerifier) run(a *ARC) error {
	v.checkForm()
	if v.flaw != nil {
		a.Value, a.Reason = Fail, v.flaw.reason
		return nil
	}
	v.hashSeals()
	v.passOver()
	if err := v.judge(); err != nil {
		return err
	}
	a.Chain = v.chain()
	flaw := v.verdict()
	if flaw != nil {
		a.Value, a.Reason = flaw.value, flaw.reason
		return nil
	}
	for a.Oldest = v.highest; a.Oldest > 1 && v.sets[a.Oldest-1].message.flaw == nil; {
		a.Oldest--
	}
	a.Authors = v.signsAuthors()
	return nil
}

// signsAuthors reports whether the newest message signature names From as often
// as it is there. RFC 6376 section 8.15: another one on top breaks no signature,
// and is what readers see.
func (v *chainVerifier) signsAuthors() bool {
	there, named := len(v.c.index.all("from")), 0
	words(v.sets[v.highest].message.sig.names, func(w []byte) bool {
		if equalName(w, []byte("from")) {
			named++
		}
		return true
	})
	return there > 0 && named >= there
}

// checkForm checks that the sets are complete, in order, and say of each other
// what they must.
func (v *chainVerifier) checkForm() {
	// RFC 8617 section 5.2 step 2: a chain whose last seal says so has failed.
	if top := v.sets[v.highest].seal; top != nil && top.sig.cv == Fail {
		v.spoil("i=%d says that the chain had failed", v.highest)
	}
	for i := 1; i <= v.highest && v.flaw == nil; i++ {
		s := &v.sets[i]
		for field, met := range s.met {
			if !met {
				v.spoil("i=%d has no field %s", i, setFields[field])
				return
			}
		}
		want := Pass
		if i == 1 {
			want = None
		}
		switch {
		case s.seal.flaw != nil:
			v.spoil("the seal of i=%d: %s", i, s.seal.flaw.reason)
		case s.seal.sig.cv != want:
			v.spoil("the seal of i=%d says cv=%s", i, s.seal.sig.cv)
		case i == v.highest && s.message.flaw != nil:
			v.spoil("the message signature of i=%d: %s", i, s.message.flaw.reason)
		}
	}
}

// hashSeals computes what each seal signs (RFC 8617 section 5.1.1): the sets up
// to its own, each with its results, message signature and seal.
func (v *chainVerifier) hashSeals() {
	var b []byte
	for i := 1; i <= v.highest; i++ {
		s := &v.sets[i]
		b = appendWhole(b, v.c.index.fields[s.results].Raw())
		b = appendWhole(b, s.message.sig.raw)
		seal := s.seal.sig
		n := len(b)
		b = relaxed.appendField(b, seal.raw, seal.from, seal.to)
		s.seal.digest = sha256.Sum256(b)
		b = appendWhole(b[:n], seal.raw)
	}
}

// appendWhole appends a field in relaxed form with its line end.
func appendWhole(dst, raw []byte) []byte {
	return append(relaxed.appendField(dst, raw, len(raw), len(raw)), crlf...)
}

// passOver takes the older message signatures whose key is not asked for
// anyway out of the judgement: they decide nothing (RFC 8617 section 5.2 step 5)
// and are worth no look-up.
func (v *chainVerifier) passOver() {
	known := map[string]bool{v.sets[v.highest].message.sig.keyName(): true}
	for i := 1; i <= v.highest; i++ {
		known[v.sets[i].seal.sig.keyName()] = true
	}
	for i := 1; i < v.highest; i++ {
		if t := v.sets[i].message; t.flaw == nil && !known[t.sig.keyName()] {
			t.flaw = flawed(Neutral, "not judged")
		}
	}
}

// verdict returns the flaw of a chain that does not pass. A lasting one weighs
// more than a failure of DNS.
func (v *chainVerifier) verdict() *flaw {
	var first *flaw
	note := func(what string, i int, f *flaw) {
		if f == nil {
			return
		}
		value := Fail
		if f.value == TempError {
			value = TempError
		}
		if first == nil || first.value == TempError && value == Fail {
			first = flawed(value, "the %s of i=%d: %s", what, i, f.reason)
		}
	}
	note("message signature", v.highest, v.sets[v.highest].message.flaw)
	for i := v.highest; i > 0; i-- {
		note("seal", i, v.sets[i].seal.flaw)
	}
	return first
}

// chain describes the sets.
func (v *chainVerifier) chain() []Seal {
	seals := make([]Seal, 0, v.highest)
	for i := 1; i <= v.highest; i++ {
		s := &v.sets[i]
		sig := s.seal.sig
		seals = append(seals, Seal{
			Instance: i, Domain: sig.domain, Selector: sig.selector, Algorithm: sig.algorithm, KeyBits: s.seal.key.Bits,
			Signer: s.message.sig.domain, CV: sig.cv, Results: s.payload, At: sig.at,
		})
	}
	return seals
}
