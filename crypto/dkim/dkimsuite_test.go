package dkim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"postern/dns"
)

// A sample is a signed message of a corpus.
type sample struct {
	name    string // corpus/file
	message string
	zone    *table
	options Options
	want    []string // a class for each signature: see class
}

// class maps a result to what the corpora tell apart: "pass", "temp", "perm".
func class(r Result) string {
	switch r.Value {
	case Pass:
		return "pass"
	case TempError:
		return "temp"
	}
	return "perm"
}

// classes returns the class of each result that is of a signature.
func classes(rs []Result) []string {
	var out []string
	for _, r := range rs {
		if r.Domain == "" && r.SigPrefix == "" && strings.HasSuffix(r.Reason, " are") {
			continue // that of those that were not judged
		}
		out = append(out, class(r))
	}
	return out
}

// files returns the files of a corpus that match a pattern.
func files(t testing.TB, corpus, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(corpora(t, corpus), filepath.FromSlash(pattern)))
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: no files %s: %v", corpus, pattern, err)
	}
	return found
}

// chasquidSamples: NN.msg with .dns ("name: record", a backslash continues the
// line) and .result.
func chasquidSamples(t testing.TB) (all []sample) {
	for _, file := range files(t, "dkim/chasquid", "*.msg") {
		base := strings.TrimSuffix(file, ".msg")
		s := sample{name: "chasquid/" + filepath.Base(base), message: crlfLines(readFile(t, file)), zone: newTable()}
		// That verifier judges five signatures and takes l=.
		s.options = Options{Now: suiteTime, MaxSignatures: 5, BodyLength: BodyPartial}
		if records := optional(t, base+".dns"); records != "" {
			for line := range strings.Lines(strings.ReplaceAll(records, "\\\n", " ")) {
				if name, record, ok := strings.Cut(line, ":"); ok {
					s.zone.add(name, strings.TrimSpace(record))
				}
			}
		}
		var result struct{ Results []struct{ State string } }
		if text := optional(t, base+".result"); text != "" {
			if err := json.Unmarshal([]byte(text), &result); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range result.Results {
			s.want = append(s.want, map[string]string{"SUCCESS": "pass", "PERMFAIL": "perm", "TEMPFAIL": "temp"}[r.State])
		}
		all = append(all, s)
	}
	return all
}

// optional reads a file that need not be there.
func optional(t testing.TB, path string) string {
	if m, err := filepath.Glob(path); err != nil || len(m) == 0 {
		return ""
	}
	return readFile(t, path)
}

// stalwartSamples: "name record" lines, an empty line, the message. All hold, at
// the time when they were made.
func stalwartSamples(t testing.TB) (all []sample) {
	for _, file := range files(t, "dkim/stalwart", "dkim/*.txt") {
		records, message, _ := strings.Cut(strings.ReplaceAll(readFile(t, file), "\r\n", "\n"), "\n\n")
		s := sample{name: "stalwart/" + filepath.Base(file), message: crlfLines(message), zone: newTable()}
		s.options.Now = time.Unix(1667843700, 0)
		for line := range strings.Lines(records) {
			if name, record, ok := strings.Cut(line, " "); ok {
				s.zone.add(name, strings.TrimSpace(record))
			}
		}
		for range strings.Count(strings.ToLower("\n"+message), "\ndkim-signature:") {
			s.want = append(s.want, "pass")
		}
		all = append(all, s)
	}
	return all
}

// mailauthSamples: a message with its keys.
func mailauthSamples(t testing.TB) []sample {
	var records map[string]map[string][][]string
	if err := json.Unmarshal([]byte(readFile(t, files(t, "dkim/mailauth", "dkim/ec/fixtures/dns.json")[0])), &records); err != nil {
		t.Fatal(err)
	}
	s := sample{name: "mailauth/signed.eml", zone: newTable(), options: Options{Now: suiteTime}}
	s.message = crlfLines(readFile(t, files(t, "dkim/mailauth", "dkim/ec/fixtures/signed.eml")[0]))
	for name, byType := range records {
		for _, parts := range byType["TXT"] {
			s.zone.add(name, strings.Join(parts, ""))
		}
	}
	for range strings.Count(strings.ToLower("\n"+s.message), "\ndkim-signature:") {
		s.want = append(s.want, "pass")
	}
	return []sample{s}
}

// mimekitSamples: messages of Google and of RFC 8463 with their keys, and two
// without a signature.
func mimekitSamples(t testing.TB) (all []sample) {
	zone := newTable()
	key := readFile(t, files(t, "dkim/mimekit", "gmail.pub")[0])
	key = strings.NewReplacer("-----BEGIN PUBLIC KEY-----", "", "-----END PUBLIC KEY-----", "").Replace(key)
	zone.add("20120113._domainkey.gmail.com", "k=rsa; p="+key) // as it is folded there
	zone.add("brisbane._domainkey.football.example.com", "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	zone.add("test._domainkey.football.example.com", "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB")
	for _, file := range files(t, "dkim/mimekit", "*.msg") {
		s := sample{name: "mimekit/" + filepath.Base(file), message: crlfLines(readFile(t, file)), zone: zone, options: Options{Now: suiteTime}}
		for range strings.Count(strings.ToLower("\n"+s.message), "\ndkim-signature:") {
			s.want = append(s.want, "pass")
		}
		all = append(all, s)
	}
	return all
}

func TestSignedCorpora(t *testing.T) {
	for _, load := range []func(testing.TB) []sample{chasquidSamples, stalwartSamples, mailauthSamples, mimekitSamples} {
		t.Run("", func(t *testing.T) {
			all := load(t)
			right, signatures := 0, 0
			var met []string
			for _, s := range all {
				s.options.Resolver = s.zone
				rs, err := Verify(t.Context(), parse(s.message), s.options)
				if err != nil {
					t.Fatal(err)
				}
				signatures += len(s.want)
				if got := classes(rs); !slices.Equal(got, s.want) {
					t.Errorf("%s: %v, want %v: %+v", s.name, got, s.want, rs)
				} else {
					right++
				}
				met = append(met, crossCheck(t, s, rs)...)
			}
			allMet(t, strings.Split(all[0].name, "/")[0], met)
			t.Logf("%s: %d of %d messages right, %d signatures", strings.Split(all[0].name, "/")[0], right, len(all), signatures)
		})
	}
}

// TestStalwartExpired checks that one of them does not hold any more.
func TestStalwartExpired(t *testing.T) {
	expired := 0
	for _, s := range stalwartSamples(t) {
		rs, err := Verify(t.Context(), parse(s.message), Options{Resolver: s.zone, Now: suiteTime})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if r.Value == PermError && strings.HasPrefix(r.Reason, "it expired") {
				expired++
			} else if r.Value != Pass {
				t.Errorf("%s: %+v", s.name, r)
			}
		}
	}
	if expired != 1 {
		t.Errorf("%d signatures expired, not 1", expired)
	}
}

// perlZone reads the keys of Mail::DKIM's files.
func perlZone(t testing.TB) *table {
	t.Helper()
	zone := newTable()
	for line := range strings.Lines(readFile(t, files(t, "dkim/perl-mail-dkim", "FAKE_DNS.dat")[0])) {
		name, record, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || name[0] == '#' {
			continue
		}
		switch record = strings.TrimSpace(record); {
		case record == "NXDOMAIN":
		case strings.HasPrefix(record, "~~"):
			zone.add(name, "TEMPERROR")
		default:
			zone.add(name, strings.Trim(record, `"`))
		}
	}
	return zone
}

// disputedPerl are the files whose column "today" asks for something else.
var disputedPerl = map[string]string{
	"multiple_2.txt": "its only good signature is rsa-sha1, which RFC 8301 section 3.1 forbids to verify",
}

// TestPerlMailDKIM runs the files of Mail::DKIM. What its column "today" calls
// obsolete (rsa-sha1, 512-bit keys, DomainKeys, signatures from before RFC 4871)
// must not pass; the others come out as Mail::DKIM has them.
func TestPerlMailDKIM(t *testing.T) {
	zone := perlZone(t)
	total, right, obsolete := 0, 0, 0
	var met []string
	for line := range strings.Lines(readFile(t, files(t, "dkim/perl-mail-dkim", "EXPECTED.tsv")[0])) {
		columns := strings.Split(strings.TrimRight(line, "\r\n"), "\t")
		if len(columns) < 4 || columns[0] == "file" {
			continue
		}
		total++
		file, want, today := columns[0], columns[1], columns[3]
		s := sample{name: "perl-mail-dkim/" + file, zone: zone, options: Options{Resolver: zone, Now: suiteTime}}
		s.message = crlfLines(readFile(t, files(t, "dkim/perl-mail-dkim", "corpus/"+file)[0]))
		rs, err := Verify(t.Context(), parse(s.message), s.options)
		if err != nil {
			t.Fatal(err)
		}
		met = append(met, crossCheck(t, s, rs)...)
		passed := slices.ContainsFunc(rs, func(r Result) bool { return r.Value == Pass })
		failed := slices.ContainsFunc(rs, func(r Result) bool { return r.Value == Fail })
		ok := !passed
		switch {
		case today != "applies today as is":
			obsolete++
		case disputedPerl[file] != "":
			t.Logf("disputed: %s: %s", file, disputedPerl[file])
		case want == "pass":
			ok = passed
		case want == "fail":
			ok = failed && !passed
		case want == "invalid":
			ok = !failed && !passed && len(rs) > 0
		}
		if ok {
			right++
		} else {
			t.Errorf("%s (%s; %s): %+v", file, want, today, rs)
		}
	}
	allMet(t, "perl-mail-dkim", met)
	t.Logf("perl-mail-dkim: %d of %d right, %d of them obsolete and refused", right, total, obsolete)
}

// rspamdZone reads the keys of Rspamd's functional tests.
func rspamdZone(t testing.TB) *table {
	t.Helper()
	var records []struct {
		Name, Type, RCode string
		Replies           []string
	}
	if err := json.Unmarshal([]byte(readFile(t, files(t, "dkim/rspamd", "dns.json")[0])), &records); err != nil {
		t.Fatal(err)
	}
	zone := newTable()
	for _, r := range records {
		switch {
		case r.Type != "txt":
		case r.RCode == "timeout" || r.RCode == "servfail":
			zone.add(r.Name, "TEMPERROR")
		default:
			for _, reply := range r.Replies {
				zone.add(r.Name, reply)
			}
		}
	}
	return zone
}

// disputedRspamd are the rows that cannot come out as Rspamd has them.
var disputedRspamd = map[string]string{
	"DKIM Ignore Unknown Tags":                   "the key of taugh.com was in live DNS and is not among the records",
	"DKIM Signatures At Limit Are Still Checked": "the key of taugh.com was in live DNS and is not among the records",
}

// TestRspamd runs the rows of Rspamd's functional tests that say something of
// DKIM and whose message is there.
func TestRspamd(t *testing.T) {
	zone := rspamdZone(t)
	total, right := 0, 0
	for line := range strings.Lines(readFile(t, files(t, "dkim/rspamd", "EXPECTED.tsv")[0])) {
		columns := strings.Split(strings.TrimRight(line, "\r\n"), "\t")
		if len(columns) < 4 || !strings.Contains(columns[3], "R_DKIM_") && !strings.Contains(columns[3], "ARC_INVALID") {
			continue
		}
		start := strings.Index(columns[2], "messages/")
		if start < 0 || !strings.HasPrefix(columns[2], "Scan File") {
			continue // it signs
		}
		file := strings.Fields(columns[2][start:])[0]
		text := optional(t, filepath.Join(corpora(t, "dkim/rspamd"), filepath.FromSlash(file)))
		if text == "" {
			continue // not in the corpus
		}
		total++
		s := sample{name: "rspamd/" + strings.TrimPrefix(file, "messages/"), message: crlfLines(text), zone: zone, options: Options{Resolver: zone, Now: suiteTime}}
		rs, err := Verify(t.Context(), parse(s.message), s.options)
		if err != nil {
			t.Fatal(err)
		}
		arc, err := VerifyARC(t.Context(), parse(s.message), s.options)
		if err != nil {
			t.Fatal(err)
		}
		crossCheck(t, s, rs)
		if wrong := rspamdWrong(columns[3], rs, arc); wrong != "" {
			if reason := disputedRspamd[columns[1]]; reason != "" {
				t.Logf("disputed: %s: %s: %s", columns[1], wrong, reason)
				continue
			}
			t.Errorf("%s (%s): %s: %+v", columns[1], file, wrong, rs)
			continue
		}
		right++
	}
	t.Logf("rspamd: %d of %d rows right", right, total)
}

// rspamdWrong returns the first expectation that does not hold.
func rspamdWrong(expected string, rs []Result, arc ARC) string {
	has := func(values ...string) bool {
		return slices.ContainsFunc(rs, func(r Result) bool { return slices.Contains(values, r.Value) })
	}
	holds := map[string]bool{
		"R_DKIM_ALLOW":    has(Pass),
		"R_DKIM_REJECT":   has(Fail),
		"R_DKIM_PERMFAIL": has(PermError, Neutral, Policy),
		"R_DKIM_TEMPFAIL": has(TempError),
		"R_DKIM_NA":       len(rs) == 0,
		"ARC_INVALID":     arc.Value == Fail,
	}
	for clause := range strings.SplitSeq(expected, ";") {
		words := strings.Fields(clause)
		for _, w := range words {
			if held, known := holds[w]; known && held == (words[0] == "Do") {
				return fmt.Sprintf("%q does not hold", strings.TrimSpace(clause))
			}
		}
	}
	return ""
}

// TestSpamAssassin checks that no signature passes without its key, and that
// the body hash holds of every message that passed when the keys could be had.
func TestSpamAssassin(t *testing.T) {
	found := slices.Concat(files(t, "dkim/spamassassin", "dkim/*.msg"), files(t, "dkim/spamassassin", "nice/dkim/*"))
	hashed := 0
	for _, file := range found {
		m := parse(crlfLines(readFile(t, file)))
		rs, err := Verify(t.Context(), m, Options{Resolver: newTable(), Now: suiteTime})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if r.Value == Pass {
				t.Errorf("%s: %+v", file, r)
			}
		}
		c := contentOf(m)
		for _, place := range c.index.all("dkim-signature") {
			s, flaw := readSignature(dkimSignature, place, c.index.fields[place].Raw())
			if flaw != nil || !strings.HasPrefix(filepath.Base(file), "test-pass") {
				continue
			}
			key := bodyKey{s.body, s.limit}
			sums, err := c.bodies.sum(m, []bodyKey{key})
			if err != nil {
				t.Fatal(err)
			}
			if sum := sums[key].sum; !bytes.Equal(sum[:], s.bodyHash) {
				t.Errorf("%s: the hash of the body differs (c=%s/%s)", filepath.Base(file), s.header, s.body)
			}
			hashed++
		}
	}
	t.Logf("spamassassin: %d messages, %d hashes of bodies right", len(found), hashed)
}

