package mail

import "testing"

func TestDemandsOnlyTighten(t *testing.T) {
	modes := []string{"", "none", "opportunistic", "required", "verify"}
	for i, a := range modes {
		for j, b := range modes {
			got := Demands{TLS: a}.Tighten(Demands{TLS: b}).TLS
			if tlsRank[got] != max(tlsRank[modes[i]], tlsRank[modes[j]]) {
				t.Errorf("%q and %q: got %q", a, b, got)
			}
		}
	}
	for _, bools := range [][2]Demands{
		{{RequireTLS: true}, {}},
		{{}, {RequireTLS: true}},
		{{Encrypted: true}, {}},
		{{}, {Encrypted: true}},
	} {
		want := bools[0]
		if bools[1] != (Demands{}) {
			want = bools[1]
		}
		if got := bools[0].Tighten(bools[1]); got != want {
			t.Errorf("%+v and %+v: got %+v", bools[0], bools[1], got)
		}
	}
}

func TestUnknownTLSModeIsStrictest(t *testing.T) {
	for _, known := range []string{"", "none", "opportunistic", "required", "verify"} {
		if got := StricterTLS(known, "verfy"); got != "verfy" {
			t.Errorf("StricterTLS(%q, verfy) = %q", known, got)
		}
		if got := StricterTLS("verfy", known); got != "verfy" {
			t.Errorf("StricterTLS(verfy, %q) = %q", known, got)
		}
	}
}

func TestMinimumTLS(t *testing.T) {
	for _, c := range []struct {
		in   Demands
		want string
	}{
		{Demands{}, ""},
		{Demands{TLS: "required"}, "required"},
		{Demands{TLS: "required", RequireTLS: true}, "verify"},
		{Demands{RequireTLS: true}, "verify"},
	} {
		if got := c.in.MinimumTLS(); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.in, got, c.want)
		}
	}
}
