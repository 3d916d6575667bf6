package contact_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/filters"
	"postern/filters/contact"
	"postern/filters/filterstest"
	"postern/mail"
)

// A memory knows pairs of addresses; "!" breaks it.
type memory []string

func (m memory) Met(_ context.Context, author, to mail.Path) (bool, error) {
	if slices.Contains(m, "!") {
		return false, errors.New("the memory is broken")
	}
	return slices.Contains(m, author.String()+" "+to.String()), nil
}

func TestConformance(t *testing.T) {
	filterstest.Run(t, contact.Filter, filterstest.Options{Settings: `remember = "7d"`, Env: &filters.Env{Contacts: memory{}}, Bad: map[string]string{`remember = "soon"`: "remember"}})
}

func TestReadme(t *testing.T) { filterstest.Readme(t, contact.Filter) }

// TestMailingList: fields of a list say so, others do not.
func TestMailingList(t *testing.T) {
	for _, c := range []struct {
		field, want string
	}{
		{"List-Id: <a.b.example>\n", "List-Id: <a.b.example>"},
		{"LIST-ID:\n <a.b.example>\n", "LIST-ID: <a.b.example>"},
		{"List-Post: NO\n", "List-Post: NO"},
		{"List-Archive: <https://x.example/>\n", "List-Archive: <https://x.example/>"},
		{"Precedence:  List \n", "Precedence: List"},
		{"Precedence: bulk\n", ""},
		{"List-Unsubscribe: <https://x.example/>\n", ""},
		{"X-List-Id: x\n", ""},
		{"", ""},
	} {
		tx := filterstest.Transaction(filterstest.Message(c.field+"From: a@b.example\n\nx\n", mail.Options{}))
		v := filterstest.Check(t, filterstest.New(t, contact.Filter, filterstest.Options{Env: &filters.Env{}}), tx)
		got := ""
		for _, s := range v.Symbols {
			if s.Name == "MAILING_LIST" {
				got = s.Evidence
			}
		}
		if got != c.want {
			t.Errorf("%q: %q", c.field, got)
		}
	}
}

// TestFirstContact: each recipient has a memory of his own.
func TestFirstContact(t *testing.T) {
	known := memory{"a@b.example bob@ours.example", "a@b.example ann@ours.example"}
	for _, c := range []struct {
		name, from, settings string
		known                filters.Contacts
		to                   []string
		outbound             bool
		want                 []string
	}{
		{"to one he knows", "a@b.example", "", known, []string{"bob@ours.example"}, false, nil},
		{"to one he does not know", "a@b.example", "", known, []string{"joe@ours.example"}, false, []string{"everybody a@b.example"}},
		{"to both", "a@b.example", "", known, []string{"bob@ours.example", "joe@ours.example", "ann@ours.example"}, false, []string{"joe@ours.example a@b.example"}},
		{"to none he knows", "x@b.example", "", known, []string{"bob@ours.example", "ann@ours.example"}, false, []string{"everybody x@b.example"}},
		{"several authors", "a@b.example, x@b.example", "", known, []string{"bob@ours.example"}, false, nil},
		{"no author", "undisclosed:;", "", known, []string{"bob@ours.example"}, false, nil},
		{"no memory", "a@b.example", "", nil, []string{"bob@ours.example"}, false, []string{"everybody a@b.example"}},
		{"no memory wanted", "a@b.example", `remember = "0s"`, known, []string{"bob@ours.example"}, false, []string{"everybody a@b.example"}},
		{"our own mail", "x@b.example", "", known, []string{"bob@ours.example"}, true, nil},
	} {
		tx := filterstest.Transaction(filterstest.Message("From: "+c.from+"\n\nx\n", mail.Options{}))
		tx.Recipients = nil
		for _, to := range c.to {
			p, err := mail.ParsePath(to, true)
			if err != nil {
				t.Fatal(err)
			}
			tx.Recipients = append(tx.Recipients, mail.Recipient{Path: p})
		}
		if c.outbound {
			tx.Direction = mail.Outbound
		}
		v := filterstest.Check(t, filterstest.New(t, contact.Filter, filterstest.Options{Settings: c.settings, Env: &filters.Env{Contacts: c.known}}), tx)
		var got []string
		for _, s := range v.Symbols {
			to := "everybody"
			if s.To != (mail.Path{}) {
				to = s.To.String()
			}
			got = append(got, to+" "+s.Evidence)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// TestBrokenMemory: what cannot be read is no first contact, and none that is known.
func TestBrokenMemory(t *testing.T) {
	c := filterstest.New(t, contact.Filter, filterstest.Options{Env: &filters.Env{Contacts: memory{"!"}}})
	tx := filterstest.Transaction(filterstest.Message("From: a@b.example\nList-Id: <x>\n\nx\n", mail.Options{}))
	if v, err := c.Check(t.Context(), tx, nil); err == nil || len(v.Symbols) > 0 {
		t.Errorf("%v, %v", v, err)
	}
}
