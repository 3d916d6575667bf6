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
