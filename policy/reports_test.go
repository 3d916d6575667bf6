package policy

import (
	"strings"
	"testing"

	"postern/filters/standard"
)

// TestReportSettings: wrong settings of DMARC reports are told at their line.
func TestReportSettings(t *testing.T) {
	for settings, want := range map[string]string{
		`reports = "dialy"`:                   `policy.toml:9:11: filter.dmarc.reports: "dialy" is not "off" or "daily"`,
		`report_form = "a@example.org"`:       `policy.toml:9:1: unknown key "report_form" in filter.dmarc`,
		`report_from = "nobody"`:              `policy.toml:9:15: report_from: "nobody" is not a mail address`,
		`report_from = "a@elsewhere.example"`: `policy.toml:9:15: report_from: elsewhere.example is not one of the domains of [site]`,
		`report_own = "yes"`:                  `policy.toml:9:14: filter.dmarc.report_own must be true or false`,
		`report_keep = "15w"`:                 `policy.toml:9:15: report_keep: 105d is not from 2d to 90d`,
		`report_org = "a\nb"`:                 `policy.toml:9:14: report_org: it must be one line of at most 200 bytes`,
		`report_from = "a@mx.example.org"`:    "",
	} {
		text := "version = 1\n[site]\ndomains = [\"example.org\"]\n[[upstream]]\nname = \"mail\"\nto = [\"10.0.5.10:25\"]\nfor = [\"*\"]\n[filter.dmarc]\n" + settings + "\n"
		_, err := Load("policy.toml", []byte(text), LoadOptions{Filters: standard.Filters})
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", settings, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v", settings, err)
		}
	}
}

// TestAsks: which rules are about what a filter has found, and which only count
// it among others.
func TestAsks(t *testing.T) {
	text := `version = 1
[site]
domains = ["example.org"]
[[upstream]]
name = "mail"
to = ["10.0.5.10:25"]
for = ["*"]
[[rule]]
name = "virus"
match = { virus = true }
action = "quarantine"
[[rule]]
name = "dmarc"
match = { dmarc = "fail", size_over = "1KB" }
action = "reject"
[[rule]]
name = "symbol"
match = { symbol = "DMARC_FAIL" }
action = "reject"
[[rule]]
name = "score"
match = { score_at_least = 5.0 }
except = { dmarc = "pass" }
action = "reject"
`
	p, err := Load("policy.toml", []byte(text), LoadOptions{Filters: standard.Filters})
	if err != nil {
		t.Fatal(err)
	}
	for rule, want := range map[string]bool{"virus": false, "dmarc": true, "symbol": true, "score": false, DefaultRule: false} {
		if p.Asks(rule, "dmarc") != want {
			t.Errorf("%s: %v", rule, !want)
		}
	}
	if p.Asks("dmarc", "nofilter") {
		t.Error("a filter that is not there")
	}
}
