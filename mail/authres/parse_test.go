package authres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/mail"
)

// show writes results on one line.
func show(results []mail.AuthResult) string {
	var all []string
	for _, r := range results {
		text := r.Method + "=" + r.Value
		if r.Reason != "" {
			text += fmt.Sprintf(" reason=%q", r.Reason)
		}
		for _, p := range r.Properties {
			text += " " + p.Type + "." + p.Name + "=" + p.Value
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ body, id, want string }{
		// RFC 8601 appendix B has fields of these forms.
		{"example.org 1; none", "example.org", ""},
		{"example.com;\r\n          spf=pass smtp.mailfrom=example.net", "example.com", "spf=pass smtp.mailfrom=example.net"},
		{"example.com;\r\n\tauth=pass (cram-md5) smtp.auth=sender@example.net;\r\n\tspf=pass smtp.mailfrom=example.net", "example.com",
			"auth=pass smtp.auth=sender@example.net; spf=pass smtp.mailfrom=example.net"},
		{"example.com; iprev=pass policy.iprev=192.0.2.200", "example.com", "iprev=pass policy.iprev=192.0.2.200"},
		{"foo.example.net (foobar) 1 (baz);\r\n dkim (Because I like it) / 1 (One yay) = (wait for it) fail\r\n policy (A dot can go here) . (like that) expired\r\n (this surprised me) = (as I wasn't expecting it) 1362471462",
			"foo.example.net", "dkim=fail policy.expired=1362471462"},
		{"mx; dkim=pass reason=\"good signature\" header.i=@mail-router.example.net", "mx", `dkim=pass reason="good signature" header.i=@mail-router.example.net`},
		{"mx;dkim=pass", "mx", "dkim=pass"},
		{"MX.Example ; DKIM=Pass Header.D=A.example", "MX.Example", "dkim=pass header.d=A.example"},
		{`"mx; dkim=pass"; spf=none`, "mx; dkim=pass", "spf=none"},
		{`mx; spf=fail smtp.mailfrom="x) ; dmarc=pass (y"`, "mx", "spf=fail smtp.mailfrom=x) ; dmarc=pass (y"},
		{`mx; spf=fail smtp.mailfrom="a b"@c.example`, "mx", `spf=fail smtp.mailfrom="a b"@c.example`},
		{`mx; spf=fail (; dkim=pass (nested\) ; dmarc=pass) header.d=bank.test) smtp.helo=a`, "mx", "spf=fail smtp.helo=a"},
		{"mx; x=y a.b=o'neil!#/$@c.example a.c=\"\"", "mx", "x=y a.b=o'neil!#/$@c.example a.c="},
		{"mx; x=y a.b=été@é", "", "!"},
		{"mx; x=y a.b=été@c.example", "mx", "x=y a.b=été@c.example"},
		{"mx; NONE (nothing was done)", "mx", ""},
		{"mx; none; spf=pass", "", "!"},
		{"mx; spf=pass; none", "", "!"},
		{"", "", "!"}, {";", "", "!"}, {"mx", "", "!"}, {"mx;", "", "!"}, {"mx; spf", "", "!"}, {"mx; spf=", "", "!"}, {"mx; =pass", "", "!"},
		{"mx spf=pass", "", "!"}, {"mx 2; spf=pass", "", "!2"}, {"mx; spf=pass;", "", "!"}, {"mx; spf=pass smtp", "", "!"},
		{"mx; spf=pass smtp.mailfrom", "", "!"}, {"mx; spf=pass smtp.mailfrom=", "", "!"}, {"mx; spf=pass smtp.=x", "", "!"},
		{"mx; dkim=pass header.b=abc/def", "", "!"}, {"mx; dmarc=pass action=none", "", "!"}, {"mx; spf=pass reason=a reason=b", "", "!"},
		{"mx; spf=pass smtp.helo=x reason=b", "", "!"}, {"mx; spf/=pass", "", "!"}, {"mx; spf=pass(", "", "!"}, {"mx (a; spf=pass", "", "!"},
		{"mx; spf=pass smtp.helo=\"x", "", "!"}, {"mx; spf=pass smtp.helo=\"x\x00\"", "", "!"}, {"mx; spf=pass\r\nX: y", "", "!"}, {"mx; spf=pass\n smtp.helo=x", "", "!"},
		{"mx; spf=pass smtp.helo=\"\xff\"", "", "!"}, {"mx; spf=pass (\x1b)", "", "!"}, {"mx; spf=pass\r\n", "mx", "spf=pass"}, {"mx; sp_f=pass", "", "!"},
		{"mx; spf=pass smtp.mailfrom=<a@b>", "", "!"}, {"mx; spf=pass smtp.mailfrom=a..b@c", "", "!"}, {`mx; x=y a.b="q"@`, "", "!"}, {"mx; x=y a.b=\"1\\", "", "!"},
	} {
		id, results, err := Parse(c.body)
		if strings.HasPrefix(c.want, "!") {
			want := ErrSyntax
			if c.want == "!2" {
				want = ErrVersion
			}
			if !errors.Is(err, want) || id != "" || results != nil {
				t.Errorf("%q: %q, %s, %v", c.body, id, show(results), err)
			}
			continue
		}
		if err != nil || id != c.id || show(results) != c.want {
			t.Errorf("%q: %q, %s, %v", c.body, id, show(results), err)
		}
		if _, again, err := Read(c.body); err != nil || show(again) != c.want {
			t.Errorf("%q: Read: %s, %v", c.body, show(again), err)
		}
	}
	if _, _, err := Parse(strings.Repeat("x", maxBody+1)); !errors.Is(err, ErrSyntax) {
		t.Errorf("a very long field: %v", err)
	}
}

func TestRead(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{"mx.microsoft.example 1; spf=pass smtp.mailfrom=a.example; dmarc=pass action=none header.from=a.example; dkim=pass header.d=a.example; arc=none",
			"spf=pass smtp.mailfrom=a.example; dmarc=pass header.from=a.example; dkim=pass header.d=a.example; arc=none"},
		{"mx; dkim=pass header.b=abc/d=;", "dkim=pass header.b=abc/d="},
		{"mx; compauth=fail reason=001", "compauth=fail reason=\"001\""},
		{"mx; spf=pass smtp.mailfrom=<a@b>", "spf=pass smtp.mailfrom=<a@b>"},
		{"mx", ""},
		{"mx; x=y (; dmarc=pass header.from=bank.test)", "x=y"},
		{"mx; x=y action=\"; dmarc=pass\"", "x=y"},
	} {
		if _, results, err := Read(c.body); err != nil || show(results) != c.want {
			t.Errorf("%q: %s, %v", c.body, show(results), err)
		}
	}
	for _, bad := range []string{"mx; spf=pass smtp.mailfrom=", "mx; x=y (", "mx; x=y a.b=\"", "mx; ;", "mx; x=y z", "mx; x=y \\"} {
		if id, results, err := Read(bad); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %q, %s, %v", bad, id, show(results), err)
		}
	}
}

