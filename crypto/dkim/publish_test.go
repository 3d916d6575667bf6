package dkim

import (
	"crypto"
	"strings"
	"testing"
)

func TestPublished(t *testing.T) {
	rsaKey, ed := keys()["rsa"].Public(), keys()["ed"].Public()
	record := func(k crypto.PublicKey) string {
		r, err := Record(k)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	whole := record(rsaKey)
	for _, c := range []struct {
		name    string
		records []string
		public  crypto.PublicKey
		state   string
		reason  string
		testing bool
	}{
		{"it is there", []string{whole}, rsaKey, Matches, "", false},
		{"Ed25519", []string{record(ed)}, ed, Matches, "", false},
		{"white space where strings were joined", []string{whole[:100] + " " + whole[100:]}, rsaKey, Matches, "", false},
		{"testing", []string{strings.Replace(whole, "k=rsa", "k=rsa; t=y:s", 1)}, rsaKey, Matches, "", true},
		{"without a version", []string{strings.TrimPrefix(whole, "v=DKIM1; ")}, rsaKey, Matches, "", false},
		{"none", nil, rsaKey, Missing, "no record", false},
		{"another key", []string{record(ed)}, rsaKey, Differs, "another key", false},
		{"revoked", []string{RevokedRecord}, rsaKey, Revoked, "revokes", false},
		{"cut short", []string{whole[:200]}, rsaKey, Broken, "p= is not", false},
		{"cut into records", []string{whole[:200], whole[200:]}, rsaKey, Broken, "cut into 2 records", false},
		{"two keys", []string{whole, record(ed)}, rsaKey, Broken, "there are 2 records", false},
		{"quotation marks", []string{`"` + whole + `"`}, rsaKey, Broken, "quotation marks", false},
		{"not a key", []string{"v=spf1 -all"}, rsaKey, Broken, "not a record", false},
		{"SHA-1 only", []string{strings.Replace(whole, "k=rsa", "k=rsa; h=sha1", 1)}, rsaKey, Broken, "SHA-256", false},
		{"no answer", []string{"TEMPERROR"}, rsaKey, Unsettled, "", false},
	} {
		z := newTable()
		for _, r := range c.records {
			z.add("s._domainkey.example.org", r)
		}
		p := Published(t.Context(), z, "s", "example.org", c.public)
		if p.State != c.state || !strings.Contains(p.Reason, c.reason) || p.Testing != c.testing || p.Name != "s._domainkey.example.org" {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
}

func TestZoneLine(t *testing.T) {
	long := strings.Repeat("x", 255) + strings.Repeat("y", 255) + "z"
	want := `a.example. IN TXT ( "` + long[:255] + `" "` + long[255:510] + `" "z" )` + "\n"
	if got := ZoneLine("a.example", long); got != want {
		t.Errorf("%q", got)
	}
}
