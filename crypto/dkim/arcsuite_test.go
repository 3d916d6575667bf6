package dkim

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
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

// suiteFiles returns the YAML files of a kind in every copy of the ARC suite.
func suiteFiles(t testing.TB, name string) []string {
	t.Helper()
	dir := corpora(t, "arc")
	var files []string
	for _, pattern := range []string{"*/" + name, "*/*/" + name} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Skip("no suite in " + dir)
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
	for _, file := range suiteFiles(t, "arc-draft-validation-tests.yml") {
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
		t.Logf("%s: %d of %d right, %d disputed", copyOf(t, file), right, total, disputed)
		if total < 100 {
			t.Errorf("%s: only %d cases were found", file, total)
		}
	}
}
