package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/mail"
)

// A Signer is a domain's key for signing.
type Signer struct {
	Domain   string        // d=
	Selector string        // s=
	Key      crypto.Signer // an RSA key of 1,024 bits or more, or Ed25519
	Headers  []string      // h=, exactly so; nil: what defaultNames says
	Expire   time.Duration // x= is so much later than t=; zero: no x=
}

// once are the fields that exist once in an honest message and that readers or
// replies rest on. They are named in h= once more than they are there: another
// one added on the way breaks the signature (RFC 6376 section 8.15).
var once = []string{
	"from", "to", "cc", "subject", "date", "message-id", "reply-to", "in-reply-to", "references",
	"mime-version", "content-type", "content-transfer-encoding",
}

// present are the fields that are signed where they are there. Mailing lists and
// mail clients add them to honest mail, so they are not oversigned (RFC 6376
// section 5.4.1 names most of them).
var present = []string{
	"sender", "content-id", "content-description", "autocrypt", "openpgp",
	"resent-date", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-message-id",
	"list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post", "list-owner", "list-archive",
}

// maxSigned bounds how often one name stands in h=.
const maxSigned = 20

// defaultNames returns what h= names for a message: each of the fields that tell
// what the message is, as often as it is there, and once more those that must not
// be added to.
func defaultNames(x *index) []string {
	names := make([]string, 0, 32)
	for _, name := range once {
		for range min(len(x.all(name)), maxSigned) + 1 {
			names = append(names, name)
		}
	}
	for _, name := range present {
		for range min(len(x.all(name)), maxSigned) {
			names = append(names, name)
		}
	}
	return names
}

// Sign returns a DKIM-Signature field for each signer, folded, ready to be put
// on top of m (mail.Editor.Prepend). The body is read once. Nothing in m may be
// changed afterwards but for fields on top that are not signed.
func Sign(m *mail.Message, now time.Time, signers ...Signer) ([]string, error) {
	c := contentOf(m)
	key := bodyKey{relaxed, -1}
	sums, err := c.bodies.sum(m, []bodyKey{key})
	if err != nil {
		return nil, err
	}
	if err := m.Err(); err != nil {
		return nil, err
	}
	fields := make([]string, 0, len(signers))
	for _, s := range signers {
		algorithm, err := s.check()
		if err != nil {
			return nil, err
		}
		names := s.Headers
		if names == nil {
			names = defaultNames(c.index)
		}
		// RFC 6376 section 5.4: From must be signed.
		if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, "from") }) {
			return nil, fmt.Errorf("%w: From must be signed", ErrKey)
		}
		d := draft{name: "DKIM-Signature"}
		d.add("v=1", "a="+algorithm, "c=relaxed/relaxed", "d="+s.Domain, "s="+s.Selector, "t="+seconds(now))
		if s.Expire > 0 {
			d.add("x=" + seconds(now.Add(s.Expire)))
		}
		sum := sums[key].sum
		d.add("h="+strings.Join(names, ":"), "bh="+base64.StdEncoding.EncodeToString(sum[:]), "b=")
		field, err := s.complete(&d, func(raw []byte, from, to int) [sha256.Size]byte {
			h := sha256.New()
			c.index.hashHeader(h, &signature{field: -1, raw: raw, from: from, to: to, header: relaxed, names: []byte(strings.Join(names, ":"))}, nil)
			return [sha256.Size]byte(h.Sum(nil))
		})
		if err != nil {
			return nil, err
		}
		fields = append(fields, field)
	}
	return fields, nil
}

// Check returns an error, which wraps ErrKey, if the signer cannot sign.
func (s Signer) Check() error {
	_, err := s.check()
	return err
}

// check returns the algorithm of the key.
func (s Signer) check() (string, error) {
	if !ValidName(s.Domain, 2) {
		return "", fmt.Errorf("%w: %q is not a domain in lower case", ErrKey, s.Domain)
	}
	if !ValidName(s.Selector, 1) {
		return "", fmt.Errorf("%w: %q is not a selector in lower case", ErrKey, s.Selector)
	}
	for _, name := range s.Headers {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' || r == ';' }) {
			return "", fmt.Errorf("%w: %q is not the name of a header field", ErrKey, name)
		}
	}
	if s.Key == nil {
		return "", fmt.Errorf("%w: there is none", ErrKey)
	}
	switch k := s.Key.Public().(type) {
	case *rsa.PublicKey:
		// RFC 8301 section 3.2: signers use at least 1024 bits.
		if k.N.BitLen() < minimumKey {
			return "", fmt.Errorf("%w: an RSA key of %d bits is too short", ErrKey, k.N.BitLen())
		}
		return "rsa-sha256", nil
	case ed25519.PublicKey:
		return "ed25519-sha256", nil
	}
	return "", fmt.Errorf("%w: %T is neither RSA nor Ed25519", ErrKey, s.Key.Public())
}

// complete signs a draft and returns the field. digest hashes what is signed,
// of which the draft, with the value of b= between from and to, is the end.
func (s Signer) complete(d *draft, digest func(raw []byte, from, to int) [sha256.Size]byte) (string, error) {
	unsigned := d.field("")
	sum := digest([]byte(unsigned), len(unsigned), len(unsigned))
	hash := crypto.SHA256
	if _, ok := s.Key.Public().(ed25519.PublicKey); ok {
		hash = 0 // RFC 8463 section 3: the hash is the message that is signed
	}
	b, err := s.Key.Sign(rand.Reader, sum[:], hash)
	if err != nil {
		return "", fmt.Errorf("sign for %s: %w", s.Domain, err)
	}
	return d.field(base64.StdEncoding.EncodeToString(b)), nil
}

// seconds writes a time as t= has it.
func seconds(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

// maxLine is how long the lines of a field are, without the space in front.
const maxLine = 72

// A draft is a signature field that is being made.
type draft struct {
	name string
	tags []string
}

func (d *draft) add(tags ...string) { d.tags = append(d.tags, tags...) }

// field writes the field, folded, with the value of b= given. How the rest is
// folded does not depend on that value, since the rest is signed: what follows
// b= begins a new line.
func (d *draft) field(b string) string {
	var out strings.Builder
	out.WriteString(d.name + ":")
	column := len(d.name) + 1
	fold := func() { out.WriteString("\r\n "); column = 0 }
	write := func(s string) { out.WriteString(s); column += len(s) }
	broken := false
	for i, t := range d.tags {
		end := ";"
		if i == len(d.tags)-1 {
			end = ""
		}
		isB := t == "b="
		pieces := split(t, end)
		if isB {
			pieces = chop("b="+b+end, maxLine)
		}
		for j, piece := range pieces {
			switch {
			case broken || j > 0 && isB || column+1+len(piece) > maxLine:
				fold()
			case j == 0:
				write(" ")
			}
			broken = false
			write(piece)
		}
		broken = isB
	}
	return out.String() + "\r\n"
}

// split cuts a tag where it may be folded: h= after its colons.
func split(t, end string) []string {
	if !strings.HasPrefix(t, "h=") {
		return []string{t + end}
	}
	pieces := strings.SplitAfter(t, ":")
	pieces[len(pieces)-1] += end
	return pieces
}

// chop cuts a text into pieces of at most n bytes.
func chop(s string, n int) []string {
	var out []string
	for len(s) > n {
		out = append(out, s[:n])
		s = s[n:]
	}
	return append(out, s)
}
