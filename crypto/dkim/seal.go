package dkim

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postern/mail"
)

// sealedNames are the fields that a message signature of ARC names where they
// are there (RFC 8617 section 4.1.2: the DKIM signatures too, so that it is known
// which there were; not the fields of ARC). None is oversigned: the hops to come
// may add to them, and say so with a set of their own.
var sealedNames = []string{
	"from", "to", "cc", "subject", "date", "message-id", "reply-to", "in-reply-to", "references",
	"mime-version", "content-type", "content-transfer-encoding", "sender",
	"list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post", "list-owner", "list-archive",
	"dkim-signature",
}

// SealARC returns an ARC set for m, ready to be put on top of it
// (mail.Editor.Prepend): ARC-Seal, ARC-Message-Signature and
// ARC-Authentication-Results. authres is the body of an Authentication-Results
// field with what was found when m came in; previous is what VerifyARC said of m
// then, and not of what was made of it since.
//
// A chain that failed is sealed with cv=fail, once. One that already says so, that
// could not be judged or that is full is not continued: the error wraps ErrChain.
func SealARC(m *mail.Message, authres string, previous ARC, s Signer, now time.Time) ([]string, error) {
	instance := previous.Highest + 1
	switch {
	case previous.Value == TempError:
		return nil, fmt.Errorf("%w: it could not be judged: %s", ErrChain, previous.Reason)
	case previous.Value != Pass && previous.Value != Fail && previous.Value != None:
		return nil, fmt.Errorf("%w: its state is %q", ErrChain, previous.Value)
	case instance > maxSets:
		return nil, fmt.Errorf("%w: it has %d sets", ErrChain, maxSets)
	}
	algorithm, err := s.check()
	if err != nil {
		return nil, err
	}
	c := contentOf(m)
	sealed, err := c.earlier(previous)
	if err != nil {
		return nil, err
	}
	i := "i=" + strconv.Itoa(instance)
	results := foldResults(i, authres)
	message, err := s.sealMessage(m, c, algorithm, i, now)
	if err != nil {
		return nil, err
	}
	d := draft{name: "ARC-Seal"}
	d.add("a="+algorithm, "b=", "cv="+previous.Value, "d="+s.Domain, i, "s="+s.Selector, "t="+seconds(now))
	seal, err := s.complete(&d, func(raw []byte, from, to int) [sha256.Size]byte {
		b := appendWhole(sealed, []byte(results))
		b = appendWhole(b, []byte(message))
		return sha256.Sum256(relaxed.appendField(b, raw, from, to))
	})
	if err != nil {
		return nil, err
	}
	return []string{seal, message, results}, nil
}

// earlier returns the sets that a new seal signs besides its own, in canonical
// form.
func (c *content) earlier(previous ARC) ([]byte, error) {
	x := c.index
	v := chainVerifier{verifier: verifier{c: c}}
	v.collect(x.all("arc-seal"), x.all("arc-message-signature"), x.all("arc-authentication-results"))
	// RFC 8617 section 5.1.2: a chain that says cv=fail gets no more sets.
	if top := v.sets[v.highest].seal; top != nil && top.sig.cv == Fail {
		return nil, fmt.Errorf("%w: i=%d says that it has failed", ErrChain, v.highest)
	}
	// RFC 8617 section 5.1.2: the seal of a failed chain signs its own set only.
	if previous.Value != Pass {
		return nil, nil
	}
	if v.checkForm(); v.flaw != nil || v.highest != previous.Highest {
		return nil, fmt.Errorf("%w: its fields were changed", ErrChain)
	}
	var b []byte
	for i := 1; i <= v.highest; i++ {
		s := &v.sets[i]
		b = appendWhole(b, x.fields[s.results].Raw())
		b = appendWhole(b, s.message.sig.raw)
		b = appendWhole(b, s.seal.sig.raw)
	}
	return b, nil
}

// sealMessage makes the ARC-Message-Signature field.
func (s Signer) sealMessage(m *mail.Message, c *content, algorithm, i string, now time.Time) (string, error) {
	key := bodyKey{relaxed, -1}
	sums, err := c.bodies.sum(m, []bodyKey{key})
	if err == nil {
		err = m.Err()
	}
	if err != nil {
		return "", err
	}
	names := s.Headers
	if names == nil {
		for _, name := range sealedNames {
			for range min(len(c.index.all(name)), maxSigned) {
				names = append(names, name)
			}
		}
	}
	h := strings.Join(names, ":")
	sum := sums[key].sum
	d := draft{name: "ARC-Message-Signature"}
	d.add("a="+algorithm, "b=", "bh="+base64.StdEncoding.EncodeToString(sum[:]), "c=relaxed/relaxed", "d="+s.Domain, "h="+h, i,
		"s="+s.Selector, "t="+seconds(now))
	return s.complete(&d, func(raw []byte, from, to int) [sha256.Size]byte {
		hash := sha256.New()
		c.index.hashHeader(hash, &signature{field: -1, raw: raw, from: from, to: to, header: relaxed, names: []byte(h)}, nil)
		return [sha256.Size]byte(hash.Sum(nil))
	})
}

// foldResults makes the ARC-Authentication-Results field (RFC 8617 section
// 4.1.1) of the body of an Authentication-Results field. Line ends in that body
// stay only where they fold it.
func foldResults(i, authres string) string {
	var b strings.Builder
	b.WriteString("ARC-Authentication-Results: " + i + ";")
	for line := range strings.SplitSeq(authres, "\n") {
		line = strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' || r == 0x7f {
				return -1
			}
			return r
		}, line)
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if b.Len() < 40 && len(line) < 40 {
			b.WriteString(" " + line)
		} else {
			b.WriteString("\r\n\t" + line)
		}
	}
	return b.String() + "\r\n"
}
