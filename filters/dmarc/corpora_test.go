package dmarc_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/crypto/dkim"
	"postern/dns"
	"postern/filters"
	"postern/filters/dmarc"
	"postern/filters/filterstest"
	"postern/filters/spf"
	"postern/mail"
)

// A sending is one message as it arrives.
type sending struct {
	message    []byte
	client     string
	helo, from string
	settings   string // of the spf filter
}

// run runs SPF, DKIM and DMARC and returns what DMARC says.
func run(t *testing.T, r dns.Resolver, s sending) filters.Verdict {
	t.Helper()
	tx := filterstest.Transaction(mail.ParseBytes(s.message, mail.Options{}))
	tx.Session.Client, tx.Session.Helo = netip.AddrPortFrom(netip.MustParseAddr(s.client), 25), s.helo
	if path, err := mail.ParsePath(s.from, true); err == nil {
		tx.ReversePath = path
	} else if at := strings.LastIndexByte(s.from, '@'); at > 0 {
		tx.ReversePath = mail.Path{Local: s.from[:at], Domain: s.from[at+1:]}
	}
	env := &filters.Env{Resolver: r, Hostname: "gw.victim.test"}
	bySPF := filterstest.Check(t, filterstest.New(t, spf.Filter, filterstest.Options{Env: env, Settings: s.settings}), tx)
	signatures, err := dkim.Verify(t.Context(), tx.Message, dkim.Options{Resolver: r, Now: filterstest.At})
	if err != nil {
		t.Fatal(err)
	}
	var byDKIM filters.Verdict
	for _, sig := range signatures {
		byDKIM.Auth = append(byDKIM.Auth, mail.AuthResult{Method: "dkim", Value: sig.Value, Properties: []mail.Property{{Type: "header", Name: "d", Value: sig.Domain}}})
	}
	return filterstest.Check(t, filterstest.New(t, dmarc.Filter, filterstest.Options{Env: env}), tx,
		filters.Result{Filter: "spf", Verdict: bySPF}, filters.Result{Filter: "dkim", Verdict: byDKIM})
}

// corpus returns a folder of the corpora; without corpora it skips.
func corpus(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("POSTERN_CORPORA")
	if root == "" {
		t.Skip("POSTERN_CORPORA is not set")
	}
	dir := filepath.Join(root, filepath.FromSlash(name))
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func zoneOf(t *testing.T, zone any) *dns.Zone {
	t.Helper()
	text, err := json.Marshal(zone)
	if err != nil {
		t.Fatal(err)
	}
	z, err := dns.ParseZone(text)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestSpamAssassin judges messages whose names tell the policy and the result.
// The zone is what their names promise: the real one is not in the corpus.
func TestSpamAssassin(t *testing.T) {
	dir := corpus(t, "dmarc/spamassassin")
	zone := map[string]any{}
	for n, policy := range map[int]string{1: "p=none", 2: "p=quarantine", 3: "p=reject", 4: "p=reject; aspf=s; adkim=s"} {
		domain := fmt.Sprintf("dmarc%d.spamassassin.org", n)
		zone[domain] = map[string][]string{"TXT": {"v=spf1 ip4:64.142.3.173 -all"}}
		zone["_dmarc."+domain] = map[string][]string{"TXT": {"v=DMARC1; " + policy}}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "dmarc", "*.eml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".eml")
		policy, good := strings.CutSuffix(name, "ok")
		want := []string{"DMARC_PASS"}
		if !good {
			policy = strings.TrimSuffix(name, "ko")
			want[0] = "DMARC_FAIL"
		}
		switch policy {
		case "nodmarc":
			want = []string{"DMARC_NONE"}
		case "quar":
			want = append(want, "DMARC_POLICY_QUARANTINE")
		case "none":
			want = append(want, "DMARC_POLICY_NONE")
		default:
			want = append(want, "DMARC_POLICY_REJECT")
		}
		m := mail.ParseBytes(text, mail.Options{})
		v := run(t, zoneOf(t, zone), sending{
			message: text, client: "198.51.100.1", helo: "relay", from: strings.Trim(m.Header().Get("Return-Path"), "<>"), settings: `trusted_relays = ["198.51.100.1"]`,
		})
		if got := filterstest.Names(v); !slices.Equal(got[:min(len(got), len(want))], want) {
			t.Errorf("%s: %s, want %s: %s", name, got, want, v.Symbols[0].Evidence)
		}
	}
	t.Logf("%d messages", len(files))
}

// rspamdZone reads the DNS records of Rspamd's tests.
func rspamdZone(t *testing.T, dir string) *dns.Zone {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "dns.json"))
	if err != nil {
		t.Fatal(err)
	}
	var records []struct {
		Name, Type, Rcode string
		Replies           []string
	}
	if err := json.Unmarshal(text, &records); err != nil {
		t.Fatal(err)
	}
	zone := map[string]map[string]any{}
	for _, r := range records {
		name := strings.ToLower(r.Name)
		if r.Rcode == "nxdomain" || r.Type == "ptr" || strings.Contains(name, "uribl") {
			continue
		}
		if zone[name] == nil {
			zone[name] = map[string]any{}
		}
		switch {
		case r.Rcode == "timeout" || r.Rcode == "servfail":
			zone[name]["!"] = "timeout"
		case len(r.Replies) > 0:
			zone[name][strings.ToUpper(r.Type)] = r.Replies
		}
	}
	return zoneOf(t, zone)
}

