package policy

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/mail"
)

var update = flag.Bool("update", false, "write the golden files")

// TestBad loads each policy in testdata/bad, all of which are wrong, and
// compares everything that is said about it with the .txt file beside it.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad policies: %v", err)
	}
	o := exampleOptions()
	read := o.ReadFile
	o.ReadFile = func(name string) ([]byte, error) {
		if filepath.Base(name) == "bad.txt" {
			return []byte("good.example\n# comment\n  wrong entry # why\nalso@@wrong"), nil
		}
		return read(name)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".toml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load("policy.toml", text, o)
			var ps Problems
			if !errors.As(err, &ps) {
				t.Fatalf("got %v, want problems", err)
			}
			golden := strings.TrimSuffix(file, ".toml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(ps.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), ps.Error()+"\n"); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSmallest(t *testing.T) {
	p := load(t, "")
	if len(p.Listeners) != 1 {
		t.Fatalf("%d listeners", len(p.Listeners))
	}
	l := p.Listeners[0]
	if l.Name != "internet" || l.Address != ":25" || l.Role != mail.RoleInbound || l.TLS != "optional" || !l.RequireTLS ||
		l.Limits.Message != 50<<20 || l.Limits.Rcpts != 1000 || time.Duration(l.Limits.Command) != 5*time.Minute || l.Protocol != "smtp" {
		t.Errorf("listener %+v", l)
	}
	if p.Site.Admin != "postmaster@example.org" || p.Site.Language != "en" {
		t.Errorf("site %+v", p.Site)
	}
	u, ok := p.UpstreamFor("internet", path0("a@example.org"))
	if !ok || u.TLS != "opportunistic" || time.Duration(u.Timeout) != 5*time.Minute || u.Recipients.Check != "none" {
		t.Errorf("upstream %+v", u)
	}
	if len(p.Queue.Retry) != 5 || time.Duration(p.Queue.Expire) != 5*24*time.Hour || p.Queue.MixedReject != "quarantine" {
		t.Errorf("queue %+v", p.Queue)
	}
	if p.Quarantine.Queue["spam"].Keep != p.Quarantine.Keep || !p.Quarantine.Encrypt || p.Quarantine.MaxSize != 20<<30 {
		t.Errorf("quarantine %+v", p.Quarantine)
	}
	if p.Storage.State != "/var/lib/postern" || time.Duration(p.Audit.Keep) != 365*24*time.Hour || p.Log.Format != "logfmt" || p.Mode != Enforce {
		t.Errorf("storage %+v, audit %+v, log %+v", p.Storage, p.Audit, p.Log)
	}
	if !p.Shipped || len(p.rules) == 0 || len(p.Hash) != 64 || len(p.ShortHash()) != 12 {
		t.Errorf("shipped %v, %d rules, hash %q", p.Shipped, len(p.rules), p.Hash)
	}
}

func TestHash(t *testing.T) {
	text := []byte(fakeHead + "[list]\na = { file = \"a.txt\" }\n[[rule]]\nname = \"r\"\nmatch = { from = \"list:a\" }\naction = \"discard\"\n")
	o := fakeOptions()
	list := "a.example\n"
	o.ReadFile = func(string) ([]byte, error) { return []byte(list), nil }
	one, err := Load("/etc/postern/p.toml", text, o)
	if err != nil {
		t.Fatal(err)
	}
	same, _ := Load("/etc/postern/p.toml", text, o)
	list = "b.example\n"
	other, _ := Load("/etc/postern/p.toml", text, o)
	if one.Hash != same.Hash || one.Hash == other.Hash {
		t.Errorf("hashes %s %s %s", one.Hash, same.Hash, other.Hash)
	}
	if diff := cmp.Diff([]string{"/etc/postern/a.txt"}, one.Files); diff != "" {
		t.Error(diff)
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pw"), []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := fakeOptions()
	o.ReadFile = os.ReadFile
	o.Getenv = func(name string) string {
		return map[string]string{"CREDENTIALS_DIRECTORY": dir, "PW": "from-env"}[name]
	}
	for value, want := range map[string]string{`{ credential = "pw" }`: "from-file", `{ file = "pw" }`: "from-file", `{ env = "PW" }`: "from-env", `"plain"`: "plain"} {
		p, err := Load(filepath.Join(dir, "p.toml"), []byte(strings.Replace(fakeHead, "to =", "user = \"u\"\npassword = "+value+"\nto =", 1)), o)
		if err != nil {
			t.Errorf("%s: %v", value, err)
			continue
		}
		s := p.Upstreams[0].Password
		if s.Reveal() != want || s.String() != "<secret>" || s.GoString() != "<secret>" || s.LogValue().String() != "<secret>" {
			t.Errorf("%s: %q shows as %v", value, s.Reveal(), s)
		}
		if plain := value == `"plain"`; plain != strings.Contains(p.Warnings.Error(), "plain text") {
			t.Errorf("%s: warnings %v", value, p.Warnings)
		}
	}
}

func TestWarnings(t *testing.T) {
	p := load(t, "[list]\nunused = [\"a.example\"]\n[[rule]]\nname = \"r\"\nmatch = { to = \"x@example.org\", subject = [\"*invoice*\", \"***SPAM***\", \"a * b\"] }\naction = \"discard\"\n")
	got := ""
	for _, w := range p.Warnings {
		got += w.String() + "\n"
	}
	want := `p.toml: warning: filter virus: no engine is configured (the policy has no table [filter.virus])
p.toml:10:1: warning: list "unused" is not used
p.toml:11:3: warning: no rule holds or refuses malware: add one with match = { virus = true }
p.toml:13:44: warning: match.subject: "*invoice*" is looked for as it stands, with its *: a subject matches that contains the text
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadFileMissing(t *testing.T) {
	if _, err := LoadFile(filepath.Join(t.TempDir(), "no.toml"), LoadOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
