package policy

import (
	"errors"
	"strings"
	"testing"
)

// loadRecipients loads a policy whose upstream has this list of recipients; "-"
// stands for no such file.
func loadRecipients(list string) (*Policy, error) {
	o := fakeOptions()
	o.ReadFile = func(name string) ([]byte, error) {
		if list == "-" || name != "/etc/postern/who.txt" {
			return nil, errors.New("no such file")
		}
		return []byte(list), nil
	}
	text := strings.Replace(fakeHead, "to =", "recipients = { check = \"file\", file = \"who.txt\" }\nto =", 1)
	return Load("/etc/postern/p.toml", []byte(text), o)
}

// TestRecipientsFile: the list is part of the policy: in its hash, and among the
// files that are watched.
func TestRecipientsFile(t *testing.T) {
	one, err := loadRecipients("# who is there\r\nBob@example.org # the boss\r\n\r\n@Second.Example\r\n\"odd one\"@example.org")
	if err != nil {
		t.Fatal(err)
	}
	if len(one.Files) != 1 || one.Files[0] != "/etc/postern/who.txt" || one.Upstreams[0].Recipients.File != one.Files[0] {
		t.Errorf("files %q", one.Files)
	}
	for to, want := range map[string]bool{
		"bob@example.org": true, "BOB@example.org": true, "any@second.example": true, `"odd one"@example.org`: true,
		"carol@example.org": false, "bob@example.com": false, "any@sub.second.example": false,
	} {
		if one.Upstreams[0].Recipients.Lists(path0(to)) != want {
			t.Errorf("%s: %v", to, !want)
		}
	}
	other, err := loadRecipients("carol@example.org\n")
	if err != nil {
		t.Fatal(err)
	}
	if one.Hash == other.Hash {
		t.Error("another list, the same hash")
	}
	if (&RecipientCheck{}).Lists(path0("bob@example.org")) {
		t.Error("no list names somebody")
	}
}

// TestBadRecipientsFile: mistakes stand at their line of the list.
func TestBadRecipientsFile(t *testing.T) {
	for list, want := range map[string]string{
		"bob@example.org\nnobody\n": `/etc/postern/who.txt:2:1: "nobody" is neither an address nor @domain`,
		"example.org":               `/etc/postern/who.txt:1:1: "example.org" is neither`,
		"bob@exa mple":              "/etc/postern/who.txt:1:1: ",
		"-":                         "recipients: read file: no such file",
	} {
		if _, err := loadRecipients(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", list, err)
		}
	}
}