// rspamdDiffers are the scenarios of Rspamd's DMARC tests that have another
// answer here.
var rspamdDiffers = map[string]string{
	"DMARC PCT ZERO REJECT":                      "pct is gone (RFC 9989): reject is reject",
	"DMARC SUBDOMAIN PASS SPF RELAXED ALIGNMENT": "mom.za.org has no record: by the tree walk it is another organisation (RFC 9989 section 4.10.2)",
	"DMARC PCT ZERO SP QUARANTINE":               "pct is gone (RFC 9989): quarantine is quarantine",
}

// TestRspamd runs Rspamd's DMARC scenarios.
func TestRspamd(t *testing.T) {
	dir := corpus(t, "dkim/rspamd")
	zone := rspamdZone(t, dir)
	table, err := os.ReadFile(filepath.Join(dir, "EXPECTED.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	ran, differ := 0, 0
	for line := range strings.Lines(string(table)) {
		cells := strings.Split(strings.TrimSpace(line), "\t")
		if len(cells) != 4 || !strings.HasSuffix(cells[0], "115_dmarc.robot") {
			continue
		}
		words := strings.Split(cells[2], " | ")
		text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(words[1])))
		if err != nil || strings.Contains(cells[2], "Rewrite") {
			continue // not in the corpus
		}
		s := sending{message: text, client: "127.0.0.1", helo: "x", settings: "helo = false"}
		for _, w := range words[2:] {
			if key, value, ok := strings.Cut(w, "="); ok && key == "IP" {
				s.client = value
			} else if ok && key == "From" {
				s.from = value
			}
		}
		v := run(t, zone, s)
		got := strings.Join(filterstest.Names(v), " ")
		ran++
		want := map[string]string{
			"DMARC_POLICY_ALLOW": "DMARC_PASS", "DMARC_POLICY_SOFTFAIL": "DMARC_FAIL DMARC_POLICY_NONE", "DMARC_POLICY_REJECT": "DMARC_FAIL DMARC_POLICY_REJECT",
			"DMARC_POLICY_QUARANTINE": "DMARC_FAIL DMARC_POLICY_QUARANTINE", "DMARC_DNSFAIL": "DMARC_TEMPERROR", "DMARC_NA": "DMARC_",
		}[strings.TrimPrefix(cells[3], "Expect Symbol ")]
		right := want != "" && strings.HasPrefix(got, want)
		switch why := rspamdDiffers[cells[1]]; {
		case !right && why == "":
			t.Errorf("%s: %s, want %s: %s", cells[1], got, cells[3], v.Symbols[0].Evidence)
		case right && why != "":
			t.Errorf("%s is as Rspamd has it: take it off the list", cells[1])
		case !right:
			differ++
		}
	}
	t.Logf("%d scenarios, %d differ", ran, differ)
	if ran == 0 {
		t.Error("no scenario ran")
	}
}

// TestExam judges the messages of the exam's authentication cases: what must not
// be delivered fails with a policy, has no clear author, or is unknown for now.
func TestExam(t *testing.T) {
	dir := os.Getenv("POSTERN_EXAM")
	if dir == "" {
		t.Skip("POSTERN_EXAM is not set")
	}
	zone, err := dns.LoadZone(filepath.Join(dir, "zone.json"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for line := range strings.Lines(string(manifest)) {
		var c struct {
			ID, Kind, Profile, Source, Input string
			MailFrom                         string `json:"mail_from"`
			Expect                           struct {
				Outcome []string
				Want    []string `json:"want_header"`
				Forbid  []string `json:"forbid_header"`
			}
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		if c.Profile != "auth" || c.Kind != "message" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(c.Input)))
		if err != nil {
			t.Fatal(err)
		}
		v := run(t, zone, sending{message: text, client: "127.0.0.66", helo: "client.exam.test", from: c.MailFrom})
		names := filterstest.Names(v)
		stopped := slices.Contains(names, "FROM_INVALID") || names[0] == "DMARC_TEMPERROR" ||
			names[0] == "DMARC_FAIL" && !slices.Contains(names, "DMARC_POLICY_NONE")
		count[names[0]]++
		switch {
		case strings.Contains(strings.Join(c.Expect.Forbid, " "), "dmarc=pass") && names[0] == "DMARC_PASS":
			t.Errorf("%s passes: %s", c.ID, v.Symbols[0].Evidence)
		case strings.Contains(strings.Join(c.Expect.Want, " "), "dmarc=pass") && names[0] != "DMARC_PASS":
			t.Errorf("%s: %s, want a pass: %s", c.ID, names, v.Symbols[0].Evidence)
		case !slices.Contains(c.Expect.Outcome, "delivered") && !stopped:
			t.Errorf("%s: %s: %s", c.ID, names, v.Symbols[0].Evidence)
		}
	}
	if len(count) == 0 {
		t.Error("the exam has no case of authentication")
	}
	for _, name := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%s: %d", name, count[name])
	}
}
