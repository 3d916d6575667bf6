package policy

import "log/slog"

// Secret is a value that prints as <secret>: { credential = }, { file = },
// { env = } or, with a warning, a plain string.
type Secret struct{ value string }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return s.value }

// String never shows the secret.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return "<secret>"
}

// GoString never shows the secret either: it is what %#v prints.
func (s Secret) GoString() string { return s.String() }

// MarshalText writes what String says: JSON and TOML do not show the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue keeps the secret out of the log.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