func TestForged(t *testing.T) {
	const own = "gw.victim.test"
	for _, c := range []struct {
		raw  string
		want bool
	}{
		{"Authentication-Results: gw.victim.test; dmarc=pass", true},
		{"AUTHENTICATION-RESULTS: (c) GW.Victim.Test (v) 1; dmarc=pass", true},
		{"Authentication-Re\u017fults: gw.victim.test; dmarc=pass", true}, // folds to an s
		{"Authentication-Results : gw.victim.test; dmarc=pass", true},
		{"Authentication-Results: \"gw.victim.test\"; dmarc=pass", true},
		{"Authentication-Results: \"gw\\.victim.test\"; dmarc=pass", true},
		{"Authentication-Results:\r\n gw.victim.test.\r\n ; dmarc=pass", true},
		{"Authentication-Results: (a (nested\\) ;) one) gw.victim.test; dmarc=pass", true},
		{"Authentication-Results: other.test (gw.victim.test); dmarc=pass", true},
		{"Authentication-Results: =?utf-8?q?gw=2Evictim.test?=; dmarc=pass", true},
		{"Authentication-Results: gw.victim.test/1; dmarc=pass", true},
		{"Authentication-Results: gw.victim.test dmarc=pass", true},
		{"Authentication-Results: other.test gw.victim.test; dmarc=pass", true},
		{"Authentication-Results: gw.victim.\r\n test; dmarc=pass", true},
		{"Authentication-Results: gw . victim(a (b;))\t. test; dmarc=pass", true},
		{"Authentication-Results: \"gw\".victim.test; dmarc=pass", true},
		{"Authentication-Results: gw\\.victim.test; dmarc=pass", true},
		{"Authentication-Results: gw.victim.test..; dmarc=pass", true},
		{"Authentication-Results: .gw.victim.test; dmarc=pass", true},
		{"Authentication-Results: (never ends; dmarc=pass", true},
		{"Authentication-Results: ; dmarc=pass", true},
		{"Authentication-Results:", true},
		{"Authentication-Results: other.test; dmarc=pass header.from=gw.victim.test", false},
		{"Authentication-Results: notgw.victim.test; spf=pass", false},
		{"Authentication-Results: gw.victim.test.other.test; spf=pass", false},
		{"Authentication-Results: mx.google.example; dkim=pass header.i=@a.example", false},
		{"ARC-Authentication-Results: i=1; gw.victim.test; dmarc=pass", false},
		{"X-Authentication-Results: gw.victim.test; dmarc=pass", false},
	} {
		m := mail.ParseBytes([]byte(c.raw+"\r\n\r\n"), mail.Options{})
		fields := m.Header().Fields()
		if len(fields) != 1 || Forged(fields[0], "mx.example.org", own) != c.want {
			t.Errorf("%q: %d fields, want %v", c.raw, len(fields), c.want)
		}
	}
}

