package dkim

import (
	"fmt"
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

// fastest returns the least time that f takes of several tries: what it costs,
// whatever else the machine does.
func fastest(f func()) time.Duration {
	best := time.Hour
	for range 15 {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return best
}

// TestCosts holds the verifier to its times, with room for slow machines.
func TestCosts(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("times mean nothing here")
	}
	one, zone := signedBy(t, 1, sized(1<<20), "relaxed/relaxed")
	three, _ := signedBy(t, 3, sized(1<<20), "relaxed/relaxed")
	a := fastest(func() { verifyBytes(t, []byte(one), zone, 1) })
	b := fastest(func() { verifyBytes(t, []byte(three), zone, 3) })
	t.Logf("1 MB: one signature %v, three %v: %.2f times", a, b, float64(b)/float64(a))
	if float64(b) > 1.3*float64(a) {
		t.Errorf("three signatures cost %.2f times one, more than 1.3", float64(b)/float64(a))
	}
	raw, zone := manyFields(t, 4000)
	short, _ := manyFields(t, 1000)
	c, d := fastest(func() { verifyBytes(t, raw, zone, 1) }), fastest(func() { verifyBytes(t, short, zone, 1) })
	t.Logf("4,000 fields named in h=: %v, 1,000: %v", c, d)
	if c > 8*d && c > 2*time.Millisecond {
		t.Errorf("4,000 fields take %v, 1,000 %v: that is quadratic", c, d)
	}
}
