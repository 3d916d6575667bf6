package dkim

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/mail"
)

// suiteTime is when the suites' signatures, which have t= but no x=, are judged.
var suiteTime = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// disputedARC are the cases of the suites that are decided otherwise here, with
// the reason.
var disputedARC = map[string]string{
	"perl-mail-dkim/ams_fields_a_sha1": "RFC 8301 section 3.1: rsa-sha1 is not verified; the two other copies of the suite say so too",
	"perl-mail-dkim/as_fields_a_sha1":  "RFC 8301 section 3.1: rsa-sha1 is not verified; the two other copies of the suite say so too",
	"perl-mail-dkim/ams_fields_c_na":   "RFC 6376 section 3.5: it is made with relaxed/relaxed, which is what no c= means to sealers; the two other copies of the suite say so too",
}

// suiteFiles returns the files of a kind in every copy of the ARC suite: those
// whose names have a part, wherever they lie.
func suiteFiles(t testing.TB, part string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(corpora(t, "arc"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(d.Name(), part) && slices.Contains([]string{".yml", ".yaml", ".json"}, filepath.Ext(path)) {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("no suite was found: %v", err)
	}
	return files
}

// copyOf returns which copy of the suite a file belongs to.
func copyOf(t testing.TB, file string) string {
	rel, err := filepath.Rel(corpora(t, "arc"), file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(filepath.ToSlash(rel), "/")[0]
}

// suiteZone returns the keys of a scenario.
func suiteZone(doc map[string]any) *table {
	z := newTable()
	for name, record := range sub(doc, "txt-records") {
		text, _ := record.(string)
		z.add(name, strings.Join(strings.Fields(text), " "))
	}
	return z
}

func TestARCValidationSuites(t *testing.T) {
	for _, file := range suiteFiles(t, "validation-tests.") {
		total, right, disputed := 0, 0, 0
		for _, doc := range readSuite(t, file) {
			zone := suiteZone(doc)
			tests := sub(doc, "tests")
			for _, name := range slices.Sorted(maps.Keys(tests)) {
				c := sub(tests, name)
				total++
				m := parse(crlfLines(str(c, "message")))
				got, err := VerifyARC(t.Context(), m, Options{Resolver: zone, Now: suiteTime})
				if err != nil {
					t.Fatal(err)
				}
				want := strings.ToLower(strings.TrimSpace(str(c, "cv")))
				if want == "" {
					want = Fail // the message says itself that the chain had failed
				}
				key := copyOf(t, file) + "/" + name
				if reason := disputedARC[key]; reason != "" {
					disputed++
					t.Logf("disputed: %s: %s here, %s there: %s", key, got.Value, want, reason)
					if got.Value == want {
						t.Errorf("%s is not disputed any more", key)
					}
					continue
				}
				if got.Value != want {
					t.Errorf("%s (%s): %s (%s), want %s", key, str(c, "description"), got.Value, got.Reason, want)
					continue
				}
				right++
			}
		}
		t.Logf("%s: %d of %d right, %d disputed", copyOf(t, file)+"/"+filepath.Base(file), right, total, disputed)
		if total < 100 {
			t.Errorf("%s: only %d cases were found", file, total)
		}
	}
}

// suiteKey reads the key of a scenario.
func suiteKey(t testing.TB, doc map[string]any) *rsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode([]byte(str(doc, "privatekey")))
	if block == nil {
		t.Fatal("the suite has no key")
	}
	k, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var comments = regexp.MustCompile(`\([^()]*\)`)

// ownResults merges the Authentication-Results of one server.
func ownResults(m *mail.Message, id string) string {
	merged := ""
	for _, f := range m.Header().All("Authentication-Results") {
		server, rest, _ := strings.Cut(f.Value(), ";")
		if strings.TrimSpace(comments.ReplaceAllString(server, "")) != id {
			continue
		}
		rest = strings.TrimSpace(rest)
		if merged == "" {
			merged = id
		}
		merged += "; " + rest
	}
	return merged
}

// plain returns a text without white space.
func plain(s string) string { return strings.Join(strings.Fields(s), "") }

// fieldBody returns the body of a raw field without white space.
func fieldBody(raw string) string {
	_, body, _ := strings.Cut(raw, ":")
	return plain(body)
}

// unfolded returns a field with b= on one line. The suites' seals are made over
// message signatures that were folded only afterwards, for the file.
func unfolded(field string) string {
	head, rest, ok := strings.Cut(field, " b=")
	b, tail, _ := strings.Cut(rest, ";")
	if !ok {
		return field
	}
	return head + " b=" + plain(b) + ";" + tail
}

// sealOver makes the seal that the suites have: over the message signature of
// fields with b= on one line.
func sealOver(t testing.TB, m *mail.Message, fields []string, previous ARC, s Signer, at time.Time) string {
	t.Helper()
	b, err := contentOf(m).earlier(previous)
	if err != nil {
		t.Fatal(err)
	}
	b = appendWhole(appendWhole(b, []byte(fields[2])), []byte(unfolded(fields[1])))
	d := draft{name: "ARC-Seal"}
	d.add("a=rsa-sha256", "b=", "cv="+previous.Value, "d="+s.Domain, "i="+strconv.Itoa(previous.Highest+1), "s="+s.Selector, "t="+seconds(at))
	seal, err := s.complete(&d, func(raw []byte, from, to int) [32]byte {
		return sha256.Sum256(relaxed.appendField(b, raw, from, to))
	})
	if err != nil {
		t.Fatal(err)
	}
	return seal
}

// stamped matches the chain state that a case wants to be believed. That copy of
// the suite has chains that do not hold but are said to pass.
var stamped = regexp.MustCompile(`; arc=(\w+)`)

// TestARCSigningSuites seals the messages of the suites with their keys and times
// and compares every byte of the sets but white space, signatures included.
func TestARCSigningSuites(t *testing.T) {
	for _, file := range suiteFiles(t, "sign-tests.") {
		total, right := 0, 0
		for _, doc := range readSuite(t, file) {
			zone, key := suiteZone(doc), suiteKey(t, doc)
			tests := sub(doc, "tests")
			for _, name := range slices.Sorted(maps.Keys(tests)) {
				total++
				if sealCase(t, copyOf(t, file)+"/"+name, doc, sub(tests, name), zone, key) {
					right++
				}
			}
		}
		t.Logf("%s/%s: %d of %d right", copyOf(t, file), filepath.Base(file), right, total)
		if total != 17 {
			t.Errorf("%s: %d cases were found, not 17", file, total)
		}
	}
}

// sealCase runs one case of a signing suite.
func sealCase(t *testing.T, name string, doc, c map[string]any, zone *table, key *rsa.PrivateKey) bool {
	m := parse(crlfLines(str(c, "message")))
	previous, err := VerifyARC(t.Context(), m, Options{Resolver: zone, Now: suiteTime})
	if err != nil {
		t.Fatal(err)
	}
	results := ownResults(m, str(c, "srv-id"))
	if word := stamped.FindStringSubmatch(results); word != nil && word[1] != previous.Value {
		t.Logf("%s: the case says that the chain is %s; it is %s: %s", name, word[1], previous.Value, previous.Reason)
		previous.Value = word[1]
	}
	n, err := strconv.ParseInt(strings.TrimSpace(str(c, "t")), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(n, 0)
	s := Signer{Domain: str(doc, "domain"), Selector: str(doc, "sel"), Key: key, Headers: strings.Split(str(c, "sig-headers"), ":")}
	fields, err := SealARC(m, results, previous, s, at)
	switch {
	case err != nil && !errors.Is(err, ErrChain):
		t.Fatal(err)
	case fields == nil:
		fields = []string{"", "", ""}
	default:
		sealed := parse(strings.Join(fields, "") + crlfLines(str(c, "message")))
		again, err := VerifyARC(t.Context(), sealed, Options{Resolver: zone, Now: suiteTime})
		if err != nil {
			t.Fatal(err)
		}
		if previous.Value != Fail && again.Value != Pass && !strings.HasPrefix(name, "perl-mail-dkim/") {
			t.Errorf("%s: our own chain: %s: %s", name, again.Value, again.Reason)
		}
		fields[0] = sealOver(t, m, fields, previous, s, at)
	}
	right := true
	for i, part := range []string{"AS", "AMS", "AAR"} {
		if got, want := fieldBody(fields[i]), plain(str(c, part)); got != want {
			right = false
			t.Errorf("%s (%s; %s before: %s): %s\n got %s\nwant %s", name, str(c, "description"), previous.Value, previous.Reason, part, got, want)
		}
	}
	return right
}
