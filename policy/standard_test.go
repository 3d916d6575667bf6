package policy_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"postern/filters/standard"
	"postern/policy"
)

func standardOptions() policy.LoadOptions {
	return policy.LoadOptions{
		Filters:  standard.Filters,
		Hostname: "mx1.example.org",
		ReadFile: func(name string) ([]byte, error) {
			if filepath.Ext(name) == ".txt" {
				return []byte("news@letter.example\n"), nil
			}
			return nil, errors.New("no such file")
		},
		Getenv: func(string) string { return "secret" },
	}
}

// TestShipped: the shipped rules fit the filters that are built in, all of
// them.
func TestShipped(t *testing.T) {
	p, err := policy.Load("p.toml", []byte(policy.Init("example.org", "10.0.5.10:25", false)), standardOptions())
	if err != nil {
		t.Fatal(err)
	}
	if p.Rules() != 12 {
		t.Errorf("%d shipped rules, want 12", p.Rules())
	}
	for _, s := range p.Sentences("en") {
		t.Log(s.Text)
	}
}

func TestInitWithStandardFilters(t *testing.T) {
	for _, full := range []bool{false, true} {
		p, err := policy.Load("p.toml", []byte(policy.Init("example.org", "10.0.5.10:25", full)), standardOptions())
		if err != nil {
			t.Fatalf("full %v:\n%v", full, err)
		}
		if p.Mode != policy.Watch || p.Rules() != 12 || p.Shipped == full {
			t.Errorf("full %v: mode %s, %d rules, shipped %v", full, p.Mode, p.Rules(), p.Shipped)
		}
	}
}

// TestRepositoryPolicies loads every policy that the repository carries.
func TestRepositoryPolicies(t *testing.T) {
	for _, file := range []string{"../testdata/bench/relay.toml", "../testdata/bench/spool.toml", "../testdata/exam/policy.toml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Load(file, text, standardOptions()); err != nil {
			t.Errorf("%s:\n%v", file, err)
		}
	}
}
