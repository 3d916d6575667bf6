package spf

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/dns"
)

// rspamdDiffers are the scenarios of Rspamd's SPF tests that have another answer
// here, with the reason.
var rspamdDiffers = map[string]string{
	"SPF FAIL UNRESOLVEABLE INCLUDE":  "an included domain without a record is a permerror (RFC 7208 section 5.2)",
	"SPF ALLOW DNS REQUESTS AT LIMIT": "the limit there is a setting of Rspamd; ten is that of RFC 7208 section 4.6.4",
}

// TestRspamd runs Rspamd's SPF scenarios, which lie with its messages.
func TestRspamd(t *testing.T) {
	root := os.Getenv("POSTERN_CORPORA")
	if root == "" {
		t.Skip("POSTERN_CORPORA is not set")
	}
	dir := filepath.Join(root, "dkim", "rspamd")
	table, err := os.ReadFile(filepath.Join(dir, "EXPECTED.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	zone := rspamdZone(t, filepath.Join(dir, "dns.json"))
	ran, differ := 0, 0
	for line := range strings.Lines(string(table)) {
		cells := strings.Split(strings.TrimSpace(line), "\t")
		if len(cells) != 4 || !strings.HasSuffix(cells[0], "117_spf.robot") || strings.Contains(cells[2], "DMARC_CHECK") || !strings.Contains(cells[2], "SPF_CHECK") {
			continue
		}
		q := Query{Addr: netip.MustParseAddr("127.0.0.1"), MaxVoid: 2}
		for word := range strings.SplitSeq(cells[2], " | ") {
			switch key, value, _ := strings.Cut(word, "="); key {
			case "IP":
				q.Addr = netip.MustParseAddr(value)
			case "Helo":
				q.Helo = value
			case "From":
				at := strings.LastIndexByte(value, '@')
				q.Local, q.Domain = value[:max(at, 0)], value[at+1:]
			}
		}
		if q.Domain == "<>" {
			q.Domain = q.Helo
		}
		var want []string
		for part := range strings.SplitSeq(cells[3], " ; ") {
			want = append(want, rspamdResults[strings.TrimPrefix(part, "Expect Symbol ")]...)
		}
		if len(want) == 0 {
			continue
		}
		a := Check(t.Context(), zone, q)
		ran++
		right := slices.Contains(want, a.Result)
		switch why := rspamdDiffers[cells[1]]; {
		case !right && why == "":
			t.Errorf("%s: %+v, want %s", cells[1], a, want)
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

// rspamdResults are the results that Rspamd's symbols stand for.
var rspamdResults = map[string][]string{
	"R_SPF_ALLOW": {Pass}, "R_SPF_PLUSALL": {Pass}, "R_SPF_FAIL": {Fail}, "R_SPF_SOFTFAIL": {SoftFail}, "R_SPF_NEUTRAL": {Neutral},
	"R_SPF_NA": {None}, "R_SPF_DNSFAIL": {TempError}, "R_SPF_PERMFAIL": {PermError},
}

// rspamdZone reads the DNS records of Rspamd's tests.
func rspamdZone(t *testing.T, path string) suiteZone {
	t.Helper()
	text, err := os.ReadFile(path)
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
	z := suiteZone{}
	for _, r := range records {
		name := key(r.Name)
		if r.Rcode == "nxdomain" {
			continue
		}
		if z[name] == nil {
			z[name] = &suiteName{}
		}
		n := z[name]
		switch r.Type {
		case "a":
			n.a = append(n.a, r.Replies...)
		case "aaaa":
			n.aaaa = append(n.aaaa, r.Replies...)
		case "txt":
			n.txt = append(n.txt, r.Replies...)
		case "mx":
			for _, mx := range r.Replies {
				n.mx = append(n.mx, dns.MX{Host: mx[strings.LastIndexByte(mx, ' ')+1:]})
			}
		}
		n.fails = n.fails || r.Rcode == "timeout" || r.Rcode == "servfail"
	}
	return z
}
