package headers

import (
	"strings"

	"postern/mail"
)

// maxLine is how long a line of a header should be (RFC 5322 section 2.1.1).
const maxLine = 78

// tagSubject puts prefix before the subject. A message may have several Subject
// fields: clients show one or another, so each is tagged.
func tagSubject(m *mail.Message, e *mail.Editor, prefix string) {
	all := m.Header().All("Subject")
	if len(all) == 0 {
		e.Prepend(mail.FoldField("Subject", strings.TrimSpace(prefix)))
	}
	for _, f := range all {
		if !tagged(f.Decoded(), prefix) {
			raw := withPrefix(string(f.Raw()), prefix)
			if odd(raw) {
				raw = mail.FoldField("Subject", prefix+f.Decoded())
			}
			e.Replace(f, raw)
		}
	}
}

// odd reports whether a raw field is written so that it cannot be kept: with
// stray CR, LF or NUL, or with a blank continuation line.
func odd(raw string) bool {
	for line := range strings.SplitSeq(strings.TrimSuffix(raw, "\r\n"), "\r\n") {
		if strings.ContainsAny(line, "\r\n\x00") || strings.TrimSpace(line) == "" {
			return true
		}
	}
	return false
}

// tagged reports whether the subject begins with prefix, be it after the marks
// of replies and forwards. A prefix further on does not count: it may be out of
// sight.
func tagged(subject, prefix string) bool {
	prefix = strings.ToLower(strings.TrimSpace(prefix))
	for {
		subject = strings.ToLower(strings.TrimSpace(subject))
		if strings.HasPrefix(subject, prefix) {
			return true
		}
		mark, rest, ok := strings.Cut(subject, ":")
		if !ok || len(mark) > 8 || strings.ContainsAny(strings.TrimSpace(mark), " \t") {
			return false
		}
		subject = rest
	}
}

// withPrefix returns the raw Subject field with prefix before its value, whose
// bytes stay as they are.
func withPrefix(raw, prefix string) string {
	name, value, _ := strings.Cut(raw, ":")
	value = strings.TrimLeft(value, " \t")
	spaced := strings.TrimRight(prefix, " ") != prefix
	prefix = strings.TrimRight(prefix, " ")
	encoded := strings.HasPrefix(strings.TrimLeft(value, " \t\r\n"), "=?")
	if !ascii(prefix) {
		if encoded && spaced {
			// RFC 2047 section 6.2: the space between two encoded words is not
			// shown, so that it must stand in the first.
			prefix += " "
		}
		prefix = mail.EncodeHeader(prefix)
		spaced = true
	}
	head := strings.TrimRight(name, " \t") + ": " + prefix
	first, _, _ := strings.Cut(value, "\n")
	switch {
	case strings.TrimSpace(first) == "":
		return head + strings.TrimLeft(value, " \t") // nothing, or the value begins on its second line
	case len(head)+1+len(strings.TrimRight(first, "\r")) > maxLine:
		return head + "\r\n " + value
	case spaced || encoded:
		return head + " " + value
	}
	return head + value
}

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