// differences are the signatures that go-msgauth judges otherwise, by the
// message and the place of the signature, with the reason.
var differences = map[string]string{
	"chasquid/02-too_many_headers":           "the limit is five here; it stops with an error at the sixth",
	"chasquid/02-too_many_headers#6":         "the limit is five here; one result stands for the two signatures beyond it",
	"chasquid/07-algo_mismatch#1":            "two key records at one name: it takes none, we the one that suits (RFC 6376 section 6.1.2 allows both)",
	"chasquid/09-limited_body#1":             "it refuses l=; the case asks for partial bodies",
	"chasquid/11-strict_domain_check_fail#1": "it does not look at t=s in the key record (RFC 6376 section 3.6.1)",
	"stalwart/005.txt#1":                     "it has expired today; the case is judged at the time when it was made",
	"perl-mail-dkim/no_body_1.txt":           "it reads no message whose header ends with the file",
}

// crossCheck compares with what go-msgauth makes of the same message. It has no
// clock to set, so that a signature past x= now counts as one for it.
//
// It returns the differences that were met.
func crossCheck(t *testing.T, s sample, rs []Result) (met []string) {
	t.Helper()
	theirs, err := msgauth.VerifyWithOptions(strings.NewReader(s.message), &msgauth.VerifyOptions{
		MaxVerifications: max(s.options.MaxSignatures, DefaultMaxSignatures),
		LookupTXT: func(name string) ([]string, error) {
			a, err := s.zone.TXT(t.Context(), strings.TrimSuffix(name, "."))
			if errors.Is(err, dns.ErrTemporary) {
				return nil, temporary{}
			}
			return a.Records, err
		},
	})
	explained := func(name, format string, args ...any) {
		if reason := differences[name]; reason != "" {
			met = append(met, name)
			t.Logf("differs: %s: %s", name, reason)
			return
		}
		t.Errorf("%s: %s", name, fmt.Sprintf(format, args...))
	}
	switch {
	case err != nil && !errors.Is(err, msgauth.ErrTooManySignatures):
		if len(rs) > 0 {
			explained(s.name, "go-msgauth reads no signature: %v", err)
		}
		return met
	case len(rs) != len(theirs):
		explained(s.name, "%d results here, %d of go-msgauth", len(rs), len(theirs))
	}
	for i, r := range rs[:min(len(rs), len(theirs))] {
		if ours, other := r.Value == Pass, theirs[i].Err == nil; ours != other {
			explained(fmt.Sprintf("%s#%d", s.name, i+1), "%s (%s) here; go-msgauth: %v", r.Value, r.Reason, theirs[i].Err)
		}
	}
	return met
}

// allMet checks that no difference of a corpus is listed that is none any more.
func allMet(t *testing.T, corpus string, met []string) {
	t.Helper()
	for name := range differences {
		if strings.HasPrefix(name, corpus+"/") && !slices.Contains(met, name) {
			t.Errorf("%s: go-msgauth judges as we do: it is no difference any more", name)
		}
	}
}

// temporary is an error that go-msgauth takes for a failure of DNS.
type temporary struct{}

func (temporary) Error() string   { return "try again" }
func (temporary) Temporary() bool { return true }
func (temporary) Timeout() bool   { return false }
