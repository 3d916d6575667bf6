package authres

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/mail"
)

func properties(text ...string) []mail.Property {
	var all []mail.Property
	for _, t := range text {
		name, value, _ := strings.Cut(t, "=")
		kind, name, _ := strings.Cut(name, ".")
		all = append(all, mail.Property{Type: kind, Name: name, Value: value})
	}
	return all
}

func TestFormat(t *testing.T) {
	long := strings.Repeat("label.", 20) + "example"
	for _, c := range []struct {
		name    string
		id      string
		results []mail.AuthResult
		want    string
	}{
		{"nothing", "mx.example.org", nil, "mx.example.org; none"},
		{"plain", "mx.example.org", []mail.AuthResult{
			{Method: "spf", Value: "pass", Properties: properties("smtp.mailfrom=sender.example")},
			{Method: "dkim", Value: "fail", Reason: "body has changed", Properties: properties("header.d=sender.example", "header.s=s1", "header.b=AbC/def+")},
		}, "mx.example.org;\r\n\tspf=pass smtp.mailfrom=sender.example;\r\n\tdkim=fail reason=\"body has changed\" header.d=sender.example\r\n\theader.s=s1 header.b=\"AbC/def+\""},
		{"case", "MX.example.org", []mail.AuthResult{{Method: "SPF", Value: "Pass", Properties: properties("SMTP.MailFrom=A@B.example")}},
			"MX.example.org;\r\n\tspf=pass smtp.mailfrom=A@B.example"},
		{"line breaks", "mx.example.org", []mail.AuthResult{{Method: "spf", Value: "fail", Reason: "no\r\nX-Evil: yes\x00", Properties: properties("smtp.helo=a\r\n\r\nbody")}},
			"mx.example.org;\r\n\tspf=fail reason=\"no X-Evil: yes?\" smtp.helo=\"a body\""},
		{"comments and semicolons", "mx.example.org", []mail.AuthResult{{Method: "spf", Value: "none", Properties: properties("smtp.helo=x) ; dmarc=pass (", "smtp.mailfrom=legit.test(.attack.test")}},
			"mx.example.org;\r\n\tspf=none smtp.helo=\"x) ; dmarc=pass (\"\r\n\tsmtp.mailfrom=\"legit.test(.attack.test\""},
		{"quotes", "mx.example.org", []mail.AuthResult{{Method: "spf", Value: "none", Reason: `say "hi" \`, Properties: properties(`smtp.mailfrom="a b"@c.example`)}},
			"mx.example.org;\r\n\tspf=none reason=\"say \\\"hi\\\" \\\\\" smtp.mailfrom=\"\\\"a b\\\"@c.example\""},
		{"not keywords", "mx.example.org", []mail.AuthResult{{Method: "sp f", Value: "pass"}, {Method: "spf", Value: "pass;dkim=pass"}, {Method: "", Value: "x"},
			{Method: "iprev", Value: "pass", Properties: properties("pol icy.iprev=1", "policy.=2", "policy.iprev=192.0.2.1")}},
			"mx.example.org;\r\n\tiprev=pass policy.iprev=192.0.2.1"},
		{"empty value", "mx.example.org", []mail.AuthResult{{Method: "spf", Value: "none", Properties: properties("smtp.mailfrom=")}}, "mx.example.org;\r\n\tspf=none smtp.mailfrom=\"\""},
		{"addresses", "mx.example.org", []mail.AuthResult{{Method: "x", Value: "y", Properties: properties("a.b=2001:db8::1", "a.c=@d.example", "a.d=.a@b", "a.e=a@b@c", "a.f=a+b_c@x-y.example")}},
			"mx.example.org;\r\n\tx=y a.b=\"2001:db8::1\" a.c=@d.example a.d=\".a@b\" a.e=\"a@b@c\"\r\n\ta.f=a+b_c@x-y.example"},
		{"not ASCII", "mx.example.org", []mail.AuthResult{{Method: "x", Value: "y", Reason: "été\u202e", Properties: properties("a.b=é.example")}},
			"mx.example.org;\r\n\tx=y reason=\"?t??\" a.b=\"?.example\""},
		{"odd id", "a b;c", nil, `"a b;c"; none`},
		{"long domain", "mx.example.org", []mail.AuthResult{{Method: "x", Value: "y", Properties: properties("a.b="+long, "a.c=d")}},
			"mx.example.org;\r\n\tx=y\r\n\ta.b=" + long + "\r\n\ta.c=d"},
		{"long reason", "mx.example.org", []mail.AuthResult{{Method: "x", Value: "y", Reason: strings.Repeat("word ", 30)}},
			"mx.example.org;\r\n\tx=y reason=\"" + strings.TrimSuffix(strings.Repeat("word ", 11), " ") + "\r\n " +
				strings.TrimSuffix(strings.Repeat("word ", 15), " ") + "\r\n " + strings.TrimSuffix(strings.Repeat("word ", 4), " ") + "\""},
		{"very long", "mx.example.org", []mail.AuthResult{{Method: "x", Value: "y", Properties: properties("a.b=" + strings.Repeat("v", 5000))}},
			"mx.example.org;\r\n\tx=y\r\n\ta.b=" + strings.Repeat("v", maxValue)},
	} {
		got := Format(c.id, c.results)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if _, _, err := Parse(got); err != nil {
			t.Errorf("%s: what is written does not read: %v", c.name, err)
		}
		if got := Field(c.id, c.results); got != "Authentication-Results: "+c.want+"\r\n" {
			t.Errorf("%s: field %q", c.name, got)
		}
	}
}

// FuzzFormat checks that nothing can be injected: what is written reads back as
// the results that were given, and is one field.
func FuzzFormat(f *testing.F) {
	f.Add("mx.example.org", "spf", "pass", "because", "smtp", "mailfrom", "a@b.example")
	f.Add("mx", "dkim", "fail", "x\r\n y\"\\", "header", "b", ") ; dmarc=pass (\x00")
	f.Add("", "", "none", "", "reason", "reason", "\"a\"@b")
	f.Fuzz(func(t *testing.T, id, method, value, reason, kind, name, text string) {
		given := mail.AuthResult{Method: method, Value: value, Reason: reason, Properties: []mail.Property{{Type: kind, Name: name, Value: text}}}
		safe := mail.AuthResult{Method: "arc", Value: "none"}
		body := Format(id, []mail.AuthResult{given, safe})
		for i, line := range strings.Split(body, "\r\n") {
			if strings.ContainsAny(line, "\r\n\x00") || i > 0 && (line == "" || line[0] != ' ' && line[0] != '\t') || strings.TrimSpace(line) == "" {
				t.Fatalf("line %d is %q", i, line)
			}
			if len(line) > 998 {
				t.Fatalf("line %d has %d bytes", i, len(line))
			}
		}
		_, results, err := Parse(body)
		if clean(id) == "" {
			id = `""`
			if err == nil {
				t.Fatalf("a field without id reads: %q", body)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		want := []mail.AuthResult{safe}
		if isKeyword(method) && isKeyword(value) {
			r := mail.AuthResult{Method: strings.ToLower(method), Value: strings.ToLower(value), Reason: clean(reason)}
			if isKeyword(kind) && isKeyword(name) {
				r.Properties = []mail.Property{{Type: strings.ToLower(kind), Name: strings.ToLower(name), Value: clean(text)}}
			}
			want = []mail.AuthResult{r, safe}
		}
		if diff := cmp.Diff(want, results); diff != "" {
			t.Fatalf("%q: %s", body, diff)
		}
	})
}
