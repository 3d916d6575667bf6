package dkim

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"postern/mail"
)

// sized returns a message of n bytes: half text, half base64.
func sized(n int) string {
	text := strings.Repeat("Some words of text that fill a line, as mail has them in its bodies.\r\n", n/2/70)
	code := strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", n/2/78)
	return plainMessage + text + code
}

// signedBy returns a message with n signatures of one key, in the
// canonicalisations given in turn.
func signedBy(t testing.TB, n int, message string, canons ...string) (string, *table) {
	zone := newTable()
	zone.add("sel._domainkey.example.org", record(t, "rsa"))
	var b strings.Builder
	for i := range n {
		b.WriteString(craft(t, "rsa", strings.Replace(goodTags, "relaxed/relaxed", canons[i%len(canons)], 1), message))
	}
	return b.String() + message, zone
}

// verifyBytes verifies a message that was not seen before.
func verifyBytes(t testing.TB, text []byte, zone *table, want int) {
	rs, err := Verify(t.Context(), mail.ParseBytes(text, mail.Options{}), Options{Resolver: zone, Now: suiteTime})
	passed := 0
	for _, r := range rs {
		if r.Value == Pass {
			passed++
		}
	}
	if err != nil || passed != want {
		t.Fatalf("%d of %d pass: %v, %v", passed, want, rs, err)
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, c := range []struct {
		name       string
		size, n    int
		canons     []string
		signatures int
	}{
		{"4KB/1", 4 << 10, 1, []string{"relaxed/relaxed"}, 1},
		{"4KB/2", 4 << 10, 2, []string{"relaxed/relaxed"}, 2},
		{"1MB/relaxed", 1 << 20, 1, []string{"relaxed/relaxed"}, 1},
		{"1MB/simple", 1 << 20, 1, []string{"simple/simple"}, 1},
		{"1MB/3relaxed", 1 << 20, 3, []string{"relaxed/relaxed"}, 3},
		{"1MB/both", 1 << 20, 2, []string{"relaxed/relaxed", "simple/simple"}, 2},
	} {
		b.Run(c.name, func(b *testing.B) {
			text, zone := signedBy(b, c.n, sized(c.size), c.canons...)
			raw := []byte(text)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				verifyBytes(b, raw, zone, c.signatures)
			}
		})
	}
}

// manyFields returns a signed message with n fields, all named in h=.
func manyFields(t testing.TB, n int) ([]byte, *table) {
	var names, fields strings.Builder
	for i := range n {
		fmt.Fprintf(&names, "x-%d:", i)
		fmt.Fprintf(&fields, "X-%d: value\r\n", i)
	}
	zone := newTable()
	zone.add("sel._domainkey.example.org", record(t, "rsa"))
	message := fields.String() + plainMessage
	return []byte(craft(t, "rsa", strings.Replace(goodTags, "h=", "h="+names.String(), 1), message) + message), zone
}

func BenchmarkManyFields(b *testing.B) {
	raw, zone := manyFields(b, 4000)
	b.ReportAllocs()
	for b.Loop() {
		verifyBytes(b, raw, zone, 1)
	}
}

func BenchmarkManySignatures(b *testing.B) {
	text, zone := signedBy(b, 500, plainMessage, "relaxed/relaxed")
	raw := []byte(text)
	b.ReportAllocs()
	for b.Loop() {
		verifyBytes(b, raw, zone, 10)
	}
}

func BenchmarkARC(b *testing.B) {
	both, zone := signers(b)
	raw := []byte(chainOf(b, 3, both[0], zone))
	b.ReportAllocs()
	for b.Loop() {
		a, err := VerifyARC(b.Context(), mail.ParseBytes(raw, mail.Options{}), Options{Resolver: zone, Now: suiteTime})
		if err != nil || a.Value != Pass {
			b.Fatal(a, err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	both, _ := signers(b)
	for i, name := range []string{"rsa", "ed25519"} {
		b.Run(name, func(b *testing.B) {
			raw := []byte(sized(4 << 10))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Sign(mail.ParseBytes(raw, mail.Options{}), suiteTime, both[i]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// doneIn reports whether f ever takes at most limit: what it costs, whatever
// else the machine does. It tries until it does, for some seconds, so that a
// busy machine fails nothing and a slow f always.
func doneIn(limit time.Duration, f func()) (best time.Duration, ok bool) {
	best = time.Hour
	for until := time.Now().Add(5 * time.Second); best > limit && time.Now().Before(until); {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return best, best <= limit
}

// ratio returns how much more b takes than a: the least of several rounds in
// which they take turns, until it is at most limit.
func ratio(limit float64, a, b func()) float64 {
	best := math.Inf(1)
	for until := time.Now().Add(5 * time.Second); best > limit && time.Now().Before(until); {
		var least [2]time.Duration
		for round := range 5 {
			for i, f := range []func(){a, b} {
				start := time.Now()
				f()
				if took := time.Since(start); round == 0 || took < least[i] {
					least[i] = took
				}
			}
		}
		best = min(best, float64(least[1])/float64(least[0]))
	}
	return best
}

// TestCosts holds the verifier to its times.
func TestCosts(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("times mean nothing here")
	}
	one, zone := signedBy(t, 1, sized(1<<20), "relaxed/relaxed")
	three, _ := signedBy(t, 3, sized(1<<20), "relaxed/relaxed")
	r := ratio(1.3, func() { verifyBytes(t, []byte(one), zone, 1) }, func() { verifyBytes(t, []byte(three), zone, 3) })
	t.Logf("1 MB: three signatures cost %.2f times one", r)
	if r > 1.3 {
		t.Errorf("1 MB: three signatures cost %.2f times one, more than 1.3", r)
	}
	raw, zone := manyFields(t, 4000)
	took, ok := doneIn(2*time.Millisecond, func() { verifyBytes(t, raw, zone, 1) })
	t.Logf("4,000 fields named in h=: %v", took)
	if !ok {
		t.Errorf("4,000 fields named in h= take %v, more than 2 ms", took)
	}
	short, shortZone := manyFields(t, 1000)
	if r := ratio(8, func() { verifyBytes(t, short, shortZone, 1) }, func() { verifyBytes(t, raw, zone, 1) }); r > 8 {
		t.Errorf("four times the fields take %.1f times as long: that is quadratic", r)
	}
}
