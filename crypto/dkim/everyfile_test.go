package dkim

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// corpusZone returns the keys of all corpora that come with some.
func corpusZone(t *testing.T) *table {
	t.Helper()
	zone := newTable()
	take := func(z *table) {
		for name, records := range z.records {
			if zone.records[name] == nil {
				zone.records[name] = slices.Clone(records)
			}
		}
	}
	for _, load := range []func(testing.TB) []sample{chasquidSamples, stalwartSamples, mailauthSamples, mimekitSamples} {
		for _, s := range load(t) {
			take(s.zone)
		}
	}
	take(perlZone(t))
	take(rspamdZone(t))
	return zone
}

// TestEveryFile judges every message with a signature that lies anywhere below
// the corpora of DKIM and ARC, whatever its name, and compares with go-msgauth.
// That a message is there is enough: the tests above know what its maker expects.
func TestEveryFile(t *testing.T) {
	zone := corpusZone(t)
	files, signatures, values := 0, 0, map[string]int{}
	for _, root := range []string{"dkim", "arc"} {
		dir := corpora(t, root)
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text := crlfLines(readFile(t, path))
			m := parse(text)
			if len(m.Header().All("DKIM-Signature")) == 0 {
				return nil
			}
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			s := sample{name: strings.TrimSuffix(filepath.ToSlash(name), ".msg"), message: text, zone: zone, options: Options{Resolver: zone, Now: suiteTime}}
			s.name = strings.Replace(s.name, "perl-mail-dkim/corpus/", "perl-mail-dkim/", 1)
			rs, err := Verify(t.Context(), m, s.options)
			if err != nil {
				return err
			}
			files++
			for _, r := range rs {
				signatures++
				values[r.Value]++
			}
			crossCheck(t, s, rs)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var counts []string
	for _, v := range slices.Sorted(maps.Keys(values)) {
		counts = append(counts, fmt.Sprintf("%d %s", values[v], v))
	}
	t.Logf("every file: %d messages, %d signatures: %s", files, signatures, strings.Join(counts, ", "))
	if files < 100 {
		t.Errorf("only %d messages were found", files)
	}
}