// TestCorpora reads every Authentication-Results field of the corpora's
// messages.
func TestCorpora(t *testing.T) {
	root := os.Getenv("POSTERN_CORPORA")
	if root == "" {
		t.Skip("POSTERN_CORPORA is not set")
	}
	total, strict, read := 0, 0, 0
	err := filepath.WalkDir(filepath.Join(root, "mime"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".eml") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, f := range mail.ParseBytes(text, mail.Options{}).Header().All(fieldName) {
			total++
			if _, _, err := Parse(f.Value()); err == nil {
				strict++
			}
			if _, _, err := Read(f.Value()); err == nil {
				read++
			} else {
				t.Logf("%s: %v: %.200q", filepath.Base(path), err, f.Value())
			}
		}
		return nil
	})
	t.Logf("%d fields: %d read strictly, %d read", total, strict, read)
	if err != nil || total == 0 || strict*2 < total || read*100 < total*85 {
		t.Errorf("%d fields: only %d read strictly, only %d read: %v", total, strict, read, err)
	}
}

// FuzzParse checks that reading ends, that what is read strictly is read
// tolerantly too, and that what is written of it says the same.
func FuzzParse(f *testing.F) {
	f.Add("mx 1; spf=pass (c) reason=\"r\" smtp.mailfrom=a@b.example; dkim=none")
	f.Add("mx; none")
	f.Add("mx; x/1=y a.b=\"q\"@c.d action=none;")
	f.Fuzz(func(t *testing.T, body string) {
		claims(body, "mx.example.org")
		_, results, err := Parse(body)
		_, more, errRead := Read(body)
		if err != nil {
			return
		}
		if errRead != nil || show(more) != show(results) {
			t.Fatalf("%q: Parse: %s, Read: %s, %v", body, show(results), show(more), errRead)
		}
		if _, again, err := Parse(Format("mx", results)); err != nil || len(again) != len(results) {
			t.Fatalf("%q: written and read again: %s, %v", body, show(again), err)
		}
	})
}
