package filters

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// A Secret is a setting that does not stand in the policy file:
// { file = "/path" }, { credential = "name" } of systemd, or { env = "NAME" }. It
// says where the value is; Read gets it. A value in plain text is refused.
type Secret struct {
	file, credential, env string
}

// errSecret says how a secret is written.
var errSecret = errors.New(`write { file = "/path" }, { credential = "name" } or { env = "NAME" }: the value itself does not belong into the policy`)

// maxSecret is how long a secret can be.
const maxSecret = 64 << 10

// UnmarshalTOML reads one of the three forms.
func (s *Secret) UnmarshalTOML(v any) error {
	table, ok := v.(map[string]any)
	if !ok || len(table) != 1 {
		return errSecret
	}
	*s = Secret{}
	for key, value := range table {
		text, ok := value.(string)
		if !ok || text == "" {
			return errSecret
		}
		switch key {
		case "file":
			s.file = text
		case "credential":
			s.credential = text
		case "env":
			s.env = text
		default:
			return errSecret
		}
	}
	return nil
}

// IsZero reports whether the setting is not there.
func (s Secret) IsZero() bool { return s == Secret{} }

// String hides even where the value is.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return "<secret>"
}

// MarshalText writes what String does.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue writes what String does.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Read returns the value, without a line end at its end. It is for Open, not for
// Validate: the file need not be there where a policy is checked.
func (s Secret) Read() ([]byte, error) {
	name := s.file
	switch {
	case s.env != "":
		value := os.Getenv(s.env)
		if value == "" {
			return nil, fmt.Errorf("read secret: the environment has no %s", s.env)
		}
		return []byte(value), nil
	case s.credential != "":
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" || s.credential != filepath.Base(s.credential) {
			return nil, fmt.Errorf("read secret: systemd passes no credential %q", s.credential)
		}
		name = filepath.Join(dir, s.credential)
	}
	info, err := os.Stat(name)
	if err == nil && info.Size() > maxSecret {
		err = fmt.Errorf("%s has more than %d bytes", name, maxSecret)
	}
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	value, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	text := strings.TrimRight(string(value), "\r\n")
	if text == "" {
		return nil, fmt.Errorf("read secret: %s is empty", name)
	}
	return []byte(text), nil
}

// Exposed returns an error if the secret is in a file that others may read.
func (s Secret) Exposed() error {
	if s.file == "" {
		return nil
	}
	return Exposed(s.file)
}

// Exposed returns an error if a file can be read by others than its owner and
// group, or written by others than its owner.
func Exposed(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("look at a secret: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return fmt.Errorf("%s has mode %04o: others than its owner may use it; run: chmod 600 %s", name, mode, name)
	}
	return nil
}
