package headers

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"postern/filters"
	"postern/filters/filterstest"
	"postern/mail"
)

func TestConformance(t *testing.T) { filterstest.Run(t, Filter, filterstest.Options{}) }

func TestReadme(t *testing.T) { filterstest.Readme(t, Filter) }

// rewrite performs an action on a message given with LF line ends.
func rewrite(t *testing.T, message string, with any) (*mail.Message, string) {
	t.Helper()
	tx := filterstest.Transaction(filterstest.Message(message, mail.Options{}))
	m, err := (&Checker{}).Rewrite(t.Context(), filters.RewriteInput{Tx: tx, Message: tx.Message, With: with, Rule: "r"})
	if err != nil {
		t.Fatalf("%q: %v", message, err)
	}
	b, err := io.ReadAll(m.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return m, strings.ReplaceAll(string(b), "\r\n", "\n")
}

func TestTagSubject(t *testing.T) {
	const prefix = "[EXTERNE] "
	for _, test := range []struct{ subject, prefix, want, decoded string }{
		{"Subject: hello\n", prefix, "Subject: [EXTERNE] hello\n", "[EXTERNE] hello"},
		{"Subject:hello\n", prefix, "Subject: [EXTERNE] hello\n", "[EXTERNE] hello"},
		{"Subject:\n", prefix, "Subject: [EXTERNE]\n", "[EXTERNE]"},
		{"", prefix, "Subject: [EXTERNE]\n", "[EXTERNE]"},
		{"Subject: [EXTERNE] hello\n", prefix, "Subject: [EXTERNE] hello\n", "[EXTERNE] hello"},
		{"Subject: Re: AW: [externe] hello\n", prefix, "Subject: Re: AW: [externe] hello\n", "Re: AW: [externe] hello"},
		{"Subject: hello [EXTERNE]\n", prefix, "Subject: [EXTERNE] hello [EXTERNE]\n", "[EXTERNE] hello [EXTERNE]"},
		{"Subject: note: it is [EXTERNE]\n", prefix, "Subject: [EXTERNE] note: it is [EXTERNE]\n", "[EXTERNE] note: it is [EXTERNE]"},
		{"Subject: =?utf-8?q?caf=C3=A9?=\n", prefix, "Subject: [EXTERNE] =?utf-8?q?caf=C3=A9?=\n", "[EXTERNE] café"},
		{"Subject: =?utf-8?q?caf=C3=A9?=\n", "[X]", "Subject: [X] =?utf-8?q?caf=C3=A9?=\n", "[X] café"},
		{"Subject: one\n two\n", prefix, "Subject: [EXTERNE] one\n two\n", "[EXTERNE] one two"},
		{"Subject:\n one\n", prefix, "Subject: [EXTERNE]\n one\n", "[EXTERNE] one"},
		{"Subject: " + strings.Repeat("word ", 14) + "end\n", prefix, "Subject: [EXTERNE]\n " + strings.Repeat("word ", 14) + "end\n", "[EXTERNE] " + strings.Repeat("word ", 14) + "end"},
		{"Subject: plain\n", "[ÉTÉ] ", "", "[ÉTÉ] plain"},
		{"Subject: =?utf-8?q?caf=C3=A9?=\n", "[ÉTÉ] ", "", "[ÉTÉ] café"},
		{"Subject: stray\rCR\n", prefix, "", ""},
		{"Subject: a\n \n b\n", prefix, "", ""},
	} {
		m, got := rewrite(t, "From: a@b.example\n"+test.subject+"To: c@d.example\n\nSubject: in the body\n", &Tag{Subject: test.prefix})
		if test.want != "" && !strings.Contains(got, test.want) {
			t.Errorf("%q: %q", test.subject, got)
		}
		if test.decoded != "" && m.Subject() != test.decoded {
			t.Errorf("%q: decoded %q, want %q", test.subject, m.Subject(), test.decoded)
		}
		if !tagged(m.Subject(), test.prefix) || !strings.HasSuffix(got, "To: c@d.example\n\nSubject: in the body\n") {
			t.Errorf("%q: %q", test.subject, got)
		}
		again, _ := rewrite(t, got, &Tag{Subject: test.prefix})
		if again.Subject() != m.Subject() {
			t.Errorf("%q: tagged twice: %q", test.subject, again.Subject())
		}
	}
}

// TestTagAll checks that no Subject field goes untagged: clients show one or
// another.
func TestTagAll(t *testing.T) {
	m, _ := rewrite(t, "Subject: one\nFrom: a@b.example\nSubject: two\n\nx\n", &Tag{Subject: "[X] "})
	for _, f := range m.Header().All("Subject") {
		if !tagged(f.Decoded(), "[X]") {
			t.Errorf("%q", f.Raw())
		}
	}
}

func TestFields(t *testing.T) {
	const message = "X-Spam-Flag: NO\nFrom: a@b.example\nx-spam-flag: maybe\nX-Other: 1\n\nbody\n"
	for _, test := range []struct {
		name string
		with any
		want string
	}{
		{"set", &Tag{Headers: map[string]string{"X-Spam-Flag": "YES", "X-A": "1"}}, "X-A: 1\nX-Spam-Flag: YES\nFrom: a@b.example\nX-Other: 1\n\nbody\n"},
		{"add", &Add{Headers: map[string]string{"X-Spam-Flag": "YES"}}, "X-Spam-Flag: YES\n" + message},
		{"remove", &Remove{Headers: []string{"X-SPAM-FLAG", "X-Absent"}}, "From: a@b.example\nX-Other: 1\n\nbody\n"},
		{"remove twice", &Remove{Headers: []string{"X-Other", "x-other"}}, "X-Spam-Flag: NO\nFrom: a@b.example\nx-spam-flag: maybe\n\nbody\n"},
	} {
		if _, got := rewrite(t, message, test.with); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, bad := range []filters.Validator{
		&Tag{}, &Tag{Subject: "a\r\nBcc: x@y.example"}, &Tag{Subject: strings.Repeat("x", 101)}, &Tag{Headers: map[string]string{"From": "x@y.example"}},
		&Add{}, &Add{Headers: map[string]string{"X Y": "1"}}, &Add{Headers: map[string]string{"X-Y": "a\nb"}}, &Add{Headers: map[string]string{"content-type": "text/html"}},
		&Add{Headers: map[string]string{"": "1"}}, &Add{Headers: map[string]string{"X:": "1"}}, &Remove{}, &Remove{Headers: []string{"Received"}}, &Remove{Headers: []string{"X-É"}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	for _, good := range []filters.Validator{
		&Tag{Subject: "[ÉTÉ] "}, &Tag{Headers: map[string]string{"X-A": ""}}, &Add{Headers: map[string]string{"X-A": "é"}}, &Remove{Headers: []string{"X-A"}},
	} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}

func TestUnknownSettings(t *testing.T) {
	tx := filterstest.Transaction(filterstest.Message("From: a@b.example\n\nx\n", mail.Options{}))
	if _, err := (&Checker{}).Rewrite(t.Context(), filters.RewriteInput{Tx: tx, Message: tx.Message, With: 1}); err == nil {
		t.Error("settings of another action are taken")
	}
}

// FuzzTag checks that a tag adds no field and changes no byte after the header.
func FuzzTag(f *testing.F) {
	f.Add("hello")
	f.Add("=?utf-8?q?x?=\r\n y")
	f.Add("\r\n \r\n\x00é")
	f.Fuzz(func(t *testing.T, subject string) {
		if !bytes.HasPrefix([]byte(subject), []byte(" ")) {
			subject = " " + subject
		}
		before := mail.ParseBytes([]byte("From: a@b.example\r\nSubject:"+subject+"\r\nTo: c@d.example\r\n\r\nbody"), mail.Options{})
		after, err := (&Checker{}).Rewrite(t.Context(), filters.RewriteInput{Message: before, With: &Tag{Subject: "[X] "}})
		if err != nil {
			return // held or deferred
		}
		b, err := io.ReadAll(after.Reader())
		if err != nil || !bytes.HasSuffix(b, []byte("body")) {
			t.Fatalf("%q, %v", b, err)
		}
		if n, m := len(before.Header().Fields()), len(after.Header().Fields()); m > n+1 || m < n {
			t.Errorf("%d fields became %d: %q", n, m, b)
		}
	})
}
