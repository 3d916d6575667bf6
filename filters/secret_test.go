package filters_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"postern/filters"
)

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	t.Setenv("A_SECRET", "from env")
	for name, text := range map[string]string{"good": "from file\r\n", "empty": "\n", "huge": strings.Repeat("x", 65<<10)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ text, value, fails string }{
		{`s = { file = "` + filepath.Join(dir, "good") + `" }`, "from file", ""},
		{`s = { credential = "good" }`, "from file", ""},
		{`s = { env = "A_SECRET" }`, "from env", ""},
		{`s = { env = "NO_SUCH_SECRET" }`, "", "the environment has no"},
		{`s = { credential = "../good" }`, "", "no credential"},
		{`s = { file = "` + filepath.Join(dir, "absent") + `" }`, "", "no such file"},
		{`s = { file = "` + filepath.Join(dir, "empty") + `" }`, "", "is empty"},
		{`s = { file = "` + filepath.Join(dir, "huge") + `" }`, "", "more than"},
		{`s = "in plain text"`, "", "does not belong"},
		{`s = { file = "a", env = "b" }`, "", "does not belong"},
		{`s = { path = "a" }`, "", "does not belong"},
		{`s = { file = 1 }`, "", "does not belong"},
		{`s = {}`, "", "does not belong"},
	} {
		var v struct {
			S filters.Secret `toml:"s"`
		}
		_, err := toml.Decode(test.text, &v)
		var value []byte
		if err == nil {
			value, err = v.S.Read()
		}
		if string(value) != test.value || (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
			t.Errorf("%s: %q, %v", test.text, value, err)
		}
		if text := fmt.Sprint(v.S, v.S.LogValue()); strings.Contains(text, "good") || strings.Contains(text, "A_SECRET") {
			t.Errorf("%s prints as %s", test.text, text)
		}
	}
	if text, err := (filters.Secret{}).MarshalText(); string(text) != "" || err != nil || !(filters.Secret{}).IsZero() {
		t.Errorf("%q, %v", text, err)
	}
}

func TestExposed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := func(key, value string) (s filters.Secret) {
		if err := s.UnmarshalTOML(map[string]any{key: value}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, c := range []struct {
		mode    os.FileMode
		exposed bool
	}{{0o600, false}, {0o400, false}, {0o640, false}, {0o644, true}, {0o660, true}, {0o606, true}} {
		if err := os.Chmod(name, c.mode); err != nil {
			t.Fatal(err)
		}
		err := secret("file", name).Exposed()
		if (err != nil) != c.exposed || err != nil && !strings.Contains(err.Error(), "chmod 600 "+name) {
			t.Errorf("%04o: %v", c.mode, err)
		}
	}
	if err := secret("env", "X").Exposed(); err != nil {
		t.Error(err)
	}
	if err := secret("file", name+".absent").Exposed(); err == nil {
		t.Error("no error for a file that is not there")
	}
}
